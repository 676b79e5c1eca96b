"""How well rows lie in their clusters: exact, from the distances of all pairs of blocks, or of a sample of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics
from sklearn.utils import check_random_state

from tasks.methods.blocks import Blocks, collect, is_dask, open_blocks
from tasks.methods.scratch import slices

DISTANCES = 1 << 19
"""Distances that a task holds at a time: 4 MB of float64."""


def silhouette_score(
    X: Any,
    labels: Any,
    *,
    metric: str = "euclidean",
    sample_size: int | None = None,
    random_state: Any = None,
    **kwds: Any,
) -> float:
    """Return the mean silhouette, -1 to 1.

    Exact without `sample_size`; with it, that of scikit-learn's sample for the same `random_state`. NumPy input is
    scikit-learn's own work; distances of blocks are taken in float64.

    Parameters
    ----------
    X : array-like or dask.array.Array, shape (n, d)
    labels : array-like or dask.array.Array, shape (n,)
        The cluster of each row, of any type; held in this process.
    metric : str, default "euclidean"
        As in `sklearn.metrics.pairwise_distances`, but not "precomputed".
    sample_size : int, optional
        Rows to draw, which are brought to this process. The whole costs n^2 distances.
    random_state : int, RandomState or None
        For the sample.

    Raises
    ------
    ValueError
        If there are fewer than 2 clusters, as many as rows, or X is not finite.

    Notes
    -----
    b^2 tasks, each of a pair of blocks and 4 MB beside them; each sends a number per row and cluster, which are
    summed for one block after the other. Rows of a cluster of their own count 0.

    References
    ----------
    P. J. Rousseeuw (1987). Silhouettes: a graphical aid to the interpretation and validation of cluster analysis.
    Journal of Computational and Applied Mathematics 20, 53-65.
    """
    if sample_size is None:
        found = silhouette_samples(X, labels, metric=metric, **kwds)
        return float(collect(found, "collect", "silhouette_score").mean())
    labels = collect(labels, "labels", "silhouette_score")
    if not is_dask(X):
        options = {"metric": metric, "sample_size": sample_size, "random_state": random_state}
        return float(metrics.silhouette_score(X, labels, **options, **kwds))
    if not 1 < sample_size <= X.shape[0]:
        raise ValueError(f"expected a sample_size of 2 to {X.shape[0]} rows, received {sample_size}")
    drawn = np.sort(check_random_state(random_state).permutation(X.shape[0])[:sample_size])
    with open_blocks(X, name="silhouette_score", passes=1) as rows:
        _codes(labels, rows.shape[0])
        return float(metrics.silhouette_score(rows.take(drawn), labels[drawn], metric=metric, **kwds))


def silhouette_samples(X: Any, labels: Any, *, metric: str = "euclidean", **kwds: Any) -> Any:
    """Return (b - a) / max(a, b) of each row: its mean distances a to its own cluster, b to the next.

    Parameters
    ----------
    X, labels, metric
        See `silhouette_score`.

    Returns
    -------
    ndarray or dask.array.Array of float64, shape (n,)
        A Dask array, computed already, if X is one.
    """
    labels = collect(labels, "labels", "silhouette_samples")
    if not is_dask(X):
        return metrics.silhouette_samples(X, labels, metric=metric, **kwds)
    if metric == "precomputed":
        raise ValueError("expected a metric of rows for a Dask array, received 'precomputed'; use a NumPy array")
    with open_blocks(X, name="silhouette_samples", passes=len(X.chunks[0])) as rows:
        codes, counts = _codes(labels, rows.shape[0])
        clusters = rows.scatter("labels", codes)
        sums = _cluster_sums(rows, clusters, (len(counts), metric, kwds))
        name = rows.named("silhouette")
        parts = rows.engine.map(name, _silhouettes, list(zip(sums, clusters, strict=True)), (counts,))
        return rows.assemble(parts, (), np.float64)


def _codes(labels: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.asarray(labels)
    if labels.shape != (rows,):
        raise ValueError(f"expected a label for each of {rows} rows, received labels of shape {labels.shape}")
    found, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not 1 < len(found) < rows:
        raise ValueError(
            f"Number of labels is {len(found)}. Valid values are 2 to n_samples - 1 (inclusive); "
            "a silhouette compares clusters"
        )
    return codes.astype(np.int32), counts


def _cluster_sums(rows: Blocks, clusters: list, shared: tuple) -> list:
    """Sum the distances of each row to the rows of each cluster; a handle per block."""
    groups = [
        [(mine, theirs, codes, i == j) for j, (theirs, codes) in enumerate(zip(rows.sources, clusters, strict=True))]
        for i, mine in enumerate(rows.sources)
    ]
    return rows.engine.reduce_each(rows.named("distances"), _block_sums, groups, shared, combine=np.add)


def _block_sums(
    mine: np.ndarray, theirs: np.ndarray, codes: np.ndarray, same: bool, count: int, metric: str, kwds: dict
) -> np.ndarray:
    theirs = theirs.astype(np.float64, copy=False)
    sums = np.zeros((len(mine), count))
    members = np.zeros((len(theirs), count))
    members[np.arange(len(theirs)), codes] = 1
    for low, high in slices(len(mine), max(1, DISTANCES // len(theirs))):
        distances = metrics.pairwise_distances(mine[low:high].astype(np.float64), theirs, metric=metric, **kwds)
        if same:  # rounding must not put a row away from itself
            distances[np.arange(high - low), np.arange(low, high)] = 0
        sums[low:high] = distances.astype(np.float64, copy=False) @ members
    return sums


def _silhouettes(sums: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    own = (np.arange(len(codes)), codes)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = sums[own] / (counts - 1)[codes]
        others = sums / counts
        others[own] = np.inf
        between = others.min(axis=1)
        found = (between - within) / np.maximum(within, between)
    found = np.where(counts[codes] == 1, 0.0, found)
    return np.nan_to_num(found)
