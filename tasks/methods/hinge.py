"""The squared hinge loss of all classes over row blocks: what `newton.minimize` is given for `LinearSVC`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from tasks.methods.blocks import Blocks
from tasks.methods.moments import CROSS_VALUES, Moments, column_moments, cross_moments, merge_moments
from tasks.methods.scratch import Scratch, parts, slices

GRAM_COLUMNS = 2048
"""Up to so many columns d x d matrices precondition the steps; above, a diagonal."""

FACTOR_AFTER = 10
"""A step that took more products with the Hessian than this (or d / 60) makes the next one factor the Hessian."""


class Costs(NamedTuple):
    """One entry per problem."""

    positive: np.ndarray
    """Code of the class that is told from the rest."""
    on_positive: np.ndarray
    """C of the rows of that class."""
    on_rest: np.ndarray
    """C of all other rows."""

    def only(self, which: np.ndarray) -> Costs:
        return Costs(*(values[which] for values in self))


class SquaredHinge:
    """The problems of all classes; implements `newton.Objective`. The last coordinate belongs to the constant."""

    def __init__(self, rows: Blocks, codes: np.ndarray, costs: Costs, constant: float) -> None:
        self._rows, self._costs, self._constant = rows, costs, constant
        self._codes = rows.scatter("labels", codes)
        self._active: list = []
        self._prepared = np.empty(0, np.int64)
        self._weights = np.empty(0)
        self._products = np.zeros(len(costs.positive), np.int64)
        self._factors: dict[int, np.ndarray] = {}
        self._wide = rows.shape[1] > GRAM_COLUMNS
        moments = rows.reduce("gram", column_moments if self._wide else cross_moments, combine=merge_moments)
        self._eigenvalues, self._eigenvectors = _spectrum(moments, constant)

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
        limit = max(FACTOR_AFTER, self._rows.shape[1] // 60)
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


def _spectrum(moments: Moments, constant: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Return eigenvalues and eigenvectors of the Gram matrix with the constant column, or its diagonal and None."""
    count, mean, scatter = moments
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
    block: np.ndarray, codes: np.ndarray, points: np.ndarray, costs: Costs, constant: float
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
