"""k-means over row blocks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, map_rows, open_blocks
from tasks.methods.inputs import check_matrix
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.scratch import Scratch, parts

SAMPLE_ROWS = 16_384
"""Rows that the initial centres are chosen among (more if there are very many clusters)."""


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster by Lloyd's iteration.

    The iteration is exact: every pass goes over all rows, sums are kept in float64, empty clusters take over the rows
    that lie farthest from their centres, and the stopping rule is scikit-learn's. The initial centres are chosen by
    k-means++ among a seeded sample of the rows if there are more than 16,384 of them (or 20 per cluster); up to that
    many rows the choice is scikit-learn's for the same `random_state`. The sample goes by position, so neither the
    chunks nor the workers change it.

    Parameters
    ----------
    n_clusters : int, default 8
    init : {"k-means++", "random"} or array-like of shape (n_clusters, d), default "k-means++"
    n_init : "auto" or int, default "auto"
        Number of starts; "auto" is 1, except 10 for "random". The one with the least inertia wins.
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
        Sum of squared distances to the nearest centre.
    n_iter_, n_features_in_ : int

    Notes
    -----
    A pass costs 2 n k d operations. Per task: one block, 1 MB of it centred, and the distances of these rows to all
    centres. Each task sends k (d + 1) float64 per pass, n/b of them in a tree, and gets k d. Passes: one for the mean, one for the sample, one
    per iteration, one for the labels. Data that does not fit in the workers' memory is read again in each.

    References
    ----------
    S. P. Lloyd (1982). Least squares quantization in PCM. IEEE Trans. Information Theory 28(2), 129-137.
    D. Arthur, S. Vassilvitskii (2007). k-means++: the advantages of careful seeding. SODA, 1027-1035.
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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If a parameter is not usable, there are fewer rows than clusters, or the data is not finite.
        """
        self._check_parameters()
        X = check_matrix(self, X, reset=True)
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        with open_blocks(X, name=type(self).__name__, passes=self.max_iter + 2) as rows:
            count, mean, scatter = rows.reduce("moments", column_moments, combine=merge_moments)
            tolerance = self.tol * float((scatter / count).mean())
            best: _Run | None = None
            for centers in self._starts(rows, mean):
                run = _lloyd(rows, centers, mean, self.max_iter, tolerance)
                if best is None or run.inertia < best.inertia:
                    best = run
            if best is None:
                raise ValueError(f"expected n_init of at least 1, received {self.n_init!r}")
            self.cluster_centers_ = (best.centers + mean).astype(rows.dtype)
            # With the centres as they are kept, so that predict on the same rows gives the same labels.
            final = self.cluster_centers_ - mean
            labels = rows.map("labels", _labels, shared=(final, mean))
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

    def predict(self, X: Any) -> Any:
        """Return the nearest centre of each row.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, int32 (m,)
        """
        X, center = self._ready(X)
        apply = partial(_labels, centers=self.cluster_centers_ - center, mean=center)
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
        X, center = self._ready(X)
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        apply = partial(_distances, centers=self.cluster_centers_ - center, mean=center, dtype=dtype)
        columns = len(self.cluster_centers_)
        return map_rows(X, apply, name=type(self).__name__, phase="transform", columns=columns, dtype=dtype)

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the sum of squared distances of the rows to their nearest centres."""
        X, center = self._ready(X)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            found = rows.reduce("score", _spread, shared=(self.cluster_centers_ - center, center), combine=_merge_spread)
        return -found.inertia

    @property
    def _n_features_out(self) -> int:
        # Read by ClassNamePrefixFeaturesOutMixin.
        return int(self.cluster_centers_.shape[0])

    def _ready(self, X: Any) -> tuple[Any, np.ndarray]:
        check_is_fitted(self)
        return check_matrix(self, X, reset=False), self.cluster_centers_.mean(axis=0, dtype=np.float64)

    def _check_parameters(self) -> None:
        for name in ("n_clusters", "max_iter"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"expected {name} as an integer of at least 1, received {value!r}")
        if self.n_init != "auto" and (not isinstance(self.n_init, Integral) or self.n_init < 1):
            raise ValueError(f"expected n_init 'auto' or an integer of at least 1, received {self.n_init!r}")
        if self.tol < 0:
            raise ValueError(f"expected tol of at least 0, received {self.tol!r}")
        if isinstance(self.init, str) and self.init not in ("k-means++", "random"):
            raise ValueError(f"expected init 'k-means++', 'random' or an array of centres, received {self.init!r}")

    def _starts(self, rows: Blocks, mean: np.ndarray) -> list[np.ndarray]:
        """Return the initial centres of each start, float64, relative to the mean."""
        if not isinstance(self.init, str):
            centers = check_array(self.init, dtype=np.float64)
            if centers.shape != (self.n_clusters, rows.shape[1]):
                raise ValueError(
                    f"expected init of shape {(self.n_clusters, rows.shape[1])}, received {centers.shape}"
                )
            return [centers - mean]
        random = check_random_state(self.random_state)
        starts = self.n_init if self.n_init != "auto" else (10 if self.init == "random" else 1)
        size = min(rows.shape[0], max(SAMPLE_ROWS, 20 * self.n_clusters))
        chosen = np.arange(rows.shape[0])
        if size < rows.shape[0]:
            chosen = np.sort(random.choice(rows.shape[0], size, replace=False))
        sample = rows.take(chosen, "sample") - mean.astype(rows.dtype)
        if self.init == "random":
            picks = [random.permutation(size)[: self.n_clusters] for _ in range(int(starts))]
            return [sample[pick].astype(np.float64) for pick in picks]
        return [
            kmeans_plusplus(sample, self.n_clusters, random_state=random)[0].astype(np.float64)
            for _ in range(int(starts))
        ]


class _Run(NamedTuple):
    centers: np.ndarray
    inertia: float
    iterations: int
    occupied: int


class _Sums(NamedTuple):
    """What one pass found: per cluster, relative to the mean."""

    sums: np.ndarray
    counts: np.ndarray


class _Spread(NamedTuple):
    """How far the rows lie from their centres, and which centres have any."""

    inertia: float
    occupied: np.ndarray


def _lloyd(rows: Blocks, centers: np.ndarray, mean: np.ndarray, max_iter: int, tolerance: float) -> _Run:
    """Iterate until the labels stay, the centres stay, or max_iter."""
    previous: _Sums | None = None
    for iteration in range(1, max_iter + 1):
        found = rows.reduce("assign", _assign, shared=(centers, mean), combine=_add)
        # Equal labels give equal sums to the last bit, for the order of summation is fixed; and labels that differ
        # but give the same sums give the same centres.
        if previous is not None and _same(found, previous):
            break
        previous = found
        updated = _update(rows, found, centers, mean)
        shift = float(((updated - centers) ** 2).sum())
        centers = updated
        if shift <= tolerance:
            break
    final = rows.reduce("inertia", _spread, shared=(centers, mean), combine=_merge_spread)
    return _Run(centers, final.inertia, iteration, int(final.occupied.sum()))


def _same(a: _Sums, b: _Sums) -> bool:
    return np.array_equal(a.counts, b.counts) and np.array_equal(a.sums, b.sums)


def _update(rows: Blocks, found: _Sums, centers: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the mean of each cluster; an empty one takes a far row from another, as in scikit-learn."""
    sums, counts = found.sums.copy(), found.counts.copy()
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        keep = partial(_farthest, count=len(empty))
        merge = partial(_merge_farthest, count=len(empty))
        far = rows.reduce("relocate", keep, rows.starts, shared=(centers, mean), combine=merge)
        if far.squares.max() > 0:
            for cluster, vector, owner in zip(empty, far.rows, far.labels, strict=False):
                sums[owner] -= vector
                counts[owner] -= 1
                sums[cluster], counts[cluster] = vector, 1
    updated = centers.copy()
    filled = counts > 0
    updated[filled] = sums[filled] / counts[filled, None]
    return updated


