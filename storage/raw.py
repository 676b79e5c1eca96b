"""Uncompressed shards of images as arrays, past the Zarr library, behind a gate that checks their layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

from storage.arrays import shard_index
from storage.plan import Plan


def map_shard(path: Path, plan: Plan, shard: int) -> np.ndarray:
    """Map the samples of one shard of uncompressed uint8 images.

    A Zarr v3 shard cut along axis 0 is its inner chunks, one after the other, and an index. With the index that we
    write, the file begins with the samples in C order; any other index is not ours.

    Parameters
    ----------
    path : Path
        The shard's file.
    plan : Plan
    shard : int

    Returns
    -------
    ndarray of uint8, shape (rows, height, width, channel)
        A read-only memory map.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    ValueError
        If it is not laid out as it was written.
    """
    low, high = plan.layout.bounds(shard)
    with open(path, "rb") as file:
        _check(file, plan, high - low)
    return np.memmap(path, np.uint8, "r", shape=(high - low, *(plan.sample_shape or ())))


def read_rows(path: Path, plan: Plan, shard: int, first: int, out: np.ndarray) -> np.ndarray:
    """Read rows of a shard from its row `first` on into `out`, without a map: what is read once is not kept.

    Raises
    ------
    FileNotFoundError, ValueError
        See `map_shard`.
    """
    low, high = plan.layout.bounds(shard)
    with open(path, "rb", buffering=0) as file:
        _check(file, plan, high - low)
        file.seek(first * int(np.prod(plan.sample_shape or ())))
        rest = memoryview(out).cast("B") if out.size else memoryview(b"")
        while len(rest):
            count = file.readinto(rest)
            if not count:
                raise ValueError("it ends too early")
            rest = rest[count:]
    return out


def _check(file: BinaryIO, plan: Plan, rows: int) -> None:
    """Refuse a file that is not laid out as it was written."""
    index = shard_index(plan, rows)
    expected = file_bytes(plan, rows, len(index))
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        raise ValueError(f"expected {expected:,} bytes, found {size:,}")
    file.seek(size - len(index))
    if file.read(len(index)) != index:
        raise ValueError("its index is not the one that was written")


def view_shard(data: bytes, plan: Plan, shard: int) -> np.ndarray:
    """The same of a file's bytes in memory."""
    low, high = plan.layout.bounds(shard)
    shape = (high - low, *(plan.sample_shape or ()))
    index = shard_index(plan, high - low)
    if len(data) != (expected := file_bytes(plan, high - low, len(index))):
        raise ValueError(f"expected {expected:,} bytes, found {len(data):,}")
    if not data.endswith(index):
        raise ValueError("its index is not the one that was written")
    return np.frombuffer(data, np.uint8, int(np.prod(shape))).reshape(shape)


def file_bytes(plan: Plan, rows: int, index_bytes: int) -> int:
    """Bytes of a shard's file: whole inner chunks, and the index."""
    chunk = plan.layout.chunk
    return -(-rows // chunk) * chunk * int(np.prod(plan.sample_shape or ())) + index_bytes
