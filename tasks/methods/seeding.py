"""Where k-means starts: among a sample of the rows, or by k-means|| among all of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.cluster import kmeans_plusplus

from tasks.methods.blocks import Blocks
from tasks.methods.lloyd import nearest_with_squares

ROUNDS = 5
"""Rounds of k-means||; more gain nothing that can be measured (Bahmani et al., section 5.2)."""

OVERSAMPLING = 2
"""Candidates of a round that are expected per cluster."""


class Near(NamedTuple):
    """The nearest candidate of each row of a block; stays with the workers."""

    labels: np.ndarray
    """int32 (m,)."""
    squares: np.ndarray
    """Squared distances, float64 (m,)."""


def sample_of(rows: Blocks, size: int, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Return positions, increasing, and rows of a sample by position; of all rows if there are no more than `size`."""
    count = rows.shape[0]
    chosen = np.arange(count) if count <= size else np.sort(random.choice(count, size, replace=False))
    return chosen, rows.take(chosen, "sample")


def weighted_sample_of(
    rows: Blocks, size: int, random: np.random.RandomState, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a sample by position, and weights that stand for those of all rows.

    A row's chance grows with its weight, heavy rows are there for certain, and sums of the new weights are, on average,
    those of the old ones. Of all rows, with their own weights, if there are no more than `size`.

    References
    ----------
    N. Duffield, C. Lund, M. Thorup (2007). Priority sampling for estimation of arbitrary subset sums. J. ACM 54(6).
    """
    if len(weights) <= size:
        return rows.take(np.arange(len(weights)), "sample"), weights
    priorities = weights / (1.0 - random.random_sample(len(weights)))
    order = np.argpartition(-priorities, size)[: size + 1]
    least = order[priorities[order].argmin()]
    chosen = np.sort(order[(order != least) & (weights[order] > 0)])
    return rows.take(chosen, "sample"), np.maximum(weights[chosen], priorities[least])


def parallel_seeds(
    rows: Blocks,
    mean: np.ndarray,
    clusters: int,
    random: np.random.RandomState,
    weights: np.ndarray | None = None,
    masses: list[Any] | None = None,
) -> np.ndarray:
    """Choose initial centres by k-means||.

    Parameters
    ----------
    rows : Blocks
        At least as many as clusters.
    mean : ndarray, float64 (d,)
        Of the rows.
    clusters : int
    random : RandomState
    weights : ndarray, float64 (n,), optional
        Of the rows; more than zero for as many as clusters.
    masses : list, optional
        Handles of the weights of each block's rows.

    Returns
    -------
    ndarray, float64 (clusters, d)
        Relative to the mean.

    References
    ----------
    B. Bahmani, B. Moseley, A. Vattani, R. Kumar, S. Vassilvitskii (2012). Scalable k-means++. PVLDB 5(7), 622-633,
    algorithm 2.
    """
    seed = int(random.randint(np.iinfo(np.int32).max))
    masses = [None] * len(rows) if masses is None else masses
    heavy = np.arange(rows.shape[0]) if weights is None else np.flatnonzero(weights > 0)
    first = random.randint(len(heavy)) if weights is None else random.choice(len(weights), p=weights / weights.sum())
    places = np.array([first])
    candidates = rows.take(places, "candidates").astype(np.float64) - mean
    near = rows.map("seed", _nearest, shared=(candidates, mean))
    for round_ in range(ROUNDS):
        cost = _over(rows, "cost", _cost, near, masses)
        if not cost > 0:
            break
        rate = OVERSAMPLING * clusters / cost
        drawn = _over(rows, "draw", _draw, near, masses, rows.starts, shared=(seed, round_, rate))
        if not len(drawn):
            continue
        added = rows.take(drawn, "candidates").astype(np.float64) - mean
        near = rows.map("seed", _nearer, near, shared=(added, mean, len(candidates)))
        places = np.concatenate([places, drawn])
        candidates = np.concatenate([candidates, added])
    shares = _over(rows, "weigh", _weigh, near, masses, shared=(len(candidates),)).astype(np.float64)
    missing = clusters - len(candidates)
    if missing > 0:
        # Fewer distinct rows than clusters, or very few rows.
        others = np.sort(random.choice(np.setdiff1d(heavy, places), missing, replace=False))
        candidates = np.concatenate([candidates, rows.take(others, "candidates").astype(np.float64) - mean])
        shares = np.concatenate([shares, np.ones(missing) if weights is None else weights[others]])
    centers: np.ndarray = kmeans_plusplus(candidates, clusters, sample_weight=shares, random_state=random)[0]
    return centers


def _over(rows: Blocks, phase: str, function: Callable, *aligned: Sequence, shared: tuple = ()) -> Any:
    """Combine what the function finds in the state of each block; the rows themselves are not read."""
    calls = list(zip(*aligned, strict=True))
    combine = _join if function is _draw else operator.add
    return rows.fetch(rows.engine.reduce_each(rows.named(phase), function, [calls], shared, combine=combine))[0]


def _nearest(block: np.ndarray, candidates: np.ndarray, origin: np.ndarray) -> Near:
    return Near(*nearest_with_squares(block, candidates, origin))


def _nearer(block: np.ndarray, near: Near, added: np.ndarray, origin: np.ndarray, known: int) -> Near:
    labels, squares = nearest_with_squares(block, added, origin)
    closer = squares < near.squares
    return Near(np.where(closer, labels + np.int32(known), near.labels), np.where(closer, squares, near.squares))


def _cost(near: Near, weights: np.ndarray | None) -> float:
    return float(near.squares.sum() if weights is None else weights @ near.squares)


def _draw(near: Near, weights: np.ndarray | None, start: int, seed: int, round_: int, rate: float) -> np.ndarray:
    """Draw rows, each by itself and by its position, whichever block it is in; increasing positions."""
    draws = np.random.Generator(np.random.PCG64([seed, round_]).advance(start)).random(len(near.squares))
    squares = near.squares if weights is None else weights * near.squares
    return start + np.flatnonzero(draws < rate * squares)


def _weigh(near: Near, weights: np.ndarray | None, candidates: int) -> np.ndarray:
    return np.bincount(near.labels, weights, candidates)


def _join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b])
