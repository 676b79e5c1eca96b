"""Naive Bayes against scikit-learn's, whose own work NumPy input is; so Dask arrays, in any chunks."""

from __future__ import annotations

import dask
import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import naive_bayes
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from tasks import methods

DATA = {
    "digits": load_digits(return_X_y=True),
    "wine": load_wine(return_X_y=True),
    "cancer": load_breast_cancer(return_X_y=True),
    "names": (load_wine().data, np.array(["a", "bb", "c"])[load_wine().target]),
    "float32": (load_digits().data.astype(np.float32), load_digits().target),
    "bytes": (load_digits().data.astype(np.uint8), load_digits().target),
    "one class": (load_wine().data[:30], np.zeros(30, int)),
}
FITTED = {
    "GaussianNB": ["classes_", "class_count_", "class_prior_", "theta_", "var_", "epsilon_"],
    "MultinomialNB": ["classes_", "class_count_", "class_log_prior_", "feature_count_", "feature_log_prob_"],
    "BernoulliNB": ["classes_", "class_count_", "class_log_prior_", "feature_count_", "feature_log_prob_"],
}
CASES = [
    ("GaussianNB", {}),
    ("GaussianNB", {"var_smoothing": 1e-2}),
    ("MultinomialNB", {}),
    ("MultinomialNB", {"alpha": 0.01, "fit_prior": False}),
    ("BernoulliNB", {}),
    ("BernoulliNB", {"binarize": 7.5, "alpha": 0.5}),
]
WORDS = ("predict_proba", "predict_log_proba", "predict_joint_log_proba")


def compare(name, options, X, y, chunks, weights=None, classes=None):
    """Fit both and compare everything."""
    reference = getattr(naive_bayes, name)(**options).fit(X.astype(np.float64), y, weights)
    lazy = da.from_array(X, (chunks, 2))
    ours = getattr(methods, name)(**options).fit(lazy, y, weights)
    for word in FITTED[name]:
        expected, found = getattr(reference, word), getattr(ours, word)
        if np.asarray(expected).dtype.kind == "f":
            scale = np.abs(X).astype(np.float64).max() ** 2 if word == "var_" else 0.0
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12 + 1e-14 * scale, err_msg=word)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=word)
    np.testing.assert_array_equal(ours.predict(lazy).compute(), reference.predict(X.astype(np.float64)))
    for word in WORDS:
        found = getattr(ours, word)(lazy)
        assert isinstance(found, da.Array)
        assert found.shape == found.compute().shape
        np.testing.assert_allclose(found, getattr(reference, word)(X.astype(np.float64)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("chunks", [2000, 17])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_fit__as_scikit_learn(name, options, data, chunks):
    compare(name, options, *DATA[data], chunks)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_fit__weighs_rows(name, options):
    X, y = DATA["wine"]
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    weights[:40] = 0  # whole blocks of a class
    compare(name, options, X, y, 20, weights)
    ours = getattr(methods, name)(**options).fit(da.from_array(X, (20, 13)), da.from_array(y), da.from_array(weights))
    again = getattr(methods, name)(**options).fit(
        np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int))
    )
    np.testing.assert_array_equal(ours.predict(X), again.predict(X))


@pytest.mark.parametrize(
    ("name", "key"), [("GaussianNB", "priors"), ("MultinomialNB", "class_prior"), ("BernoulliNB", "class_prior")]
)
def test_fit__takes_priors(name, key):
    compare(name, {key: [0.2, 0.3, 0.5]}, *DATA["wine"], 30)
    with pytest.raises(ValueError, match="Number of priors must match number of classes"):
        getattr(methods, name)(**{key: [0.5, 0.5]}).fit(da.from_array(DATA["wine"][0]), DATA["wine"][1])


def test_fit__takes_an_alpha_for_each_column():
    alpha = np.linspace(0.0, 2.0, 13)
    compare("MultinomialNB", {"alpha": alpha + 0.1}, *DATA["wine"], 30)
    with pytest.warns(UserWarning, match="alpha too small"):
        methods.MultinomialNB(alpha=alpha, force_alpha=False).fit(da.from_array(DATA["wine"][0]), DATA["wine"][1])


def test_fit__a_variance_far_from_zero_survives():
    """Means of 1e8 and deviations of 1: squares of the values would lose all of the variance."""
    random = np.random.default_rng(0)
    X = 1e8 + random.standard_normal((600, 3)) + np.arange(600)[:, None] % 2 * 3
    compare("GaussianNB", {}, X, np.arange(600) % 2, 50)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(FITTED)),
    rows=st.integers(1, 40),
    columns=st.integers(1, 4),
    classes=st.integers(1, 5),
    chunks=st.integers(1, 12),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_fit__any_small_data(name, rows, columns, classes, chunks, weighted, seed):
    """Duplicates, constant columns, classes of one row, classes that a block lacks."""
    random = np.random.default_rng(seed)
    X = random.integers(0, 3, (rows, columns)).astype(float)
    X[:, 0] = 1.0
    weights = random.integers(1, 4, rows).astype(float) if weighted else None
    options = {"var_smoothing": 1e-2} if name == "GaussianNB" else {}
    if np.ptp(X, axis=0).max() == 0 and name == "GaussianNB":
        return  # no variance anywhere: scikit-learn divides by zero
    reference = getattr(naive_bayes, name)(**options).fit(X, y := random.integers(0, classes, rows), weights)
    ours = getattr(methods, name)(**options).fit(da.from_array(X, (chunks, -1)), y, weights)
    found = ours.predict_joint_log_proba(da.from_array(X, (chunks, -1))).compute()
    np.testing.assert_allclose(found, reference.predict_joint_log_proba(X), rtol=1e-9, atol=1e-9)


