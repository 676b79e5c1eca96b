"""Logistic regression against scikit-learn's, on NumPy and Dask arrays, dense and sparse."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import linear_model
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning

from tasks import methods
from tasks.methods import logistic, softmax

DATA = {
    "iris": load_iris(return_X_y=True),
    "wine": load_wine(return_X_y=True),  # columns of very different scales
    "cancer": load_breast_cancer(return_X_y=True),  # two classes
    "names": (load_wine().data, np.array(["a", "bb", "c"])[load_wine().target]),
    "bytes": (load_digits().data[:200].astype(np.uint8), load_digits().target[:200]),
    "float32": (load_wine().data.astype(np.float32), load_wine().target),
}
CASES = [{}, {"fit_intercept": False}, {"C": 0.01, "class_weight": "balanced"}, {"C": 0.1, "class_weight": {1: 3.0}}]


def reference_of(options, X, y, weights=None):
    own = linear_model.LogisticRegression(solver="newton-cholesky", tol=1e-10, max_iter=1000, **options)
    return own.fit(X.astype(np.float64), y, weights)


def compare(ours, reference, X, lazy, tolerance=1e-4):
    scale = np.abs(reference.coef_).max()
    np.testing.assert_array_equal(ours.classes_, reference.classes_)
    np.testing.assert_allclose(ours.coef_, reference.coef_, rtol=tolerance, atol=tolerance * scale)
    np.testing.assert_allclose(ours.intercept_, reference.intercept_, rtol=tolerance, atol=100 * tolerance * scale)
    for word in ("predict_proba", "predict_log_proba", "decision_function"):
        found, expected = getattr(ours, word)(lazy), getattr(reference, word)(X.astype(np.float64))
        assert isinstance(found, da.Array)
        assert found.shape == expected.shape
        assert found.dtype == found.compute().dtype
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)
    assert np.mean(ours.predict(lazy).compute() == reference.predict(X.astype(np.float64))) >= 0.999


@pytest.mark.parametrize("chunks", [None, 61])
@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("data", DATA)
def test_fit__as_scikit_learn(data, options, chunks):
    X, y = DATA[data]
    if data == "names" and isinstance(options.get("class_weight"), dict):
        options = {**options, "class_weight": {"bb": 3.0}}
    lazy = da.from_array(X, (chunks or 50, 3))
    ours = methods.LogisticRegression(tol=1e-7, max_iter=3000, **options).fit(lazy if chunks else X, y)
    compare(ours, reference_of(options, X, y), X, lazy, 1e-3)


@pytest.mark.parametrize("data", ["iris", "cancer"])
def test_fit__weighs_rows(data):
    X, y = DATA[data]
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    weights[20:40] = 0
    lazy = da.from_array(X, (20, 4))
    ours = methods.LogisticRegression(tol=1e-8, max_iter=3000, class_weight="balanced")
    ours.fit(lazy, da.from_array(y), da.from_array(weights))
    compare(ours, reference_of({"class_weight": "balanced"}, X, y, weights), X, lazy, 1e-3)


def test_fit__stops_by_scikit_learns_rule_and_starts_where_it_was():
    X, y = DATA["iris"]
    lazy = da.from_array(X, (40, 4))
    ours = methods.LogisticRegression(tol=1e-3, warm_start=True).fit(lazy, y)
    residual = ours.predict_proba(X) - np.eye(3)[y]
    slope = residual.T @ X / len(X) + ours.coef_ / len(X)
    assert max(np.abs(slope).max(), np.abs(residual.mean(axis=0)).max()) <= 1e-3
    first = ours.coef_.copy()
    again = ours.fit(lazy, y)
    assert again.n_iter_[0] <= 1
    np.testing.assert_allclose(again.coef_, first, atol=0.05)
    with pytest.warns(ConvergenceWarning, match="in 2 iterations"):
        methods.LogisticRegression(max_iter=2).fit(lazy, y)


@pytest.mark.parametrize("classes", [2, 4])
def test_fit__sparse_blocks_as_dense(classes):
    random = np.random.default_rng(0)
    X = sparse.random(300, 40, 0.1, "csr", random_state=0)
    y = random.integers(0, classes, 300)
    dense = da.from_array(X.toarray(), (70, 40))
    lazy = dense.map_blocks(sparse.csr_matrix, dtype=X.dtype, meta=sparse.csr_matrix((0, 0)))
    ours = methods.LogisticRegression(tol=1e-8, max_iter=1000).fit(lazy, y)
    reference = reference_of({}, X.toarray(), y)
    np.testing.assert_allclose(ours.coef_, reference.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(lazy).compute(), reference.predict_proba(X), atol=1e-5)
    assert np.mean(ours.predict(lazy).compute() == reference.predict(X)) > 0.99
    with pytest.raises(TypeError, match="expected dense blocks for KMeans"):
        methods.KMeans(2).fit(lazy)


def test_fit__many_columns_are_whitened_by_a_diagonal(monkeypatch):
    monkeypatch.setattr(softmax, "GRAM_COLUMNS", 3)
    X, y = DATA["wine"]
    lazy = da.from_array(X, (50, 13))
    for options in CASES[:2]:
        ours = methods.LogisticRegression(tol=1e-6, max_iter=10_000, **options).fit(lazy, y)
        compare(ours, reference_of(options, X, y), X, lazy, 0.05)


def test_fit__numpy_data_in_threads(monkeypatch):
    monkeypatch.setattr(logistic, "VIEW_BYTES", 100)
    X, y = DATA["iris"]
    one = methods.LogisticRegression(C=0.5).fit(X, y)
    monkeypatch.undo()
    np.testing.assert_allclose(one.coef_, methods.LogisticRegression(C=0.5).fit(X, y).coef_, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_fit__any_data_in_any_chunks(data):
    """Duplicates, constant columns, scales; few rows."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, d, k = data.draw(st.integers(6, 60)), data.draw(st.integers(1, 6)), data.draw(st.integers(2, 4))
    scale = data.draw(st.sampled_from([1e-2, 1.0, 1e2]))
    X = random.integers(0, data.draw(st.sampled_from([1, 2, 20])), (n, d)) * scale
    y = np.concatenate([np.arange(k), random.integers(0, k, n - k)])
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=3))})
    lazy = da.from_array(X, (tuple(np.diff(cuts).tolist()), d))
    ours = methods.LogisticRegression(C=0.1, tol=1e-7, max_iter=2000).fit(lazy, y)
    expected = reference_of({"C": 0.1}, X, y).predict_proba(X)
    np.testing.assert_allclose(ours.predict_proba(X), expected, atol=1e-4)


