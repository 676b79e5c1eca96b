"""Views of data in two dimensions, and spectral clusters, against scikit-learn's."""

from __future__ import annotations

import sys
import types

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pandas
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from sklearn import cluster, decomposition, manifold, metrics
from sklearn.datasets import load_digits, make_moons, make_swiss_roll
from sklearn.exceptions import DataConversionWarning
from sklearn.manifold._locally_linear import barycenter_kneighbors_graph

from tasks.methods.manifold.barycenters import barycenter_weights, nearest_others
from tasks.methods.manifold.locally_linear import LocallyLinearEmbedding
from tasks.methods.manifold.views import EmbeddingView, embed_view
from tasks.methods.spectral import SpectralClustering

# scikit-learn breaks ties at the last neighbour in no stated order, and integers tie.
DIGITS = load_digits().data[:1000] + np.random.default_rng(0).uniform(0, 0.01, (1000, 64))
ROLL = make_swiss_roll(1000, random_state=0)[0]
WIDE, TARGETS = (part[:500] for part in load_digits(return_X_y=True))
MOONS, HALVES = make_moons(1000, noise=0.05, random_state=0)


def same_up_to_signs(found, expected, atol):
    signs = np.sign(np.sum(np.asarray(found) * expected, axis=0))
    np.testing.assert_allclose(np.asarray(found) * signs, expected, atol=atol)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (DIGITS, {"n_neighbors": 15, "n_components": 3}),
        (ROLL, {"n_neighbors": 10}),
        (ROLL[:150], {"n_neighbors": 8}),  # dense
        (DIGITS[:250], {"eigen_solver": "dense", "n_neighbors": 15, "n_components": 9}),
    ],
    ids=["digits", "roll", "small", "dense"],
)
def test_locally_linear__of_all_rows_is_scikit_learns(data, options):
    options = {"tol": 1e-12, "random_state": 0} | options
    reference = manifold.LocallyLinearEmbedding(**options).fit(data[:-20])
    ours = LocallyLinearEmbedding(**options).fit(data[:-20])
    same_up_to_signs(ours.embedding_, reference.embedding_, 1e-6)
    np.testing.assert_allclose(ours.reconstruction_error_, reference.reconstruction_error_, rtol=1e-4, atol=1e-12)
    same_up_to_signs(ours.transform(data[-20:]), reference.transform(data[-20:]), 1e-6)
    np.testing.assert_array_equal(ours.transform(data[:-20]), ours.embedding_)


