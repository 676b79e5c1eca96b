"""k nearest neighbours against a plain sort of all distances, and against scikit-learn."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier as Reference
from sklearn.neighbors import KNeighborsRegressor as ReferenceRegressor

from tasks import methods
from tasks.methods import blocks, nearest, neighbors

X, Y = load_digits(return_X_y=True)
TRAIN, QUERIES, LABELS = X[:1200], X[1200:1500], Y[:1200]


def by_sorting(points, queries, k):
    """Sort all distances, ties by position."""
    squares = np.stack([((points.astype(float) - query) ** 2).sum(axis=1) for query in queries.astype(float)])
    ids = np.argsort(squares, axis=1, kind="stable")[:, :k]
    return np.sqrt(np.take_along_axis(squares, ids, axis=1)), ids


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", [None, 1200, 257])
@pytest.mark.parametrize("kept", [True, False])
def test_kneighbors__digits_exactly(chunks, dtype, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(blocks, "CACHE_FRACTION", 0.0)
        monkeypatch.setattr(neighbors, "QUERY_BYTES", 100 * 64 * 8)
    train, queries = TRAIN.astype(dtype), QUERIES.astype(dtype)
    if chunks:
        train, queries = da.from_array(train, (chunks, 30)), da.from_array(queries, (90, 64))
    ours = methods.KNeighborsClassifier(5).fit(train, LABELS)
    distances, ids = ours.kneighbors(queries)
    expected_distances, expected_ids = by_sorting(TRAIN, QUERIES, 5)
    np.testing.assert_array_equal(np.asarray(ids), expected_ids)
    np.testing.assert_allclose(np.asarray(distances), expected_distances, rtol=1e-14)
    predicted = ours.predict(queries)
    assert isinstance(predicted, da.Array if chunks else np.ndarray)
    np.testing.assert_array_equal(np.asarray(predicted), Reference(5).fit(TRAIN, LABELS).predict(QUERIES))


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 4, 1200])
def test_predict_proba__as_scikit_learn(weights, k):
    queries = np.concatenate([QUERIES[:40], TRAIN[:5]])
    ours = methods.KNeighborsClassifier(k, weights=weights).fit(da.from_array(TRAIN, (400, 64)), LABELS)
    reference = Reference(k, weights=weights).fit(TRAIN, LABELS)
    np.testing.assert_allclose(ours.predict_proba(queries), reference.predict_proba(queries), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(queries), reference.predict(queries))


@pytest.mark.parametrize("chunks", [None, 40])
def test_kneighbors__a_training_sample_is_not_its_own_neighbour(chunks):
    points = np.repeat(TRAIN[:30], [3, 1] * 15, axis=0)  # duplicates crowd out the sample itself
    data = da.from_array(points, (chunks, 64)) if chunks else points
    ids = np.asarray(methods.KNeighborsClassifier(2).fit(data, np.arange(60) % 2).kneighbors(return_distance=False))
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    np.testing.assert_array_equal(ids, np.argsort(squares, axis=1, kind="stable")[:, :2])


@settings(max_examples=60)
@given(data=st.data())
def test_nearest_in_block__exact_on_hard_data(data):
    """Duplicates, few values, huge offsets, tiny and huge scales; any tiles."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    columns = data.draw(st.sampled_from([1, 3, 20]))
    n, m = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 12))
    scale = data.draw(st.sampled_from([1e-18, 1.0, 1e15]))
    offset = data.draw(st.sampled_from([0.0, 1.0, 1e4]))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    points = ((random.integers(0, data.draw(st.sampled_from([2, 50])), (n, columns)) + offset) * scale).astype(dtype)
    queries = np.concatenate([points[: m // 2], (random.normal(size=(m, columns)) + offset) * scale]).astype(dtype)
    k = data.draw(st.integers(1, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "TILE_POINTS", data.draw(st.sampled_from([7, 1024])))
        patch.setattr(nearest, "TILE_QUERIES", data.draw(st.sampled_from([3, 2048])))
        cut = data.draw(st.integers(0, n))
        parts = [(points[low:high], low) for low, high in ((0, cut), (cut, n)) if high > low]
        found = [
            nearest.nearest_in_block(part, low, None, queries, k=k, center=points.mean(axis=0, dtype=float))
            for part, low in parts
        ]
    merged = found[0] if len(found) == 1 else nearest.merge_neighbors(*found)
    expected_distances, expected_ids = by_sorting(points, queries, k)
    np.testing.assert_array_equal(merged.ids, expected_ids)
    np.testing.assert_allclose(np.sqrt(merged.squares), expected_distances, rtol=1e-12)


def test_fit__labels_of_any_type_and_dask_labels():
    names = np.array(["nil", "one"])[LABELS % 2]
    ours = methods.KNeighborsClassifier(3).fit(da.from_array(TRAIN, (500, 64)), da.from_array(names, 300))
    predicted = ours.predict(da.from_array(QUERIES, (100, 64)))
    assert predicted.dtype == names.dtype
    assert np.mean(predicted.compute() == np.array(["nil", "one"])[Y[1200:1500] % 2]) > 0.95
    one_class = methods.KNeighborsClassifier(1).fit(TRAIN, np.zeros(1200))
    assert set(one_class.predict(QUERIES)) == {0.0}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_neighbors": 0}, ValueError, "n_neighbors > 0"),
        ({"n_neighbors": 2.5}, TypeError, "enter integer value"),
        ({"weights": "near"}, ValueError, "expected weights 'uniform' or 'distance'"),
    ],
)
def test_fit__refuses_parameters(arguments, error, message):
    with pytest.raises(error, match=message):
        methods.KNeighborsClassifier(**arguments).fit(TRAIN, LABELS)


def test_fit__refuses_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="as many labels as rows, received 7 labels and 1200 rows"):
        methods.KNeighborsClassifier().fit(da.from_array(TRAIN), LABELS[:7])
    with pytest.raises(ValueError, match="y to be passed"):
        methods.KNeighborsClassifier().fit(da.from_array(TRAIN), None)


def test_kneighbors__refuses_more_neighbours_than_samples():
    ours = methods.KNeighborsClassifier(6).fit(TRAIN[:5], LABELS[:5])
    with pytest.raises(ValueError, match="n_neighbors = 6, n_samples_fit = 5"):
        ours.predict(QUERIES)
    with pytest.raises(ValueError, match="n_samples_fit = 4"):
        ours.kneighbors(n_neighbors=5)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 4, 1200])
