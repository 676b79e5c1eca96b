"""The logistic loss of two or more classes over row blocks, and its minimum by L-BFGS in whitened coordinates.

L-BFGS takes as many steps as the problem is ill-conditioned, and pixels or unscaled columns make it so. The second
moments of a sample of the rows tell most of the Hessian; in coordinates where they and the penalty are the identity, a
fifth of the steps is enough (measured on images), and a column's unit does not matter.

References
----------
D. C. Liu, J. Nocedal (1989). On the limited memory BFGS method for large scale optimization. Mathematical Programming
45, 503-528.
D. Boehning (1992). Multinomial logistic regression algorithm. Annals of the Institute of Statistical Mathematics 44,
197-200 (second moments of the rows bound the Hessian).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse
from scipy.special import expit

from tasks.methods.blocks import Blocks
from tasks.methods.scratch import Scratch, parts, slices

GRAM_COLUMNS = 2048
"""Up to so many columns a d x d matrix whitens the coordinates; above, or for sparse blocks, a diagonal."""

SAMPLE_ROWS = 4096
"""Rows, or 8 per column if that is more, that the second moments are taken from."""

LOSS_VALUES = 1 << 18
"""Values of a block that the loss is computed from at a time; 1 MB of float32, which is read twice."""

TYPICAL = 0.25
"""The weight p (1 - p) of a row in the Hessian, relative to what it is when all classes are equally likely."""


class Solution(NamedTuple):
    """Where `minimize_loss` ended."""

    points: np.ndarray
    """Coefficients and, last, intercept: float64 (classes, d + 1), or (1, d + 1) for two classes."""
    iterations: int
    largest: float
    """Largest entry of the gradient of the averaged objective, in float64."""
    message: str
    """Why L-BFGS ended, if it did not converge; else empty."""


class LogisticLoss:
    """The average loss of the rows and the penalty.

    Parameters
    ----------
    rows : Blocks
    codes : ndarray of int32, shape (n,)
    weights : ndarray, float64 (n,), optional
    count : int
        Number of classes.
    penalty : float
        Half of it multiplies the squared norm of the coefficients.
    intercept : bool
    """

    def __init__(
        self,
        rows: Blocks,
        codes: np.ndarray,
        weights: np.ndarray | None,
        count: int,
        penalty: float,
        intercept: bool,
    ) -> None:
        self.shape = (1 if count == 2 else count, rows.shape[1] + 1)
        self._rows, self._penalty, self._intercept = rows, penalty, intercept
        self._total = float(rows.shape[0] if weights is None else weights.sum())
        self._codes = rows.scatter("labels", codes)
        self._weights = [None] * len(rows) if weights is None else rows.scatter("weights", weights)
        step = max(1, rows.shape[0] // max(SAMPLE_ROWS, 8 * rows.shape[1]))
        shared = (step, rows.shape[1] <= GRAM_COLUMNS)
        sampled, moments = rows.reduce("gram", _moments, rows.starts, self._weights, shared=shared, combine=_add)
        if not intercept and moments.ndim == 2:
            moments[-1, :-1] = moments[:-1, -1] = 0  # or it would move in the coordinates of the others
        self._coordinates = _whitening(moments * (TYPICAL * (count - 1) / count**2 / max(sampled, 1e-300)), penalty)

    def evaluate(self, points: np.ndarray, dtype: np.dtype) -> tuple[float, np.ndarray]:
        """Return the objective and its gradient; `dtype` is what the products are computed in."""
        aligned = (self._codes, self._weights)
        loss, slope = self._rows.reduce("loss", _loss, *aligned, shared=(points, dtype), combine=_add)
        slope /= self._total
        slope[:, :-1] += self._penalty * points[:, :-1]
        if not self._intercept:
            slope[:, -1] = 0
        return loss / self._total + 0.5 * self._penalty * float((points[:, :-1] ** 2).sum()), slope

    def inward(self, points: np.ndarray) -> np.ndarray:
        """Return the whitened coordinates of points."""
        lower, _ = self._coordinates
        inward: np.ndarray = points * lower if lower.ndim == 1 else points @ lower
        return inward

    def outward(self, whitened: np.ndarray) -> np.ndarray:
        """Return the points of whitened coordinates."""
        _, inverse = self._coordinates
        outward: np.ndarray = whitened * inverse if inverse.ndim == 1 else whitened @ inverse
        return outward

    def slope_inward(self, slope: np.ndarray) -> np.ndarray:
        """Return a gradient in whitened coordinates."""
        _, inverse = self._coordinates
        inward: np.ndarray = slope * inverse if inverse.ndim == 1 else slope @ inverse.T
        return inward


def minimize_loss(loss: LogisticLoss, start: np.ndarray, dtype: np.dtype, tolerance: float, max_iter: int) -> Solution:
    """Minimise, in the dtype of the data as far as that leads, then in float64.

    Parameters
    ----------
    loss : LogisticLoss
    start : ndarray, float64 (k, d + 1)
    dtype : dtype
        Of the data.
    tolerance : float
        Ends when no entry of the gradient is larger.
    max_iter : int
        Most iterations.
    """
    wide = np.dtype(np.float64)
    solution = Solution(start, 0, np.inf, "")
    for precision in dict.fromkeys((dtype, wide)):
        if precision == wide and dtype != wide and solution.iterations:
            largest = float(np.abs(loss.evaluate(solution.points, wide)[1]).max())
            if largest <= tolerance:
                return solution._replace(largest=largest, message="")
        found = _descend(loss, solution.points, precision, tolerance, max_iter - solution.iterations)
        solution = found._replace(iterations=solution.iterations + found.iterations)
    return solution


def _descend(loss: LogisticLoss, start: np.ndarray, dtype: np.dtype, tolerance: float, max_iter: int) -> Solution:
    largest = np.inf

    def whitened(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal largest
        value, slope = loss.evaluate(loss.outward(x.reshape(loss.shape)), dtype)
        largest = float(np.abs(slope).max())
        return value, loss.slope_inward(slope).ravel()

    def stop(x: np.ndarray) -> None:
        if largest <= tolerance:
            raise StopIteration

    narrow = dtype == np.float32
    # In float32 a value has 7 digits per row, and some more in the average of the rows.
    options = {"maxiter": max_iter, "maxfun": 20 * max_iter + 20, "gtol": 0.0, "ftol": 1e-10 if narrow else 1e-15}
    options |= {"maxls": 50}
    found = scipy.optimize.minimize(
        whitened, loss.inward(start).ravel(), jac=True, method="L-BFGS-B", options=options, callback=stop
    )
    done = largest <= tolerance or found.success
    points = loss.outward(found.x.reshape(loss.shape))
    return Solution(points, int(found.nit), largest, "" if done else str(found.message))


def _whitening(moments: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a root of the expected Hessian, and its inverse; diagonals as vectors."""
    if moments.ndim == 1:
        diagonal = moments + penalty
        diagonal[-1] = moments[-1]
        root = np.sqrt(np.where(diagonal > 0, diagonal, 1))
        return root, 1 / root
    hessian = moments.copy()
    diagonal = np.einsum("ii->i", hessian)
    diagonal[:-1] += penalty
    diagonal *= 1 + 1e-10  # columns that depend on each other, without a penalty
    diagonal[diagonal <= 0] = 1
    lower = scipy.linalg.cholesky(hessian, lower=True, check_finite=False)
    return lower, scipy.linalg.solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)


