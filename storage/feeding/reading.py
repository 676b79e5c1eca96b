"""Runs of rows from shards into memory, past Zarr and past what an open dataset keeps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from storage.dataset import Dataset
from storage.part import Part, Verify


def ragged(dataset: Dataset) -> bool:
    """Whether samples differ in bytes: texts, and images kept as files."""
    return dataset.parts[0].plan.ragged


def shard_edges(dataset: Dataset, split: str) -> np.ndarray:
    """Rows of a split at which another shard begins, its first row and the one past its last; int64."""
    rows = dataset.rows(split)
    found = [np.array([rows.start], np.int64)]
    for first, number, low, high in dataset.pieces(rows.start, rows.stop):
        size = dataset.parts[number].layout.shard
        inside = np.arange((low // size + 1) * size, high, size)
        found += [first + inside - low, np.array([first + high - low])]
    return np.concatenate(found)


def read_images(dataset: Dataset, start: int, out: np.ndarray, *, verify: Verify = None, keep: bool = True) -> None:
    """Read the images of some rows into memory.

    Parameters
    ----------
    dataset : Dataset
        Of images that are not kept as files.
    start : int
        The first row.
    out : ndarray of uint8, shape (rows, height, width, channel), C-contiguous
    verify, keep
        See `storage.part.Part.read_images`.

    Raises
    ------
    StorageError
        If a shard is missing or damaged; names it.
    """
    for first, part, shard, low, high in _shards(dataset, start, start + len(out)):
        place = first - start
        part.read_images(shard, low, out[place : place + high - low], verify=verify, keep=keep)


def read_samples(
    dataset: Dataset, start: int, stop: int, *, verify: Verify = None, keep: bool = True
) -> list[tuple[int, memoryview, np.ndarray]]:
    """Read the bytes of the ragged samples of some rows; `verify` and `keep` as in `storage.part.Part.read_images`.

    Returns
    -------
    list of (int, memoryview, ndarray of int64, shape (n, 2))
        Of each shard that holds some of the rows: the first of these rows, the shard's bytes, and where in them each
        sample begins and ends.
    """
    found = []
    for first, part, shard, low, high in _shards(dataset, start, stop):
        data, offsets = part.read_slot(shard, verify=verify, keep=keep)
        found.append((first, data, offsets[low:high]))
    return found


def _shards(dataset: Dataset, start: int, stop: int) -> Iterator[tuple[int, Part, int, int, int]]:
    """(first row, part, shard, first and past-the-last of these rows in it) of every shard that holds some rows."""
    for first, number, low, high in dataset.pieces(start, stop):
        part = dataset.parts[number]
        size = part.layout.shard
        for shard in range(low // size, -(-high // size)):
            begin, end = max(low, shard * size), min(high, (shard + 1) * size)
            yield first + begin - low, part, shard, begin - shard * size, end - shard * size
