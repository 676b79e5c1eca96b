"""A network with scikit-learn's words, so that searches can choose its settings like those of any classifier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tasks.networks.backend import load_keras
from tasks.networks.protocol import check_network

_ROWS = 256
"""Rows of a call."""

_SPARE = 2
"""Models that wait to be lent, for each choice of settings."""

_SHELVES: dict[Any, list[Any]] = {}


class NetworkClassifier(ClassifierMixin, BaseEstimator):
    """A classifying network of images that learns from rows of pixels, block by block.

    For searches (`HalvingSearchCV`, `HyperbandSearchCV`): every call of `partial_fit` is one pass over the rows it
    gets. It pickles with weights and optimiser, wherever a search sends it. To train on a stored dataset, give a
    pipeline the network itself.

    Parameters
    ----------
    network : Network, optional
        Such as ``networks.lenet5()``, which is also what None stands for.
    shape : tuple of int, optional
        Height, width and channels of an image; a square of one channel if not given.
    learning_rate, batch_size, epochs : optional
        In place of the network's own. `epochs` are the passes of `fit`.
    largest : float, default 1.0
        What the brightest pixel is in the data: 1 for features as pipelines make them, 255 for raw pixels.
    random_state : int, default 0
        Of the initial weights and the order of rows.

    Attributes
    ----------
    classes_ : ndarray
    model_ : keras.Model
        A copy with what was learned.
    n_features_in_ : int

    Notes
    -----
    What was learned is held as arrays. Models are compiled once for each choice of settings in a process and lent to
    whichever copy trains; a search makes many.
    """

    def __init__(
        self,
        network: Any = None,
        *,
        shape: tuple[int, int, int] | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        largest: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.network = network
        self.shape = shape
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.largest = largest
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train from new weights.

        Parameters
        ----------
        X : ndarray, shape (n, height * width * channels)
        y : array-like, shape (n,)
        """
        self._begin(X, y, np.unique(y))
        for _ in range(self._settings().epochs):
            self._pass(X, y)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Train one pass over these rows, on from what was learned.

        Parameters
        ----------
        classes : array-like, optional
            All classes that there are; needed in the first call unless these rows have them all.
        """
        if not hasattr(self, "_learned"):
            self._begin(X, y, np.unique(y if classes is None else classes))
        self._pass(X, y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, float32 (n, classes)."""
        check_is_fitted(self, "classes_")
        images, convert = self._images(X), load_keras().ops.convert_to_numpy
        with self._lent() as model:
            # Called, not `predict`, which is compiled for every model and length.
            parts = [convert(model(images[low : low + _ROWS], training=False)) for low in range(0, len(images), _ROWS)]
        return np.concatenate(parts)

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class of each row."""
        likeliest: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return likeliest

    @property
    def model_(self) -> Any:
        check_is_fitted(self, "classes_")
        model = self._settings().build(self._shape, len(self.classes_), seed=self.random_state)
        _put(model, self._learned)
        return model

    def _settings(self) -> Any:
        from tasks.networks.convolutional import lenet5

        network = lenet5() if self.network is None else self.network
        check_network(network)
        if (network.kind, network.task) != ("images", "classification"):
            raise ValueError(f"expected a network that classifies images, received {network}")
        chosen = {"learning_rate": self.learning_rate, "batch_size": self.batch_size, "epochs": self.epochs}
        return replace(network, **{name: value for name, value in chosen.items() if value is not None})

    def _begin(self, X: Any, y: Any, classes: np.ndarray) -> None:
        X, y = validate_data(self, X, y, dtype=None)
        check_classification_targets(y)
        if len(classes) < 2:
            raise ValueError(f"expected at least two classes, received {len(classes)} class")
        self.classes_ = classes
        self._shape = self._image_shape()
        self._passes = 0
        model = self._settings().build(self._shape, len(classes), seed=self.random_state)
        model.optimizer.build(model.trainable_variables)
        self._learned = _take(model)

    def _image_shape(self) -> tuple[int, int, int]:
        columns = self.n_features_in_
        side = round(columns**0.5)
        height, width, channels = (side, side, 1) if self.shape is None else self.shape
        if height * width * channels != columns:
            raise ValueError(
                f"expected rows of {height} x {width} x {channels} = {height * width * channels} pixels, received "
                f"{columns} columns; give shape=(height, width, channels)"
            )
        return height, width, channels

    def _pass(self, X: Any, y: Any) -> None:
        images = self._images(X)
        codes = np.searchsorted(self.classes_, y)
        wrong = (codes >= len(self.classes_)) | (self.classes_[np.minimum(codes, len(self.classes_) - 1)] != y)
        if wrong.any():
            others = np.unique(np.asarray(y)[wrong]).tolist()
            raise ValueError(f"expected labels among {self.classes_.tolist()}, received {others}; name all in classes=")
        order = np.random.default_rng([self.random_state, self._passes]).permutation(len(images))
        size = self._settings().batch_size
        with self._lent() as model:
            for low in range(0, len(order), size):
                rows = order[low : low + size]
                model.train_on_batch(images[rows], codes[rows])
            self._learned = _take(model)
        self._passes += 1

    def _images(self, X: Any) -> np.ndarray:
        X = validate_data(self, X, dtype=None, reset=False)
        pixels = np.clip(np.rint(np.asarray(X, np.float32) * (255 / self.largest)), 0, 255)
        return pixels.astype(np.uint8).reshape(-1, *self._shape)

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        """Lend a compiled model that has learned what this one has."""
        settings = self._settings()
        shelf = _SHELVES.setdefault((repr(settings), self._shape, len(self.classes_)), [])
        try:
            model = shelf.pop()
        except IndexError:
            model = settings.build(self._shape, len(self.classes_), seed=self.random_state)
        _put(model, self._learned)
        try:
            yield model
        finally:
            if len(shelf) < _SPARE:
                shelf.append(model)


def _take(model: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return weights and the optimiser's state."""
    return model.get_weights(), [np.array(variable.numpy()) for variable in model.optimizer.variables]


def _put(model: Any, learned: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    weights, state = learned
    model.set_weights(weights)
    model.optimizer.build(model.trainable_variables)
    for variable, value in zip(model.optimizer.variables, state, strict=True):
        variable.assign(value)
