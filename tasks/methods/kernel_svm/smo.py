"""One two-class kernel machine in memory: sequential minimal optimisation by working sets of some hundred rows.

The dual problem is libsvm's: minimise ``a'Qa / 2 - sum(a)`` for ``0 <= a_i <= C_i`` and ``y'a = 0``. An outer step
takes the rows that violate the optimality conditions most, asks for their kernel rows in one matrix product, solves
the small problem on them with all others fixed, and corrects the gradient of all rows. The inner solver chooses
pairs by second order information, as libsvm does. It ends when the largest violation over ALL rows is within `tol`,
so nothing of the problem is left out.

References
----------
R.-E. Fan, P.-H. Chen, C.-J. Lin (2005). Working set selection using second order information for training support
vector machines. JMLR 6, 1889-1918.
Z. Wen, J. Shi, Q. Li, B. He, J. Chen (2018). ThunderSVM: a fast SVM library on GPUs and CPUs. JMLR 19(21), 1-5.
T. Joachims (1999). Making large-scale SVM learning practical. Advances in kernel methods, MIT Press (working sets).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from tasks.methods.kernel_svm.kernels import Kernel, KernelRows

WORKING_ROWS = 512
"""Most rows of a working set; of these at most half are new in a step."""

LEAST_WORKING_ROWS, WORKING_SHARE = 64, 16
"""Smaller problems have working sets of a 16th of their rows, at least 64: most of a larger set would not become
support vectors. (Digits, 1,000 rows per pair: 2.6 times as fast with 64 as with 512.)"""

INNER_SHARE = 0.1
"""The inner problem is solved to this share of the present violation: a better solution would be undone by the next."""

LEAST_CURVATURE = 1e-12
"""What libsvm takes in place of a curvature that is not positive."""


class Solution(NamedTuple):
    """A solved two-class problem."""

    coefficients: np.ndarray
    """y_i a_i, float64 (n,)."""
    offset: float
    """Constant of the decision function; libsvm's -rho."""
    violation: float
    """m(a) - M(a) over all rows: the largest violation of the optimality conditions."""
    gap: float
    """Primal less dual objective."""
    objective: float
    """Dual objective, to be maximised."""
    steps: int
    """Pairs of coefficients changed, as libsvm counts iterations."""
    ends: tuple[float, float]
    """Smallest slope of the coefficients y_i a_i that may grow, largest of those that may shrink; infinite for none."""


