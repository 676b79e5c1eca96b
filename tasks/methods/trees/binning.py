"""Columns cut into at most 256 bins: exact where a column has no more distinct values, else by quantiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.methods.blocks import Blocks
from tasks.methods.trees.kernels import BINS, read_only

SAMPLE_ROWS = 100_000
"""Rows that quantiles are taken from, at most."""

SAMPLE_BYTES = 64 << 20
"""Size of that sample in this process, at most."""

_TILE = 256


class Bins(NamedTuple):
    """How values become bins: bin b of column j holds what is above edge b - 1 and not above edge b."""

    edges: np.ndarray
    """float64 (d, 255), increasing, infinite past the last."""
    low: np.ndarray
    """float64 (d, 256): the smallest value of each bin, as far as known."""
    high: np.ndarray
    """float64 (d, 256): the largest."""

    def thresholds(self, feature: np.ndarray, last: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return the values half way between the last bin of the left side and the first of the right."""
        below, above = self.high[feature, last], self.low[feature, first]
        middle: np.ndarray = _middle(below, above)
        return middle


def find_bins(rows: Blocks) -> Bins:
    """Choose the bins of all columns: one pass, and a sample of rows if a column has more than 256 distinct values."""
    values, counts = rows.reduce("distinct", distinct_values, combine=merge_distinct)
    many = np.flatnonzero(counts > BINS)
    sample = _sample(rows)[:, many] if len(many) else None
    columns = rows.shape[1]
    edges = np.full((columns, BINS - 1), np.inf)
    low, high = np.zeros((columns, BINS)), np.zeros((columns, BINS))
    place = dict(zip(many.tolist(), range(len(many)), strict=True))
    for j in range(columns):
        known = values[j, : counts[j]].astype(np.float64)
        if j in place and sample is not None:
            ordered, cumulated = np.unique(sample[:, place[j]].astype(np.float64), return_counts=True)
            ends = _quantiles(ordered, np.cumsum(cumulated))
            edges[j, : len(ends)] = ends
            low[j, 1 : len(ends) + 1], high[j, : len(ends)] = ends, ends
        else:
            edges[j, : len(known) - 1] = _middle(known[:-1], known[1:])
            low[j, : len(known)] = high[j, : len(known)] = known
    return Bins(edges, low, high)


def bin_block(block: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bin of each value, uint8 of the block's shape."""
    bins: np.ndarray = _binned(read_only(block), read_only(edges))
    return bins


def distinct_values(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of each column, sorted, (d, up to 256), and how many; 257 stands for more than 256."""
    values = np.zeros((block.shape[1], BINS), block.dtype)
    counts = np.zeros(block.shape[1], np.int64)
    _note_all(read_only(block), values, counts)
    return _trimmed(values, counts)


def merge_distinct(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values of both."""
    values, counts = np.zeros((len(a[0]), BINS), a[0].dtype), a[1].copy()
    values[:, : a[0].shape[1]] = a[0]
    _note_found(read_only(b[0]), read_only(b[1]), values, counts)
    return _trimmed(values, counts)


def _trimmed(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out what no column needs, since this travels; of columns with more than 256 values none are needed."""
    width = max(counts[counts <= BINS], default=0)
    return values[:, :width].copy(), counts


def _sample(rows: Blocks) -> np.ndarray:
    size = min(SAMPLE_ROWS, max(BINS, SAMPLE_BYTES // (rows.shape[1] * rows.dtype.itemsize)), rows.shape[0])
    # The same rows for every seed and chunking.
    chosen = np.random.default_rng(0).choice(rows.shape[0], size, replace=False, shuffle=False)
    return rows.take(np.sort(chosen), "sample")


def _quantiles(ordered: np.ndarray, cumulated: np.ndarray) -> np.ndarray:
    """Return at most 255 edges between distinct values, with about as many rows from each to the next."""
    if len(ordered) <= BINS:
        return _middle(ordered[:-1], ordered[1:])
    wanted = np.arange(1, BINS) * cumulated[-1] / BINS
    at = np.unique(np.searchsorted(cumulated, wanted))
    at = at[at < len(ordered) - 1]
    return _middle(ordered[at], ordered[at + 1])


def _middle(below: Any, above: Any) -> Any:
    middle = below / 2 + above / 2
    # Between neighbouring numbers there is none: the lower one parts them.
    return np.where((middle >= above) | (middle < below), below, middle)


@njit(nogil=True, cache=True)
def _note(value: float, values: np.ndarray, count: int) -> int:
    """Insert a value into a sorted list of distinct ones; return their number, 257 if there is no room."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if values[middle] < value:
            low = middle + 1
        else:
            high = middle
    if low < count and values[low] == value:
        return count
    if count == BINS:
        return BINS + 1
    for k in range(count, low, -1):
        values[k] = values[k - 1]
    values[low] = value
    return count + 1


@njit(nogil=True, cache=True)
def _note_all(block: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    for start in range(0, block.shape[0], _TILE):
        stop = min(start + _TILE, block.shape[0])
        for j in range(block.shape[1]):
            count = counts[j]
            for i in range(start, stop):
                if count > BINS:
                    break
                # Runs of one value are common: the margins of images.
                if count == 0 or i == start or block[i, j] != block[i - 1, j]:
                    count = _note(block[i, j], values[j], count)
            counts[j] = count


@njit(nogil=True, cache=True)
def _note_found(found: np.ndarray, numbers: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    for j in range(len(values)):
        if numbers[j] > BINS:
            counts[j] = numbers[j]
            continue
        for k in range(numbers[j]):
            if counts[j] > BINS:
                break
            counts[j] = _note(found[j, k], values[j], counts[j])


@njit(nogil=True, cache=True)
def bin_of(number: float, row: np.ndarray) -> int:
    """Return the bin of a value by the edges of its column."""
    value = np.float64(number)
    # A binary search without branches, which no processor could foresee; the edges are 255.
    low = 128 * (row[127] < value)
    low += 64 * (row[low + 63] < value)
    low += 32 * (row[low + 31] < value)
    low += 16 * (row[low + 15] < value)
    low += 8 * (row[low + 7] < value)
    low += 4 * (row[low + 3] < value)
    low += 2 * (row[low + 1] < value)
    low += row[low] < value
    return low


@njit(nogil=True, cache=True)
def _binned(block: np.ndarray, edges: np.ndarray) -> np.ndarray:
    bins = np.empty(block.shape, np.uint8)
    for start in range(0, block.shape[0], _TILE):
        stop = min(start + _TILE, block.shape[0])
        for j in range(block.shape[1]):
            row = edges[j]
            for i in range(start, stop):
                bins[i, j] = bin_of(block[i, j], row)
    return bins
