"""Scaling of columns by their extremes, in one pass."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from sklearn import preprocessing
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask, map_rows, open_blocks
from tasks.methods.inputs import check_matrix
from tasks.methods.reading import working_dtype


class _Extremes:
    """Dask arrays block by block, anything else by scikit-learn's own class, which follows in the order of classes."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the extremes of the columns.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
            A Dask array must not hold NaN.
        """
        if not is_dask(X):
            super().fit(X, y)  # type: ignore[misc]
            return self
        self._reset()  # type: ignore[attr-defined]
        X = check_matrix(self, X, reset=True)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            extremes = rows.reduce("extremes", _block_extremes, combine=_wider)
        # Of scikit-learn's own: all else depends on the extremes only, so it is fitted on the two.
        super().fit(extremes)  # type: ignore[misc]
        self.n_samples_seen_ = X.shape[0]
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Add rows of a NumPy array or sparse matrix to what was fitted."""
        if is_dask(X):
            raise TypeError("expected a NumPy array, received a Dask array; use fit, which is one pass over it")
        super().partial_fit(X, y)  # type: ignore[misc]
        return self

    def transform(self, X: Any) -> Any:
        """Scale; a Dask array lazily, to float32 or float64."""
        return self._each(X, "transform")

    def inverse_transform(self, X: Any) -> Any:
        """Scale back; a Dask array lazily."""
        return self._each(X, "inverse_transform")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        # NumPy, SciPy-sparse and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _each(self, X: Any, word: str) -> Any:
        if not is_dask(X):
            return getattr(super(), word)(X)
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(_applied, estimator=self, word=word)
        dtype = working_dtype(X.dtype)
        return map_rows(X, apply, name=type(self).__name__, phase=word, columns=X.shape[1], dtype=dtype)


class MinMaxScaler(_Extremes, preprocessing.MinMaxScaler):
    """Scale every column to a range, by its least and greatest value.

    Exact. NumPy input is scikit-learn's own work. A Dask array is fitted in one pass and transformed lazily.

    Parameters
    ----------
    feature_range : (float, float), default (0, 1)
    copy : bool, default True
    clip : bool, default False
        Cut what is outside of the range.

    Attributes
    ----------
    min_, scale_, data_min_, data_max_, data_range_ : ndarray (d,)
    n_samples_seen_, n_features_in_ : int

    Notes
    -----
    Per task: one block. Each task sends 2 d numbers, n/b of them in a tree.
    """


class MaxAbsScaler(_Extremes, preprocessing.MaxAbsScaler):
    """Divide every column by its greatest absolute value.

    Exact. NumPy and SciPy-sparse input is scikit-learn's own work. A Dask array is fitted in one pass and transformed
    lazily.

    Parameters
    ----------
    copy : bool, default True
    clip : bool, default False
        With scikit-learn 1.8 or later.

    Attributes
    ----------
    scale_, max_abs_ : ndarray (d,)
    n_samples_seen_, n_features_in_ : int

    Notes
    -----
    Per task: one block. Each task sends 2 d numbers, n/b of them in a tree.
    """


def _block_extremes(block: np.ndarray) -> np.ndarray:
    return np.stack([block.min(axis=0), block.max(axis=0)])


def _wider(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([np.minimum(a[0], b[0]), np.maximum(a[1], b[1])])


def _applied(block: np.ndarray, estimator: Any, word: str) -> np.ndarray:
    result: np.ndarray = getattr(estimator, word)(block)
    return result
