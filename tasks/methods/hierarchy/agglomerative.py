"""Agglomerative clustering of row blocks."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from sklearn import cluster
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, is_dask, open_blocks
from tasks.methods.clusters import KMeans, best_run
from tasks.methods.hierarchy.dendrogram import Merges, cut, leaves_below, single_linkage, weighted_linkage
from tasks.methods.hierarchy.spanning import spanning_tree
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.lloyd import nearest_centers

MICRO_PASSES = 20
"""Passes of k-means that find the micro-clusters; where exactly they lie matters little."""


class AgglomerativeClustering(cluster.AgglomerativeClustering):
    """Merge the two nearest clusters until so many are left, or until they are farther apart than a threshold.

    Single linkage is exact for any number of rows: it needs only the minimum spanning tree, which is found without the
    matrix of distances. Ward, average and complete linkage are exact for up to `exact_rows` rows. Of more rows, k-means
    first makes `n_micro_clusters` clusters, and the tree is that of these, weighted by their rows: approximate. What
    lies below the micro-clusters is not in the tree. Merges, distances and labels of an exact tree are scikit-learn's,
    number for number, where no two distances are equal.

    Parameters
    ----------
    n_clusters : int or None, default 2
    distance_threshold : float or None, default None
        Clusters at this distance or farther apart stay apart. One of the two must be None.
    linkage : {"ward", "complete", "average", "single"}, default "ward"
    metric : str or callable, default "euclidean"
        Another one, "precomputed" among them, for NumPy input only; then the work is scikit-learn's.
    connectivity : array-like, sparse matrix, callable or None, default None
        For NumPy input only; then the work is scikit-learn's.
    memory, compute_full_tree
        As in scikit-learn, and used only where the work is scikit-learn's: else the tree is always complete.
    compute_distances : bool, default False
        Distances are always there, except for `metric` and `connectivity` above.
    exact_rows : int or None, default 10000
        Rows up to which ward, average and complete linkage are exact; None for all.
    n_micro_clusters : int, default 2000
        Leaves of the approximate tree; more are closer to the exact one.
    random_state : int, RandomState or None, default None
        Draws the starts of the micro-clusters; without a part in what is exact.

    Attributes
    ----------
    labels_ : ndarray or dask.array.Array, int64 (n,)
        A Dask array if the data was one.
    children_ : ndarray of int64, (n_leaves_ - 1, 2)
        Nodes that merge; node n_leaves_ + i is merge i.
    distances_ : ndarray, float64 (n_leaves_ - 1,)
    leaf_sizes_ : ndarray of int64, (n_leaves_,)
        Rows of each leaf: 1, unless the tree is approximate.
    leaves_ : ndarray or dask.array.Array, int64 (n,)
        The leaf of each row; the row's own number, unless the tree is approximate.
    n_clusters_, n_leaves_, n_connected_components_, n_features_in_ : int

    Notes
    -----
    Single: one pass over all pairs of blocks (n/b blocks of b rows), n^2 d operations. Per task: two blocks, and beside
    them 8 t (d + 1) bytes of prepared rows and 8 t^2 of distances for t = 1024 rows (twice as much for 16 columns or
    fewer), 4 MB of buffers, and 120 bytes for each of 2 b + 16,384 edges: two blocks of 10,000 rows of 784 float32 are
    63 MB, the rest is 24 MB. A task sends at most 48 b bytes, the forest of two blocks; these
    are merged in a tree of tasks, and none sends more than 24 n bytes. Data with very many equal distances in many
    columns costs an exact distance for each, about ten times as long. This process holds about 300 bytes per row for
    the order of merges.

    Ward, average, complete: exactly, in one task that gets all rows and needs 8 n^2 bytes (800 MB for 10,000 rows: the
    n^2/2 distances and SciPy's copy) and O(n^2 d) operations; it sends 24 n bytes. Approximately, some 20 passes of
    k-means, 2 n k d operations each for k micro-clusters; then some 24 k^2 bytes and O(k^2 d) operations in this
    process, and 16 bytes per row. The approximate distances of average and complete linkage are between means, and so
    smaller than the exact ones.

    References
    ----------
    J. H. Ward (1963). Hierarchical grouping to optimize an objective function. JASA 58, 236-244.
    T. Zhang, R. Ramakrishnan, M. Livny (1996). BIRCH. SIGMOD, 103-114 (clustering what stands for many rows).
    See `tasks.methods.hierarchy.spanning` and `tasks.methods.hierarchy.dendrogram`.
    """

    def __init__(
        self,
        n_clusters: int | None = 2,
        *,
        metric: Any = "euclidean",
        memory: Any = None,
        connectivity: Any = None,
        compute_full_tree: Any = "auto",
        linkage: str = "ward",
        distance_threshold: float | None = None,
        compute_distances: bool = False,
        exact_rows: int | None = 10_000,
        n_micro_clusters: int = 2000,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            n_clusters,
            metric=metric,
            memory=memory,
            connectivity=connectivity,
            compute_full_tree=compute_full_tree,
            linkage=linkage,
            distance_threshold=distance_threshold,
            compute_distances=compute_distances,
        )
        self.exact_rows = exact_rows
        self.n_micro_clusters = n_micro_clusters
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : array-like or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If a parameter or the data is not usable, or there are fewer rows (or micro-clusters) than clusters.
        """
        self._validate_params()
        self._check_choices()
        if self.connectivity is not None or self.metric not in ("euclidean", "l2"):
            if is_dask(X):
                raise ValueError(
                    "expected metric 'euclidean' and no connectivity for a Dask array, received "
                    f"metric={self.metric!r}, connectivity={type(self.connectivity).__name__}; "
                    "take them out, or use NumPy"
                )
            super().fit(X)
            self._finish(X, np.arange(self.n_leaves_), np.ones(self.n_leaves_, np.int64))
            return self
        X = check_matrix(self, X, reset=True, rows=2)
        with open_blocks(X, name=type(self).__name__) as rows:
            if self.linkage == "single":
                merges = single_linkage(spanning_tree(rows), rows.shape[0])
            elif self.exact_rows is None or rows.shape[0] <= self.exact_rows:
                merges = _exact(rows, self.linkage)
            else:
                leaves, sizes, merges = self._approximate(rows)
                self._cut(X, merges, leaves, sizes)
                return self
        count = X.shape[0]
        self._cut(X, merges, np.arange(count), np.ones(count, np.int64))
        return self

    def linkage_matrix(self) -> np.ndarray:
        """Return the merges as SciPy has them, for `scipy.cluster.hierarchy.dendrogram` and its other functions.

        Returns
        -------
        ndarray, float64 (n_leaves_ - 1, 4)
            The two nodes, their distance, and the leaves below; of an approximate tree, `leaf_sizes_` counts the rows.
        """
        check_is_fitted(self, "children_")
        if not hasattr(self, "distances_"):
            raise ValueError("expected distances_, which this fit did not compute; set compute_distances=True")
        sizes = leaves_below(self.children_, self.n_leaves_)
        return np.column_stack([np.sort(self.children_, axis=1), self.distances_, sizes]).astype(np.float64)

    def _check_choices(self) -> None:
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise ValueError(
                "Exactly one of n_clusters and distance_threshold has to be set, and the other needs to be None; "
                f"received n_clusters={self.n_clusters!r}, distance_threshold={self.distance_threshold!r}."
            )
        if self.distance_threshold is not None and not self.compute_full_tree:
            raise ValueError("compute_full_tree must be True if distance_threshold is set.")
        if self.exact_rows is not None:
            check_least("exact_rows", self.exact_rows, 1)
        check_least("n_micro_clusters", self.n_micro_clusters, 2)

    def _approximate(self, rows: Blocks) -> tuple[np.ndarray, np.ndarray, Merges]:
        wanted = min(self.n_micro_clusters, rows.shape[0])
        if self.n_clusters is not None and self.n_clusters > wanted:
            raise ValueError(
                f"expected n_clusters of at most n_micro_clusters={wanted}, received {self.n_clusters}; raise "
                "n_micro_clusters, or exact_rows"
            )
        # Starts at random rows: as dense as the data, and without a search that would take longer than the passes.
        model = KMeans(wanted, init="random", n_init=1, max_iter=MICRO_PASSES, random_state=self.random_state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            best, origin = best_run(rows, model)
        labels = np.concatenate(rows.fetch(rows.map("labels", nearest_centers, shared=(best.centers, origin))))
        # Duplicates leave micro-clusters without rows; they are no leaves.
        filled, leaves, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        merges = weighted_linkage(best.centers[filled], sizes, self.linkage)
        return leaves.astype(np.int64), sizes.astype(np.int64), merges

    def _cut(self, X: Any, merges: Merges, leaves: np.ndarray, sizes: np.ndarray) -> None:
        self.children_, self.distances_ = merges
        self.n_leaves_ = len(sizes)
        self.n_connected_components_ = 1
        if self.distance_threshold is not None:
            self.n_clusters_ = int(np.count_nonzero(self.distances_ >= self.distance_threshold)) + 1
        else:
            self.n_clusters_ = self.n_clusters
        self.labels_ = cut(self.children_, self.n_leaves_, self.n_clusters_)[leaves]
        self._finish(X, leaves, sizes)

    def _finish(self, X: Any, leaves: np.ndarray, sizes: np.ndarray) -> None:
        self.leaves_, self.leaf_sizes_ = leaves, sizes
        if is_dask(X):
            import dask.array as da

            self.labels_ = da.from_array(self.labels_, chunks=(X.chunks[0],))
            self.leaves_ = da.from_array(self.leaves_, chunks=(X.chunks[0],))


def _exact(rows: Blocks, linkage: str) -> Merges:
    """Build the tree in one task, where all rows are brought."""
    calls = [(source,) for source in rows.sources]
    gathered = rows.engine.reduce_each(rows.named("gather"), _itself, [calls], combine=_stack)
    built = rows.engine.map(rows.named("tree"), _tree, [(gathered[0],)], (linkage,))
    merges: Merges = rows.fetch(built)[0]
    return merges


def _itself(block: np.ndarray) -> np.ndarray:
    return block


def _stack(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b])


def _tree(X: np.ndarray, linkage: str) -> Merges:
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import pdist

    found = hierarchy.linkage(pdist(X.astype(np.float64)), linkage)
    return Merges(found[:, :2].astype(np.int64), found[:, 2].copy())
