"""The linear SVM finds the optimum of scikit-learn's."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale
from sklearn.svm import LinearSVC as Reference

from tasks import methods
from tasks.methods import blocks, hinge

WINE = (scale(load_wine().data), load_wine().target)
IRIS = (load_iris().data, load_iris().target)
TWO = (WINE[0][WINE[1] < 2], np.array(["a", "b"])[WINE[1][WINE[1] < 2]])


def objective(coef, intercept, X, signs, C):
    """The function that both minimise, for one class, written down plainly."""
    slack = np.maximum(0, 1 - signs * (X @ coef + intercept))
    return 0.5 * (coef @ coef + intercept**2) + C * (slack**2).sum()


@pytest.mark.parametrize("chunks", [None, 178, 31])
@pytest.mark.parametrize("data", ["WINE", "IRIS", "TWO"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"C": 10.0},
        {"fit_intercept": False},
        {"intercept_scaling": 5.0, "class_weight": "balanced"},
    ],
)
def test_fit__coefficients_of_scikit_learn(data, options, chunks):
    X, y = globals()[data]
    reference = Reference(**options, dual=False, tol=1e-10, max_iter=10_000).fit(X, y)
    ours = methods.LinearSVC(**options, tol=1e-9).fit(da.from_array(X, (chunks, 3)) if chunks else X, y)
    np.testing.assert_allclose(ours.coef_, reference.coef_, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(ours.intercept_, reference.intercept_, rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(ours.predict(X), reference.predict(X))
    decision = ours.decision_function(X)
    assert decision.shape == reference.decision_function(X).shape
    np.testing.assert_allclose(decision, reference.decision_function(X), rtol=1e-3, atol=1e-4)


def test_fit__float32_blocks_reach_the_same_optimum():
    X, y = (part[:600] for part in load_digits(return_X_y=True))
    narrow = (X / 16).astype(np.float32)
    wide = methods.LinearSVC(tol=1e-7).fit(narrow.astype(float), y)
    ours = methods.LinearSVC(tol=1e-7).fit(da.from_array(narrow, (200, 64)), y)
    np.testing.assert_allclose(ours.coef_, wide.coef_, rtol=1e-4, atol=1e-5)
    reference = Reference(dual=False, tol=1e-10, max_iter=10_000).fit(narrow, y)
    for digit in range(10):
        signs = np.where(y == digit, 1, -1)
        best = objective(reference.coef_[digit], reference.intercept_[digit], narrow.astype(float), signs, 1.0)
        value = objective(ours.coef_[digit], ours.intercept_[digit], narrow.astype(float), signs, 1.0)
        assert value <= best * (1 + 1e-9)


@pytest.mark.parametrize("columns", [0, 10_000])
@pytest.mark.parametrize("factor_after", [0, 10_000])
def test_fit__no_preconditioner_changes_the_optimum(columns, factor_after, monkeypatch):
    monkeypatch.setattr(hinge, "GRAM_COLUMNS", columns)
    monkeypatch.setattr(hinge, "FACTOR_AFTER", factor_after)
    X, y = (part[:600] for part in load_digits(return_X_y=True))
    ours = methods.LinearSVC(C=0.1, tol=1e-7).fit(X / 16, y)
    reference = Reference(C=0.1, dual=False, tol=1e-10, max_iter=10_000).fit(X / 16, y)
    np.testing.assert_allclose(ours.coef_, reference.coef_, rtol=1e-4, atol=1e-5)


def test_fit__data_read_again_in_every_pass_gives_the_same(monkeypatch):
    X, y = WINE
    kept = methods.LinearSVC().fit(da.from_array(X, (50, 13)), y)
    monkeypatch.setattr(blocks, "CACHE_FRACTION", 0.0)
    read_again = methods.LinearSVC().fit(da.from_array(X, (50, 13)), y)
    np.testing.assert_array_equal(kept.coef_, read_again.coef_)


def test_fit__constant_and_duplicate_columns():
    X, y = WINE
    X = np.column_stack([X, np.full(len(X), 7.0), X[:, 0], np.zeros(len(X))])
    ours = methods.LinearSVC(tol=1e-9).fit(da.from_array(X, (60, 16)), y)
    reference = Reference(dual=False, tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(ours.coef_, reference.coef_, rtol=1e-4, atol=1e-5)


def test_fit__says_that_it_did_not_converge():
    X, y = WINE
    with pytest.warns(ConvergenceWarning, match="did not converge for 3 of 3 problems in 1 steps; increase max_iter"):
        methods.LinearSVC(max_iter=1, tol=1e-9).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"C": 0}, "expected C as a number above 0, received 0"),
        ({"tol": -1.0}, "expected tol as a number above 0"),
        ({"max_iter": 0}, "expected max_iter as an integer of at least 1"),
    ],
)
def test_fit__refuses_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        methods.LinearSVC(**options).fit(*WINE)


def test_fit__refuses_one_class_and_other_columns():
    X, y = WINE
    with pytest.raises(ValueError, match="only one class: 1"):
        methods.LinearSVC().fit(da.from_array(X, (50, 13)), np.ones(len(X), int))
    fitted = methods.LinearSVC().fit(X, y)
    with pytest.raises(ValueError, match="X has 12 features, but LinearSVC is expecting 13"):
        fitted.predict(da.from_array(X[:, :12], (50, 12)))


def test_fit__stops_where_nothing_but_rounding_is_left():
    """Constant columns and balanced classes: the optimum is the start, and its gradient is of 1e-15."""
    y = np.repeat([0, 1], [17, 23])
    ours = methods.LinearSVC(class_weight="balanced").fit(da.full((40, 3), 2.7, chunks=(7, 3)), y)
    np.testing.assert_allclose(ours.coef_, 0, atol=1e-12)
    assert ours.n_iter_ == 1
