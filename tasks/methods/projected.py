"""The k nearest rows by products of few columns: the rows' coordinates on some axes, and what is left of them.

Of two rows with coordinates a and b on orthonormal axes and remainders of lengths s and t, the product is at most
``a.b + s t``; so a filter of r + 1 columns in place of d gives a lower bound of their distance. Where a few directions
hold most of the data's variance, as of images, it leaves few rows, of which the distance is computed exactly. The
axes decide about time only, and are chosen by what they would save.

References
----------
Y. Hwang, B. Han, H.-K. Ahn (2012). A fast nearest neighbor search algorithm by nonlinear embedding. CVPR, 3053-3060
(bounds from a few coordinates and the length of the remainder).
C.-D. Bei, R. M. Gray (1985). An improvement of the minimum distortion encoding algorithm for vector quantization. IEEE
Trans. Communications 33(10), 1132-1133 (the sum that ends as soon as it is too large).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import scipy.linalg

from tasks.methods.distances import UNDERFLOW, Filter, Side, multiply
from tasks.methods.scratch import Scratch, slices
from tasks.methods.threads import one_blas_thread

TILE_QUERIES = 512
TILE_POINTS = 4096
"""A tile of products is TILE_QUERIES x TILE_POINTS: 8 MB."""

LEAST_WORK = 1e11
"""Queries x rows x columns from which it pays to look for axes."""

LEAST_QUERIES = 1024
"""From so many queries on: the sample for the axes is a pass over the data."""

LEAST_COLUMNS = 64

SAMPLE_ROWS = 4096
SAMPLE_QUERIES = 256

AXES = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Numbers of axes to choose among."""

SCAN = 30.0
"""What it costs to look at a product, in units of one column of it (measured on two cores)."""

EXACT = 25.0
"""The same of one column of an exact distance."""

RUN = 64
"""Products of which the largest is looked at first."""

STEP = 128
"""Columns of an exact distance after which it may be too large already."""


def choose_axes(
    points: np.ndarray, queries: np.ndarray, center: np.ndarray, k: int, rows: int, own: bool
) -> np.ndarray | None:
    """Choose axes from a sample of the data and of the queries.

    Parameters
    ----------
    points : ndarray, shape (p, d)
    queries : ndarray, shape (q, d)
    center : ndarray, float64 (d,)
    k : int
        Neighbours that are looked for among `rows`.
    rows : int
    own : bool
        The queries are rows of the data, and no neighbours of themselves.

    Returns
    -------
    ndarray, float64 (d, r), or None
        None if all columns cost less.
    """
    # On a busy machine many small products take longer with more threads.
    with one_blas_thread():
        return _cheapest_axes(points, queries, center, k, rows, own)


def _cheapest_axes(
    points: np.ndarray, queries: np.ndarray, center: np.ndarray, k: int, rows: int, own: bool
) -> np.ndarray | None:
    columns = points.shape[1]
    a, b = queries - center, points - center
    _, vectors = scipy.linalg.eigh(b.T @ b)
    vectors = vectors[:, ::-1]
    a, b = a @ vectors, b @ vectors
    left, right = np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", b, b)
    sizes = left[:, None] + right
    squares = sizes - 2 * (a @ b.T)
    # As far into the sample as the k nearest reach into the rows; at least one row, which overrates what passes.
    place = min(max(0, int(np.ceil(k * len(b) / rows)) - 1) + own, len(b) - 1)
    reach = np.partition(squares, place, axis=1)[:, place]
    costs = {0: 0.8 * (columns + SCAN)}
    for count in AXES:
        if 2 * count > columns:
            break
        s = np.sqrt(np.maximum(left - np.einsum("ij,ij->i", a[:, :count], a[:, :count]), 0))
        t = np.sqrt(np.maximum(right - np.einsum("ij,ij->i", b[:, :count], b[:, :count]), 0))
        lower = sizes - 2 * (a[:, :count] @ b[:, :count].T + np.multiply.outer(s, t))
        passing = float((lower <= reach[:, None]).mean())
        costs[count] = count + 2 + SCAN + passing * EXACT * columns
    best = min(costs, key=lambda count: costs[count])
    return np.ascontiguousarray(vectors[:, :best]) if best else None


