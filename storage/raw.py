"""Read uncompressed shards as memory maps, past the Zarr library, behind a gate that checks their layout."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np


def map_shard(
    path: Path, layout_chunk: int, layout_shard: int, rows: int, sample_shape: tuple[int, ...]
) -> np.ndarray | None:
    """Map the samples of one shard of uncompressed uint8 images.

    A Zarr v3 shard cut along axis 0 is its inner chunks, one after the other, and an index of (offset, bytes) pairs
    with a CRC-32C (sharding codec v1.0, `index_location="end"`). If the chunks lie dense and in order, the file
    begins with the samples in C order.

    Parameters
    ----------
    path : Path
        The shard's file.
    layout_chunk, layout_shard : int
        Samples per inner chunk and per shard.
    rows : int
        Samples in this shard.
    sample_shape : tuple of int

    Returns
    -------
    ndarray of uint8, shape (rows, *sample_shape), or None
        Read-only memory map; None if the file is laid out in another way and must be decoded by Zarr.
    """
    chunks = layout_shard // layout_chunk
    chunk_bytes = layout_chunk * math.prod(sample_shape)
    used = -(-rows // layout_chunk)
    footer = 16 * chunks + 4
    if path.stat().st_size != used * chunk_bytes + footer:
        return None
    index = np.fromfile(path, "<u8", 2 * chunks, offset=used * chunk_bytes).reshape(chunks, 2)[:used]
    dense = np.arange(used, dtype=np.uint64) * np.uint64(chunk_bytes)
    if not (np.array_equal(index[:, 0], dense) and (index[:, 1] == chunk_bytes).all()):
        return None
    return np.memmap(path, np.uint8, "r", shape=(rows, *sample_shape))
