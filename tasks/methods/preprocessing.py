"""Scaling of columns in one pass."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from sklearn import preprocessing
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask, map_rows, open_blocks
from tasks.methods.inputs import check_matrix
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.reading import working_dtype


class StandardScaler(preprocessing.StandardScaler):
    """Centre every column and divide it by its standard deviation.

    Exact. NumPy and SciPy-sparse input is scikit-learn's own work, with everything it offers. A Dask array is fitted
    in one pass, and transformed lazily; unlike scikit-learn's, this refuses NaN there. (dask-ml's scaler writes into
    the NumPy array that it transforms, and does not see that the rounded variance of a constant column is zero.)

    Parameters
    ----------
    copy : bool, default True
        False lets a NumPy array be scaled in place.
    with_mean, with_std : bool, default True

    Attributes
    ----------
    mean_, var_, scale_ : ndarray, float64 (d,), or None
    n_samples_seen_ : int
    n_features_in_ : int

    Notes
    -----
    Per task: one block, and 4096 rows of it in float64. Each task sends 2 d values, n/b of them in a tree.

    References
    ----------
    See `tasks.methods.moments`.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find mean and standard deviation of the columns.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        sample_weight : array-like, shape (n,), optional
            For NumPy input only.
        """
        if not is_dask(X):
            super().fit(X, y, sample_weight)
            return self
        if sample_weight is not None:
            raise ValueError("expected no sample_weight with a Dask array, received one; scale it before, or use NumPy")
        self._reset()
        X = check_matrix(self, X, reset=True)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            count, mean, scatter = rows.reduce("moments", column_moments, combine=merge_moments)
        variance = scatter / count
        self.n_samples_seen_ = count
        self.mean_ = mean if self.with_mean or self.with_std else None
        self.var_ = variance if self.with_std else None
        self.scale_ = _scale(variance, mean, count) if self.with_std else None
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Add rows of a NumPy array or sparse matrix to what was fitted."""
        if is_dask(X):
            raise TypeError("expected a NumPy array, received a Dask array; use fit, which is one pass over it")
        super().partial_fit(X, y, sample_weight)
        return self

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Scale; a Dask array lazily, to float32 or float64."""
        if not is_dask(X):
            return super().transform(X, copy)
        return self._map(X, _scaled, "transform")

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Scale back; a Dask array lazily."""
        if not is_dask(X):
            return super().inverse_transform(X, copy)
        return self._map(X, _unscaled, "inverse_transform")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # NumPy and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _map(self, X: Any, function: Any, phase: str) -> Any:
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        dtype = working_dtype(X.dtype)
        mean = self.mean_ if self.with_mean else None
        apply = partial(function, mean=mean, scale=self.scale_, dtype=dtype)
        return map_rows(X, apply, name=type(self).__name__, phase=phase, columns=X.shape[1], dtype=dtype)


def _scale(variance: np.ndarray, mean: np.ndarray, count: int) -> np.ndarray:
    # A column is constant if its variance is within the rounding error of its computation (as in scikit-learn).
    eps = np.finfo(np.float64).eps
    constant = variance <= count * eps * variance + (count * mean * eps) ** 2
    scale = np.sqrt(variance)
    scale[constant | (scale == 0)] = 1.0
    return scale


def _scaled(block: np.ndarray, mean: np.ndarray | None, scale: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    result = block.astype(np.float64)
    if mean is not None:
        result -= mean
    if scale is not None:
        result /= scale
    return result.astype(dtype)


def _unscaled(block: np.ndarray, mean: np.ndarray | None, scale: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    result = block.astype(np.float64)
    if scale is not None:
        result *= scale
    if mean is not None:
        result += mean
    return result.astype(dtype)
