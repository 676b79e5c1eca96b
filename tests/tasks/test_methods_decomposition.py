"""Principal components against scikit-learn's full singular value decomposition."""

from __future__ import annotations

import dask
import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA as Reference

from tasks import methods
from tasks.methods import moments

DIGITS = load_digits().data
WINE = load_wine().data


def assert_same(ours, reference, rtol=1e-9):
    scale = reference.singular_values_[0]
    np.testing.assert_allclose(ours.singular_values_, reference.singular_values_, rtol=rtol, atol=1e-7 * scale)
    np.testing.assert_allclose(ours.explained_variance_, reference.explained_variance_, rtol=rtol, atol=1e-9 * scale)
    np.testing.assert_allclose(
        ours.explained_variance_ratio_, reference.explained_variance_ratio_, rtol=rtol, atol=1e-12
    )
    np.testing.assert_allclose(ours.mean_, reference.mean_, rtol=rtol, atol=1e-12)
    assert (ours.n_components_, ours.n_samples_) == (reference.n_components_, reference.n_samples_)


@pytest.mark.parametrize("chunks", [None, 1797, 230])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("count", [None, 1, 20, 0.8])
def test_fit__components_and_signs_of_scikit_learn(count, whiten, chunks):
    X = da.from_array(DIGITS, (chunks, 20)) if chunks else DIGITS
    reference = Reference(count, whiten=whiten, svd_solver="full").fit(DIGITS)
    ours = methods.PCA(count, whiten=whiten).fit(X)
    assert_same(ours, reference)
    kept = 20 if count is None else ours.n_components_  # trailing components belong to equal variances of 0
    np.testing.assert_allclose(ours.components_[:kept], reference.components_[:kept], atol=1e-8)
    np.testing.assert_allclose(ours.noise_variance_, reference.noise_variance_, rtol=1e-9, atol=1e-12)
    projected = ours.transform(X)
    assert isinstance(projected, da.Array if chunks else np.ndarray)
    np.testing.assert_allclose(np.asarray(projected)[:, :kept], reference.transform(DIGITS)[:, :kept], atol=1e-7)
    np.testing.assert_allclose(
        np.asarray(ours.inverse_transform(projected)),
        reference.inverse_transform(reference.transform(DIGITS)),
        atol=1e-6,
    )


def test_fit__large_offsets_do_no_harm():
    shifted = WINE / WINE.std(axis=0) + 1e6
    ours = methods.PCA().fit(da.from_array(shifted, (40, 13)))
    assert_same(ours, Reference(svd_solver="full").fit(shifted), rtol=1e-6)


def test_fit__fewer_rows_than_columns():
    X = DIGITS[:10]
    assert_same(methods.PCA(9).fit(da.from_array(X, (3, 64))), Reference(9, svd_solver="full").fit(X))


def test_fit__constant_data_and_duplicates():
    ours = methods.PCA(2).fit(da.ones((9, 4), chunks=(4, 4)))
    np.testing.assert_array_equal(ours.explained_variance_, 0)
    np.testing.assert_array_equal(ours.explained_variance_ratio_, 0)
    X = np.repeat(WINE[:30], 3, axis=0)
    assert_same(methods.PCA(4).fit(da.from_array(X, (20, 13))), Reference(4, svd_solver="full").fit(X))


def test_fit__float32_keeps_its_dtype():
    X = da.from_array(DIGITS.astype(np.float32), (500, 64))
    ours = methods.PCA(3).fit(X)
    assert {ours.components_.dtype, ours.transform(X).dtype, ours.transform(X).compute().dtype} == {np.dtype("f4")}
    np.testing.assert_allclose(ours.components_, Reference(3, svd_solver="full").fit(DIGITS).components_, atol=1e-5)


@pytest.mark.parametrize("count", [0, 65, -1, 1.5, 0.0, True, "most"])
def test_fit__refuses_a_count_or_share(count):
    with pytest.raises(ValueError, match="expected n_components as a count from 1 to"):
        methods.PCA(count).fit(DIGITS)


