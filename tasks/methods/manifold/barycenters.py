"""Rows as weighted means of their neighbours: the weights, and what they say about coordinates.

References
----------
S. T. Roweis, L. K. Saul (2000). Nonlinear dimensionality reduction by locally linear embedding. Science 290, 2323-2326.
L. K. Saul, S. T. Roweis (2003). Think globally, fit locally: unsupervised learning of low dimensional manifolds.
Journal of Machine Learning Research 4, 119-155 (sections 3.2 for the weights, 5.1 for regularisation, 6.1 for rows that
come later).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import eigsh
from sklearn.utils.extmath import svd_flip

from tasks.methods.nearest import nearest_in_block
from tasks.methods.scratch import slices

TILE_VALUES = 1 << 20
"""Differences to neighbours that are held at a time: 8 MB of float64."""

SMALL_ROWS = 200
"""Up to so many rows solver "auto" is dense, as in scikit-learn."""

FEW_COMPONENTS = 8
"""Up to so many components solver "auto" is ARPACK, as in scikit-learn."""


def nearest_others(rows: np.ndarray, k: int) -> np.ndarray:
    """Return the k nearest rows of each row, without itself, nearest first; int64 (n, k)."""
    ids = nearest_in_block(rows, 0, None, rows, k=k + 1, center=rows.mean(axis=0, dtype=np.float64)).ids
    own = ids == np.arange(len(rows))[:, None]
    # Rows that have more than k equals may not be among their own neighbours; then the last is too many.
    place = np.where(own.any(axis=1), own.argmax(axis=1), k)
    others: np.ndarray = ids[np.arange(k + 1) != place[:, None]].reshape(-1, k)
    return others


def barycenter_weights(rows: np.ndarray, points: np.ndarray, neighbors: np.ndarray, reg: float) -> np.ndarray:
    """Find weights of sum 1 with which each row's neighbours come closest to it.

    Parameters
    ----------
    rows : ndarray, shape (m, d)
    points : ndarray, shape (n, d)
    neighbors : ndarray of int64, shape (m, k)
        Rows of `points`.
    reg : float
        Added to the diagonal of the neighbours' Gram matrix, relative to its trace.

    Returns
    -------
    ndarray, float64 (m, k)

    Raises
    ------
    ValueError
        If without regularisation the weights are not determined.
    """
    k = neighbors.shape[1]
    weights = np.empty(neighbors.shape)
    diagonal = np.arange(k)
    for low, high in slices(len(rows), max(1, TILE_VALUES // (k * max(k, rows.shape[1])))):
        apart = points[neighbors[low:high]].astype(np.float64)
        apart -= rows[low:high, None]
        gram = apart @ apart.transpose(0, 2, 1)
        trace = np.trace(gram, axis1=1, axis2=2)
        gram[:, diagonal, diagonal] += np.where(trace > 0, reg * trace, reg)[:, None]
        try:
            found = np.linalg.solve(gram, np.ones((high - low, k, 1)))[:, :, 0]
        except np.linalg.LinAlgError as error:
            raise ValueError(
                f"expected neighbours that determine their weights with reg={reg:g}, received some whose Gram matrix "
                "is singular; raise reg"
            ) from error
        weights[low:high] = found / found.sum(axis=1, keepdims=True)
    return weights


def error_matrix(weights: np.ndarray, neighbors: np.ndarray) -> scipy.sparse.csc_array:
    """Return (I - W)'(I - W), whose quadratic form is what coordinates miss of the weighted means; (n, n)."""
    rows, k = neighbors.shape
    # The identity goes in with the weights: no neighbour is the row itself.
    values = np.column_stack([np.ones(rows), -weights])
    places = np.column_stack([np.arange(rows), neighbors])
    rest = scipy.sparse.csr_array((values.ravel(), places.ravel(), np.arange(rows + 1) * (k + 1)), (rows, rows))
    return scipy.sparse.csc_array(rest.T @ rest)


def lowest_vectors(
    matrix: scipy.sparse.csc_array, count: int, solver: str, tol: float, max_iter: int, random: np.random.RandomState
) -> tuple[np.ndarray, float]:
    """Find the eigenvectors of the lowest eigenvalues but the first.

    Returns
    -------
    vectors : ndarray, float64 (n, count)
        By increasing eigenvalue; the largest entry of each is positive.
    total : float
        Sum of their eigenvalues.

    Raises
    ------
    ValueError
        If solver "arpack" does not succeed. With "auto" the dense solver takes over.
    """
    rows = matrix.shape[0]
    choice = solver
    if solver == "auto":
        choice = "arpack" if rows > SMALL_ROWS and count <= FEW_COMPONENTS else "dense"
    if choice == "arpack" and count + 1 < rows:
        start = random.uniform(-1, 1, rows)
        try:
            values, vectors = eigsh(matrix, count + 1, sigma=0.0, tol=tol, maxiter=max_iter, v0=start)
        except RuntimeError as error:
            if solver == "arpack":
                raise ValueError(
                    f"expected eigen_solver='arpack' to find {count + 1} eigenvectors, received: {error}; "
                    "use eigen_solver='dense', or raise max_iter or reg"
                ) from error
        else:
            order = np.argsort(values)[1:]
            return svd_flip(vectors[:, order], None)[0], float(values[order].sum())
    values, vectors = scipy.linalg.eigh(matrix.toarray(), subset_by_index=(1, count), overwrite_a=True)
    return svd_flip(vectors, None)[0], float(values.sum())


def place_between(block: np.ndarray, sample: np.ndarray, places: np.ndarray, *, k: int, reg: float) -> np.ndarray:
    """Place rows at the weighted means of their neighbours' places; a row of the sample where it is.

    Parameters
    ----------
    block : ndarray, shape (m, d)
    sample : ndarray, shape (n, d)
    places : ndarray, float64 (n, c)
        Of the sample.
    k : int
        Neighbours.
    reg : float
        As in `barycenter_weights`.

    Returns
    -------
    ndarray, float64 (m, c)
    """
    found = nearest_in_block(sample, 0, None, block, k=k, center=sample.mean(axis=0, dtype=np.float64))
    placed = places[found.ids[:, 0]]
    # `reg` would move a row of the sample a little; without it all weight is on the row itself.
    apart = np.flatnonzero(found.squares[:, 0] > 0)
    ids = found.ids[apart]
    placed[apart] = np.einsum("ij,ijl->il", barycenter_weights(block[apart], sample, ids, reg), places[ids])
    return placed
