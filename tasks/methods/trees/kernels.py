"""Histograms of bins and the best cut of one, compiled.

All sums are of whole numbers (int64), so that they are exact in whatever order blocks and threads add them. A
histogram has a row for each bin, a column for each channel, and a last column that counts rows. Channels are the
classes, each holding its weight; or, for squared errors, the weight w, w y and w y^2.

Entries are copied in loops: numba takes seconds to compile an assignment to a slice.
"""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np
from numba import njit

BINS = 256
"""Bins of a column at most: the numbers of a byte."""

GINI, ENTROPY, SQUARED = 0, 1, 2

TABLE = 1 << 16
"""Whole numbers c whose c log2 c is looked up."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# Upper ends of the Poisson distribution of mean 1, as shares of 2^64.
_POISSON = np.array(
    [
        int(share * 2.0**64)
        for share in np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 15)]))
        if share < 1 - 2.0**-52
    ],
    np.uint64,
)


@njit(nogil=True, cache=True)
def mix(value: Any) -> Any:
    """Return SplitMix64's mix of a 64-bit number."""
    word = np.uint64(value) + _GOLDEN
    word = (word ^ (word >> np.uint64(30))) * _FIRST
    word = (word ^ (word >> np.uint64(27))) * _SECOND
    return word ^ (word >> np.uint64(31))


@njit(nogil=True, cache=True)
def child_key(key: Any, right: bool) -> Any:
    """Return the key of a node's child, from which its random numbers come."""
    return mix(np.uint64(key) ^ (np.uint64(0xD1B54A32D192ED03) if right else np.uint64(0x8CB92BA72F3D8DD7)))


@njit(nogil=True, cache=True)
def poisson_counts(key: Any, start: int, rows: int) -> np.ndarray:
    """Return how often each of the rows start, start + 1, ... is drawn: Poisson of mean 1, by key and row number."""
    counts = np.empty(rows, np.int64)
    for i in range(rows):
        word = mix(np.uint64(key) ^ mix(np.uint64(start + i)))
        count = 0
        while count < len(_POISSON) and word >= _POISSON[count]:
            count += 1
        counts[i] = count
    return counts


@njit(nogil=True, cache=True)
def draw(order: np.ndarray, position: int, key: Any) -> None:
    """Swap one of the columns from `position` on to that place: a step of a keyed shuffle."""
    word = mix(np.uint64(key) + np.uint64(position) * _GOLDEN)
    left = np.uint64(len(order) - position)
    other = position + np.int64(((word >> np.uint64(32)) * left) >> np.uint64(32))
    order[position], order[other] = order[other], order[position]


def entropy_table() -> np.ndarray:
    """Return c log2 c for the whole numbers below `TABLE`."""
    return np.array([0.0, *(c * log2(c) for c in range(1, TABLE))])


@njit(nogil=True, cache=True)
def _log_term(amount: int, table: np.ndarray) -> float:
    return table[amount] if amount < TABLE else amount * np.log2(np.float64(amount))


@njit(nogil=True, cache=True)
def score(sums: np.ndarray, criterion: int, table: np.ndarray) -> float:
    """Return minus (weight times impurity) of rows with these sums, but for a term that all cuts share."""
    if criterion == SQUARED:
        return float(sums[1]) * float(sums[1]) / float(sums[0])
    weight, total = 0, 0.0
    for k in range(len(sums) - 1):
        amount = sums[k]
        if amount:
            weight += amount
            total += _log_term(amount, table) if criterion == ENTROPY else float(amount) * float(amount)
    return total - _log_term(weight, table) if criterion == ENTROPY else total / float(weight)


@njit(nogil=True, cache=True)
def weight_of(sums: np.ndarray, criterion: int) -> int:
    """Return the weight of rows with these sums."""
    if criterion == SQUARED:
        return int(sums[0])
    weight = 0
    for k in range(len(sums) - 1):
        weight += sums[k]
    return weight


