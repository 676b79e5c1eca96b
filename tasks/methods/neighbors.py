"""k nearest neighbours, exactly, on training data larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from joblib import cpu_count
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import VIEW_BYTES, Blocks, assemble, is_dask, open_blocks
from tasks.methods.execution import choose_engine
from tasks.methods.inputs import check_labelled, check_matrix, check_targets
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.nearest import Neighbors, merge_neighbors, nearest_in_block
from tasks.methods.projected import (
    LEAST_COLUMNS,
    LEAST_QUERIES,
    LEAST_WORK,
    SAMPLE_QUERIES,
    SAMPLE_ROWS,
    choose_axes,
)

QUERY_BYTES = 64 << 20
"""Queries that one task takes along through a block of training data that is not kept in memory."""


class _Neighborhood(BaseEstimator):
    """Training data, and the search of it."""

    def __init__(self, n_neighbors: int = 5, weights: str = "uniform") -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:
        """Find the nearest training samples.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d), optional
            Queries; by default the training data, where a sample is not its own neighbour.
        n_neighbors : int, optional
            By default that of the constructor.
        return_distance : bool, default True

        Returns
        -------
        distances : ndarray or dask.array.Array, float64 (m, k)
            Only with `return_distance`.
        ids : ndarray or dask.array.Array, int64 (m, k)
            Rows of the training data, nearest first, ties in order of row. Dask arrays for Dask queries: they are
            computed now, not when they are looked at, but stay in the workers.
        """
        check_is_fitted(self)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        _check_count(k)
        own = X is None
        X = self._fit_X if own else check_matrix(self, X, reset=False)
        outputs = [_Output(partial(_ids, own=own), (k,), np.dtype(np.int64))]
        if return_distance:
            outputs.insert(0, _Output(partial(_distances, own=own), (k,), np.dtype(np.float64)))
        found = self._search(X, k, outputs, own=own)
        return tuple(found) if return_distance else found[0]

    def _check_parameters(self) -> None:
        _check_count(self.n_neighbors)
        if self.weights not in ("uniform", "distance"):
            raise ValueError(f"expected weights 'uniform' or 'distance', received {self.weights!r}")

    def _keep(self, X: Any, targets: np.ndarray) -> None:
        """Keep the training data, and one entry or row of targets for each of its rows."""
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            self._center = rows.reduce("center", column_moments, combine=merge_moments).mean
        self._fit_X, self._targets = X, targets
        self.n_samples_fit_ = int(X.shape[0])

    def _search(self, queries: Any, k: int, outputs: list[_Output], own: bool = False) -> list:
        """Find the neighbours of each query and make arrays of them, in the workers."""
        available = self.n_samples_fit_ - own
        if k > available:
            raise ValueError(
                f"Expected n_neighbors <= n_samples_fit, but n_neighbors = {k}, n_samples_fit = {available}, "
                f"n_samples = {queries.shape[0]}; lower n_neighbors or add training samples"
            )
        name = type(self).__name__
        engine = choose_engine(self._fit_X, queries)
        try:
            with (
                open_blocks(self._fit_X, name=name, engine=engine) as train,
                open_blocks(queries, name=name, engine=engine) as asked,
            ):
                axes = _axes(train, asked, self._center, k, own)
                threads = 1 if engine.parallel else cpu_count()
                search = partial(nearest_in_block, k=k + own, center=self._center, axes=axes, threads=threads)
                with _wider(train, self._fit_X, axes, name) as wider:
                    results, lengths = _search_blocks(wider, asked, self._targets, search, outputs)
                if not is_dask(queries):
                    return [np.concatenate(engine.fetch(handles)) for handles in results]
                return [
                    assemble(engine, handles, lengths, output.shape, output.dtype, train.named("result"))
                    for handles, output in zip(results, outputs, strict=True)
                ]
        finally:
            engine.close()


class KNeighborsClassifier(ClassifierMixin, _Neighborhood):
    """Classify by a vote of the k nearest training samples.

    Exact: the neighbours are those of the distances in float64, whatever dtype the data has. Ties in distance go to
    the lower row of the training data, ties in the vote to the lower class, as in scikit-learn.

    Parameters
    ----------
    n_neighbors : int, default 5
        Neighbours that vote.
    weights : {"uniform", "distance"}, default "uniform"
        One vote each, or a vote of weight 1 / distance; then a training sample at distance 0 outvotes all others.

    Attributes
    ----------
    classes_ : ndarray
        The labels, sorted.
    n_features_in_ : int
        Columns of the training data.
    n_samples_fit_ : int
        Rows of the training data.

    Notes
    -----
    `fit` is one pass that checks the data and finds its mean. The training data stays where it is, in n/b blocks of b
    rows; a Dask array is not gathered, so it must stay readable until the last prediction.
    A prediction of m queries costs 2 n m d operations; a large one, of m n d from 1e11 on, costs 2 n m r and a few
    exact distances per query, where the data's first r principal axes hold most of its variance
    (`tasks.methods.projected`; 4096 rows and 256 queries come to this process to find that out). On NumPy arrays
    everything happens in this process. Otherwise each task holds one block, a copy of it and some queries, (2 b + q) d
    values, and 8 MB of products; it sends k (distance, id, label) per query, so m k n / b of them travel, in a tree.
    Training data that fits in the workers' memory is read once per prediction; otherwise once per 64 MB of queries.

    References
    ----------
    T. Cover, P. Hart (1967). Nearest neighbor pattern classification. IEEE Trans. Information Theory 13(1), 21-27.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training data.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
        y : ndarray or dask.array.Array, shape (n,)
            Labels of any type.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        self._check_parameters()
        X, self.classes_, codes = check_labelled(self, X, y)
        self._keep(X, codes)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Return the share of the votes of each class.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or dask.array.Array, float64 (m, classes)
        """
        check_is_fitted(self)
        shares = partial(_shares, count=len(self.classes_), weights=self.weights)
        output = _Output(shares, (len(self.classes_),), np.dtype(np.float64))
        return self._search(check_matrix(self, X, reset=False), self.n_neighbors, [output])[0]

    def predict(self, X: Any) -> Any:
        """Return the class with the most votes, the lowest of equals.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or dask.array.Array, shape (m,)
            A Dask array for Dask queries: computed now, not when it is looked at, but left in the workers.
        """
        check_is_fitted(self)
        output = _Output(partial(_vote, classes=self.classes_, weights=self.weights), (), self.classes_.dtype)
        return self._search(check_matrix(self, X, reset=False), self.n_neighbors, [output])[0]


class KNeighborsRegressor(MultiOutputMixin, RegressorMixin, _Neighborhood):
    """Predict the mean of the targets of the k nearest training samples.

    Exact, in neighbours and ties, as `KNeighborsClassifier`.

    Parameters
    ----------
    n_neighbors : int, default 5
        Neighbours that the mean is taken of.
    weights : {"uniform", "distance"}, default "uniform"
        A plain mean, or one weighted by 1 / distance; then training samples at distance 0 count alone.

    Attributes
    ----------
    n_features_in_ : int
        Columns of the training data.
    n_samples_fit_ : int
        Rows of the training data.

    Notes
    -----
    As `KNeighborsClassifier`. The targets are held in this process, 8 bytes per value, and travel with the
    training data; each task sends k rows of them per query beside distances and ids.

    References
    ----------
    N. S. Altman (1992). An introduction to kernel and nearest-neighbor nonparametric regression. The American
    Statistician 46(3), 175-185.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training data.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
        y : ndarray or dask.array.Array, shape (n,) or (n, t)
            Numbers.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        self._check_parameters()
        X, y = check_targets(self, X, y)
        self._y_shape = y.shape[1:]
        self._keep(X, y.reshape(len(y), -1))
        return self

    def predict(self, X: Any) -> Any:
        """Return the mean of the neighbours' targets.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or dask.array.Array, float64 (m,) or (m, t)
            A Dask array for Dask queries: computed now, not when it is looked at, but left in the workers.
        """
        check_is_fitted(self)
        output = _Output(partial(_mean, weights=self.weights, shape=self._y_shape), self._y_shape, np.dtype(np.float64))
        return self._search(check_matrix(self, X, reset=False), self.n_neighbors, [output])[0]


