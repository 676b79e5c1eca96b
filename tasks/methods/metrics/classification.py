"""Scores of predicted classes: scikit-learn's, of the distinct pairs of truth and prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from tasks.methods.metrics.aligned import any_dask
from tasks.methods.metrics.tally import count_pairs

SHARED_NOTE = """

    NumPy input is scikit-learn's own work. Where an array is a Dask array, its blocks count the distinct pairs of truth
    and prediction in one pass, and scikit-learn's function gets each pair once, its count as its weight. Exact; with
    float weights to rounding. Memory and messages: one entry per distinct pair. Parameters are scikit-learn's.

    Raises
    ------
    ValueError
        If lengths differ, chunks are of unknown size, or a value is NaN or no class label.
    """


def accuracy_score(y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None) -> float:
    """Return the share of rows, or with ``normalize=False`` the number, whose prediction is right."""
    return float(_score(metrics.accuracy_score, y_true, y_pred, sample_weight, normalize=normalize))


def balanced_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None, adjusted: bool = False) -> float:
    """Return the mean over the classes of the recall."""
    return float(_score(metrics.balanced_accuracy_score, y_true, y_pred, sample_weight, adjusted=adjusted))


def confusion_matrix(
    y_true: Any, y_pred: Any, *, labels: Any = None, sample_weight: Any = None, normalize: str | None = None
) -> Any:
    """Count rows by true class (row) and predicted class (column), (classes, classes)."""
    return _score(metrics.confusion_matrix, y_true, y_pred, sample_weight, labels=labels, normalize=normalize)


def precision_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return the share of the rows predicted as a class that are of it."""
    options = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return _score(metrics.precision_score, y_true, y_pred, sample_weight, **options)


def recall_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return the share of the rows of a class that are predicted as it."""
    options = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return _score(metrics.recall_score, y_true, y_pred, sample_weight, **options)


def f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return the harmonic mean of precision and recall."""
    options = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    return _score(metrics.f1_score, y_true, y_pred, sample_weight, **options)


def precision_recall_fscore_support(
    y_true: Any,
    y_pred: Any,
    *,
    beta: float = 1.0,
    labels: Any = None,
    pos_label: Any = 1,
    average: str | None = None,
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return precision, recall, F-score and the number of true rows, of each class or averaged."""
    options = {"labels": labels, "pos_label": pos_label, "average": average, "zero_division": zero_division}
    found = _score(metrics.precision_recall_fscore_support, y_true, y_pred, sample_weight, beta=beta, **options)
    if average is None and sample_weight is None:
        # What was counted in blocks came as weights, and counts are whole.
        return (*found[:3], found[3].astype(np.int64))
    return found


def matthews_corrcoef(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Return the correlation of truth and prediction, -1 to 1."""
    return float(_score(metrics.matthews_corrcoef, y_true, y_pred, sample_weight))


def _score(metric: Any, y_true: Any, y_pred: Any, sample_weight: Any, **options: Any) -> Any:
    if any_dask(y_true, y_pred, sample_weight):
        y_true, y_pred, sample_weight = count_pairs(metric.__name__, y_true, y_pred, sample_weight)
    return metric(y_true, y_pred, sample_weight=sample_weight, **options)


for _metric in (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
):
    _metric.__doc__ = f"{_metric.__doc__}{SHARED_NOTE}"
