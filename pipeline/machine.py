"""What this machine offers: cores, memory, GPUs. Nothing here imports TensorFlow or CUDA."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use: affinity and the control group's quota counted."""
    from dask.system import cpu_count

    return cpu_count()


def memory() -> int:
    """Bytes of memory that this process and its children may use together."""
    from distributed.system import memory_limit

    return min([memory_limit(), *_group_limits(Path("/proc/self/cgroup"), CGROUPS)])


def _group_limits(membership: Path, root: Path) -> list[int]:
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


def gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, each as a value for ``CUDA_VISIBLE_DEVICES``.

    A GPU that is cut into MIG devices counts as these. Empty without a GPU or without ``nvidia-smi``.
    """
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return _visible(_listed(listing), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _listed(listing: str) -> list[list[str]]:
    """Per GPU in the output of ``nvidia-smi -L``: its identifier, then those of its MIG devices."""
    found: list[list[str]] = []
    for line in listing.splitlines():
        match = re.search(r"UUID: ((?:GPU|MIG)-[^)\s]+)", line)
        if match is None:
            continue
        if line.startswith("GPU "):
            found.append([match[1]])
        elif found:
            found[-1].append(match[1])
    return found


def _visible(found: list[list[str]], variable: str | None) -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` leaves of the GPUs found; like CUDA, stops at the first entry that is none."""
    if variable is None:
        return [device for gpu in found for device in (gpu[1:] or gpu)]
    left: list[str] = []
    for entry in (part.strip() for part in variable.split(",")):
        if entry.isdecimal() and int(entry) < len(found):
            # CUDA may count the GPUs in another order than nvidia-smi does, so the number is passed on as it is.
            left.append(entry)
        elif entry.startswith(("GPU-", "MIG-")) and any(name.startswith(entry) for gpu in found for name in gpu):
            left.append(entry)
        else:
            break
    return left