def _moments(block: Any, start: int, weights: np.ndarray | None, step: int, cross: bool) -> tuple[float, np.ndarray]:
    """Return the weight of every so many rows, and the sum of their squares or outer products, constant included."""
    picked = np.arange(-start % step, block.shape[0], step)
    share = np.ones(len(picked)) if weights is None else weights[picked]
    size = block.shape[1] + 1
    if scipy.sparse.issparse(block) or not cross:
        squares = np.zeros(size)
        for low, high in slices(len(picked), max(1, (1 << 18) // size)):
            rows = block[picked[low:high]].astype(np.float64)
            squares[:-1] += share[low:high] @ (rows.multiply(rows) if scipy.sparse.issparse(rows) else rows * rows)
        squares[-1] = share.sum()
        return float(share.sum()), squares
    total = np.zeros((size, size))
    scratch = Scratch()
    for low, high in slices(len(picked), max(1, (1 << 21) // size)):
        rows = scratch("rows", (high - low, size), np.float64)
        rows[:, :-1] = block[picked[low:high]]
        rows[:, -1] = 1
        rows *= np.sqrt(np.maximum(share[low:high], 0))[:, None]
        total += np.matmul(rows.T, rows, out=scratch("product", total.shape, np.float64))
    return float(share.sum()), total


def _loss(
    block: Any, codes: np.ndarray, weights: np.ndarray | None, points: np.ndarray, dtype: np.dtype
) -> tuple[float, np.ndarray]:
    """Return the sum of losses and its gradient; sums over parts of the block are kept in float64."""
    loss, slope = 0.0, np.zeros(points.shape)
    narrow = points.astype(dtype)
    one: Callable = _two_classes if len(points) == 1 else _several_classes
    whole = scipy.sparse.issparse(block)  # rows of a sparse matrix are not views
    scratch = Scratch()
    for low, high in [(0, block.shape[0])] if whole else parts(block, LOSS_VALUES):
        rows = block[low:high]
        if rows.dtype != dtype:
            wide = None if whole else scratch("rows", rows.shape, dtype)
            if wide is None:
                rows = rows.astype(dtype)
            else:
                wide[:] = rows
                rows = wide
        margins = rows @ narrow[:, :-1].T
        margins += narrow[:, -1]
        losses, pull = one(margins, codes[low:high])
        if weights is not None:
            losses = losses * weights[low:high]
            pull *= weights[low:high, None].astype(dtype)
        loss += float(losses.sum(dtype=np.float64))
        slope[:, :-1] += (rows.T @ pull).T if whole else pull.T @ rows
        slope[:, -1] += pull.sum(axis=0, dtype=np.float64)
    return loss, slope


def _two_classes(margins: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sign = np.where(codes == 1, -1, 1).astype(margins.dtype)
    against = sign * margins[:, 0]
    return np.logaddexp(0, against), (sign * expit(against))[:, None]


def _several_classes(margins: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    margins -= margins.max(axis=1, keepdims=True)
    own = np.arange(len(codes)), codes
    reached = margins[own]
    pull = np.exp(margins, out=margins)
    total = pull.sum(axis=1)
    pull /= total[:, None]
    pull[own] -= 1
    return np.log(total) - reached, pull


def _add(a: tuple[Any, np.ndarray], b: tuple[Any, np.ndarray]) -> tuple[Any, np.ndarray]:
    return a[0] + b[0], a[1] + b[1]
