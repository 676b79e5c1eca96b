"""Agglomerative clustering: scikit-learn's and SciPy's trees, merge for merge."""

from __future__ import annotations

import tracemalloc

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist
from sklearn.cluster import AgglomerativeClustering as Reference
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import scale

from tasks.methods import blocks
from tasks.methods.hierarchy import spanning
from tasks.methods.hierarchy.agglomerative import AgglomerativeClustering
from tasks.methods.hierarchy.dendrogram import weighted_linkage

RANDOM = np.random.default_rng(0)
# Real rows, and noise that leaves no two distances equal.
DATA = {
    "digits": load_digits().data[:900] + RANDOM.normal(0, 0.01, (900, 64)),
    "iris": load_iris().data + RANDOM.normal(0, 1e-3, (150, 4)),
    "wine": scale(load_wine().data),
}
LINKAGES = ["ward", "average", "complete", "single"]


def assert_same_tree(ours, reference):
    np.testing.assert_allclose(ours.distances_, reference.distances_, rtol=1e-9)
    np.testing.assert_array_equal(ours.children_, reference.children_)
    np.testing.assert_array_equal(np.asarray(ours.labels_), reference.labels_)
    for word in ("n_clusters_", "n_leaves_", "n_connected_components_", "n_features_in_"):
        assert getattr(ours, word) == getattr(reference, word)


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("pieces", [None, 1, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", DATA)
def test_fit__trees_of_scikit_learn(name, dtype, pieces, linkage):
    X = DATA[name].astype(dtype)
    reference = Reference(6, linkage=linkage, compute_distances=True).fit(X)
    data = da.from_array(X, (-(-len(X) // pieces), 10)) if pieces else X
    ours = AgglomerativeClustering(6, linkage=linkage).fit(data)
    assert_same_tree(ours, reference)
    assert isinstance(ours.labels_, da.Array if pieces else np.ndarray)
    threshold = float(np.quantile(reference.distances_, 0.97))
    choice = {"n_clusters": None, "distance_threshold": threshold, "linkage": linkage}
    assert_same_tree(AgglomerativeClustering(**choice).fit(data), Reference(**choice).fit(X))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 70),
    columns=st.sampled_from([1, 2, 20]),
    values=st.integers(1, 12),
    rows=st.integers(9, 60),
    tile=st.integers(9, 60),
    strip=st.integers(3, 30),
)
def test_single_linkage__grids_of_duplicates(seed, count, columns, values, rows, tile, strip):
    """Integers: duplicates, and many equal distances. The tree of merges is one of several; distances are the same."""
    X = np.random.default_rng(seed).integers(0, values, (count, columns)).astype(float)
    expected = hierarchy.linkage(pdist(X), "single")
    whole = AgglomerativeClustering(1, linkage="single").fit(X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spanning, "TILE", tile)
        patch.setattr(spanning, "STRIP", strip)
        patch.setattr(blocks, "VIEW_BYTES", rows * columns * 8)
        ours = AgglomerativeClustering(1, linkage="single").fit(X)
    np.testing.assert_array_equal(ours.distances_, whole.distances_)
    np.testing.assert_array_equal(ours.children_, whole.children_, "tiles and blocks decide nothing")
    np.testing.assert_allclose(ours.distances_, expected[:, 2], rtol=1e-12)
    assert hierarchy.is_valid_linkage(ours.linkage_matrix())
    for height in np.unique(expected[:, 2])[:4]:
        found = hierarchy.fcluster(ours.linkage_matrix(), height, "distance")
        assert adjusted_rand_score(found, hierarchy.fcluster(expected, height, "distance")) == 1.0


@pytest.mark.parametrize("scale_", [1e-20, 1e20])
def test_single_linkage__far_from_the_origin_and_close_together(scale_):
    """Pairs that lie 1e-6 of the data's width apart: below what float32 products can tell."""
    random = np.random.default_rng(1)
    X = np.repeat(random.normal(100, 1, (150, 30)), 3, axis=0)
    X = (X + random.normal(0, 1e-6, X.shape)) * scale_
    expected = hierarchy.linkage(X, "single")
    ours = AgglomerativeClustering(4, linkage="single").fit(da.from_array(X, (100, 30)))
    np.testing.assert_allclose(ours.distances_, expected[:, 2], rtol=1e-9)
    np.testing.assert_array_equal(ours.linkage_matrix()[:, [0, 1, 3]], expected[:, [0, 1, 3]])


def test_single_linkage__any_chunks_give_scipys_matrix():
    X = DATA["digits"].astype(np.float32)
    expected = hierarchy.linkage(X.astype(float), "single")
    for chunks in (900, 37, (1, 500, 0, 399)):
        ours = AgglomerativeClustering(3, linkage="single").fit(da.from_array(X, (chunks, 64)))
        np.testing.assert_allclose(ours.linkage_matrix(), expected, rtol=1e-9)
        assert ours.labels_.chunks[0] == da.from_array(X, (chunks, 64)).chunks[0]


@pytest.mark.parametrize("kind", ["noise", "one value"])
@pytest.mark.parametrize("columns", [12, 300])
def test_forest_of_blocks__memory_as_the_docstring_says(columns, kind):
    """No copy of a block: what a task needs beside its rows hardly depends on how many they are."""
    count, tile, width = 4000, spanning.TILE, 8 if columns <= 16 else 4
    X = np.random.default_rng(2).normal(0, kind == "noise", (2 * count, columns)).astype(np.float32)
    a, b, center = X[:count], X[count:], X.mean(axis=0, dtype=np.float64)
    spanning._forest_of_blocks(a[:9], b[:9], 0, count, None, None, center, tile)  # compiled
    edges = 2 * count + spanning.WAITING + (2 if kind == "noise" else spanning.STRIP) * tile
    said = 2 * tile * (columns + 1) * width + 2 * tile**2 * width + 4 * 2**20 + 120 * edges
    for other, start in ((a, 0), (b, count)):
        tracemalloc.start()
        try:
            spanning._forest_of_blocks(a, other, 0, start, None, None, center, tile)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert 0.5 * said < peak < said


@pytest.mark.parametrize("linkage", LINKAGES)
def test_linkage_matrix__draws(linkage):
    ours = AgglomerativeClustering(3, linkage=linkage).fit(DATA["iris"])
    np.testing.assert_allclose(ours.linkage_matrix(), hierarchy.linkage(DATA["iris"], linkage), rtol=1e-9)
    drawn = hierarchy.dendrogram(ours.linkage_matrix(), no_plot=True)
    assert sorted(drawn["leaves"]) == list(range(150))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(2, 12),
    linkage=st.sampled_from(["ward", "average", "complete"]),
)
def test_weighted_linkage__is_that_of_the_rows_that_points_stand_for(seed, groups, linkage):
    random = np.random.default_rng(seed)
    points, sizes = random.normal(0, 1, (groups, 3)), random.integers(1, 6, groups)
    expected = hierarchy.linkage(np.repeat(points, sizes, axis=0), linkage)[sizes.sum() - groups :, 2]
    merges = weighted_linkage(points, sizes, linkage)
    np.testing.assert_allclose(merges.distances, expected, rtol=1e-9)


@pytest.mark.parametrize("linkage", ["ward", "average", "complete"])
def test_fit__more_rows_than_exact(linkage):
    X, y = make_blobs(1500, 8, centers=6, random_state=0)
    choice = {"linkage": linkage, "exact_rows": 1000, "n_micro_clusters": 200, "random_state": 0}
    ours = AgglomerativeClustering(6, **choice).fit(X)
    assert adjusted_rand_score(y, ours.labels_) == 1.0
    assert ours.n_leaves_ == len(ours.leaf_sizes_) == len(ours.children_) + 1 <= 200
    assert ours.leaf_sizes_.sum() == 1500
    assert hierarchy.is_valid_linkage(ours.linkage_matrix())
    np.testing.assert_array_equal(np.bincount(ours.leaves_), ours.leaf_sizes_)
    lazy = AgglomerativeClustering(6, **choice).fit(da.from_array(X, (400, 4)))
    np.testing.assert_array_equal(lazy.labels_.compute(), ours.labels_)
    exact = AgglomerativeClustering(6, linkage=linkage, exact_rows=None).fit(X)
    np.testing.assert_array_equal(exact.labels_, Reference(6, linkage=linkage).fit(X).labels_)


def test_fit__duplicates_leave_fewer_micro_clusters():
    X = np.repeat(np.arange(5.0)[:, None] ** 2, 20, axis=0)
    ours = AgglomerativeClustering(2, exact_rows=10, n_micro_clusters=30, random_state=0).fit(da.from_array(X, (30, 1)))
    assert 2 <= ours.n_leaves_ <= 5
    np.testing.assert_array_equal(ours.labels_.compute() == ours.labels_[-1].compute(), X[:, 0] > 8)


def test_fit__scikit_learns_own_for_other_metrics_and_connectivity():
    X = DATA["iris"]
    for choice in ({"metric": "manhattan", "linkage": "average"}, {"connectivity": np.ones((150, 150))}):
        ours, reference = AgglomerativeClustering(3, **choice).fit(X), Reference(3, **choice).fit(X)
        np.testing.assert_array_equal(ours.labels_, reference.labels_)
        with pytest.raises(ValueError, match="compute_distances=True"):
            ours.linkage_matrix()
        with pytest.raises(ValueError, match="no connectivity for a Dask array"):
            AgglomerativeClustering(3, **choice).fit(da.from_array(X, (50, 4)))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"n_clusters": None}, "Exactly one of n_clusters and distance_threshold"),
        ({"n_clusters": 3, "distance_threshold": 1.0}, "Exactly one of n_clusters and distance_threshold"),
        ({"n_clusters": 151}, "Cannot extract more clusters than samples"),
        ({"n_clusters": 40, "exact_rows": 100, "n_micro_clusters": 30}, "at most n_micro_clusters=30"),
        ({"exact_rows": 0}, "expected exact_rows as an integer of at least 1"),
        ({"n_micro_clusters": 1}, "expected n_micro_clusters as an integer of at least 2"),
        ({"linkage": "median"}, "'linkage' parameter"),
        ({"n_clusters": 0}, "'n_clusters' parameter"),
    ],
)
def test_fit__refuses(choice, message):
    with pytest.raises(ValueError, match=message):
        AgglomerativeClustering(**choice).fit(da.from_array(DATA["iris"], (50, 4)))


def test_fit__two_rows_equal_rows():
    for linkage in LINKAGES:
        ours = AgglomerativeClustering(2, linkage=linkage).fit(da.from_array(np.array([[0.0], [1.0]]), (1, 1)))
        assert sorted(ours.labels_.compute()) == [0, 1]
        same = AgglomerativeClustering(1, linkage=linkage).fit(np.zeros((50, 3)))
        assert (same.distances_ == 0).all()
        assert (same.labels_ == 0).all()
