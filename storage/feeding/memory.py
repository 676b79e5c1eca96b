"""Memory that batches are made in: aligned, bounded, and used again."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np
import psutil

from storage.limits import group_limits

ALIGNMENT = 64
"""A cache line: frameworks take arrays that begin on one without a copy."""
SHARE = 8
"""Unless told otherwise, held samples take at most an eighth of the memory that is free. A larger split is read anew
for each epoch, from the system's cache if it fits there; in measurements its first epoch was half as fast again."""


def free_memory() -> int:
    """Bytes of memory that this process could take without swapping or being killed, as far as it can be known."""
    return int(min([psutil.virtual_memory().available, *group_limits()]))


def aligned(size: int) -> np.ndarray:
    """Uninitialised memory that begins on a cache line, uint8 (size,)."""
    raw, start = _allocate(size)
    return raw[start : start + size]


def _allocate(size: int) -> tuple[np.ndarray, int]:
    """Memory, and where in it a cache line begins, after which there are so many bytes."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    return raw, -raw.ctypes.data % ALIGNMENT


class Buffers:
    """Gives out arrays, and their memory again when the last array over it is gone.

    A consumer that keeps its batches keeps their memory; one that drops them lets the next batch use it again, which
    saves the system from handing out and clearing new pages for every batch. Whether memory is in use is told by its
    references: every array over it has one.

    Parameters
    ----------
    most : int
        Pieces of memory that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # The arrays that own the memory: all others over it refer to them, however they were made.
        self._held: list[tuple[np.ndarray, int]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised uint8 array."""
        size = math.prod(shape)
        with self._lock:
            for raw, start in self._held:
                if raw.size >= size + ALIGNMENT and sys.getrefcount(raw) == _UNUSED:
                    return raw[start : start + size].reshape(shape)
            raw, start = _allocate(size)
            if len(self._held) == self._most:
                # Of batches of another size; what is in use is kept by whoever uses it.
                self._held.pop(0)
            self._held.append((raw, start))
            return raw[start : start + size].reshape(shape)


def _count() -> int:
    """References to an array that stands in a list of pairs, and that a loop looks at."""
    for array, _ in [(np.empty(1), 0)]:
        return sys.getrefcount(array)
    raise AssertionError


_UNUSED = _count() if getattr(sys, "_is_gil_enabled", lambda: True)() else -1
"""Without a global lock counts are not exact, and memory is never used again."""
