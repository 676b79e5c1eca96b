"""Count, mean and scatter of a matrix in one pass, in float64, without cancellation.

Each block is centred on its own mean before anything is squared, and blocks are merged by the pairwise formula of
Chan, Golub and LeVeque; so one pass over the data is as accurate as two.

References
----------
T. F. Chan, G. H. Golub, R. J. LeVeque (1983). Algorithms for computing the sample variance: analysis and
recommendations. The American Statistician 37(3), 242-247, equations 2.1a and 2.1b.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tasks.methods.scratch import PART_VALUES, Scratch, parts

CROSS_VALUES = 1 << 21
"""Values that a product of the Gram matrix is computed from at a time: 16 MB of float64."""


PIVOT_ROWS = 1024
"""Rows whose mean takes the place of the mean of all."""

PIVOT_SHARE = 0.1
"""What it may be off, squared, of the mean squared deviation from it; some 1 / `PIVOT_ROWS` is usual."""


class Moments(NamedTuple):
    """What one pass over rows found."""

    rows: int
    """Number of rows."""
    mean: np.ndarray
    """float64 (d,)."""
    scatter: np.ndarray
    """Sum over the rows of the squared deviation from the mean, float64 (d,), or of its outer product, (d, d)."""


def column_moments(block: np.ndarray) -> Moments:
    """Return count, mean and the sum of squared deviations of every column."""
    return _moments(block, cross=False)


def cross_moments(block: np.ndarray) -> Moments:
    """Return count, mean and the centred Gram matrix."""
    return _moments(block, cross=True)


def narrow_cross_moments(block: np.ndarray) -> Moments:
    """Return what `cross_moments` does, with products in the block's own type: of float32 twice as fast.

    Rows are centred before, and no sum over more than `CROSS_VALUES` values is in float32; so entries are off by some
    1e-6 of the columns' deviations. They are centred on the mean of some of the rows, of which no pass over all of them
    has to come first; where that is not near the mean, on the mean.
    """
    if block.dtype == np.float64 or len(block) < 2 * PIVOT_ROWS:
        return _moments(block, cross=True, dtype=block.dtype)
    columns = block.shape[1]
    pivot = block[:: len(block) // PIVOT_ROWS].mean(axis=0, dtype=np.float64).astype(block.dtype)
    scratch = Scratch()
    sums, scatter = np.zeros(columns), np.zeros((columns, columns))
    for low, high in parts(block, CROSS_VALUES):
        rows = np.subtract(block[low:high], pivot, out=scratch("rows", (high - low, columns), block.dtype))
        sums += np.ones(high - low, block.dtype) @ rows
        scatter += np.matmul(rows.T, rows, out=scratch("product", scatter.shape, block.dtype))
    apart = sums / len(block)
    if (apart**2 * len(block) > PIVOT_SHARE * scatter.diagonal()).any():
        return _moments(block, cross=True, dtype=block.dtype)
    scatter -= np.multiply.outer(sums, apart)
    return Moments(len(block), pivot + apart, scatter)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Return the moments of the rows of both."""
    rows = a.rows + b.rows
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.rows / rows)
    weight = a.rows * b.rows / rows
    scatter = a.scatter + b.scatter
    scatter += np.multiply.outer(weight * delta, delta) if scatter.ndim == 2 else weight * delta**2
    return Moments(rows, mean, scatter)


def _moments(block: np.ndarray, cross: bool, dtype: Any = np.float64) -> Moments:
    if not len(block):
        raise ValueError("expected at least one row, received an empty block; drop empty blocks")
    columns = block.shape[1]
    scratch = Scratch()
    mean = block.mean(axis=0, dtype=np.float64)
    total = np.zeros((columns, columns) if cross else columns)
    for low, high in parts(block, CROSS_VALUES if cross else PART_VALUES):
        rows = np.subtract(
            block[low:high], mean, out=scratch("rows", (high - low, columns), dtype), casting="same_kind"
        )
        if cross:
            # NumPy sees that both factors are one array and computes half of the product.
            total += np.matmul(rows.T, rows, out=scratch("product", total.shape, dtype))
        else:
            total += np.einsum("ij,ij->j", rows, rows)
    return Moments(len(block), mean, total)
