"""Buffers for inner loops, and the parts of a block that fit the processor's cache.

Dask starts its workers with `MALLOC_TRIM_THRESHOLD_=65536`: freed memory goes back to the system at once. A loop that
allocates its temporaries anew then spends most of its time on page faults (five times the arithmetic, measured on
k-means). So inner loops write into buffers that live as long as the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

PART_VALUES = 1 << 18
"""Values of a block that are worked on at a time: 1 MB of float32."""


class Scratch:
    """Uninitialised arrays by name; asking again for a name gives the same memory, in any shape."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a C-contiguous array; what an earlier call with this name returned is overwritten."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.nbytes < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)


def slices(count: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut 0..count into runs of at most `step`."""
    for low in range(0, count, step):
        yield low, min(low + step, count)


def parts(block: np.ndarray, values: int = PART_VALUES) -> Iterator[tuple[int, int]]:
    """Cut the rows of a block into runs of about so many values."""
    return slices(len(block), max(1, values // max(1, block.shape[1])))
