"""k-means over row blocks."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, map_rows, open_blocks
from tasks.methods.inputs import check_enough_masses, check_masses, check_matrix
from tasks.methods.lloyd import Run, center_distances, lloyd, merge_spread, nearest_centers, weighted_spread
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.reading import working_dtype
from tasks.methods.seeding import parallel_seeds, sample_of, weighted_sample_of

SAMPLE_ROWS = 16_384
"""Rows that the initial centres are chosen among (more if there are very many clusters)."""

SEEDINGS = ("k-means++", "k-means||", "random")
"""Words that `init` may be."""

OFFSET = 4.0
"""Up to so many times the total variance, the squared mean of the data does not call for centring the rows."""

EQUAL = 1e-9
"""Starts that end this close to each other, relatively, count as equal; the first of them wins."""


def best_run(rows: Blocks, model: KMeans, weights: np.ndarray | None = None) -> tuple[Run, np.ndarray]:
    """Cluster the rows, of the weights that are given, as the model's parameters say.

    Returns
    -------
    Run
        The start that ended with the least inertia, the first of equals.
    ndarray, float64 (d,)
        What its centres are relative to.
    """
    model._check_parameters()
    if rows.shape[0] < model.n_clusters:
        raise ValueError(f"n_samples={rows.shape[0]} should be >= n_clusters={model.n_clusters}.")
    count, mean, scatter = rows.reduce("moments", column_moments, combine=merge_moments)
    variance = scatter / count
    # Rounding grows with the distance from the origin; where that is small the rows can stay as they are.
    origin = mean if mean @ mean > OFFSET * variance.sum() else np.zeros_like(mean)
    masses = None if weights is None else rows.scatter("weights", weights)
    starts = [centers + (mean - origin) for centers in model._starts(rows, mean, weights, masses)]
    runs = lloyd(rows, starts, origin, model.max_iter, model.tol * float(variance.mean()), masses)
    # Starts that end in the same clusters differ by rounding, which depends on the blocks.
    least = min(run.inertia for run in runs)
    return next(run for run in runs if run.inertia <= least * (1 + EQUAL)), origin


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster by Lloyd's iteration.

    The iteration is exact: every pass goes over all rows, sums are kept in float64, empty clusters take over the rows
    that lie farthest from their centres, and the stopping rule is scikit-learn's. The initial centres are chosen by
    k-means++ among a seeded sample of the rows if there are more than 16,384 of them (or 20 per cluster); up to that
    many rows the choice is scikit-learn's for the same `random_state`. `init="k-means||"` chooses among all rows: in
    five rounds each row becomes a candidate by its squared distance to the candidates so far, about two per cluster
    and round, and k-means++ chooses among the candidates, each of the weight of the rows next to it. The draws go by
    position, so neither the chunks nor the workers change them.

    Weights count in sums, inertia, the choice of the start and an empty cluster's new row, which has weight. With
    weights the sample is one by weight (priority sampling). As in scikit-learn, they do not count in the variance that
    `tol` is relative to: with ``tol=0`` whole weights from given centres are repeated rows.

    Parameters
    ----------
    n_clusters : int, default 8
    init : {"k-means++", "k-means||", "random"} or array-like of shape (n_clusters, d), default "k-means++"
    n_init : "auto" or int, default "auto"
        Number of starts; "auto" is 1, except 10 for "random". The one with the least inertia wins, the first of
        those that are equal to 1e-9. All starts iterate in the same passes over the data, until each has ended.
    max_iter : int, default 300
    tol : float, default 1e-4
        Stop when the centres move by less, squared, relative to the mean variance of the columns.
    random_state : int, RandomState or None

    Attributes
    ----------
    cluster_centers_ : ndarray (n_clusters, d)
    labels_ : ndarray or dask.array.Array, int32 (n,)
        A Dask array, held by the workers, if the data was one.
    inertia_ : float
        Sum of squared distances to the nearest centre, each times the weight of its row.
    n_iter_, n_features_in_ : int

    Notes
    -----
    A pass costs 2 n k d operations; of one start only the rows that may change their cluster are looked at (see
    `tasks.methods.bounds`; 20 + 4 k bytes per row, where a twentieth of the memory has room for that). Per task: one
    block, 1 MB of it centred, and the distances of these rows to all centres. Each task sends k (d + 1) float64 per
    pass and start, n/b of them in a tree, and gets k d.
    Passes: one for the mean, one for the sample, one per iteration, one for inertia and one for the labels. Data that
    does not fit in the workers' memory is read again in each. "k-means||" takes 11 passes per start instead of the
    sample, 20 n k d operations, and 12 bytes per row in the workers' memory; about 10 k candidates come here. Weights
    take 8 bytes per row, here and in the workers.

    References
    ----------
    S. P. Lloyd (1982). Least squares quantization in PCM. IEEE Trans. Information Theory 28(2), 129-137.
    D. Arthur, S. Vassilvitskii (2007). k-means++: the advantages of careful seeding. SODA, 1027-1035.
    B. Bahmani, B. Moseley, A. Vattani, R. Kumar, S. Vassilvitskii (2012). Scalable k-means++. PVLDB 5(7), 622-633.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            At least 0. A row of weight 0 gets a label but has no say.

        Raises
        ------
        ValueError
            If a parameter is not usable, there are fewer rows (of positive weight) than clusters, or the data or a
            weight is not finite or a weight below zero.
        """
        self._check_parameters()
        X = check_matrix(self, X, reset=True, narrow=True)
        weights = check_masses(sample_weight, X.shape[0])
        check_enough_masses(weights, self.n_clusters)
        with open_blocks(X, name=type(self).__name__, passes=self.max_iter + 2) as rows:
            best, origin = best_run(rows, self, weights)
            self.cluster_centers_ = (best.centers + origin).astype(rows.dtype)
            # As predict does it, so that predict on the same rows gives the same labels.
            labels = rows.map("labels", nearest_centers, shared=self._relative())
            self.labels_ = rows.assemble(labels, (), np.int32)
            self.inertia_, self.n_iter_ = best.inertia, best.iterations
        if best.occupied < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({best.occupied}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Find the clusters and return `labels_`; parameters are those of `fit`."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def predict(self, X: Any) -> Any:
        """Return the nearest centre of each row.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, int32 (m,)
        """
        X = self._checked(X)
        centers, origin = self._relative()
        apply = partial(nearest_centers, centers=centers, origin=origin)
        return map_rows(X, apply, name=type(self).__name__, phase="predict", columns=None, dtype=np.int32)

    def transform(self, X: Any) -> Any:
        """Return the distance of each row to each centre.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, n_clusters)
        """
        X = self._checked(X)
        dtype = working_dtype(X.dtype)
        centers, origin = self._relative()
        apply = partial(center_distances, centers=centers, origin=origin, dtype=dtype)
        columns = len(self.cluster_centers_)
        return map_rows(X, apply, name=type(self).__name__, phase="transform", columns=columns, dtype=dtype)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the sum of squared distances of the rows to their nearest centres, each times its weight.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)
        sample_weight : array-like or dask.array.Array, shape (m,), optional
        """
        X = self._checked(X)
        weights = check_masses(sample_weight, X.shape[0])
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            masses = [None] * len(rows) if weights is None else rows.scatter("weights", weights)
            found = rows.reduce("score", weighted_spread, masses, shared=self._relative(), combine=merge_spread)
        return -float(found.inertia)

    @property
    def _n_features_out(self) -> int:
        # Read by ClassNamePrefixFeaturesOutMixin.
        return int(self.cluster_centers_.shape[0])

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self)
        return check_matrix(self, X, reset=False, narrow=True)

    def _relative(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the centres relative to their mean, and that mean."""
        origin = self.cluster_centers_.mean(axis=0, dtype=np.float64)
        return self.cluster_centers_ - origin, origin

    def _check_parameters(self) -> None:
        for name in ("n_clusters", "max_iter"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"expected {name} as an integer of at least 1, received {value!r}")
        if self.n_init != "auto" and (not isinstance(self.n_init, Integral) or self.n_init < 1):
            raise ValueError(f"expected n_init 'auto' or an integer of at least 1, received {self.n_init!r}")
        if self.tol < 0:
            raise ValueError(f"expected tol of at least 0, received {self.tol!r}")
        if isinstance(self.init, str) and self.init not in SEEDINGS:
            raise ValueError(
                f"expected init {', '.join(map(repr, SEEDINGS))} or an array of centres, received {self.init!r}"
            )

    def _starts(
        self, rows: Blocks, mean: np.ndarray, weights: np.ndarray | None, masses: list[Any] | None
    ) -> list[np.ndarray]:
        """Return the initial centres of each start, float64, relative to the mean."""
        if not isinstance(self.init, str):
            centers = check_array(self.init, dtype=np.float64)
            if centers.shape != (self.n_clusters, rows.shape[1]):
                raise ValueError(f"expected init of shape {(self.n_clusters, rows.shape[1])}, received {centers.shape}")
            return [centers - mean]
        random = check_random_state(self.random_state)
        starts = range(int(self.n_init) if self.n_init != "auto" else (10 if self.init == "random" else 1))
        if self.init == "k-means||":
            return [parallel_seeds(rows, mean, self.n_clusters, random, weights, masses) for _ in starts]
        size = max(SAMPLE_ROWS, 20 * self.n_clusters)
        if weights is None:
            _, sample = sample_of(rows, size, random)
            shares = np.ones(len(sample))
        else:
            sample, shares = weighted_sample_of(rows, size, random, weights)
        sample = sample - mean.astype(rows.dtype)
        chosen = []
        for _ in starts:
            if self.init == "random":
                pick = random.choice(len(sample), self.n_clusters, replace=False, p=shares / shares.sum())
                chosen.append(sample[pick])
            else:
                found = kmeans_plusplus(sample, self.n_clusters, sample_weight=shares, random_state=random)
                chosen.append(found[0])
        return [centers.astype(np.float64) for centers in chosen]
