"""One tree, or what hangs below some of its nodes, grown from rows that are in memory; compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.methods.trees.kernels import BINS, SQUARED, child_key, draw, is_leaf, scan, score


class Plan(NamedTuple):
    """How trees are grown; the same for all of a forest."""

    criterion: int
    """`GINI`, `ENTROPY` or `SQUARED`."""
    channels: int
    """Sums that a node has, beside its number of rows."""
    width: int
    """Columns that are drawn for each node; all of them are taken in order."""
    limits: np.ndarray
    """int64: depth, rows to cut a node, rows of a leaf, its weight in whole numbers."""
    least_gain: float
    """What a cut must raise the score by."""
    tolerance: float
    """Variance that counts as none, in the unit of whole numbers."""
    square: float
    """See `is_leaf`."""
    bootstrap: bool
    seed: int


class Grown(NamedTuple):
    """A tree in bins: one entry per node, the root first, parents before children."""

    feature: np.ndarray
    """int32: the column of the cut; -1 for leaves."""
    last: np.ndarray
    """int16: the last bin of the left side."""
    first: np.ndarray
    """int16: the first bin of the right side that holds a row."""
    children: np.ndarray
    """int32 (nodes, 2): left, right; -1 for leaves."""
    sums: np.ndarray
    """int64 (nodes, channels + 1)."""
    gains: np.ndarray
    """float64: what the cut raised the score by."""


@njit(nogil=True, cache=True)
def _best_cut(
    columns: np.ndarray,
    rows: np.ndarray,
    codes: np.ndarray,
    amounts: np.ndarray,
    sums: np.ndarray,
    key: Any,
    width: int,
    limits: np.ndarray,
    criterion: int,
    table: np.ndarray,
    order: np.ndarray,
    histogram: np.ndarray,
    work: np.ndarray,
) -> tuple[float, int, int, int]:
    """Return score, column, last bin of the left and first of the right of a node's best cut; its sums in work[2]."""
    best: float = -np.inf
    feature: Any = -1
    last: Any = -1
    first: Any = -1
    count, channels = len(columns), len(sums)
    drawn = width < count
    if drawn:
        for j in range(count):
            order[j] = j
    found = False
    for j in range(count):
        if j >= width and found:
            break
        if drawn:
            draw(order, j, key)
        column = columns[order[j]]
        low: Any = BINS
        high: Any = -1
        for i in range(len(rows)):
            b = np.int64(column[rows[i]])
            low, high = min(low, b), max(high, b)
            if criterion == SQUARED:
                histogram[b, 0] += amounts[i, 0]
                histogram[b, 1] += amounts[i, 1]
                histogram[b, 2] += amounts[i, 2]
            else:
                histogram[b, codes[i]] += amounts[i, 0]
            histogram[b, channels - 1] += 1
        if low < high:
            found = True
            new, left, right = scan(
                histogram, low, high, sums, limits, criterion, table, best, work[0], work[1], work[2]
            )
            if left >= 0:
                best, feature, last, first = new, order[j], left, right
        for k in range(low, high + 1):
            if histogram[k, channels - 1]:
                histogram[k] = 0
    return best, feature, last, first


@njit(nogil=True, cache=True)
def _part(
    column: np.ndarray,
    last: int,
    rows: np.ndarray,
    codes: np.ndarray,
    amounts: np.ndarray,
    spare: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> int:
    """Bring the rows of the left side to the front; return how many they are. The order is kept, for the caches."""
    left, right = 0, 0
    for i in range(len(rows)):
        if column[rows[i]] <= last:
            rows[left], codes[left], amounts[left] = rows[i], codes[i], amounts[i]
            left += 1
        else:
            spare[0][right], spare[1][right], spare[2][right] = rows[i], codes[i], amounts[i]
            right += 1
    rows[left:], codes[left:], amounts[left:] = spare[0][:right], spare[1][:right], spare[2][:right]
    return left


@njit(nogil=True, cache=True)
def grow(
    columns: np.ndarray,
    rows: np.ndarray,
    codes: np.ndarray,
    amounts: np.ndarray,
    key: Any,
    depth: Any,
    width: int,
    limits: np.ndarray,
    least_gain: float,
    criterion: int,
    channels: int,
    tolerance: float,
    square: float,
    table: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Grow a tree from the rows of one node.

    Parameters
    ----------
    columns : ndarray, uint8 (d, n)
        Bins.
    rows : ndarray, int32 (m,)
        Positions of the node's rows in `columns`; reordered in place, like the two that follow.
    codes : ndarray, int32 (m,)
        Classes.
    amounts : ndarray, int64 (m, 1 or 3)
        Weights, none of them 0, or the channels of squared errors.
    key : int
        Of the node: its random numbers come from it.
    depth : int
        Of the node.

    Returns
    -------
    tuple
        The fields of `Grown`.
    """
    room = 64
    feature, last, first = np.full(room, -1, np.int32), np.zeros(room, np.int16), np.zeros(room, np.int16)
    children, gains = np.full((room, 2), -1, np.int32), np.zeros(room)
    sums = np.zeros((room, channels + 1), np.int64)
    for i in range(len(rows)):
        if criterion == SQUARED:
            for k in range(3):
                sums[0, k] += amounts[i, k]
        else:
            sums[0, codes[i]] += amounts[i, 0]
    sums[0, channels] = len(rows)
    order = np.arange(len(columns)).astype(np.int64)
    histogram, work = np.zeros((BINS, channels + 1), np.int64), np.zeros((3, channels + 1), np.int64)
    spare = (np.empty_like(rows), np.empty_like(codes), np.empty_like(amounts))
    nodes = 1
    waiting = [(np.int64(0), np.int64(0), np.int64(len(rows)), np.int64(depth), np.uint64(key))]
    while len(waiting):
        node, start, stop, level, name = waiting.pop()
        if is_leaf(sums[node], level, limits, criterion, tolerance, square):
            continue
        best, column, left_bin, right_bin = _best_cut(
            columns,
            rows[start:stop],
            codes[start:stop],
            amounts[start:stop],
            sums[node],
            name,
            width,
            limits,
            criterion,
            table,
            order,
            histogram,
            work,
        )
        if column < 0:
            continue
        gain = best - score(sums[node], criterion, table)
        if gain < least_gain:
            continue
        if nodes + 2 > room:
            room *= 2
            feature, last, first = _longer(feature, room), _longer(last, room), _longer(first, room)
            gains, sums, children = _longer(gains, room), _longer(sums, room), _longer(children, room)
        middle = start + _part(
            columns[column], left_bin, rows[start:stop], codes[start:stop], amounts[start:stop], spare
        )
        feature[node], last[node], first[node], gains[node] = column, left_bin, right_bin, gain
        children[node, 0], children[node, 1] = nodes, nodes + 1
        sums[nodes] = work[2]
        sums[nodes + 1] = sums[node] - work[2]
        for child in (nodes, nodes + 1):
            feature[child] = -1
            children[child] = -1
        waiting.append((np.int64(nodes + 1), middle, stop, level + 1, child_key(name, True)))
        waiting.append((np.int64(nodes), start, middle, level + 1, child_key(name, False)))
        nodes += 2
    return feature[:nodes], last[:nodes], first[:nodes], children[:nodes], sums[:nodes], gains[:nodes]


@njit(nogil=True, cache=True)
def _longer(values: np.ndarray, room: int) -> np.ndarray:
    longer = np.zeros((room, *values.shape[1:]), values.dtype)
    longer[: len(values)] = values
    return longer
