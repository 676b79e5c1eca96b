"""Score a trained network on the test split of every dataset, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from storage.dataset import Dataset
from tasks.scores import classification_score, psnr
from tasks.training.data import BLOCK, PREDICT_BATCH

EXAMPLES = 12
"""Images of each kind that are kept for the report."""


def scored_split(dataset: Dataset) -> str:
    """Name of the split that is scored: the test split where there is one, as for methods."""
    return "test" if "test" in dataset.splits else "train"


def predict(model: Any, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Predict batch by batch, float32; all batches but the last have `PREDICT_BATCH` samples."""
    for values in inputs:
        count = len(values)
        if count < PREDICT_BATCH:
            # One shape for all calls: another one would be compiled anew, which takes longer than the batch.
            values = np.concatenate([values, np.repeat(values[-1:], PREDICT_BATCH - count, axis=0)])
        yield np.asarray(_as_numpy(model.predict_on_batch(values)), np.float32)[:count]


def score_classes(
    model: Any, pairs: Iterable[tuple[np.ndarray, np.ndarray]], classes: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Score a classifier on pairs of inputs and labels, a batch each.

    Returns
    -------
    dict
        Measure, value, times and confusion matrix.
    ndarray of int64, shape (rows,)
        Predicted classes.
    """
    begun = time.perf_counter()
    labels, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]

    def inputs() -> Iterator[np.ndarray]:
        for values, codes in pairs:
            labels.append(np.asarray(codes, np.int64))
            yield values

    found += [probabilities.argmax(axis=1) for probabilities in predict(model, inputs())]
    predicted, true = np.concatenate(found), np.concatenate(labels)
    seconds = time.perf_counter() - begun
    return {"predict_seconds": seconds, "rows": len(true), **classification_score(true, predicted, classes)}, predicted


def score_images(
    model: Any, noisy: Dataset, clean: Dataset, split: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score a reconstruction: how much nearer to the clean images its output is than its input.

    Returns
    -------
    dict
        The gain in dB; in `extra` the peak signal-to-noise ratio before and after, and the mean squared error after
        (of images from 0 to 1). Where input and target are the same images, the value is the ratio itself.
    dict of ndarray
        The first few images: ``clean``, ``noisy``, ``denoised``.
    """
    rows, sums, seconds = clean.rows(split), np.zeros(3), 0.0
    examples: dict[str, np.ndarray] = {}
    for start in range(rows.start, rows.stop, BLOCK):
        stop = min(start + BLOCK, rows.stop)
        before, target = np.asarray(noisy.read(start, stop)), np.asarray(clean.read(start, stop))
        begun = time.perf_counter()
        parts = (before[low : low + PREDICT_BATCH] for low in range(0, len(before), PREDICT_BATCH))
        after = np.concatenate([as_bytes(images) for images in predict(model, parts)])
        seconds += time.perf_counter() - begun
        squares = np.mean((after.astype(np.float32) - target) ** 2, dtype=np.float64) / 255**2
        sums += np.array([psnr(target, before), psnr(target, after), squares]) * len(target)
        if not examples:
            examples = {"clean": target[:EXAMPLES], "noisy": before[:EXAMPLES], "denoised": after[:EXAMPLES]}
    count = rows.stop - rows.start
    noise, restored, error = (float(value) for value in sums / count)
    score: dict[str, Any] = {"predict_seconds": seconds, "rows": count, "confusion": None}
    if noisy.version == clean.version:
        score |= {"measure": "PSNR (dB)", "value": restored, "extra": {"mse": error}}
    else:
        extra = {"psnr_noisy": noise, "psnr_denoised": restored, "mse": error}
        score |= {"measure": "PSNR gain (dB)", "value": restored - noise, "extra": extra}
    return score, examples


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images from 0 to 1 as uint8."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _as_numpy(values: Any) -> np.ndarray:
    from keras.ops import convert_to_numpy

    return np.asarray(convert_to_numpy(values))
