"""Keras when it is needed, and random numbers that depend on the seed alone."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from storage.keyed import key_of

EXTRA = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax[cpu]"}


def load_keras() -> ModuleType:
    """Import Keras, with TensorFlow behind it unless ``KERAS_BACKEND`` says otherwise.

    Raises
    ------
    ModuleNotFoundError
        If Keras or its backend is not installed; says how to install it.
    """
    # Also what Keras takes by itself, if no ~/.keras/keras.json says otherwise: a run must not depend on that file.
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    for module in ("keras", backend):
        if find_spec(module) is None:
            cure = "duskflow[tensorflow]" if backend == "tensorflow" or module == "keras" else EXTRA.get(module, module)
            raise ModuleNotFoundError(
                f"networks need {module} (KERAS_BACKEND={backend}), which is not installed; pip install '{cure}'"
            )
    import keras

    return keras


class Seeds:
    """Seeds for the parts of one model, addressed by name.

    Keras draws missing seeds from Python's global `random`, which Dask's event loop uses at unpredictable times, so
    every initializer and every dropout needs one of its own.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, name: str) -> int:
        """Seed of one part, 0 to 2**31 - 1."""
        return key_of(self.seed, "network", name) & 0x7FFFFFFF

    def glorot(self, name: str) -> Any:
        """Glorot and Bengio's uniform initializer."""
        return load_keras().initializers.GlorotUniform(seed=self(name))

    def he(self, name: str) -> Any:
        """He's normal initializer, for layers with ReLU."""
        return load_keras().initializers.HeNormal(seed=self(name))
