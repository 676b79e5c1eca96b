"""One against one: a two-class problem for each pair of classes, and the machine that they make together."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import NamedTuple

import numpy as np

from tasks.methods.kernel_svm.kernels import Kernel
from tasks.methods.kernel_svm.smo import WORKING_ROWS, Solution, solve

ROW_BYTES = 100
"""Coefficients, slopes, bounds, signs and masks of a row."""


class Gate:
    """Lets work begin only while what it takes fits beside what runs in this process; alone it may always."""

    def __init__(self) -> None:
        self.used = 0
        self._changed = threading.Condition()

    @contextmanager
    def held(self, bytes_: int, room: float) -> Iterator[None]:
        """Wait until there is room for so many bytes, and take them up meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self.used or self.used + bytes_ <= room)
            self.used += bytes_
        try:
            yield
        finally:
            with self._changed:
                self.used -= bytes_
                self._changed.notify_all()


_GATE = Gate()


class Settings(NamedTuple):
    """What all pairs share."""

    kernel: Kernel
    tol: float
    cache_bytes: int
    max_steps: int
    room: float = np.inf
    """Bytes that the pairs which are solved at the same time in one process may take together."""


class Pair(NamedTuple):
    """The solved problem of two classes, support vectors only."""

    rows: tuple[np.ndarray, np.ndarray]
    """Of each class: which of its rows are support vectors, int64."""
    coefficients: tuple[np.ndarray, np.ndarray]
    """Of each class: y_i a_i of its support vectors, float64; the first class is the positive one."""
    offset: float
    violation: float
    gap: float
    steps: int
    ends: tuple[float, float]
    """As in `Solution`."""


class Machine(NamedTuple):
    """The pairs in scikit-learn's layout, except that two classes are no exception: the first is positive."""

    counts: np.ndarray
    """Support vectors of each class, int64 (k,)."""
    rows: list[np.ndarray]
    """Of each class: which of its rows are support vectors of any pair, int64, increasing."""
    coefficients: np.ndarray
    """float64 (k - 1, support vectors): for each class its problems with the others, in their order."""
    offsets: np.ndarray
    """float64 (pairs,)."""


def pairs_of(classes: int) -> list[tuple[int, int]]:
    """Return the pairs in the order of libsvm."""
    return list(combinations(range(classes), 2))


def solve_pair(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    first_bounds: np.ndarray,
    second_bounds: np.ndarray,
    settings: Settings,
    start: np.ndarray | None = None,
) -> Pair:
    """Solve the problem of two classes, once there is room for it.

    Parameters
    ----------
    first, second : sequence of ndarray, each of shape (rows, d)
        The rows of the classes, in parts.
    first_bounds, second_bounds : ndarray of float64, shape (rows,) or (1,)
        Upper bounds of the coefficients of each class's rows.
    settings : Settings
    start : ndarray of float64, shape (rows of both,), optional
        Feasible y_i a_i to begin with.
    """
    split = sum(map(len, first))
    total, columns = split + sum(map(len, second)), (*first, *second)[0].shape[1]
    itemsize = first[0].dtype.itemsize
    with _GATE.held(pair_bytes(total, columns, itemsize, settings.cache_bytes), settings.room):
        return _solve(first, second, first_bounds, second_bounds, settings, start)


def pair_bytes(rows: int, columns: int, itemsize: int, cache_bytes: int) -> int:
    """Return what it takes to solve a pair: its rows twice, kernel rows, and a few numbers per row."""
    kernel_rows = min(max(cache_bytes, 4 * WORKING_ROWS * rows), 4 * rows * rows)
    return 2 * rows * columns * itemsize + kernel_rows + ROW_BYTES * rows


def _solve(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    first_bounds: np.ndarray,
    second_bounds: np.ndarray,
    settings: Settings,
    start: np.ndarray | None,
) -> Pair:
    split = sum(map(len, first))
    X = np.concatenate([*first, *second])
    if settings.kernel.name == "rbf":
        # Distances do not change when the origin moves, but their rounding does.
        X -= X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    signs, bounds = np.ones(len(X)), np.empty(len(X))
    signs[split:] = -1.0
    bounds[:split], bounds[split:] = first_bounds, second_bounds
    solution = solve(
        X,
        signs,
        bounds,
        settings.kernel,
        tol=settings.tol,
        cache_bytes=settings.cache_bytes,
        max_steps=settings.max_steps,
        start=start,
    )
    return _pair(solution, split)


def _pair(solution: Solution, split: int) -> Pair:
    found = np.flatnonzero(solution.coefficients)
    cut = int(np.searchsorted(found, split))
    values = solution.coefficients[found]
    return Pair(
        (found[:cut], found[cut:] - split),
        (values[:cut], values[cut:]),
        solution.offset,
        solution.violation,
        solution.gap,
        solution.steps,
        solution.ends,
    )


def unite(solved: Sequence[Pair], classes: int) -> Machine:
    """Put the pairs, in the order of `pairs_of`, together."""
    parts: list[list[np.ndarray]] = [[np.empty(0, np.int64)] for _ in range(classes)]
    for pair, (i, j) in zip(solved, pairs_of(classes), strict=True):
        parts[i].append(pair.rows[0])
        parts[j].append(pair.rows[1])
    rows = [np.unique(np.concatenate(part)) for part in parts]
    counts = np.array([len(part) for part in rows])
    starts = np.cumsum(counts) - counts
    coefficients = np.zeros((classes - 1, counts.sum()))
    for pair, (i, j) in zip(solved, pairs_of(classes), strict=True):
        for own, other, side in ((i, j - 1, 0), (j, i, 1)):
            places = starts[own] + np.searchsorted(rows[own], pair.rows[side])
            coefficients[other, places] = pair.coefficients[side]
    return Machine(counts, rows, coefficients, np.array([pair.offset for pair in solved]))
