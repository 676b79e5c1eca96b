"""Many texts as one array of code points, and the changes that noises make to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from storage.keyed import key_of, lanes, words_at
from tasks.noise import graphemes
from tasks.noise.graded import Parameter, TextNoise

_BLOCK = 131_072  # code points: they, their random bits and the places of the hits stay in the second-level cache
_LEVELS = 65_536


@dataclass(frozen=True)
class Joined:
    """Texts one behind the other, with a NUL behind each that is none of theirs."""

    codes: np.ndarray
    """uint8 if all texts are ASCII, uint32 otherwise."""
    ends: np.ndarray
    """Place of the NUL behind each text, int64 (n,)."""


@dataclass(frozen=True)
class Block(Joined):
    """Texts to be changed, and their random numbers."""

    ids: np.ndarray
    key: int

    @cached_property
    def starts(self) -> np.ndarray:
        """Place where each text begins, int64 (n,)."""
        starts = np.zeros_like(self.ends)
        starts[1:] = self.ends[:-1] + 1
        return starts

    @cached_property
    def lanes(self) -> np.ndarray:
        """16 random bits for each code point, uint16; those of a text begin anew at its start."""
        return lanes(self.key, self.ids, self.ends + 1 - self.starts)

    @cached_property
    def kinds(self) -> np.ndarray:
        """Class and bits of each code point, see `tasks.noise.graphemes`."""
        return graphemes.kinds()(self.codes)

    @cached_property
    def attached(self) -> np.ndarray:
        """Whether each code point belongs to the character before it."""
        return graphemes.attached(self.codes)

    @cached_property
    def ascii(self) -> bool:
        """Whether all texts are ASCII, so that every letter is a character of its own."""
        return self.codes.dtype == np.uint8

    def hits(self, rate: float) -> np.ndarray:
        """Places of the code points whose draw is below the rate, in order."""
        return np.flatnonzero(self.lanes < threshold(rate))

    def alone(self, places: np.ndarray) -> np.ndarray:
        """Whether the code points at these places, none of them a line feed, are characters by themselves."""
        if self.ascii:
            return np.ones(len(places), bool)
        after = np.minimum(places + 1, len(self.codes) - 1)  # nothing is attached to the last NUL, nor it to anything
        return ~(self.attached[places] | self.attached[after])

    @cached_property
    def _fronts(self) -> np.ndarray:
        return np.flatnonzero(~self.attached)

    def behind(self, places: np.ndarray) -> np.ndarray:
        """Place behind the character, none of them a line feed, that begins at each of these."""
        if self.ascii:
            return places + 1
        return self._fronts[np.searchsorted(self._fronts, places, side="right")]

    def number(self, places: np.ndarray) -> np.ndarray:
        """How many characters begin before each of these places."""
        return places if self.ascii else np.searchsorted(self._fronts, places)

    def front(self, numbers: np.ndarray) -> np.ndarray:
        """Where the characters of these numbers begin; undoes `number`."""
        return numbers if self.ascii else self._fronts[numbers]

    def draw(self, places: np.ndarray) -> np.ndarray:
        """A word, uint64, for each of these places in the codes; of numbers other than `lanes`."""
        text = np.searchsorted(self.ends, places)
        return words_at(key_of(self.key, "which"), self.ids[text], places - self.starts[text])


def threshold(rate: float) -> int:
    """How many of the 65,536 values of a lane are below the rate; at least one."""
    return max(1, round(rate * _LEVELS))


def below(words: np.ndarray, count: np.ndarray | int) -> np.ndarray:
    """Turn random words into whole numbers from 0 to below `count` (which is small), int64."""
    return ((words >> np.uint64(32)) * np.asarray(count, np.uint64) >> np.uint64(32)).astype(np.int64)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The whole numbers from each start on, as many as its length, one range behind the other; int64."""
    stops = np.cumsum(lengths)
    return np.repeat(starts - stops + lengths, lengths) + np.arange(stops[-1] if len(stops) else 0)


