"""Uncompressed shards of images as arrays, past the Zarr library, behind a gate that checks their layout."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from blake3 import blake3

from storage.arrays import shard_index
from storage.layout import MIB
from storage.plan import Plan

_PASSING = MIB
"""Bytes that are held at a time of what is only hashed."""


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


def read_rows(
    path: Path, plan: Plan, shard: int, first: int, out: np.ndarray, *, digest: bytes | None = None, keep: bool = True
) -> np.ndarray:
    """Read rows of a shard from its row `first` on into `out`, without a map: what is read once is not kept.

    Parameters
    ----------
    path, plan, shard
        See `map_shard`.
    first : int
    out : ndarray of uint8, shape (rows, height, width, channel), C-contiguous
    digest : bytes, optional
        Read the whole file and compare its hash with this one.
    keep : bool
        False asks the operating system to drop the file's pages: data larger than memory would push out everything
        else, and is gone itself before it is read again.

    Raises
    ------
    FileNotFoundError, ValueError
        See `map_shard`.
    """
    low, high = plan.layout.bounds(shard)
    begin = first * math.prod(plan.sample_shape or ())
    held = memoryview(out).cast("B") if out.size else memoryview(b"")
    with open(path, "rb", buffering=0) as file:
        size = _check(file, plan, high - low)
        _advise(file, "POSIX_FADV_SEQUENTIAL")
        if digest is None:
            file.seek(begin)
            _fill(file, held)
        else:
            file.seek(0)
            total = blake3()
            _hash_ahead(file, begin, total)
            _fill(file, held)
            total.update(held)
            _hash_ahead(file, size - begin - len(held), total)
            if total.digest() != digest:
                raise ValueError("its bytes are not those that were committed")
        if not keep:
            _advise(file, "POSIX_FADV_DONTNEED")
    return out


def read_file(path: Path, *, keep: bool = True) -> bytes:
    """Read a whole file; see `read_rows`."""
    with open(path, "rb", buffering=0) as file:
        data = file.read()
        if not keep:
            _advise(file, "POSIX_FADV_DONTNEED")
    return data


def _fill(file: BinaryIO, rest: memoryview) -> None:
    """Read as many bytes as fit."""
    while len(rest):
        count = file.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("it ends too early")
        rest = rest[count:]


def _hash_ahead(file: BinaryIO, count: int, total: blake3) -> None:
    """Hash the next bytes without keeping them."""
    held = memoryview(bytearray(min(count, _PASSING)))
    while count:
        part = held[: min(count, _PASSING)]
        _fill(file, part)
        total.update(part)
        count -= len(part)


def _advise(file: BinaryIO, advice: str) -> None:
    """Tell the operating system how a file is read, where it listens."""
    if hasattr(os, advice):
        os.posix_fadvise(file.fileno(), 0, 0, getattr(os, advice))


def _check(file: BinaryIO, plan: Plan, rows: int) -> int:
    """Refuse a file that is not laid out as it was written; its bytes."""
    index = shard_index(plan, rows)
    expected = file_bytes(plan, rows, len(index))
    size = os.fstat(file.fileno()).st_size
    if size != expected:
        raise ValueError(f"expected {expected:,} bytes, found {size:,}")
    file.seek(size - len(index))
    if file.read(len(index)) != index:
        raise ValueError("its index is not the one that was written")
    return size


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
