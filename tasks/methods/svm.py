"""Linear support vector machines over row blocks."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, map_rows, open_blocks
from tasks.methods.inputs import check_labelled, check_matrix
from tasks.methods.moments import CROSS_VALUES, column_moments, cross_moments, merge_moments
from tasks.methods.newton import minimize
from tasks.methods.scratch import Scratch, parts, slices

GRAM_COLUMNS = 2048
"""Up to so many columns d x d matrices precondition the steps; above, a diagonal."""

FACTOR_AFTER = 25
"""A step that took more products with the Hessian than this (or d / 20) makes the next one factor the Hessian."""


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
    A Newton step takes three passes of 4 n d k operations (two of them in float64) and about 5 to 20 more, in the
    data's dtype, for products with the Hessian; k classes share each pass. The products are preconditioned by the
    Gram matrix if d <= 2048 (one pass of n d^2 operations, then d^3 in this process), else by its diagonal. Per
    task: one block, its labels, n k / blocks bytes of what is active, and 2 MB. Each task sends k d float64 per
    pass, n/b of them in a tree, and gets k d.

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
                f"{self.classes_[0]!r}"
            )
        costs = self._costs(codes)
        constant = float(self.intercept_scaling) if self.fit_intercept else 0.0
        with open_blocks(X, name=type(self).__name__, passes=100) as rows:
            objective = _SquaredHinge(rows, codes, costs, constant)
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
        return map_rows(
            X, apply, name=type(self).__name__, phase="predict", columns=None, dtype=self.classes_.dtype
        )

    def _check_parameters(self) -> None:
        for name in ("C", "tol", "intercept_scaling"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not value > 0:
                raise ValueError(f"expected {name} as a number above 0, received {value!r}")
        if not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"expected max_iter as an integer of at least 1, received {self.max_iter!r}")

    def _costs(self, codes: np.ndarray) -> _Costs:
        """Return what a row costs in each problem; as in scikit-learn, the rest of the classes keeps weight 1."""
        # On the labels themselves: a dictionary of weights is keyed by them.
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[codes]) * self.C
        if len(weights) == 2:
            return _Costs(np.array([1]), weights[1:], weights[:1])
        return _Costs(np.arange(len(weights)), weights, np.full(len(weights), float(self.C)))


class _Costs(NamedTuple):
    """One entry per problem."""

    positive: np.ndarray
    """Code of the class that is told from the rest."""
    on_positive: np.ndarray
    """C of the rows of that class."""
    on_rest: np.ndarray
    """C of all other rows."""

    def only(self, which: np.ndarray) -> _Costs:
        return _Costs(*(values[which] for values in self))


class _SquaredHinge:
    """The problems of all classes; implements `newton.Objective`. The last coordinate belongs to the constant."""

    def __init__(self, rows: Blocks, codes: np.ndarray, costs: _Costs, constant: float) -> None:
        self._rows, self._costs, self._constant = rows, costs, constant
        self._codes = rows.scatter("labels", codes)
        self._active: list = []
        self._prepared = np.empty(0, np.int64)
        self._weights = np.empty(0)
        self._products = np.zeros(len(costs.positive), np.int64)
        self._factors: dict[int, np.ndarray] = {}
        self._wide = rows.shape[1] > GRAM_COLUMNS
        moments = rows.reduce("gram", column_moments if self._wide else cross_moments, combine=merge_moments)
        self._eigenvalues, self._eigenvectors = _spectrum(*moments, constant)

    def evaluate(self, points: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shared = (points, self._costs.only(which), self._constant)
        loss, slope = self._rows.reduce("loss", _loss, self._codes, shared=shared, combine=_add)
        return 0.5 * np.einsum("ij,ij->i", points, points) + loss, points + slope

    def approach(self, points: np.ndarray, which: np.ndarray) -> None:
        costs = self._costs.only(which)
        self._active = self._rows.map("active", _active, self._codes, shared=(points, costs.positive, self._constant))
        groups = [[(handle,) for handle in self._active]]
        name = self._rows.named("count")
        counted = self._rows.engine.reduce_each(name, _count_active, groups, combine=np.add)
        rest, positive = self._rows.fetch(counted)[0]
        self._prepared = which
        self._weights = 2 * (costs.on_rest * rest + costs.on_positive * positive) / self._rows.shape[0]
        limit = max(FACTOR_AFTER, self._rows.shape[1] // 20)
        for column, problem in enumerate(which):
            if self._products[problem] > limit and not self._wide:
                self._factor(column, int(problem))
        self._products[which] = 0

    def curve(self, directions: np.ndarray, which: np.ndarray) -> np.ndarray:
        self._products[which] += 1
        columns = np.searchsorted(self._prepared, which)
        shared = (directions, columns, self._table(which), self._constant)
        curved: np.ndarray = self._rows.reduce("hessian", _curve, self._active, shared=shared, combine=np.add)
        return directions + curved

    def precondition(self, residuals: np.ndarray, which: np.ndarray) -> np.ndarray:
        # The Hessian is I + 2 C X_A^T X_A over the active rows A; here all rows, with the average weight.
        weights = self._weights[np.searchsorted(self._prepared, which)]
        scale = 1 / (1 + weights[:, None] * self._eigenvalues)
        if self._eigenvectors is None:
            return residuals * scale
        solved: np.ndarray = (residuals @ self._eigenvectors * scale) @ self._eigenvectors.T
        for i, problem in enumerate(which):
            if problem in self._factors:
                solved[i] = scipy.linalg.cho_solve((self._factors[problem], True), residuals[i])
        return solved

    def _factor(self, column: int, problem: int) -> None:
        """Factor the Hessian of one problem as it is now; it serves as long as the active rows change little."""
        table = self._table(np.array([problem]))[:, 0]
        shared = (column, table, self._constant)
        hessian = self._rows.reduce("factor", _outer, self._active, shared=shared, combine=np.add)
        hessian[np.diag_indices_from(hessian)] += 1
        self._factors[problem] = scipy.linalg.cholesky(hessian, lower=True)

    def _table(self, which: np.ndarray) -> np.ndarray:
        """Return what a row adds to the second derivative, by its state of activity: (3, problems)."""
        costs = self._costs.only(which)
        return 2 * np.stack([np.zeros(len(which)), costs.on_rest, costs.on_positive])


def _spectrum(
    count: int, mean: np.ndarray, scatter: np.ndarray, constant: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return eigenvalues and eigenvectors of the Gram matrix with the constant column, or its diagonal and None."""
    sums = np.append(mean, constant) * count
    if scatter.ndim == 1:
        return np.append(scatter, 0.0) + sums**2 / count, None
    gram = np.multiply.outer(sums, sums) / count
    gram[:-1, :-1] += scatter
    values, vectors = scipy.linalg.eigh(gram)
    return np.maximum(values, 0.0), vectors