def test_fit__refuses():
    X, y = DATA["iris"]
    lazy = da.from_array(X, (50, 4))
    with pytest.raises(ValueError, match="only one class: 0"):
        methods.LogisticRegression().fit(lazy, np.zeros(150, int))
    with pytest.raises(ValueError, match="solver 'lbfgs' and an l2 penalty for a Dask array"):
        methods.LogisticRegression(solver="saga").fit(lazy, y)
    with pytest.raises(ValueError, match="The 'C' parameter"):
        methods.LogisticRegression(C=-1.0).fit(lazy, y)
    with pytest.raises(ValueError, match="give one per row"):
        methods.LogisticRegression().fit(lazy, y, np.ones(3))
    with pytest.raises(ValueError, match="with a sum above zero"):
        methods.LogisticRegression().fit(lazy, y, np.zeros(150))
    with pytest.raises(ValueError, match="as many labels as rows"):
        methods.LogisticRegression().fit(lazy, y[:7])
    with pytest.raises(ValueError, match="expecting 4 features"):
        methods.LogisticRegression().fit(lazy, y).predict(lazy[:, :2])


def test_fit__other_solvers_and_sparse_matrices_are_scikit_learns():
    X, y = DATA["iris"]
    for options in ({"solver": "newton-cg"}, {}):
        given = sparse.csr_matrix(X) if not options else X
        own = methods.LogisticRegression(max_iter=1000, **options).fit(given, y)
        np.testing.assert_allclose(
            own.coef_, linear_model.LogisticRegression(max_iter=1000, **options).fit(given, y).coef_, rtol=1e-10
        )
