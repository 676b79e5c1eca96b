"""Mini-batch k-means: as good as scikit-learn's, the same in any chunks."""

from __future__ import annotations

import pickle

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import MiniBatchKMeans as Reference
from sklearn.datasets import load_digits, make_blobs

from tasks.methods import blocks, minibatch
from tasks.methods.minibatch import MiniBatchKMeans

X = load_digits().data


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "choice", [{}, {"init": "random"}, {"tol": 1e-3}, {"init": X[:10]}, {"init": lambda X, k, random_state: X[:k]}]
)
def test_fit__inertia_of_scikit_learn(choice, dtype):
    ours, reference = [], []
    for seed in range(5):
        common = {"batch_size": 100, "random_state": seed, **choice}
        model = MiniBatchKMeans(10, **common).fit(da.from_array(X.astype(dtype), (500, 64)))
        ours.append(model.inertia_)
        reference.append(Reference(10, **common).fit(X).inertia_)
        assert model.cluster_centers_.dtype == dtype
        np.testing.assert_allclose(-model.score(X.astype(dtype)), model.inertia_, rtol=1e-4)
        np.testing.assert_array_equal(model.labels_.compute(), model.predict(X.astype(dtype)))
    assert np.mean(ours) < 1.03 * np.mean(reference)


def test_fit__sorted_rows_are_mixed():
    rows, _ = make_blobs(6000, 5, centers=12, cluster_std=0.3, shuffle=False, random_state=3)
    found = []
    for seed in range(6):
        common = {"batch_size": 64, "random_state": seed}
        ours = MiniBatchKMeans(12, **common).fit(da.from_array(rows, (1000, 5)))
        found.append((ours.inertia_, Reference(12, **common).fit(rows).inertia_))
    # Of single runs some end in another optimum, scikit-learn's too.
    ours, reference = np.median(found, axis=0)
    assert ours < 1.03 * reference


