"""One-hot encoding: as scikit-learn's, on blocks of numbers and strings."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import OneHotEncoder as Reference

from tasks.methods import OneHotEncoder

NAMES = np.array([["cat", "x"], ["dog", "y"], ["cat", "zebra"], ["ape", "x"], ["dog", "y"]])
CHOICES = [{}, {"drop": "first"}, {"drop": "if_binary"}, {"sparse_output": False}, {"dtype": np.float32}]


def dense(values):
    return values.toarray() if hasattr(values, "toarray") else values


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("data", [NAMES, NAMES.astype(object), np.arange(12).reshape(6, 2) % 5, np.eye(4) > 0])
def test_fit__as_scikit_learn(choice, data):
    reference = Reference(**choice).fit(data)
    for chunks in ((2, 1), (len(data), data.shape[1])):
        ours = OneHotEncoder(**choice).fit(da.from_array(data, chunks))
        assert [list(one) for one in ours.categories_] == [list(one) for one in reference.categories_]
        lazy = ours.transform(da.from_array(data, chunks))
        found = lazy.compute()
        assert (lazy.shape, lazy.dtype) == (found.shape, found.dtype)
        np.testing.assert_array_equal(dense(found), dense(reference.transform(data)))
        np.testing.assert_array_equal(ours.inverse_transform(lazy).compute(), data)
        assert list(ours.get_feature_names_out()) == list(reference.get_feature_names_out())


@settings(max_examples=25)
@given(data=arrays(np.float64, (7, 2), elements=st.sampled_from([0.0, -0.0, 1.5, np.nan, -2.0])), cut=st.integers(1, 7))
def test_fit__missing_values_are_a_category(data, cut):
    ours = OneHotEncoder(sparse_output=False).fit(da.from_array(data, (cut, 2)))
    np.testing.assert_array_equal(
        ours.transform(da.from_array(data, (cut, 2))).compute(), Reference(sparse_output=False).fit_transform(data)
    )


def test_transform__is_lazy_and_knows_empty_blocks():
    data = da.from_array(NAMES, (2, 2))
    ours = OneHotEncoder().fit(data)

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        lazy = ours.transform(data)
    empty = da.concatenate([data[:0], data])
    np.testing.assert_array_equal(ours.transform(empty).compute().toarray(), lazy.compute().toarray())


def test_transform__unknown_categories():
    data = da.from_array(NAMES, (2, 2))
    other = da.from_array(np.array([["cow", "x"]]), (1, 2))
    with pytest.raises(ValueError, match="Found unknown categories"):
        OneHotEncoder().fit(data).transform(other).compute()
    ignored = OneHotEncoder(handle_unknown="ignore").fit(data).transform(other).compute().toarray()
    np.testing.assert_array_equal(ignored, [[0, 0, 0, 1, 0, 0]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (da.ones(5), "expected 2D array"),
        (da.ones((0, 3)), "at least one row"),
        (da.ones((6, 2), chunks=2)[da.ones(6, chunks=2) > 0], "compute_chunk_sizes"),
        (da.ones((2, 2), dtype="c16"), "expected numbers or strings"),
    ],
)
def test_fit__refuses(data, message):
    with pytest.raises(ValueError, match=message):
        OneHotEncoder().fit(data)
    with pytest.raises(ValueError, match="no min_frequency and no max_categories"):
        OneHotEncoder(min_frequency=2).fit(da.from_array(NAMES, (2, 2)))
    with pytest.raises(ValueError, match="X has 1 features, but OneHotEncoder is expecting 2"):
        OneHotEncoder().fit(da.from_array(NAMES, (2, 2))).transform(da.from_array(NAMES[:, :1], (2, 1)))
