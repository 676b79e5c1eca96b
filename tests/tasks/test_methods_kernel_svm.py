"""Kernel SVC against scikit-learn's (libsvm), on NumPy and Dask arrays in any chunks."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from sklearn import svm
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning

from tasks import methods
from tasks.methods.kernel_svm import svc
from tasks.methods.kernel_svm.gathering import tiles
from tasks.methods.kernel_svm.pairs import pairs_of


def scaled(load):
    X, y = load(return_X_y=True)
    return X / X.std(), y


DATA = {
    "digits": scaled(lambda **k: tuple(part[:600] for part in load_digits(**k))),
    "wine": scaled(load_wine),
    "cancer": scaled(load_breast_cancer),
}
CASES = [
    {},
    {"C": 10, "kernel": "poly", "coef0": 1.0},
    {"kernel": "linear", "C": 0.1},
    {"kernel": "sigmoid", "gamma": 0.01},
    {"class_weight": "balanced", "gamma": "auto"},
]


@pytest.fixture(autouse=True)
def own_solver(monkeypatch):
    monkeypatch.setattr(svc, "OWN_ROWS", 0)


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("data", DATA)
def test_fit__as_scikit_learn(data, options):
    X, y = DATA[data]
    options = {**options, "tol": 1e-5, "decision_function_shape": "ovo"}
    expected = svm.SVC(**options).fit(X, y)
    lazy = da.from_array(X, (100, 3))
    for ours, rows in ((methods.SVC(**options).fit(X, y), X), (methods.SVC(**options).fit(lazy, y), lazy)):
        assert ours.violation_.max() <= 1e-5
        assert ours.dual_gap_.min() > -1e-6
        assert ours.dual_coef_.shape == (len(expected.n_support_) - 1, len(ours.support_))
        np.testing.assert_array_equal(ours.support_vectors_, X[ours.support_])
        np.testing.assert_allclose(ours.decision_function(rows), expected.decision_function(X), atol=2e-3)
        assert np.mean(np.asarray(ours.predict(rows)) == expected.predict(X)) > 0.998


@pytest.mark.parametrize("data", DATA)
def test_decision_function__ranks_classes_as_scikit_learn(data):
    X, y = DATA[data]
    # Fitted by scikit-learn: what is compared is the decision alone.
    svc.OWN_ROWS = 10_000
    ours, expected = methods.SVC(break_ties=True).fit(X, y), svm.SVC(break_ties=True).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X), expected.decision_function(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), expected.predict(X))


def test_fit__weights_of_rows():
    X, y = DATA["wine"]
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    expected = svm.SVC(tol=1e-6, decision_function_shape="ovo").fit(X, y, weights)
    ours = methods.SVC(tol=1e-6, decision_function_shape="ovo").fit(da.from_array(X, (20, 13)), y, weights)
    np.testing.assert_allclose(ours.decision_function(X), expected.decision_function(X), atol=1e-4)


def test_fit__by_tiles_when_memory_is_short(monkeypatch):
    X, y = DATA["digits"]
    lazy = da.from_array(X, (100, 64))
    whole = methods.SVC().fit(lazy, y)
    monkeypatch.setattr(svc, "CACHE_FRACTION", 1e-9)
    tiled = methods.SVC().fit(lazy, y)
    np.testing.assert_array_equal(tiled.support_, whole.support_)
    np.testing.assert_array_equal(tiled.dual_coef_, whole.dual_coef_)


@pytest.mark.parametrize("budget", [0, 2, 3, 4, 6, 100])
@pytest.mark.parametrize("classes", [2, 3, 5, 8])
def test_tiles__every_pair_once(classes, budget):
    found = [pair for tile in tiles(np.ones(classes), budget) for pair in tile]
    assert sorted(found) == pairs_of(classes)


def test_fit__says_when_it_ends_early():
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        methods.SVC(max_iter=2).fit(*DATA["cancer"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel": "precomputed"}, "expected kernel"), ({"C": 0}, "expected C"), ({"gamma": -1.0}, "expected gamma")],
)
def test_fit__refuses(options, message):
    with pytest.raises(ValueError, match=message):
        methods.SVC(**options).fit(*DATA["wine"])
    with pytest.raises(ValueError, match="greater than one"):
        methods.SVC().fit(da.ones((5, 2)), np.zeros(5))
