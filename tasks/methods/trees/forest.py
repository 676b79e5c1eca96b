"""All trees of a forest, from row blocks: the bins are brought together, and each tree is one task over them.

Where a worker has no room for that they grow by `levels`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from tasks.methods.blocks import Blocks
from tasks.methods.trees.binning import Bins, bin_block
from tasks.methods.trees.bootstrap import drawn_amounts, root_key
from tasks.methods.trees.growth import Grown, Plan, grow_below, stack_columns
from tasks.methods.trees.levels import grow_by_levels, row_bytes
from tasks.methods.trees.targets import Targets

MEMORY_FRACTION = 0.2
"""Share of the smallest worker's memory that all rows may take in one task; beyond it trees grow by levels."""


def grow_trees(rows: Blocks, bins: Bins, targets: Targets, plan: Plan, count: int, jobs: int = 1) -> list[Grown]:
    """Grow the trees of a forest.

    Parameters
    ----------
    jobs : int
        Threads for data in this process; elsewhere Dask decides.
    """
    engine = rows.engine
    if rows.shape[0] * row_bytes(rows.shape[1]) > MEMORY_FRACTION * engine.task_memory():
        return grow_by_levels(rows, bins, targets, plan, count)
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
