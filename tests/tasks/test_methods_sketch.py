"""Decompositions by random sketch and by batches, against scikit-learn's exact ones."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import decomposition
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from tasks import methods
from tasks.methods import decomposition as ours_module
from tasks.methods import sketch
from tasks.methods.incremental import IncrementalPCA, TruncatedSVD

DIGITS = load_digits().data
DATA = {"digits": DIGITS, "wine": load_wine().data, "cancer": load_breast_cancer().data}


def fitted(estimator):
    return {name for name in vars(estimator) if name.endswith("_") and not name.endswith("__")}


def sketched(count=10, power=10, **options):
    return methods.PCA(count, svd_solver="randomized", iterated_power=power, random_state=0, **options)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("chunks", [None, 400])
def test_pca__sketch_converges_to_the_exact_components(chunks, dtype):
    X = DIGITS.astype(dtype)
    lazy = da.from_array(X, (chunks, 20)) if chunks else X
    exact = decomposition.PCA(10, svd_solver="full").fit(DIGITS)
    ours = sketched(10, 15).fit(lazy)
    rounding = 1e-8 if dtype == np.float64 else 2e-5
    np.testing.assert_allclose(ours.components_, exact.components_, atol=rounding)
    for word in ("singular_values_", "explained_variance_", "explained_variance_ratio_", "noise_variance_"):
        np.testing.assert_allclose(getattr(ours, word), getattr(exact, word), rtol=rounding)
    np.testing.assert_allclose(ours.mean_, exact.mean_, atol=1e-6)
    projected = ours.transform(lazy)
    np.testing.assert_allclose(projected, exact.transform(DIGITS), atol=100 * rounding)
    back = exact.inverse_transform(exact.transform(DIGITS))
    np.testing.assert_allclose(ours.inverse_transform(projected), back, atol=100 * rounding)
    assert ours.components_.dtype == dtype


@pytest.mark.parametrize("power", [0, 2])
def test_pca__sketch_is_as_close_as_scikit_learns(power):
    """The same share of the variance is found after as many iterations, on the average of sketches."""
    seeds = range(4)
    ours = [methods.PCA(10, svd_solver="randomized", iterated_power=power, random_state=s).fit(DIGITS) for s in seeds]
    theirs = [
        decomposition.PCA(10, svd_solver="randomized", iterated_power=power, random_state=s).fit(DIGITS) for s in seeds
    ]
    exact = decomposition.PCA(10, svd_solver="full").fit(DIGITS).singular_values_

    def loss(fits):
        return np.mean([np.abs(fit.singular_values_ / exact - 1).max() for fit in fits])

    assert loss(ours) <= loss(theirs)


@pytest.mark.parametrize("count", [1, 9, None])
def test_pca__a_sketch_of_all_rows_is_exact(count):
    X = DIGITS[:10]
    exact = decomposition.PCA(count, svd_solver="full").fit(X)
    ours = methods.PCA(count, svd_solver="randomized", random_state=0).fit(da.from_array(X, (3, 64)))
    np.testing.assert_allclose(ours.singular_values_, exact.singular_values_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.explained_variance_ratio_, exact.explained_variance_ratio_, atol=1e-12)


def test_pca__large_offsets_do_no_harm_to_a_sketch():
    shifted = DIGITS + 1e6
    ours = sketched(5).fit(da.from_array(shifted, (400, 64)))
    exact = decomposition.PCA(5, svd_solver="full").fit(DIGITS)
    np.testing.assert_allclose(ours.singular_values_, exact.singular_values_, rtol=1e-6)


def test_pca__chooses_by_columns(monkeypatch):
    def choice(shape, **options):
        return methods.PCA(**options)._choose_solver(shape) == "randomized"

    assert not choice((10_000, 4096), n_components=5)
    assert choice((10_000, 4097), n_components=5)
    assert not choice((10_000, 5000), n_components=4500)
    assert choice((100, 5000), n_components=None)
    assert not choice((10_000, 5000), n_components=0.9)
    assert choice((100, 10), n_components=2, svd_solver="randomized")
    monkeypatch.setattr(ours_module, "EXACT_COLUMNS", 10)
    monkeypatch.setattr(methods.PCA, "_from_covariance", None)
    methods.PCA(3, random_state=0).fit(da.from_array(DIGITS, (500, 64)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"svd_solver": "arpack"},
            "expected svd_solver 'auto', 'full', 'covariance_eigh' or 'randomized', received 'arpack'",
        ),
        ({"iterated_power": -1}, "expected iterated_power as an integer of at least 0, received -1"),
        ({"n_oversamples": 0}, "expected n_oversamples as an integer of at least 1"),
        ({"n_components": 0.5, "svd_solver": "randomized"}, "expected n_components as a count for svd_solver"),
    ],
)
def test_pca__refuses_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        methods.PCA(**options).fit(DIGITS)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 30),
    columns=st.integers(1, 8),
    chunks=st.integers(1, 9),
    centre=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_leading_spectrum__any_small_data(rows, columns, chunks, centre, seed):
    """Duplicates, constant columns, fewer rows than columns: where the sketch spans everything it is exact."""
    random = np.random.default_rng(seed)
    X = random.integers(0, 3, (rows, columns)).astype(float)
    X[:, 0] = 1.0
    with sketch_blocks(X, chunks) as blocks:
        found = sketch.leading_spectrum(blocks, columns, 10, 4, np.random.RandomState(seed), centre=centre)
    rest = X - X.mean(axis=0) if centre else X
    expected = np.linalg.svd(rest, compute_uv=False)
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    np.testing.assert_allclose(found.spread, ((X - X.mean(axis=0)) ** 2).sum(), atol=1e-9)
    np.testing.assert_allclose(found.mean, X.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(found.vectors @ found.vectors.T, np.eye(len(found.vectors)), atol=1e-9)


def sketch_blocks(X, chunks):
    from tasks.methods.blocks import open_blocks

    return open_blocks(da.from_array(X, (chunks, -1)), name="Test")


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("chunks", [2000, 37])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_components": 7, "batch_size": 50},
        {"n_components": 7, "batch_size": 100, "whiten": True},
        {"n_components": 12, "batch_size": 89},  # the last batch of digits has too few rows, and joins the one before
    ],
)
@pytest.mark.parametrize("data", ["digits", "wine"])
def test_incremental_pca__is_scikit_learns_in_any_chunks(data, options, chunks, dtype):
    X = DATA[data][:450].astype(dtype)
    lazy = da.from_array(X, (chunks, 30))
    reference, ours = decomposition.IncrementalPCA(**options).fit(X), IncrementalPCA(**options).fit(lazy)
    assert fitted(ours) == fitted(reference)
    for word in fitted(reference):
        np.testing.assert_array_equal(getattr(ours, word), getattr(reference, word), err_msg=word)
    projected = ours.transform(lazy)
    assert (projected.shape, projected.dtype) == (projected.compute().shape, projected.compute().dtype)
    scale = np.abs(X).max() * (1e-12 if dtype == np.float64 else 1e-5)
    np.testing.assert_allclose(projected, reference.transform(X), atol=scale)
    np.testing.assert_allclose(
        ours.inverse_transform(projected), reference.inverse_transform(reference.transform(X)), atol=20 * scale
    )
    np.testing.assert_array_equal(lazy.compute(), DATA[data][:450].astype(dtype))


def test_incremental_pca__goes_on_from_a_dask_fit():
    ours = IncrementalPCA(5).fit(da.from_array(DIGITS[:1000], (300, 64))).partial_fit(DIGITS[1000:])
    reference = decomposition.IncrementalPCA(5).fit(DIGITS[:1000]).partial_fit(DIGITS[1000:])
    np.testing.assert_array_equal(ours.components_, reference.components_)
    with pytest.raises(TypeError, match="use fit, which cuts it into batches"):
        ours.partial_fit(da.from_array(DIGITS))
    with pytest.raises(ValueError, match="must be less or equal to the batch number of samples"):
        IncrementalPCA(30, batch_size=40).fit(da.from_array(DIGITS[:20]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("chunks", [2000, 170])
@pytest.mark.parametrize("data", DATA)
def test_truncated_svd__converges_to_the_exact_one(data, chunks, dtype):
    X = DATA[data]
    lazy = da.from_array(X.astype(dtype), (chunks, 7))
    exact = decomposition.TruncatedSVD(5, algorithm="arpack").fit(X)
    ours = TruncatedSVD(5, n_iter=12, random_state=0)
    projected = ours.fit_transform(lazy)
    assert fitted(ours) == fitted(exact)
    rounding = 1e-7 if dtype == np.float64 else 1e-4
    scale = exact.singular_values_[0]
    np.testing.assert_allclose(ours.singular_values_, exact.singular_values_, atol=rounding * scale)
    np.testing.assert_allclose(ours.explained_variance_ratio_, exact.explained_variance_ratio_, atol=10 * rounding)
    np.testing.assert_allclose(projected, exact.transform(X), atol=10 * rounding * scale)
    np.testing.assert_allclose(
        ours.inverse_transform(projected), exact.inverse_transform(exact.transform(X)), atol=10 * rounding * scale
    )


def test_truncated_svd__sparse_input_is_scikit_learns_and_constant_data_explains_nothing():
    X = scipy.sparse.csr_matrix(np.where(DIGITS > 12, DIGITS, 0))
    ours = TruncatedSVD(5, random_state=0).fit(X)
    reference = decomposition.TruncatedSVD(5, random_state=0).fit(X)
    np.testing.assert_array_equal(ours.components_, reference.components_)
    flat = TruncatedSVD(2, random_state=0).fit(da.ones((9, 4), chunks=(4, 4)))
    np.testing.assert_array_equal(flat.explained_variance_ratio_, 0)
    np.testing.assert_allclose(flat.singular_values_, [6, 0], atol=1e-9)


def test_truncated_svd__refuses():
    lazy = da.from_array(DIGITS, (500, 64))
    with pytest.raises(ValueError, match="expected algorithm 'randomized' for a Dask array, received 'arpack'"):
        TruncatedSVD(algorithm="arpack").fit(lazy)
    with pytest.raises(ValueError, match=r"n_components\(65\) must be <= n_features\(64\)"):
        TruncatedSVD(65).fit(lazy)
    with pytest.raises(ValueError, match="expected 2 columns, one per component"):
        TruncatedSVD(2).fit(lazy).inverse_transform(lazy)


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float64, 1e-9), (np.float32, 2e-3)])
def test_truncated_svd__variance_far_from_zero(dtype, rounding):
    """The first component is the offset itself; what varies along it is 1e-8 of its square."""
    X = (np.random.default_rng(0).normal(size=(500, 6)) * [3, 2, 1, 1, 1, 1] + 1e4).astype(dtype)
    exact = decomposition.TruncatedSVD(3, algorithm="arpack").fit(X.astype(np.float64))
    for chunks in (500, 61):
        ours = TruncatedSVD(3, n_iter=10, random_state=0).fit(da.from_array(X, (chunks, 6)))
        np.testing.assert_allclose(ours.singular_values_, exact.singular_values_, rtol=rounding)
        np.testing.assert_allclose(ours.explained_variance_, exact.explained_variance_, rtol=rounding)
        np.testing.assert_allclose(ours.explained_variance_ratio_, exact.explained_variance_ratio_, rtol=rounding)
