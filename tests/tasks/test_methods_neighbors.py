"""k nearest neighbours against scikit-learn and against a plain sort of all distances."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier as Reference

from tasks import methods


def all_neighbors(X, Q, k):
    squares = ((Q[:, None, :].astype(float) - X[None].astype(float)) ** 2).sum(-1)
    ids = np.lexsort((np.broadcast_to(np.arange(len(X)), squares.shape), squares), axis=-1)[:, :k]
    return np.sqrt(np.take_along_axis(squares, ids, axis=1)), ids


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X, y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", [None, 1200, 100, 7 * 37])
def test_predict__digits_as_scikit_learn(digits, chunks, dtype):
    X, y = digits[0].astype(dtype), digits[1]
    train, queries = X[:1200], X[1200:]
    if chunks:
        train, queries = da.from_array(train, (chunks, 30)), da.from_array(queries, (100, 64))
    ours = methods.KNeighborsClassifier(5).fit(train, y[:1200])
    distances, ids = ours.kneighbors(queries)
    expected_distances, expected_ids = all_neighbors(X[:1200], X[1200:], 5)
    np.testing.assert_array_equal(np.asarray(ids), expected_ids)
    np.testing.assert_allclose(np.asarray(distances), expected_distances, rtol=1e-12)
    reference = Reference(5).fit(X[:1200], y[:1200])
    np.testing.assert_allclose(np.asarray(distances), reference.kneighbors(X[1200:])[0], rtol=1e-6)
    predicted = ours.predict(queries)
    assert isinstance(predicted, da.Array if chunks else np.ndarray)
    np.testing.assert_array_equal(np.asarray(predicted), reference.predict(X[1200:]))