def test_inverse_transform__refuses_other_columns():
    with pytest.raises(ValueError, match=r"expected 3 columns, one per component, received shape \(2, 4\)"):
        methods.PCA(3).fit(DIGITS).inverse_transform(np.ones((2, 4)))


@pytest.mark.parametrize("chunks", [None, 1797, 230, 20])
@pytest.mark.parametrize("count", [None, 20, 0.8, "mle"])
def test_full__components_of_scikit_learn(count, chunks):
    X = da.from_array(DIGITS, (chunks, 20)) if chunks else DIGITS
    reference = Reference(count, svd_solver="full").fit(DIGITS)
    ours = methods.PCA(count, svd_solver="full").fit(X)
    assert_same(ours, reference)
    kept = 20 if count is None else ours.n_components_
    np.testing.assert_allclose(ours.components_[:kept], reference.components_[:kept], atol=1e-8)
    np.testing.assert_allclose(ours.noise_variance_, reference.noise_variance_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunks", [100, 7])
def test_full__small_singular_values_are_exact(chunks):
    """The covariance squares them, and loses what is below 1e-8 of the largest."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(100, 6)))[0], np.linalg.qr(random.normal(size=(6, 6)))[0])
    X = (left - left.mean(axis=0)) * 10.0 ** -np.arange(0, 12, 2) @ right
    expected = Reference(svd_solver="full").fit(X).singular_values_
    assert expected[-1] < 1e-9 * expected[0]
    found = methods.PCA(svd_solver="full").fit(da.from_array(X, (chunks, 6))).singular_values_
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    few = methods.PCA(svd_solver="full").fit(da.from_array(DIGITS[:10], (3, 64)))
    assert_same(few, Reference(svd_solver="full").fit(DIGITS[:10]))


@pytest.mark.parametrize("chunks", [None, 178, 50])
def test_mle__as_many_components_as_scikit_learn(chunks):
    random = np.random.default_rng(3)
    low = random.normal(size=(300, 4)) @ random.normal(size=(4, 12)) + 0.1 * random.normal(size=(300, 12))
    for X in (low, WINE, WINE / WINE.std(axis=0), load_iris().data, DIGITS[:, :30]):
        data = da.from_array(X, (chunks, X.shape[1])) if chunks else X
        assert methods.PCA("mle").fit(data).n_components_ == Reference("mle", svd_solver="full").fit(X).n_components_
    assert methods.PCA("mle").fit(low).n_components_ == 4
    # Two columns of the same variance, to the last bit: scikit-learn fails.
    equal = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0.1], [0, 0, -0.1]])
    assert methods.PCA("mle").fit(equal).n_components_ in (1, 2)
    with pytest.raises(ValueError, match="at least as many rows as columns for n_components='mle'"):
        methods.PCA("mle").fit(DIGITS[:10])
    with pytest.raises(
        ValueError, match="expected n_components as a count for svd_solver 'randomized', received 'mle'"
    ):
        methods.PCA("mle", svd_solver="randomized").fit(DIGITS)
    with pytest.raises(ValueError, match="received 'arpack'; for a few of many components use 'randomized'"):
        methods.PCA(2, svd_solver="arpack").fit(DIGITS)


@pytest.mark.parametrize("count", [None, 1, 5, 0.9])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_model__as_scikit_learn(count, dtype):
    X = (WINE / WINE.std(axis=0)).astype(dtype)
    tight = {"rtol": 1e-9, "atol": 1e-9} if dtype is np.float64 else {"rtol": 2e-3, "atol": 2e-4}
    theirs = Reference(count, svd_solver="full").fit(X.astype(np.float64))
    fresh = np.concatenate([X[:20] + 0.5, X[100:]])
    for chunks in (None, 178, 50):
        data, rows = (
            (X, fresh) if chunks is None else (da.from_array(X, (chunks, 13)), da.from_array(fresh, (chunks, 5)))
        )
        ours = methods.PCA(count).fit(data)
        np.testing.assert_allclose(ours.get_covariance(), theirs.get_covariance(), **tight)
        np.testing.assert_allclose(ours.get_precision(), theirs.get_precision(), **tight)
        found = ours.score_samples(rows)
        assert found.dtype == dtype
        assert isinstance(found, np.ndarray if chunks is None else da.Array)
        np.testing.assert_allclose(np.asarray(found), theirs.score_samples(fresh), **tight)
        assert ours.score(rows) == pytest.approx(theirs.score(fresh), rel=tight["rtol"])


def test_model__is_a_gaussian_and_whitening_has_no_part_in_it():
    X = WINE / WINE.std(axis=0)
    ours = methods.PCA(4, whiten=True).fit(X)
    covariance = ours.get_covariance()
    np.testing.assert_allclose(covariance, methods.PCA(4).fit(X).get_covariance())
    expected = multivariate_normal(X.mean(axis=0), covariance).logpdf(X)
    np.testing.assert_allclose(ours.score_samples(X), expected, rtol=1e-9)
    np.testing.assert_allclose(methods.PCA(whiten=True).fit(X).get_covariance(), np.cov(X.T), rtol=1e-9, atol=1e-12)


def test_model__score_samples_is_lazy_and_without_an_inverse_refused():
    data = da.from_array(WINE, (50, 13))
    ours = methods.PCA(3).fit(data)

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        assert ours.score_samples(data).shape == (178,)
    whole = methods.PCA().fit(DIGITS)  # some pixels are never set
    for call in (whole.get_precision, lambda: whole.score(DIGITS), lambda: whole.score_samples(DIGITS)):
        with pytest.raises(np.linalg.LinAlgError, match="keep fewer components"):
            call()
    with pytest.raises(np.linalg.LinAlgError, match="keep fewer components"):
        methods.PCA().fit(DIGITS[:10]).get_precision()


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 39), unique=True), offset=st.sampled_from([0, 1e8]))
def test_moments__of_any_parts_are_those_of_the_whole(seed, cuts, offset):
    X = np.random.default_rng(seed).normal(size=(40, 3)) + offset
    blocks = np.split(X, sorted(cuts))
    total = moments.cross_moments(blocks[0])
    for block in blocks[1:]:
        total = moments.merge_moments(total, moments.cross_moments(block))
    assert total.rows == 40
    np.testing.assert_allclose(total.mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(total.scatter, np.cov(X.T) * 39, rtol=1e-6, atol=1e-6)
    by_column = moments.column_moments(X)
    np.testing.assert_allclose(by_column.scatter, np.diag(total.scatter), rtol=1e-6)


def test_moments__refuse_an_empty_block():
    with pytest.raises(ValueError, match="expected at least one row"):
        moments.column_moments(np.empty((0, 3)))


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("kind", ["even", "sorted", "constant", "the chosen rows are far off"])
def test_narrow_cross_moments__keep_the_digits_of_the_deviations(kind, offset):
    """Centred on the mean of some rows; these may be those that are unlike all others."""
    X = np.random.default_rng(0).normal(size=(5000, 12)) * np.logspace(-1, 1, 12)
    if kind == "sorted":
        X.sort(axis=0)
    if kind == "constant":
        X[:, ::2] = 0.1
    if kind == "the chosen rows are far off":
        X[:: len(X) // moments.PIVOT_ROWS] = 1e5 + X[:: len(X) // moments.PIVOT_ROWS]
    X = (X + offset).astype(np.float32)
    found = moments.narrow_cross_moments(X)
    deviations = X - X.mean(axis=0, dtype=np.float64)
    exact = deviations.T @ deviations
    scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert found.rows == 5000
    np.testing.assert_allclose(found.mean, X.mean(axis=0, dtype=np.float64), atol=1e-6 * deviations.std(axis=0).max())
    assert (np.abs(found.scatter - exact) <= 4e-6 * scale).all()
