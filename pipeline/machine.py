"""What this machine offers: cores, memory, GPUs. Nothing here imports TensorFlow or CUDA."""

from __future__ import annotations

import os
import re
import subprocess

from storage.limits import group_limits


def cores() -> int:
    """Cores that this process may use: affinity and the control group's quota counted."""
    from dask.system import cpu_count

    return cpu_count()


def memory() -> int:
    """Bytes of memory that this process and its children may use together."""
    from distributed.system import memory_limit

    return min([memory_limit(), *group_limits()])


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
