"""What a training leaves in its folder: each file is whole or absent."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage.durable import PARTIAL, fsync_folder, make_folder, replace

MODEL, VOCABULARY, PREDICTIONS, EXAMPLES = "model.keras", "vocabulary.json", "predictions.npz", "examples.npz"


def open_folder(folder: str | Path) -> Path:
    """Make the folder, and remove what a killed training left half-written in it."""
    path = Path(folder)
    make_folder(path)
    for left in path.glob(f"*{PARTIAL}*"):
        left.unlink(missing_ok=True)
    return path


def save_model(folder: Path, model: Any) -> None:
    """Save a model, ready to predict: without its optimizer, whose state is twice as large as the weights."""
    # Keras insists on the ending.
    partial = folder / f"model-{os.getpid()}-{uuid.uuid4().hex[:8]}{PARTIAL}.keras"
    try:
        _to_predict(model).save(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, folder / MODEL)
    finally:
        partial.unlink(missing_ok=True)
    fsync_folder(folder)


def load_model(folder: str | Path) -> Any:
    """Load what `save_model` wrote, ready to predict.

    Raises
    ------
    ValueError
        If Keras cannot make it again.
    """
    import keras

    path = Path(folder) / MODEL
    try:
        return keras.saving.load_model(path, compile=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected a model that Keras can load, received {path} ({error}); register its own layers with "
            "keras.saving.register_keras_serializable, or train it again"
        ) from error


def _to_predict(model: Any) -> Any:
    """The same layers as a model that is not compiled. Keras has no such option: it ignores ``include_optimizer``."""
    import keras

    if isinstance(model, keras.Sequential) or type(model).__name__ == "Functional":
        return keras.Model(model.inputs, model.outputs, name=model.name)
    return model


def save_arrays(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Save named arrays as a compressed npz file; names may hold slashes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    replace(folder / name, buffer.getvalue())


def save_text(folder: Path, name: str, text: str) -> None:
    """Save a text as UTF-8."""
    replace(folder / name, text.encode())
