"""What methods and networks are measured by."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SILHOUETTE_ROWS = 2_000
"""The silhouette is quadratic in its rows, so it is taken of the first so many test rows: a fair draw, see `split`."""


CURVE_PLACES = 200
"""Places of a k-distance curve that the record keeps."""


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


def computed(values: Any) -> np.ndarray:
    """Bring values to this process."""
    from tasks.methods.blocks import collect

    return collect(values)


def classify(method: Any, X: Any, y: np.ndarray, classes: int) -> dict[str, Any]:
    """Score the classes that a fitted method predicts."""
    begun = time.perf_counter()
    predicted = computed(method.predict(X))
    return {"predict_seconds": time.perf_counter() - begun, **classification_score(y, predicted, classes)}


def cluster(method: Any, X: Any, y: np.ndarray, classes: int) -> dict[str, Any]:
    """Score clusters against the labels, or without labels by their silhouette."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

    begun = time.perf_counter()
    found = computed(method.predict(X) if hasattr(method, "predict") else method.fit_predict(X))
    seconds = time.perf_counter() - begun
    sample, rows = found[:SILHOUETTE_ROWS], computed(X[:SILHOUETTE_ROWS])
    kept = sample >= 0  # points that DBSCAN calls noise are in no cluster
    extra: dict[str, Any] = {
        "clusters": len(np.unique(found[found >= 0])),
        "noise_points": int((found < 0).sum()),
        # Defined for two clusters or more, and fewer clusters than rows.
        "silhouette": float(silhouette_score(rows[kept], sample[kept]))
        if 1 < len(np.unique(sample[kept])) < kept.sum()
        else None,
    }
    own = last_step(method)
    if (eps := getattr(own, "eps_", None)) is not None:
        extra["eps"] = float(eps)
    if (curve := getattr(own, "k_distances_", None)) is not None:
        extra["k_distances"] = _thinned(curve)
        extra["min_samples"] = int(own.min_samples)
    if (y < 0).any():
        value = extra["silhouette"]
        return {"measure": "silhouette", "value": value, "predict_seconds": seconds, "extra": extra}
    extra["NMI"] = float(normalized_mutual_info_score(y, found))
    value = float(adjusted_rand_score(y, found))
    return {"measure": "ARI", "value": value, "predict_seconds": seconds, "extra": {"ARI": value, **extra}}


def view(method: Any, X: Any, y: np.ndarray, classes: int) -> dict[str, Any]:
    """Make a picture of some rows, and score how far it keeps who is near whom (trustworthiness, from 0 to 1)."""
    from sklearn.manifold import trustworthiness

    begun = time.perf_counter()
    own = last_step(method.fit(X, y))
    seconds = time.perf_counter() - begun
    rows = len(own.rows_)
    near = min(5, (rows - 1) // 2)
    value = trustworthiness(computed(X[own.rows_]), own.coordinates_, n_neighbors=near) if near else float("nan")
    # On a square of 100 by 100, as far as a screen can show.
    low, high = own.coordinates_.min(axis=0), own.coordinates_.max(axis=0)
    places = np.round((own.coordinates_ - low) / np.where(high > low, high - low, 1) * 100, 1)
    points = [[float(a), float(b), int(c)] for (a, b), c in zip(places, own.labels_, strict=True)]
    return {
        "measure": "trustworthiness",
        "value": float(value),
        "predict_seconds": seconds,
        "extra": {"rows_shown": rows, "points": points},
    }


def last_step(method: Any) -> Any:
    """Return the last estimator of a scikit-learn pipeline; another method as it is."""
    return method.steps[-1][1] if hasattr(method, "steps") else method


def _thinned(curve: np.ndarray) -> list[float]:
    """Return a sorted curve at so many places that a drawing does not show the difference."""
    at = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), CURVE_PLACES)).round().astype(int))
    return [float(f"{value:.5g}") for value in curve[at]]


def training_mean(method: Any, X: Any) -> np.ndarray:
    """Mean of the training split: the method's own if it has one, else by one pass."""
    if hasattr(method, "mean_"):
        return np.asarray(method.mean_)
    from tasks.methods.blocks import open_blocks
    from tasks.methods.moments import column_moments, merge_moments

    with open_blocks(X, name=type(method).__name__, passes=1) as rows:
        mean: np.ndarray = rows.reduce("mean", column_moments, combine=merge_moments).mean
    return mean


def decompose(method: Any, X: Any, y: np.ndarray, classes: int, center: np.ndarray) -> dict[str, Any]:
    """Share of the test split's variance, about the training mean, that survives there and back."""
    begun = time.perf_counter()
    back = method.inverse_transform(method.transform(X))
    # Two numbers per row instead of two matrices come back.
    lost = computed(_row_squares(X - back))
    seconds = time.perf_counter() - begun
    all_ = computed(_row_squares(X - np.asarray(center, np.float32)))
    value = 1 - float(lost.sum()) / float(all_.sum()) if all_.sum() else float("nan")
    kept = getattr(method, "n_components_", None)
    extra = {"mse": float(lost.sum()) / X.size, "components": None if kept is None else int(kept)}
    return {"measure": "explained variance", "value": value, "predict_seconds": seconds, "extra": extra}


def _row_squares(X: Any) -> Any:
    return (X.astype(np.float64) ** 2).sum(axis=1)