def solve(
    X: np.ndarray,
    signs: np.ndarray,
    bounds: np.ndarray,
    kernel: Kernel,
    *,
    tol: float,
    cache_bytes: int,
    max_steps: int = -1,
    start: np.ndarray | None = None,
) -> Solution:
    """Solve the two-class problem of these rows.

    Parameters
    ----------
    X : ndarray of float32 or float64, shape (n, d)
    signs : ndarray of float64, shape (n,)
        1 or -1 for each row.
    bounds : ndarray of float64, shape (n,)
        Upper bound of each a_i, above 0.
    kernel : Kernel
    tol : float
        Largest violation to end at.
    cache_bytes : int
        For kernel rows, 4 n bytes each; at least one working set is held.
    max_steps : int, default -1
        Most inner steps; -1 for no limit.
    start : ndarray of float64, shape (n,), optional
        Feasible y_i a_i to begin with.

    Returns
    -------
    Solution
    """
    count = len(X)
    size = min(count, WORKING_ROWS, max(LEAST_WORKING_ROWS, count // WORKING_SHARE))
    rows = KernelRows(X, kernel, cache_bytes, least=size)
    alpha = np.zeros(count) if start is None else start * signs
    # gradient of the dual times the sign: sum_j a_j y_j K_ij - y_i
    slope = -signs
    if start is not None:
        slope = _start_slope(rows, start, slope, size)
    working = np.empty(0, np.int64)
    steps, stalled = 0, 0
    while True:
        up, low = _free(alpha, signs, bounds)
        violation = _violation(slope, up, low)
        if violation <= tol or (0 <= max_steps <= steps) or stalled > 2:
            break
        kept = working[len(working) // 2 :] if not stalled else working[:0]
        working = _choose(slope, up, low, kept, size)
        slots = rows.fetch(working)
        small = rows.values[slots[:, None], working]
        before = alpha[working]
        limit = max_steps - steps if max_steps >= 0 else 100 * size
        goal = max(tol * 0.5, INNER_SHARE * violation)
        after = before.copy()
        done = _inner(
            small, rows.diagonal[working], signs[working], bounds[working], after, slope[working], goal, limit
        )
        change = (after - before) * signs[working]
        steps += done
        stalled = 0 if done else stalled + 1
        alpha[working] = after
        _add_rows(slope, rows.values, slots, change)
    return _finished(alpha, signs, bounds, slope, up, low, violation, steps)


def _free(alpha: np.ndarray, signs: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Say which coefficients y_i a_i may grow and which may shrink."""
    below, above = alpha < bounds, alpha > 0
    return np.where(signs > 0, below, above), np.where(signs > 0, above, below)


def _violation(slope: np.ndarray, up: np.ndarray, low: np.ndarray) -> float:
    if not up.any() or not low.any():
        return 0.0
    return float(slope[low].max() - slope[up].min())


def _choose(slope: np.ndarray, up: np.ndarray, low: np.ndarray, kept: np.ndarray, size: int) -> np.ndarray:
    """Return the kept rows and, after them, the worst violators that are not among them; both ends equally."""
    new = np.zeros(len(slope), bool)
    fresh = np.ones(len(slope), bool)
    fresh[kept] = False
    half = max(1, (size - len(kept)) // 2)
    chosen = [kept]
    for score, allowed in ((slope, up), (-slope, low)):
        candidates = np.flatnonzero(allowed & fresh)
        if len(candidates) > half:
            candidates = candidates[np.argpartition(score[candidates], half)[:half]]
        fresh[candidates] = False
        new[candidates] = True
        chosen.append(candidates)
    room = size - sum(map(len, chosen))
    if room > 0:
        chosen.insert(1, np.flatnonzero(fresh)[:room])
    return np.concatenate(chosen)


def _finished(
    alpha: np.ndarray,
    signs: np.ndarray,
    bounds: np.ndarray,
    slope: np.ndarray,
    up: np.ndarray,
    low: np.ndarray,
    violation: float,
    steps: int,
) -> Solution:
    inside = (alpha > 0) & (alpha < bounds)
    if inside.any():
        offset = -float(slope[inside].mean())
    else:
        ends = [slope[up].min() if up.any() else slope[low].max(), slope[low].max() if low.any() else slope[up].min()]
        offset = -float(np.mean(ends))
    coefficients = alpha * signs
    # slope + signs is the decision without its offset
    square = float(coefficients @ (slope + signs))
    dual = float(alpha.sum()) - square / 2
    loss = np.maximum(0.0, -signs * (slope + offset))
    primal = square / 2 + float(bounds @ loss)
    limits = float(slope[up].min(initial=np.inf)), float(slope[low].max(initial=-np.inf))
    return Solution(coefficients, offset, violation, primal - dual, dual, steps, limits)


def _start_slope(rows: KernelRows, start: np.ndarray, slope: np.ndarray, size: int) -> np.ndarray:
    slope = slope.copy()
    used = np.flatnonzero(start)
    for low in range(0, len(used), size):
        part = used[low : low + size]
        _add_rows(slope, rows.values, rows.fetch(part), start[part])
    return slope


@numba.njit(cache=True, nogil=True)
def _add_rows(slope: np.ndarray, values: np.ndarray, slots: np.ndarray, change: np.ndarray) -> None:
    """Add multiples of kernel rows to the slopes, in float64."""
    # By pieces of the slopes that stay in the processor's cache.
    for first in range(0, len(slope), 2048):
        last = min(first + 2048, len(slope))
        for k in range(len(slots)):
            factor = change[k]
            if factor != 0.0:
                row = values[slots[k]]
                for i in range(first, last):
                    slope[i] += factor * row[i]


@numba.njit(cache=True, nogil=True)
def _inner(
    kernel: np.ndarray,
    diagonal: np.ndarray,
    signs: np.ndarray,
    bounds: np.ndarray,
    alpha: np.ndarray,
    slope: np.ndarray,
    tol: float,
    max_steps: int,
) -> int:
    """Solve a small problem by pairs; changes `alpha`, and `slope`, which is a copy. Returns the number of pairs."""
    count = len(alpha)
    for step in range(max_steps):
        i, lowest = -1, np.inf
        highest = -np.inf
        for t in range(count):
            if slope[t] < lowest and ((alpha[t] < bounds[t]) if signs[t] > 0 else (alpha[t] > 0)):
                lowest, i = slope[t], t
            if (alpha[t] > 0) if signs[t] > 0 else (alpha[t] < bounds[t]):
                highest = max(highest, slope[t])
        if i < 0 or highest - lowest <= tol:
            return step
        j, best = -1, 0.0
        row = kernel[i]
        for t in range(count):
            if (alpha[t] > 0) if signs[t] > 0 else (alpha[t] < bounds[t]):
                difference = slope[t] - lowest
                if difference > 0:
                    curvature = max(diagonal[i] + diagonal[t] - 2.0 * row[t], 1e-12)
                    gain = difference * difference / curvature
                    if gain > best:
                        best, j = gain, t
        if j < 0:
            return step
        # The coefficient of i grows by `move`, that of j shrinks by it, up to the nearest bound.
        curvature = max(diagonal[i] + diagonal[j] - 2.0 * row[j], 1e-12)
        move = (slope[j] - lowest) / curvature
        room_i = bounds[i] - alpha[i] if signs[i] > 0 else alpha[i]
        room_j = alpha[j] if signs[j] > 0 else bounds[j] - alpha[j]
        at_i, at_j = move >= room_i, move >= room_j
        if at_i or at_j:
            move = min(room_i, room_j)
            at_i, at_j = move >= room_i, move >= room_j
        # A bound that is reached is taken exactly, or rounding would leave the coefficient free.
        alpha[i] = (bounds[i] if signs[i] > 0 else 0.0) if at_i else alpha[i] + signs[i] * move
        alpha[j] = (0.0 if signs[j] > 0 else bounds[j]) if at_j else alpha[j] - signs[j] * move
        other = kernel[j]
        for t in range(count):
            slope[t] += move * (row[t] - other[t])
    return max_steps
