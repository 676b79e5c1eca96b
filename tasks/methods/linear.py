"""Linear regression from one pass over the data: least squares, ridge, lasso."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import linear_model
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask, map_rows, open_blocks
from tasks.methods.factors import Root, block_root, merge_grams, merge_triangles, square_root
from tasks.methods.inputs import check_matrix, check_targets, check_weights, in_this_process


class _OnRoots:
    """Dask arrays by their root, anything else by scikit-learn's own class, which follows in the order of classes."""

    _unlike: ClassVar[dict[str, Any]]
    fit_intercept: bool
    coef_: np.ndarray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the coefficients.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,) or (n, t)
            Held in this process, 8 bytes per value.
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            Held in this process.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        if not is_dask(X):
            super().fit(X, in_this_process(y), sample_weight=in_this_process(sample_weight))  # type: ignore[misc]
            return self
        X, y = check_targets(self, X, y)
        weights = check_weights(sample_weight, len(y))
        if weights is not None and (weights.min() < 0 or weights.max() <= 0):
            raise ValueError("expected weights of at least 0, not all of them 0, in sample_weight")
        found = self._reduce(X, y.reshape(len(y), -1), weights)
        self._fit_root(found, (len(y), X.shape[1]), flat=y.ndim == 1)
        return self

    def predict(self, X: Any) -> Any:
        """Predict.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, float64 (m,) or (m, t)
        """
        if not is_dask(X):
            return super().predict(X)  # type: ignore[misc]
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(_predicted, coef=self.coef_, intercept=self.intercept_)
        columns = None if self.coef_.ndim == 1 else len(self.coef_)
        return map_rows(X, apply, name=type(self).__name__, phase="predict", columns=columns, dtype=np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        # NumPy, SciPy-sparse and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _reduce(self, X: Any, y: np.ndarray, weights: np.ndarray | None) -> Root:
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            weighed = [None] * len(rows) if weights is None else rows.scatter("weights", weights)
            aligned = (rows.scatter("targets", y), weighed)
            gram = self._by_gram()
            shared = (bool(self.fit_intercept), gram)
            combine = merge_grams if gram else merge_triangles
            found: Root = rows.reduce("root", block_root, *aligned, shared=shared, combine=combine)
        return found._replace(root=square_root(found.root)) if gram else found

    def _fit_root(self, found: Root, shape: tuple[int, int], flat: bool) -> None:
        """Let scikit-learn's own class fit the few rows that stand for all."""
        columns = shape[1]
        own = type(self).__mro__[type(self).__mro__.index(_OnRoots) + 1]
        params = self.get_params(deep=False) | {"fit_intercept": False, "copy_X": False}  # type: ignore[attr-defined]
        inner = own(**params | self._unlike)
        if getattr(self, "warm_start", False) and hasattr(self, "coef_"):
            inner.coef_ = self.coef_
        rows = found.root
        if len(rows) < columns <= shape[0]:
            # As many rows as columns, as in the data, or Ridge takes the dual problem, which may be singular.
            rows = np.pad(rows, ((0, columns - len(rows)), (0, 0)))
        # The sum of squares is that of the data; so is now what scikit-learn divides by its own number of rows.
        rows = rows * self._rescaling(len(rows), found.weight)
        X, y = np.asfortranarray(rows[:, :columns]), rows[:, columns:]
        inner.fit(X, y[:, 0] if flat else y)
        for name, value in vars(inner).items():
            if name.endswith("_") and name not in ("n_features_in_", "intercept_"):
                setattr(self, name, value)
        self.intercept_: Any = 0.0
        if self.fit_intercept:
            mean_y = found.mean[columns] if flat else found.mean[columns:]
            self.intercept_ = mean_y - found.mean[:columns] @ self.coef_.T

    def _by_gram(self) -> bool:
        return True

    def _rescaling(self, rows: int, weight: float) -> float:
        return 1.0


class LinearRegression(_OnRoots, linear_model.LinearRegression):
    """Ordinary least squares.

    Exact, of minimum norm where columns depend on each other. NumPy and SciPy-sparse input is scikit-learn's own work.
    A Dask array is reduced in one pass to the triangle of its QR factorization, in float64, and scikit-learn solves
    that; it loses as few digits as on the whole data, where normal equations lose twice as many.

    Parameters
    ----------
    fit_intercept : bool, default True
    copy_X : bool, default True
        False lets a NumPy array be overwritten.
    tol : float, default 1e-6
        Singular values below it, relative to the largest, count as 0.
    n_jobs : int, optional
        Processes for several targets of sparse or positive problems.
    positive : bool, default False
        Coefficients of at least 0.

    Attributes
    ----------
    coef_ : ndarray, float64 (d,) or (t, d)
    intercept_ : float or ndarray (t,)
    rank_ : int
    singular_ : ndarray (min(n, d),)
        Of the centred data.
    n_features_in_ : int

    Notes
    -----
    With p = d + t: 2 n p^2 operations in one pass, and p^3 in this process. Per task: one block and some 10 p^2 float64
    (or 40 MB). Each task sends p^2 / 2 to p^2 float64, n/b of them in a tree.

    References
    ----------
    See `tasks.methods.factors`.
    """

    _unlike: ClassVar[dict[str, Any]] = {}
    singular_: np.ndarray

    def _by_gram(self) -> bool:
        return False

    def _fit_root(self, found: Root, shape: tuple[int, int], flat: bool) -> None:
        super()._fit_root(found, shape, flat)
        if hasattr(self, "singular_"):
            # The root of few rows has a row more of rounding errors for every two blocks that were put together.
            values = self.singular_[: min(shape)]
            self.singular_ = np.pad(values, (0, min(shape) - len(values)))


class Ridge(_OnRoots, linear_model.Ridge):
    """Least squares with an l2 penalty: ``||y - X w||^2 + alpha ||w||^2``.

    Exact, but that normal equations lose twice the digits: where the columns' means or scales are some 1e6 times their
    deviations and nothing is centred, ask for solver="svd". NumPy and SciPy-sparse input is scikit-learn's own work. A
    Dask array is reduced in one pass to its centred Gram matrix, in float64, or for "svd" to the triangle of its QR
    factorization, and scikit-learn solves that, by the solver that is asked for.

    Parameters
    ----------
    alpha : float or array-like of shape (t,), default 1.0
        Weight of the penalty, at least 0.
    fit_intercept : bool, default True
    copy_X : bool, default True
        False lets a NumPy array be overwritten.
    max_iter : int, optional
    tol : float, default 1e-4
        Of iterative solvers.
    solver : str, default "auto"
        For a Dask array "svd" loses the fewest digits and costs twice the others; "auto" solves the normal equations.
    positive : bool, default False
        Coefficients of at least 0.
    random_state : int, RandomState or None
        Of the solvers "sag" and "saga".

    Attributes
    ----------
    coef_ : ndarray, float64 (d,) or (t, d)
    intercept_ : float or ndarray (t,)
    n_iter_ : None or ndarray (t,)
    solver_ : str
    n_features_in_ : int

    Notes
    -----
    With p = d + t: n p^2 operations in one pass, and some p^3 in this process. Per task: one block, 16 MB and two p x p
    matrices of float64. Each task sends p^2 float64, n/b of them in a tree.

    References
    ----------
    A. E. Hoerl, R. W. Kennard (1970). Ridge regression: biased estimation for nonorthogonal problems. Technometrics
    12(1), 55-67. See `tasks.methods.factors`.
    """

    _unlike: ClassVar[dict[str, Any]] = {}

    def _by_gram(self) -> bool:
        return bool(self.solver != "svd")


class Lasso(_OnRoots, linear_model.Lasso):
    """Least squares with an l1 penalty: ``||y - X w||^2 / (2 n) + alpha ||w||_1``.

    As exact as `tol` asks, on scikit-learn's scale. NumPy and SciPy-sparse input is scikit-learn's own work. A Dask
    array is reduced in one pass to its centred Gram matrix, in float64; scikit-learn's coordinate descent on Gram
    matrices then takes the steps that it would take with `precompute`.

    Parameters
    ----------
    alpha : float, default 1.0
        Weight of the penalty.
    fit_intercept : bool, default True
    precompute : bool or array-like of shape (d, d), default False
        For NumPy input; of a Dask array the Gram matrix is always computed.
    copy_X : bool, default True
        False lets a NumPy array be overwritten.
    max_iter : int, default 1000
        Most rounds over the coordinates.
    tol : float, default 1e-4
        Ends the descent when the dual gap is this share of ``||y||^2``.
    warm_start : bool, default False
        Begin at the coefficients of the last fit.
    positive : bool, default False
        Coefficients of at least 0.
    random_state : int, RandomState or None
        Of the selection "random".
    selection : {"cyclic", "random"}, default "cyclic"

    Attributes
    ----------
    coef_ : ndarray, float64 (d,) or (t, d)
    intercept_ : float or ndarray (t,)
    dual_gap_ : float or ndarray (t,)
    n_iter_ : int or list of int
    n_features_in_ : int

    Notes
    -----
    Cost as `Ridge`, and in this process d^2 operations per round.

    References
    ----------
    R. Tibshirani (1996). Regression shrinkage and selection via the lasso. J. Royal Statistical Society B 58(1),
    267-288. J. Friedman, T. Hastie, R. Tibshirani (2010). Regularization paths for generalized linear models via
    coordinate descent. J. Statistical Software 33(1), section 2.2 (covariance updates). See `tasks.methods.factors`.
    """

    _unlike: ClassVar[dict[str, Any]] = {"precompute": True}

    def _rescaling(self, rows: int, weight: float) -> float:
        return float(np.sqrt(rows / weight))


def _predicted(block: np.ndarray, coef: np.ndarray, intercept: Any) -> np.ndarray:
    result: np.ndarray = block.astype(np.float64) @ coef.T + intercept
    return result