def nearest_by_axes(
    block: np.ndarray, queries: np.ndarray, k: int, filter_: Filter, points: Side, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each query the k nearest rows of a block, exactly.

    Parameters
    ----------
    block : ndarray, shape (n, d)
    queries : ndarray, shape (m, d)
    k : int
    filter_ : Filter
        With axes.
    points : Side
        The block, prepared.
    threads : int
        More than 1 where no other task has the processors: each then works on queries of its own, with 8 MB.

    Returns
    -------
    squares : ndarray, float64 (m, k)
        Ascending; infinite where there is no neighbour.
    places : ndarray, int64 (m, k)
        Rows of the block; of equal squares in order.
    """
    squares = np.full((len(queries), k), np.inf)
    places = np.full((len(queries), k), np.iinfo(np.int64).max)
    block, queries = _read_only(block), _read_only(queries)
    idle = [Scratch() for _ in range(threads)]

    def search(tile: tuple[int, int]) -> None:
        some, scratch = slice(*tile), idle.pop()
        side = filter_.queries(queries[some])
        bases = (1 - filter_.slack) * side.squares - UNDERFLOW
        for left, right in slices(len(block), TILE_POINTS):
            products = multiply(side, points[left:right], scratch)
            _look(queries[some], products, bases, squares[some], places[some], block, left, filter_.scale)
        idle.append(scratch)

    tiles = slices(len(queries), TILE_QUERIES)
    if threads == 1:
        for tile in tiles:
            search(tile)
        return squares, places
    with one_blas_thread(), ThreadPoolExecutor(threads, "search") as pool:
        list(pool.map(search, tiles))
    return squares, places


@numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})
def _largest(values: np.ndarray) -> float:
    largest = values[0]
    for i in range(1, len(values)):
        largest = max(largest, values[i])
    return largest


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sum_of_squares(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(len(a)):
        difference = np.float64(a[i]) - np.float64(b[i])
        total += difference * difference
    return total


@numba.njit(cache=True, nogil=True)
def _threshold(base: float, worst: float, scale: float, columns: int) -> float:
    """Return the smallest product that a row can have whose computed square is at most `worst`."""
    # Both squares that are compared are off by some (d + 3) u.
    reach = worst * scale * scale * (1 + 4 * (columns + 3) * 1.2e-16)
    return 0.5 * (base - reach)


@numba.njit(cache=True, nogil=True)
def _look(
    queries: np.ndarray,
    products: np.ndarray,
    bases: np.ndarray,
    squares: np.ndarray,
    places: np.ndarray,
    block: np.ndarray,
    start: int,
    scale: float,
) -> None:
    """Go through a tile of products, the best first, and keep the k nearest of each query, in place."""
    width, columns, k = products.shape[1], block.shape[1], squares.shape[1]
    picked = np.empty(width, np.int64)
    some = min(width, 2 * k)
    for i in range(len(queries)):
        row, mine, ids = products[i], squares[i], places[i]
        # Of the first tile some of the best first: they bring the reach down before all others are looked at.
        early = some if mine[0] == np.inf else 0
        for phase in range(0 if early else 1, 2):
            count = 0
            if phase == 0:
                for j in range(width):
                    if count == early and row[j] <= row[picked[count - 1]]:
                        continue
                    at = count if count < early else count - 1
                    while at and row[picked[at - 1]] < row[j]:
                        if at < early:
                            picked[at] = picked[at - 1]
                        at -= 1
                    picked[at] = j
                    count = min(count + 1, early)
            else:
                least = _threshold(bases[i], mine[k - 1], scale, columns)
                for low in range(0, width, RUN):
                    high = min(low + RUN, width)
                    if _largest(row[low:high]) >= least:
                        for j in range(low, high):
                            if row[j] >= least:
                                picked[count] = j
                                count += 1
                order = np.argsort(-row[picked[:count]])
                picked[:count] = picked[:count][order]
            for c in range(count):
                j = picked[c]
                if mine[k - 1] < np.inf and row[j] < _threshold(bases[i], mine[k - 1], scale, columns):
                    break
                total = 0.0
                for low in range(0, columns, STEP):
                    high = min(low + STEP, columns)
                    total += _sum_of_squares(queries[i, low:high], block[start + j, low:high])
                    if total > mine[k - 1]:
                        break
                place = start + j
                if total > mine[k - 1] or (total == mine[k - 1] and place >= ids[k - 1]):
                    continue
                if early and phase == 1 and (ids == place).any():
                    continue
                at = k - 1
                while at and (mine[at - 1] > total or (mine[at - 1] == total and ids[at - 1] > place)):
                    mine[at], ids[at] = mine[at - 1], ids[at - 1]
                    at -= 1
                mine[at], ids[at] = total, place


def _read_only(values: np.ndarray) -> np.ndarray:
    # numba compiles a function once for arrays that are not writable, and once more for those that are.
    view = values.view()
    view.flags.writeable = False
    return view
