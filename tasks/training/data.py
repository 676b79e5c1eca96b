"""From datasets to what Keras reads: feeds of images or of tokens, and pairs of model input and target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.dataset import Dataset
from storage.feeding.batches import batches
from storage.feeding.feed import Batches
from storage.feeding.memory import SHARE
from storage.feeding.sequences import Sequences
from tasks.networks.vocabulary import PADDING, Vocabulary

BLOCK = 4096
"""Samples that are read at a time where all of a split is read."""
PREDICT_BATCH = 256
"""Samples per batch of a prediction: no gradients are kept, so more than in a training step."""


@dataclass(frozen=True)
class AsInEpoch0:
    """A noise that does not change from epoch to epoch: losses of different epochs are then of the same samples."""

    noise: Any

    @property
    def kind(self) -> str:
        """What it is a noise for."""
        return str(self.noise.kind)

    def __call__(self, samples: Any, ids: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Any:
        """See `tasks.noise.protocol.Noise`."""
        return self.noise(samples, ids, seed=seed, epoch=0)


def image_feed(
    inputs: Dataset,
    clean: Dataset | None,
    batch_size: int,
    seed: int,
    split: str,
    shuffle: bool,
    augment: Any = None,
) -> Batches:
    """Batches of images, uint8, with their labels or with the clean images of the same rows.

    Parameters
    ----------
    inputs : Dataset
    clean : Dataset or None
        The targets; None: the targets are the labels.
    augment : Noise, optional
        Changes the images, anew in every epoch of training; in storage order always as in epoch 0.
    """
    return _within_worker(
        inputs,
        batch_size,
        seed=seed,
        split=split,
        shuffle=shuffle,
        columns=("values", "labels" if clean is None else "targets"),
        noise=augment if shuffle or augment is None else AsInEpoch0(augment),
        targets=clean,
    )


def text_feed(
    dataset: Dataset,
    vocabulary: Vocabulary,
    length: int,
    batch_size: int,
    seed: int,
    split: str,
    shuffle: bool,
    augment: Any = None,
) -> Batches:
    """Batches of token codes, int32 (n, length), as `Vocabulary.encode` gives them, with their labels.

    Encoded once and kept; with a noise, anew for every epoch.
    """
    sequences = Sequences(vocabulary.ragged, length, "pad", keep="tail", padding="before", fill=PADDING)
    return _within_worker(
        dataset,
        batch_size,
        seed=seed,
        split=split,
        shuffle=shuffle,
        columns=("values", "labels"),
        noise=augment,
        sequences=sequences,
    )


def _within_worker(dataset: Dataset, batch_size: int, **options: Any) -> Batches:
    """Batches that hold no more than a share of a Dask worker's memory: it is restarted where it takes too much.

    Where that is too little for the order, which must not depend on the worker, they hold what is needed.
    """
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except (ValueError, AttributeError):  # not on a worker; a worker without a memory manager
        limit = None
    if limit:
        try:
            return batches(dataset, batch_size, memory=int(limit) // SHARE, **options)
        except ValueError:  # also what else is wrong, which is said again
            pass
    return batches(dataset, batch_size, **options)


def as_pair(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch with targets as float32 from 0 to 1, where they are images."""
    if "targets" not in batch:
        return batch
    return batch | {"targets": batch["targets"].astype(np.float32) * np.float32(1 / 255)}


def pairs(feed: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Model input and target of every batch of a feed's epoch."""
    for batch in map(as_pair, feed):
        yield batch["values"], batch["targets"] if "targets" in batch else batch["labels"]


def text_blocks(dataset: Dataset, split: str) -> Iterator[list[str]]:
    """The texts of one split, a block at a time, in storage order."""
    rows = dataset.rows(split)
    for start in range(rows.start, rows.stop, BLOCK):
        yield list(dataset.read(start, min(start + BLOCK, rows.stop)))
