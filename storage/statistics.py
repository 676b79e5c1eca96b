"""Statistics that merge exactly: integers per shard, added in shard order, over the training split only.

Means of the test split in the training features are a leak, so rows of other splits are only counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.layout import SPLITS
from storage.texts import byte_lengths


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
        pixels = values[train]
        result["pixels"] = int(pixels[..., 0].size)
        result["sum"] = pixels.sum(axis=(0, 1, 2), dtype=np.uint64).tolist()
        # Squares of uint8 fit 16 bits; a table look-up avoids a float copy of the shard.
        squares = np.arange(256, dtype=np.uint16) ** 2
        result["sum_of_squares"] = [
            int(squares[pixels[..., channel]].sum(dtype=np.uint64)) for channel in range(values.shape[-1])
        ]
    else:
        lengths = byte_lengths([text for text, keep in zip(values, train, strict=True) if keep])
        result["bytes"] = int(lengths.sum())
        result["longest"] = int(lengths.max(initial=0))
    return result


def _add(one: Any, other: Any, key: str = "") -> Any:
    if isinstance(one, dict):
        return {name: _add(one[name], other[name], name) for name in one}
    if isinstance(one, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    return max(one, other) if key == "longest" else one + other


def merge(statistics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge the statistics of all shards and derive mean and standard deviation per channel (pixels in 0 to 255)."""
    total = statistics[0]
    for item in statistics[1:]:
        total = _add(total, item)
    if pixels := total.get("pixels"):
        mean = [value / pixels for value in total["sum"]]
        total["mean"] = mean
        # Exact integers up to here, so the subtraction loses nothing that matters.
        total["std"] = [
            max(0.0, (square * pixels - value * value)) ** 0.5 / pixels
            for square, value in zip(total["sum_of_squares"], total["sum"], strict=True)
        ]
    elif "bytes" in total:
        total["mean_bytes"] = total["bytes"] / max(1, total["rows"]["train"])
    return total
