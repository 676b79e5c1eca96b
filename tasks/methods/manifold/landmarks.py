"""Coordinates from distances: of landmarks among themselves, and of any row from its distances to them.

References
----------
W. S. Torgerson (1952). Multidimensional scaling: I. Theory and method. Psychometrika 17, 401-419.
V. de Silva, J. B. Tenenbaum (2004). Sparse multidimensional scaling using landmark points. Technical report, Stanford
University, sections 2.2 (landmarks by maxmin), 2.3 (triangulation) and 2.4 (principal axes of all rows).
J. de Leeuw (1977). Applications of convex analysis to multidimensional scaling. Recent Developments in Statistics,
133-145 (the majorisation, here of one row at a time against rows that stay where they are).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import numpy as np
import scipy.linalg
from sklearn.metrics import pairwise_distances
from sklearn.utils.extmath import svd_flip

from tasks.methods.distances import exact_squares
from tasks.methods.scratch import slices

TILE_VALUES = 1 << 20
"""Distances to landmarks that are held at a time: 8 MB of float64."""

NEAREST = 3
"""A row begins at the mean of so many landmarks, those nearest to it, when stress is minimised."""

# Squared distances below this share of the squared norms are mostly rounding.
_CANCELLED = 1e-8

# Distances below this share of a row's largest are those of equal rows, up to rounding.
_EQUAL = 1e-12

# Eigenvalues below this share of the largest are rounding.
_NOISE = 1e-12


class Scaling(NamedTuple):
    """Classical scaling of landmarks, and what places other rows by it."""

    coordinates: np.ndarray
    """Of the landmarks, float64 (m, k)."""
    operator: np.ndarray
    """Turns squared distances to the landmarks into coordinates, float64 (m, k)."""
    squares: np.ndarray
    """Mean squared distance of the landmarks to each landmark, float64 (m,)."""


class Spread(NamedTuple):
    """What a pass found of placed rows."""

    rows: int
    """Number of rows."""
    mean: np.ndarray
    """Mean coordinates, float64 (k,)."""
    scatter: np.ndarray
    """Sum of outer products of deviations from the mean, float64 (k, k)."""
    stress: float
    """Sum of (distance in the data - distance of the places)^2, over pairs of a row and a landmark."""
    total: float
    """Sum of the squared distances in the data over these pairs."""


def distances_to(rows: np.ndarray, landmarks: np.ndarray, metric: str) -> np.ndarray:
    """Return the distances of rows to landmarks, float64 (rows, landmarks)."""
    if metric != "euclidean":
        distances: np.ndarray = pairwise_distances(rows, landmarks, metric=metric)
        return distances.astype(np.float64, copy=False)
    # About the landmarks' mean and in float64, so that offsets do not cancel what the distances are made of.
    middle = landmarks.mean(axis=0, dtype=np.float64)
    a, b = rows - middle, landmarks - middle
    size = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)
    squares = a @ b.T
    squares *= -2
    squares += size
    # What cancels is computed again, so that equal rows are at distance 0.
    size *= _CANCELLED
    near = np.nonzero(squares <= size)
    squares[near] = exact_squares(rows, landmarks, *near)
    return np.sqrt(squares, out=squares)


def choose_far(candidates: np.ndarray, count: int, metric: str, random: np.random.RandomState) -> np.ndarray:
    """Choose landmarks one by one, each the candidate that is farthest from those chosen; ties to the lower row.

    Returns
    -------
    ndarray of int64, shape (count,)
        Increasing.
    """
    chosen = np.empty(count, np.int64)
    chosen[0] = random.randint(len(candidates))
    far = np.full(len(candidates), np.inf)
    for i in range(1, count):
        last = candidates[chosen[i - 1] : chosen[i - 1] + 1]
        np.minimum(far, distances_to(candidates, last, metric)[:, 0], out=far)
        far[chosen[i - 1]] = -1
        chosen[i] = int(far.argmax())
    return np.sort(chosen)


def classical_scaling(distances: np.ndarray, columns: int) -> Scaling:
    """Find coordinates whose distances are these, as far as so many columns can.

    Parameters
    ----------
    distances : ndarray, float64 (m, m)
        Symmetric.
    columns : int
        At most m. Columns beyond the positive eigenvalues are zero.
    """
    squares = distances**2
    means = squares.mean(axis=0)
    inner = -0.5 * (squares - means - means[:, None] + means.mean())
    size = len(inner)
    values, vectors = scipy.linalg.eigh(inner, subset_by_index=(size - columns, size - 1))
    vectors, _ = svd_flip(vectors[:, ::-1], None)
    values = values[::-1]
    real = values > _NOISE * max(values[0], 0.0)
    roots = np.sqrt(np.where(real, values, 0.0))
    operator = np.where(real, vectors / np.where(real, roots, 1.0), 0.0)
    return Scaling(vectors * roots, operator, means)


def triangulate(distances: np.ndarray, operator: np.ndarray, squares: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Place rows by their distances to the landmarks, linearly in the squares; landmarks where they are."""
    coordinates: np.ndarray = -0.5 * (distances**2 - squares) @ operator - shift
    return coordinates