def _margins(rows: np.ndarray, signs: np.ndarray, points: np.ndarray, constant: float, out: np.ndarray) -> np.ndarray:
    """Return 1 - y (w.x + b) for every row and problem."""
    np.matmul(rows, points[:, :-1].T, out=out)
    out += constant * points[:, -1]
    out *= -signs
    out += 1
    return out


def _loss(
    block: np.ndarray, codes: np.ndarray, points: np.ndarray, costs: _Costs, constant: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of losses of each problem and its gradient, in float64 whatever the block holds."""
    loss, slope = np.zeros(len(points)), np.zeros(points.shape)
    scratch = Scratch()
    for low, high in parts(block):
        rows = scratch("rows", (high - low, block.shape[1]), np.float64)
        rows[:] = block[low:high]
        positive = codes[low:high, None] == costs.positive
        signs = np.where(positive, 1.0, -1.0)
        out = scratch("margins", signs.shape, np.float64)
        slack = np.maximum(_margins(rows, signs, points, constant, out), 0.0, out=out)
        weighted = np.where(positive, costs.on_positive, costs.on_rest) * slack
        loss += np.einsum("ij,ij->j", weighted, slack)
        weighted *= -2 * signs
        slope[:, :-1] += weighted.T @ rows
        slope[:, -1] += constant * weighted.sum(axis=0)
    return loss, slope


def _active(
    block: np.ndarray, codes: np.ndarray, points: np.ndarray, positive: np.ndarray, constant: float
) -> np.ndarray:
    """Return int8 (rows, problems): 0 where the loss is flat, else 1, or 2 for the class in question."""
    active = np.zeros((len(block), len(points)), np.int8)
    scratch = Scratch()
    points = points.astype(block.dtype)
    for low, high in parts(block):
        own = codes[low:high, None] == positive
        signs = np.where(own, 1, -1).astype(block.dtype)
        margins = _margins(block[low:high], signs, points, constant, scratch("margins", signs.shape, block.dtype))
        active[low:high] = np.where(margins > 0, 1 + own, 0)
    return active


def _count_active(active: np.ndarray) -> np.ndarray:
    return np.stack([(active == 1).sum(axis=0), (active == 2).sum(axis=0)])


def _curve(
    block: np.ndarray,
    active: np.ndarray,
    directions: np.ndarray,
    columns: np.ndarray,
    table: np.ndarray,
    constant: float,
) -> np.ndarray:
    """Return the second derivative of the losses times the directions."""
    result = np.zeros(directions.shape)
    narrow = directions.astype(block.dtype)
    scratch = Scratch()
    for low, high in parts(block):
        rows = block[low:high]
        products = np.matmul(rows, narrow[:, :-1].T, out=scratch("products", (high - low, len(narrow)), block.dtype))
        products += constant * narrow[:, -1]
        products *= np.take_along_axis(table, active[low:high, columns].astype(np.intp), axis=0)
        result[:, :-1] += products.T @ rows
        result[:, -1] += constant * products.sum(axis=0, dtype=np.float64)
    return result


def _outer(block: np.ndarray, active: np.ndarray, column: int, table: np.ndarray, constant: float) -> np.ndarray:
    """Return the second derivative of one problem's losses, in float64."""
    size = block.shape[1] + 1
    result = np.zeros((size, size))
    scratch = Scratch()
    used = np.flatnonzero(active[:, column])
    for low, high in slices(len(used), max(1, CROSS_VALUES // size)):
        picked = used[low:high]
        rows = scratch("rows", (len(picked), size), np.float64)
        rows[:, :-1] = block[picked]
        rows[:, -1] = constant
        rows *= np.sqrt(table[active[picked, column]])[:, None]
        result += np.matmul(rows.T, rows, out=scratch("product", result.shape, np.float64))
    return result


def _add(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return a[0] + b[0], a[1] + b[1]


def _decide(block: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    decision: np.ndarray = block.astype(np.float64) @ coef.T + intercept
    return decision if len(coef) > 1 else decision[:, 0]


def _predict(block: np.ndarray, coef: np.ndarray, intercept: np.ndarray, classes: np.ndarray) -> np.ndarray:
    decision = _decide(block, coef, intercept)
    winners = decision.argmax(axis=1) if decision.ndim == 2 else (decision > 0).astype(np.intp)
    predicted: np.ndarray = classes[winners]
    return predicted
