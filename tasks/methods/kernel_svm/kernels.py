"""Kernel functions by matrix products, and kernel rows that are kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.extmath import row_norms, safe_sparse_dot

from tasks.methods.moments import Moments

PRODUCT_ROWS = 256
"""Kernel rows that are computed at a time."""


class Kernel(NamedTuple):
    """A kernel function and its parameters, as in scikit-learn."""

    name: str
    """linear: x.z; poly: (gamma x.z + coef0)^degree; rbf: exp(-gamma |x - z|^2); sigmoid: tanh(gamma x.z + coef0)."""
    gamma: float = 1.0
    degree: int = 3
    coef0: float = 0.0

    def __call__(self, A: Any, B: Any, squares: np.ndarray | None = None) -> np.ndarray:
        """Return the kernel of all rows of A with all rows of B, (len(A), len(B)), in their dtype.

        Either may be sparse. `squares` are the squared norms of the rows of B, if they are known.
        """
        values: np.ndarray = safe_sparse_dot(A, B.T, dense_output=True)
        # Python's floats leave the dtype as it is.
        if self.name == "linear":
            return values
        if self.name == "rbf":
            values *= 2.0
            values -= row_norms(B, squared=True) if squares is None else squares
            values -= row_norms(A, squared=True)[:, None]
            np.minimum(values, 0.0, out=values)  # a squared distance below zero is rounding
            values *= self.gamma
            return np.exp(values, out=values)
        values *= self.gamma
        values += self.coef0
        if self.name == "sigmoid":
            return np.tanh(values, out=values)
        return np.power(values, self.degree, out=values)

    def diagonal(self, X: np.ndarray) -> np.ndarray:
        """Return the kernel of each row with itself, float64 (n,)."""
        if self.name == "rbf":
            return np.ones(len(X))
        values = row_norms(X, squared=True).astype(np.float64)
        if self.name == "linear":
            return values
        values = self.gamma * values + self.coef0
        return np.tanh(values) if self.name == "sigmoid" else values**self.degree


class KernelRows:
    """Rows of the kernel matrix of X, float32 as in libsvm, computed when asked for and kept while there is room."""

    def __init__(self, X: np.ndarray, kernel: Kernel, bytes_: int, least: int) -> None:
        self.capacity = min(len(X), max(least, bytes_ // (4 * max(len(X), 1))))
        self.values = np.empty((self.capacity, len(X)), np.float32)
        self.diagonal = kernel.diagonal(X)
        self.computed = 0
        self._X, self._kernel = X, kernel
        self._squares = row_norms(X, squared=True)
        self._slot = np.full(len(X), -1, np.int64)
        self._owner = np.full(self.capacity, -1, np.int64)
        self._used = np.zeros(self.capacity, np.int64)
        self._time = 0

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Return where in `values` the rows are; at most `capacity` of them."""
        self._time += 1
        known = rows[self._slot[rows] >= 0]
        self._used[self._slot[known]] = self._time
        missing = rows[self._slot[rows] < 0]
        if len(missing):
            slots = np.argsort(self._used, kind="stable")[: len(missing)]
            owners = self._owner[slots]
            self._slot[owners[owners >= 0]] = -1
            self._owner[slots], self._used[slots], self._slot[missing] = missing, self._time, slots
            for low in range(0, len(missing), PRODUCT_ROWS):
                part = missing[low : low + PRODUCT_ROWS]
                self.values[slots[low : low + PRODUCT_ROWS]] = self._kernel(self._X[part], self._X, self._squares)
            self.computed += len(missing)
        return self._slot[rows]


def total_variance(moments: Moments) -> float:
    """Return the variance of all values of a matrix, for ``gamma="scale"``."""
    mean = moments.mean.mean()
    return float((moments.scatter / moments.rows + (moments.mean - mean) ** 2).mean())