def settle(distances: np.ndarray, places: np.ndarray, max_iter: int, eps: float) -> np.ndarray:
    """Place rows so that the squared differences of their distances to the landmarks are least, each row by itself.

    Parameters
    ----------
    distances : ndarray, float64 (rows, m)
        In the data. A row that is equal to a landmark gets its place.
    places : ndarray, float64 (m, k)
        Of the landmarks.
    max_iter : int
    eps : float
        A row is done when it moves by less than `eps` of the landmarks' mean distance to their middle.

    Notes
    -----
    The stress of a row never rises. It can have several minima; the row ends in that of its start.
    """
    nearest = np.argpartition(distances, min(NEAREST, distances.shape[1]) - 1, axis=1)[:, :NEAREST]
    found: np.ndarray = places[nearest].mean(axis=1)
    middle = places.mean(axis=0)
    tolerance = eps * float(np.sqrt(((places - middle) ** 2).sum(axis=1)).mean())
    first = distances.argmin(axis=1)
    twins = distances[np.arange(len(distances)), first] <= _EQUAL * distances.max(axis=1)
    found[twins] = places[first[twins]]
    active = np.flatnonzero(~twins)
    wanted = distances[active]
    for _ in range(max_iter):
        if not len(active):
            break
        here = found[active]
        apart = distances_to(here, places, "euclidean")
        pull = np.divide(wanted, apart, out=np.zeros_like(apart), where=apart > 0)
        there = middle + (here * pull.sum(axis=1, keepdims=True) - pull @ places) / len(places)
        found[active] = there
        moving = np.sqrt(((there - here) ** 2).sum(axis=1)) > tolerance
        if not moving.all():
            active, wanted = active[moving], wanted[moving]
    return found


class Rule(NamedTuple):
    """How rows are placed."""

    metric: str
    """Of the distances in the data."""
    limits: tuple[int, float] | None
    """Most steps and the shortest step of `settle`; None for triangulation."""


def place(block: np.ndarray, landmarks: np.ndarray, *held: np.ndarray, rule: Rule) -> np.ndarray:
    """Place the rows of a block; `held` is what `triangulate` or `settle` takes after the distances."""
    return np.concatenate([part for part, _ in _placed(block, landmarks, held, rule)])


def place_and_measure(
    block: np.ndarray, landmarks: np.ndarray, places: np.ndarray, *held: np.ndarray, rule: Rule
) -> tuple[np.ndarray, Spread]:
    """Place the rows of a block and measure their stress against the landmarks and their places."""
    found, spreads = [], []
    for part, distances in _placed(block, landmarks, held, rule):
        mean = part.mean(axis=0)
        rest = part - mean
        off = distances - distances_to(part, places, "euclidean")
        spreads.append(Spread(len(part), mean, rest.T @ rest, _square(off), _square(distances)))
        found.append(part)
    return np.concatenate(found), reduce(merge_spreads, spreads)


def merge_spreads(a: Spread, b: Spread) -> Spread:
    """Return what was found of the rows of both."""
    rows = a.rows + b.rows
    delta = b.mean - a.mean
    return Spread(
        rows,
        a.mean + delta * (b.rows / rows),
        a.scatter + b.scatter + np.outer(delta, delta) * (a.rows * b.rows / rows),
        a.stress + b.stress,
        a.total + b.total,
    )


def _placed(
    block: np.ndarray, landmarks: np.ndarray, held: tuple[np.ndarray, ...], rule: Rule
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the places of some rows at a time, and their distances to the landmarks."""
    for low, high in slices(len(block), max(1, TILE_VALUES // len(landmarks))):
        distances = distances_to(block[low:high], landmarks, rule.metric)
        if rule.limits is None:
            yield triangulate(distances, *held), distances
        else:
            yield settle(distances, held[0], *rule.limits), distances


def _square(values: np.ndarray) -> float:
    return float(np.vdot(values, values))
