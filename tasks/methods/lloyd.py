"""Lloyd's iteration over row blocks. Everywhere here, centres are relative to an origin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from tasks.methods.blocks import Blocks
from tasks.methods.bounds import Bounded, pays
from tasks.methods.scratch import Scratch, parts

ROUNDING = 1e-12
"""A smaller share of a cluster's weight is what subtraction left."""


class Run(NamedTuple):
    """Where one start ended."""

    centers: np.ndarray
    """float64 (clusters, d)."""
    inertia: float
    """Sum of squared distances to the nearest centre."""
    iterations: int
    """Passes that assigned the rows."""
    occupied: int
    """Clusters that have any rows."""


class Sums(NamedTuple):
    """What one pass found: per cluster, relative to the origin; of a pass, with an axis for the starts before."""

    sums: np.ndarray
    counts: np.ndarray
    """int64, or the weights of the rows, float64."""


class Spread(NamedTuple):
    """How far the rows lie from their centres, and which centres have any."""

    inertia: Any
    occupied: np.ndarray


def lloyd(
    rows: Blocks,
    starts: Sequence[np.ndarray],
    origin: np.ndarray,
    max_iter: int,
    tolerance: float,
    weights: list[Any] | None = None,
) -> list[Run]:
    """Iterate from each start until its labels stay, its centres stay, or max_iter; all starts in the same passes.

    `weights` are handles of the weights of each block's rows, float64.
    """
    weights = [None] * len(rows) if weights is None else weights
    centers = [start.copy() for start in starts]
    iterations = [0] * len(centers)
    previous: list[Sums | None] = [None] * len(centers)
    moving = list(range(len(centers)))
    bounded = Bounded(rows, origin, weights) if len(starts) == 1 and pays(rows, len(starts[0])) else None
    while moving := [start for start in moving if iterations[start] < max_iter]:
        if bounded:
            sums, counts = bounded(centers[0])
            found = Sums(sums[None], counts[None])
        else:
            shared = (np.stack([centers[start] for start in moving]), origin)
            found = rows.reduce("assign", _assign, weights, shared=shared, combine=_add)
        still = []
        for start, sums, counts in zip(moving, found.sums, found.counts, strict=True):
            iterations[start] += 1
            now, before = Sums(sums, counts), previous[start]
            # Equal labels give equal sums to the last bit, for the order of summation is fixed (or they are not summed
            # again); and labels that differ but give the same sums give the same centres.
            if before is not None and _same(now, before):
                continue
            previous[start] = now
            updated = _update(rows, weights, now, centers[start], origin)
            shift = float(((updated - centers[start]) ** 2).sum())
            centers[start] = updated
            if shift > tolerance:
                still.append(start)
        moving = still
    shared = (np.stack(centers), origin)
    final = rows.reduce("inertia", _spread_each, weights, shared=shared, combine=merge_spread)
    return [
        Run(*run) for run in zip(centers, final.inertia.tolist(), iterations, final.occupied.sum(axis=1), strict=True)
    ]


def _same(a: Sums, b: Sums) -> bool:
    return np.array_equal(a.counts, b.counts) and np.array_equal(a.sums, b.sums)


