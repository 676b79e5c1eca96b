"""Weights of rows, checked, and those that classes add."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from tasks.methods.blocks import collect, is_dask


def check_weights(values: Any, rows: int) -> np.ndarray | None:
    """Check weights of rows."""
    if values is None:
        return None
    weights = np.asarray(collect(values) if is_dask(values) else values, np.float64)
    if weights.ndim == 0:
        weights = np.full(rows, float(weights))
    if weights.shape != (rows,):
        raise ValueError(f"expected sample_weight of shape {(rows,)}, received {weights.shape}; give one per row")
    if not np.isfinite(weights).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    if (weights < 0).any():
        raise ValueError("expected sample_weight of at least 0, received negative weights")
    check_positive(weights)
    return weights


def check_positive(weights: np.ndarray) -> None:
    if not (weights > 0).any():
        raise ValueError("expected a row of positive sample weight, received zero for all rows")


def balanced(class_weight: Any, classes: np.ndarray, codes: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the weight of each row, float64 (n,): its class's, times its own."""
    # Newer versions of scikit-learn balance the weights, older ones the rows.
    known = "sample_weight" in signature(compute_class_weight).parameters and class_weight == "balanced"
    options = {"sample_weight": weights} if known else {}
    by_class = compute_class_weight(class_weight, classes=classes, y=classes[codes], **options)
    weighed: np.ndarray = by_class[codes] * (1.0 if weights is None else weights)
    check_positive(weighed)
    return weighed
