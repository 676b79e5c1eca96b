"""Scaling by extremes against scikit-learn's."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from sklearn import preprocessing
from sklearn.datasets import load_digits

from tasks.methods import scaling

X = load_digits().data


@pytest.mark.parametrize("chunks", [100, 1797])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("name", "options"), [("MinMaxScaler", {}), ("MinMaxScaler", {"feature_range": (-2, 3)}), ("MaxAbsScaler", {})]
)
def test_fit__as_scikit_learn(name, options, dtype, chunks):
    rows = X.astype(dtype) - 3
    theirs = getattr(preprocessing, name)(**options).fit(rows)
    lazy = da.from_array(rows, (chunks, 30))
    ours = getattr(scaling, name)(**options).fit(lazy)
    assert ours.n_samples_seen_ == theirs.n_samples_seen_
    np.testing.assert_array_equal(ours.scale_, theirs.scale_)
    found = ours.transform(lazy)
    assert isinstance(found, da.Array)
    assert found.dtype == found.compute().dtype == dtype
    np.testing.assert_allclose(found, theirs.transform(rows), rtol=1e-6)
    np.testing.assert_allclose(ours.inverse_transform(found), rows, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError, match="use fit, which is one pass"):
        ours.partial_fit(lazy)
