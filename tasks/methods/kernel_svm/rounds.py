"""One pair of classes that no worker can hold: solved on some of its rows, with those added that the solution violates.

Each round solves the problem of the rows that are held, from the last solution on; then one pass over the blocks
finds the rows outside that violate the optimality conditions, and the worst of them are added. When no row does, the
solution is that of all rows: what is left out has coefficient 0 and meets its conditions. Every round raises the dual
objective, so none comes twice. Only the support vectors and the rows that compete with them must fit into a worker.

References
----------
T. Joachims (1999). Making large-scale SVM learning practical. Advances in kernel methods, MIT Press (chunking).
E. Osuna, R. Freund, F. Girosi (1997). An improved training algorithm for support vector machines. NNSP, 276-285.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tasks.methods.blocks import Blocks
from tasks.methods.kernel_svm.decisions import decide
from tasks.methods.kernel_svm.kernels import Kernel
from tasks.methods.kernel_svm.pairs import Pair, Settings, solve_pair

MOST_ROUNDS = 100
"""Ends what rounding would never end; then the violation that is left is reported."""


class Support(NamedTuple):
    """What a task needs to judge rows; stays with the workers."""

    vectors: np.ndarray
    coefficients: np.ndarray
    counts: np.ndarray
    offset: float
    ends: tuple[float, float]


class Outside(NamedTuple):
    """What a pass found among the rows that are not held."""

    positions: np.ndarray
    """Of the worst violators, int64."""
    scores: np.ndarray
    """By how much they violate, float64."""
    ends: tuple[float, float]
    """As in `Solution`."""
    loss: float
    """Sum of bound times hinge loss."""
    most: int
    """How many violators are wanted."""


def solve_by_rounds(
    rows: Blocks,
    codes: np.ndarray,
    pair: tuple[int, int],
    bounds: tuple[np.ndarray, np.ndarray],
    settings: Settings,
    capacity: int,
) -> Pair:
    """Solve the problem of two classes with at most `capacity` of their rows held by a worker.

    Raises
    ------
    MemoryError
        If there are more support vectors than that.
    """
    members = [np.flatnonzero(codes == c) for c in pair]
    counts = [len(part) for part in members]
    positions = np.concatenate(members)
    upper = np.concatenate([np.broadcast_to(b, n) for b, n in zip(bounds, counts, strict=True)])
    signs = np.repeat([1.0, -1.0], counts)
    of_rows = np.zeros(len(codes))
    of_rows[positions] = upper
    limits = rows.scatter("bounds", of_rows)
    held = np.zeros(len(positions), bool)
    held[np.linspace(0, len(held) - 1, max(2, capacity // 2)).astype(np.int64)] = True
    held[[0, counts[0]]] = True  # at least one row of each
    signed = np.zeros(len(positions))
    steps = 0
    for _ in range(MOST_ROUNDS):
        gathered = _gather(rows, positions, held, counts[0])
        inside = np.flatnonzero(held)
        cut = int(np.searchsorted(inside, counts[0]))
        found, support = _solve(rows, gathered, upper[inside], cut, signed[inside], settings)
        steps += found.steps
        signed[:] = 0.0
        for side, first in enumerate((0, cut)):
            signed[inside[first + found.rows[side]]] = found.coefficients[side]
        outside = _check(rows, positions[~held], signs[~held], limits, support, settings, capacity)
        ends = min(found.ends[0], outside.ends[0]), max(found.ends[1], outside.ends[1])
        violation = max(ends[1] - ends[0], 0.0)
        if violation <= settings.tol or not len(outside.positions) or 0 <= settings.max_steps <= steps:
            break
        _make_room(held, signed, len(outside.positions), capacity, rows, pair)
        worst = outside.positions[np.argsort(-outside.scores, kind="stable")[: capacity - int(held.sum())]]
        held |= np.isin(positions, worst)
    used = np.flatnonzero(signed)
    cut = int(np.searchsorted(used, counts[0]))
    return Pair(
        (used[:cut], used[cut:] - counts[0]),
        (signed[used[:cut]], signed[used[cut:]]),
        found.offset,
        violation,
        found.gap + outside.loss,
        steps,
        ends,
    )


def _gather(rows: Blocks, positions: np.ndarray, held: np.ndarray, split: int) -> list[Any]:
    """Bring the rows that are held together in the workers, those of each class under a handle."""
    sides = np.full(rows.shape[0], -1, np.int8)
    sides[positions[:split][held[:split]]] = 0
    sides[positions[split:][held[split:]]] = 1
    parts = rows.map("split", _two_sides, rows.scatter("labels", sides))
    groups = [[(part, side) for part in parts] for side in (0, 1)]
    return rows.engine.reduce_each(rows.named("gather"), _one_side, groups, combine=operator.add)


def _solve(
    rows: Blocks, gathered: list[Any], upper: np.ndarray, cut: int, start: np.ndarray, settings: Settings
) -> tuple[Pair, Any]:
    """Solve the problem of the rows that are held; return the handle of what is needed to judge others."""
    engine = rows.engine
    numbers = engine.put(rows.named("bounds"), [upper[:cut], upper[cut:], start])
    solved = engine.map(rows.named("solve"), _solve_from, [(*gathered, *numbers)], (settings,))
    support = engine.map(rows.named("support"), _support, [(*gathered, solved[0])])
    return engine.fetch(solved)[0], support[0]


def _check(
    rows: Blocks,
    positions: np.ndarray,
    signs: np.ndarray,
    limits: Sequence[Any],
    support: Any,
    settings: Settings,
    most: int,
) -> Outside:
    sides = np.zeros(rows.shape[0], np.int8)
    sides[positions] = signs
    found: Outside = rows.reduce(
        "check",
        judge,
        rows.scatter("sides", sides),
        limits,
        rows.starts,
        shared=(support, settings.kernel, settings.tol, most),
        combine=merge,
    )
    return found


def _make_room(
    held: np.ndarray, signed: np.ndarray, wanted: int, capacity: int, rows: Blocks, pair: tuple[int, int]
) -> None:
    """Let go of rows without weight in the solution if there is no room for what is to come."""
    if held.sum() + wanted <= capacity:
        return
    held &= signed != 0
    room = capacity - int(held.sum())
    if room < max(1, min(wanted, capacity // 20)):
        size = rows.shape[1] * rows.dtype.itemsize
        raise MemoryError(
            f"the classes number {pair[0]} and {pair[1]} have {len(held):,} rows and more than {int(held.sum()):,} "
            f"support vectors, of {size:,} bytes; the smallest worker has memory for {capacity:,} rows with their "
            "kernel. Give the workers more memory or lower cache_size, or use make_pipeline(Nystroem(), LinearSVC())"
        )


def judge(
    block: np.ndarray,
    sides: np.ndarray,
    limits: np.ndarray,
    first: int,
    support: Support,
    kernel: Kernel,
    tol: float,
    most: int,
) -> Outside:
    """Find the rows of a block, all of coefficient 0, that violate the optimality conditions.

    Parameters
    ----------
    block : ndarray, shape (m, d)
    sides : ndarray of int8, shape (m,)
        1 or -1 for rows of the two classes, 0 for rows that are held or of no concern.
    limits : ndarray of float64, shape (m,)
        Upper bounds of their coefficients.
    first : int
        Position of the block's first row.
    support, kernel, tol, most
        The solution, and how many violators are wanted at most.
    """
    which = np.flatnonzero(sides)
    offset = np.array([support.offset])
    decisions = decide(
        block[which],
        support.vectors,
        support.coefficients,
        kernel=kernel,
        counts=support.counts,
        offsets=offset,
    )[:, 0]
    signs = sides[which].astype(np.float64)
    slopes = decisions - support.offset - signs
    # Up to half the tolerance to either side of the middle: then no two rows differ by more than all of it.
    middle = np.mean(support.ends) if np.isfinite(support.ends).all() else -support.offset
    scores = signs * (middle - slopes) - tol / 2
    chosen = np.flatnonzero(scores > 0)
    ends = float(slopes[signs > 0].min(initial=np.inf)), float(slopes[signs < 0].max(initial=-np.inf))
    loss = float(limits[which] @ np.maximum(0.0, 1.0 - signs * decisions))
    return _worst(Outside(first + which[chosen], scores[chosen], ends, loss, most))


def merge(a: Outside, b: Outside) -> Outside:
    """Combine what was found in two runs of blocks."""
    return _worst(
        Outside(
            np.concatenate([a.positions, b.positions]),
            np.concatenate([a.scores, b.scores]),
            (min(a.ends[0], b.ends[0]), max(a.ends[1], b.ends[1])),
            a.loss + b.loss,
            a.most,
        )
    )


def _worst(found: Outside) -> Outside:
    if len(found.positions) <= found.most:
        return found
    kept = np.sort(np.argsort(-found.scores, kind="stable")[: found.most])
    return found._replace(positions=found.positions[kept], scores=found.scores[kept])


def _two_sides(block: np.ndarray, sides: np.ndarray) -> list[np.ndarray]:
    return [block[sides == 0], block[sides == 1]]


def _one_side(parts: list[np.ndarray], side: int) -> list[np.ndarray]:
    return [parts[side]]


def _solve_from(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    first_bounds: np.ndarray,
    second_bounds: np.ndarray,
    start: np.ndarray,
    settings: Settings,
) -> Pair:
    return solve_pair(first, second, first_bounds, second_bounds, settings, start if start.any() else None)


def _support(first: Sequence[np.ndarray], second: Sequence[np.ndarray], pair: Pair) -> Support:
    vectors = [_picked(part, rows) for part, rows in zip((first, second), pair.rows, strict=True)]
    return Support(
        np.concatenate(vectors),
        np.concatenate(pair.coefficients)[None],
        np.array([len(part) for part in vectors]),
        pair.offset,
        pair.ends,
    )


def _picked(parts: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return some rows, by increasing position, of a matrix in parts."""
    starts = np.cumsum([0, *map(len, parts)])
    cuts = np.searchsorted(rows, starts)
    return np.concatenate([part[rows[a:b] - s] for part, a, b, s in zip(parts, cuts, cuts[1:], starts, strict=False)])
