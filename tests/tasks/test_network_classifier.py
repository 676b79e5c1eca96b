"""A network with scikit-learn's words: learns, pickles in the middle, and is chosen by searches."""

from __future__ import annotations

import pickle

import dask.array as da
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from tasks import methods, networks

X, Y = load_digits(return_X_y=True)
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[Y]


def classifier(**settings):
    return networks.NetworkClassifier(networks.lenet5(learning_rate=3e-3), largest=16.0, **settings)


def test_fit__learns_and_names_the_classes():
    model = classifier(epochs=6).fit(X[:1200], NAMES[:1200])
    assert model.score(X[1200:], NAMES[1200:]) > 0.8
    np.testing.assert_allclose(model.predict_proba(X[:9]).sum(axis=1), 1, rtol=1e-5)
    assert set(model.predict(X[:50])) <= set(NAMES)
    images = np.rint(X[:9] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    np.testing.assert_allclose(
        model.model_.predict(images, verbose=0), model.predict_proba(X[:9]), rtol=1e-4, atol=1e-6
    )


def test_partial_fit__a_pickle_goes_on_where_it_was():
    """Weights, the optimiser and the order of rows: the same numbers, and no leak between copies."""
    one = classifier().partial_fit(X[:500], Y[:500], classes=np.arange(10))
    other = pickle.loads(pickle.dumps(one))
    before = one.predict_proba(X[:20])
    other.partial_fit(X[500:900], Y[500:900])
    np.testing.assert_array_equal(one.predict_proba(X[:20]), before)
    one.partial_fit(X[500:900], Y[500:900])
    np.testing.assert_allclose(other.predict_proba(X[:20]), one.predict_proba(X[:20]), rtol=1e-5, atol=1e-7)
    assert np.abs(before - one.predict_proba(X[:20])).max() > 1e-3


def test_search__of_a_learning_rate_over_blocks():
    search = methods.HyperbandSearchCV(
        classifier(batch_size=32), {"learning_rate": [1e-7, 3e-3]}, max_resources=3, random_state=1
    )
    search.fit(da.from_array(X[:900], (300, 64)), Y[:900])
    assert search.best_params_ == {"learning_rate": 3e-3}
    assert search.best_score_ > 0.3


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"shape": (8, 9, 1)}, (X, Y), r"expected rows of 8 x 9 x 1 = 72 pixels, received 64 columns"),
        ({}, (X[:, :60], Y), "give shape="),
        ({}, (X, np.zeros(len(X), int)), "at least two classes"),
        ({}, (np.where(X > 15, np.nan, X), Y), "contains NaN"),
        ({"network": networks.denoising_autoencoder()}, (X, Y), "expected a network that classifies images"),
        ({"network": 3}, (X, Y), "expected a network such as networks.lenet5"),
    ],
)
def test_fit__refuses(settings, data, message):
    with pytest.raises((ValueError, TypeError), match=message):
        clone(networks.NetworkClassifier()).set_params(**settings).fit(*data)


def test_partial_fit__refuses_a_class_that_was_not_named():
    model = classifier().partial_fit(X[:100], Y[:100], classes=np.arange(10))
    with pytest.raises(ValueError, match=r"received \[11\]; name all in classes="):
        model.partial_fit(X[:20], np.full(20, 11))
