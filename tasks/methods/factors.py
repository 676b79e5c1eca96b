"""The root of a least-squares problem: a few rows that stand for all rows of the data.

Rows [x, y] of any number have an upper triangle R with the same inner products, so that ``||y - X w||`` is the same on
R as on the data, whatever w is. Whoever has R can fit every model of that norm. A root is found in one pass, either by
orthogonal transformations, as accurately as from the data itself, or from the Gram matrix, in half the time but with
half the digits where columns nearly depend on each other.

References
----------
J. Demmel, L. Grigori, M. Hoemmen, J. Langou (2012). Communication-optimal parallel and sequential QR and LU
factorizations. SIAM J. Scientific Computing 34(1), A206-A239, section 3 (triangles of blocks combined in a tree).
`tasks.methods.moments` (means and centred Gram matrices of blocks combined).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from tasks.methods.moments import CROSS_VALUES
from tasks.methods.scratch import Scratch, parts, slices


class Root(NamedTuple):
    """What one pass over rows [x, y] of p = d + t columns found."""

    weight: float
    """Sum of the weights of the rows."""
    mean: np.ndarray
    """Of the rows, float64 (p,); zeros if nothing is to be centred."""
    root: np.ndarray
    """Centred: a triangle, float64 (at most p, p), or the Gram matrix, (p, p)."""


def block_root(block: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, center: bool, gram: bool) -> Root:
    """Return the root of a block.

    Parameters
    ----------
    block : ndarray, shape (m, d)
    targets : ndarray, float64 (m, t)
    weights : ndarray, float64 (m,), optional
    center : bool
        Take away the mean first.
    gram : bool
        True gives the Gram matrix, False a triangle.
    """
    size = block.shape[1] + targets.shape[1]
    total = float(len(block) if weights is None else weights.sum())
    if total <= 0:
        return Root(0.0, np.zeros(size), np.zeros((size, size) if gram else (0, size)))
    mean = _mean(block, targets, weights, total) if center else np.zeros(size)
    root = np.zeros((size, size) if gram else (0, size))
    scratch = Scratch()
    # A triangle of p rows goes through each factorization beside the rows: enough of them make it a small share.
    step = max(1, CROSS_VALUES // size) if gram else max(4 * size, CROSS_VALUES // size)
    for low, high in slices(len(block), step):
        rows = scratch("rows", (high - low, size), np.float64)
        np.subtract(block[low:high], mean[: block.shape[1]], out=rows[:, : block.shape[1]])
        np.subtract(targets[low:high], mean[block.shape[1] :], out=rows[:, block.shape[1] :])
        if weights is not None:
            rows *= np.sqrt(weights[low:high])[:, None]
        if gram:
            # NumPy sees that both factors are one array and computes half of the product.
            root += np.matmul(rows.T, rows, out=scratch("product", root.shape, np.float64))
        else:
            root = _triangle(root, rows)
    return Root(total, mean, root)


def merge_triangles(a: Root, b: Root) -> Root:
    """Return the root of the rows of both, of two triangles."""
    return _merge(a, b, gram=False)


def merge_grams(a: Root, b: Root) -> Root:
    """Return the root of the rows of both, of two Gram matrices."""
    return _merge(a, b, gram=True)


def square_root(gram: np.ndarray) -> np.ndarray:
    """Return R, of at least one row, with ``R.T @ R == gram``; directions that are rounding errors are left out.

    Parameters
    ----------
    gram : ndarray, float64 (p, p)
        Positive semidefinite but for rounding.
    """
    # In units of each column, or the largest would decide what is small.
    scale = np.sqrt(gram.diagonal())
    unit = np.where(scale == 0, 1, scale)
    gram = gram / unit / unit[:, None]
    floor = len(gram) * np.finfo(np.float64).eps
    try:
        triangle = scipy.linalg.cholesky(gram, check_finite=False)
        if (triangle.diagonal() ** 2 > floor).all():
            return triangle * scale
    except np.linalg.LinAlgError:
        pass
    values, vectors = scipy.linalg.eigh(gram, check_finite=False)
    kept = values > floor * values[-1]
    kept[-1] = True
    # A column of zeros stays one, whatever rounding left in the vectors.
    return np.sqrt(np.maximum(values[kept], 0))[:, None] * vectors[:, kept].T * scale


def _mean(block: np.ndarray, targets: np.ndarray, weights: np.ndarray | None, total: float) -> np.ndarray:
    # From the first row that counts on: a column that is constant then has that very number for its mean in every
    # block, so that its deviations are zeros and not rounding errors, by which a small penalty would divide.
    first = 0 if weights is None else int(np.argmax(weights > 0))
    pivot = np.concatenate([block[first].astype(np.float64), targets[first]])
    columns = block.shape[1]
    apart = np.zeros(len(pivot))
    scratch = Scratch()
    for low, high in parts(block):
        rows = scratch("rows", (high - low, len(pivot)), np.float64)
        np.subtract(block[low:high], pivot[:columns], out=rows[:, :columns])
        np.subtract(targets[low:high], pivot[columns:], out=rows[:, columns:])
        apart += rows.sum(axis=0) if weights is None else weights[low:high] @ rows
    return pivot + apart / total


def _merge(a: Root, b: Root, gram: bool) -> Root:
    if not a.weight or not b.weight:
        return a if a.weight else b
    weight = a.weight + b.weight
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.weight / weight)
    apart = np.sqrt(a.weight * (b.weight / weight)) * delta
    if gram:
        return Root(weight, mean, a.root + b.root + np.multiply.outer(apart, apart))
    return Root(weight, mean, _triangle(a.root, b.root, apart[None]))


def _triangle(*rows: np.ndarray) -> np.ndarray:
    triangle: np.ndarray = np.linalg.qr(np.concatenate(rows), mode="r")  # type: ignore[assignment]
    return triangle
