"""DBSCAN: the labels of scikit-learn, number for number."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN as Reference
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import scale

from tasks import methods
from tasks.methods import blocks, density
from tasks.methods.density import knee

DATA = {
    "digits": load_digits().data,
    "iris": load_iris().data,
    "wine": scale(load_wine().data),
}


def assert_same(ours, reference):
    np.testing.assert_array_equal(np.asarray(ours.labels_), reference.labels_)
    np.testing.assert_array_equal(ours.core_sample_indices_, reference.core_sample_indices_)
    np.testing.assert_array_equal(np.asarray(ours.components_), reference.components_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pieces", [None, 1, 7])
@pytest.mark.parametrize(
    ("name", "eps", "min_samples"),
    [("digits", 20.0, 5), ("digits", 24.0, 3), ("iris", 0.5, 5), ("iris", 0.3, 10), ("wine", 2.2, 4)],
)
def test_fit__labels_of_scikit_learn(name, eps, min_samples, pieces, dtype):
    X = DATA[name].astype(dtype)
    reference = Reference(eps=eps, min_samples=min_samples).fit(X)
    assert reference.labels_.max() > 0, "the case shows little with one cluster"
    data = da.from_array(X, (-(-len(X) // pieces), 10)) if pieces else X
    ours = methods.DBSCAN(eps, min_samples=min_samples).fit(data)
    assert_same(ours, reference)
    assert isinstance(ours.labels_, da.Array if pieces else np.ndarray)
    assert ours.eps_ == eps


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    values=st.integers(2, 12),
    eps=st.sampled_from([0.5, 1.0, 1.5, 2.0]),
    min_samples=st.integers(1, 8),
    cut=st.integers(7, 60),
    tile=st.integers(5, 60),
)
def test_fit__grids_where_border_samples_lie_between_clusters(seed, values, eps, min_samples, cut, tile):
    """Integers: duplicates, distances exactly at eps, border samples with several clusters beside them."""
    X = np.random.default_rng(seed).integers(0, values, (60, 2)).astype(float)
    reference = Reference(eps=eps, min_samples=min_samples).fit(X)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density, "TILE", tile)
        patch.setattr(blocks, "VIEW_BYTES", cut * 16)  # rows of a block
        assert_same(methods.DBSCAN(eps, min_samples=min_samples).fit(X), reference)


def test_fit__a_border_sample_goes_to_the_lowest_cluster():
    left, right = np.array([[-1.0], [-1.1], [-1.2], [-1.3]]), np.array([[1.0], [1.1], [1.2], [1.3]])
    for first, second in ((left, right), (right, left)):
        X = np.concatenate([[[0.0]], first, second])
        ours = methods.DBSCAN(1.0, min_samples=4).fit(da.from_array(X, (2, 1)))
        np.testing.assert_array_equal(ours.labels_.compute(), [0] + [0] * 4 + [1] * 4)


def test_fit__all_noise_one_cluster_one_row():
    X = DATA["iris"]
    assert (methods.DBSCAN(1e-9, min_samples=5).fit(X).labels_ == -1).all()
    assert (methods.DBSCAN(100.0).fit(da.from_array(X, (40, 4))).labels_.compute() == 0).all()
    np.testing.assert_array_equal(methods.DBSCAN(1.0, min_samples=1).fit(X[:1]).labels_, [0])


@pytest.mark.parametrize("chunks", [None, 400])
def test_fit__auto_takes_the_knee_of_the_k_distances(chunks):
    X = DATA["digits"]
    ours = methods.DBSCAN("auto", min_samples=5).fit(da.from_array(X, (chunks, 64)) if chunks else X)
    expected = np.sort(NearestNeighbors(n_neighbors=5).fit(X).kneighbors(X)[0][:, -1])
    np.testing.assert_allclose(ours.k_distances_, expected, rtol=1e-9)
    assert ours.eps_ == knee(ours.k_distances_)
    assert_same(ours, Reference(eps=ours.eps_).fit(X))
    assert 0 < (np.asarray(ours.labels_) == -1).mean() < 0.1


def test_fit__auto_on_a_sample_of_many(monkeypatch):
    monkeypatch.setattr(density, "CURVE_ROWS", 100)
    X = DATA["digits"]
    ours = methods.DBSCAN("auto").fit(X)
    assert len(ours.k_distances_) == 100
    assert ours.eps_ == pytest.approx(methods.DBSCAN("auto").fit(X[:1797]).eps_, rel=0.2)


def test_knee__where_the_curve_turns():
    assert knee(np.array([1.0, 1.1, 1.2, 1.3, 5.0, 9.0])) == 1.3
    assert knee(np.array([2.0, 2.0, 2.0])) == 2.0
    assert knee(np.array([0.0, 0.0, 0.0, 3.0])) == 3.0
    assert knee(np.zeros(4)) > 0


def test_forest__connects_the_same_with_fewer_edges():
    random = np.random.default_rng(0)
    edges = random.integers(0, 200, (2, 150)) * 10**12  # ids are not small numbers
    forest = density._forest(edges)
    vertices = np.unique(edges)
    code = {vertex: i for i, vertex in enumerate(vertices.tolist())}

    def groups(some):
        codes = np.array([[code[v] for v in row] for row in some.tolist()])
        return density._components(codes, len(vertices))

    pairs = np.unique(np.stack([groups(edges), groups(forest)]), axis=1)
    components = len(np.unique(pairs[0]))
    assert pairs.shape[1] == components == len(np.unique(pairs[1]))
    assert forest.shape[1] == len(vertices) - components


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0}, "expected eps as a number above 0 or 'auto', received 0"),
        ({"eps": "knee"}, "received 'knee'"),
        ({"min_samples": 0}, "expected min_samples as an integer of at least 1"),
        ({"eps": "auto", "min_samples": 151}, "expected n_samples >= min_samples=151"),
    ],
)
def test_fit__refuses_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        methods.DBSCAN(**options).fit(DATA["iris"])
