"""Memory that batches are made in: aligned, bounded, and used again."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import psutil

from storage.limits import group_limits

ALIGNMENT = 64
"""A cache line: frameworks take arrays that begin on one without a copy."""
SHARE = 4
"""Unless told otherwise, held samples take at most a quarter of the memory that is free."""


def free_memory() -> int:
    """Bytes of memory that this process could take without swapping or being killed, as far as it can be known."""
    return int(min([psutil.virtual_memory().available, *group_limits()]))


def aligned(size: int) -> np.ndarray:
    """Uninitialised memory that begins on a cache line, uint8 (size,)."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]


class Buffers:
    """Gives out arrays and takes their memory back when the last array over it is gone.

    A consumer that keeps its batches keeps their memory; one that drops them lets the next batch use it again, which
    saves the system from handing out and clearing new pages for every batch.

    Parameters
    ----------
    most : int
        Free pieces of memory that are kept.
    """

    def __init__(self, most: int) -> None:
        # Memory and its address, which NumPy takes long to tell.
        self._free: deque[tuple[np.ndarray, int]] = deque(maxlen=most)

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised uint8 array."""
        size = math.prod(shape)
        try:
            held = self._free.pop()
        except IndexError:
            held = None
        if held is None or held[0].size < size:
            memory = aligned(size)
            held = memory, memory.ctypes.data
        return np.asarray(_Lease(held, shape, self._free))


class _Lease:
    """Memory while arrays over it are alive: each refers to this object, whose end gives the memory back."""

    __slots__ = ("__array_interface__", "_free", "_held")

    def __init__(
        self, held: tuple[np.ndarray, int], shape: tuple[int, ...], free: deque[tuple[np.ndarray, int]]
    ) -> None:
        self._held, self._free = held, free
        self.__array_interface__: dict[str, Any] = {
            "shape": shape,
            "typestr": "|u1",
            "data": (held[1], False),
            "version": 3,
        }

    def __del__(self) -> None:
        self._free.append(self._held)