def test_fit__refuses():
    X, y = da.from_array(DATA["wine"][0], (50, 13)), DATA["wine"][1]
    with pytest.raises(ValueError, match="Negative values in data passed to MultinomialNB"):
        methods.MultinomialNB().fit(-X, y)
    with pytest.raises(ValueError, match=r"expected sample_weight of shape \(178,\), received \(3,\)"):
        methods.GaussianNB().fit(X, y, [1, 2, 3])
    with pytest.raises(ValueError, match="sample_weight contains NaN"):
        methods.GaussianNB().fit(X, y, np.full(178, np.nan))
    with pytest.raises(ValueError, match="expected as many labels as rows, received 3"):
        methods.BernoulliNB().fit(X, [0, 1, 1])
    with pytest.raises(TypeError, match="use fit, which is one pass"):
        methods.GaussianNB().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="X has 5 features, but GaussianNB is expecting 13"):
        methods.GaussianNB().fit(X, y).predict(X[:, :5])


def test_partial_fit__goes_on_from_a_dask_fit():
    X, y = DATA["wine"]
    ours = methods.GaussianNB(var_smoothing=0.0).fit(da.from_array(X[:100], (30, 13)), y[:100] % 2)
    ours.partial_fit(X[100:], y[100:] % 2)
    reference = naive_bayes.GaussianNB(var_smoothing=0.0).fit(X, y % 2)
    np.testing.assert_allclose(ours.var_, reference.var_, rtol=1e-9)
    np.testing.assert_allclose(ours.theta_, reference.theta_, rtol=1e-12)


def sparse_blocks(X, chunks):
    meta = sparse.csr_matrix((0, 0), dtype=X.dtype)
    return da.from_array(X, (chunks, X.shape[1])).map_blocks(sparse.csr_matrix, dtype=X.dtype, meta=meta)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "GaussianNB"])
def test_fit__sparse_blocks_as_scikit_learn(name, options, dtype, weighted):
    X, y = load_digits(return_X_y=True)
    X = X.astype(dtype)
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float) if weighted else None
    reference = getattr(naive_bayes, name)(**options).fit(sparse.csr_matrix(X, dtype=float), y, weights)
    for chunks in (2000, 130, 1):
        if chunks == 1:
            X, y, weights = X[:40], y[:40], None if weights is None else weights[:40] + 1
            reference = getattr(naive_bayes, name)(**options).fit(X.astype(float), y, weights)
        lazy = sparse_blocks(X, chunks)
        ours = getattr(methods, name)(**options).fit(lazy, y, weights)
        for word in FITTED[name]:
            np.testing.assert_allclose(getattr(ours, word), getattr(reference, word), rtol=1e-12, err_msg=word)
        np.testing.assert_array_equal(ours.predict(lazy).compute(), reference.predict(X))
        for word in WORDS:
            expected = getattr(reference, word)(X)
            np.testing.assert_allclose(getattr(ours, word)(lazy).compute(), expected, rtol=1e-6, atol=1e-7)


def test_gaussian__refuses_sparse_blocks_as_scikit_learn_sparse_matrices():
    """With what to do; and doing it helps."""
    X, y = load_digits(return_X_y=True)
    with pytest.raises(TypeError, match="dense data is required"):
        naive_bayes.GaussianNB().fit(sparse.csr_matrix(X), y)
    with pytest.raises(TypeError, match="dense data is required"):
        methods.GaussianNB().fit(sparse.csr_matrix(X), y)
    few, fitted = sparse_blocks(X, 500), methods.GaussianNB(var_smoothing=1e-3).fit(X, y)
    message = (
        r"expected dense blocks for GaussianNB, received a SciPy-sparse one; use map_blocks\(lambda b: b.toarray\(\)\)"
    )
    with pytest.raises(TypeError, match=message):
        methods.GaussianNB().fit(few, y)
    for word in ("predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(TypeError, match=message):
            getattr(fitted, word)(few).compute()
    dense = few.map_blocks(lambda b: b.toarray(), meta=np.empty((0, 0)))
    np.testing.assert_array_equal(fitted.predict(dense), fitted.predict(X))


def test_fit__refuses_sparse_blocks_that_it_cannot_count():
    X, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match="Negative values in data passed to MultinomialNB"):
        methods.MultinomialNB().fit(sparse_blocks(-X, 500), y)
    with pytest.raises(TypeError, match="expected dense blocks for GaussianNB"):
        methods.GaussianNB().fit(sparse_blocks(X, 500), y)
    with pytest.raises(ValueError, match="contains NaN"):
        methods.MultinomialNB().fit(sparse_blocks(np.where(X == 3, np.nan, X), 500), y)


@pytest.mark.parametrize("name", ["GaussianNB", "MultinomialNB", "BernoulliNB"])
def test_fit__refuses_weights_that_are_all_zero(name):
    X, y = np.ones((6, 2)), np.array([0, 1] * 3)
    for data in (X, da.from_array(X, (4, 2))):
        with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
            getattr(methods, name)().fit(data, y, sample_weight=np.zeros(6))


def test_predict__refuses_what_says_that_it_is_sparse_before_it_is_computed():
    X, y = load_digits(return_X_y=True)
    lazy, fitted = sparse_blocks(X, 500), methods.GaussianNB().fit(X, y)

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        for word in ("predict", *WORDS):
            with pytest.raises(TypeError, match="expected dense blocks for GaussianNB"):
                getattr(fitted, word)(lazy)
