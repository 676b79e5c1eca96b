"""Score methods: fitted on the clean training split, measured on the test split of every dataset."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from storage.dataset import Dataset
from tasks.features import Features
from tasks.scores import classify, cluster, computed, decompose, last_step, training_mean, view


def task_of(method: Any) -> str:
    """Say what a method does: ``classification``, ``clustering``, ``decomposition`` or ``view``.

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
    if getattr(last_step(method), "task", None) == "view":
        return "view"
    raise TypeError(
        "expected a classifier, a clusterer, a transformer with inverse_transform or an EmbeddingView, received "
        f"{type(method).__name__}"
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
        Unfitted; it is fitted in place. A clusterer without `predict` (DBSCAN) clusters each test split itself, and a
        view is made of each. One
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
    inductive = task not in ("clustering", "view") or hasattr(method, "predict")
    arrays_only = _takes_arrays_only(method)
    if arrays_only:
        X = computed(X)
    fit_seconds, fit_rows = None, None
    if inductive:
        begun = time.perf_counter()
        method.fit(X, y) if task == "classification" else method.fit(X)
        fit_seconds, fit_rows = time.perf_counter() - begun, len(y)
    if advance:
        advance("fitted")
    scorer: Callable[..., dict[str, Any]] = {"classification": classify, "view": view}.get(task, cluster)
    if task == "decomposition":
        scorer = partial(decompose, center=training_mean(method, X))
    scores = []
    for name, dataset in tests.items():
        Z, z = features.matrix(dataset, split)
        if arrays_only and not (inductive and hasattr(method, "predict")):
            Z = computed(Z)
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
    method.fit(computed(X) if _takes_arrays_only(method) else X, y)


def _name(method: Any) -> str:
    """Class of an estimator; of a scikit-learn pipeline, that of its last step."""
    return type(last_step(method)).__name__
