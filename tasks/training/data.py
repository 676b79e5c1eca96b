"""From datasets to what Keras reads: batches in a reproducible order, and texts as rows of token codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from storage.dataset import Dataset
from storage.feeding.batches import batches
from storage.feeding.order import EpochOrder
from tasks.networks.vocabulary import Vocabulary

BLOCK = 4096
"""Samples that are read at a time where all of a split is read."""
PREDICT_BATCH = 256
"""Samples per batch of a prediction: no gradients are kept, so more than in a training step."""

Batch = tuple[np.ndarray, np.ndarray]
MakeEpoch = Callable[[int], "Epoch"]
ChangeTexts = Callable[[list[str], np.ndarray], list[str]]


class Epoch:
    """The batches of one epoch, by number: pairs of model input and target."""

    def __init__(self, steps: int, read: Callable[[int], Batch]) -> None:
        self._steps, self._read = steps, read

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < self._steps:
            raise IndexError(f"expected a batch from 0 to {self._steps - 1}, received {step}")
        return self._read(step)

    def __iter__(self) -> Iterator[Batch]:
        return map(self._read, range(self._steps))


def image_epochs(
    inputs: Dataset,
    clean: Dataset | None,
    batch_size: int,
    seed: int,
    split: str,
    shuffle: bool,
    augment: Any = None,
) -> MakeEpoch:
    """Batches of images, uint8, with their labels or with the clean images of the same rows.

    Parameters
    ----------
    inputs : Dataset
    clean : Dataset or None
        The targets, as float32 between 0 and 1; None: the targets are the labels, int64.
    augment : Noise, optional
        Changes the images, anew in every epoch of training; in storage order always as in epoch 0.
    """

    def make(epoch: int) -> Epoch:
        feed = batches(
            inputs, batch_size, seed=seed, epoch=epoch if shuffle else 0, split=split, shuffle=shuffle, noise=augment
        )

        def read(step: int) -> Batch:
            batch = feed[step]
            if clean is None:
                return batch["values"], batch["labels"]
            same = clean is inputs and augment is None
            target = batch["values"] if same else clean.take(batch["rows"])
            return batch["values"], np.asarray(target, np.float32) / np.float32(255)

        return Epoch(len(feed), read)

    return make


def text_epochs(
    tokens: np.ndarray, labels: np.ndarray, batch_size: int, *, seed: int, version: str, shuffle: bool
) -> MakeEpoch:
    """Batches of token codes and labels of one split, which is held in memory.

    A batch of texts in random order touches every shard, so each split is read and encoded once; in memory the order
    is a full shuffle.
    """

    def make(epoch: int) -> Epoch:
        order = np.arange(len(tokens))
        if shuffle:
            edges = np.array([0, len(tokens)])
            order = EpochOrder(edges, len(tokens), seed=seed, epoch=epoch, version=version).rows(0, 1)[0]

        def read(step: int) -> Batch:
            rows = order[step * batch_size : (step + 1) * batch_size]
            return tokens[rows], labels[rows]

        return Epoch(-(-len(tokens) // batch_size), read)

    return make


def text_blocks(dataset: Dataset, split: str, change: ChangeTexts | None = None) -> Iterator[list[str]]:
    """The texts of one split, a block at a time, in storage order."""
    rows = dataset.rows(split)
    for start in range(rows.start, rows.stop, BLOCK):
        stop = min(start + BLOCK, rows.stop)
        texts = list(dataset.read(start, stop))
        yield texts if change is None else change(texts, dataset.column("ids", start, stop))


def encode_split(
    dataset: Dataset, split: str, vocabulary: Vocabulary, length: int, change: ChangeTexts | None = None
) -> np.ndarray:
    """Token codes of one split in storage order, int32 (rows, length); of what `change` makes of texts and ids."""
    rows = dataset.rows(split)
    tokens = np.empty((rows.stop - rows.start, length), np.int32)
    start = 0
    for block in text_blocks(dataset, split, change):
        tokens[start : start + len(block)] = vocabulary.encode(block, length)
        start += len(block)
    return tokens
