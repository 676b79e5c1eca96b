"""What a block gives to trees that grow by levels: histograms of nodes' columns, and the rows of nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks.methods.trees.binning import bin_block
from tasks.methods.trees.bootstrap import drawn_amounts
from tasks.methods.trees.growth import Grown, Members, Plan, count_in, grow_below, stack_columns
from tasks.methods.trees.kernels import BINS, leaves_of, read_only


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
    bins: np.ndarray, codes: np.ndarray, amounts: np.ndarray, start: int, wanted: Wanted, plan: Plan
) -> tuple[Members, np.ndarray]:
    """Return the rows of some nodes, those of a node together and in order, and where each node's begin."""
    top, places = wanted.top, wanted.places
    amounts = drawn_amounts(wanted.tree, amounts, start, plan)
    number = np.full(len(top.feature), len(places))
    number[places] = np.arange(len(places))
    found = number[leaves_of(read_only(bins), top.feature, top.last, top.children)]
    found[amounts[:, 0] == 0] = len(places)
    order = np.argsort(found, kind="stable")
    begins = np.searchsorted(found[order], np.arange(len(places) + 1))
    order = order[: begins[-1]]
    return Members(order, codes[order], np.ascontiguousarray(amounts[order])), begins


def _bins_of(block: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return block if block.dtype == np.uint8 else bin_block(block, edges)


def histograms(
    total: np.ndarray | None,
    block: np.ndarray,
    codes: np.ndarray,
    amounts: np.ndarray,
    start: int,
    edges: np.ndarray,
    wanted: tuple[Wanted, ...],
    plan: Plan,
) -> np.ndarray:
    """Add a block to histograms of nodes' columns, one after the other, int64 (columns in all, 256, channels + 1)."""
    bins = _bins_of(block, edges)
    columns = read_only(stack_columns(bins))
    size = sum(len(picks) for one in wanted for picks in one.picks)
    found = np.zeros((size, BINS, plan.channels + 1), np.int64) if total is None else total
    at = 0
    for one in wanted:
        members, begins = _members(bins, codes, amounts, start, one, plan)
        for k, picks in enumerate(one.picks):
            _fill(columns, members, begins[k], begins[k + 1], picks, plan.criterion, found[at : at + len(picks)])
            at += len(picks)
    return found


@njit(nogil=True, cache=True)
def _fill(
    columns: np.ndarray, members: Members, start: int, stop: int, picks: np.ndarray, criterion: int, out: np.ndarray
) -> None:
    for k in range(len(picks)):
        column, histogram = columns[picks[k]], out[k]
        for i in range(start, stop):
            count_in(histogram[np.int64(column[members.rows[i]])], members, i, criterion)


def extract(
    block: np.ndarray,
    codes: np.ndarray,
    amounts: np.ndarray,
    start: int,
    edges: np.ndarray,
    wanted: tuple[Wanted, ...],
    plan: Plan,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Return, for each of `wanted`, bins, classes and amounts of its nodes' rows, and where each node's begin."""
    bins = _bins_of(block, edges)
    parts = []
    for one in wanted:
        members, begins = _members(bins, codes, amounts, start, one, plan)
        parts.append((bins[members.rows], members.codes, members.amounts, begins))
    return parts


def pick(parts: list, k: int) -> Any:
    return parts[k]


def grow_nodes(keys: list, depths: list, plan: Plan, *parts: tuple) -> list[Grown]:
    """Grow what is below some nodes of a tree."""
    grown = []
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
