"""Labels, targets and weights as whole numbers, whose sums are exact in any order; and what sums mean."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.methods.trees.kernels import ENTROPY, GINI, SQUARED

ROOM = 57
"""Bits that the sum over all rows may take: the rest of 63 is for the draws of a bootstrap."""

PURE = 1e-12
"""Share of the variance of all rows that a node must keep to be cut."""


class Targets(NamedTuple):
    """What the trees learn."""

    codes: np.ndarray
    """int32 (n,): classes; zeros for squared errors."""
    amounts: np.ndarray
    """int64 (n, 1): weights; or (n, 3): w, w y, w y^2, with y from its mean."""
    classes: int
    """0 for squared errors."""
    scales: tuple[float, float, float]
    """What w, w y and w y^2 were multiplied with."""
    mean: float
    """Of the targets."""

    @property
    def channels(self) -> int:
        return self.classes or 3

    @property
    def square(self) -> float:
        """What brings (w y)^2 to the unit of w w y^2."""
        a, b, c = self.scales
        return a / b * (c / b)

    @property
    def unit(self) -> float:
        """Of a gain over a weight: 1 for classes."""
        return 1.0 if self.classes else (self.scales[0] / self.scales[1]) ** 2

    @property
    def tolerance(self) -> float:
        """Variance that counts as none, as `is_leaf` has it; not below what rounding to whole numbers makes of it."""
        if self.classes:
            return 0.0
        total = float(self.amounts[:, 0].sum())
        variance = float(self.amounts[:, 2].sum()) / total
        return variance * max(PURE, len(self.codes) * 2.0 ** (2 - ROOM))

    def total(self) -> np.ndarray:
        """Return the sums of all rows, as those of one node, int64 (1, channels + 1)."""
        sums = np.zeros((1, self.channels + 1), np.int64)
        if self.classes:
            np.add.at(sums[0], self.codes, self.amounts[:, 0])
        else:
            sums[0, :3] = self.amounts.sum(axis=0)
        sums[0, -1] = np.count_nonzero(self.amounts[:, 0])
        return sums

    def weights(self, sums: np.ndarray) -> np.ndarray:
        """Return the weight of each node."""
        whole = sums[:, :-1].sum(axis=1) if self.classes else sums[:, 0]
        weights: np.ndarray = whole / self.scales[0]
        return weights

    def values(self, sums: np.ndarray) -> np.ndarray:
        """Return each node's shares of the classes, float64 (nodes, classes), or its mean, (nodes, 1)."""
        if self.classes:
            shares: np.ndarray = sums[:, :-1] / sums[:, :-1].sum(axis=1, keepdims=True)
            return shares
        means: np.ndarray = sums[:, 1:2] / sums[:, :1] * (self.scales[0] / self.scales[1]) + self.mean
        return means

    def impurities(self, sums: np.ndarray, criterion: int) -> np.ndarray:
        """Return the impurity of each node."""
        if criterion == SQUARED:
            a, b, c = self.scales
            mean = sums[:, 1] / sums[:, 0] * (a / b)
            return np.maximum(sums[:, 2] / sums[:, 0] * (a / c) - mean**2, 0.0)
        shares = self.values(sums)
        if criterion == GINI:
            return 1.0 - (shares**2).sum(axis=1)
        assert criterion == ENTROPY
        return np.maximum(-(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(axis=1), 0.0)


def class_targets(codes: np.ndarray, classes: int, weights: np.ndarray | None) -> Targets:
    """Return classes with their weights."""
    whole, scale = _whole_weights(weights, len(codes))
    return Targets(codes.astype(np.int32), whole[:, None], classes, (scale, 1.0, 1.0), 0.0)


def number_targets(y: np.ndarray, weights: np.ndarray | None) -> Targets:
    """Return the channels of squared errors."""
    whole, first = _whole_weights(weights, len(y))
    exact = whole / first
    mean = float(np.average(y, weights=exact))
    deviation = (y - mean) * exact
    linear, second = _whole(deviation)
    squares, third = _whole(deviation * (y - mean))
    amounts = np.stack([whole, linear, squares], axis=1)
    return Targets(np.zeros(len(y), np.int32), amounts, 0, (first, second, third), mean)


def _whole_weights(weights: np.ndarray | None, rows: int) -> tuple[np.ndarray, float]:
    if weights is None:
        return np.ones(rows, np.int64), 1.0
    if (weights == np.rint(weights)).all() and weights.sum() < 2.0**40:
        return weights.astype(np.int64), 1.0
    return _whole(weights)


def _whole(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the values times a power of two, rounded, and that power: as large as the sum leaves room for."""
    total = float(np.abs(values).sum())
    if total == 0:
        return np.zeros(len(values), np.int64), 1.0
    scale = 2.0 ** (ROOM - 1 - int(np.ceil(np.log2(total))))
    return np.rint(values * scale).astype(np.int64), scale
