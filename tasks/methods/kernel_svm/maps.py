"""Approximate feature maps of kernels: what a linear method needs to do the work of one with a kernel."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Self

import numpy as np
from scipy.linalg import svd
from sklearn import kernel_approximation
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask, open_blocks
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.kernel_svm.kernels import total_variance
from tasks.methods.kernel_svm.lazily import map_rows_holding
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.reading import working_dtype
from tasks.methods.scratch import slices

TILE_ROWS = 1024
"""Rows of a block whose kernel values are held at a time."""

LEAST_SINGULAR = 1e-12
"""Singular values of the sample's kernel below this count as this; scikit-learn's number."""


class Nystroem(kernel_approximation.Nystroem):
    """Map rows so that inner products approximate a kernel, by the kernel's values with a sample of the rows.

    Approximate: exact on the rows of the sample, and better elsewhere the larger the sample. NumPy and SciPy-sparse
    input is scikit-learn's own work. Of a Dask array the same rows are chosen as scikit-learn would with the same
    seed, by position, so chunks make no difference. ``make_pipeline(Nystroem(n_components=1000), LinearSVC())`` is the
    road to a kernel machine where `SVC` is too slow or its pairs of classes too large.

    Parameters
    ----------
    kernel : str or callable, default "rbf"
        As in `sklearn.metrics.pairwise.pairwise_kernels`; "precomputed" not for Dask arrays.
    gamma, coef0, degree : float, optional
        Of the kernel. None is the kernel's own default; 1 / d for gamma, which suits data scaled to unit variance.
    kernel_params : dict, optional
    n_components : int, default 100
        Rows of the sample, and columns of the result.
    random_state : int, RandomState or None, default None
    n_jobs : int, optional
        For NumPy input; Dask arrays are worked on by Dask's workers.

    Attributes
    ----------
    components_ : ndarray (q, d)
        The sample, in the dtype of the data.
    component_indices_ : ndarray of int64 (q,)
        Its positions in the training data.
    normalization_ : ndarray (q, q)
        Inverse square root of the sample's kernel matrix; on Dask always computed in float64.
    n_features_in_ : int

    Notes
    -----
    The fit reads the rows of the sample in one pass, and holds the q d values of the sample and three q x q matrices
    of float64 in this process, where it takes some 20 q^3 operations. To map a block of m rows takes
    m q (2 d + 2 q) operations, the m q values of the result, q (d + q) for the sample and its kernel, and a tile of
    1024 rows. In float32 singular values below float32's rounding count as that: smaller ones would multiply the
    rounding of the kernel's values.

    References
    ----------
    C. Williams, M. Seeger (2001). Using the Nystrom method to speed up kernel machines. NIPS 13, 682-688.
    P. Drineas, M. Mahoney (2005). On the Nystrom method for approximating a Gram matrix. JMLR 6, 2153-2175.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw the sample.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        if not is_dask(X):
            super().fit(X, y)
            return self
        check_least("n_components", self.n_components, 1)
        settings = self._settings()
        X = check_matrix(self, X, reset=True)
        count = X.shape[0]
        if self.n_components > count:
            warnings.warn(
                f"Nystroem takes all {count} rows, fewer than n_components={self.n_components}; lower n_components",
                stacklevel=2,
            )
        chosen = check_random_state(self.random_state).permutation(count)[: self.n_components]
        order = np.argsort(chosen)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            sample = np.empty((len(chosen), rows.shape[1]), rows.dtype)
            sample[order] = rows.take(chosen[order], "sample")
        values = pairwise_kernels(sample.astype(np.float64), metric=self.kernel, filter_params=True, **settings)
        self.normalization_ = _inverse_root(values, sample.dtype).astype(sample.dtype)
        self.components_, self.component_indices_ = sample, chosen
        self._n_features_out = len(chosen)
        return self

    def transform(self, X: Any) -> Any:
        """Map rows; a Dask array lazily, to float32 or float64 (n, q)."""
        if not is_dask(X):
            return super().transform(X)
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        dtype = working_dtype(X.dtype)
        return map_rows_holding(
            X,
            partial(_mapped, kernel=self.kernel, settings=self._settings()),
            {"sample": self.components_.astype(dtype), "root": self.normalization_.astype(dtype)},
            name=type(self).__name__,
            phase="transform",
            columns=len(self.components_),
            dtype=dtype,
        )

    def _settings(self) -> dict[str, Any]:
        """Return the parameters of the kernel for Dask arrays."""
        if isinstance(self.kernel, str) and self.kernel == "precomputed":
            raise ValueError(
                "expected a kernel that is computed from rows for a Dask array, received 'precomputed'; name the "
                "kernel, or use NumPy"
            )
        given = {word: getattr(self, word) for word in ("gamma", "coef0", "degree") if getattr(self, word) is not None}
        if callable(self.kernel) and given:
            raise ValueError(
                f"expected no {', '.join(given)} with a callable kernel, received {given}; use kernel_params"
            )
        return {**(self.kernel_params or {}), **given}


