"""All trees of a forest, from row blocks: the bins are brought together, and each tree is one task over them.

Data whose bins take more than `LOCAL_BYTES` is refused so far: its large nodes are to be cut level by level, from
histograms that the blocks add up.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np

from tasks.methods.blocks import Blocks
from tasks.methods.trees.binning import Bins, bin_block
from tasks.methods.trees.growth import Grown, Plan, grow
from tasks.methods.trees.kernels import entropy_table, mix, poisson_counts
from tasks.methods.trees.targets import Targets

LOCAL_BYTES = 256 << 20
"""Bins of the whole data that one task may hold."""


class Binned:
    """The bins of all rows, and beside each block its targets."""

    def __init__(self, rows: Blocks, bins: Bins, targets: Targets) -> None:
        self.rows = rows
        self.bins = bins
        self.targets = targets
        size = rows.shape[0] * rows.shape[1]
        self.local = size <= LOCAL_BYTES
        if self.local:
            rows.sources = rows.map("bin", bin_block, shared=(bins.edges,))

    @property
    def row_bytes(self) -> int:
        return self.rows.shape[1]


def grow_trees(binned: Binned, plan: Plan, count: int, jobs: int = 1) -> list[Grown]:
    """Grow the trees of a forest.

    Parameters
    ----------
    jobs : int
        Threads for data in this process; elsewhere Dask decides.
    """
    if not binned.local:
        raise NotImplementedError(
            f"expected data of at most {LOCAL_BYTES >> 20} MB as one byte per value, received "
            f"{binned.rows.shape[0] * binned.row_bytes >> 20} MB; take fewer rows or columns"
        )
    rows, targets = binned.rows, binned.targets
    engine = rows.engine
    (columns,) = engine.map(rows.named("gather"), stack_columns, [tuple(rows.sources)])
    if not engine.parallel:
        grow_one = partial(grow_whole, columns=columns, codes=targets.codes, amounts=targets.amounts, plan=plan)
        if jobs == 1 or count == 1:
            return [grow_one(t) for t in range(count)]
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(grow_one, range(count)))
    shared = (columns, targets.codes, targets.amounts, plan)
    return engine.fetch(engine.map(rows.named("grow"), grow_whole, [(t,) for t in range(count)], shared))


def grow_whole(tree: int, columns: np.ndarray, codes: np.ndarray, amounts: np.ndarray, plan: Plan) -> Grown:
    """Grow one tree from all rows."""
    amounts = drawn_amounts(tree, amounts, 0, plan)
    rows = np.flatnonzero(amounts[:, 0])
    return grow_below(columns, rows, codes[rows], amounts[rows], root_key(plan, tree), 0, plan)


def grow_below(
    columns: np.ndarray, rows: np.ndarray, codes: np.ndarray, amounts: np.ndarray, key: Any, depth: int, plan: Plan
) -> Grown:
    """Grow what hangs below a node with these rows."""
    return Grown(
        *grow(
            columns,
            rows.astype(np.int64),
            codes,
            np.ascontiguousarray(amounts),
            np.uint64(key),
            depth,
            plan.width,
            plan.limits,
            plan.least_gain,
            plan.criterion,
            plan.channels,
            plan.tolerance,
            plan.square,
            logarithms(),
        )
    )


def drawn_amounts(tree: int, amounts: np.ndarray, start: int, plan: Plan) -> np.ndarray:
    """Return the amounts of rows from `start` on, times how often the tree's bootstrap draws them."""
    if not plan.bootstrap:
        return amounts
    counts = poisson_counts(np.uint64(mix(root_key(plan, tree))), start, len(amounts))
    return amounts * counts[:, None]


def root_key(plan: Plan, tree: int) -> Any:
    """Return the key of a tree's root."""
    return np.uint64(mix(np.uint64(mix(np.uint64(plan.seed))) ^ np.uint64(tree)))


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
