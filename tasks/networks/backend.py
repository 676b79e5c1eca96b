"""Keras when it is needed, and random numbers that depend on the seed alone."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from storage.keyed import key_of

_BANNER = (
    b"All log messages before absl::InitializeLog",
    b"oneDNN custom operations are on",
    b"This TensorFlow binary is optimized",
    b"To enable the following instructions",
)
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
    if "keras" not in sys.modules:
        with _without_banner():
            import keras
    import keras

    return keras


@contextmanager
def _without_banner() -> Iterator[None]:
    """Hold back what TensorFlow prints about its build while it is loaded; whatever else is printed comes after.

    No setting silences these lines: they are written before TensorFlow has read its settings, by C++, so past
    Python's `sys.stderr`.
    """
    try:
        saved = os.dup(2)
    except OSError:  # a process without a standard error
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            rest = [line for line in held if not any(part in line for part in _BANNER)]
            os.write(2, b"".join(rest))


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
