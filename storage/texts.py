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


def decode(data: bytes | memoryview) -> str:
    """Undo `encode`."""
    return str(data, "utf-8", "surrogatepass")


def offsets_of(samples: Sequence[bytes], start: int = 0) -> np.ndarray:
    """First and past-the-last byte of each sample, laid one after the other from `start`; int64 (n, 2)."""
    edges = np.zeros(len(samples) + 1, np.int64)
    np.cumsum([len(sample) for sample in samples], out=edges[1:])
    edges += start
    return np.stack([edges[:-1], edges[1:]], axis=1)