class _Far(NamedTuple):
    """Rows far from their centres, farthest first, ties by position."""

    squares: np.ndarray
    places: np.ndarray
    labels: np.ndarray
    rows: np.ndarray


def _farthest(block: np.ndarray, start: int, centers: np.ndarray, mean: np.ndarray, count: int) -> _Far:
    labels, squares = _nearest(block, centers, mean)
    order = np.lexsort((np.arange(len(block)), -squares))[:count]
    return _Far(squares[order], start + order, labels[order], block[order].astype(np.float64) - mean)


def _merge_farthest(a: _Far, b: _Far, count: int) -> _Far:
    both = [np.concatenate(parts) for parts in zip(a, b, strict=True)]
    order = np.lexsort((both[1], -both[0]))[:count]
    return _Far(*(values[order] for values in both))


def _nearest(block: np.ndarray, centers: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centre and the squared distance to it; centres are relative to the mean."""
    labels = np.empty(len(block), np.int32)
    squares = np.empty(len(block))
    for low, high, rows, nearest in _assigned(block, centers, mean, Scratch()):
        labels[low:high] = nearest
        rows -= centers.astype(block.dtype)[nearest]
        squares[low:high] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return labels, squares


def _assigned(
    block: np.ndarray, centers: np.ndarray, mean: np.ndarray, scratch: Scratch
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Go over the block in parts: where they lie, their centred rows, and the nearest centre of each."""
    dtype = block.dtype
    # ||c||^2 - 2 x.c ranks the centres; ||x||^2 is the same for all.
    factors, squares = (-2.0 * centers.T).astype(dtype), np.einsum("ij,ij->i", centers, centers).astype(dtype)
    shift = mean.astype(dtype)
    for low, high in parts(block):
        rows = np.subtract(block[low:high], shift, out=scratch("rows", (high - low, block.shape[1]), dtype))
        ranking = np.matmul(rows, factors, out=scratch("ranking", (high - low, len(centers)), dtype))
        ranking += squares
        yield low, high, rows, ranking.argmin(axis=1).astype(np.int32)


def _assign(block: np.ndarray, centers: np.ndarray, mean: np.ndarray) -> _Sums:
    """Sum up the rows of each cluster."""
    sums = np.zeros(centers.shape)
    counts = np.zeros(len(centers), np.int64)
    scratch = Scratch()
    for low, high, rows, labels in _assigned(block, centers, mean, scratch):
        wide = scratch("wide", rows.shape, np.float64)
        wide[:] = rows
        member = (np.ones(high - low), (labels, np.arange(high - low)))
        sums += scipy.sparse.csr_matrix(member, (len(centers), high - low)) @ wide
        counts += np.bincount(labels, minlength=len(centers))
    return _Sums(sums, counts)


def _add(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(a.sums + b.sums, a.counts + b.counts)


def _spread(block: np.ndarray, centers: np.ndarray, mean: np.ndarray) -> _Spread:
    labels, squares = _nearest(block, centers, mean)
    return _Spread(float(squares.sum()), np.bincount(labels, minlength=len(centers)) > 0)


def _merge_spread(a: _Spread, b: _Spread) -> _Spread:
    return _Spread(a.inertia + b.inertia, a.occupied | b.occupied)


def _labels(block: np.ndarray, centers: np.ndarray, mean: np.ndarray) -> np.ndarray:
    labels = np.empty(len(block), np.int32)
    for low, high, _, nearest in _assigned(block, centers, mean, Scratch()):
        labels[low:high] = nearest
    return labels


def _distances(block: np.ndarray, centers: np.ndarray, mean: np.ndarray, dtype: Any) -> np.ndarray:
    result = np.empty((len(block), len(centers)), dtype)
    for low, high in parts(block):
        rows = block[low:high].astype(np.float64) - mean
        squares = np.einsum("ij,ij->i", rows, rows)[:, None] - 2.0 * rows @ centers.T
        squares += np.einsum("ij,ij->i", centers, centers)
        result[low:high] = np.sqrt(np.maximum(squares, 0.0))
    return result