@settings(max_examples=6)
@given(
    seed=st.integers(0, 2**31 - 1),
    cut=st.integers(30, 900),
    size=st.integers(60, 300),
    tol=st.sampled_from([0.0, 1e-3]),
)
def test_fit__chunks_decide_nothing(seed, cut, size, tol):
    common = {"batch_size": size, "random_state": seed, "tol": tol, "max_iter": 2}
    whole = MiniBatchKMeans(7, **common).fit(da.from_array(X[:900], (900, 64)))
    lazy = MiniBatchKMeans(7, **common).fit(da.from_array(X[:900], (cut, 9)))
    np.testing.assert_allclose(lazy.cluster_centers_, whole.cluster_centers_, rtol=1e-12, atol=1e-12)
    assert (lazy.n_steps_, lazy.n_iter_) == (whole.n_steps_, whole.n_iter_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CACHE_FRACTION", 0.0)
        read = MiniBatchKMeans(7, **common).fit(da.from_array(X[:900], (cut, 64)))
    np.testing.assert_array_equal(read.cluster_centers_, lazy.cluster_centers_)


def test_groups__every_row_once_an_epoch():
    for count, size in ((1, 1), (100, 100), (1000, 7), (50, 49)):
        seen = [np.concatenate([np.arange(*run) for run in group]) for group in minibatch._groups(count, size, 0, 3)]
        np.testing.assert_array_equal(np.bincount(np.concatenate(seen)), np.full(count, 3))


def test_predict_transform_score__of_numpy():
    lazy = da.from_array(X, (400, 20))
    ours = MiniBatchKMeans(6, random_state=0).fit(da.from_array(X, (1797, 64)))
    np.testing.assert_array_equal(ours.predict(lazy).compute(), ours.predict(X))
    np.testing.assert_allclose(ours.transform(lazy).compute(), ours.transform(X), rtol=1e-9)
    np.testing.assert_allclose(ours.score(lazy), ours.score(X), rtol=1e-12)
    both = MiniBatchKMeans(6, random_state=0)
    np.testing.assert_array_equal(both.fit_predict(lazy).compute(), ours.labels_.compute())
    np.testing.assert_allclose(both.fit_transform(lazy).compute(), ours.transform(X), rtol=1e-9)
    short = MiniBatchKMeans(6, random_state=0, compute_labels=False)
    np.testing.assert_array_equal(short.fit_predict(lazy).compute(), ours.labels_.compute())
    assert not hasattr(short, "labels_")


def test_partial_fit__goes_on_from_a_fit_of_blocks():
    ours = MiniBatchKMeans(6, random_state=0).fit(da.from_array(X, (400, 64)))
    before, steps = ours.cluster_centers_.copy(), ours.n_steps_
    ours = pickle.loads(pickle.dumps(ours)).partial_fit(X[:100])
    assert ours.n_steps_ == steps + 1
    assert 0 < np.abs(ours.cluster_centers_ - before).max() < 3
    with pytest.raises(TypeError, match="use fit"):
        ours.partial_fit(da.from_array(X, (400, 64)))


def test_fit__rows_in_memory_are_scikit_learns():
    weights = np.arange(len(X)) % 3 + 1.0
    for data, weight in ((scipy.sparse.csr_matrix(X), None), (X, None), (X, weights)):
        ours = MiniBatchKMeans(5, random_state=1).fit(data, sample_weight=weight)
        reference = Reference(5, random_state=1).fit(data, sample_weight=weight)
        np.testing.assert_array_equal(ours.cluster_centers_, reference.cluster_centers_)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_weights__inertia_of_scikit_learn(init):
    """Rows without weight are far off, and half of the others weigh ten times as much."""
    data = X.copy()
    weights = np.where(np.arange(len(X)) % 2, 10.0, 1.0)
    weights[::5] = 0
    data[::5] += 500
    ours, reference = [], []
    for seed in range(5):
        common = {"batch_size": 100, "random_state": seed, "init": init}
        model = MiniBatchKMeans(10, **common).fit(da.from_array(data, (500, 64)), sample_weight=weights)
        ours.append(model.inertia_)
        reference.append(Reference(10, **common).fit(data, sample_weight=weights).inertia_)
        theirs = Reference(10, init=model.cluster_centers_, n_init=1, max_iter=1).fit(data)
        theirs.cluster_centers_ = model.cluster_centers_
        assert model.inertia_ == pytest.approx(-theirs.score(data, sample_weight=weights))
        assert model.score(da.from_array(data, (300, 9)), sample_weight=weights) == pytest.approx(-model.inertia_)
    assert np.mean(ours) < 1.03 * np.mean(reference)


def test_weights__equal_ones_and_chunks_decide_nothing():
    options = {"n_clusters": 7, "batch_size": 100, "random_state": 3, "init": X[:7], "tol": 1e-3}
    plain = MiniBatchKMeans(**options).fit(da.from_array(X, (1797, 64)))
    for weight in (1.0, np.full(len(X), 4.0)):
        equal = MiniBatchKMeans(**options).fit(da.from_array(X, (300, 64)), sample_weight=weight)
        np.testing.assert_allclose(equal.cluster_centers_, plain.cluster_centers_, rtol=1e-9, atol=1e-9)
    random = np.random.default_rng(0)
    weights = random.random(len(X)) * random.integers(0, 3, len(X))
    options["init"] = "k-means++"
    whole = MiniBatchKMeans(**options).fit(da.from_array(X, (1797, 64)), sample_weight=weights)
    for rows in (500, 61):
        lazy = MiniBatchKMeans(**options)
        labels = lazy.fit_predict(da.from_array(X, (rows, 10)), sample_weight=da.from_array(weights, 200))
        np.testing.assert_allclose(lazy.cluster_centers_, whole.cluster_centers_, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(labels.compute(), whole.labels_.compute())
        assert lazy.n_steps_ == whole.n_steps_


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-np.ones(1797), "expected sample_weight of at least 0, received -1"),
        (np.ones(9), r"expected sample_weight of shape \(1797,\)"),
        (np.arange(1797) < 2, "at least n_clusters=3 rows whose sample_weight is above zero, received 2"),
    ],
)
def test_weights__refused(weights, message):
    with pytest.raises(ValueError, match=message):
        MiniBatchKMeans(3).fit(da.from_array(X, (400, 64)), sample_weight=weights)


def test_fit__equal_rows_and_more_clusters_than_a_batch():
    same = MiniBatchKMeans(3, random_state=0).fit(da.from_array(np.ones((40, 2)), (7, 2)))
    np.testing.assert_array_equal(same.cluster_centers_, np.ones((3, 2)))
    assert same.inertia_ == 0
    many = MiniBatchKMeans(50, batch_size=10, random_state=0).fit(da.from_array(X, (400, 64)))
    assert len(np.unique(many.labels_.compute())) > 40


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"n_clusters": 1798}, "n_samples=1797 should be >= n_clusters=1798"),
        ({"init": np.ones((3, 64))}, r"expected init of shape \(8, 64\)"),
        ({"init": lambda X, k, random_state: X[:2]}, r"init to return shape \(8, 64\)"),
        ({"batch_size": 0}, "'batch_size' parameter"),
    ],
)
def test_fit__refuses(choice, message):
    with pytest.raises(ValueError, match=message):
        MiniBatchKMeans(**choice).fit(da.from_array(X, (400, 64)))
