"""Principal components as a model of the data: Gaussian along the components, and noise of one variance beside them.

References
----------
M. E. Tipping, C. M. Bishop (1999). Probabilistic principal component analysis. J. Royal Statistical Society B 61(3),
611-622, section 3.
T. P. Minka (2000). Automatic choice of dimensionality for PCA. NIPS 13, 598-604, equation 77 and section 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from tasks.methods.scratch import parts


class Model(NamedTuple):
    """A Gaussian of d columns."""

    mean: np.ndarray
    """float64 (d,)."""
    axes: np.ndarray
    """Orthonormal rows, float64 (k, d)."""
    variances: np.ndarray
    """Along the axes, the noise included, float64 (k,)."""
    noise: float
    """Variance in every other direction; 0 if there is none."""


def covariance_of(model: Model) -> np.ndarray:
    """Return the covariance, float64 (d, d)."""
    covariance: np.ndarray = (model.axes.T * (model.variances - model.noise)) @ model.axes
    covariance[np.diag_indices_from(covariance)] += model.noise
    return covariance


def precision_of(model: Model) -> np.ndarray:
    """Return the inverse of the covariance, float64 (d, d).

    Raises
    ------
    numpy.linalg.LinAlgError
        If it has none.
    """
    check_rank(model)
    beside = 1 / model.noise if model.noise > 0 else 0.0
    precision: np.ndarray = (model.axes.T * (1 / model.variances - beside)) @ model.axes
    precision[np.diag_indices_from(precision)] += beside
    return precision


def check_rank(model: Model) -> None:
    """Refuse a covariance without an inverse.

    Raises
    ------
    numpy.linalg.LinAlgError
    """
    kept, columns = model.axes.shape
    least = model.variances.max(initial=0) * columns * np.finfo(np.float64).eps
    whole = kept == columns or model.noise > least
    if not whole or not (model.variances > least).all():
        raise np.linalg.LinAlgError(
            f"expected a covariance that has an inverse, received one of {kept} components and noise variance "
            f"{model.noise:.3g} in {columns} columns; keep fewer components, so that the noise has a variance"
        )


def log_likelihood(block: np.ndarray, model: Model, dtype: np.dtype) -> np.ndarray:
    """Return the log of the density at each row, (rows,), computed in float64."""
    kept, columns = model.axes.shape
    constant = columns * np.log(2 * np.pi) + np.log(model.variances).sum()
    if kept < columns:
        constant += (columns - kept) * np.log(model.noise)
    result = np.empty(len(block), dtype)
    for low, high in parts(block):
        rows = block[low:high] - model.mean
        along = rows @ model.axes.T
        squares = (along**2 / model.variances).sum(axis=1)
        if kept < columns:
            rows -= along @ model.axes
            squares += np.einsum("ij,ij->i", rows, rows) / model.noise
        result[low:high] = -0.5 * (squares + constant)
    return result


def likely_dimension(variances: np.ndarray, rows: int) -> int:
    """Return Minka's estimate of how many components the data has, 1 to d - 1 (0 if d is 1).

    Parameters
    ----------
    variances : ndarray, float64 (d,)
        Of all components, descending.
    rows : int
        Number of rows that they are of.
    """
    evidence = [_evidence(variances, rank, rows) for rank in range(1, len(variances))]
    return 1 + int(np.argmax(evidence)) if evidence else 0


def _evidence(variances: np.ndarray, rank: int, rows: int) -> float:
    columns = len(variances)
    tiny = 1e-15
    if variances[rank - 1] < tiny:  # as in scikit-learn: such a rank is never the best
        return -np.inf
    free = columns - np.arange(rank)
    found = -rank * np.log(2.0) + (gammaln(free / 2) - np.log(np.pi) * free / 2).sum()
    noise = max(tiny, variances[rank:].sum() / (columns - rank))
    found -= rows / 2 * (np.log(variances[:rank]).sum() + (columns - rank) * np.log(noise))
    parameters = columns * rank - rank * (rank + 1) / 2
    found += np.log(2 * np.pi) * (parameters + rank) / 2 - rank * np.log(rows) / 2
    flat = np.where(np.arange(columns) < rank, variances, noise)
    first, second = np.triu_indices(rank, 1, columns)
    # Equal variances have no curvature between them; scikit-learn's logarithm fails there.
    gaps = (variances[first] - variances[second]) * (1 / flat[second] - 1 / flat[first])
    curvature = (np.log(np.maximum(gaps, np.finfo(np.float64).tiny)) + np.log(rows)).sum()
    return float(found - curvature / 2)