class _Output(NamedTuple):
    """What to make of the neighbours: (Neighbors, id of the first query) -> array of shape (queries, *shape)."""

    function: Callable[[Neighbors, int], np.ndarray]
    shape: tuple[int, ...]
    dtype: np.dtype


def _axes(train: Blocks, asked: Blocks, center: np.ndarray, k: int, own: bool) -> np.ndarray | None:
    """Choose axes for a large search, from rows by their positions, so that the chunks have no part in it."""
    (rows, columns), queries = train.shape, asked.shape[0]
    if queries < LEAST_QUERIES or columns < LEAST_COLUMNS or float(queries) * rows * columns < LEAST_WORK:
        return None
    some, few = (
        blocks.take(np.unique(np.linspace(0, blocks.shape[0] - 1, count).astype(np.int64)), "sample")
        for blocks, count in ((train, SAMPLE_ROWS), (asked, SAMPLE_QUERIES))
    )
    return choose_axes(some, few, center, k, rows, own)


@contextmanager
def _wider(train: Blocks, X: Any, axes: np.ndarray | None, name: str) -> Iterator[Blocks]:
    """Cut an array in this process into fewer blocks, as their copies of few columns allow: each is a new search."""
    if axes is None or train.engine.parallel:
        yield train
        return
    size = VIEW_BYTES * train.shape[1] * train.dtype.itemsize // (4 * (axes.shape[1] + 2))
    with open_blocks(X, name=name, engine=train.engine, view_bytes=size) as wider:
        yield wider