def apart(places: np.ndarray, wide: np.ndarray | None = None) -> np.ndarray:
    """Which places to take, in order, if each that is taken and wide rules out the next number.

    Parameters
    ----------
    places : ndarray of int64, shape (n,)
        Strictly increasing.
    wide : ndarray of bool, shape (n,), optional
        All by default.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    linked = np.zeros(len(places), bool)
    linked[1:] = places[1:] == places[:-1] + 1
    if wide is not None:
        linked[1:] &= wide[:-1]
    # Along a chain of links every other place is taken, from the first on.
    count = np.arange(len(places))
    first = np.maximum.accumulate(np.where(linked, 0, count))
    return (count - first) % 2 == 0


def splice(
    block: Joined,
    places: np.ndarray,
    removed: np.ndarray | int = 0,
    pieces: np.ndarray | None = None,
    lengths: np.ndarray | int = 0,
) -> Joined:
    """Replace ranges of code points.

    Parameters
    ----------
    block : Joined
    places : ndarray of int64, shape (m,)
        Where each range begins, increasing; an empty range at the end of a text lies within that text.
    removed : ndarray of int64, shape (m,), or int
        Length of each range. Ranges lie within a text and do not overlap.
    pieces : ndarray, optional
        The code points that come instead, one piece behind the other.
    lengths : ndarray of int64, shape (m,), or int
        Length of each piece.
    """
    codes, m = block.codes, len(places)
    removed, lengths = np.broadcast_to(removed, m), np.broadcast_to(lengths, m)
    more = np.zeros(m + 1, np.int64)
    np.cumsum(lengths - removed, out=more[1:])
    ends = block.ends + more[np.searchsorted(places, block.ends, side="right")]
    if removed.any():
        keep = np.ones(len(codes), bool)
        keep[ranges(places, removed)] = False
        codes = codes[keep]
    if pieces is not None:
        old = np.ones(len(block.codes) + more[-1], bool)
        new = ranges(places + more[:-1], lengths)
        old[new] = False
        spliced = np.empty(len(old), codes.dtype)
        spliced[old] = codes
        spliced[new] = pieces
        codes = spliced
    return Joined(codes, ends)


def _batches(lengths: np.ndarray) -> Iterator[slice]:
    """Consecutive texts that make about a block."""
    edges = np.cumsum(lengths + 1)
    first = 0
    while first < len(lengths):
        done = edges[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(edges, done + _BLOCK, side="right")))
        yield slice(first, stop)
        first = stop


def _codes_of(texts: Sequence[str], ascii: bool) -> np.ndarray:
    text = "\0".join(texts) + "\0"
    if ascii:
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def _text_of(codes: np.ndarray) -> str:
    if codes.dtype == np.uint8:
        return str(codes.data, "ascii")
    return str(codes.astype("<u4", copy=False).data, "utf-32-le", "surrogatepass")


@dataclass(frozen=True, repr=False)
class RatedNoise(TextNoise):
    """A noise for texts with a rate, which changes many texts at once; a subclass defines `_changed`."""

    parameters = (Parameter("rate"),)
    _: KW_ONLY
    rate: float | None = None

    def _noisy(self, samples: Sequence[str], ids: np.ndarray, key: int) -> list[str]:
        out = [""] * len(samples)
        simple = np.fromiter((text.isascii() for text in samples), bool, len(samples)) & self._stays_ascii
        for ascii in (True, False):
            group = np.flatnonzero(simple == ascii)
            texts = [samples[i] for i in group.tolist()]
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            for batch in _batches(lengths):
                ends = np.cumsum(lengths[batch] + 1) - 1
                block = Block(_codes_of(texts[batch], ascii), ends, ids[group[batch]], key)
                for i, text in zip(group[batch].tolist(), _split(self._changed(block)), strict=True):
                    # No text becomes empty.
                    out[i] = text or str(samples[i])
        return out

    @property
    def _stays_ascii(self) -> bool:
        """Whether ASCII texts stay ASCII."""
        return True

    def _changed(self, block: Block) -> Joined:
        raise NotImplementedError


def _split(joined: Joined) -> Iterator[str]:
    text, start = _text_of(joined.codes), 0
    for end in joined.ends.tolist():
        yield text[start:end]
        start = end + 1


def substituted(block: Block, places: np.ndarray, codes: Any) -> Joined:
    """Put other code points at some places."""
    changed = block.codes.copy()
    changed[places] = codes
    return Joined(changed, block.ends)
