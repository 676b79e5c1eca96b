"""Linear support vector machines over row blocks."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import map_rows, open_blocks
from tasks.methods.hinge import Costs, SquaredHinge
from tasks.methods.inputs import check_labelled, check_matrix
from tasks.methods.newton import minimize


class LinearSVC(ClassifierMixin, BaseEstimator):
    """Linear support vector classification: squared hinge loss, l2 penalty, one class against the rest.

    Exact: it minimises ``||w||^2 / 2 + C sum_i max(0, 1 - y_i (w.x_i + b))^2``, where b is regularised like w, times
    `intercept_scaling`; the same problem as scikit-learn's class of this name, whose optimum is unique. The solver is
    another one: truncated Newton on the primal, all classes at the same time.

    Parameters
    ----------
    C : float, default 1.0
        Weight of the loss.
    tol : float, default 1e-4
        Ends a class when the norm of its gradient has shrunk by this factor.
    fit_intercept : bool, default True
    intercept_scaling : float, default 1.0
        Value of the constant column that b multiplies.
    class_weight : dict, "balanced" or None, default None
        Multiplies C for the rows of a class in its own problem (in both problems' sides, if there are two classes).
    max_iter : int, default 1000
        Most Newton steps; usually fewer than 20 are needed.

    Attributes
    ----------
    classes_ : ndarray
    coef_ : ndarray, float64 (classes, d), or (1, d) for two classes
    intercept_ : ndarray, float64 (classes,) or (1,)
    n_iter_ : int
        Newton steps of the class that took most.
    n_features_in_ : int

    Notes
    -----
    A Newton step takes two passes of 2 to 4 n d k operations and up to some ten more, in the data's dtype, for products
    with the Hessian; k classes share each pass. If d <= 2048 the products are preconditioned by the Gram matrix (one
    pass of n d^2 operations, then d^3 in this process) and, near the optimum, by the factored Hessians of the
    classes that still need many (a pass each); for larger d by the diagonal. Per task: one block of b rows, its
    labels, b k bytes of what is active, and 3 MB, or 16 MB and two d x d matrices for a Gram matrix. Each task sends
    k d float64 per pass, or d^2, n/b of them in a tree, and gets k d.

    References
    ----------
    See `tasks.methods.newton`. R.-E. Fan et al. (2008). LIBLINEAR: a library for large linear classification. JMLR 9,
    1871-1874 (the problem, and the stopping rule of its primal solver).
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        class_weight: Any = None,
        max_iter: int = 1000,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> Self:
        """Find the coefficients.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
        y : ndarray or dask.array.Array, shape (n,)
            Labels of any type, of at least two classes.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable, or there is one class only.
        """
        self._check_parameters()
        X, self.classes_, codes = check_labelled(self, X, y)
        if len(self.classes_) < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{self.classes_.tolist()[0]!r}"
            )
        costs = self._costs(codes)
        constant = float(self.intercept_scaling) if self.fit_intercept else 0.0
        with open_blocks(X, name=type(self).__name__, passes=100) as rows:
            objective = SquaredHinge(rows, codes, costs, constant)
            start = np.zeros((len(costs.positive), X.shape[1] + 1))
            solution = minimize(objective, start, self.tol, self.max_iter)
        self.coef_ = np.ascontiguousarray(solution.points[:, :-1])
        self.intercept_ = solution.points[:, -1] * constant
        self.n_iter_ = max(int(solution.iterations.max()), 1)
        if not solution.converged.all():
            warnings.warn(
                f"LinearSVC did not converge for {np.count_nonzero(~solution.converged)} of {len(start)} problems in "
                f"{self.n_iter_} steps; increase max_iter or tol, or scale the data",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the distance from each class's plane, times the norm of its coefficients.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, float64 (m, classes), or (m,) for two classes
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        columns = len(self.coef_) if len(self.coef_) > 1 else None
        apply = partial(_decide, coef=self.coef_, intercept=self.intercept_)
        return map_rows(X, apply, name=type(self).__name__, phase="decide", columns=columns, dtype=np.float64)

    def predict(self, X: Any) -> Any:
        """Return the class whose decision function is largest.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m,)
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(_predict, coef=self.coef_, intercept=self.intercept_, classes=self.classes_)
        return map_rows(X, apply, name=type(self).__name__, phase="predict", columns=None, dtype=self.classes_.dtype)

    def _check_parameters(self) -> None:
        for name in ("C", "tol", "intercept_scaling"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not float(value) > 0:
                raise ValueError(f"expected {name} as a number above 0, received {value!r}")
        if not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"expected max_iter as an integer of at least 1, received {self.max_iter!r}")

    def _costs(self, codes: np.ndarray) -> Costs:
        """Return what a row costs in each problem; as in scikit-learn, the rest of the classes keeps weight 1."""
        # On the labels themselves: a dictionary of weights is keyed by them.
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[codes]) * self.C
        if len(weights) == 2:
            return Costs(np.array([1]), weights[1:], weights[:1])
        return Costs(np.arange(len(weights)), weights, np.full(len(weights), float(self.C)))


def _decide(block: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    decision: np.ndarray = block.astype(np.float64) @ coef.T + intercept
    return decision if len(coef) > 1 else decision[:, 0]


def _predict(block: np.ndarray, coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray) -> np.ndarray:
    decision = _decide(block, coef, intercept)
    winners = decision.argmax(axis=1) if decision.ndim == 2 else (decision > 0).astype(np.intp)
    predicted: np.ndarray = classes[winners]
    return predicted
