"""Texts as bytes and offsets (ragged arrays), both ways. Never object arrays: they cost a Python object per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def byte_lengths(texts: Sequence[str]) -> np.ndarray:
    """UTF-8 bytes of each text, int64 (n,)."""
    return np.fromiter((len(encode(text)) for text in texts), np.int64, len(texts))


def encode(text: str) -> bytes:
    """UTF-8, keeping lone surrogates (they occur in text that was decoded badly) so that any string round-trips."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """Undo `encode`."""
    return data.decode("utf-8", "surrogatepass")


def pack(texts: Sequence[str], start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate texts.

    Parameters
    ----------
    texts : sequence of str, length n
    start : int
        Position of the first byte in the whole `values` array.

    Returns
    -------
    values : ndarray of uint8, shape (total bytes,)
    offsets : ndarray of int64, shape (n, 2)
        First and past-the-last byte of each text.
    """
    encoded = [encode(text) for text in texts]
    edges = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(item) for item in encoded], out=edges[1:])
    edges += start
    return np.frombuffer(b"".join(encoded), np.uint8), np.stack([edges[:-1], edges[1:]], axis=1)


def unpack(values: np.ndarray, offsets: np.ndarray, start: int = 0) -> list[str]:
    """Undo `pack` for the texts at `offsets`; `start` is the position of ``values[0]``."""
    data = values.tobytes()
    return [decode(data[low:high]) for low, high in (offsets - start).tolist()]
