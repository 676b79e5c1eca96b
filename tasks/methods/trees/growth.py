"""One tree, or what hangs below some of its nodes, grown from rows that are in memory; compiled."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.methods.trees.kernels import BINS, SQUARED, child_key, draw, entropy_table, is_leaf, read_only, scan, score


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


class Rules(NamedTuple):
    """What compiled code needs of a `Plan`."""

    criterion: int
    channels: int
    width: int
    limits: np.ndarray
    least_gain: float
    tolerance: float
    square: float
    table: np.ndarray
    """float64: c log2 c."""


class Members(NamedTuple):
    """Rows of a tree; those of a node stand together. Reordered in place."""

    rows: np.ndarray
    """int64 (m,): positions in the columns."""
    codes: np.ndarray
    """int32 (m,): classes."""
    amounts: np.ndarray
    """int64 (m, 1 or 3): weights, none of them 0, or the channels of squared errors."""


class Scratch(NamedTuple):
    """Room that the cuts of a tree share."""

    order: np.ndarray
    """int64 (d,): the columns, shuffled."""
    histogram: np.ndarray
    """int64 (bins, channels + 1); zeros between columns."""
    left: np.ndarray
    right: np.ndarray
    kept: np.ndarray
    """int64 (channels + 1,): sums of the left side of the best cut."""


# Entries of a node while its tree grows, in one table of int64; then follow its sums.
_FEATURE, _LAST, _FIRST, _LEFT, _RIGHT, _START, _STOP, _LEVEL, _KEY, _NEXT, _SUMS = range(11)


def grow_below(
    columns: np.ndarray, rows: np.ndarray, codes: np.ndarray, amounts: np.ndarray, key: Any, depth: int, plan: Plan
) -> Grown:
    """Grow what hangs below a node with these rows."""
    members = Members(rows.astype(np.int64), codes, np.ascontiguousarray(amounts))
    return grow(columns, members, key, depth, plan, logarithms())


def sums_of(members: Members, plan: Plan) -> np.ndarray:
    """Return the sums of a node, int64 (channels + 1,)."""
    sums = np.zeros(plan.channels + 1, np.int64)
    _sum_up(members, plan.criterion, sums)
    return sums


def grow(columns: np.ndarray, members: Members, key: Any, depth: int, plan: Plan, table: np.ndarray) -> Grown:
    """Grow a tree from the rows of one node.

    Parameters
    ----------
    columns : ndarray, uint8 (d, n)
        Bins.
    members : Members
        The node's rows; reordered.
    key : int
        Of the node: its random numbers come from it.
    depth : int
        Of the node.
    table : ndarray
        See `entropy_table`.
    """
    rules = Rules(
        plan.criterion,
        plan.channels,
        plan.width,
        plan.limits,
        plan.least_gain,
        plan.tolerance,
        plan.square,
        table,
    )
    entries = plan.channels + 1
    scratch = Scratch(
        np.arange(len(columns)), np.zeros((BINS, entries), np.int64), *[np.zeros(entries, np.int64) for _ in range(3)]
    )
    spare = Members(*map(np.empty_like, members))
    nodes, gains = _grow(read_only(columns), members, spare, np.uint64(key), depth, rules, scratch)
    return Grown(
        nodes[:, _FEATURE].astype(np.int32),
        nodes[:, _LAST].astype(np.int16),
        nodes[:, _FIRST].astype(np.int16),
        nodes[:, _LEFT : _RIGHT + 1].astype(np.int32),
        nodes[:, _SUMS:].copy(),
        gains.copy(),
    )


def stack_columns(*blocks: np.ndarray) -> np.ndarray:
    """Return the blocks as one array, column after column, uint8 (d, n)."""
    columns = np.empty((blocks[0].shape[1], sum(map(len, blocks))), np.uint8)
    at = 0
    for block in blocks:
        columns[:, at : at + len(block)] = block.T
        at += len(block)
    return columns


@cache
def logarithms() -> np.ndarray:
    """Return the table of c log2 c, made once."""
    table: np.ndarray = entropy_table()
    return table


@njit(nogil=True, cache=True)
def _grow(
    columns: np.ndarray, members: Members, spare: Members, key: Any, depth: int, rules: Rules, scratch: Scratch
) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes' table and gains."""
    room, count, entries = 64, 1, rules.channels + 1
    nodes, gains = np.zeros((room, _SUMS + entries), np.int64), np.zeros(room)
    _sum_up(members, rules.criterion, nodes[0, _SUMS:])
    _wait(nodes[0], 0, len(members.rows), depth, key, -1)
    waiting = 0
    while waiting >= 0:
        at = waiting
        waiting = nodes[at, _NEXT]
        sums, level = nodes[at, _SUMS:], nodes[at, _LEVEL]
        if is_leaf(sums, level, rules.limits, rules.criterion, rules.tolerance, rules.square):
            continue
        start, stop, name = nodes[at, _START], nodes[at, _STOP], np.uint64(nodes[at, _KEY])
        best, column, last, first = _best_cut(columns, members, start, stop, sums, name, rules, scratch)
        gain = best - score(sums, rules.criterion, rules.table) if column >= 0 else -np.inf
        if column < 0 or gain < rules.least_gain:
            continue
        middle = _part(columns[column], last, members, start, stop, spare)
        if count + 2 > room:
            nodes, gains = _longer(nodes, gains)
            room = len(gains)
        nodes[at, _FEATURE], nodes[at, _LAST], nodes[at, _FIRST], gains[at] = column, last, first, gain
        nodes[at, _LEFT], nodes[at, _RIGHT] = count, count + 1
        for k in range(entries):
            nodes[count, _SUMS + k] = scratch.kept[k]
            nodes[count + 1, _SUMS + k] = nodes[at, _SUMS + k] - scratch.kept[k]
        # The left side comes next.
        _wait(nodes[count + 1], middle, stop, level + 1, child_key(name, True), waiting)
        _wait(nodes[count], start, middle, level + 1, child_key(name, False), count + 1)
        waiting = count
        count += 2
    return nodes[:count], gains[:count]


