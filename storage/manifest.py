"""The manifest of a finished build, and the table of its shards beside it.

The manifest is a sealed JSON document of a few kilobytes, whatever the size of the data. What there is per shard lies
in ``shards.npy``, a plain NumPy array of 72 bytes per shard: a million shards are 72 MB, read through a memory map.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from storage.documents import MANIFEST, read_sealed
from storage.hashing import SIZE
from storage.plan import digest
from storage.stores.protocol import Store

SHARD_TABLE = np.dtype([("bytes", "<i8"), ("hash", f"V{SIZE}"), ("content", f"V{SIZE}")])
"""Of each shard: bytes and hash of its file, and the hash of its samples' plain bytes."""

CONTENT = ("kind", "classes", "splits", "layout", "sample_shape", "slot_bytes", "content")
"""Fields that the version is the digest of."""


def version_of(manifest: dict[str, Any]) -> str:
    """Version of a build: the root digest over what it is and the hashes of every shard and column."""
    return digest({name: manifest[name] for name in CONTENT})


def encode_table(table: np.ndarray) -> bytes:
    """Encode the table of shards as an ``.npy`` file."""
    out = io.BytesIO()
    np.lib.format.write_array(out, table, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def decode_table(data: bytes, dtype: np.dtype = SHARD_TABLE) -> np.ndarray:
    """Undo `encode_table`; refuses a table of another type."""
    try:
        table: np.ndarray = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, and fails in as many ways
        raise ValueError(f"not an array of NumPy ({type(error).__name__})") from error
    if table.dtype != dtype:
        raise ValueError(f"expected a table of {dtype}, found {table.dtype}")
    return table


def read_manifest(store: Store, build: str) -> dict[str, Any]:
    """Read the manifest of a build.

    Raises
    ------
    FileNotFoundError
        If the build is not finished.
    StorageError
        If the manifest is not what was committed.
    """
    return read_sealed(store, f"{build}/{MANIFEST}", "manifest", "run `duskflow repair`, or restore it from a copy")
