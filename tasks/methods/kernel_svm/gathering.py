"""The rows of two classes for each pair of them: from an array here on threads, or from row blocks in the workers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from joblib import cpu_count

from tasks.methods.blocks import Blocks
from tasks.methods.kernel_svm.pairs import Pair, Settings, pair_bytes, pairs_of, solve_pair
from tasks.methods.kernel_svm.rounds import solve_by_rounds
from tasks.methods.kernel_svm.smo import WORKING_ROWS
from tasks.methods.threads import one_blas_thread

WORKER_FRACTION = 0.4
"""Share of a worker's memory for the pairs that it solves at the same time; the rest holds data and Dask's own."""


def solve_here(X: np.ndarray, codes: np.ndarray, bounds: Sequence[np.ndarray], settings: Settings) -> list[Pair]:
    """Solve all pairs of an array in this process: several at a time, or a single one with the threads of BLAS."""
    members = [np.flatnonzero(codes == c) for c in range(len(bounds))]

    def solve(pair: tuple[int, int]) -> Pair:
        i, j = pair
        return solve_pair([X[members[i]]], [X[members[j]]], bounds[i], bounds[j], settings)

    pairs = pairs_of(len(bounds))
    if len(pairs) == 1 or cpu_count() == 1:
        return [solve(pair) for pair in pairs]
    with one_blas_thread(), ThreadPoolExecutor(min(cpu_count(), len(pairs))) as pool:
        return list(pool.map(solve, pairs))


def solve_on_blocks(
    rows: Blocks, codes: np.ndarray, bounds: Sequence[np.ndarray], settings: Settings, budget: int
) -> list[Pair]:
    """Solve all pairs of a Dask array, each in a task of its own; what no worker can hold, by rounds.

    Parameters
    ----------
    rows : Blocks
    codes : ndarray of int32, shape (n,)
        The class of each row; -1 for rows to leave out.
    bounds : sequence of ndarray, float64 (rows of the class,) or (1,)
    settings : Settings
    budget : int
        Bytes of class rows that the workers may hold together. What does not fit at once is done by tiles of classes,
        with one pass over the blocks for each.
    """
    classes = len(bounds)
    counts = np.bincount(codes[codes >= 0], minlength=classes)
    sizes = counts * rows.shape[1] * rows.dtype.itemsize
    capacity = rows_for(settings, rows.shape[1], rows.dtype.itemsize)
    small: list[tuple[int, int]] = []
    large: list[tuple[int, int]] = []
    for pair in pairs_of(classes):
        (small if counts[list(pair)].sum() <= capacity else large).append(pair)
    solved = _solve_small(rows, codes, bounds, settings, tiles(sizes, budget), set(small)) if small else {}
    for i, j in large:
        solved[i, j] = solve_by_rounds(rows, codes, (i, j), (bounds[i], bounds[j]), settings, capacity)
    return [solved[pair] for pair in pairs_of(classes)]


def rows_for(settings: Settings, columns: int, itemsize: int) -> int:
    """Return how many rows a pair may have to be solved in one worker.

    Raises
    ------
    MemoryError
        If that is less than a working set.
    """
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        fits = pair_bytes(middle, columns, itemsize, settings.cache_bytes) <= settings.room
        low, high = (middle, high) if fits else (low, middle)
    if low < WORKING_ROWS:
        needed = pair_bytes(WORKING_ROWS, columns, itemsize, settings.cache_bytes)
        raise MemoryError(
            f"expected workers with {needed / WORKER_FRACTION:,.0f} bytes of memory at least, for {WORKING_ROWS} rows "
            f"of {columns} columns and their kernel; the smallest has {settings.room / WORKER_FRACTION:,.0f}. Give it "
            "more, or use make_pipeline(Nystroem(), LinearSVC())"
        )
    return low


def _solve_small(
    rows: Blocks,
    codes: np.ndarray,
    bounds: Sequence[np.ndarray],
    settings: Settings,
    runs: list[list[tuple[int, int]]],
    small: set[tuple[int, int]],
) -> dict[tuple[int, int], Pair]:
    """Solve the pairs that fit, one run of them after the other."""
    engine = rows.engine
    labels = rows.scatter("labels", codes)
    limits = engine.put(rows.named("bounds"), list(bounds))
    solved: dict[tuple[int, int], Pair] = {}
    for run in runs:
        pairs = [pair for pair in run if pair in small]
        if not pairs:
            continue
        wanted = sorted({c for pair in pairs for c in pair})
        parts = rows.map("split", split_classes, labels, shared=(wanted,))
        groups = [[(part, place) for part in parts] for place in range(len(wanted))]
        gathered = engine.reduce_each(rows.named("gather"), _one_class, groups, combine=operator.add)
        held = dict(zip(wanted, gathered, strict=True))
        del parts, gathered
        calls = [(held[i], held[j], limits[i], limits[j]) for i, j in pairs]
        results = engine.fetch(engine.map(rows.named("solve"), solve_pair, calls, (settings,)))
        solved.update(zip(pairs, results, strict=True))
    return solved


def tiles(sizes: np.ndarray, budget: int) -> list[list[tuple[int, int]]]:
    """Cut the pairs of classes into runs whose classes together fit a budget, where a pair alone can.

    Classes are put into groups of half the budget; each tile is two groups, and the first with a group also has the
    pairs inside it.
    """
    if sizes.sum() <= budget:
        return [pairs_of(len(sizes))]
    groups: list[list[int]] = []
    for c, size in enumerate(sizes):
        if not groups or sizes[groups[-1]].sum() + size > budget / 2:
            groups.append([])
        groups[-1].append(c)
    inside = [[(i, j) for i in group for j in group if i < j] for group in groups]
    found = []
    for a, b in pairs_of(len(groups)):
        across = [(i, j) for i in groups[a] for j in groups[b]]
        found.append(inside[a] + across if b == a + 1 else across)
    if len(groups) > 1:
        found[-1] = found[-1] + inside[-1]
    return found or [inside[0]]


def split_classes(block: np.ndarray, codes: np.ndarray, classes: Sequence[int]) -> list[np.ndarray]:
    """Return the rows of each of these classes."""
    return [block[codes == c] for c in classes]


def _one_class(parts: list[np.ndarray], place: int) -> list[np.ndarray]:
    return [parts[place]]
