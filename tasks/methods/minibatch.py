"""k-means from small batches of rows, over row blocks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn import cluster
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, is_dask, map_rows, open_blocks
from tasks.methods.inputs import check_enough_masses, check_masses, check_matrix
from tasks.methods.lloyd import center_distances, merge_spread, nearest_centers, weighted_spread
from tasks.methods.moments import column_moments, merge_moments
from tasks.methods.reading import working_dtype
from tasks.methods.seeding import sample_of, weighted_sample_of

BATCHES = 16
"""Batches of one task, which are drawn from the same runs of rows."""

RUNS = 16
"""Runs of rows per batch. Longer runs would mix rows that are sorted too little, shorter ones need more blocks."""


class MiniBatchKMeans(cluster.MiniBatchKMeans):
    """Cluster by k-means steps on small batches of rows: less exact than `KMeans`, after fewer rows.

    The steps are scikit-learn's. The batches differ: each epoch cuts the rows into runs of a sixteenth of
    `batch_size`, takes the runs in a random order, 256 at a time, and draws 16 batches from these without replacement.
    So each row is drawn as often as any other, and neither the chunks nor the workers change the batches. Sorted rows
    are mixed well enough if there are not hundreds of clusters. NumPy and sparse input is scikit-learn's own work, so
    the same seed gives other centres there than on a Dask array.

    Parameters
    ----------
    n_clusters : int, default 8
    init : {"k-means++", "random"}, callable or array-like of shape (n_clusters, d), default "k-means++"
    max_iter : int, default 100
        Epochs at most; the two rules below usually stop it in the first few.
    batch_size : int, default 1024
        Rows of a step; at least `n_clusters` are taken.
    verbose : int, default 0
    compute_labels : bool, default True
        False saves the last pass, which finds `labels_` and `inertia_`.
    random_state : int, RandomState or None, default None
    tol : float, default 0.0
        Stop when a step moves the centres by less, squared, relative to the mean variance of the columns.
    max_no_improvement : int or None, default 10
        Stop after so many batches without a lower smoothed inertia.
    init_size : int or None, default None
        Rows that the initial centres are chosen among; None is 3 batches, or 3 n_clusters.
    n_init : "auto" or int, default "auto"
        Initial centres that are tried on another such sample; "auto" is 1, except 3 for "random" and a callable.
    reassignment_ratio : float, default 0.01

    Attributes
    ----------
    cluster_centers_ : ndarray (n_clusters, d)
    labels_ : ndarray or dask.array.Array, int32 (n,)
        A Dask array, held by the workers, if the data was one.
    inertia_ : float
        Sum of squared distances to the nearest centre, each times the weight of its row.
    n_steps_ : int
        Batches.
    n_iter_ : int
        Epochs, begun ones included.
    n_features_in_ : int

    Notes
    -----
    A chain of tasks, each of 16 batches, which gets the k d numbers of the centres and 16 `batch_size` rows, and copies
    both; the rows of the next one are cut meanwhile. A batch costs 4 k d operations per row. Rows come to this process
    for the start only, twice `init_size`. Data that does not fit in the workers' memory is read by whole blocks,
    nearly all of them for each task: then `KMeans`, with one reading per pass, is faster. One pass for labels and
    inertia. Weights take 8 bytes per row, here and in the workers.

    References
    ----------
    D. Sculley (2010). Web-scale k-means clustering. WWW, 1177-1178.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find the clusters.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            At least 0. Weights count in the steps, the choice of the start, the rules that stop and the inertia.

        Raises
        ------
        ValueError
            If a parameter is not usable, there are fewer rows (of positive weight) than clusters, or the data or a
            weight is not finite or a weight below zero.
        """
        if not is_dask(X):
            super().fit(X, y, sample_weight)
            return self
        self._validate_params()
        X = check_matrix(self, X, reset=True)
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        weights = check_masses(sample_weight, X.shape[0])
        check_enough_masses(weights, self.n_clusters)
        with open_blocks(X, name=type(self).__name__, passes=self.max_iter + 2) as rows:
            masses = [None] * len(rows) if weights is None else rows.scatter("weights", weights)
            state = self._learn(rows, weights, masses)
            # With what partial_fit goes on from.
            parameters = self.get_params()
            for name, value in vars(state.model).items():
                if name not in parameters and name not in ("labels_", "inertia_", "n_features_in_"):
                    setattr(self, name, value)
            self.n_steps_ = state.steps
            self.n_iter_ = -(-state.rows // rows.shape[0])
            if self.compute_labels:
                labels = rows.map("labels", nearest_centers, shared=self._relative_centers())
                self.labels_ = rows.assemble(labels, (), np.int32)
                shared = self._relative_centers()
                self.inertia_ = rows.reduce(
                    "inertia", weighted_spread, masses, shared=shared, combine=merge_spread
                ).inertia
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Make one step with the rows of a NumPy array or sparse matrix."""
        if is_dask(X):
            raise TypeError("expected a NumPy array, received a Dask array; use fit, which cuts it into batches")
        super().partial_fit(X, y, sample_weight)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Find the clusters and return `labels_`."""
        if is_dask(X) and not self.compute_labels:
            return self.fit(X, y, sample_weight).predict(X)
        return super().fit_predict(X, y, sample_weight)

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Find the clusters and return the distances to their centres; of a Dask array lazily."""
        return self.fit(X, y, sample_weight).transform(X)

    def predict(self, X: Any) -> Any:
        """Return the nearest centre of each row, int32 (m,); of a Dask array lazily."""
        if not is_dask(X):
            return super().predict(X)
        X = self._checked_blocks(X)
        centers, origin = self._relative_centers()
        apply = partial(nearest_centers, centers=centers, origin=origin)
        return map_rows(X, apply, name=type(self).__name__, phase="predict", columns=None, dtype=np.int32)

    def transform(self, X: Any) -> Any:
        """Return the distance of each row to each centre, (m, n_clusters); of a Dask array lazily."""
        if not is_dask(X):
            return super().transform(X)
        X = self._checked_blocks(X)
        centers, origin = self._relative_centers()
        dtype = working_dtype(X.dtype)
        apply = partial(center_distances, centers=centers, origin=origin, dtype=dtype)
        return map_rows(X, apply, name=type(self).__name__, phase="transform", columns=len(centers), dtype=dtype)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the sum of squared distances of the rows to their nearest centres, each times its weight."""
        if not is_dask(X):
            return float(super().score(X, y, sample_weight))
        X = self._checked_blocks(X)
        weights = check_masses(sample_weight, X.shape[0])
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            masses = [None] * len(rows) if weights is None else rows.scatter("weights", weights)
            shared = self._relative_centers()
            found = rows.reduce("score", weighted_spread, masses, shared=shared, combine=merge_spread)
        return -float(found.inertia)

    def _learn(self, rows: Blocks, weights: np.ndarray | None, masses: list[Any]) -> _State:
        random = check_random_state(self.random_state)
        count = rows.shape[0]
        size = min(max(self.batch_size, self.n_clusters), count)
        tolerance = 0.0
        if self.tol > 0:
            moments = rows.reduce("moments", column_moments, combine=merge_moments)
            tolerance = self.tol * float((moments.scatter / count).mean())
        centers = self._first_centers(rows, weights, size, random).astype(rows.dtype)
        seed = int(random.randint(np.iinfo(np.int32).max))
        model = cluster.MiniBatchKMeans(
            self.n_clusters,
            init=centers,
            n_init=1,
            batch_size=size,
            compute_labels=False,
            verbose=self.verbose,
            random_state=seed,
            reassignment_ratio=self.reassignment_ratio,
        )
        rule = _Rule(size, count, tolerance, self.max_no_improvement)
        return _chain(rows, masses, _State(model), rule, seed, self.max_iter)

    def _first_centers(
        self, rows: Blocks, weights: np.ndarray | None, size: int, random: np.random.RandomState
    ) -> np.ndarray:
        """Return the initial centres that fit another sample best."""
        if not (isinstance(self.init, str) or callable(self.init)):
            centers: np.ndarray = check_array(self.init, dtype=np.float64)
            if centers.shape != (self.n_clusters, rows.shape[1]):
                raise ValueError(f"expected init of shape {(self.n_clusters, rows.shape[1])}, received {centers.shape}")
            return centers
        wanted = 3 * size if self.init_size is None else self.init_size
        wanted = wanted if wanted >= self.n_clusters else 3 * self.n_clusters
        starts = self.n_init if self.n_init != "auto" else (1 if self.init == "k-means++" else 3)
        sample, shares = _sample(rows, wanted, random, weights)
        candidates = [_choose(sample, shares, self.init, self.n_clusters, random) for _ in range(starts)]
        if len(candidates) == 1:
            return candidates[0]
        others, shares = _sample(rows, wanted, random, weights)
        origin = others.mean(axis=0, dtype=np.float64)
        return min(candidates, key=lambda c: weighted_spread(others, shares, c - origin, origin).inertia)

    def _checked_blocks(self, X: Any) -> Any:
        check_is_fitted(self)
        return check_matrix(self, X, reset=False)

    def _relative_centers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the centres relative to their mean, and that mean."""
        origin = self.cluster_centers_.mean(axis=0, dtype=np.float64)
        return self.cluster_centers_ - origin, origin