@pytest.mark.parametrize("chunks", [None, 257])
@pytest.mark.parametrize("several", [False, True])
def test_regressor__as_scikit_learn(weights, k, chunks, several):
    queries = np.concatenate([QUERIES[:40], TRAIN[:5]])
    y = np.stack([LABELS, LABELS**2], axis=1) if several else LABELS * 1.5
    train = da.from_array(TRAIN, (chunks, 30)) if chunks else TRAIN
    asked = da.from_array(queries, (20, 64)) if chunks else queries
    ours = methods.KNeighborsRegressor(k, weights=weights).fit(train, da.from_array(y, 500) if chunks else y)
    expected = ReferenceRegressor(k, weights=weights).fit(TRAIN, y).predict(queries)
    found = ours.predict(asked)
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(ours.kneighbors(asked)[1]), by_sorting(TRAIN, queries, k)[1])


def test_regressor__ties_go_to_the_lower_row():
    points = np.zeros((12, 2))
    data = da.from_array(points, (5, 2))
    ours = methods.KNeighborsRegressor(3).fit(data, np.arange(12.0))
    np.testing.assert_array_equal(ours.predict(points[:2]), [1.0, 1.0])
    with pytest.raises(ValueError, match="as many targets as rows, received 3 targets and 12 rows"):
        methods.KNeighborsRegressor().fit(data, np.arange(3.0))
    with pytest.raises(ValueError, match="Input y contains NaN"):
        methods.KNeighborsRegressor().fit(data, np.full(12, np.nan))
    with pytest.raises(ValueError, match="n_neighbors = 13, n_samples_fit = 12"):
        methods.KNeighborsRegressor(13).fit(data, np.arange(12.0)).predict(points)
