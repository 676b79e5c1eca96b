"""Score methods: fitted on the clean training split, measured on the test split of every dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from storage.dataset import Dataset
from tasks.features import Features

SILHOUETTE_ROWS = 2_000
"""The silhouette is quadratic in its rows, so it is taken of the first so many test rows: a fair draw, see `split`."""


def accuracy(true: np.ndarray, predicted: np.ndarray) -> float:
    """Share of equal entries."""
    return float(np.mean(np.asarray(true) == np.asarray(predicted))) if len(true) else float("nan")


def confusion_matrix(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count pairs, int64 (classes, classes): true classes by predicted classes."""
    codes = np.asarray(true, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(codes, minlength=classes * classes).reshape(classes, classes)


def psnr(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean over images of the peak signal-to-noise ratio, in dB.

    Parameters
    ----------
    reference, other : ndarray of uint8, shape (n, height, width, channel)

    Returns
    -------
    float
        ``10 log10(255^2 / mean squared error)`` per image, averaged; equal images count as 100 dB, so that one of them
        does not make the mean infinite.
    """
    if reference.shape != other.shape:
        raise ValueError(f"expected images of one shape, received {reference.shape} and {other.shape}")
    values = []
    for low in range(0, len(reference), 1024):  # float copies of a part at a time
        difference = reference[low : low + 1024].astype(np.float32) - other[low : low + 1024]
        error = np.mean(difference**2, axis=(1, 2, 3), dtype=np.float64)
        values.append(np.minimum(100.0, 10 * np.log10(255.0**2 / np.maximum(error, 1e-12))))
    return float(np.concatenate(values).mean()) if values else float("nan")


def classification_score(true: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Any]:
    """Accuracy, macro-averaged F1 and confusion matrix of class codes, as a part of a result.

    Macro-F1 averages over the classes that occur in either, as scikit-learn's `f1_score` does.
    """
    counts = confusion_matrix(true, predicted, classes)
    hits, total = np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1)
    there = total > 0
    f1 = float(np.mean(2 * hits[there] / total[there])) if there.any() else float("nan")
    return {
        "measure": "accuracy",
        "value": accuracy(true, predicted),
        "extra": {"f1_macro": f1},
        "confusion": counts.tolist(),
    }


def task_of(method: Any) -> str:
    """Say what a method does: ``classification``, ``clustering`` or ``decomposition``.

    Raises
    ------
    TypeError
        If it is something else.
    """
    from sklearn.base import is_classifier, is_clusterer

    if is_classifier(method):
        return "classification"
    if is_clusterer(method):
        return "clustering"
    if hasattr(method, "transform") and hasattr(method, "inverse_transform"):
        return "decomposition"
    raise TypeError(
        f"expected a classifier, a clusterer or a transformer with inverse_transform, received {type(method).__name__}"
    )


def evaluate_method(
    method: Any,
    train: Dataset,
    tests: Mapping[str, Dataset],
    features: Features,
    *,
    advance: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Fit a method on the training split and score it on the test split of every dataset.

    Parameters
    ----------
    method : estimator
        Unfitted; it is fitted in place. A clusterer without `predict` (DBSCAN) clusters each test split itself. One
        of scikit-learn's own is fitted on the training split as one array in this process, and predicts block by
        block (dask-ml's `ParallelPostFit`).
    train : Dataset
    tests : mapping of str to Dataset
        Copies of the same rows; the first is the clean one.
    features : Features
    advance : callable, optional
        Called with a note after the fit and after each score.

    Returns
    -------
    dict
        JSON-able result: task, times, and a score per dataset.
    """
    task = task_of(method)
    X: Any
    Z: Any
    X, y = features.matrix(train, "train")
    _check_labels(method, task, y)
    split = "test" if "test" in train.splits else "train"
    inductive = task != "clustering" or hasattr(method, "predict")
    arrays_only = _takes_arrays_only(method)
    if arrays_only:
        X = _computed(X)
    fit_seconds, fit_rows = None, None
    if inductive:
        begun = time.perf_counter()
        method.fit(X, y) if task == "classification" else method.fit(X)
        fit_seconds, fit_rows = time.perf_counter() - begun, len(y)
    if advance:
        advance("fitted")
    scorer: Callable[..., dict[str, Any]] = _classify if task == "classification" else _cluster
    if task == "decomposition":
        scorer = partial(_decompose, center=_training_mean(method, X))
    scores = []
    for name, dataset in tests.items():
        Z, z = features.matrix(dataset, split)
        if arrays_only and not (inductive and hasattr(method, "predict")):
            Z = _computed(Z)
        score = scorer(over_blocks(method), Z, z, len(train.classes))
        scores.append({"data": name, "split": split, "rows": len(z), "confusion": None, "extra": {}, **score})
        if advance:
            advance(f"{score['measure']} {score['value']:.4g} on {name}")
    if not inductive:  # it was fitted with each score
        fit_seconds, fit_rows = sum(score["predict_seconds"] for score in scores), scores[0]["rows"]
    return {
        "name": _name(method),
        "kind": "method",
        "task": task,
        "trained_on": train.name if inductive else "the data it is scored on",
        "fit_seconds": fit_seconds,
        "fit_rows": fit_rows,
        "parameters": None,
        "device": None,
        "scores": scores,
        "history": None,
        "artifacts": {},
    }


def _check_labels(method: Any, task: str, y: np.ndarray) -> None:
    if task != "classification":
        return
    if (y < 0).any():
        raise ValueError(f"expected labels for {_name(method)}, received {int((y < 0).sum())} rows without; add labels")
    if len(np.unique(y)) < 2:
        raise ValueError(f"expected at least two classes for {_name(method)}, received {len(np.unique(y))}")


def _takes_arrays_only(method: Any) -> bool:
    """Whether an estimator, or any step of a pipeline, is scikit-learn's own: it knows nothing of Dask arrays."""
    if hasattr(method, "steps"):
        return any(_takes_arrays_only(step) for _, step in method.steps)
    return type(method).__module__.startswith("sklearn.")


def over_blocks(method: Any) -> Any:
    """Let a fitted estimator predict the blocks of a Dask array where they lie; ours can already."""
    if not _takes_arrays_only(method) or not hasattr(method, "predict"):
        return method
    from dask_ml.wrappers import ParallelPostFit

    return ParallelPostFit(estimator=method)


def fit_classifier(method: Any, train: Dataset, features: Features) -> None:
    """Fit a classifier in place as `evaluate_method` does, without scoring it."""
    X: Any
    X, y = features.matrix(train, "train")
    _check_labels(method, "classification", y)
    method.fit(_computed(X) if _takes_arrays_only(method) else X, y)


def _name(method: Any) -> str:
    """Class of an estimator; of a scikit-learn pipeline, that of its last step."""
    return type(method.steps[-1][1] if hasattr(method, "steps") else method).__name__


def _computed(values: Any) -> np.ndarray:
    from tasks.methods.blocks import collect

    return collect(values)


def _classify(method: Any, X: Any, y: np.ndarray, classes: int) -> dict[str, Any]:
    begun = time.perf_counter()
    predicted = _computed(method.predict(X))
    return {"predict_seconds": time.perf_counter() - begun, **classification_score(y, predicted, classes)}


def _cluster(method: Any, X: Any, y: np.ndarray, classes: int) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

    begun = time.perf_counter()
    found = _computed(method.predict(X) if hasattr(method, "predict") else method.fit_predict(X))
    seconds = time.perf_counter() - begun
    sample, rows = found[:SILHOUETTE_ROWS], _computed(X[:SILHOUETTE_ROWS])
    kept = sample >= 0  # points that DBSCAN calls noise are in no cluster
    extra: dict[str, Any] = {
        "clusters": len(np.unique(found[found >= 0])),
        "noise_points": int((found < 0).sum()),
        # Defined for two clusters or more, and fewer clusters than rows.
        "silhouette": float(silhouette_score(rows[kept], sample[kept]))
        if 1 < len(np.unique(sample[kept])) < kept.sum()
        else None,
    }
    if (eps := getattr(method, "eps_", None)) is not None:
        extra["eps"] = float(eps)
    if (y < 0).any():
        value = extra["silhouette"]
        return {"measure": "silhouette", "value": value, "predict_seconds": seconds, "extra": extra}
    extra["NMI"] = float(normalized_mutual_info_score(y, found))
    value = float(adjusted_rand_score(y, found))
    return {"measure": "ARI", "value": value, "predict_seconds": seconds, "extra": {"ARI": value, **extra}}


def _training_mean(method: Any, X: Any) -> np.ndarray:
    """Mean of the training split: the method's own if it has one, else by one pass."""
    if hasattr(method, "mean_"):
        return np.asarray(method.mean_)
    from tasks.methods.blocks import open_blocks
    from tasks.methods.moments import column_moments, merge_moments

    with open_blocks(X, name=_name(method), passes=1) as rows:
        mean: np.ndarray = rows.reduce("mean", column_moments, combine=merge_moments).mean
    return mean


def _decompose(method: Any, X: Any, y: np.ndarray, classes: int, center: np.ndarray) -> dict[str, Any]:
    """Share of the test split's variance, about the training mean, that survives there and back."""
    begun = time.perf_counter()
    back = method.inverse_transform(method.transform(X))
    # Two numbers per row instead of two matrices come back.
    lost = _computed(_row_squares(X - back))
    seconds = time.perf_counter() - begun
    all_ = _computed(_row_squares(X - np.asarray(center, np.float32)))
    value = 1 - float(lost.sum()) / float(all_.sum()) if all_.sum() else float("nan")
    kept = getattr(method, "n_components_", None)
    extra = {"mse": float(lost.sum()) / X.size, "components": None if kept is None else int(kept)}
    return {"measure": "explained variance", "value": value, "predict_seconds": seconds, "extra": extra}


def _row_squares(X: Any) -> Any:
    return (X.astype(np.float64) ** 2).sum(axis=1)
