"""Noise for the characters of texts: swapped, dropped, inserted, repeated, in the other case.

A character is a grapheme cluster (`tasks.noise.graphemes`): an accent of its own, a joined emoji, a Hangul syllable in
parts or a conjunct is never torn apart. Every code point has 16 random bits, so rates are kept to a step of 1/65,536.
Severities are ours (no published table): shares of the units that are changed, from barely visible to hard to read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from storage.texts import encode
from tasks.noise import graphemes
from tasks.noise.blocks import Block, Joined, RatedNoise, apart, below, ranges, splice, substituted
from tasks.noise.graphemes import ALNUM, CLASS, UPPER, WHITE, Lookup

_FIXED = np.isin(
    np.arange(16),
    [graphemes.CONTROL, graphemes.CR, graphemes.LF, graphemes.MARK, graphemes.VIRAMA, graphemes.JOINER],
)
"""Classes that are never dropped: no character begins with them, but after a control character."""


def letters(block: Block, rate: float) -> np.ndarray:
    """Places of the letters and digits that are hit, if they are characters by themselves."""
    hits = block.hits(rate)
    hits = hits[graphemes.kinds()(block.codes[hits]) & ALNUM != 0]
    return hits[block.alone(hits)]


@dataclass(frozen=True, repr=False)
class CharacterSwap(RatedNoise):
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
    A character of several code points is never swapped. Length, white space and the characters themselves stay the
    same.
    """

    version = 2
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    def _changed(self, block: Block) -> Joined:
        first = letters(block, self.strength[0])
        second = first + 1  # the NUL at the latest
        first = first[(graphemes.kinds()(block.codes[second]) & ALNUM != 0) & block.alone(second)]
        first = first[apart(first)]
        both = np.concatenate([first, first + 1])
        return substituted(block, both, block.codes[np.concatenate([first + 1, first])])


@dataclass(frozen=True, repr=False)
class CharacterDrop(RatedNoise):
    """Drop characters other than white space.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance that a character is dropped, up to 1.

    Notes
    -----
    Letters, digits, punctuation and symbols are dropped, whole with all their code points. White space and control
    characters stay. One character always stays (the one with the largest draw, the first of several), so a text that
    held characters never becomes blank.
    """

    version = 1
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    def _changed(self, block: Block) -> Joined:
        hits = block.hits(self.strength[0])
        kinds = graphemes.kinds()(block.codes[hits])
        hits = hits[(kinds & WHITE == 0) & ~_FIXED[kinds & CLASS]]
        if not block.ascii:
            hits = hits[~block.attached[hits]]
        hits = hits[_left(block, hits)]
        return splice(block, hits, block.behind(hits) - hits)


def _left(block: Block, hits: np.ndarray) -> np.ndarray:
    """Which hits to keep so that one character stays in each text."""
    first, last = (np.searchsorted(hits, edges) for edges in (block.starts, block.ends))
    dropped = np.append(0, np.cumsum(block.behind(hits) - hits))
    black = block.kinds & WHITE == 0
    held = np.add.reduceat(black, block.starts, dtype=np.int64) - 1  # the NUL counted too
    kept = np.ones(len(hits), bool)
    for i in np.flatnonzero((dropped[last] - dropped[first] == held) & (held > 0)).tolist():
        kept[first[i] + np.argmax(block.lanes[hits[first[i] : last[i]]])] = False
    return kept


@dataclass(frozen=True, repr=False)
class CharacterInsert(RatedNoise):
    """Insert random letters into words.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance, for each letter or digit, that a letter is inserted behind it, up to 1.

    Notes
    -----
    The letter is any of a to z with the same chance, in upper case behind an upper-case letter, whatever the script of
    the text. Nothing is inserted behind a character of several code points.
    """

    version = 1
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    @property
    def growth(self) -> float:
        """Of a text of one letter a second one is made."""
        return 2.0

    def _changed(self, block: Block) -> Joined:
        places = letters(block, self.strength[0])
        upper = graphemes.kinds()(block.codes[places]) & UPPER != 0
        added = below(block.draw(places), 26) + np.where(upper, ord("A"), ord("a"))
        return splice(block, places + 1, 0, added, 1)


@dataclass(frozen=True, repr=False)
class CharacterRepeat(RatedNoise):
    """Repeat letters and digits, as a key that is held too long does.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance that a letter or digit is written twice, up to 1.

    Notes
    -----
    A character of several code points that begins with a letter or digit is repeated whole.
    """

    version = 1
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    @property
    def growth(self) -> float:
        """Every character twice."""
        return 2.0

    def _changed(self, block: Block) -> Joined:
        hits = block.hits(self.strength[0])
        hits = hits[graphemes.kinds()(block.codes[hits]) & ALNUM != 0]
        if not block.ascii:
            hits = hits[~block.attached[hits]]
        behind = block.behind(hits)
        return splice(block, behind, 0, block.codes[ranges(hits, behind - hits)], behind - hits)


@lru_cache(maxsize=1)
def _flipped() -> Lookup:
    """The character in the other case, or itself."""

    def other(character: str) -> int:
        swapped = character.swapcase()
        back = len(swapped) == 1 and swapped.swapcase() == character
        fits = back and len(encode(swapped)) == len(encode(character))
        return ord(swapped if fits else character)

    return Lookup(other)


@dataclass(frozen=True, repr=False)
class CaseFlip(RatedNoise):
    """Turn upper-case letters into lower-case ones and the other way round.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance that a letter with two cases is flipped, up to 1.

    Notes
    -----
    Only letters whose other case is one letter that leads back and is as long in UTF-8: not the German sharp s, the
    Turkish dotless i or the Kelvin sign. Accents of their own stay with their letter.
    """

    version = 1
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    def _changed(self, block: Block) -> Joined:
        places = block.hits(self.strength[0])
        return substituted(block, places, _flipped()(block.codes[places]))