@pytest.mark.parametrize("sample", [300, 5000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_locally_linear__chunks_change_nothing(sample, dtype):
    data = ROLL[:700].astype(dtype)
    options = {"n_neighbors": 8, "sample": sample, "random_state": 1}
    here = LocallyLinearEmbedding(**options)
    expected = here.fit_transform(data)
    for chunks in (700, 130):
        lazy = da.from_array(data, (chunks, 2))
        there = LocallyLinearEmbedding(**options)
        found = there.fit_transform(lazy)
        assert found.chunks[0] == lazy.chunks[0]
        np.testing.assert_allclose(found, expected, atol=1e-9)
        np.testing.assert_allclose(there.transform(lazy), expected, atol=1e-9)
    np.testing.assert_array_equal(expected[here.sample_rows_], here.transform(data[here.sample_rows_]))


def test_locally_linear__a_sample_unrolls_all_rows():
    data, along = make_swiss_roll(3000, random_state=0)
    ours = LocallyLinearEmbedding(n_neighbors=10, sample=1000, random_state=0).fit(data)
    first, second = ours.embedding_.T
    terms = np.column_stack([np.ones(len(data)), first, second, first**2, first * second, second**2])
    missed = along - terms @ np.linalg.lstsq(terms, along, rcond=None)[0]
    assert missed.std() < 0.15 * along.std()


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(3, 25), columns=st.integers(1, 4), k=st.integers(1, 8), seed=st.integers(0, 999))
def test_locally_linear__any_small_data(rows, columns, k, seed):
    """Duplicates, constant columns: neighbours without the row itself, weights of sum 1, finite places."""
    k = min(k, rows - 1)
    small = np.random.default_rng(seed).integers(0, 2, (rows, columns)).astype(float)
    neighbors = nearest_others(small, k)
    assert all(i not in row and len(set(row)) == k for i, row in enumerate(neighbors))
    np.testing.assert_allclose(barycenter_weights(small, small, neighbors, 1e-3).sum(axis=1), 1)
    ours = LocallyLinearEmbedding(n_neighbors=k, n_components=1, sample=20, random_state=seed)
    if k < min(rows, 20):
        assert np.isfinite(ours.fit_transform(small)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "hessian"}, "expected method one of standard; received 'hessian'"),
        ({"eigen_solver": "lobpcg"}, "expected eigen_solver one of auto, arpack, dense"),
        ({"n_components": 4}, "expected n_components of at most n_features = 3, received 4"),
        ({"n_neighbors": 50, "sample": 50}, "expected n_neighbors below the rows that are embedded, n_samples = 50"),
        ({"sample": 0}, "expected sample as an integer of at least 1"),
        ({"reg": -1}, "expected reg as a number of at least 0"),
        ({"reg": 0, "n_neighbors": 6}, "raise reg"),
    ],
)
def test_locally_linear__refuses_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        LocallyLinearEmbedding(**options).fit(np.repeat(ROLL[:20], 10, axis=0))


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_embed_view__chunks_change_nothing(method):
    here = embed_view(WIDE, TARGETS, rows=100, method=method)
    there = embed_view(da.from_array(WIDE, (77, 30)), da.from_array(TARGETS, 60), rows=100, method=method)
    assert here.coordinates.shape == (100, 2) and here.coordinates.dtype == np.float64
    np.testing.assert_array_equal(np.unique(here.rows), here.rows)
    np.testing.assert_array_equal(here.labels, TARGETS[here.rows])
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)


def test_embed_view__shows_the_digits_apart():
    view = embed_view(WIDE, TARGETS, rows=300)
    near = nearest_others(view.coordinates, 1)[:, 0]
    assert np.mean(view.labels[near] == view.labels) > 0.85
    flat = embed_view(WIDE, method="pca")
    assert flat.labels is None and len(flat.rows) == len(WIDE)
    same_up_to_signs(flat.coordinates, decomposition.PCA(2, svd_solver="full").fit_transform(WIDE), 1e-8)


@pytest.mark.parametrize("shape", [(2, 1), (3, 60)])
@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("fill", ["random", "constant"])
def test_embed_view__few_rows(shape, method, fill):
    data = np.random.default_rng(0).normal(size=shape) if fill == "random" else np.ones(shape)
    view = embed_view(data, method=method)
    assert view.coordinates.shape == (shape[0], 2)
    assert np.isfinite(view.coordinates).all()


def test_embed_view__umap_is_the_librarys(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="run `pip install umap-learn`, or use method 'tsne'"):
        embed_view(WIDE, method="umap")

    class Fake:
        def __init__(self, **options):
            assert options["n_neighbors"] == 15

        def fit_transform(self, sample):
            assert sample.shape == (100, 50)
            return sample[:, :2].astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Fake))
    assert embed_view(WIDE, rows=100, method="umap").coordinates.shape == (100, 2)


def test_embed_view__refuses():
    with pytest.raises(ValueError, match="expected method one of tsne, umap, pca; received 'lle'"):
        embed_view(WIDE, method="lle")
    with pytest.raises(ValueError, match="expected labels of shape"):
        embed_view(WIDE, TARGETS[1:], method="pca")
    with pytest.raises(ValueError, match="expected rows as an integer of at least 2"):
        embed_view(WIDE, rows=1)