def _search_blocks(
    train: Blocks, asked: Blocks, codes: np.ndarray, search: Callable, outputs: list[_Output]
) -> tuple[list[list], list[int]]:
    """Search every block of training data for every group of queries; return handles per output, and group lengths."""
    targets = train.scatter("labels", codes)
    points = list(zip(train.sources, train.starts, targets, strict=True))
    groups = _groups(asked, QUERY_BYTES if not train.cached else 0)
    calls = [[(*point, *(asked.sources[i] for i in group)) for point in points] for group in groups]
    found = train.engine.reduce_each(train.named("search"), search, calls, combine=merge_neighbors)
    ready = [(handle, asked.starts[group[0]]) for handle, group in zip(found, groups, strict=True)]
    results = [train.engine.map(train.named("finish"), output.function, ready) for output in outputs]
    return results, [sum(asked.lengths[i] for i in group) for group in groups]


def _groups(asked: Blocks, limit: int) -> list[list[int]]:
    """Put neighbouring blocks of queries together up to a size; each group is a pass over the training data."""
    groups: list[list[int]] = []
    size = 0
    for i, rows in enumerate(asked.lengths):
        bytes_ = rows * asked.shape[1] * asked.dtype.itemsize
        if not groups or size + bytes_ > limit:
            groups.append([])
            size = 0
        groups[-1].append(i)
        size += bytes_
    return groups


def _check_count(k: Any) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise TypeError(f"n_neighbors does not take {type(k)} value, enter integer value")
    if k < 1:
        raise ValueError(f"Expected n_neighbors > 0. Got {k}")


def _without_own(values: np.ndarray, found: Neighbors, first: int) -> np.ndarray:
    """Drop from each row the query itself, or the last one if rows equal to it have crowded it out."""
    k = found.ids.shape[1]
    own = found.ids == first + np.arange(len(found.ids))[:, None]
    place = np.where(own.any(axis=1), own.argmax(axis=1), k - 1)
    kept: np.ndarray = values[np.arange(k) != place[:, None]].reshape(-1, k - 1)
    return kept


def _distances(found: Neighbors, first: int, own: bool) -> np.ndarray:
    distances: np.ndarray = np.sqrt(found.squares)
    return _without_own(distances, found, first) if own else distances


def _ids(found: Neighbors, first: int, own: bool) -> np.ndarray:
    return _without_own(found.ids, found, first) if own else found.ids


def _importance(found: Neighbors, weights: str) -> np.ndarray:
    """Return how much each neighbour counts, float64 (queries, k)."""
    if weights == "uniform":
        return np.ones(found.squares.shape)
    same = found.squares == 0
    with np.errstate(divide="ignore"):
        return np.where(same.any(axis=1, keepdims=True), same, 1.0 / np.sqrt(found.squares))


def _mean(found: Neighbors, first: int, weights: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weighted mean of the targets (queries, k, t) of the neighbours."""
    importance = _importance(found, weights)
    sums = np.einsum("ij,ijl->il", importance, found.targets)
    mean: np.ndarray = sums / importance.sum(axis=1, keepdims=True)
    return mean.reshape(len(mean), *shape)


def _shares(found: Neighbors, first: int, count: int, weights: str) -> np.ndarray:
    votes = _importance(found, weights)
    rows = np.arange(len(votes))[:, None] * count
    sums = np.bincount((rows + found.targets).ravel(), votes.ravel(), minlength=len(votes) * count)
    sums = sums.reshape(len(votes), count)
    shares: np.ndarray = sums / sums.sum(axis=1, keepdims=True)
    return shares


def _vote(found: Neighbors, first: int, classes: np.ndarray, weights: str) -> np.ndarray:
    winners: np.ndarray = classes[_shares(found, first, len(classes), weights).argmax(axis=1)]
    return winners
