"""Decisions of all pairs of classes from their support vectors, which the pairs share."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from tasks.methods.kernel_svm.kernels import Kernel
from tasks.methods.kernel_svm.pairs import pairs_of
from tasks.methods.scratch import slices

TILE_ROWS, TILE_VECTORS = 1024, 2048
"""Kernel values are computed in tiles of at most so many rows and support vectors: 8 MB of float32."""


def decide(
    X: Any, vectors: Any, coefficients: np.ndarray, *, kernel: Kernel, counts: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """Return the decision of each pair; above 0 stands for its first class.

    Parameters
    ----------
    X : ndarray or sparse matrix, shape (m, d)
    vectors : ndarray or sparse matrix, shape (support vectors, d)
        Grouped by class.
    coefficients, counts, offsets
        As in `Machine`.
    kernel : Kernel

    Returns
    -------
    ndarray, float64 (m, pairs)
        Kernel values and their products with the coefficients in the data's dtype, sums over tiles in float64.
    """
    if sparse.issparse(X) and not sparse.issparse(vectors):
        X = X.toarray()
    elif sparse.issparse(vectors) and not sparse.issparse(X):
        X = sparse.csr_matrix(X)
    if not sparse.issparse(X):
        # A machine fitted in float32 decides about float64 as exactly as it can, and the other way round.
        dtype = np.result_type(X.dtype, vectors.dtype)
        X, vectors = X.astype(dtype, copy=False), vectors.astype(dtype, copy=False)
    dense_rbf = kernel.name == "rbf" and not sparse.issparse(X)
    center = vectors.mean(axis=0, dtype=np.float64).astype(vectors.dtype) if dense_rbf and len(vectors) else None
    classes = len(counts)
    starts = np.cumsum(counts) - counts
    own = np.zeros((X.shape[0], classes, classes - 1))
    for c in range(classes):
        for first, last in slices(int(counts[c]), TILE_VECTORS):
            tile = slice(starts[c] + first, starts[c] + last)
            part = vectors[tile] if center is None else vectors[tile] - center
            weights = np.ascontiguousarray(coefficients[:, tile].T, dtype=part.dtype)
            for low, high in slices(X.shape[0], TILE_ROWS):
                rows = X[low:high] if center is None else X[low:high] - center
                own[low:high, c] += kernel(rows, part) @ weights
    decisions = np.empty((X.shape[0], len(offsets)))
    for column, (i, j) in enumerate(pairs_of(classes)):
        decisions[:, column] = own[:, i, j - 1] + own[:, j, i] + offsets[column]
    return decisions


def weights_of_pairs(vectors: Any, coefficients: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the weights of the columns for each pair of classes, of the linear kernel; float64 (pairs, d).

    Parameters
    ----------
    vectors, coefficients, counts
        As in `decide`, of two classes with one row of coefficients.
    """
    ends = np.cumsum(counts)
    own = [
        np.asarray((vectors[end - n : end].T @ coefficients[:, end - n : end].T).T, np.float64)
        for n, end in zip(counts, ends, strict=True)
    ]
    return np.stack([own[i][j - 1] + own[j][i] for i, j in pairs_of(len(counts))])


def winners(decisions: np.ndarray, classes: int) -> np.ndarray:
    """Return the class with most votes of each row, the lowest of equals; intp (m,)."""
    chosen: np.ndarray = _votes(decisions, classes)[0].argmax(axis=1)
    return chosen


def against_rest(decisions: np.ndarray, classes: int) -> np.ndarray:
    """Return votes of each class, ties broken by the sum of its decisions squeezed into (-1/3, 1/3); (m, classes)."""
    votes, sums = _votes(decisions, classes)
    scores: np.ndarray = votes + sums / (3 * (np.abs(sums) + 1))
    return scores


def _votes(decisions: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    votes = np.zeros((len(decisions), classes))
    sums = np.zeros((len(decisions), classes))
    for column, (i, j) in enumerate(pairs_of(classes)):
        values = decisions[:, column]
        sums[:, i] += values
        sums[:, j] -= values
        votes[:, i] += values > 0
        votes[:, j] += values <= 0
    return votes, sums
