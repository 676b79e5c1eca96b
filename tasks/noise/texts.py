"""Noise for texts: strings in, strings out.

Severities are ours (no published table): shares of the units that are changed, from barely visible to hard to read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from storage.keyed import uniforms
from tasks.noise.graded import Parameter, TextNoise

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


@dataclass(frozen=True, repr=False)
class CharacterSwap(TextNoise):
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

    version = 1
    parameters = (Parameter("rate"),)
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)
    _: KW_ONLY
    rate: float | None = None

    def _noisy(self, samples: Sequence[str], ids: np.ndarray, key: int) -> list[str]:
        return [self._swap(text, key, sample) for text, sample in zip(samples, ids.tolist(), strict=True)]

    def _swap(self, text: str, key: int, sample: int) -> str:
        if len(text) < 2:
            return text
        chosen = np.flatnonzero(_draws(key, sample, len(text) - 1) < self.strength[0])
        characters = list(text)
        free = 0
        for i in chosen.tolist():
            if i < free or not (text[i].isalnum() and text[i + 1].isalnum()):
                continue
            if not any(_attached(text, j) for j in (i, i + 1, i + 2)):
                characters[i], characters[i + 1] = characters[i + 1], characters[i]
                free = i + 2
        return "".join(characters)


@dataclass(frozen=True, repr=False)
class WordDrop(TextNoise):
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

    version = 1
    parameters = (Parameter("rate"),)
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)
    _: KW_ONLY
    rate: float | None = None

    def _noisy(self, samples: Sequence[str], ids: np.ndarray, key: int) -> list[str]:
        return [self._drop(text, key, sample) for text, sample in zip(samples, ids.tolist(), strict=True)]

    def _drop(self, text: str, key: int, sample: int) -> str:
        starts = [match.start() for match in _WORDS.finditer(text)]
        if not starts:
            return text
        draws = _draws(key, sample, len(starts))
        keep = draws >= self.strength[0]
        keep[np.argmax(draws)] = True
        edges = [*starts, len(text)]
        kept = (text[edges[i] : edges[i + 1]] for i in np.flatnonzero(keep).tolist())
        return text[: starts[0]] + "".join(kept)
