"""Truncated Newton for several smooth convex problems at once, all their products in one pass over the data.

Each problem has its own step, its own conjugate gradients and its own line search; they only go in step, so that a
pass over the data serves all that still need one.

References
----------
C.-J. Lin, R. C. Weng, S. S. Keerthi (2008). Trust region Newton method for large-scale logistic regression. JMLR 9,
627-650 (Hessian-vector products over the data).
C.-Y. Hsia, W.-L. Chiang, C.-J. Lin (2018). Preconditioned conjugate gradient methods in truncated Newton frameworks
for large-scale linear classification. ACML, PMLR 95, 312-326.
L. Galli, C.-J. Lin (2022). A study on truncated Newton methods for linear classification. IEEE Trans. Neural Networks
and Learning Systems 33(7), 2828-2841 (a line search instead of the trust region).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

DECREASE = 0.01
"""Share of the decrease promised by the gradient that a step must bring."""

HALVINGS = 30
"""Trials of a line search; after so many, rounding is all that is left to gain from."""

ROUNDING = 1e-28
"""A step that promises this share of the value is the last: its gradient is the 1e-14 part, rounding, of its terms."""

CURVATURE_PASSES = 200
"""Most products with the Hessian for one step; any step that far is a descent direction."""


class Objective(Protocol):
    """What the problems are; `which` are the numbers of the problems that a call is about, increasing."""

    def evaluate(self, points: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values (p,) and gradients (p, d) at these points, one per problem."""

    def approach(self, points: np.ndarray, which: np.ndarray) -> None:
        """Fix the Hessians at these points, for `curve` and `precondition`."""

    def curve(self, directions: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return the Hessians times the directions, (p, d)."""

    def precondition(self, residuals: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return approximate Hessian inverses times the residuals, (p, d)."""


class Solution(NamedTuple):
    """Where `minimize` ended."""

    points: np.ndarray
    """(problems, d)."""
    iterations: np.ndarray
    """Newton steps of each problem."""
    converged: np.ndarray
    """True where the gradient became small enough, or is rounding."""


def minimize(objective: Objective, start: np.ndarray, tolerance: float, max_iter: int) -> Solution:
    """Minimise all problems.

    Parameters
    ----------
    objective : Objective
    start : ndarray, float64 (problems, d)
    tolerance : float
        A problem ends when the norm of its gradient falls to this times the norm at the start, or to rounding.
    max_iter : int
        Most Newton steps.
    """
    points = start.copy()
    everything = np.arange(len(points))
    values, gradients = objective.evaluate(points, everything)
    first = np.linalg.norm(gradients, axis=1)
    goal = tolerance * first
    iterations = np.zeros(len(points), np.int64)
    stuck, exact = np.zeros(len(points), bool), np.zeros(len(points), bool)
    for _ in range(max_iter):
        norms = np.linalg.norm(gradients, axis=1)
        which = np.flatnonzero((norms > goal) & ~stuck & ~exact)
        if not len(which):
            break
        objective.approach(points[which], which)
        # Loose far from the optimum, tight near it: the steps end up converging faster than linearly.
        forcing = np.minimum(0.1, np.sqrt(norms[which] / first[which]))
        steps = _conjugate_gradients(objective, gradients[which], which, forcing)
        promised = np.abs(np.einsum("ij,ij->i", gradients[which], steps))
        exact[which] = promised <= ROUNDING * np.abs(values[which])
        moved = _line_search(objective, points, values, gradients, steps, which)
        iterations[which] += 1
        stuck[which[~moved]] = True
    return Solution(points, iterations, exact | (np.linalg.norm(gradients, axis=1) <= goal))


def _conjugate_gradients(
    objective: Objective, gradients: np.ndarray, which: np.ndarray, forcing: np.ndarray
) -> np.ndarray:
    """Solve Hessian times step = -gradient for each problem, to a residual of `forcing` times the gradient."""
    steps = np.zeros_like(gradients)
    residuals = -gradients
    scaled = objective.precondition(residuals, which)
    directions = scaled.copy()
    products = np.einsum("ij,ij->i", residuals, scaled)
    goal = forcing * np.linalg.norm(gradients, axis=1)
    busy = np.arange(len(which))
    for _ in range(CURVATURE_PASSES):
        curved = objective.curve(directions[busy], which[busy])
        length = products[busy] / np.einsum("ij,ij->i", directions[busy], curved)
        steps[busy] += length[:, None] * directions[busy]
        residuals[busy] -= length[:, None] * curved
        busy = busy[np.linalg.norm(residuals[busy], axis=1) > goal[busy]]
        if not len(busy):
            break
        scaled = objective.precondition(residuals[busy], which[busy])
        fresh = np.einsum("ij,ij->i", residuals[busy], scaled)
        directions[busy] = scaled + (fresh / products[busy])[:, None] * directions[busy]
        products[busy] = fresh
    return steps


def _line_search(
    objective: Objective,
    points: np.ndarray,
    values: np.ndarray,
    gradients: np.ndarray,
    steps: np.ndarray,
    which: np.ndarray,
) -> np.ndarray:
    """Move along the steps, in place, halving those that do not bring enough; return which problems moved."""
    slopes = np.einsum("ij,ij->i", gradients[which], steps)
    lengths = np.ones(len(which))
    waiting = np.arange(len(which))
    for _ in range(HALVINGS):
        problems = which[waiting]
        trial = points[problems] + lengths[waiting, None] * steps[waiting]
        new_values, new_gradients = objective.evaluate(trial, problems)
        # The second term is what rounding does to the sum of many squares.
        allowed = values[problems] + DECREASE * lengths[waiting] * slopes[waiting] + 1e-13 * np.abs(values[problems])
        good = new_values <= allowed
        points[problems[good]] = trial[good]
        values[problems[good]] = new_values[good]
        gradients[problems[good]] = new_gradients[good]
        waiting = waiting[~good]
        if not len(waiting):
            break
        lengths[waiting] /= 2
    moved = np.ones(len(which), bool)
    moved[waiting] = False
    return moved
