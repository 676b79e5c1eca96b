"""Density-based clustering over pairs of row blocks."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClusterMixin

from tasks.methods.blocks import Blocks, is_dask, open_blocks
from tasks.methods.distances import pairs_within
from tasks.methods.inputs import check_matrix
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.nearest import merge_neighbors, nearest_in_block

TILE = 1024
"""Rows of a tile of distances; bounds what a task allocates where nearly all rows are neighbours."""

CURVE_ROWS = 4096
"""Rows whose k-distance is computed for eps="auto"."""


class DBSCAN(ClusterMixin, BaseEstimator):
    """Cluster by density: a core sample has at least `min_samples` samples within `eps`, itself included.

    Exact: labels and core samples are scikit-learn's, in its numbering. Clusters are numbered in the order of their
    first core sample; a border sample belongs to the lowest-numbered cluster that has a core sample within `eps`.

    Parameters
    ----------
    eps : float or "auto", default 0.5
        Radius of a neighbourhood, inclusive. "auto" takes the knee of the k-distance curve: the distances from
        samples to their `min_samples`-th nearest (themselves included), sorted; of 4,096 samples at even positions if
        there are more.
    min_samples : int, default 5

    Attributes
    ----------
    labels_ : ndarray or dask.array.Array, int64 (n,)
        -1 for noise. A Dask array if the data was one.
    core_sample_indices_ : ndarray of int64
    components_ : ndarray or lazy dask.array.Array, (core samples, d)
    eps_ : float
        The radius used.
    k_distances_ : ndarray, float64
        The sorted curve, with eps="auto" only.
    n_features_in_ : int

    Notes
    -----
    Two passes over all pairs of blocks (n/b blocks of b rows), n^2 d operations each. Per task: two blocks, a copy of
    each, tiles of 1024 x 1024 distances, and the neighbours of a tile. The n x n matrix exists nowhere. A task sends
    neighbour counts (8 b bytes), then a spanning forest of what it found connected (at most 32 b bytes) and the few
    core neighbours of border samples; these are merged in a tree, so at most 16 n bytes at a time leave it. This
    process holds counts, labels and edges, about 50 bytes per row. Data larger than the workers' memory is read once
    per pair: n/b times.

    References
    ----------
    M. Ester, H.-P. Kriegel, J. Sander, X. Xu (1996). A density-based algorithm for discovering clusters in large
    spatial databases with noise. KDD, 226-231 (section 4.2 for the k-distance curve).
    V. Satopää, J. Albrecht, D. Irwin, B. Raghavan (2011). Finding a "kneedle" in a haystack. ICDCS Workshops, 166-171.
    """

    def __init__(self, eps: float | str = 0.5, *, min_samples: int = 5) -> None:
        self.eps = eps
        self.min_samples = min_samples

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        self._check_parameters()
        X = check_matrix(self, X, reset=True)
        with open_blocks(X, name=type(self).__name__, passes=3) as rows:
            center = rows.reduce("center", column_moments, combine=merge_moments).mean
            if self.eps == "auto":
                self.k_distances_ = _k_distances(rows, center, self.min_samples)
                self.eps_ = knee(self.k_distances_)
            else:
                self.eps_ = float(self.eps)
            near = partial(pairs_within, radius=self.eps_, center=center, tile=TILE)
            core = _core_samples(rows, near, self.min_samples)
            links = _links(rows, near, core)
        labels = _labels(core, links)
        self.core_sample_indices_ = np.flatnonzero(core)
        if is_dask(X):
            import dask.array as da

            self.labels_ = da.from_array(labels, chunks=(X.chunks[0],))
        else:
            self.labels_ = labels
        self.components_ = X[self.core_sample_indices_]
        return self

    def _check_parameters(self) -> None:
        number = isinstance(self.eps, Real) and not isinstance(self.eps, bool)
        if self.eps != "auto" and not (number and float(self.eps) > 0):
            raise ValueError(f"expected eps as a number above 0 or 'auto', received {self.eps!r}")
        if not isinstance(self.min_samples, Integral) or self.min_samples < 1:
            raise ValueError(f"expected min_samples as an integer of at least 1, received {self.min_samples!r}")


class _Links(NamedTuple):
    edges: np.ndarray
    """Forest over core samples that lie within eps, int64 (2, e)."""
    borders: np.ndarray
    """Samples that are not core, and core samples within eps of them, int64 (2, p)."""


def knee(curve: np.ndarray) -> float:
    """Return the value at the knee of an increasing curve: where it lies farthest below the chord of its ends.

    Parameters
    ----------
    curve : ndarray, shape (m,)
        Sorted, not negative.

    Returns
    -------
    float
        Above 0: for a curve without a knee its largest value, or the smallest number that counts if that is 0.
    """
    low, high = float(curve[0]), float(curve[-1])
    found = high
    if high > low:
        below = np.linspace(0, 1, len(curve)) - (curve - low) / (high - low)
        found = float(curve[int(np.argmax(below))])
    positive = curve[curve > 0]
    return found if found > 0 else float(positive[0]) if len(positive) else float(np.finfo(float).eps)


def _k_distances(rows: Blocks, center: np.ndarray, k: int) -> np.ndarray:
    count = rows.shape[0]
    if k > count:
        raise ValueError(f"expected n_samples >= min_samples={k} for eps='auto', received n_samples={count}")
    chosen = np.unique(np.linspace(0, count - 1, min(count, CURVE_ROWS)).astype(np.int64))
    sample = rows.take(chosen, "sample")
    search = partial(nearest_in_block, k=k, center=center)
    nobody = [None] * len(rows)
    found = rows.reduce("k_distance", search, rows.starts, nobody, shared=(sample,), combine=merge_neighbors)
    return np.sort(np.sqrt(found.squares[:, -1]))


def _core_samples(rows: Blocks, near: partial, min_samples: int) -> np.ndarray:
    """Return True for the rows with enough neighbours."""
    calls = [(a, b, i, j) for (a, i), (b, j) in _pairs(rows)]
    groups = [calls]
    name = rows.named("count")
    counted = rows.engine.reduce_each(name, partial(_count, near=near), groups, combine=_add_counts)
    counts = rows.fetch(counted)[0]
    return np.concatenate([counts[i] for i in range(len(rows))]) >= min_samples


def _links(rows: Blocks, near: partial, core: np.ndarray) -> _Links:
    flags = rows.scatter("core", core)
    calls = [(a, b, rows.starts[i], rows.starts[j], flags[i], flags[j]) for (a, i), (b, j) in _pairs(rows)]
    name = rows.named("link")
    found = rows.engine.reduce_each(name, partial(_link, near=near), [calls], combine=_merge_links)
    links: _Links = rows.fetch(found)[0]
    return links


def _pairs(rows: Blocks) -> list[tuple[tuple[Any, int], tuple[Any, int]]]:
    """Return each unordered pair of blocks once, with their numbers."""
    numbered = [(source, i) for i, source in enumerate(rows.sources)]
    return [(a, b) for a in numbered for b in numbered[a[1] :]]


def _count(a: np.ndarray, b: np.ndarray, i: int, j: int, near: partial) -> dict[int, np.ndarray]:
    """Count the neighbours that the rows of two blocks have in each other."""
    counts = {i: np.zeros(len(a), np.int64), j: np.zeros(len(b), np.int64)}
    for left, right in near(a, b, same=i == j):
        counts[i] += np.bincount(left, minlength=len(a))
        if i != j:
            counts[j] += np.bincount(right, minlength=len(b))
    return counts


def _add_counts(a: dict[int, np.ndarray], b: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    total = dict(a)
    for block, counts in b.items():
        total[block] = total[block] + counts if block in total else counts
    return total


def _link(
    a: np.ndarray, b: np.ndarray, first: int, second: int, core_a: np.ndarray, core_b: np.ndarray, near: partial
) -> _Links:
    """Find which core rows of two blocks are connected, and which core rows the others lie next to."""
    edges, borders = [np.empty((2, 0), np.int64)], [np.empty((2, 0), np.int64)]
    for left, right in near(a, b, same=first == second):
        from_core, to_core = core_a[left], core_b[right]
        both = from_core & to_core
        edges.append(_forest(np.stack([first + left[both], second + right[both]])))
        for this, other in ((~from_core & to_core, 0), (from_core & ~to_core, 1)):
            pair = np.stack([first + left[this], second + right[this]])
            borders.append(pair[::-1] if other else pair)
    return _Links(_forest(np.concatenate(edges, axis=1)), np.unique(np.concatenate(borders, axis=1), axis=1))


def _merge_links(a: _Links, b: _Links) -> _Links:
    edges, borders = (np.concatenate(parts, axis=1) for parts in zip(a, b, strict=True))
    return _Links(_forest(edges), borders)


def _forest(edges: np.ndarray) -> np.ndarray:
    """Return edges that connect the same, one fewer than the vertices of each component."""
    vertices, places = np.unique(edges, return_inverse=True)
    if not len(vertices):
        return edges
    component = _components(places.reshape(2, -1), len(vertices))
    # Vertices are sorted, so the first of each component is its lowest.
    _, lowest = np.unique(component, return_index=True)
    root = lowest[component]
    others = np.flatnonzero(root != np.arange(len(vertices)))
    return np.stack([vertices[others], vertices[root[others]]])


def _components(edges: np.ndarray, count: int) -> np.ndarray:
    ones = np.ones(edges.shape[1], np.int8)
    graph = scipy.sparse.coo_matrix((ones, (edges[0], edges[1])), (count, count))
    component: np.ndarray = connected_components(graph, directed=False)[1]
    return component


def _labels(core: np.ndarray, links: _Links) -> np.ndarray:
    """Number the clusters by their first core row, and give border rows the lowest number next to them."""
    count = len(core)
    labels = np.full(count, -1, np.int64)
    rows = np.flatnonzero(core)
    component = _components(links.edges, count)[rows]
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    labels[rows] = order[number]
    border, neighbor = links.borders
    nearest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(nearest, border, labels[neighbor])
    reached = np.unique(border)
    labels[reached] = nearest[reached]
    return labels
