"""The k nearest rows of one block, exactly; and how the answers of several blocks become one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.methods.distances import Filter, Side, exact_squares, multiply, passing
from tasks.methods.projected import nearest_by_axes
from tasks.methods.scratch import Scratch, slices

TILE_QUERIES = 2048
TILE_POINTS = 1024
"""A tile of distances is TILE_QUERIES x TILE_POINTS; bounds what a search allocates."""

NOBODY = np.iinfo(np.int64).max
"""Id of a place that no neighbour fills; sorts behind every id."""


class Neighbors(NamedTuple):
    """The nearest found so far, for each query in order of distance, then id."""

    squares: np.ndarray
    """Squared distances, float64 (queries, k); infinite where there is no neighbour."""
    ids: np.ndarray
    """Rows of the training data, int64 (queries, k)."""
    targets: np.ndarray
    """What the training data holds for these rows, (queries, k) or (queries, k, t)."""


def nearest_in_block(
    block: np.ndarray,
    start: int,
    targets: np.ndarray | None,
    *queries: np.ndarray,
    k: int,
    center: np.ndarray,
    axes: np.ndarray | None = None,
    threads: int = 1,
) -> Neighbors:
    """Find for each query the k nearest rows of a block.

    Parameters
    ----------
    block : ndarray, shape (n, d)
    start : int
        Id of the block's first row.
    targets : ndarray, shape (n,) or (n, t), optional
        Carried along with the ids.
    *queries : ndarray, shapes (m, d)
        One or more arrays of queries; the answers follow each other.
    k : int
    center : ndarray, float64 (d,)
        A point in the middle of the data; any point gives the same neighbours.
    axes : ndarray, float64 (d, r), optional
        From `projected.choose_axes`; any give the same neighbours.
    threads : int
        To work with, of a search with axes.

    Returns
    -------
    Neighbors
        Ties in distance are in order of id.

    Notes
    -----
    With axes see `tasks.methods.projected`. Without, while the tiles of a block pass by, each query keeps the smallest
    upper bound that k rows are known to lie within; a row whose lower bound is above it cannot be a neighbour. Few rows
    remain, and their distances are computed exactly. Where thousands of rows tie (mostly duplicates) all of them remain
    and the search is slower.
    """
    targets = np.zeros(len(block), np.int32) if targets is None else targets
    filter_ = Filter.over(block, *queries, center=center, axes=axes)
    points = filter_.points(block)
    if axes is not None:
        answers = [nearest_by_axes(block, part, k, filter_, points, threads) for part in queries]
        squares, places = (np.concatenate(both) for both in zip(*answers, strict=True))
        return _answer(squares, places, start, targets)
    scratch = Scratch()
    found = [
        _nearest_of_tile(block, start, targets, part[low:high], k, filter_, points, scratch)
        for part in queries
        for low, high in slices(len(part), TILE_QUERIES)
    ]
    return Neighbors(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def merge_neighbors(a: Neighbors, b: Neighbors) -> Neighbors:
    """Return the nearest of both answers to the same queries."""
    k = a.ids.shape[1]
    squares, ids, targets = (np.concatenate(parts, axis=1) for parts in zip(a, b, strict=True))
    order = np.lexsort((ids, squares), axis=-1)[:, :k]
    queries = np.arange(len(order))[:, None]
    return Neighbors(squares[queries, order], ids[queries, order], targets[queries, order])


def _answer(squares: np.ndarray, places: np.ndarray, start: int, targets: np.ndarray) -> Neighbors:
    found = places < NOBODY
    ids = np.where(found, places + start, NOBODY)
    carried = targets[np.where(found, places, 0)]
    carried[~found] = 0
    return Neighbors(squares, ids, carried)


def _nearest_of_tile(
    block: np.ndarray,
    start: int,
    targets: np.ndarray,
    queries: np.ndarray,
    k: int,
    filter_: Filter,
    points: Side,
    scratch: Scratch,
) -> Neighbors:
    rows, places = _candidates(filter_.queries(queries), points, k, filter_, scratch)
    squares = exact_squares(queries, block, rows, places)
    order = np.lexsort((places, squares, rows))
    rows, places, squares = rows[order], places[order], squares[order]
    rank = _rank_in_run(rows, len(queries))
    first = rank < k
    rows, rank, places = rows[first], rank[first], places[first]
    answer = Neighbors(
        np.full((len(queries), k), np.inf),
        np.full((len(queries), k), NOBODY),
        np.zeros((len(queries), k, *targets.shape[1:]), targets.dtype),
    )
    answer.squares[rows, rank] = squares[first]
    answer.ids[rows, rank] = start + places
    answer.targets[rows, rank] = targets[places]
    return answer


def _candidates(side: Side, points: Side, k: int, filter_: Filter, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs (query, point) among which are the k nearest points of every query."""
    reach = np.full(len(side), np.inf)
    rows, places = np.empty(0, np.int64), np.empty(0, np.int64)
    lower, upper = np.empty(0), np.empty(0)
    for left, right in slices(len(points), TILE_POINTS):
        products = multiply(side, points[left:right], scratch)
        squares = points.squares[left:right]
        if left == 0:
            reach = _first_reach(products, side, squares, k, filter_)
        hits = passing(products, filter_.threshold(side, reach), scratch)
        i, j = np.divmod(hits, right - left)
        below = filter_.lower(side, i, products.ravel()[hits])
        above = below + filter_.width(side.squares[i], squares[j])
        rows, places = np.concatenate([rows, i]), np.concatenate([places, left + j])
        lower, upper = np.concatenate([lower, below]), np.concatenate([upper, above])
        order = np.lexsort((upper, rows))
        rows, places, lower, upper = rows[order], places[order], lower[order], upper[order]
        kth = _rank_in_run(rows, len(side)) == k - 1
        reach[rows[kth]] = np.minimum(reach[rows[kth]], upper[kth])
        possible = lower <= reach[rows]
        rows, places, lower, upper = rows[possible], places[possible], lower[possible], upper[possible]
    return rows, places


def _first_reach(products: np.ndarray, side: Side, squares: np.ndarray, k: int, filter_: Filter) -> np.ndarray:
    """Return for each query a squared distance within which k of the first points lie."""
    some = products[:, : max(256, 8 * k)]
    if some.shape[1] < k:
        return np.full(len(side), np.inf)
    kth = np.partition(some, some.shape[1] - k, axis=1)[:, some.shape[1] - k]
    width = filter_.width(side.squares, float(squares[: some.shape[1]].max()))
    return filter_.lower(side, np.arange(len(side)), kth) + width


def _rank_in_run(rows: np.ndarray, count: int) -> np.ndarray:
    """Number the entries of each run of equal values, from 0; `rows` is sorted and below `count`."""
    starts = np.searchsorted(rows, np.arange(count))
    return np.arange(len(rows)) - starts[rows]
