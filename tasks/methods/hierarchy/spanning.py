"""The minimum spanning tree of all rows, without the matrix of their distances.

Every pair of rows lies in one tile of distances. An edge that is not in the minimum spanning forest of its tile is the
largest of some cycle there, so it is not in the tree of all rows: the union of the tiles' forests contains the tree,
and forests are merged in any order (Kruskal). Edges are ordered by distance, then by their rows, which makes the tree
one only: it depends neither on tiles nor on blocks.

In a tile, distances come from a matrix product whose error is bounded (`tasks.methods.distances`). Prim's algorithm on
these gives a tree T. An edge of the true forest is at most as long as the longest edge between its ends in T, so what
is longer by more than the error is out; the few others are computed exactly, and Kruskal decides among them.

References
----------
R. C. Prim (1957). Shortest connection networks and some generalizations. Bell System Technical Journal 36, 1389-1401.
J. B. Kruskal (1956). On the shortest spanning subtree of a graph. Proceedings of the AMS 7, 48-50.
J. C. Gower, G. J. S. Ross (1969). Minimum spanning trees and single linkage cluster analysis. Applied Statistics 18,
54-64.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numba
import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import minimum_spanning_tree

from tasks.methods.blocks import Blocks
from tasks.methods.distances import Filter, Side, exact_squares, multiply
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.scratch import Scratch, slices

TILE = 1024
"""Rows of a tile of distances: 4 MB of float32, and as much transposed."""

STRIP = 128
"""Rows of a tile whose doubtful edges are found at a time: all of them, if all distances are equal."""

WAITING = 1 << 14
"""Edges that are brought together, at least, before their forest takes their place."""


class Forest(NamedTuple):
    """Edges without a cycle."""

    ends: np.ndarray
    """Rows, the lower one first; int64 (2, e)."""
    squares: np.ndarray
    """Squared lengths, float64 (e,)."""


def spanning_tree(rows: Blocks, cores: np.ndarray | None = None) -> Forest:
    """Return the minimum spanning tree of all rows, by their Euclidean distances.

    Parameters
    ----------
    cores : ndarray, float64 (n,), optional
        A squared length for each row: no edge counts as shorter than those of its ends (mutual reachability).
    """
    center = rows.reduce("center", column_moments, combine=merge_moments).mean
    least = [None] * len(rows) if cores is None else rows.scatter("cores", cores)
    numbered = list(zip(rows.sources, rows.starts, least, strict=True))
    calls = [(a, b, i, j, c, d) for p, (a, i, c) in enumerate(numbered) for b, j, d in numbered[p:]]
    within = partial(_forest_of_blocks, center=center, tile=TILE)
    found = rows.engine.reduce_each(rows.named("span"), within, [calls], combine=merge_forests)
    tree: Forest = rows.fetch(found)[0]
    return tree


def merge_forests(a: Forest, b: Forest) -> Forest:
    """Return the minimum spanning forest of the edges of both."""
    return least_forest(*(np.concatenate(parts, axis=-1) for parts in zip(a, b, strict=True)))


def least_forest(ends: np.ndarray, squares: np.ndarray) -> Forest:
    """Return the minimum spanning forest of edges, each given once; ties go to the lower rows."""
    if not len(squares):
        return Forest(ends, squares)
    order = np.lexsort((ends[1], ends[0], squares))
    vertices, places = np.unique(ends, return_inverse=True)
    # Ranks in place of lengths: SciPy takes zero for no edge, and does not say which of two equal edges it keeps.
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    one, other = places.reshape(2, -1)
    graph = scipy.sparse.coo_matrix((ranks, (one, other)), (len(vertices), len(vertices)))
    kept = order[np.sort(minimum_spanning_tree(graph.tocsr()).data).astype(np.int64) - 1]
    return Forest(ends[:, kept], squares[kept])


def _forest_of_blocks(
    a: np.ndarray,
    b: np.ndarray,
    i: int,
    j: int,
    least_a: np.ndarray | None,
    least_b: np.ndarray | None,
    center: np.ndarray,
    tile: int,
) -> Forest:
    """Return the forest of the edges between two blocks, or within one, whose first rows are i and j.

    Beside the blocks a task holds, for t rows of a tile and values of w bytes (4; 8 for few columns): prepared rows,
    2 t (d + 1) w; their distances twice, 2 t^2 w; buffers of some 4 MB; and 120 bytes for each edge of the forest so
    far and of those that wait: `WAITING` and what one tile adds, at most `STRIP` t if all distances are equal.
    """
    cores = None if least_a is None or least_b is None else (least_a, least_b)
    filter_ = Filter.over(a, b, center=center)
    scratch = Scratch()
    total = _Union()
    for low, high in slices(len(a), tile):
        # Rows are prepared again for every tile: a copy of both blocks would be as large as these.
        queries = filter_.queries(a[low:high])
        for left, right in slices(len(b), tile):
            same = i == j and left == low
            if i == j and left < low:
                continue
            points = filter_.points(b[left:right])
            rows = a[low:high], b[left:right]
            least = cores and (cores[0][low:high], cores[1][left:right])
            found = _forest_of_tile(filter_, queries, points, rows, least, same, scratch)
            total.add(Forest(found.ends + np.array([[i + low], [j + left]]), found.squares))
    return total.forest()


class _Union:
    """The forest of edges that come one after the other."""

    def __init__(self) -> None:
        self._parts: list[Forest] = [Forest(np.empty((2, 0), np.int64), np.empty(0))]
        self._waiting = 0

    def add(self, edges: Forest) -> None:
        """Add edges, each given once."""
        self._parts.append(edges)
        self._waiting += len(edges.squares)
        if self._waiting >= WAITING:
            self.forest()

    def forest(self) -> Forest:
        """Return the forest of all edges so far."""
        if self._waiting:
            self._parts = [least_forest(*(np.concatenate(part, axis=-1) for part in zip(*self._parts, strict=True)))]
            self._waiting = 0
        return self._parts[0]


def _forest_of_tile(
    filter_: Filter,
    queries: Side,
    points: Side,
    rows: tuple[np.ndarray, np.ndarray],
    cores: tuple[np.ndarray, np.ndarray] | None,
    same: bool,
    scratch: Scratch,
) -> Forest:
    lower = multiply(queries, points, scratch)
    lower *= -2
    lower += ((1 - filter_.slack) * queries.squares).astype(lower.dtype)[:, None]
    if cores is not None:
        scaled = [(filter_.scale**2 * part).astype(lower.dtype) for part in cores]
        np.maximum(lower, scaled[0][:, None], out=lower)
        np.maximum(lower, scaled[1], out=lower)
    turned = scratch("turned", lower.shape[::-1], lower.dtype)
    np.copyto(turned, lower.T)
    if same:
        np.minimum(lower, turned, out=lower)
    largest = float(queries.squares.max()), float(points.squares.max())
    # The second term is what the sum above rounds, on both sides of a comparison.
    doubt = float(filter_.width(np.asarray(largest[0]), largest[1])) + 8 * np.finfo(lower.dtype).eps * sum(largest)
    if cores is not None:
        doubt += 2 * np.finfo(lower.dtype).eps * filter_.scale**2 * max(float(part.max()) for part in cores)
    order, reach = _prim(lower, turned, same)
    # The vertices of the right side come after those of the left, unless both are the same.
    shift = np.array([[0], [0 if same else len(lower)]])
    total = _Union()
    for low, high in slices(len(lower), STRIP):
        flat = _doubtful(lower, order, reach, same, low, high, doubt)
        pairs = np.stack(np.divmod(flat, lower.shape[1]))
        squares = exact_squares(*rows, *pairs)
        if cores is not None:
            squares = np.maximum(squares, np.maximum(cores[0][pairs[0]], cores[1][pairs[1]]))
        total.add(Forest(pairs + shift, squares))
    forest = total.forest()
    return Forest(forest.ends - shift, forest.squares)


@numba.njit(cache=True, nogil=True)
def _prim(lower: np.ndarray, turned: np.ndarray, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices of a tile in Prim's order, and the length of the edge by which each came.

    The vertices are the rows, then the columns; the rows alone if both are the same: then `turned` is not looked at.
    """
    m, n = lower.shape
    total = m if same else m + n
    best = np.full(total, np.inf, lower.dtype)
    open_ = np.ones(total, np.bool_)
    order = np.empty(total, np.int64)
    reach = np.full(total, -np.inf, lower.dtype)
    current = 0
    for step in range(total):
        order[step] = current
        if step:
            reach[step] = best[current]
        open_[current] = False
        if current < m:
            first, edges = (0 if same else m), lower[current]
        else:
            first, edges = 0, turned[current - m]
        for k in range(len(edges)):
            best[first + k] = min(best[first + k], edges[k])
        current = -1
        for vertex in range(total):
            if open_[vertex] and (current < 0 or best[vertex] < best[current]):
                current = vertex
    return order, reach


@numba.njit(cache=True, nogil=True)
def _doubtful(
    lower: np.ndarray, order: np.ndarray, reach: np.ndarray, same: bool, low: int, high: int, doubt: float
) -> np.ndarray:
    """Return the edges of some rows, as flat positions, that may be no longer than any between their ends in the tree.

    The longest edge of the tree between two vertices is the longest by which any came after the first of them, up to
    the second.
    """
    m, n = lower.shape
    shift = 0 if same else m
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    found = np.empty((high - low) * n, np.int64)
    count = 0
    for row in range(low, high):
        place = position[row]
        longest = -np.inf
        for k in range(place + 1, len(order)):
            longest = max(longest, reach[k])
            column = order[k] - shift
            if column >= 0 and not (same and column < row) and lower[row, column] <= longest + doubt:
                found[count] = row * n + column
                count += 1
        longest = reach[place]
        for k in range(place - 1, -1, -1):
            column = order[k] - shift
            if column >= 0 and not (same and column < row) and lower[row, column] <= longest + doubt:
                found[count] = row * n + column
                count += 1
            longest = max(longest, reach[k])
    return found[:count].copy()
