"""Which rows are near which: a fast filter by matrix products, then exact distances for what passes.

The squared distance is ||q||^2 + ||x||^2 - 2 q.x, a matrix product, which processors do best and in float32 twice as
fast. Its rounding error is bounded, so that product gives a lower and an upper bound of the distance. What the bounds
cannot decide is computed again as the sum of squared differences in float64. The result is that of the exact
computation; the filter decides about time only.

The bound: with unit roundoff u, a product of d terms is off by at most d u |q|.|x| (Higham 2002, eq. 3.5), rounding q
and x by 2 u |q|.|x|; with |q|.|x| <= (||q||^2 + ||x||^2) / 2 the squared distance is within
``slack * (||q||^2 + ||x||^2)`` of the computed one for ``slack = 2 (d + 16) u``. Rows are centred and scaled by a power
of two first, which makes the norms small and keeps float32 from overflowing.

References
----------
N. J. Higham (2002). Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tasks.methods.scratch import PART_VALUES, Scratch, parts, slices

NARROW_COLUMNS = 16
"""Up to this many columns the matrix product costs less than what follows it, and float64 decides more."""

UNDERFLOW = 1e-30
"""What underflow can add to a product of scaled rows, with room to spare; the rows' largest norm is near 1."""


@dataclass(frozen=True)
class Filter:
    """Bounds of squared distances, for rows that are centred and scaled.

    Attributes
    ----------
    center : ndarray, float64 (d,)
        Subtracted from every row.
    scale : float
        A power of two; rows are multiplied by it. Bounds are of scaled distances.
    dtype : numpy.dtype
        Of the matrix products.
    axes : ndarray, float64 (d, r), or None
        Orthonormal. With them products are of r + 1 columns, the rows' coordinates and the lengths of what these leave
        out, and give lower bounds only.
    """

    center: np.ndarray
    scale: float
    dtype: np.dtype
    axes: np.ndarray | None = None

    @classmethod
    def over(
        cls,
        *parts: np.ndarray,
        center: np.ndarray,
        dtype: np.dtype | None = None,
        axes: np.ndarray | None = None,
    ) -> Filter:
        """Return the filter for distances between the rows of these arrays."""
        if dtype is None:
            dtype = np.dtype(np.float64 if len(center) <= NARROW_COLUMNS else np.float32)
        largest = max((_largest_deviation(part, center) for part in parts), default=0.0)
        # The norm is at most the largest deviation times sqrt(d).
        reach = largest * np.sqrt(len(center))
        exponent = float(np.clip(np.ceil(np.log2(reach)), -500, 500)) if reach > 0 else 0.0
        return cls(center, 2.0**-exponent, np.dtype(dtype), axes)

    @property
    def slack(self) -> float:
        """Error bound per ||q||^2 + ||x||^2."""
        if self.axes is None:
            return float((len(self.center) + 16) * np.finfo(self.dtype).eps)
        # Coordinates and remainders come from d columns in float64, and the axes are orthonormal to as much.
        return float((self.axes.shape[1] + 17) * np.finfo(self.dtype).eps) + 4 * self._rounding

    def queries(self, rows: np.ndarray) -> Side:
        """Prepare rows for the left side of a product."""
        side = self._scaled(rows)
        side.rows[:, -1] = 1
        return side

    def points(self, rows: np.ndarray) -> Side:
        """Prepare rows for the right side of a product."""
        side = self._scaled(rows)
        # The norm travels as one more column, so that the product is what a threshold can be compared with.
        side.rows[:, -1] = -0.5 * (1 - self.slack) * side.squares
        return side

    def threshold(self, queries: Side, reach: np.ndarray | float) -> np.ndarray:
        """Return for each query the smallest product that a point within `reach` (squared, scaled) can have."""
        exact = 0.5 * ((1 - self.slack) * queries.squares - reach - UNDERFLOW)
        return np.nextafter(exact.astype(self.dtype), self.dtype.type(-np.inf))

    def lower(self, queries: Side, rows: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Return lower bounds of the squared distances of query `rows` with these products."""
        return (1 - self.slack) * queries.squares[rows] - 2.0 * products.astype(np.float64) - UNDERFLOW

    def width(self, query_squares: np.ndarray, point_squares: np.ndarray | float) -> np.ndarray:
        """Return how far the upper bound lies above the lower one."""
        return 2 * self.slack * (query_squares + point_squares) + 2 * UNDERFLOW

    @property
    def _rounding(self) -> float:
        return float((len(self.center) + 16) * np.finfo(np.float64).eps)

    def _scaled(self, rows: np.ndarray) -> Side:
        columns = rows.shape[1] if self.axes is None else self.axes.shape[1] + 1
        side = Side(np.empty((len(rows), columns + 1), self.dtype), np.empty(len(rows)))
        scratch = Scratch()
        for low, high in parts(rows):
            part = np.subtract(rows[low:high], self.center, out=scratch("part", rows[low:high].shape, np.float64))
            part *= self.scale
            side.squares[low:high] = np.einsum("ij,ij->i", part, part)
            if self.axes is None:
                side.rows[low:high, :-1] = part
                continue
            coordinates = np.matmul(part, self.axes, out=scratch("axes", (high - low, columns - 1), np.float64))
            side.rows[low:high, :-2] = coordinates
            rest = side.squares[low:high] - np.einsum("ij,ij->i", coordinates, coordinates)
            # Rather too long than too short: the product of two lengths is to be an upper bound.
            side.rows[low:high, -2] = np.sqrt(np.maximum(rest, 0) + 4 * self._rounding * side.squares[low:high])
        return side


@dataclass(frozen=True)
class Side:
    """Prepared rows of one side of a product."""

    rows: np.ndarray
    """(m, d + 1), of the filter's dtype."""
    squares: np.ndarray
    """Squared norms, float64 (m,)."""

    def __getitem__(self, index: slice) -> Side:
        return Side(self.rows[index], self.squares[index])

    def __len__(self) -> int:
        return len(self.rows)


def exact_squares(a: np.ndarray, b: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the squared distances of the pairs (a[i], b[j]) as sums of squared differences in float64.

    Parameters
    ----------
    a, b : ndarray, shapes (m, d) and (n, d)
    i, j : ndarray of int, shape (p,)

    Returns
    -------
    ndarray, float64 (p,)
        The same for the same two rows, wherever they stand: equal rows tie exactly.
    """
    squares = np.empty(len(i))
    scratch = Scratch()
    for low, high in slices(len(i), max(1, PART_VALUES // max(1, a.shape[1]))):
        shape = (high - low, a.shape[1])
        # "clip" lets NumPy write straight into the buffer; the indices are in range.
        left = np.take(a, i[low:high], axis=0, out=scratch("left", shape, a.dtype), mode="clip")
        right = np.take(b, j[low:high], axis=0, out=scratch("right", shape, b.dtype), mode="clip")
        difference = np.subtract(left, right, out=scratch("difference", shape, np.float64), dtype=np.float64)
        squares[low:high] = np.einsum("ij,ij->i", difference, difference)
    return squares


def multiply(side: Side, points: Side, scratch: Scratch) -> np.ndarray:
    """Return the products of queries and points; the next call overwrites them."""
    shape = (len(side), len(points))
    return np.matmul(side.rows, points.rows.T, out=scratch("products", shape, side.rows.dtype))


def passing(products: np.ndarray, threshold: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Return the flat positions of the products that reach their row's threshold."""
    mask = np.greater_equal(products, threshold[:, None], out=scratch("mask", products.shape, bool))
    return np.flatnonzero(mask)


def pairs_within(
    a: np.ndarray, b: np.ndarray, radius: float, center: np.ndarray, tile: int, same: bool = False
) -> Iterator[np.ndarray]:
    """Find all pairs of rows at a distance of at most `radius`, tile by tile.

    Parameters
    ----------
    a, b : ndarray, shapes (m, d) and (n, d)
    radius : float
        Inclusive.
    center : ndarray, float64 (d,)
        A point in the middle of the data; any point gives the same pairs.
    tile : int
        At most tile x tile distances are held at a time.
    same : bool
        True if a is b: half of the distances is computed, and the pairs are given both ways round.

    Yields
    ------
    ndarray, int64 (2, p)
        Rows of a and of b; for each tile.
    """
    filter_ = Filter.over(a, b, center=center)
    if filter_.dtype == np.float32 and not _decisive(filter_, a, b, radius):
        filter_ = Filter(filter_.center, filter_.scale, np.dtype(np.float64))
    reach = (radius * filter_.scale) ** 2
    queries, points = filter_.queries(a), filter_.points(b)
    scratch = Scratch()
    for low, high in slices(len(a), tile):
        side = queries[low:high]
        threshold = filter_.threshold(side, reach)
        for left, right in slices(len(b), tile):
            if same and left < low:
                continue
            products = multiply(side, points[left:right], scratch)
            hits = passing(products, threshold, scratch)
            i, j = np.divmod(hits, right - left)
            lower = filter_.lower(side, i, products.ravel()[hits])
            width = filter_.width(side.squares[i], points.squares[left + j])
            doubtful = np.flatnonzero(lower + width > reach)
            near = np.ones(len(i), bool)
            near[doubtful] = exact_squares(a, b, low + i[doubtful], left + j[doubtful]) <= radius**2
            pairs = np.stack([low + i[near], left + j[near]])
            yield np.concatenate([pairs, pairs[::-1]], axis=1) if same and left > low else pairs


def _decisive(filter_: Filter, a: np.ndarray, b: np.ndarray, radius: float) -> bool:
    # Judged on the largest norms that the scale allows for; those that occur are smaller.
    return filter_.slack * 4 <= 0.1 * (radius * filter_.scale) ** 2


def _largest_deviation(rows: np.ndarray, center: np.ndarray) -> float:
    if not len(rows):
        return 0.0
    return float(max(np.max(rows.max(axis=0) - center), np.max(center - rows.min(axis=0))))
