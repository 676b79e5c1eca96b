"""Distinct pairs of truth and prediction with their weights: all that most metrics need to know of the rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.multiclass import check_classification_targets

from tasks.methods.metrics.aligned import open_aligned


class Pairs(NamedTuple):
    """What one pass over the rows found."""

    true: np.ndarray
    """Truth of each distinct pair, (p,)."""
    other: np.ndarray
    """Prediction, cluster or score of each distinct pair, (p,)."""
    weights: np.ndarray
    """Rows of each pair, int64 (p,), or the sum of their weights, float64 (p,)."""


def count_pairs(name: str, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Pairs:
    """Count the distinct pairs of two columns, one of them at least a Dask array, in one pass.

    Notes
    -----
    Exact. Per task: three sorts of a block of labels. A task sends its distinct pairs, merged in a tree.
    """
    with open_aligned(name, y_true=y_true, y_pred=y_pred, sample_weight=sample_weight) as rows:
        found: Pairs = rows.reduce("count", _block_pairs, combine=_merge)
    return found


def count_scores(name: str, y_true: Any, scores: Any, column: int | None, sample_weight: Any = None) -> Pairs:
    """Count the distinct pairs of a label and a score.

    Parameters
    ----------
    column : int or None
        Which column of the scores; None if there is one score per row.
    """
    with open_aligned(name, y_true=y_true, y_score=scores, sample_weight=sample_weight) as rows:
        found: Pairs = rows.reduce("count", _block_scores, shared=(column,), combine=_merge)
    return found


def distinct(name: str, y: Any) -> np.ndarray:
    """Return the labels that occur, sorted."""
    with open_aligned(name, y_true=y) as rows:
        found: np.ndarray = rows.reduce("labels", _block_labels, combine=np.union1d)
    return found


def check_weights(weights: np.ndarray | None, rows: int) -> np.ndarray | None:
    """Check the weights of a block as float64 (rows,)."""
    if weights is None:
        return None
    if weights.shape != (rows,):
        raise ValueError(f"expected sample_weight of shape ({rows},), received {weights.shape}; give one per row")
    weights = weights.astype(np.float64)
    if not np.isfinite(weights).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    return weights


def _labels(values: np.ndarray, name: str) -> np.ndarray:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"expected one label per row in {name}, received shape {values.shape} in a block")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"Input {name} contains NaN or infinity.")
    check_classification_targets(values)
    return values


def _block_labels(true: np.ndarray) -> np.ndarray:
    return np.unique(_labels(true, "y_true"))


def _block_pairs(true: np.ndarray, other: np.ndarray, weights: np.ndarray | None) -> Pairs:
    return _pairs(_labels(true, "y_true"), _labels(other, "y_pred"), check_weights(weights, len(true)))


def _block_scores(true: np.ndarray, scores: np.ndarray, weights: np.ndarray | None, column: int | None) -> Pairs:
    scores = scores if column is None else scores[:, column]
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.dtype.kind == "f" and not np.isfinite(scores).all():
        raise ValueError("Input y_score contains NaN or infinity.")
    return _pairs(_labels(true, "y_true"), scores, check_weights(weights, len(true)))


def _pairs(true: np.ndarray, other: np.ndarray, weights: np.ndarray | None) -> Pairs:
    firsts, a = np.unique(true, return_inverse=True)
    seconds, b = np.unique(other, return_inverse=True)
    codes = a.astype(np.int64) * len(seconds) + b
    codes, place = np.unique(codes, return_inverse=True)
    if weights is None or weights.dtype.kind == "i":
        totals = np.zeros(len(codes), np.int64)
        np.add.at(totals, place, 1 if weights is None else weights)
    else:
        totals = np.bincount(place, weights, len(codes))
    return Pairs(firsts[codes // len(seconds)], seconds[codes % len(seconds)], totals)


def _merge(a: Pairs, b: Pairs) -> Pairs:
    return _pairs(*(np.concatenate(both) for both in zip(a, b, strict=True)))
