"""Linear regression on Dask arrays, in any chunks, against scikit-learn's on NumPy."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning

from tasks import methods
from tasks.methods import factors

DATA = {
    "diabetes": load_diabetes(return_X_y=True),
    "digits": load_digits(return_X_y=True),  # has constant columns
    "cancer": load_breast_cancer(return_X_y=True),  # columns of very different scales
    "float32": (load_diabetes().data.astype(np.float32), load_diabetes().target),
    "bytes": (load_digits().data.astype(np.uint8), load_digits().target),
    "several": (load_diabetes().data, np.eye(3)[np.arange(442) % 3] * load_diabetes().target[:, None]),
    "one column of targets": (load_diabetes().data, load_diabetes().target[:, None]),
    "wide": (load_digits().data[:40], load_digits().target[:40]),
}
CASES = [
    ("LinearRegression", {}),
    ("LinearRegression", {"fit_intercept": False}),
    ("LinearRegression", {"positive": True}),
    ("Ridge", {}),
    ("Ridge", {"alpha": 1e-3, "fit_intercept": False}),
    ("Ridge", {"solver": "svd", "alpha": 10.0}),
    ("Lasso", {"alpha": 0.1, "tol": 1e-7}),
    ("Lasso", {"alpha": 0.5, "tol": 1e-7, "fit_intercept": False}),
    ("Lasso", {"alpha": 0.1, "tol": 1e-7, "positive": True, "selection": "random", "random_state": 0}),
]


def compare(name, options, X, y, chunks, weights=None, rtol=1e-6):
    """Fit both and compare everything."""
    alike = {"precompute": True, "max_iter": 100_000} if name == "Lasso" else {}
    reference = getattr(linear_model, name)(**options, **alike).fit(X.astype(np.float64), y, sample_weight=weights)
    lazy = da.from_array(X, (chunks, 7))
    ours = getattr(methods, name)(**options, **alike).fit(lazy, y, sample_weight=weights)
    assert np.shape(ours.coef_) == np.shape(reference.coef_)
    assert np.shape(ours.intercept_) == np.shape(reference.intercept_)
    expected = reference.predict(X.astype(np.float64))
    scale = max(np.abs(expected).max(), np.abs(y).max())
    found = ours.predict(lazy)
    assert isinstance(found, da.Array)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.compute(), expected, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(ours.predict(X.astype(np.float64)), expected, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(ours.coef_, reference.coef_, rtol=rtol, atol=rtol * np.abs(reference.coef_).max())
    return ours, reference


@pytest.mark.parametrize("chunks", [2000, 37])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_fit__as_scikit_learn(name, options, data, chunks):
    X, y = DATA[data]
    if data == "cancer" and name == "Lasso":
        X = X / X.std(axis=0)  # or both would stop far from the optimum
    compare(name, options, X, y, chunks, rtol=1e-4 if name == "Lasso" else 1e-6)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_fit__weighs_rows(name, options):
    X, y = DATA["diabetes"]
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    weights[:80] = 0  # whole blocks
    ours, _ = compare(name, options, X, y, 30, weights, rtol=1e-4 if name == "Lasso" else 1e-6)
    lazy = getattr(methods, name)(**options).fit(da.from_array(X, (30, 10)), da.from_array(y), da.from_array(weights))
    np.testing.assert_allclose(lazy.coef_, ours.coef_, rtol=1e-4, atol=1e-3)


def test_linear_regression__rank_and_singular_values():
    X, y = DATA["digits"]
    ours, reference = compare("LinearRegression", {}, X, y, 200)
    assert ours.rank_ == reference.rank_ == 61
    np.testing.assert_allclose(ours.singular_, reference.singular_, rtol=1e-9, atol=1e-9)


def test_linear_regression__keeps_the_digits_that_normal_equations_lose():
    random = np.random.default_rng(0)
    X = random.normal(size=(500, 4)) + 1e3
    X[:, 3] = X[:, 2] + 1e-9 * random.normal(size=500)
    truth = np.array([1.0, -2.0, 3.0, 4.0])
    ours = methods.LinearRegression(tol=1e-14).fit(da.from_array(X, (60, 4)), X @ truth)
    reference = linear_model.LinearRegression(tol=1e-14).fit(X, X @ truth)
    error = np.abs(reference.coef_ - truth).max()
    assert np.abs(ours.coef_ - truth).max() < 20 * error + 1e-3


def test_lasso__stops_where_scikit_learn_stops_and_starts_where_it_was():
    X, y = DATA["diabetes"]
    ours, reference = compare("Lasso", {"alpha": 0.2, "tol": 1e-3}, X, y, 50)
    assert ours.n_iter_ == reference.n_iter_
    np.testing.assert_allclose(ours.dual_gap_, reference.dual_gap_, rtol=1e-6)
    again = ours.set_params(warm_start=True).fit(da.from_array(X, (50, 10)), y)
    assert again.n_iter_ < reference.n_iter_
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        methods.Lasso(alpha=0.01, max_iter=1, tol=1e-9).fit(da.from_array(X, (50, 10)), y)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_fit__any_data_in_any_chunks(data):
    """Duplicates, constant columns, offsets, scales, one row; fewer rows than columns."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, d = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 8))
    scale, offset = data.draw(st.sampled_from([1e-3, 1.0, 1e3])), data.draw(st.sampled_from([0.0, 10.0]))
    X = random.integers(0, data.draw(st.sampled_from([1, 2, 50])), (n, d)) * scale + offset
    y = random.normal(size=n) * data.draw(st.sampled_from([1.0, 1e4]))
    cuts = sorted({0, n, *data.draw(st.lists(st.integers(0, n), max_size=3))})
    lazy = da.from_array(X, (tuple(np.diff(cuts).tolist()), d))
    for name in ("LinearRegression", "Ridge"):
        expected = getattr(linear_model, name)().fit(X, y).predict(X)
        found = getattr(methods, name)().fit(lazy, y).predict(X)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.abs(y).max(), err_msg=name)