def _update(rows: Blocks, weights: list[Any], found: Sums, centers: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the mean of each cluster; an empty one takes a far row from another, as in scikit-learn."""
    sums, counts = found.sums.copy(), found.counts.copy()
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        keep = partial(_farthest, count=len(empty))
        merge = partial(_merge_farthest, count=len(empty))
        far = rows.reduce("relocate", keep, rows.starts, weights, shared=(centers, origin), combine=merge)
        if far.squares.max() > 0:
            for cluster, vector, weight, owner in zip(empty, far.rows, far.weights, far.labels, strict=False):
                sums[owner] -= weight * vector
                # What rounding leaves of a cluster that gave all its weight is no weight.
                left = counts[owner] - weight
                counts[owner] = left if left > ROUNDING * found.counts[owner] else 0
                sums[cluster], counts[cluster] = weight * vector, weight
    updated = centers.copy()
    filled = counts > 0
    updated[filled] = sums[filled] / counts[filled, None]
    return updated


class Far(NamedTuple):
    """Rows far from their centres, farthest first, ties by position."""

    squares: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    weights: np.ndarray


def _farthest(
    block: np.ndarray, start: int, weights: np.ndarray | None, centers: np.ndarray, origin: np.ndarray, count: int
) -> Far:
    labels, squares = nearest_with_squares(block, centers, origin)
    order = np.lexsort((np.arange(len(block)), -squares))
    if weights is not None:
        order = order[weights[order] > 0]  # a row without weight would leave the cluster empty
    order = order[:count]
    masses = np.ones(len(order), np.int64) if weights is None else weights[order]
    return Far(squares[order], start + order, labels[order], block[order].astype(np.float64) - origin, masses)


def _merge_farthest(a: Far, b: Far, count: int) -> Far:
    both = [np.concatenate(parts) for parts in zip(a, b, strict=True)]
    order = np.lexsort((both[1], -both[0]))[:count]
    return Far(*(values[order] for values in both))


def nearest_with_squares(block: np.ndarray, centers: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centre and the squared distance to it; centres are relative to the origin."""
    labels = np.empty(len(block), np.int32)
    squares = np.empty(len(block))
    narrow = centers.astype(block.dtype)
    scratch = Scratch()
    for low, high, rows, nearest in _assigned(block, centers, origin, scratch):
        labels[low:high] = nearest
        difference = np.take(narrow, nearest, axis=0, out=scratch("own", rows.shape, rows.dtype), mode="clip")
        np.subtract(rows, difference, out=difference)
        squares[low:high] = np.einsum("ij,ij->i", difference, difference, dtype=np.float64)
    return labels, squares


def _assigned(
    block: np.ndarray, centers: np.ndarray, origin: np.ndarray, scratch: Scratch
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Go over the block in parts: where they lie, their centred rows, and the nearest centre of each."""
    for low, high, rows, (labels,) in _assigned_each(block, centers[None], origin, scratch):
        yield low, high, rows, labels


def _assigned_each(
    block: np.ndarray, centers: np.ndarray, origin: np.ndarray, scratch: Scratch
) -> Iterator[tuple[int, int, np.ndarray, list[np.ndarray]]]:
    """Go over the block in parts once, with the nearest centre of each row in each of several sets of centres."""
    dtype = block.dtype
    # ||c||^2 - 2 x.c ranks the centres; ||x||^2 is the same for all.
    factors = [(-2.0 * own.T).astype(dtype) for own in centers]
    squares = np.einsum("sij,sij->si", centers, centers).astype(dtype)
    shift = origin.astype(dtype)
    for low, high in parts(block):
        rows = block[low:high]
        if shift.any():
            rows = np.subtract(rows, shift, out=scratch("rows", rows.shape, dtype))
        labels = []
        for factor, square in zip(factors, squares, strict=True):
            ranking = np.matmul(rows, factor, out=scratch("ranking", (high - low, centers.shape[1]), dtype))
            ranking += square
            labels.append(ranking.argmin(axis=1).astype(np.int32))
        yield low, high, rows, labels


def _assign(block: np.ndarray, weights: np.ndarray | None, centers: np.ndarray, origin: np.ndarray) -> Sums:
    """Sum up the rows of each cluster, for each of the starts that the centres (starts, clusters, d) are of."""
    sums = np.zeros(centers.shape)
    counts = np.zeros(centers.shape[:2], np.int64 if weights is None else np.float64)
    scratch = Scratch()
    clusters = centers.shape[1]
    for low, high, rows, labels in _assigned_each(block, centers, origin, scratch):
        wide = scratch("wide", rows.shape, np.float64)
        wide[:] = rows
        masses = None if weights is None else weights[low:high]
        for start, own in enumerate(labels):
            member = (np.ones(high - low) if masses is None else masses, (own, np.arange(high - low)))
            sums[start] += scipy.sparse.csr_matrix(member, (clusters, high - low)) @ wide
            counts[start] += np.bincount(own, masses, clusters)
    return Sums(sums, counts)


def _add(a: Sums, b: Sums) -> Sums:
    return Sums(a.sums + b.sums, a.counts + b.counts)


def weighted_spread(block: np.ndarray, weights: np.ndarray | None, centers: np.ndarray, origin: np.ndarray) -> Spread:
    """Measure how far the rows lie from their nearest centres, each row by its weight."""
    labels, squares = nearest_with_squares(block, centers, origin)
    inertia = float(squares.sum() if weights is None else weights @ squares)
    return Spread(inertia, np.bincount(labels, minlength=len(centers)) > 0)


def _spread_each(block: np.ndarray, weights: np.ndarray | None, centers: np.ndarray, origin: np.ndarray) -> Spread:
    found = [weighted_spread(block, weights, own, origin) for own in centers]
    return Spread(np.array([one.inertia for one in found]), np.stack([one.occupied for one in found]))


def merge_spread(a: Spread, b: Spread) -> Spread:
    """Return the spread of the rows of both."""
    return Spread(a.inertia + b.inertia, a.occupied | b.occupied)


def nearest_centers(block: np.ndarray, centers: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the number of the nearest centre of each row, the lowest of equals, int32 (rows,)."""
    labels = np.empty(len(block), np.int32)
    for low, high, _, nearest in _assigned(block, centers, origin, Scratch()):
        labels[low:high] = nearest
    return labels


def center_distances(block: np.ndarray, centers: np.ndarray, origin: np.ndarray, dtype: Any) -> np.ndarray:
    """Return the distance of each row to each centre, (rows, clusters)."""
    result = np.empty((len(block), len(centers)), dtype)
    for low, high in parts(block):
        rows = block[low:high].astype(np.float64) - origin
        squares = np.einsum("ij,ij->i", rows, rows)[:, None] - 2.0 * rows @ centers.T
        squares += np.einsum("ij,ij->i", centers, centers)
        result[low:high] = np.sqrt(np.maximum(squares, 0.0))
    return result
