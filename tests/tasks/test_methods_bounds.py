"""k-means by bounds: what a row remembers is true, and the passes are those that look at every row."""

from __future__ import annotations

from functools import partial

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from tasks.methods import KMeans, bounds, lloyd

X = load_digits().data


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    dtype=st.sampled_from([np.float32, np.float64]),
    clusters=st.integers(2, 7),
    size=st.sampled_from([1e-3, 1.0, 1e4]),
    far=st.sampled_from([0.0, 50.0]),
    step=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
)
def test_go_on__what_rows_remember_is_true(seed, dtype, clusters, size, far, step):
    random = np.random.default_rng(seed)
    block = ((random.normal(size=(90, 20)) + far) * size).astype(dtype)
    block[3] = block[4]
    origin = block.mean(axis=0, dtype=np.float64)
    rows = block.astype(np.float64) - origin
    centers = rows[:clusters] + random.normal(size=(clusters, 20)) * size * 0.1
    kept = bounds.begin(block, None, centers, origin)
    for _ in range(5):
        before, centers = centers, centers + random.normal(size=centers.shape) * size * step
        frozen = [part.copy() for part in kept]
        after = bounds.go_on(block, kept, None, before, centers, origin)
        for part, old in zip(kept, frozen, strict=True):
            np.testing.assert_array_equal(part, old)  # the task can be done again
        kept = after
        distances = cdist(rows, centers)
        own = distances[np.arange(90), kept.labels]
        noise = 1e-5 if dtype == np.float32 else 1e-13
        reach = noise * (np.abs(rows).max() + np.abs(centers).max())
        assert (own <= kept.upper + reach).all()
        others = np.where(np.arange(clusters) == kept.labels[:, None], np.inf, distances)
        assert (kept.lower[np.isfinite(others)] <= others[np.isfinite(others)] + reach).all()
        slack = 3e-4 if dtype == np.float32 else 1e-12
        slack *= (rows**2).sum(axis=1) + (centers**2).sum(axis=1).max()
        assert (own**2 <= distances.min(axis=1) ** 2 + slack).all()
        for cluster in range(clusters):
            member = kept.labels == cluster
            np.testing.assert_allclose(kept.sums[cluster], rows[member].sum(axis=0), atol=90 * 2 * reach)
            assert kept.counts[cluster] == member.sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", [None, (400, 30)])
def test_fit__as_without_bounds(monkeypatch, dtype, chunks):
    rows = X.astype(dtype)
    data = rows if chunks is None else da.from_array(rows, chunks)
    looked = []
    look = bounds._look
    monkeypatch.setattr(bounds, "_look", partial(look_at, look, looked))
    with_bounds = KMeans(10, random_state=3, tol=0.0).fit(data)
    assert looked[-1] < 0.3 * max(looked)  # late passes leave most rows alone
    monkeypatch.setattr(lloyd, "pays", lambda *arguments: False)
    plain = KMeans(10, random_state=3, tol=0.0).fit(data)
    assert with_bounds.n_iter_ == plain.n_iter_ > 5
    np.testing.assert_array_equal(np.asarray(with_bounds.labels_), np.asarray(plain.labels_))
    np.testing.assert_allclose(with_bounds.cluster_centers_, plain.cluster_centers_, rtol=1e-5, atol=1e-6)
    assert with_bounds.inertia_ == pytest.approx(plain.inertia_, rel=1e-6)


def look_at(look, looked, block, kept, chosen, *rest):
    looked.append(len(chosen))
    return look(block, kept, chosen, *rest)


def test_fit__a_centre_without_rows_jumps(monkeypatch):
    """Its bounds move with it."""
    start = np.vstack([X[:3], np.full((2, 64), 1e3)])
    ours = KMeans(5, init=start, tol=0.0).fit(X)
    monkeypatch.setattr(lloyd, "pays", lambda *arguments: False)
    plain = KMeans(5, init=start, tol=0.0).fit(X)
    np.testing.assert_array_equal(ours.labels_, plain.labels_)
    assert len(np.unique(ours.labels_)) == 5
