"""Scores of probabilities and decision values: ROC-AUC, exact, and log-loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from tasks.methods.metrics.aligned import any_dask, open_aligned
from tasks.methods.metrics.tally import check_weights, count_scores, distinct


def roc_auc_score(
    y_true: Any,
    y_score: Any,
    *,
    average: str | None = "macro",
    sample_weight: Any = None,
    max_fpr: float | None = None,
    multi_class: str = "raise",
    labels: Any = None,
) -> Any:
    """Return the area under the ROC curve.

    Exact: blocks count their distinct scores, which are merged, and scikit-learn's function gets each once. NumPy
    input is scikit-learn's own work.

    Parameters
    ----------
    y_true : array-like or dask.array.Array, shape (n,)
    y_score : array-like or dask.array.Array, shape (n,) or (n, classes)
        Of two classes the score of the greater, of more the probabilities of all, in the order of the labels.
    average : {"macro", "weighted"} or None, default "macro"
        Of more than two classes; None returns the area of each.
    max_fpr : float, optional
        Of two classes only.
    multi_class : {"raise", "ovr"}, default "raise"
    labels : array-like, optional
        The classes, where some do not occur in `y_true`.

    Raises
    ------
    ValueError
        If only one class is there, probabilities do not add up to 1, a value is not finite, or lengths differ.

    Notes
    -----
    One pass for two classes; for more one to find the labels and one per class, so that one column of scores at most
    is in one place. Memory here: 24 bytes for each pair of a label (two: this class, or not) and a distinct score,
    n of them at most; as many are sent.
    """
    if not any_dask(y_true, y_score, sample_weight):
        options = {"average": average, "max_fpr": max_fpr, "multi_class": multi_class, "labels": labels}
        return metrics.roc_auc_score(y_true, y_score, sample_weight=sample_weight, **options)
    name = "roc_auc_score"
    if np.ndim(y_score) == 1 or np.shape(y_score)[1] == 1:
        pairs = count_scores(name, y_true, y_score, None, sample_weight)
        return metrics.roc_auc_score(pairs.true, pairs.other, sample_weight=pairs.weights, max_fpr=max_fpr)
    classes = distinct(name, _lazy(y_true)) if labels is None else np.unique(labels)
    _check_many(classes, np.shape(y_score)[1], multi_class, average, max_fpr)
    with open_aligned(name, y_score=_lazy(y_score)) as rows:
        rows.reduce("check", _check_sums, combine=_nothing)
    areas, shares = [], []
    for column, one in enumerate(classes):
        pairs = count_scores(name, _is(y_true, one), y_score, column, sample_weight)
        areas.append(metrics.roc_auc_score(pairs.true, pairs.other, sample_weight=pairs.weights))
        shares.append(pairs.weights[pairs.true == 1].sum())
    if average is None:
        return np.asarray(areas)
    return float(np.average(areas, weights=shares if average == "weighted" else None))


def log_loss(
    y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None, labels: Any = None
) -> float:
    """Return the mean, or with ``normalize=False`` the sum, of minus the logarithm of the true class's probability.

    Exact to rounding. NumPy input is scikit-learn's own work.

    Parameters
    ----------
    y_true : array-like or dask.array.Array, shape (n,)
    y_pred : array-like or dask.array.Array, shape (n,) or (n, classes)
        Probabilities: of the greater class, or of all in the order of the labels.
    labels : array-like, optional
        The classes. Without them a pass over `y_true` finds them.

    Notes
    -----
    One pass. Per task: three copies of a block of probabilities. Each task sends two numbers.
    """
    if not any_dask(y_true, y_pred, sample_weight):
        options = {"normalize": normalize, "labels": labels}
        return float(metrics.log_loss(y_true, y_pred, sample_weight=sample_weight, **options))
    name = "log_loss"
    classes = np.unique(labels) if labels is not None else distinct(name, _lazy(y_true))
    if len(classes) < 2:
        raise ValueError(
            f"expected at least two classes in y_true, found {classes.tolist()}; name all of them with labels="
        )
    with open_aligned(name, y_true=y_true, y_pred=y_pred, sample_weight=sample_weight) as rows:
        total, weight = rows.reduce("loss", _block_loss, shared=(classes,), combine=np.add)
    return float(total / weight if normalize else total)


def _check_many(classes: np.ndarray, columns: int, multi_class: str, average: Any, max_fpr: Any) -> None:
    if columns == 2:
        raise ValueError(
            "expected one score per row for two classes, received 2 columns; give that of the greater class"
        )
    if multi_class != "ovr":
        raise ValueError(
            f"expected multi_class='ovr' for a score per class of a Dask array, received {multi_class!r}; "
            "of two classes give the scores of the greater one"
        )
    if average not in ("macro", "weighted", None):
        raise ValueError(f"expected average 'macro', 'weighted' or None, received {average!r}")
    if max_fpr not in (None, 1.0):
        raise ValueError(f"expected no max_fpr with more than two classes, received {max_fpr!r}")
    if len(classes) != columns:
        raise ValueError(
            f"expected a column of y_score for each class, received {columns} columns and {len(classes)} classes; "
            "name the classes with labels= if y_true lacks some"
        )


def _lazy(array: Any) -> Any:
    import dask.array as da

    return array if any_dask(array) else da.from_array(np.asarray(array))


def _is(labels: Any, one: Any) -> Any:
    # Compared as NumPy does, also where a label is a string.
    return (labels == one).astype(np.int8) if any_dask(labels) else (np.asarray(labels) == one).astype(np.int8)


def _check_sums(scores: np.ndarray) -> None:
    if not np.allclose(1, scores.sum(axis=1)):
        raise ValueError(
            "Target scores need to be probabilities for multiclass roc_auc, i.e. they should sum up to 1.0 over classes"
        )


def _nothing(a: None, b: None) -> None:
    return None


def _block_loss(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None, classes: np.ndarray) -> np.ndarray:
    weights = check_weights(weights, len(true))
    if weights is not None and not weights.any():
        # A block in which nothing counts is checked like the others; scikit-learn would refuse its weights.
        metrics.log_loss(true, predicted, labels=classes)
        return np.zeros(2)
    total = metrics.log_loss(true, predicted, normalize=False, sample_weight=weights, labels=classes)
    return np.array([total, len(true) if weights is None else weights.sum()])
