"""The record of a committed shard: one file, created after the shard's data, that says what the data must be.

One line of JSON (sizes, hashes, statistics), then the shard's part of every column as plain little-endian bytes, then
the BLAKE3 digest of all that. Columns travel in the records because a dataset of a million shards must not have a
million files of labels; finishing gathers them into large files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.hashing import SIZE, hash_bytes
from storage.layout import Variable
from storage.plan import canonical

FOLDER = "records"


@dataclass(frozen=True)
class Record:
    """What was committed as one shard."""

    shard: int
    bytes: int
    """Of the file of samples."""
    hash: str
    """Of that file, hexadecimal."""
    content: str
    """Of the samples' plain bytes, which no compressor's version changes; hexadecimal."""
    statistics: dict[str, Any]
    columns: dict[str, np.ndarray]
    """The shard's rows of labels, ids, split and, where there are any, offsets."""


def record_name(shard: int) -> str:
    """Name of the record's file inside the build."""
    return f"{FOLDER}/{shard:06d}"


def encode_record(record: Record, columns: tuple[Variable, ...]) -> bytes:
    """Turn a record into bytes; the same record always into the same."""
    arrays = {
        column.name: np.ascontiguousarray(record.columns[column.name], np.dtype(column.dtype).newbyteorder("<"))
        for column in columns
    }
    head = {
        "shard": record.shard,
        "bytes": record.bytes,
        "hash": record.hash,
        "content": record.content,
        "statistics": record.statistics,
        "columns": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
    }
    body = b"".join([canonical(head).encode(), b"\n", *(array.tobytes() for array in arrays.values())])
    return body + hash_bytes(body)


def decode_record(data: bytes) -> Record:
    """Undo `encode_record`.

    Raises
    ------
    ValueError
        If a single bit is not what was written.
    """
    body, seal = memoryview(data)[:-SIZE], data[-SIZE:]
    if len(data) <= SIZE or hash_bytes(body) != seal:
        raise ValueError("its bytes are not those that were written")
    end = data.index(b"\n")
    head = json.loads(data[:end])
    columns, at = {}, end + 1
    for name, dtype, shape in head["columns"]:
        count = int(np.prod(shape))
        columns[name] = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += columns[name].nbytes
    return Record(head["shard"], head["bytes"], head["hash"], head["content"], head["statistics"], columns)
