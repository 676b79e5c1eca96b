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


def parallel_seeds(rows: Blocks, mean: np.ndarray, clusters: int, random: np.random.RandomState) -> np.ndarray:
    """Choose initial centres by k-means||.

    Parameters
    ----------
    rows : Blocks
        At least as many as clusters.
    mean : ndarray, float64 (d,)
        Of the rows.
    clusters : int
    random : RandomState

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
    places = np.array([random.randint(rows.shape[0])])
    candidates = rows.take(places, "candidates").astype(np.float64) - mean
    near = rows.map("seed", _nearest, shared=(candidates, mean))
    for round_ in range(ROUNDS):
        cost = _over(rows, "cost", _cost, near)
        if not cost > 0:
            break
        rate = OVERSAMPLING * clusters / cost
        drawn = _over(rows, "draw", _draw, near, rows.starts, shared=(seed, round_, rate))
        if not len(drawn):
            continue
        added = rows.take(drawn, "candidates").astype(np.float64) - mean
        near = rows.map("seed", _nearer, near, shared=(added, mean, len(candidates)))
        places = np.concatenate([places, drawn])
        candidates = np.concatenate([candidates, added])
    weights = _over(rows, "weigh", _weigh, near, shared=(len(candidates),)).astype(np.float64)
    missing = clusters - len(candidates)
    if missing > 0:
        # Fewer distinct rows than clusters, or very few rows.
        others = np.sort(random.choice(np.setdiff1d(np.arange(rows.shape[0]), places), missing, replace=False))
        candidates = np.concatenate([candidates, rows.take(others, "candidates").astype(np.float64) - mean])
        weights = np.concatenate([weights, np.ones(missing)])
    centers: np.ndarray = kmeans_plusplus(candidates, clusters, sample_weight=weights, random_state=random)[0]
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


def _cost(near: Near) -> float:
    return float(near.squares.sum())


def _draw(near: Near, start: int, seed: int, round_: int, rate: float) -> np.ndarray:
    """Draw rows, each by itself and by its position, whichever block it is in; increasing positions."""
    draws = np.random.Generator(np.random.PCG64([seed, round_]).advance(start)).random(len(near.squares))
    return start + np.flatnonzero(draws < rate * near.squares)


def _weigh(near: Near, candidates: int) -> np.ndarray:
    return np.bincount(near.labels, minlength=candidates)


def _join(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([a, b])
