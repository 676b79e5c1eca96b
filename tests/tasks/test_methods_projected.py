"""Neighbours by few products: the bounds hold, the answers are those of all distances, and the axes are worth it."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from tasks import methods
from tasks.methods import nearest, neighbors, projected
from tasks.methods.distances import Filter, multiply
from tasks.methods.scratch import Scratch

X, Y = load_digits(return_X_y=True)


def axes_of(columns, count, random):
    return np.linalg.qr(random.normal(size=(columns, columns)))[0][:, :count]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("columns", "count"), [(2, 1), (17, 16), (784, 1), (784, 128), (784, 784)])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_filter__lower_bounds_hold_the_distance(dtype, columns, count, offset, spread):
    """Also where the remainders are parallel, so that nothing but rounding is between the bound and the distance."""
    random = np.random.default_rng(columns)
    axes = axes_of(columns, count, random)
    rows = random.normal(size=(60, count)) @ axes.T + np.outer(random.normal(size=60), random.normal(size=columns))
    a = (rows + spread * random.normal(size=rows.shape) + offset).astype(dtype)
    b = np.concatenate([a[:20], a[30:]])
    filter_ = Filter.over(a, b, center=np.full(columns, offset), dtype=dtype, axes=axes)
    queries, points = filter_.queries(a), filter_.points(b)
    i, j = np.divmod(np.arange(60 * 50), 50)
    products = multiply(queries, points, Scratch())
    assert points.rows.shape == (50, count + 2)
    exact = ((a[i].astype(float) - b[j]) ** 2).sum(axis=1) * filter_.scale**2
    assert (filter_.lower(queries, i, products.ravel()) <= exact).all()


@settings(max_examples=150)
@given(data=st.data())
def test_nearest_in_block__with_any_axes_exact_on_hard_data(data):
    """Duplicates, constant columns, huge offsets, tiny and huge scales (of which no sum is rounded); any tiles."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    columns = data.draw(st.sampled_from([1, 3, 20, 300]))
    n, m = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 12))
    scale = data.draw(st.sampled_from([2.0**-60, 1.0, 2.0**50]))
    offset = data.draw(st.sampled_from([0.0, 1.0, 2.0**13]))
    types = data.draw(st.lists(st.sampled_from([np.float32, np.float64]), min_size=2, max_size=2))
    values = data.draw(st.sampled_from([1, 2, 50]))
    whole = random.integers(0, values, (n + m, columns)) * (random.random(columns) < 0.7)
    points, queries = ((part + offset) * scale for part in (whole[:n], np.concatenate([whole[: m // 2], whole[n:]])))
    points, queries = points.astype(types[0]), queries.astype(types[1])
    k = data.draw(st.integers(1, n))
    axes = axes_of(columns, data.draw(st.integers(1, columns)), random)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projected, "TILE_POINTS", data.draw(st.sampled_from([7, 4096])))
        patch.setattr(projected, "TILE_QUERIES", data.draw(st.sampled_from([3, 512])))
        cut = data.draw(st.integers(0, n))
        options = {"k": k, "center": points.mean(axis=0, dtype=float), "axes": axes}
        options["threads"] = data.draw(st.integers(1, 3))
        parts = [(points[low:high], low) for low, high in ((0, cut), (cut, n)) if high > low]
        found = [
            nearest.nearest_in_block(part, low, np.arange(low, low + len(part)), queries, **options)
            for part, low in parts
        ]
    merged = found[0] if len(found) == 1 else nearest.merge_neighbors(*found)
    squares = ((queries[:, None].astype(float) - points[None]) ** 2).sum(axis=2)
    expected = np.argsort(squares, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(merged.ids, expected)
    np.testing.assert_array_equal(merged.targets, expected)
    np.testing.assert_array_equal(merged.squares, np.take_along_axis(squares, expected, axis=1))


def test_nearest_in_block__a_block_of_fewer_rows_than_neighbours():
    axes = np.eye(3)[:, :1]
    found = nearest.nearest_in_block(
        np.ones((2, 3)), 5, np.array([7, 8]), np.ones((1, 3)), k=4, center=np.zeros(3), axes=axes
    )
    np.testing.assert_array_equal(found.ids[0, :2], [5, 6])
    np.testing.assert_array_equal(found.targets, [[7, 8, 0, 0]])
    assert np.isinf(found.squares[0, 2:]).all()
    assert (found.ids[0, 2:] == nearest.NOBODY).all()


@pytest.mark.parametrize("chunks", [None, 1400, 311])
@pytest.mark.parametrize("own", [False, True])
def test_kneighbors__by_axes_is_the_same_in_any_chunks(chunks, own, monkeypatch):
    """Without its bounds on the size of a search even this one is worth axes."""
    for name in ("LEAST_WORK", "LEAST_QUERIES", "LEAST_COLUMNS"):
        monkeypatch.setattr(neighbors, name, 0)
    chosen = []
    monkeypatch.setattr(projected, "SCAN", 0.0)
    monkeypatch.setattr(
        neighbors, "choose_axes", lambda *args: chosen.append(projected.choose_axes(*args)) or chosen[-1]
    )
    train, asked = X[:1400].astype(np.float32), X[1400:].astype(np.float32)
    data, queries = (da.from_array(train, (chunks, 64)), da.from_array(asked, (100, 64))) if chunks else (train, asked)
    ours = methods.KNeighborsClassifier(4).fit(data, Y[:1400])
    distances, ids = ours.kneighbors(None if own else queries)
    assert chosen[0].shape == (64, 32)
    reference = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(X[:1400])
    expected = reference.kneighbors(None if own else X[1400:])[0]
    np.testing.assert_allclose(distances, expected, rtol=1e-9)
    monkeypatch.setattr(neighbors, "choose_axes", lambda *args: None)
    np.testing.assert_array_equal(ids, ours.kneighbors(None if own else queries, return_distance=False))


def test_choose_axes__few_where_few_directions_hold_the_variance_and_none_where_all_do():
    random = np.random.default_rng(0)
    center = np.zeros(256)
    flat = random.normal(size=(1000, 256))
    assert projected.choose_axes(flat[:900], flat[900:], center, 5, 50_000, False) is None
    thin = random.normal(size=(1000, 8)) @ random.normal(size=(8, 256)) + 1e-2 * flat
    axes = projected.choose_axes(thin[:900], thin[900:], center, 5, 50_000, False)
    assert axes.shape == (256, 16)
    np.testing.assert_allclose(axes.T @ axes, np.eye(16), atol=1e-12)
    wide = random.normal(size=(1000, 256)) * np.where(np.arange(256) < 60, 1, 1e-2)
    assert projected.choose_axes(wide[:900], wide[900:], center, 5, 50_000, True).shape[1] == 64


def test_axes__only_for_a_large_search():
    class Rows:
        def __init__(self, *shape):
            self.shape = shape

        def take(self, rows, phase):
            assert len(rows) <= 4096
            assert rows[-1] < self.shape[0]
            return np.random.default_rng(0).normal(size=(len(rows), 2)) @ np.ones((2, self.shape[1]))

    center = np.zeros(100)
    assert neighbors._axes(Rows(10**6, 100), Rows(2000, 100), center, 5, False).shape == (100, 16)
    assert neighbors._axes(Rows(10**6, 100), Rows(900, 100), center, 5, False) is None
    assert neighbors._axes(Rows(10**4, 100), Rows(2000, 100), center, 5, False) is None
    assert neighbors._axes(Rows(10**9, 20), Rows(2000, 20), center[:20], 5, False) is None