class RBFSampler(kernel_approximation.RBFSampler):
    """Map rows so that inner products approximate the RBF kernel, by random cosines.

    Approximate: the error of a kernel value falls with the root of `n_components`. NumPy and SciPy-sparse input is
    scikit-learn's own work. Of a Dask array the fit needs the width only, and with ``gamma="scale"`` one pass; the
    draw is scikit-learn's for the same seed. At equal `n_components`, `Nystroem` is closer where the kernel's
    eigenvalues fall quickly, as on images; this one costs less.

    Parameters
    ----------
    gamma : "scale" or float, default 1.0
        exp(-gamma |x - z|^2); "scale" is 1 / (d times the variance of all values).
    n_components : int, default 100
        Columns of the result.
    random_state : int, RandomState or None, default None

    Attributes
    ----------
    random_weights_ : ndarray (d, q)
    random_offset_ : ndarray (q,)
    n_features_in_ : int

    Notes
    -----
    To map a block of m rows takes 2 m d q operations, the m q values of the result and the d q weights. Without
    ``gamma="scale"`` NaN and infinities are found when rows are mapped.

    References
    ----------
    A. Rahimi, B. Recht (2007). Random features for large-scale kernel machines. NIPS 20, 1177-1184.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Draw weights and offsets.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        """
        if not is_dask(X):
            super().fit(X, y)
            return self
        X = check_matrix(self, X, reset=True)
        gamma = self.gamma
        if isinstance(gamma, str) and gamma == "scale":
            with open_blocks(X, name=type(self).__name__, passes=1) as rows:
                variance = total_variance(rows.reduce("moments", column_moments, combine=merge_moments))
            gamma = 1.0 / (X.shape[1] * variance) if variance else 1.0
        # The draw takes no more of the data than its width and dtype.
        row = np.zeros((1, X.shape[1]), working_dtype(X.dtype))
        drawn = kernel_approximation.RBFSampler(**{**self.get_params(), "gamma": gamma}).fit(row)
        self.random_weights_, self.random_offset_ = drawn.random_weights_, drawn.random_offset_
        self._n_features_out = self.n_components
        return self

    def transform(self, X: Any) -> Any:
        """Map rows; a Dask array lazily, to float32 or float64 (n, q)."""
        if not is_dask(X):
            return super().transform(X)
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        dtype = working_dtype(X.dtype)
        return map_rows_holding(
            X,
            _cosines,
            {"weights": self.random_weights_.astype(dtype), "offset": self.random_offset_.astype(dtype)},
            name=type(self).__name__,
            phase="transform",
            columns=len(self.random_offset_),
            dtype=dtype,
        )


def _inverse_root(kernel: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the inverse square root of a kernel matrix, float64, fit for kernel values of this dtype."""
    left, singular, right = svd(kernel)
    least = LEAST_SINGULAR
    if dtype == np.float32:
        least = max(least, float(np.finfo(np.float32).eps) * float(np.abs(np.diagonal(kernel)).max()))
    root: np.ndarray = (left / np.sqrt(np.maximum(singular, least))) @ right
    return root


def _mapped(block: np.ndarray, sample: np.ndarray, root: np.ndarray, kernel: Any, settings: dict) -> np.ndarray:
    result = np.empty((len(block), len(sample)), block.dtype)
    for low, high in slices(len(block), TILE_ROWS):
        values = pairwise_kernels(block[low:high], sample, metric=kernel, filter_params=True, **settings)
        np.matmul(values.astype(block.dtype, copy=False), root.T, out=result[low:high])
    return result


def _cosines(block: np.ndarray, weights: np.ndarray, offset: np.ndarray) -> np.ndarray:
    result: np.ndarray = block @ weights
    result += offset
    np.cos(result, out=result)
    result *= (2.0 / len(offset)) ** 0.5
    return result
