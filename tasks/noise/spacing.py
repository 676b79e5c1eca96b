"""Noise for what is between the words of texts: white space and punctuation.

Severities are ours (no published table), from barely visible to hard to read; rates are kept to a step of 1/65,536.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tasks.noise import graphemes
from tasks.noise.blocks import Block, Joined, RatedNoise, below, ranges, splice
from tasks.noise.graphemes import ALNUM, PUNCTUATION, WHITE
from tasks.noise.words import Words

_MARKS = np.frombuffer(b".,;:!?", np.uint8)


@dataclass(frozen=True, repr=False)
class WhitespaceNoise(RatedNoise):
    """Join words, widen the white space between them, split them.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance that a word is hit, up to 1.

    Notes
    -----
    What happens to a word that is hit, each with the same chance: all white space up to the next word is dropped; it is
    doubled; the word is split by a space between any two of its characters. Where that cannot be (the last word of a
    text has no next one, a word of one character no middle), the word stays as it is. A word is what `WordDrop` takes
    for one. Everything but white space stays the same; no character of several code points is split or made.
    """

    version = 1
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)

    @property
    def growth(self) -> float:
        """A letter and much white space: almost twice as long."""
        return 2.0

    def _changed(self, block: Block) -> Joined:
        words = Words(block)
        hits = words.hits(self.strength[0])
        drawn = words.draw(hits)
        kind = below(drawn, 3)
        stops, nexts = words.stops[hits], words.nexts[hits]
        inner = nexts < block.ends[words.texts[hits]]
        joined = hits[(kind == 0) & inner]
        joined = joined[~graphemes.joins(block.codes[words.stops[joined] - 1], block.codes[words.nexts[joined]])]
        doubled = (kind == 1) & inner
        split = _middles(block, words, hits[kind == 2], drawn[kind == 2])
        places = np.concatenate([words.stops[joined], nexts[doubled], split])
        removed, added = np.zeros((2, len(places)), np.int64)
        removed[: len(joined)] = words.nexts[joined] - words.stops[joined]
        added[len(joined) :] = 1
        added[len(joined) : len(joined) + doubled.sum()] = (nexts - stops)[doubled]
        sources = places - added  # the white space before the next word
        order = np.argsort(places, kind="stable")
        places, removed, added, sources = (found[order] for found in (places, removed, added, sources))
        pieces = block.codes[ranges(sources, added)]
        widened = np.isin(places, nexts[doubled], assume_unique=True)
        pieces[(np.cumsum(added) - added)[(added > 0) & ~widened]] = ord(" ")
        return splice(block, places, removed, pieces, added)


def _middles(block: Block, words: Words, hits: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """A place between two characters of each word, any with the same chance; none for words of one character."""
    first, last = block.number(words.starts[hits]), block.number(words.stops[hits])
    several = last - first > 1
    first, last, drawn = first[several], last[several], drawn[several]
    # The low half of the word, which did not choose the kind.
    return block.front(first + 1 + below(drawn << np.uint64(32), last - first - 1))


@dataclass(frozen=True, repr=False)
class PunctuationNoise(RatedNoise):
    """Drop, double and insert punctuation.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance, for each mark of punctuation and each bare end of a word, that it is hit, up to 1.

    Notes
    -----
    A mark (Unicode category P) that is hit is dropped or doubled with the same chance. Behind a word that ends in a
    letter or digit, before white space or the end of the text, one of ``. , ; : ! ?`` is inserted. Characters of
    several code points stay. A text of nothing but punctuation of which nothing would be left stays as it is.
    """

    version = 1
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)

    @property
    def growth(self) -> float:
        """Every mark twice, or one behind every letter."""
        return 2.0

    def _changed(self, block: Block) -> Joined:
        hits = block.hits(self.strength[0])
        kinds = graphemes.kinds()(block.codes[hits])
        possible = kinds & (ALNUM | PUNCTUATION) != 0
        hits, kinds = hits[possible], kinds[possible]
        after = graphemes.kinds()(block.codes[hits + 1]) & WHITE != 0
        after[np.isin(hits + 1, block.ends, assume_unique=True)] = True
        mark = kinds & PUNCTUATION != 0
        chosen = (mark | after) & block.alone(hits)
        hits, mark = hits[chosen], mark[chosen]
        drawn = block.draw(hits)
        dropped = mark & (below(drawn, 2) == 0)
        codes = np.where(mark, block.codes[hits], _MARKS[below(drawn, len(_MARKS))])
        # What is dropped is removed where it is, what is added comes behind it.
        places = np.where(dropped, hits, hits + 1)
        return splice(block, places, dropped.astype(np.int64), codes[~dropped], (~dropped).astype(np.int64))