@njit(nogil=True, cache=True)
def is_leaf(sums: np.ndarray, depth: Any, limits: np.ndarray, criterion: int, tolerance: float, square: float) -> bool:
    """Return True if a node need not be cut: too deep, too few rows, or pure.

    `limits` are the depth, the rows to cut a node, the rows of a leaf and its weight. `square` brings (w y)^2 to the
    unit of w w y^2; `tolerance` is the variance, in the unit of y^2 / w, that counts as none.
    """
    count = sums[-1]
    if depth >= limits[0] or count < limits[1] or count < 2 * limits[2]:
        return True
    if limits[3] and weight_of(sums, criterion) < 2 * limits[3]:
        return True
    if criterion == SQUARED:
        mean = float(sums[1]) / float(sums[0])
        return float(sums[2]) / float(sums[0]) - square * mean * mean <= tolerance
    present = 0
    for k in range(len(sums) - 1):
        present += sums[k] > 0
    return present < 2


@njit(nogil=True, cache=True)
def _enough(left: np.ndarray, sums: np.ndarray, limits: np.ndarray, criterion: int) -> bool:
    count = left[len(left) - 1]
    if count < limits[2] or sums[len(left) - 1] - count < limits[2]:
        return False
    if limits[3] == 0:
        return True
    weight = weight_of(left, criterion)
    return weight >= limits[3] and weight_of(sums, criterion) - weight >= limits[3]


@njit(nogil=True, cache=True)
def scan(
    histogram: np.ndarray,
    low: int,
    high: int,
    sums: np.ndarray,
    limits: np.ndarray,
    criterion: int,
    table: np.ndarray,
    best: float,
    left: np.ndarray,
    right: np.ndarray,
    kept: np.ndarray,
) -> tuple[float, int, int]:
    """Find the best cut of a histogram.

    Parameters
    ----------
    histogram : ndarray, int64 (bins, channels + 1)
    low, high : int
        First and last bin that holds a row.
    sums : ndarray, int64 (channels + 1,)
        Of the node.
    limits : ndarray, int64
        See `is_leaf`; each side must have rows and weight of a leaf.
    best : float
        Score to be surpassed.
    left, right : ndarray, int64 (channels + 1,)
        Scratch.
    kept : ndarray, int64 (channels + 1,)
        Receives the sums of the left side of the best cut, if one surpasses `best`.

    Returns
    -------
    best : float
    last, first : int
        The last bin with rows on the left, and the first on the right; -1 if no cut surpasses `best`.
    """
    channels = len(sums)
    for k in range(channels):
        left[k] = 0
    last, first, previous = -1, -1, -1
    for b in range(low, high + 1):
        if histogram[b, channels - 1] == 0:
            continue
        if previous >= 0 and _enough(left, sums, limits, criterion):
            if criterion == SQUARED:
                found = float(left[1]) * float(left[1]) / float(left[0])
                rest = float(sums[1] - left[1])
                found += rest * rest / float(sums[0] - left[0])
            else:
                for k in range(channels):
                    right[k] = sums[k] - left[k]
                found = score(left, criterion, table) + score(right, criterion, table)
            if found > best:
                best, last, first = found, previous, b
                for k in range(channels):
                    kept[k] = left[k]
        for k in range(channels):
            left[k] += histogram[b, k]
        previous = b
    return best, last, first


def read_only(values: np.ndarray) -> np.ndarray:
    """Return a view that is not writable: numba compiles a function once for those, and once more for writable ones."""
    view = values.view()
    view.flags.writeable = False
    return view


@njit(nogil=True, cache=True)
def leaves_of(block: np.ndarray, feature: np.ndarray, threshold: np.ndarray, children: np.ndarray) -> np.ndarray:
    """Return the node of each row, int32; a row goes left if its value is not above the threshold.

    Serves values with thresholds as well as bins with the last bin on the left; nodes without children stop a row.
    """
    nodes = np.empty(len(block), np.int32)
    for i in range(len(block)):
        node = 0
        while children[node, 0] >= 0:
            node = children[node, 0 if block[i, feature[node]] <= threshold[node] else 1]
        nodes[i] = node
    return nodes
