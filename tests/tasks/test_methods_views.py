"""Views of data in two dimensions, and spectral clusters, against scikit-learn's."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import manifold
from sklearn.datasets import load_digits, make_swiss_roll

from tasks.methods.manifold.barycenters import barycenter_weights, nearest_others
from tasks.methods.manifold.locally_linear import LocallyLinearEmbedding

# scikit-learn breaks ties at the last neighbour in no stated order, and integers tie.
DIGITS = load_digits().data[:1000] + np.random.default_rng(0).uniform(0, 0.01, (1000, 64))
ROLL = make_swiss_roll(1000, random_state=0)[0]


def same_up_to_signs(found, expected, atol):
    signs = np.sign(np.sum(np.asarray(found) * expected, axis=0))
    np.testing.assert_allclose(np.asarray(found) * signs, expected, atol=atol)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (DIGITS, {"n_neighbors": 15, "n_components": 3}),
        (ROLL, {"n_neighbors": 10}),
        (ROLL[:150], {"n_neighbors": 8}),  # dense
        (DIGITS[:400], {"eigen_solver": "dense", "n_neighbors": 15, "n_components": 9}),
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
