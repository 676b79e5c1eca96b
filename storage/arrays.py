"""Zarr v3 arrays of a dataset: their metadata, and one shard's bytes. Any Zarr reader opens what this module makes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer
from zarr.core.chunk_key_encodings import ChunkKeyEncodingParams
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore

from storage.layout import VARIABLES, Variable
from storage.plan import Plan

# One flat folder per array: "." between chunk coordinates saves three folders, and so three syncs, per shard.
_KEYS: ChunkKeyEncodingParams = {"name": "default", "separator": "."}


Shape = tuple[int, ...]


def _shape_and_chunks(variable: Variable, plan: Plan) -> tuple[Shape, Shape, Shape | None]:
    """Shape, chunk shape, and shard shape (None where the chunk is the file)."""
    layout = plan.layout
    if variable.name == "images":
        rest = tuple(plan.sample_shape or ())
        return (layout.count, *rest), (layout.chunk, *rest), (layout.shard, *rest)
    if variable.name == "values":
        slot = int(plan.slot_bytes or 0)
        return (layout.shards * slot,), (slot,), None
    rest = (2,) if variable.name == "offsets" else ()
    return (layout.count, *rest), (layout.shard, *rest), None


def create_array(group: zarr.Group, variable: Variable, plan: Plan) -> zarr.Array:
    """Create the metadata of one array in a group."""
    shape, chunks, shards = _shape_and_chunks(variable, plan)
    return group.create_array(
        variable.name,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=variable.dtype,
        fill_value=0,
        # Noise does not compress, and raw shards can be memory-mapped; text does, and its slots end in zeros.
        compressors=[ZstdCodec(level=1, checksum=True)] if variable.name == "values" else None,
        filters=None,
        dimension_names=variable.dims,
        chunk_key_encoding=_KEYS,
        attributes={"long_name": variable.meaning},
        # Otherwise a chunk of zeros is no file, and a lost file could not be told from zeros.
        config={"write_empty_chunks": True},
    )


def create_group(store: Store, plan: Plan, attributes: dict[str, object]) -> zarr.Group:
    """Create the metadata of all arrays of a dataset."""
    group = zarr.create_group(store, zarr_format=3, attributes=attributes)
    for variable in VARIABLES[plan.kind]:
        create_array(group, variable, plan)
    return group


def metadata_files(plan: Plan, attributes: dict[str, object]) -> dict[str, bytes]:
    """Encode every ``zarr.json`` of the finished dataset, the root with consolidated metadata last."""
    held: dict[str, Buffer] = {}
    store = MemoryStore(held)
    create_group(store, plan, attributes)
    with warnings.catch_warnings():
        # Consolidated metadata is an accelerator that xarray and zarr-python agree on ahead of the specification.
        warnings.simplefilter("ignore", ZarrUserWarning)
        zarr.consolidate_metadata(store)
    names = sorted(held, key=lambda name: (name == "zarr.json", name))
    return {name: held[name].to_bytes() for name in names}


def encode_shard(plan: Plan, shard: int, contents: dict[str, np.ndarray]) -> Iterable[tuple[str, memoryview]]:
    """Encode one shard of every array.

    Parameters
    ----------
    plan : Plan
    shard : int
    contents : dict of ndarray
        The shard's part of every array of the dataset, in the arrays' own shapes and dtypes.

    Yields
    ------
    (key, bytes)
        The file's path inside the Zarr group, and what to write there.
    """
    held: dict[str, Buffer] = {}
    group = zarr.create_group(MemoryStore(held), zarr_format=3)
    start, stop = plan.layout.bounds(shard)
    for variable in VARIABLES[plan.kind]:
        array = create_array(group, variable, plan)
        data = contents[variable.name]
        slot = int(plan.slot_bytes or 0)
        low, high = (shard * slot, shard * slot + len(data)) if variable.name == "values" else (start, stop)
        if data.dtype != variable.dtype or data.shape != (high - low, *array.shape[1:]):
            raise ValueError(
                f"expected {variable.name} of shard {shard} as {variable.dtype} of shape "
                f"{(high - low, *array.shape[1:])}, received {data.dtype} of shape {data.shape}"
            )
        array[low : max(high, low + 1)] = data if len(data) else 0
        before = [key for key in held if not key.endswith("zarr.json")]
        if len(before) != 1:
            raise RuntimeError(f"expected one file for {variable.name} of shard {shard}, zarr wrote {before}")
        yield before[0], memoryview(held.pop(before[0]).as_numpy_array()).cast("B")
