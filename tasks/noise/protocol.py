"""What every noise has, and the checks they share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from storage.plan import digest

_LONGEST_SLUG = 80


@runtime_checkable
class Noise(Protocol):
    """Anything that turns samples into noisy samples of the same number, kind, shape and dtype.

    A noise must be a pure function of (samples, ids, seed, epoch), picklable, and print as it was written. It may
    carry `version` (an integer, raised when its bytes change) and, for texts, `growth` (how many times longer a shard
    of texts can get; 1.0 by default).
    """

    @property
    def kind(self) -> str:
        """``images`` or ``texts``."""
        ...

    def __call__(self, samples: Any, ids: np.ndarray, seed: int = 0, epoch: int = 0) -> Any:
        """Return noisy copies of the samples."""
        ...


def printed(noise: object) -> str:
    """The noise as it was written.

    Raises
    ------
    TypeError
        If it prints an address in memory: the next run would take it for another noise.
    """
    text = str(noise)
    if re.search(r" at 0x[0-9a-f]+>", text, re.IGNORECASE):
        raise TypeError(
            f"expected a noise that prints as it was written, received {text}; make it a dataclass or add __repr__"
        )
    return text


def slug_of(noise: object) -> str:
    """Short lower-case name for folders and report columns, such as ``salt-and-pepper-2``."""
    if slug := getattr(noise, "slug", None):
        return str(slug)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", printed(noise))
    # Only plain severities are dropped to a bare number; other parameters keep their names.
    words = re.sub(r"\(severity=(\d)\)", r"-\1", words)
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-").lower()
    # Names of files end at 255 characters in most file systems, and of a column long before.
    return slug if len(slug) <= _LONGEST_SLUG else f"{slug[: _LONGEST_SLUG - 9].rstrip('-.')}-{digest(slug)[:8]}"


def check_images(samples: Any, ids: np.ndarray) -> np.ndarray:
    """Accept uint8 images (n, height, width, channel) with an id each."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.uint8 or samples.ndim != 4:
        found = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise TypeError(
            f"expected images as uint8 of shape (n, height, width, channel), received {found}; convert first"
        )
    return check_ids(samples, ids)


def check_texts(samples: Sequence[str], ids: np.ndarray) -> np.ndarray:
    """Accept a list of strings with an id each."""
    if isinstance(samples, (str, bytes)) or not hasattr(samples, "__len__"):
        raise TypeError(f"expected a list of strings, received {type(samples).__name__}; make it a list")
    for text in samples:
        if not isinstance(text, str):
            raise TypeError(f"expected a list of strings, received one with {type(text).__name__} in it; convert first")
    return check_ids(samples, ids)


def check_ids(samples: Any, ids: np.ndarray) -> np.ndarray:
    """Accept one integer id per sample."""
    ids = np.asarray(ids)
    if ids.shape == (0,):
        ids = ids.astype(np.int64)  # an empty list has no dtype of its own
    if ids.shape != (len(samples),) or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"expected {len(samples)} integer ids, received {ids.dtype} of shape {ids.shape}")
    return ids.astype(np.int64, copy=False)