class _Rule(NamedTuple):
    """When to stop."""

    size: int
    """Rows of a batch."""
    total: int
    """Rows of all."""
    tolerance: float
    """Squared way of the centres in a step; 0 for no such rule."""
    patience: int | None
    """Batches without a lower smoothed inertia."""


class _State(NamedTuple):
    """What travels along the chain."""

    model: Any
    """scikit-learn's, after the batches so far."""
    steps: int = 0
    rows: int = 0
    smoothed: float | None = None
    """Exponentially weighted mean of the batches' inertia per row."""
    least: float = np.inf
    stale: int = 0
    """Batches since the least."""
    done: bool = False


def _sample(
    rows: Blocks, size: int, random: np.random.RandomState, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    if weights is None:
        return sample_of(rows, size, random)[1], None
    return weighted_sample_of(rows, size, random, weights)


def _choose(
    sample: np.ndarray, shares: np.ndarray | None, init: Any, clusters: int, random: np.random.RandomState
) -> np.ndarray:
    if init == "k-means++":
        centers: np.ndarray = kmeans_plusplus(sample, clusters, sample_weight=shares, random_state=random)[0]
        return centers
    if init == "random":
        if shares is None:
            return sample[random.permutation(len(sample))[:clusters]]
        return sample[random.choice(len(sample), clusters, replace=False, p=shares / shares.sum())]
    chosen: np.ndarray = check_array(init(sample, clusters, random_state=random), dtype=np.float64)
    if chosen.shape != (clusters, sample.shape[1]):
        raise ValueError(f"expected init to return shape {(clusters, sample.shape[1])}, received {chosen.shape}")
    return chosen


def _chain(rows: Blocks, masses: list[Any], start: _State, rule: _Rule, seed: int, epochs: int) -> _State:
    """Run the batches of every epoch, group after group, until the rule says stop."""
    state: Any = start
    waiting: Any = None
    for number, spans in enumerate(_groups(rows.shape[0], rule.size, seed, epochs)):
        places, calls = _pieces(spans, rows, masses)
        parts = rows.engine.map(rows.named("cut"), _cut, calls)
        # The rows above were asked for while the group before was at work.
        if waiting is not None and rows.fetch([waiting])[0]:
            break
        (state,) = rows.engine.map(rows.named("update"), _update, [(state, rule, (seed, number), places, *parts)])
        (waiting,) = rows.engine.map(rows.named("done"), _is_done, [(state,)])
    final: _State = rows.fetch([state])[0]
    return final


def _groups(count: int, size: int, seed: int, epochs: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the runs of rows that each task takes; every epoch in an order of its own, short ones several in a task."""
    length = -(-size // RUNS)
    runs = [(low, min(low + length, count)) for low in range(0, count, length)]
    group: list[tuple[int, int]] = []
    for epoch in range(epochs):
        for i in np.random.default_rng([seed, 0, epoch]).permutation(len(runs)).tolist():
            group.append(runs[i])
            if len(group) == BATCHES * RUNS:
                yield group
                group = []
    if group:
        yield group


def _pieces(spans: Sequence[tuple[int, int]], rows: Blocks, masses: list[Any]) -> tuple[tuple, list[tuple]]:
    """Say which rows of which blocks make up these runs, and where they go: one call per block."""
    ends = np.cumsum(rows.lengths)
    wanted: dict[int, list[tuple[int, int]]] = {}
    places: dict[int, list[tuple[int, int]]] = {}
    filled = 0
    for low, high in spans:
        while low < high:
            block = int(np.searchsorted(ends, low, side="right"))
            stop = min(high, int(ends[block]))
            start = rows.starts[block]
            wanted.setdefault(block, []).append((low - start, stop - start))
            places.setdefault(block, []).append((filled, filled + stop - low))
            filled, low = filled + stop - low, stop
    return tuple(places.values()), [(rows.sources[block], masses[block], cuts) for block, cuts in wanted.items()]


class _Piece(NamedTuple):
    """Some rows of one block."""

    rows: np.ndarray
    weights: np.ndarray | None


def _cut(block: np.ndarray, weights: np.ndarray | None, cuts: Sequence[tuple[int, int]]) -> _Piece:
    rows = np.concatenate([block[low:high] for low, high in cuts])
    return _Piece(rows, None if weights is None else np.concatenate([weights[low:high] for low, high in cuts]))


def _is_done(state: _State) -> bool:
    return state.done


def _update(state: _State, rule: _Rule, seed: tuple[int, int], places: tuple, *parts: _Piece) -> _State:
    """Go on with the rows of one group, shuffled; pure, so that it can be done again if its worker is lost."""
    total = sum(len(part.rows) for part in parts)
    batch = np.empty((total, parts[0].rows.shape[1]), parts[0].rows.dtype)
    weights = None if parts[0].weights is None else np.empty(total)
    order = np.random.default_rng([seed[0], 1, seed[1]]).permutation(total)
    for part, spans in zip(parts, places, strict=True):
        used = 0
        for low, high in spans:
            batch[order[low:high]] = part.rows[used : used + high - low]
            if weights is not None and part.weights is not None:
                weights[order[low:high]] = part.weights[used : used + high - low]
            used += high - low
    # partial_fit writes into the centres, and the state before must stay as it was.
    state = state._replace(model=copy.deepcopy(state.model))
    for low in range(0, total, rule.size):
        own = slice(low, low + rule.size)
        state = _step(state, rule, batch[own], None if weights is None else weights[own])
        if state.done:
            break
    return state


def _step(state: _State, rule: _Rule, batch: np.ndarray, weights: np.ndarray | None) -> _State:
    model = state.model
    before = model.cluster_centers_.copy() if state.steps else None
    model.partial_fit(batch, sample_weight=weights)
    state = state._replace(steps=state.steps + 1, rows=state.rows + len(batch))
    if before is None:
        # As in scikit-learn: the first inertia says more about the start than about the step.
        return state
    # Of the centres before the step; afterwards they fit this batch better than others.
    inertia = weighted_spread(batch, weights, before, np.zeros(before.shape[1])).inertia / len(batch)
    share = min(2.0 * len(batch) / (rule.total + 1), 1.0)
    smoothed = inertia if state.smoothed is None else (1 - share) * state.smoothed + share * inertia
    stale = 0 if smoothed < state.least else state.stale + 1
    moved = float(((model.cluster_centers_ - before) ** 2).sum())
    done = rule.tolerance > 0 and moved <= rule.tolerance
    done = done or (rule.patience is not None and stale >= rule.patience)
    return state._replace(smoothed=smoothed, least=min(smoothed, state.least), stale=stale, done=done)
