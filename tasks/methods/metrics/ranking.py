"""Scores of probabilities and decision values: ROC-AUC, exact, and log-loss."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from sklearn import metrics

from tasks.methods.metrics.aligned import any_dask, open_aligned
from tasks.methods.metrics.tally import Pairs, check_weights, count_scores, distinct


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
    average : {"micro", "macro", "weighted"} or None, default "macro"
        Of more than two classes; None returns the area of each, and "micro" is that of all columns as one. These two
        are of "ovr" only.
    max_fpr : float, optional
        Of two classes only.
    multi_class : {"raise", "ovr", "ovo"}, default "raise"
        "ovr" is each class against the rest; "ovo" each class against each other, of the rows of the two, without
        weights.
    labels : array-like, optional
        The classes in order, where some do not occur in `y_true`.

    Raises
    ------
    ValueError
        If only one class is there, probabilities do not add up to 1, a value is not finite, lengths differ, or
        parameters do not go together.
    NotImplementedError
        As from scikit-learn, for ``average=None`` with "ovo".

    Notes
    -----
    One pass for two classes; for more one to find the labels and one per class, so that one column of scores at most
    is in one place. Memory here: 24 bytes for each pair of a label ("ovr", two: this class, or not) and a distinct
    score, n of them at most; as many are sent. "micro" holds those of all columns.

    References
    ----------
    D. J. Hand, R. J. Till (2001). A simple generalisation of the area under the ROC curve for multiple class
    classification problems. Machine Learning 45, 171-186 ("ovo").
    """
    if not any_dask(y_true, y_score, sample_weight):
        options = {"average": average, "max_fpr": max_fpr, "multi_class": multi_class, "labels": labels}
        return metrics.roc_auc_score(y_true, y_score, sample_weight=sample_weight, **options)
    name = "roc_auc_score"
    if np.ndim(y_score) == 1 or np.shape(y_score)[1] == 1:
        pairs = count_scores(name, y_true, y_score, None, sample_weight)
        return metrics.roc_auc_score(pairs.true, pairs.other, sample_weight=pairs.weights, max_fpr=max_fpr)
    _check_options(np.shape(y_score)[1], multi_class, average, max_fpr, sample_weight)
    present = distinct(name, _lazy(y_true))
    classes = present if labels is None else _checked_labels(labels, present)
    _check_columns(classes, np.shape(y_score)[1])
    with open_aligned(name, y_score=_lazy(y_score)) as rows:
        rows.reduce("check", _check_sums, combine=_nothing)
    if multi_class == "ovo":
        return _pair_by_pair(name, y_true, y_score, classes, present, average)
    if average == "micro":
        found = [count_scores(name, _is(y_true, one), y_score, i, sample_weight) for i, one in enumerate(classes)]
        every = Pairs(*(np.concatenate(both) for both in zip(*found, strict=True)))
        return metrics.roc_auc_score(every.true, every.other, sample_weight=every.weights)
    areas, shares = [], []
    for column, one in enumerate(classes):
        pairs = count_scores(name, _is(y_true, one), y_score, column, sample_weight)
        areas.append(metrics.roc_auc_score(pairs.true, pairs.other, sample_weight=pairs.weights))
        shares.append(pairs.weights[pairs.true == 1].sum())
    if average is None:
        return np.asarray(areas)
    return float(np.average(areas, weights=shares if average == "weighted" else None))


def _pair_by_pair(
    name: str, y_true: Any, y_score: Any, classes: np.ndarray, present: np.ndarray, average: str | None
) -> float:
    """Return the mean over the pairs of classes that occur, of the areas of either class's scores of the two's rows."""
    areas: dict[tuple[int, int], float] = {}
    rows: dict[int, int] = {}
    numbers = np.searchsorted(classes, present).tolist()
    for a in numbers:
        pairs = count_scores(name, y_true, y_score, a)
        rows[a] = int(pairs.weights[pairs.true == classes[a]].sum())
        for b in numbers:
            if a != b:
                both = (pairs.true == classes[a]) | (pairs.true == classes[b])
                areas[a, b] = metrics.roc_auc_score(
                    pairs.true[both] == classes[a], pairs.other[both], sample_weight=pairs.weights[both]
                )
    each = list(itertools.combinations(numbers, 2))
    weights = [rows[a] + rows[b] for a, b in each] if average == "weighted" else None
    return float(np.average([(areas[a, b] + areas[b, a]) / 2 for a, b in each], weights=weights))


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


def _check_options(columns: int, multi_class: str, average: Any, max_fpr: Any, weights: Any) -> None:
    if columns == 2:
        raise ValueError(
            "expected one score per row for two classes, received 2 columns; give that of the greater class"
        )
    if multi_class not in ("ovr", "ovo"):
        raise ValueError(
            f"expected multi_class='ovr' or 'ovo' for a score per class, received {multi_class!r}; "
            "of two classes give the scores of the greater one"
        )
    if multi_class == "ovo" and average is None:
        raise NotImplementedError("average=None is not implemented for multi_class='ovo'; use 'macro' or 'weighted'")
    allowed = ("micro", "macro", "weighted", None) if multi_class == "ovr" else ("macro", "weighted")
    if average not in allowed:
        raise ValueError(
            f"expected average as one of {', '.join(map(repr, allowed))} with multi_class={multi_class!r}, received "
            f"{average!r}"
        )
    if multi_class == "ovo" and weights is not None:
        raise ValueError("expected no sample_weight with multi_class='ovo', received one; use 'ovr', which takes it")
    if max_fpr not in (None, 1.0):
        raise ValueError(f"expected no max_fpr with more than two classes, received {max_fpr!r}")


def _checked_labels(labels: Any, present: np.ndarray) -> np.ndarray:
    classes = np.asarray(labels)
    if not np.array_equal(classes, np.unique(classes)):
        raise ValueError(f"expected labels in order, each once, received {classes.tolist()}; sort them")
    missing = np.setdiff1d(present, classes)
    if len(missing):
        raise ValueError(f"expected labels with all that y_true has, received none of {missing.tolist()}; add them")
    return classes


def _check_columns(classes: np.ndarray, columns: int) -> None:
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
