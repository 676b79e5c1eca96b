"""Multidimensional scaling against principal components and scikit-learn's SMACOF."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import decomposition, manifold
from sklearn.datasets import load_digits
from sklearn.metrics import pairwise_distances

from tasks.methods.manifold.landmarks import classical_scaling
from tasks.methods.manifold.scaling import MDS

X = load_digits().data[:300]


def same_up_to_signs(found, expected, atol):
    signs = np.sign(np.sum(np.asarray(found) * expected, axis=0))
    np.testing.assert_allclose(np.asarray(found) * signs, expected, atol=atol)


@pytest.mark.parametrize("chunks", [None, 170])
def test_mds__of_all_rows_is_classical_scaling(chunks):
    ours = MDS(3).fit(da.from_array(X, (chunks, 30)) if chunks else X)
    same_up_to_signs(ours.embedding_, decomposition.PCA(3, svd_solver="full").fit_transform(X), 1e-9)
    off = pairwise_distances(X) - pairwise_distances(np.asarray(ours.embedding_))
    np.testing.assert_allclose(ours.stress_, (off**2).sum() / 2, rtol=1e-9)


def test_mds__landmarks_that_span_the_data_keep_all_distances():
    random = np.random.default_rng(0)
    flat = random.normal(size=(500, 4)) @ random.normal(size=(4, 20)) + 100
    ours = MDS(4, n_landmarks=12, random_state=0).fit(da.from_array(flat, (90, 20)))
    same_up_to_signs(ours.embedding_, decomposition.PCA(4, svd_solver="full").fit_transform(flat), 1e-9)
    assert ours.normalized_stress_ < 1e-9


def test_mds__smacof_of_all_rows_is_scikit_learns():
    few = X[:150]
    distances = pairwise_distances(few)
    start = classical_scaling(distances, 2).coordinates
    places, stress = manifold.smacof(distances, init=start, n_init=1, normalized_stress=False)
    ours = MDS(method="smacof").fit(da.from_array(few, (70, 64)))
    np.testing.assert_allclose(ours.embedding_, places, atol=1e-6)
    np.testing.assert_allclose(ours.stress_, stress, rtol=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "cityblock"])
@pytest.mark.parametrize("selection", ["random", "maxmin"])
@pytest.mark.parametrize("method", ["landmark", "smacof"])
def test_mds__chunks_change_nothing_and_transform_repeats_the_fit(method, selection, metric):
    options = {"method": method, "selection": selection, "metric": metric, "n_landmarks": 60, "random_state": 0}
    here, lazy = MDS(**options).fit(X), da.from_array(X, (77, 64))
    there = MDS(**options).fit(lazy)
    np.testing.assert_allclose(there.embedding_, here.embedding_, atol=1e-7)
    np.testing.assert_allclose(there.transform(lazy), here.embedding_, atol=1e-7)
    true, found = pairwise_distances(X, metric=metric), pairwise_distances(here.embedding_)
    whole = np.sqrt(((true - found) ** 2).sum() / (true**2).sum())
    assert abs(here.normalized_stress_ - whole) < 0.06  # an estimate of the stress over all pairs
    if method == "smacof":
        np.testing.assert_allclose(here.embedding_[here.landmark_rows_], here.landmark_embedding_, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 25), columns=st.integers(1, 4), marks=st.integers(2, 10), seed=st.integers(0, 999))
def test_mds__any_small_data(rows, columns, marks, seed):
    """Duplicates, constant columns, one value only: finite, and equal rows in equal places."""
    small = np.random.default_rng(seed).integers(0, 3, (rows, columns)).astype(float)
    for method in ("landmark", "smacof"):
        ours = MDS(2, method=method, n_landmarks=marks, random_state=seed).fit(small)
        assert np.isfinite(ours.embedding_).all()
        _, first, which = np.unique(small, axis=0, return_index=True, return_inverse=True)
        np.testing.assert_allclose(ours.embedding_, ours.embedding_[first[which.ravel()]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nonmetric"}, "expected method one of landmark, smacof; received 'nonmetric'"),
        ({"metric": "precomputed"}, "expected metric one of euclidean"),
        ({"n_components": 5, "n_landmarks": 4}, "expected n_components of at most the number of landmarks, 4"),
        ({"n_landmarks": 0}, "expected n_landmarks as an integer of at least 1"),
        ({"eps": -1}, "expected eps of at least 0"),
    ],
)
def test_mds__refuses_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        MDS(**options).fit(X)
