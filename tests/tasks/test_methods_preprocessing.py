"""The scaler against scikit-learn's, on NumPy and on Dask arrays; and why it is not dask-ml's."""

from __future__ import annotations

import warnings

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler as Reference

from tasks import methods

WINE = np.column_stack([load_wine().data, np.full(178, 0.1), np.zeros(178), np.full(178, 1e8)])


@pytest.mark.parametrize("options", [{}, {"with_mean": False}, {"with_std": False}])
@pytest.mark.parametrize("chunks", [178, 25])
def test_fit__as_scikit_learn(options, chunks):
    X = da.from_array(WINE, (chunks, 5))
    reference, ours = Reference(**options).fit(WINE), methods.StandardScaler(**options).fit(X)
    for name in ("mean_", "var_", "scale_"):
        expected, found = getattr(reference, name), getattr(ours, name)
        if expected is None:
            assert found is None
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    assert ours.n_samples_seen_ == 178
    scaled = ours.transform(X)
    assert isinstance(scaled, da.Array)
    np.testing.assert_allclose(scaled.compute(), reference.transform(WINE), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.inverse_transform(scaled).compute(), WINE, rtol=1e-12)
    np.testing.assert_allclose(ours.transform(WINE), reference.transform(WINE), rtol=1e-9, atol=1e-9)


def test_fit__numpy_is_scikit_learns_own_work():
    with_gap = WINE.copy()
    with_gap[3, 3] = np.nan
    ours, reference = methods.StandardScaler().fit(with_gap), Reference().fit(with_gap)
    np.testing.assert_array_equal(ours.mean_, reference.mean_)
    np.testing.assert_array_equal(ours.partial_fit(WINE).scale_, reference.partial_fit(WINE).scale_)


def test_transform__leaves_the_input_alone():
    X = WINE.copy()
    methods.StandardScaler().fit(X).transform(X)
    np.testing.assert_array_equal(X, WINE)


def test_dask_ml__writes_into_its_input():
    """The reason for a scaler of our own; if this fails, dask-ml's can be looked at again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preprocessing = pytest.importorskip("dask_ml.preprocessing")
    X = WINE.copy()
    preprocessing.StandardScaler().fit(da.from_array(WINE, (50, 16))).transform(X)
    assert not np.array_equal(X, WINE)


def test_transform__float32_stays_float32():
    X = da.from_array(WINE.astype(np.float32), (50, 16))
    scaled = methods.StandardScaler().fit(X).transform(X)
    assert scaled.dtype == scaled.compute().dtype == np.float32


def test_fit__refuses_what_it_cannot_do_on_blocks():
    X = da.from_array(WINE, (50, 16))
    with pytest.raises(ValueError, match="expected no sample_weight with a Dask array"):
        methods.StandardScaler().fit(X, sample_weight=np.ones(178))
    with pytest.raises(TypeError, match="use fit, which is one pass"):
        methods.StandardScaler().partial_fit(X)
    holes = da.where(X > 100, np.nan, X)
    with pytest.raises(ValueError, match="contains NaN"):
        methods.StandardScaler().fit(holes)