@pytest.mark.parametrize("affinity", ["rbf", "nearest_neighbors"])
def test_spectral__up_to_the_sample_is_scikit_learns(affinity):
    data = MOONS[:300]
    options = {"n_clusters": 2, "affinity": affinity, "n_neighbors": 60, "gamma": 30.0, "random_state": 0}
    expected = cluster.SpectralClustering(**options).fit_predict(data)
    np.testing.assert_array_equal(SpectralClustering(**options).fit(data).labels_, expected)
    lazy = SpectralClustering(sample=300, **options).fit(da.from_array(data, (90, 1)))
    assert lazy.labels_.chunks == ((90, 90, 90, 30),)
    np.testing.assert_array_equal(lazy.labels_, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_spectral__a_sample_labels_all_rows(dtype):
    data = MOONS.astype(dtype)
    here = SpectralClustering(2, gamma=30.0, sample=300, random_state=0).fit(data)
    assert metrics.adjusted_rand_score(HALVES, here.labels_) > 0.99
    theirs = cluster.SpectralClustering(2, gamma=30.0, random_state=0).fit_predict(data[here.sample_rows_])
    assert metrics.adjusted_rand_score(theirs, here.labels_[here.sample_rows_]) == 1
    there = SpectralClustering(2, gamma=30.0, sample=300, random_state=0).fit(da.from_array(data, (170, 2)))
    np.testing.assert_array_equal(there.labels_, here.labels_)
    assert there.labels_.dtype == here.labels_.dtype


def test_spectral__affinities_and_sparse_rows_are_scikit_learns_and_not_sampled():
    data = MOONS[:200]
    near = metrics.pairwise.rbf_kernel(data, gamma=30.0)
    expected = cluster.SpectralClustering(2, affinity="precomputed", random_state=0).fit_predict(near)
    ours = SpectralClustering(2, affinity="precomputed", random_state=0, sample=50)
    np.testing.assert_array_equal(ours.fit_predict(near), expected)
    rows = SpectralClustering(2, gamma=30.0, random_state=0, sample=50).fit(scipy.sparse.csr_matrix(data))
    np.testing.assert_array_equal(rows.labels_, expected)
    with pytest.raises(ValueError, match="expected a NumPy array or sparse matrix with affinity='precomputed'"):
        ours.fit(da.from_array(near))
    with pytest.raises(ValueError, match="expected sample as an integer of at least 1"):
        SpectralClustering(sample=0).fit(data)


def test_spectral__column_names_survive_the_sample():
    frame = pandas.DataFrame(MOONS, columns=["a", "b"])
    ours = SpectralClustering(2, gamma=30.0, sample=100, random_state=0).fit(frame)
    assert list(ours.feature_names_in_) == ["a", "b"]


@pytest.mark.parametrize("chunks", [None, 60])
def test_view__labels_in_a_column_are_taken_with_scikit_learns_warning(chunks):
    column = TARGETS[:, None] if chunks is None else da.from_array(TARGETS[:, None], (chunks, 1))
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        ours = EmbeddingView("pca", rows=100, random_state=0).fit(WIDE, column)
    assert ours.labels_.shape == (100,)
    np.testing.assert_array_equal(ours.labels_, TARGETS[ours.rows_])
    with pytest.raises(ValueError, match=r"expected labels of shape \(500,\), received \(500, 2\)"):
        EmbeddingView("pca").fit(WIDE, np.zeros((500, 2)))


@pytest.mark.parametrize("chunks", [1000, 130])
@pytest.mark.parametrize("data", ["digits", "roll"])
def test_locally_linear__minimizes_what_scikit_learn_minimizes(data, chunks):
    """Of jittered rows, whose neighbours do not tie: the same error, the same plane, whatever the signs or the turn."""
    X, options = {"digits": (DIGITS, {"n_neighbors": 15}), "roll": (ROLL, {"n_neighbors": 10})}[data]
    X = X + np.random.default_rng(3).normal(size=X.shape) * 1e-3
    options = {"tol": 1e-12, "random_state": 0, "n_components": 3 if data == "digits" else 2, **options}
    theirs = manifold.LocallyLinearEmbedding(**options).fit(X)
    ours = LocallyLinearEmbedding(**options).fit(da.from_array(X, (chunks, 2)))
    found = np.asarray(ours.embedding_)
    # The cost from its definition: how far each row is from what its neighbours say.
    weights = barycenter_kneighbors_graph(X, options["n_neighbors"], reg=1e-3)
    error = float(((found - weights @ found) ** 2).sum())
    assert error == pytest.approx(ours.reconstruction_error_, rel=1e-6, abs=0)
    assert error == pytest.approx(theirs.reconstruction_error_, rel=1e-5, abs=0)
    np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-5)
    assert subspace_angles(found, theirs.embedding_).max() < 1e-6
