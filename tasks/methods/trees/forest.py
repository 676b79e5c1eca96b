"""All trees of a forest, from row blocks: the bins are brought together, and each tree is one task over them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np

from tasks.methods.blocks import Blocks
from tasks.methods.execution import Engine
from tasks.methods.trees.binning import Bins, bin_block
from tasks.methods.trees.growth import Grown, Members, Plan, grow
from tasks.methods.trees.kernels import entropy_table, mix, poisson_counts
from tasks.methods.trees.targets import Targets

MEMORY_FRACTION = 0.2
"""Share of a worker's memory that the bins of all rows may take; beside them stand the blocks that they come from."""


def check_room(shape: tuple[int, int], engine: Engine) -> None:
    """Refuse data whose bins one worker cannot hold, before it is read.

    Raises
    ------
    MemoryError
        If a byte per value takes more than `MEMORY_FRACTION` of the smallest worker's memory, or of what is free on
        this machine if the work is done here.
    """
    (n, d), limit = shape, int(MEMORY_FRACTION * engine.task_memory())
    if n * d > limit:
        raise MemoryError(
            f"expected bins of at most {limit / 1e6:,.1f} MB ({MEMORY_FRACTION:.0%} of what one worker has, or of what "
            f"is free here without a cluster), received {n:,} rows x {d:,} columns: {n * d / 1e6:,.1f} MB at one byte "
            "per value; fit on fewer rows (train_test_split of tasks.methods.selection draws some) or columns, or give "
            "each worker more memory"
        )


def grow_trees(rows: Blocks, bins: Bins, targets: Targets, plan: Plan, count: int, jobs: int = 1) -> list[Grown]:
    """Grow the trees of a forest.

    Parameters
    ----------
    jobs : int
        Threads for data in this process; elsewhere Dask decides.
    """
    engine = rows.engine
    binned = rows.map("bin", bin_block, shared=(bins.edges,))
    (columns,) = engine.map(rows.named("gather"), stack_columns, [tuple(binned)])
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
    members = Members(rows.astype(np.int64), codes, np.ascontiguousarray(amounts))
    return grow(columns, members, key, depth, plan, logarithms())


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
