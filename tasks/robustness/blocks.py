"""What a worker does with one block of rows: read it, add the noise, remove it, let a network predict."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from storage.dataset import open_dataset
from tasks.networks.vocabulary import Vocabulary
from tasks.noising import apply_noise
from tasks.training import artifacts
from tasks.training.data import PREDICT_BATCH


def read_block(path: str, start: int, stop: int, noise: Any, seed: int) -> Any:
    """Read rows of a dataset and add a noise, as a stored copy would hold them.

    Returns
    -------
    ndarray of uint8, shape (stop - start, height, width, channel), or list of str
    """
    dataset = open_dataset(path)
    values = dataset.read(start, stop)
    if isinstance(values, np.ndarray):
        values = np.array(values)  # not a map of the file: the block outlives this task
    return values if noise is None else apply_noise(noise, values, dataset.column("ids", start, stop), seed)


def denoise_block(folder: str, values: np.ndarray) -> np.ndarray:
    """Let a saved reconstruction remove the noise of images; uint8 in and out."""
    from tasks.training.scoring import as_bytes, predict

    cleaned = [as_bytes(images) for images in predict(_model_in(folder), _batches(values))]
    result = np.concatenate(cleaned)
    if result.shape != values.shape:
        raise ValueError(f"expected denoised images of shape {values.shape}, received {result.shape} from {folder}")
    return result


def predict_block(folder: str, length: int | None, values: Any) -> np.ndarray:
    """Let a saved classifier predict.

    Parameters
    ----------
    folder : str
        Of the network's result.
    length : int or None
        Tokens per text; None for images.
    values : ndarray of uint8 or list of str

    Returns
    -------
    ndarray of int64, shape (n,)
        Classes.
    """
    from tasks.training.scoring import predict

    if length is not None:
        words = (Path(folder) / artifacts.VOCABULARY).read_text("utf-8")
        values = _vocabulary(words).encode(values, length)
    found = [probabilities.argmax(axis=1) for probabilities in predict(_model_in(folder), _batches(values))]
    return np.concatenate(found).astype(np.int64)


def _batches(values: np.ndarray) -> list[np.ndarray]:
    return [values[low : low + PREDICT_BATCH] for low in range(0, len(values), PREDICT_BATCH)]


def _model_in(folder: str) -> Any:
    # By the time it was written: a network that was trained again lies in the same folder.
    return _model(folder, (Path(folder) / artifacts.MODEL).stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _model(folder: str, written: int) -> Any:
    """Loaded once per process, not once per block."""
    from tasks.training.device import prepare_device

    prepare_device()
    return artifacts.load_model(folder)


@lru_cache(maxsize=4)
def _vocabulary(words: str) -> Vocabulary:
    return Vocabulary.from_json(words)


def forget_models() -> None:
    """Let go of the models that this process holds."""
    _model.cache_clear()
    _vocabulary.cache_clear()
