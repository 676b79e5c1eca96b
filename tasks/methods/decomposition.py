"""Principal components in one pass."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.extmath import svd_flip
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask, map_rows, open_blocks
from tasks.methods.inputs import check_matrix
from tasks.methods.moments import cross_moments, merge_moments
from tasks.methods.reading import working_dtype


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal components, from the eigenvectors of the covariance.

    Exact up to rounding: the covariance is summed in float64 about the blocks' own means, so large offsets do no harm.
    As with scikit-learn's solver "covariance_eigh", singular values below 1e-8 of the largest are noise. Signs are
    scikit-learn's: the entry of largest magnitude in each component is positive.

    Parameters
    ----------
    n_components : int, float or None, default None
        How many components to keep; a number between 0 and 1 keeps as many as explain this share of the variance;
        None keeps min(n, d).
    whiten : bool, default False
        Divide the transformed columns by their standard deviations.

    Attributes
    ----------
    components_ : ndarray (k, d)
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray (k,)
    mean_ : ndarray (d,)
    noise_variance_ : float
        Mean variance of the components left out.
    n_components_, n_samples_, n_features_in_ : int

    Notes
    -----
    One pass, n d^2 operations, then d^3 in this process. Per task: one block, 4096 rows of it in float64 and two d x d
    matrices; a combining task holds nine of them. Each task sends one d x d matrix of float64 (5 MB at d = 784,
    134 MB at d = 4096), n/b of them in a tree.

    References
    ----------
    I. T. Jolliffe (2002). Principal Component Analysis, 2nd ed., sections 1.1 and 3.5. For the sums, see
    `tasks.methods.moments`.
    """

    def __init__(self, n_components: int | float | None = None, *, whiten: bool = False) -> None:
        self.n_components = n_components
        self.whiten = whiten

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
            At least two rows.

        Raises
        ------
        ValueError
            If n_components is neither a count up to min(n, d) nor a share, or the data is not usable.
        """
        X = check_matrix(self, X, reset=True, rows=2)
        limit = min(X.shape)
        _check_components(self.n_components, limit)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            count, mean, scatter = rows.reduce("covariance", cross_moments, combine=merge_moments)
            dtype = rows.dtype
            covariance = scatter / (count - 1)
            total = float(np.trace(covariance))
            known = int(self.n_components) if isinstance(self.n_components, Integral) else limit
            variance, components = _eigenvectors(covariance, known)
        ratio = variance / total if total > 0 else np.zeros_like(variance)
        kept = _count(self.n_components, ratio)
        self.n_samples_ = int(count)
        self.n_components_ = kept
        self.mean_ = mean.astype(dtype)
        self.components_ = components[:kept].astype(dtype)
        self.explained_variance_ = variance[:kept].astype(dtype)
        self.explained_variance_ratio_ = ratio[:kept].astype(dtype)
        self.singular_values_ = np.sqrt(variance[:kept] * (count - 1)).astype(dtype)
        rest = max(total - float(variance[:kept].sum()), 0.0)
        self.noise_variance_ = rest / (limit - kept) if kept < limit else 0.0
        return self

    def transform(self, X: Any) -> Any:
        """Project on the components.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, k)
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        axes = self.components_.astype(np.float64)
        if self.whiten:
            axes /= self._deviations()[:, None]
        return self._map(X, axes.T, self.mean_ @ axes.T, "transform", self.n_components_)

    def inverse_transform(self, X: Any) -> Any:
        """Return to the space of the data, without what the components left out.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, k)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, d)
        """
        check_is_fitted(self)
        if not is_dask(X):
            X = np.asarray(X, dtype=working_dtype(np.asarray(X).dtype))
        if X.ndim != 2 or X.shape[1] != self.n_components_:
            raise ValueError(f"expected {self.n_components_} columns, one per component, received shape {X.shape}")
        axes = self.components_.astype(np.float64)
        if self.whiten:
            axes *= self._deviations()[:, None]
        return self._map(X, axes, -self.mean_.astype(np.float64), "inverse_transform", self.n_features_in_)

    @property
    def _n_features_out(self) -> int:
        # Read by ClassNamePrefixFeaturesOutMixin.
        return int(self.components_.shape[0])

    def _deviations(self) -> np.ndarray:
        # As in scikit-learn: a component without variance must not divide by zero.
        deviations: np.ndarray = np.sqrt(self.explained_variance_.astype(np.float64))
        return np.maximum(deviations, np.finfo(self.explained_variance_.dtype).eps)

    def _map(self, X: Any, matrix: np.ndarray, shift: np.ndarray, phase: str, columns: int) -> Any:
        dtype = working_dtype(X.dtype)
        apply = partial(_project, matrix=matrix.astype(dtype), shift=shift, dtype=dtype)
        return map_rows(X, apply, name=type(self).__name__, phase=phase, columns=columns, dtype=dtype)


def _check_components(wanted: Any, limit: int) -> None:
    whole = isinstance(wanted, Integral)
    if wanted is None or (whole and not isinstance(wanted, bool) and 1 <= int(wanted) <= limit):
        return
    if isinstance(wanted, Real) and not whole and 0 < float(wanted) < 1:
        return
    raise ValueError(
        f"expected n_components as a count from 1 to min(n_samples, n_features)={limit}, a share between 0 and 1, "
        f"or None, received {wanted!r}"
    )


def _eigenvectors(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, none below zero, and their eigenvectors as rows, signs settled."""
    size = len(covariance)
    wanted = (size - count, size - 1) if count < size else None
    values, vectors = scipy.linalg.eigh(covariance, subset_by_index=wanted)
    _, vectors = svd_flip(None, vectors.T[::-1], u_based_decision=False)
    return np.maximum(values[::-1], 0.0), vectors


def _count(wanted: Any, ratio: np.ndarray) -> int:
    if wanted is None:
        return len(ratio)
    if isinstance(wanted, Integral):
        return int(wanted)
    # Strictly more than the share, as in scikit-learn.
    return min(int(np.searchsorted(np.cumsum(ratio), wanted, side="right")) + 1, len(ratio))


def _project(block: np.ndarray, matrix: np.ndarray, shift: np.ndarray, dtype: np.dtype) -> np.ndarray:
    result: np.ndarray = (block @ matrix - shift).astype(dtype)
    return result
