"""Zarr v3 arrays of a dataset: their metadata, and the bytes of one shard. Any Zarr reader opens what this makes."""

from __future__ import annotations

import math
import struct
import threading
import warnings
from collections.abc import Sequence

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd

from storage.layout import COLUMN_ROWS, IMAGES, VALUES, Variable, variables
from storage.plan import Plan

ABSENT = 2**64 - 1
"""Offset and bytes of an inner chunk that is not there, in the index of a shard."""

_warnings_lock = threading.Lock()

Shape = tuple[int, ...]
Piece = bytes | memoryview


def compressed(plan: Plan) -> bool:
    """Whether `values` is compressed: text is; files of images do not compress, and lie as they are."""
    return plan.kind == "texts"


def data_key(plan: Plan, shard: int) -> str:
    """Path of a shard's samples inside the Zarr group."""
    return f"values/c.{shard}" if plan.ragged else f"images/c.{shard}.0.0.0"


def column_key(variable: Variable, chunk: int) -> str:
    """Path of one file of a column inside the Zarr group."""
    return f"{variable.name}/c.{chunk}" + ".0" * (len(variable.dims) - 1)


def column_shape(variable: Variable, rows: int) -> Shape:
    """Shape of some rows of a column."""
    return (rows, 2) if len(variable.dims) == 2 else (rows,)


def column_rows(count: int) -> int:
    """Rows in each file of a column of `count` rows."""
    return min(count, COLUMN_ROWS)


def _shape_and_chunks(variable: Variable, plan: Plan) -> tuple[Shape, Shape, Shape | None]:
    """Shape, chunk shape, and shard shape (None where the chunk is the file)."""
    layout = plan.layout
    if variable is IMAGES:
        rest = tuple(plan.sample_shape or ())
        return (layout.count, *rest), (layout.chunk, *rest), (layout.shard, *rest)
    if variable is VALUES:
        slot = int(plan.slot_bytes or 0)
        return (layout.shards * slot,), (slot,), None
    return column_shape(variable, layout.count), column_shape(variable, column_rows(layout.count)), None


def metadata_files(plan: Plan, attributes: dict[str, object]) -> dict[str, bytes]:
    """Encode every ``zarr.json`` of the finished dataset, the root with consolidated metadata last."""
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.core.buffer import Buffer
    from zarr.errors import ZarrUserWarning
    from zarr.storage import MemoryStore

    held: dict[str, Buffer] = {}
    store = MemoryStore(held)
    group = zarr.create_group(store, zarr_format=3, attributes=attributes)
    for variable in variables(plan.ragged):
        shape, chunks, shards = _shape_and_chunks(variable, plan)
        group.create_array(
            variable.name,
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=variable.dtype,
            fill_value=0,
            # Noise does not compress, and raw shards can be memory-mapped; text does, and its slots end in zeros.
            compressors=[ZstdCodec(level=1, checksum=True)] if variable is VALUES and compressed(plan) else None,
            filters=None,
            dimension_names=variable.dims,
            # One flat folder per array: "." between chunk coordinates saves three folders per shard.
            chunk_key_encoding={"name": "default", "separator": "."},
            attributes={"long_name": variable.meaning},
            # For whoever writes with Zarr: otherwise a chunk of zeros is no file, and cannot be told from a lost one.
            config={"write_empty_chunks": True},
        )
    # Filters of warnings are shared by all threads: one at a time.
    with _warnings_lock, warnings.catch_warnings():
        # Consolidated metadata is an accelerator that xarray and zarr-python agree on ahead of the specification.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store)
    names = sorted(held, key=lambda name: (name == "zarr.json", name))
    return {name: held[name].to_bytes() for name in names}


def shard_index(plan: Plan, rows: int) -> bytes:
    """The index at the end of a shard of uncompressed images.

    Offset and bytes of every inner chunk as little-endian uint64, then their CRC-32C (Zarr v3 sharding codec, version
    1.0, ``index_location="end"``).
    """
    layout, used = plan.layout, -(-rows // plan.layout.chunk)
    chunk_bytes = layout.chunk * math.prod(plan.sample_shape or ())
    entries = np.full((layout.shard // layout.chunk, 2), ABSENT, "<u8")
    entries[:used, 0] = np.arange(used, dtype=np.uint64) * np.uint64(chunk_bytes)
    entries[:used, 1] = chunk_bytes
    index = entries.tobytes()
    return index + struct.pack("<I", google_crc32c.value(index))


def encode_images(plan: Plan, images: np.ndarray) -> list[Piece]:
    """Encode a shard of images: their plain bytes, the rest of the last inner chunk as zeros, and the index.

    The bytes are those that Zarr would write; made here because Zarr copies them three times on the way.
    """
    rows = len(images)
    padding = -rows % plan.layout.chunk * math.prod(plan.sample_shape or ())
    return [memoryview(np.ascontiguousarray(images)).cast("B"), bytes(padding), shard_index(plan, rows)]


def encode_values(plan: Plan, samples: Sequence[bytes]) -> list[Piece]:
    """Encode a shard of ragged samples: one after the other, then zeros up to the slot's end."""
    padding = int(plan.slot_bytes or 0) - sum(map(len, samples))
    if not compressed(plan):
        return [*samples, bytes(padding)]
    return [Zstd(level=1, checksum=True).encode(b"".join([*samples, bytes(padding)]))]


def decode_values(plan: Plan, data: bytes) -> bytes:
    """Undo `encode_values`: the whole slot.

    Raises
    ------
    ValueError
        If the bytes are damaged in a way that their own checksum or size shows.
    """
    slot = int(plan.slot_bytes or 0)
    if compressed(plan):
        try:
            data = bytes(Zstd().decode(data))
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    if len(data) != slot:
        raise ValueError(f"expected {slot:,} bytes, found {len(data):,}")
    return data
