"""Stamps of a source's samples by their files, where each sample has a file of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from storage.stamps import stamp


def stamps_of(source: Any) -> np.ndarray | None:
    """Stamps of all samples, V16 (n,), from what ``source.stamps()`` says of their files: name, size and time.

    None for a source without that method: its samples have no files of their own.
    """
    if not hasattr(source, "stamps"):
        return None
    return stamp(text.encode("utf-8", "surrogateescape") for text in source.stamps())