@njit(nogil=True, cache=True)
def _wait(node: np.ndarray, start: int, stop: int, level: int, key: Any, following: int) -> None:
    """Fill in a node that is a leaf unless it is cut later."""
    node[_FEATURE] = node[_LEFT] = node[_RIGHT] = -1
    node[_START], node[_STOP], node[_LEVEL], node[_NEXT] = start, stop, level, following
    node[_KEY] = np.int64(key)  # the same 64 bits


@njit(nogil=True, cache=True)
def _sum_up(members: Members, criterion: int, sums: np.ndarray) -> None:
    for i in range(len(members.rows)):
        count_in(sums, members, i, criterion)


@njit(nogil=True, cache=True)
def count_in(sums: np.ndarray, members: Members, i: int, criterion: int) -> None:
    """Add a row to sums."""
    if criterion == SQUARED:
        for k in range(3):
            sums[k] += members.amounts[i, k]
    else:
        sums[members.codes[i]] += members.amounts[i, 0]
    sums[len(sums) - 1] += 1


@njit(nogil=True, cache=True)
def _best_cut(
    columns: np.ndarray,
    members: Members,
    start: int,
    stop: int,
    sums: np.ndarray,
    key: Any,
    rules: Rules,
    scratch: Scratch,
) -> tuple[float, int, int, int]:
    """Return score, column, last bin of the left and first of the right of a node's best cut, -1 if there is none."""
    best: float = -np.inf
    feature: Any = -1
    last: Any = -1
    first: Any = -1
    count, entries = len(columns), len(sums)
    order, histogram, rows = scratch.order, scratch.histogram, members.rows
    drawn = rules.width < count
    if drawn:
        for j in range(count):
            order[j] = j
    found = False
    for j in range(count):
        if j >= rules.width and found:
            break
        if drawn:
            draw(order, j, key)
        column = columns[order[j]]
        low: Any = BINS
        high: Any = -1
        for i in range(start, stop):
            b = np.int64(column[rows[i]])
            low, high = min(low, b), max(high, b)
            count_in(histogram[b], members, i, rules.criterion)
        if low < high:
            found = True
            new, left, right = scan(
                histogram,
                low,
                high,
                sums,
                rules.limits,
                rules.criterion,
                rules.table,
                best,
                scratch.left,
                scratch.right,
                scratch.kept,
            )
            if left >= 0:
                best, feature, last, first = new, order[j], left, right
        for used in range(low, high + 1):
            if histogram[used, entries - 1]:
                for k in range(entries):
                    histogram[used, k] = 0
    return best, feature, last, first


@njit(nogil=True, cache=True)
def _part(column: np.ndarray, last: int, members: Members, start: int, stop: int, spare: Members) -> int:
    """Bring the rows of the left side to the front; return where they end. The order is kept, for the caches."""
    left: Any = start
    right = 0
    for i in range(start, stop):
        if column[members.rows[i]] <= last:
            _move(members, i, members, left)
            left += 1
        else:
            _move(members, i, spare, right)
            right += 1
    for i in range(right):
        _move(spare, i, members, left + i)
    return left


@njit(nogil=True, cache=True)
def _move(source: Members, i: int, target: Members, j: int) -> None:
    target.rows[j], target.codes[j] = source.rows[i], source.codes[i]
    for k in range(source.amounts.shape[1]):
        target.amounts[j, k] = source.amounts[i, k]


@njit(nogil=True, cache=True)
def _longer(nodes: np.ndarray, gains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both with twice the room."""
    more, gained = np.zeros((2 * len(nodes), nodes.shape[1]), np.int64), np.zeros(2 * len(gains))
    for i in range(len(nodes)):
        gained[i] = gains[i]
        for k in range(nodes.shape[1]):
            more[i, k] = nodes[i, k]
    return more, gained
