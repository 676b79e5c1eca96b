"""Stamps of samples: 16 bytes each that tell whether a sample was seen before, by its content or by its file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from blake3 import blake3

from storage.documents import STAMPS
from storage.errors import StorageError
from storage.manifest import decode_table, encode_table
from storage.part import Part

STAMP = np.dtype("V16")


def stamp(pieces: Iterable[bytes | memoryview | np.ndarray]) -> np.ndarray:
    """Stamp every sample by its bytes; V16 (n,)."""
    digests = [blake3(piece).digest(16) for piece in pieces]
    return np.frombuffer(b"".join(digests), STAMP)


def encode_stamps(stamps: np.ndarray) -> bytes:
    """Encode as an ``.npy`` file."""
    return encode_table(np.ascontiguousarray(stamps, STAMP))


def file_stamps(part: Part) -> np.ndarray | None:
    """Stamps of a part's samples by their files, in the order of its rows; None if its source had no files."""
    if STAMPS not in part.manifest["files"]:
        return None
    try:
        stamps = decode_table(part.store.read(f"{part.key}/{STAMPS}"), STAMP)
        if stamps.shape == (part.layout.count,):
            return stamps
    except (FileNotFoundError, ValueError):
        pass
    raise StorageError(f"damaged {part.store.location}/{part.key}/{STAMPS}; run `duskflow repair`")
