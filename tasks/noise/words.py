"""Noise for the words of texts: dropped, swapped, repeated, masked.

A word is a run of anything but white space, as `str.split` finds them; white space that carries a mark (an accent with
nothing else below it) belongs to a word. Every word has 16 random bits, so rates are kept to a step of 1/65,536.
Severities are ours (no published table): shares of the words that are changed, from barely visible to hard to read.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

import numpy as np

from storage.keyed import key_of, lanes, words_at
from tasks.noise.blocks import Block, Joined, RatedNoise, apart, ranges, splice, substituted, threshold
from tasks.noise.graphemes import WHITE

_LINE_FEED = 10


class Words:
    """Where the words of a block are.

    Parameters
    ----------
    block : Block
    """

    def __init__(self, block: Block) -> None:
        white = block.kinds & WHITE != 0
        if not block.ascii:
            white[:-1] &= ~block.attached[1:] | (block.codes[1:] == _LINE_FEED)
        white[block.ends] = True
        edges = np.flatnonzero(white[1:] != white[:-1]) + 1
        if len(white) and not white[0]:
            edges = np.concatenate([[0], edges])
        self.starts = edges[0::2]
        self.stops = edges[1::2]
        """Place behind each word."""
        after = np.searchsorted(self.starts, block.ends)
        self.counts = np.diff(after, prepend=0)
        """Words of each text."""
        self.first = after - self.counts
        """Number, in the block, of the first word of each text."""
        self.texts = np.repeat(np.arange(len(block.ends)), self.counts)
        """The text that each word belongs to."""
        self._block = block

    @cached_property
    def nexts(self) -> np.ndarray:
        """Where the next word of the same text begins, or the text ends."""
        following = np.append(self.starts[1:], len(self._block.codes))
        return np.minimum(following, self._block.ends[self.texts])

    @cached_property
    def lanes(self) -> np.ndarray:
        """16 random bits for each word, uint16; those of a text begin anew at its first word."""
        return lanes(self._block.key, self._block.ids, self.counts)

    def hits(self, rate: float) -> np.ndarray:
        """Numbers of the words whose draw is below the rate, in order."""
        return np.flatnonzero(self.lanes < threshold(rate))

    def draw(self, numbers: np.ndarray) -> np.ndarray:
        """A word, uint64, for each of these; of numbers other than `lanes`."""
        texts = self.texts[numbers]
        return words_at(key_of(self._block.key, "which"), self._block.ids[texts], numbers - self.first[texts])


@dataclass(frozen=True, repr=False)
class WordDrop(RatedNoise):
    """Drop words.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance that a word is dropped, up to 1.

    Notes
    -----
    The white space behind a dropped word goes with it. One word always stays (the one with the largest draw, the first
    of several), so a text that held words never becomes empty.
    """

    version = 2
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)

    def _changed(self, block: Block) -> Joined:
        words = Words(block)
        dropped = words.lanes < threshold(self.strength[0])
        lost = np.append(0, np.cumsum(dropped))
        first, last = words.first, words.first + words.counts
        for i in np.flatnonzero((lost[last] - lost[first] == words.counts) & (words.counts > 0)).tolist():
            dropped[first[i] + np.argmax(words.lanes[first[i] : last[i]])] = False
        starts = words.starts[dropped]
        return splice(block, starts, words.nexts[dropped] - starts)


@dataclass(frozen=True, repr=False)
class WordSwap(RatedNoise):
    """Swap neighbouring words.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance of a swap at each pair of neighbours, up to 1. Pairs do not overlap: after a swap the next starts
        behind it.

    Notes
    -----
    White space stays in order between the words; punctuation goes with its word.
    """

    version = 1
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)

    def _changed(self, block: Block) -> Joined:
        words = Words(block)
        one = words.hits(self.strength[0])
        one = one[one + 1 < (words.first + words.counts)[words.texts[one]]]
        one = one[apart(one)]
        starts, gaps, others, ends = words.starts[one], words.stops[one], words.starts[one + 1], words.stops[one + 1]
        # What comes first, second and third in each range, from where, and how long.
        sources = np.stack([others, gaps, starts], axis=1).ravel()
        lengths = np.stack([ends - others, others - gaps, gaps - starts], axis=1).ravel()
        return substituted(block, ranges(starts, ends - starts), block.codes[ranges(sources, lengths)])


@dataclass(frozen=True, repr=False)
class WordRepeat(RatedNoise):
    """Write words twice.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance that a word is written twice, up to 1.

    Notes
    -----
    Between the two is a space; the white space behind the word follows the second.
    """

    version = 1
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)

    @property
    def growth(self) -> float:
        """Of a text of one letter three are made: a space and a letter more."""
        return 3.0

    def _changed(self, block: Block) -> Joined:
        words = Words(block)
        hits = words.hits(self.strength[0])
        starts, stops = words.starts[hits], words.stops[hits]
        lengths = stops - starts + 1
        pieces = block.codes[ranges(starts - 1, lengths)]
        pieces[np.cumsum(lengths) - lengths] = ord(" ")
        return splice(block, stops, 0, pieces, lengths)


@dataclass(frozen=True, repr=False)
class WordMask(RatedNoise):
    """Replace words with a token.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.05, 0.10, 0.20, 0.30, 0.50.
    rate : float, optional
        Chance that a word is replaced, up to 1.
    token : str
        What stands for a word; not empty and without white space. ``[MASK]`` by default, as in Devlin et al. 2019,
        "BERT: pre-training of deep bidirectional transformers for language understanding" (NAACL).

    Notes
    -----
    Punctuation is replaced with its word; white space and the number of words stay.
    """

    version = 1
    severities = (0.05, 0.10, 0.20, 0.30, 0.50)
    _: KW_ONLY
    token: str = "[MASK]"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.token, str) or self.token.split() != [self.token]:
            raise ValueError(f"expected WordMask with a token of one word without white space, received {self.token!r}")
        object.__setattr__(self, "token", str(self.token))

    @property
    def growth(self) -> float:
        """Every word may be one letter, and all of them replaced."""
        return float(len(self.token.encode("utf-8", "surrogatepass")))

    @property
    def _stays_ascii(self) -> bool:
        return self.token.isascii()

    def _changed(self, block: Block) -> Joined:
        words = Words(block)
        hits = words.hits(self.strength[0])
        token = np.array([ord(character) for character in self.token], block.codes.dtype)
        starts = words.starts[hits]
        return splice(block, starts, words.stops[hits] - starts, np.tile(token, len(hits)), len(token))
