"""Approximate kernel maps against scikit-learn's of the same seed, in any chunks, and as a road to a kernel machine."""

from __future__ import annotations

import warnings

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import kernel_approximation, svm
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline

from tasks import methods

DIGITS, LABELS = load_digits(return_X_y=True)
DATA = {"digits": DIGITS, "wine": load_wine().data, "cancer": load_breast_cancer().data}
DATA = {name: X / X.std(axis=0).clip(1e-3) for name, X in DATA.items()}
KERNELS = [
    {},
    {"kernel": "poly", "degree": 2, "coef0": 1.0, "gamma": 0.01},
    {"kernel": "laplacian", "gamma": 0.01},
    {"kernel": "sigmoid", "gamma": 1e-3},
    {"kernel": "linear"},
]


@pytest.mark.parametrize("options", KERNELS, ids=str)
@pytest.mark.parametrize("data", DATA)
def test_nystroem__as_scikit_learn(data, options):
    X = DATA[data]
    expected = kernel_approximation.Nystroem(n_components=60, random_state=3, **options).fit(X)
    ours = methods.Nystroem(n_components=60, random_state=3, **options).fit(da.from_array(X, (100, 5)))
    np.testing.assert_array_equal(ours.component_indices_, expected.component_indices_)
    np.testing.assert_array_equal(ours.components_, expected.components_)
    mapped, as_before = ours.transform(da.from_array(X, (77, 9))).compute(), expected.transform(X)
    assert mapped.shape == (len(X), 60)
    # Of a kernel matrix without full rank the map is not unique to the last digits, what it approximates is.
    np.testing.assert_allclose(mapped @ mapped.T, as_before @ as_before.T, rtol=1e-5, atol=1e-5 * np.abs(mapped).max())
    assert list(ours.get_feature_names_out()) == list(expected.get_feature_names_out())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nystroem__chunks_make_no_difference(dtype):
    X = DATA["digits"].astype(dtype)
    found = [
        methods.Nystroem(gamma=0.01, n_components=50, random_state=0).fit(lazy).transform(lazy)
        for lazy in (da.from_array(X, (X.shape[0], 64)), da.from_array(X, (130, 20)))
    ]
    assert found[0].dtype == found[1].dtype == dtype
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)


def test_nystroem__float32_with_duplicates_in_the_sample():
    """Where the sample's kernel is singular, rounding is not blown up: the kernel of the sample comes out right."""
    X = np.repeat(DATA["digits"][:40], 5, axis=0).astype(np.float32)
    ours = methods.Nystroem(gamma=0.01, n_components=200, random_state=0).fit(da.from_array(X, (60, 64)))
    mapped = ours.transform(da.from_array(X, (60, 64))).compute()
    np.testing.assert_allclose(mapped @ mapped.T, rbf_kernel(X, gamma=0.01), atol=2e-3)


def test_nystroem__more_components_than_rows():
    X = DATA["wine"][:9]
    with pytest.warns(UserWarning, match="takes all 9 rows"):
        ours = methods.Nystroem(n_components=10, random_state=0).fit(da.from_array(X, (4, 13)))
    mapped = ours.transform(da.from_array(X, (4, 13))).compute()
    np.testing.assert_allclose(mapped @ mapped.T, rbf_kernel(X), atol=1e-9)


def test_nystroem__callable_kernels():
    X = DATA["wine"]
    ours = methods.Nystroem(overlap, kernel_params={"power": 2}, n_components=20, random_state=0)
    expected = kernel_approximation.Nystroem(overlap, kernel_params={"power": 2}, n_components=20, random_state=0)
    lazy = da.from_array(X, (50, 13))
    np.testing.assert_allclose(ours.fit(lazy).transform(lazy), expected.fit(X).transform(X), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="use kernel_params"):
        methods.Nystroem(overlap, gamma=1.0).fit(lazy)


def overlap(a, b, power):
    return np.exp(-(np.abs(a - b).sum() ** power) / 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel": "precomputed"}, "received 'precomputed'"), ({"n_components": 0}, "expected n_components")],
)
def test_nystroem__refuses_on_dask(options, message):
    with pytest.raises(ValueError, match=message):
        methods.Nystroem(**options).fit(da.ones((5, 5)))


@settings(deadline=None, max_examples=25)
@given(arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(-2, 2)), st.data())
def test_nystroem__any_data(X, data):
    """Duplicates, constant columns, fewer rows than components: the sample's own kernel is met."""
    components = data.draw(st.integers(1, 15))
    lazy = da.from_array(X, (data.draw(st.integers(1, len(X))), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ours = methods.Nystroem(gamma=0.3, n_components=components, random_state=0).fit(lazy)
    mapped = ours.transform(lazy).compute()[ours.component_indices_]
    np.testing.assert_allclose(mapped @ mapped.T, rbf_kernel(ours.components_, gamma=0.3), atol=1e-6)


@pytest.mark.parametrize("gamma", ["scale", 0.02])
@pytest.mark.parametrize("data", DATA)
def test_rbf_sampler__as_scikit_learn(data, gamma):
    X = DATA[data]
    expected = kernel_approximation.RBFSampler(gamma=gamma, n_components=70, random_state=1).fit(X)
    lazy = da.from_array(X, (100, 7))
    ours = methods.RBFSampler(gamma=gamma, n_components=70, random_state=1).fit(lazy)
    np.testing.assert_allclose(ours.transform(lazy), expected.transform(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.transform(X), expected.transform(X), rtol=1e-9, atol=1e-9)
    narrow = ours.transform(lazy.astype(np.float32))
    assert narrow.dtype == narrow.compute().dtype == np.float32


def test_rbf_sampler__of_constant_data_and_without_a_pass():
    ours = methods.RBFSampler(gamma="scale", random_state=0).fit(da.zeros((5, 2), chunks=2))
    expected = kernel_approximation.RBFSampler(gamma="scale", random_state=0).fit(np.zeros((5, 2)))
    np.testing.assert_array_equal(ours.random_weights_, expected.random_weights_)
    broken = da.from_array(np.array([[1.0, np.nan]]))
    unread = methods.RBFSampler(random_state=0).fit(broken)
    with pytest.raises(ValueError, match="contains NaN"):
        unread.transform(broken).compute()
    with pytest.raises(ValueError, match="gamma"):
        methods.RBFSampler(gamma="auto").fit(broken)


def test_pipeline__comes_close_to_the_kernel_machine():
    X = DIGITS.astype(np.float32) / 16
    train, test = da.from_array(X[:1200], (250, 64)), da.from_array(X[1200:], (250, 64))
    exact = svm.SVC(C=10).fit(X[:1200], LABELS[:1200]).score(X[1200:], LABELS[1200:])
    model = make_pipeline(methods.Nystroem(gamma=0.12, n_components=500, random_state=0), methods.LinearSVC(C=10.0))
    predicted = np.asarray(model.fit(train, LABELS[:1200]).predict(test))
    assert np.mean(predicted == LABELS[1200:]) > exact - 0.01
