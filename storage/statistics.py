"""Statistics that merge exactly: integers per shard, added in shard order, over the training split only.

Means of the test split in the training features are a leak, so rows of other splits are only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from storage.layout import SPLITS
from storage.texts import byte_lengths

_BLOCK = 2**16
"""Values that are summed at a time: they stay in the processor's cache."""


def shard_statistics(
    values: np.ndarray | Sequence[str], labels: np.ndarray, split: np.ndarray, classes: int
) -> dict[str, Any]:
    """Count and sum one shard.

    Parameters
    ----------
    values : ndarray of uint8 (n, height, width, channel), or sequence of str
    labels : ndarray of int64, shape (n,)
    split : ndarray of uint8, shape (n,)
    classes : int
        Number of classes.

    Returns
    -------
    dict
        Python integers only, so that merging is exact in any order.
    """
    train = split == 0
    result: dict[str, Any] = {
        "rows": {name: int((split == code).sum()) for code, name in enumerate(SPLITS)},
        "class_counts": {
            name: np.bincount(labels[(split == code) & (labels >= 0)], minlength=classes).tolist()
            for code, name in enumerate(SPLITS)
        },
    }
    if isinstance(values, np.ndarray):
        pixels = values if train.all() else values[train]
        result["pixels"] = int(pixels[..., 0].size)
        sums = [_sums(pixels[..., channel]) for channel in range(values.shape[-1])]
        result["sum"] = [total for total, _ in sums]
        result["sum_of_squares"] = [squares for _, squares in sums]
    else:
        lengths = byte_lengths([text for text, keep in zip(values, train, strict=True) if keep])
        result["bytes"] = int(lengths.sum())
        result["longest"] = int(lengths.max(initial=0))
    return result


def _sums(pixels: np.ndarray) -> tuple[int, int]:
    """Sum and sum of squares of uint8 values, exactly.

    In float32, which is several times as fast as integers, 256 values at a time: 256 x 255^2 is below 2^24, so every
    one of these sums is a whole number that float32 holds.
    """
    flat = np.ascontiguousarray(pixels).reshape(-1)
    total = squares = 0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float32)
        if block.size % 256:
            block = np.pad(block, (0, -block.size % 256))
        rows = block.reshape(-1, 256)
        total += int(rows.sum(axis=1).sum(dtype=np.float64))
        squares += int(np.einsum("ij,ij->i", rows, rows).sum(dtype=np.float64))
    return total, squares


def _add(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(one, dict):
        return {name: _add(one[name], other[name], name) for name in one}
    if isinstance(one, list):
        # Appended samples can bring new classes: their counts follow those of the old.
        return [a + b for a, b in zip_longest(one, other, fillvalue=0)]
    return max(one, other) if key == "longest" else one + other


class Merger:
    """Add up the statistics of shards, or of builds, one after the other."""

    def __init__(self) -> None:
        self._total: dict[str, Any] | None = None

    def add(self, statistics: dict[str, Any]) -> None:
        """Take one more; derived fields are passed over."""
        sums = {name: value for name, value in statistics.items() if name not in ("mean", "std", "mean_bytes")}
        self._total = sums if self._total is None else _add(self._total, sums)

    def result(self) -> dict[str, Any]:
        """The sums, with mean and standard deviation per channel (pixels in 0 to 255) or mean bytes per text."""
        total = dict(self._total or {})
        if pixels := total.get("pixels"):
            total["mean"] = [value / pixels for value in total["sum"]]
            # Exact integers up to here, so the subtraction loses nothing that matters.
            total["std"] = [
                max(0.0, (square * pixels - value * value)) ** 0.5 / pixels
                for square, value in zip(total["sum_of_squares"], total["sum"], strict=True)
            ]
        elif "bytes" in total:
            total["mean_bytes"] = total["bytes"] / max(1, total["rows"]["train"])
        return total


def merge(statistics: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merge statistics and derive means and standard deviations; see `Merger`."""
    merger = Merger()
    for item in statistics:
        merger.add(item)
    return merger.result()
