"""Gaussian mixtures against scikit-learn's, from the same start."""

from __future__ import annotations

import warnings

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Reference

from tasks import methods
from tasks.methods import blocks, em, mixture

DATA = {"digits": load_digits().data[:, 18:38], "wine": load_wine().data, "cancer": load_breast_cancer().data}
KINDS = ["full", "tied", "diag", "spherical"]
FITTED = ["weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bound_", "lower_bounds_"]


def both(X, chunks, **options):
    """Fit both; what they warn of is not the matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = Reference(**options).fit(np.asarray(X, np.float64))
        lazy = X if chunks is None else da.from_array(X, (chunks, 2))
        return methods.GaussianMixture(**options).fit(lazy), reference, lazy


def compare(ours, reference, X, lazy, rtol=1e-7):
    for word in FITTED:
        found, expected = np.asarray(getattr(ours, word)), np.asarray(getattr(reference, word))
        # Where variances begin at reg_covar, scikit-learn's come out of the difference of two squares.
        near = 1e-5 if word == "lower_bounds_" else rtol
        np.testing.assert_allclose(found, expected, rtol=near, atol=near * np.abs(expected).max(), err_msg=word)
    assert (ours.converged_, ours.n_iter_) == (reference.converged_, reference.n_iter_)
    for word in ("score_samples", "predict_proba"):
        np.testing.assert_allclose(getattr(ours, word)(lazy), getattr(reference, word)(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(ours.predict(lazy)), reference.predict(X))
    for word in ("score", "bic", "aic"):
        assert getattr(ours, word)(lazy) == pytest.approx(getattr(reference, word)(X), rel=1e-8)


@pytest.mark.parametrize("start", ["kmeans", "k-means++", "random_from_data"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", DATA)
def test_fit__as_scikit_learn(data, kind, start):
    X = DATA[data]
    options = {"covariance_type": kind, "init_params": start, "random_state": 3, "max_iter": 6, "reg_covar": 1e-3}
    ours, reference, lazy = both(X, 100, n_components=3, **options)
    compare(ours, reference, X, lazy)


@pytest.mark.parametrize("kind", KINDS)
def test_fit__from_a_given_start_to_the_end(kind):
    X = DATA["wine"] / DATA["wine"].std(axis=0)
    start = Reference(3, covariance_type=kind, random_state=1).fit(X[:100])
    given_ = {"weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_}
    ours, reference, lazy = both(X, 17, n_components=3, covariance_type=kind, tol=1e-8, max_iter=500, **given_)
    assert ours.converged_
    compare(ours, reference, X, lazy, rtol=1e-6)


@pytest.mark.parametrize("given_", ["weights_init", "means_init", "precisions_init"])
def test_fit__a_part_of_the_start_is_given(given_):
    X = DATA["wine"] / DATA["wine"].std(axis=0)
    start = Reference(3, random_state=1).fit(X[:100])
    value = getattr(start, given_.replace("init", ""))
    ours, reference, lazy = both(X, 60, n_components=3, random_state=0, max_iter=4, **{given_: value})
    compare(ours, reference, X, lazy)


@pytest.mark.parametrize("kind", KINDS)
def test_fit__chunks_change_nothing(kind):
    X = DATA["digits"].astype(np.float32)[:, :10]
    options = {"covariance_type": kind, "init_params": "random", "random_state": 0, "n_init": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = methods.GaussianMixture(4, **options, max_iter=12, tol=1e-6)
        whole = {word: getattr(model.fit(X), word) for word in FITTED}
        for chunks in ((100, 3), (1797, 10), ((1, 0, 1000, 796), 10)):
            model.fit(da.from_array(X, chunks))
            for word, value in whole.items():
                np.testing.assert_allclose(getattr(model, word), value, rtol=1e-7, atol=1e-9, err_msg=word)


def test_fit__a_small_cache_and_a_single_part_change_nothing(monkeypatch):
    lazy = da.from_array(DATA["wine"], (50, 13))
    model = methods.GaussianMixture(2, random_state=0)
    means = model.fit(lazy).means_
    monkeypatch.setattr(blocks, "CACHE_FRACTION", 0.0)
    monkeypatch.setattr(em, "PART_VALUES", 1)
    np.testing.assert_allclose(model.fit(lazy).means_, means, rtol=1e-9)


def test_fit__the_best_of_several_starts():
    X = DATA["digits"][:400]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        options = {"covariance_type": "diag", "init_params": "random_from_data", "max_iter": 10, "reg_covar": 0.1}
        random = np.random.RandomState(5)
        single = [methods.GaussianMixture(5, **options, random_state=random).fit(X).lower_bound_ for _ in range(4)]
        ours = methods.GaussianMixture(5, **options, n_init=4, random_state=np.random.RandomState(5)).fit(X)
    assert ours.lower_bound_ == pytest.approx(max(single), rel=1e-12)
    assert ours.lower_bounds_[-1] == ours.lower_bound_


def test_fit__goes_on_where_it_ended():
    lazy = da.from_array(DATA["wine"], (50, 13))
    model = methods.GaussianMixture(3, random_state=0, max_iter=2, tol=0, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model.fit(lazy)
    with pytest.warns(ConvergenceWarning):
        model.fit(lazy)
    with pytest.warns(ConvergenceWarning):
        whole = methods.GaussianMixture(3, random_state=0, max_iter=4, tol=0).fit(lazy)
    np.testing.assert_allclose(model.means_, whole.means_, rtol=1e-9)


def test_fit_predict__is_predict_of_the_fit():
    lazy = da.from_array(DATA["digits"], (500, 20))
    model = methods.GaussianMixture(4, random_state=0)
    labels = model.fit_predict(lazy)
    assert isinstance(labels, da.Array)
    np.testing.assert_array_equal(labels, model.predict(lazy))
    np.testing.assert_array_equal(labels, model.predict_proba(lazy).argmax(axis=1))


def test_fit__without_steps_gives_the_start():
    X = DATA["wine"]
    ours, reference, _ = both(X, 50, n_components=2, max_iter=0, random_state=0)
    np.testing.assert_allclose(ours.covariances_, reference.covariances_, rtol=1e-9)
    assert (ours.n_iter_, ours.lower_bound_, ours.lower_bounds_) == (0, -np.inf, [])


def test_fit__far_from_zero_full_covariances_keep_their_digits():
    X = np.random.default_rng(0).normal(size=(400, 3)) * [1e-2, 1, 10] + np.repeat(np.eye(2, 3) * 50, 200, axis=0)
    near, _, _ = both(X, 100, n_components=2, random_state=0, reg_covar=0.0)
    far, _, _ = both(X + 2**20, 100, n_components=2, random_state=0, reg_covar=0.0)
    np.testing.assert_allclose(far.covariances_, near.covariances_, rtol=1e-4, atol=1e-8)
    np.testing.assert_array_equal(far.predict(X + 2**20), near.predict(X))


def test_sample__draws_as_scikit_learn():
    ours, reference, _ = both(DATA["wine"], 60, n_components=2, random_state=0)
    found, expected = ours.sample(20), reference.sample(20)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


@settings(deadline=None, max_examples=40)
@given(data=st.data(), kind=st.sampled_from(KINDS), components=st.integers(1, 4))
def test_maximise__is_scikit_learns_step(data, kind, components):
    """One step on duplicates, constant columns and components without rows; sums about any reference."""
    seed, n, d = data.draw(st.integers(0, 10**6)), data.draw(st.integers(4, 30)), data.draw(st.integers(1, 4))
    random = np.random.default_rng(seed)
    X = random.integers(-2, 3, (n, d)).astype(float)
    X[:, 0] = data.draw(st.sampled_from([0.0, 3.0]))
    shares = random.random((n, components)) ** data.draw(st.integers(1, 8))
    shares[:, : data.draw(st.integers(0, components - 1))] = 0
    shares /= shares.sum(axis=1, keepdims=True)
    expected = mixture.mixture._gaussian_mixture._estimate_gaussian_parameters(X, shares, 0.5, kind)
    origin = X.mean(axis=0)
    reference = random.normal(size=(components, d)) if kind == "full" else np.zeros((components, d))
    total = em._Sums(components, d, kind)
    total.count(X - origin, shares, reference, em.Scratch())
    scatter = (X - origin).T @ (X - origin)
    found = em.maximise(total.found(), reference, origin, kind, 0.5, scatter)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_components": 200}, "Expected n_samples >= n_components but got n_components = 200"),
        ({"covariance_type": "round"}, "covariance_type"),
        ({"tol": -1}, "tol"),
        ({"init_params": "best"}, "init_params"),
        ({"means_init": np.ones((2, 13))}, "'means' should have the shape"),
        ({"n_components": 2, "weights_init": [0.5, 0.6]}, "normalized"),
        ({"n_components": 150, "reg_covar": 0.0}, "ill-defined empirical covariance"),
    ],
)
def test_fit__refuses(options, message):
    with pytest.raises(ValueError, match=message):
        methods.GaussianMixture(**options).fit(da.from_array(DATA["wine"], (60, 13)))


def test_fit__refuses_a_single_row():
    with pytest.raises(ValueError, match="expected at least 2 rows"):
        methods.GaussianMixture().fit(da.ones((1, 2)))


def test_fit__of_starts_that_end_in_the_same_place_the_first_wins():
    """Which of two equal likelihoods is greater by rounding depends on the blocks."""
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(150, 2)), random.normal(size=(150, 2)) + 30])
    options = {"n_components": 2, "n_init": 5, "init_params": "random_from_data", "tol": 1e-12, "max_iter": 500}
    first = methods.GaussianMixture(**options | {"n_init": 1}, random_state=3).fit(X)
    for chunks in (300, 70, 41, 13):
        ours = methods.GaussianMixture(**options, random_state=3).fit(da.from_array(X, (chunks, 2)))
        np.testing.assert_allclose(ours.means_, first.means_, rtol=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_fit__small_numbers_are_taken_alike_from_numpy_and_dask(dtype):
    X = (load_digits().data > 7).astype(dtype)[:, 2::5]
    here = methods.GaussianMixture(4, random_state=0, reg_covar=1e-2).fit(X)
    lazy = methods.GaussianMixture(4, random_state=0, reg_covar=1e-2).fit(da.from_array(X, (400, X.shape[1])))
    np.testing.assert_allclose(here.means_, lazy.means_, rtol=1e-9, atol=1e-12)