def test_fit__empty_blocks_and_one_row():
    X, y = DATA["diabetes"]
    lazy = da.concatenate([da.from_array(X[:100]), da.zeros((0, 10)), da.from_array(X[100:])])
    for name, _ in CASES:
        own = getattr(methods, name)
        np.testing.assert_allclose(own().fit(lazy, y).coef_, own().fit(da.from_array(X), y).coef_, rtol=1e-7)
    assert methods.LinearRegression().fit(da.from_array(X[:1]), y[:1]).predict(X[5:6]) == y[0]


@pytest.mark.parametrize("name", ["LinearRegression", "Ridge", "Lasso"])
def test_fit__refuses(name):
    X = da.from_array(DATA["diabetes"][0], (100, 10))
    y = DATA["diabetes"][1]
    own = getattr(methods, name)
    with pytest.raises(ValueError, match="as many targets as rows, received 7 targets and 442 rows"):
        own().fit(X, y[:7])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        own().fit(X, np.where(y > 100, np.nan, y))
    with pytest.raises(ValueError, match="array with dim 3"):
        own().fit(X, y.reshape(-1, 1, 1))
    with pytest.raises(ValueError, match="y to be passed"):
        own().fit(X, None)
    with pytest.raises(ValueError, match="give one per row"):
        own().fit(X, y, sample_weight=np.ones(3))
    with pytest.raises(ValueError, match="weights of at least 0"):
        own().fit(X, y, sample_weight=np.zeros(442))
    with pytest.raises(ValueError, match="The 'positive' parameter"):
        own(positive="yes").fit(X, y)
    with pytest.raises(ValueError, match="expecting 10 features"):
        own().fit(X, y).predict(X[:, :3])


def test_square_root__of_what_has_none_but_for_rounding():
    rows = np.random.default_rng(0).normal(size=(100, 5)) * [1, 1e-8, 1, 1e8, 0]
    rows[:, 2] = rows[:, 0]
    gram = rows.T @ rows
    root = factors.square_root(gram)
    assert len(root) == 3
    scale = np.sqrt(np.maximum(gram.diagonal(), 1e-300))
    np.testing.assert_allclose(root.T @ root / scale / scale[:, None], gram / scale / scale[:, None], atol=1e-13)
    assert factors.square_root(np.zeros((3, 3))).shape == (1, 3)


# As scikit-learn says it on a column that is constant.
@pytest.mark.filterwarnings("ignore:An ill-conditioned matrix:scipy.linalg.LinAlgWarning")
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [("LinearRegression", {"positive": True}), ("Ridge", {"alpha": 1e-20}), ("Ridge", {"alpha": 0.0}), ("Lasso", {})],
)
def test_fit__constant_columns_get_no_coefficient(name, options, weighed):
    """Means of blocks that differ by a rounding error would leave a column of 1e-15 to divide by."""
    random = np.random.default_rng(3)
    X = random.normal(size=(300, 4))
    X[:, 1], X[:, 3] = 0.1, 1e5 / 3
    y = X @ [1.0, 0.0, 2.0, 0.0] + 0.1 * random.normal(size=300)
    weights = random.integers(0, 3, 300).astype(float) if weighed else None
    if weighed:
        X[weights == 0] = 1e3  # what does not count is not constant
    for chunks in (300, 37, 1):
        fitted = getattr(methods, name)(**options).fit(da.from_array(X, (chunks, 4)), y, sample_weight=weights)
        np.testing.assert_array_equal(fitted.coef_[[1, 3]], 0)
        kept = slice(None) if weights is None else weights > 0
        known = linear_model.Lasso() if name == "Lasso" else linear_model.LinearRegression()
        expected = known.fit(X[kept][:, [0, 2]], y[kept], None if weights is None else weights[kept])
        np.testing.assert_allclose(fitted.coef_[[0, 2]], expected.coef_, rtol=1e-4 if name == "Lasso" else 1e-9)


def test_ridge__by_triangles_keeps_the_digits_of_what_is_not_centred():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 4)) + 1e6
    y = X @ [1.0, 2.0, -3.0, 0.5]
    options = {"alpha": 1e-3, "solver": "svd", "fit_intercept": False}
    ours = methods.Ridge(**options).fit(da.from_array(X, (70, 4)), y)
    np.testing.assert_allclose(ours.coef_, linear_model.Ridge(**options).fit(X, y).coef_, rtol=1e-8)


@pytest.mark.parametrize("chunks", [1, 3, 10])
def test_linear_regression__as_many_singular_values_as_scikit_learn(chunks):
    X, y = DATA["digits"][0][:10], DATA["digits"][1][:10]
    ours = methods.LinearRegression().fit(da.from_array(X, (chunks, 64)), y)
    reference = linear_model.LinearRegression().fit(X, y)
    assert ours.rank_ == reference.rank_ == 9
    np.testing.assert_allclose(ours.singular_, reference.singular_, atol=1e-9)
