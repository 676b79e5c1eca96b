"""What a block gives to trees that grow by levels: histograms of nodes' columns, and the rows of nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.methods.pieces import Shelved
from tasks.methods.trees.binning import bin_block, bin_of
from tasks.methods.trees.bootstrap import drawn_amounts
from tasks.methods.trees.growth import Grown, Members, Plan, count_in, grow_below, stack_columns
from tasks.methods.trees.kernels import BINS, leaves_of, read_only

_TILE = 2048
"""Rows that are binned at a time."""

_STRIP = 256
"""Rows of these whose columns follow each other: what the processor's cache holds."""


class Top(NamedTuple):
    """What leads a row to its node."""

    feature: np.ndarray
    last: np.ndarray
    children: np.ndarray


class Wanted(NamedTuple):
    """What a pass is to find out for one tree."""

    tree: int
    top: Top
    places: np.ndarray
    """int64: the nodes in question."""
    picks: tuple[np.ndarray, ...]
    """int64: the columns of each, for histograms."""


def _members(
    block: np.ndarray,
    codes: np.ndarray,
    amounts: np.ndarray,
    start: int,
    edges: np.ndarray,
    wanted: Wanted,
    plan: Plan,
) -> tuple[Members, np.ndarray]:
    """Return the rows of some nodes, those of a node together and in order, and where each node's begin."""
    top, places = wanted.top, wanted.places
    amounts = drawn_amounts(wanted.tree, amounts, start, plan)
    number = np.full(len(top.feature), len(places))
    number[places] = np.arange(len(places))
    # A value is in a bin up to the last one on the left if it is not above that bin's edge: most need no bin.
    last = top.last if block.dtype == np.uint8 else edges[top.feature, top.last]
    found = number[leaves_of(read_only(block), top.feature, last, top.children)]
    found[amounts[:, 0] == 0] = len(places)
    order = np.argsort(found, kind="stable")
    begins = np.searchsorted(found[order], np.arange(len(places) + 1))
    order = order[: begins[-1]]
    return Members(order, codes[order], np.ascontiguousarray(amounts[order])), begins


def _bins_of(block: np.ndarray | Shelved, edges: np.ndarray) -> np.ndarray:
    """Return bins if they are kept on a shelf, else the block as it is, bins or values."""
    return block.made(lambda values: bin_block(values, edges)) if isinstance(block, Shelved) else block


def histograms(
    total: np.ndarray | None,
    block: np.ndarray | Shelved,
    codes: np.ndarray,
    amounts: np.ndarray,
    start: int,
    edges: np.ndarray,
    wanted: tuple[Wanted, ...],
    plan: Plan,
    dtype: Any,
) -> np.ndarray:
    """Add a block to histograms of nodes' columns, one after the other, (columns in all, 256, channels + 1)."""
    size = sum(len(picks) for one in wanted for picks in one.picks)
    found = np.zeros((size, BINS, plan.channels + 1), dtype) if total is None else total
    block, edges = read_only(_bins_of(block, edges)), read_only(edges)
    binned = block.dtype == np.uint8
    at = 0
    for one in wanted:
        members, begins = _members(block, codes, amounts, start, edges, one, plan)
        for k, picks in enumerate(one.picks):
            rows = begins[k], begins[k + 1]
            _fill(block, edges, members, *rows, picks, binned, plan.criterion, found[at : at + len(picks)])
            at += len(picks)
    return found


@njit(nogil=True, cache=True)
def _fill(
    block: np.ndarray,
    edges: np.ndarray,
    members: Members,
    start: int,
    stop: int,
    picks: np.ndarray,
    binned: bool,
    criterion: int,
    out: np.ndarray,
) -> None:
    """Count rows of one node in the histograms of some columns; only what is counted is binned."""
    bins = np.empty((len(picks), _TILE), np.uint8)
    for low in range(start, stop, _TILE):
        high = min(low + _TILE, stop)
        for first in range(low, high, _STRIP):
            last = min(first + _STRIP, high)
            for k in range(len(picks)):
                column, row = picks[k], edges[picks[k]]
                for i in range(first, last):
                    value = block[members.rows[i], column]
                    bins[k, i - low] = np.uint8(value) if binned else bin_of(value, row)
        for k in range(len(picks)):
            histogram = out[k]
            for i in range(low, high):
                count_in(histogram[np.int64(bins[k, i - low])], members, i, criterion)


def extract(
    total: list[list[tuple]] | None,
    block: np.ndarray | Shelved,
    codes: np.ndarray,
    amounts: np.ndarray,
    start: int,
    edges: np.ndarray,
    wanted: tuple[Wanted, ...],
    plan: Plan,
) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]]:
    """Add, for each of `wanted`, bins, classes and amounts of its nodes' rows, and where each node's begin."""
    parts = [[] for _ in wanted] if total is None else total
    block = _bins_of(block, edges)
    for one, found in zip(wanted, parts, strict=True):
        members, begins = _members(block, codes, amounts, start, edges, one, plan)
        if not len(members.rows):
            continue
        rows = block[members.rows]
        found.append(
            (rows if rows.dtype == np.uint8 else bin_block(rows, edges), members.codes, members.amounts, begins)
        )
    return parts


def pick(parts: list, k: int) -> Any:
    return parts[k]


def grow_nodes(keys: list, depths: list, plan: Plan, *runs: list[tuple]) -> list[Grown]:
    """Grow what is below some nodes of a tree."""
    grown, parts = [], [part for run in runs for part in run]
    for k, (key, depth) in enumerate(zip(keys, depths, strict=True)):
        cuts = [slice(begins[k], begins[k + 1]) for *_, begins in parts]
        bins, codes, amounts = ([part[at][cut] for part, cut in zip(parts, cuts, strict=True)] for at in range(3))
        columns = stack_columns(*bins)
        grown.append(
            grow_below(
                columns, np.arange(columns.shape[1]), np.concatenate(codes), np.concatenate(amounts), key, depth, plan
            )
        )
    return grown
