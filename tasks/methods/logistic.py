"""Logistic regression over row blocks."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Self

import dask.threaded
import numpy as np
from scipy.sparse import issparse
from sklearn import linear_model
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import VIEW_BYTES, is_dask, map_rows, open_blocks
from tasks.methods.execution import Scheduled
from tasks.methods.inputs import check_labelled, check_matrix, check_weights, in_this_process
from tasks.methods.softmax import LogisticLoss, minimize_loss
from tasks.methods.threads import one_blas_thread


class LogisticRegression(linear_model.LogisticRegression):
    """Logistic regression of two or more classes (multinomial), with an l2 penalty.

    Exact: scikit-learn's problem and its stopping rule, ``max |gradient| <= tol`` of the objective divided by the
    weight of all rows. With the solver "lbfgs" NumPy and Dask arrays are fitted by L-BFGS in whitened coordinates,
    which takes fewer passes than scikit-learn's own and needs no scaled columns; NumPy data of over 32 MB is shared by
    Dask's threads. SciPy-sparse input, and NumPy input for other solvers or penalties, is scikit-learn's own work. The
    blocks of a Dask array may be SciPy-sparse.

    Parameters
    ----------
    C : float, default 1.0
        Weight of the loss; infinity is no penalty.
    tol : float, default 1e-4
    fit_intercept : bool, default True
        The intercept is not penalised.
    class_weight : dict, "balanced" or None, default None
        Multiplies the weights of the rows of a class.
    max_iter : int, default 100
        Most iterations of L-BFGS.
    warm_start : bool, default False
        Begin at the coefficients of the last fit.
    solver, penalty, l1_ratio, dual, intercept_scaling, random_state, verbose, n_jobs
        As in scikit-learn; Dask arrays take "lbfgs" and the l2 penalty only.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray, float64 (classes, d), or (1, d) for two classes
    intercept_ : ndarray, float64 (classes,) or (1,)
    n_iter_ : ndarray (1,)
        Iterations of L-BFGS.
    n_features_in_ : int

    Notes
    -----
    A pass per iteration, and a few more: 4 n d k operations each for k classes, in the dtype of the data, and at the
    end of float32 data at least one in float64. If d <= 2048 the coordinates come from 8 d rows (at least 4096), 8 d^3
    operations, and d^3 in this process; otherwise from the squares of the columns. Per task: one block of b rows, its
    labels and weights, and 3 MB, or at the start 16 MB and two d x d matrices; b k values more for a sparse block.
    Each task sends k d float64 per pass, at the start d^2, n/b of them in a tree, and gets k d. This process holds
    20 k d float64.

    References
    ----------
    See `tasks.methods.softmax`.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the coefficients.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,)
            Labels of any type, of at least two classes; held in this process.
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            Held in this process.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable, or there is one class only.
        """
        if not is_dask(X) and (issparse(X) or not self._is_plain()):
            super().fit(X, in_this_process(y), in_this_process(sample_weight))
            return self
        if not self._is_plain():
            raise ValueError(
                f"expected the solver 'lbfgs' and an l2 penalty for a Dask array, received {self!r}; C=np.inf is no "
                "penalty; for another solver or penalty use NumPy input"
            )
        self._validate_params()
        X, self.classes_, codes = check_labelled(self, X, y)
        if len(self.classes_) < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{self.classes_.tolist()[0]!r}"
            )
        weights = self._row_weights(codes, sample_weight)
        total = float(len(codes) if weights is None else weights.sum())
        # The products are narrow: BLAS threads of their own gain little, and wait for each other where others work.
        engine = Scheduled(dask.threaded.get) if not is_dask(X) and X.nbytes > VIEW_BYTES else None
        with (
            one_blas_thread(),
            open_blocks(X, name=type(self).__name__, passes=100, engine=engine, sparse=True) as rows,
        ):
            loss = LogisticLoss(rows, codes, weights, len(self.classes_), 1 / (self.C * total), self.fit_intercept)
            solution = minimize_loss(loss, self._start(loss.shape), rows.dtype, self.tol, self.max_iter)
        self.coef_ = np.ascontiguousarray(solution.points[:, :-1])
        self.intercept_ = solution.points[:, -1].copy() if self.fit_intercept else np.zeros(len(self.coef_))
        self.n_iter_ = np.array([solution.iterations], np.int32)
        if solution.message:
            warnings.warn(
                f"LogisticRegression did not converge in {solution.iterations} iterations ({solution.message}): the "
                f"largest gradient is {solution.largest:.1e}, tol {self.tol:.1e}; increase max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the logarithm of each class's odds, up to a constant; of a Dask array lazily."""
        return self._each(X, "decision_function")

    def predict(self, X: Any) -> Any:
        """Return the most likely class of each row; of a Dask array lazily."""
        return self._each(X, "predict")

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, (m, classes); of a Dask array lazily."""
        return self._each(X, "predict_proba")

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class; of a Dask array lazily."""
        return self._each(X, "predict_log_proba")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # NumPy, SciPy-sparse and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _is_plain(self) -> bool:
        """Whether it is the problem that is solved here: multinomial, l2."""
        return (
            self.solver == "lbfgs"
            and self.penalty in ("l2", "deprecated")
            and self.l1_ratio in (0, None)
            and not self.dual
            and self.n_jobs is None
            and getattr(self, "multi_class", "deprecated") in ("deprecated", "auto", "multinomial")
        )

    def _row_weights(self, codes: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        weights = check_weights(sample_weight, len(codes))
        if weights is not None and not weights.sum() > 0:
            raise ValueError(
                "expected sample_weight with a sum above zero, received weights without; give some rows one"
            )
        if self.class_weight is None:
            return weights
        labels = self.classes_[codes]
        options = {} if weights is None else {"sample_weight": weights}
        by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=labels, **options)
        return by_class[codes] if weights is None else by_class[codes] * weights

    def _start(self, shape: tuple[int, int]) -> np.ndarray:
        start = np.zeros(shape)
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == (shape[0], shape[1] - 1):
            start[:, :-1], start[:, -1] = self.coef_, self.intercept_
        return start

    def _each(self, X: Any, word: str) -> Any:
        if not is_dask(X):
            return getattr(super(), word)(X)
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        count = len(self.classes_)
        flat = word == "predict" or (word == "decision_function" and count == 2)
        columns = None if flat else count
        dtype = self.classes_.dtype if word == "predict" else self.coef_.dtype
        apply = partial(_predicted, estimator=self, word=word)
        return map_rows(X, apply, name=type(self).__name__, phase=word, columns=columns, dtype=dtype, sparse=True)


def _predicted(block: Any, estimator: Any, word: str) -> np.ndarray:
    result: np.ndarray = getattr(estimator, word)(block)
    return result
