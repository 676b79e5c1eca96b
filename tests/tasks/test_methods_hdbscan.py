"""HDBSCAN: the tree of mutual reachability is exact, and the labels are scikit-learn's but for ties."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from sklearn import cluster
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_blobs
from sklearn.metrics import adjusted_rand_score

from tasks.methods import HDBSCAN
from tasks.methods.blocks import open_blocks
from tasks.methods.hierarchy.density import _neighbors
from tasks.methods.hierarchy.spanning import spanning_tree

DATA = {
    "digits": load_digits().data,
    "wine": load_wine().data,
    "cancer": load_breast_cancer().data,
    "blobs": make_blobs(1500, 5, centers=9, random_state=0)[0],
}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("k", [1, 2, 7])
def test_spanning_tree__of_mutual_reachability(name, k):
    X = DATA[name] * 1e3  # far from the scale that the filter works in
    distances = squareform(pdist(X))
    cores = np.sort(distances, axis=1)[:, k - 1]
    reach = np.maximum(distances, np.maximum(cores[:, None], cores))
    expected = np.sort(minimum_spanning_tree(reach).data)
    for data in (X, da.from_array(X, (97, X.shape[1]))):
        with open_blocks(data, name="HDBSCAN") as rows:
            squares = _neighbors(rows, k).squares[:, -1]
            np.testing.assert_allclose(np.sqrt(squares), cores, rtol=1e-9, atol=1e-6)
            tree = spanning_tree(rows, squares)
        np.testing.assert_allclose(np.sort(np.sqrt(tree.squares)), expected, rtol=1e-9)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"min_cluster_size": 10, "min_samples": 3},
        {"min_samples": 1},
        {"allow_single_cluster": True, "cluster_selection_epsilon": 0.5},
        {"max_cluster_size": 100},
    ],
    ids=str,
)
def test_fit__labels_of_scikit_learn(name, choice):
    """Of all pairs as a sparse matrix the same. Its other roads differ by which of equal core distances merge first."""
    X = DATA[name]
    ours = HDBSCAN(**choice).fit(X)
    reference = cluster.HDBSCAN(**choice, copy=True, metric="precomputed").fit(every_pair(X))
    assert adjusted_rand_score(reference.labels_, ours.labels_) > 0.999
    other = cluster.HDBSCAN(**choice, copy=True).fit(X)
    assert adjusted_rand_score(other.labels_, ours.labels_) > 0.8
    np.testing.assert_allclose(
        np.sort(ours._model._single_linkage_tree_["value"]),
        np.sort(reference._single_linkage_tree_["value"]),
        rtol=1e-9,
    )
    lazy = HDBSCAN(**choice).fit(da.from_array(X, (150, 2)))
    np.testing.assert_array_equal(lazy.labels_.compute(), ours.labels_)
    np.testing.assert_array_equal(lazy.probabilities_.compute(), ours.probabilities_)


def every_pair(X):
    """Zeros of the diagonal included: a row is its own neighbour."""
    count = len(X)
    places = np.indices((count, count)).reshape(2, -1)
    return scipy.sparse.coo_matrix((squareform(pdist(X)).ravel(), places), (count, count)).tocsr()


def test_fit__well_parted_clusters_and_noise():
    X, y = make_blobs(600, 3, centers=6, cluster_std=0.2, random_state=1)
    X[::50] = np.random.default_rng(0).uniform(-60, 60, (12, 3))
    found = HDBSCAN(min_cluster_size=20).fit(X).labels_
    clean = np.setdiff1d(np.arange(600), np.arange(0, 600, 50))
    assert adjusted_rand_score(y[clean], found[clean]) == 1
    assert (found[::50] == -1).sum() > 8


def test_fit__duplicates():
    X = np.repeat(DATA["wine"], 6, axis=0)
    ours, reference = HDBSCAN().fit(X), cluster.HDBSCAN(copy=True).fit(X)
    assert adjusted_rand_score(reference.labels_, ours.labels_) == 1
    same = HDBSCAN().fit(da.ones((40, 2), chunks=(9, 2)))
    assert set(same.labels_.compute()) <= {-1, 0}


def test_dbscan_clustering__is_dbscan_of_core_samples():
    X = DATA["blobs"]
    found = HDBSCAN(min_samples=5).fit(X).dbscan_clustering(0.9)
    reference = cluster.DBSCAN(eps=0.9, min_samples=5).fit(X)
    core = reference.core_sample_indices_
    # Small clusters count as noise.
    kept = core[found[core] >= 0]
    assert adjusted_rand_score(reference.labels_[kept], found[kept]) == 1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"min_cluster_size": 1}, "expected min_cluster_size as an integer of at least 2"),
        ({"min_samples": 0}, "expected min_samples as an integer of at least 1"),
        ({"min_samples": 179}, "expected n_samples >= min_samples = 179, received n_samples = 178"),
        ({"cluster_selection_method": "best"}, "cluster_selection_method"),
    ],
)
def test_fit__refuses(choice, message):
    with pytest.raises(ValueError, match=message):
        HDBSCAN(**choice).fit(DATA["wine"])
