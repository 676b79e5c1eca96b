"""HDBSCAN: density-based clusters of every radius, from the minimum spanning tree of mutual reachability."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn import cluster
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, is_dask, open_blocks
from tasks.methods.hierarchy.spanning import Forest, spanning_tree
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.nearest import Neighbors, merge_neighbors, nearest_in_block


class HDBSCAN(ClusterMixin, BaseEstimator):
    """Cluster by density without a radius: the clusters that last longest while it shrinks.

    Exact: core distances and the spanning tree are those of all rows. The tree is condensed by scikit-learn, so labels
    and probabilities are scikit-learn's where no two lengths of the tree are equal; among equal ones either may merge
    first.

    Parameters
    ----------
    min_cluster_size : int, default 5
        Rows of a cluster, at least.
    min_samples : int, optional
        A row's core distance reaches so many rows, itself included; `min_cluster_size` if not given.
    cluster_selection_epsilon : float, default 0.0
        Clusters nearer to each other than this are merged.
    max_cluster_size : int, optional
        Rows of a cluster, at most.
    cluster_selection_method : {"eom", "leaf"}, default "eom"
    allow_single_cluster : bool, default False

    Attributes
    ----------
    labels_ : ndarray or dask.array.Array, int64 (n,)
        -1 for noise. A Dask array if the data was one.
    probabilities_ : ndarray or dask.array.Array, float64 (n,)
        How firmly a row belongs to its cluster; 0 for noise.
    n_features_in_ : int

    Notes
    -----
    Two passes over all pairs of blocks: neighbours, then the spanning tree (n/b blocks of b rows), 3 n^2 d operations.
    Per task: two blocks, a copy of each, and tiles of distances; it sends k neighbours of each row of a block (24 k b
    bytes) or the forest of two blocks (at most 48 b bytes). This process holds 24 k n bytes of neighbours and a sparse
    matrix of at most 2 (k + 1) n entries, k = `min_samples`.

    References
    ----------
    R. J. G. B. Campello, D. Moulavi, J. Sander (2013). Density-based clustering based on hierarchical density
    estimates. PAKDD, 160-172. See also `tasks.methods.hierarchy.spanning`.
    """

    def __init__(
        self,
        min_cluster_size: int = 5,
        *,
        min_samples: int | None = None,
        cluster_selection_epsilon: float = 0.0,
        max_cluster_size: int | None = None,
        cluster_selection_method: str = "eom",
        allow_single_cluster: bool = False,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.cluster_selection_epsilon = cluster_selection_epsilon
        self.max_cluster_size = max_cluster_size
        self.cluster_selection_method = cluster_selection_method
        self.allow_single_cluster = allow_single_cluster

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If a parameter or the data is not usable, or there are fewer rows than `min_samples`.
        """
        check_least("min_cluster_size", self.min_cluster_size, 2)
        if self.min_samples is not None:
            check_least("min_samples", self.min_samples, 1)
        X = check_matrix(self, X, reset=True, rows=2)
        k = self.min_cluster_size if self.min_samples is None else self.min_samples
        if k > X.shape[0]:
            raise ValueError(f"expected n_samples >= min_samples = {k}, received n_samples = {X.shape[0]}; lower it")
        model = cluster.HDBSCAN(**self.get_params(), metric="precomputed", copy=False)
        with open_blocks(X, name=type(self).__name__, passes=3) as rows:
            near = _neighbors(rows, k)
            tree = spanning_tree(rows, near.squares[:, -1])
        self._model = model.fit(_graph(near, tree))
        self.labels_ = self._like(X, self._model.labels_)
        self.probabilities_ = self._like(X, self._model.probabilities_)
        return self

    def dbscan_clustering(self, cut_distance: float, min_cluster_size: int = 5) -> np.ndarray:
        """Return the labels at one radius, int64 (n,): DBSCAN's, without border samples."""
        check_is_fitted(self)
        labels: np.ndarray = self._model.dbscan_clustering(cut_distance, min_cluster_size)
        return labels

    @staticmethod
    def _like(X: Any, values: np.ndarray) -> Any:
        if not is_dask(X):
            return values
        import dask.array as da

        return da.from_array(values, chunks=(X.chunks[0],))


def _neighbors(rows: Blocks, k: int) -> Neighbors:
    """Return the k nearest rows of every row, itself among them."""
    center = rows.reduce("center", column_moments, combine=merge_moments).mean
    search = partial(nearest_in_block, k=k, center=center)
    numbered = list(zip(rows.sources, rows.starts, strict=True))
    groups = [[(block, start, None, queries) for block, start in numbered] for queries in rows.sources]
    found = rows.engine.reduce_each(rows.named("neighbors"), search, groups, combine=merge_neighbors)
    return Neighbors(*(np.concatenate(parts) for parts in zip(*rows.fetch(found), strict=True)))


def _graph(near: Neighbors, tree: Forest) -> scipy.sparse.csr_matrix:
    """Return distances that have the core distances and the spanning tree of all of them: what scikit-learn asks for.

    They are those of near rows, by which it finds the core distances, and the edges of the tree. An edge of the tree
    that is not between near rows stands with its mutual reachability, which is no less than either core distance.
    """
    count, k = near.ids.shape
    ends = np.stack([np.repeat(np.arange(count), k), near.ids.ravel()])
    lengths = np.sqrt(np.concatenate([near.squares.ravel(), tree.squares]))
    ends = np.sort(np.concatenate([ends, tree.ends], axis=1), axis=0)
    # The first of each pair: near rows stand before the tree.
    _, first = np.unique(ends[0] * count + ends[1], return_index=True)
    first = first[ends[0, first] != ends[1, first]]
    low, high, length = *ends[:, first], lengths[first]
    # SciPy takes zero for no edge.
    length = np.maximum(length, np.finfo(np.float64).tiny)
    own = np.arange(count)
    data = np.concatenate([length, length, np.zeros(count)])
    places = np.concatenate([low, high, own]), np.concatenate([high, low, own])
    return scipy.sparse.coo_matrix((data, places), (count, count)).tocsr()
