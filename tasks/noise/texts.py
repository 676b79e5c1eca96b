"""Noise for texts: strings in, strings out.

Severities are ours (no published table): shares of the units that are changed, from barely visible to hard to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar

import numpy as np

from storage.keyed import key_of, uniforms
from tasks.noise.protocol import check_texts, choose, written

_WORDS = re.compile(r"\S+")
_JOINER = "\u200d"
# Letters by category, yet part of the character before them: conjoining Hangul vowels and finals, Thai and Lao am,
# half-width voicing marks.
_TRAILING = re.compile("[\u1160-\u11ff\ud7b0-\ud7fb\u0e33\u0eb3\uff9e\uff9f]")
_VIRAMA = 9  # combining class of the signs that join two consonants


def _draws(key: int, sample: int, count: int) -> np.ndarray:
    """One uniform number per unit of one text, float64 (count,)."""
    return uniforms(key, np.array([sample]), count)[0]


def _attached(text: str, i: int) -> bool:
    """Whether a character belongs to the one before it (marks, joiners, skin tones, conjuncts)."""
    if not 0 < i < len(text):
        return False
    before, character = text[i - 1], text[i]
    return (
        character in ("\u200c", _JOINER)
        or unicodedata.category(character) in {"Mn", "Mc", "Me"}
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or _TRAILING.match(character) is not None
        or before == _JOINER
        or unicodedata.combining(before) == _VIRAMA
    )


@dataclass(frozen=True)
class CharacterSwap:
    """Swap neighbouring letters or digits inside words, as typing errors do.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance of a swap at each pair of neighbours, up to 1. Pairs do not overlap: after a swap the next starts
        behind it.

    Notes
    -----
    A character of several code points (an accent of its own, a joined emoji, a Hangul syllable in parts, a conjunct)
    is never swapped, so none is torn apart. Length, white space and the characters themselves stay the same.
    """

    kind: ClassVar[str] = "texts"
    version: ClassVar[int] = 1
    growth: ClassVar[float] = 1.0
    severity: int | None = None
    _: KW_ONLY
    rate: float | None = None
    _rate: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = (0.02, 0.05, 0.10, 0.15, 0.25)
        object.__setattr__(self, "_rate", choose(self, "rate", self.rate, self.severity, table, 1.0))

    def __repr__(self) -> str:
        return written(self, "rate", self.rate, self.severity)

    def __call__(self, samples: Sequence[str], ids: np.ndarray, seed: int = 0, epoch: int = 0) -> list[str]:
        """Swap characters.

        Parameters
        ----------
        samples : sequence of str, length n
        ids : ndarray of int, shape (n,)
        seed, epoch : int

        Returns
        -------
        list of str, length n
        """
        ids = check_texts(samples, ids)
        key = key_of(seed, "character swap", epoch)
        return [self._swap(text, key, sample) for text, sample in zip(samples, ids.tolist(), strict=True)]

    def _swap(self, text: str, key: int, sample: int) -> str:
        if len(text) < 2:
            return text
        chosen = np.flatnonzero(_draws(key, sample, len(text) - 1) < self._rate)
        characters = list(text)
        free = 0
        for i in chosen.tolist():
            if i < free or not (text[i].isalnum() and text[i + 1].isalnum()):
                continue
            if not any(_attached(text, j) for j in (i, i + 1, i + 2)):
                characters[i], characters[i + 1] = characters[i + 1], characters[i]
                free = i + 2
        return "".join(characters)


@dataclass(frozen=True)
class WordDrop:
    """Drop words.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance that a word is dropped, up to 1.

    Notes
    -----
    A word is a run of anything but white space. The white space behind a dropped word goes with it. One word always
    stays (the one with the largest draw), so a text that held words never becomes empty.
    """

    kind: ClassVar[str] = "texts"
    version: ClassVar[int] = 1
    growth: ClassVar[float] = 1.0
    severity: int | None = None
    _: KW_ONLY
    rate: float | None = None
    _rate: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = (0.05, 0.10, 0.20, 0.30, 0.50)
        object.__setattr__(self, "_rate", choose(self, "rate", self.rate, self.severity, table, 1.0))

    def __repr__(self) -> str:
        return written(self, "rate", self.rate, self.severity)

    def __call__(self, samples: Sequence[str], ids: np.ndarray, seed: int = 0, epoch: int = 0) -> list[str]:
        """Drop words.

        Parameters
        ----------
        samples : sequence of str, length n
        ids : ndarray of int, shape (n,)
        seed, epoch : int

        Returns
        -------
        list of str, length n
        """
        ids = check_texts(samples, ids)
        key = key_of(seed, "word drop", epoch)
        return [self._drop(text, key, sample) for text, sample in zip(samples, ids.tolist(), strict=True)]

    def _drop(self, text: str, key: int, sample: int) -> str:
        starts = [match.start() for match in _WORDS.finditer(text)]
        if not starts:
            return text
        draws = _draws(key, sample, len(starts))
        keep = draws >= self._rate
        keep[np.argmax(draws)] = True
        edges = [*starts, len(text)]
        kept = (text[edges[i] : edges[i + 1]] for i in np.flatnonzero(keep).tolist())
        return text[: starts[0]] + "".join(kept)
