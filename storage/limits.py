"""Memory limits that this process stands under."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def group_limits(membership: Path = MEMBERSHIP, root: Path = CGROUPS) -> list[int]:
    """Memory limits of the control groups (version 2) that this process is in, inner and outer.

    Dask looks at the outermost only; a batch system or systemd sets the limit further in.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        number, _, group = line.partition("::")
        if number != "0":
            continue
        parts = [part for part in group.split("/") if part and part != ".."]
        for depth in range(len(parts) + 1):
            try:
                limits.append(int(root.joinpath(*parts[:depth], "memory.max").read_text()))
            except (OSError, ValueError):
                # Not there, or "max": no limit at this level.
                continue
    return limits
