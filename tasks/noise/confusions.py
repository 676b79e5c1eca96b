"""Noise for the characters of texts: taken for others, by the hand or by a machine that reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tasks.noise.blocks import Block, Joined, RatedNoise, apart, below, splice, substituted

_KEYS: tuple[tuple[float, tuple[str, str]], ...] = (
    (0.0, ("`1234567890-=", "~!@#$%^&*()_+")),
    (1.5, ("qwertyuiop[]\\", "QWERTYUIOP{}|")),
    (1.75, ("asdfghjkl;'", 'ASDFGHJKL:"')),
    (2.25, ("zxcvbnm,./", "ZXCVBNM<>?")),
)
"""Rows of the US keyboard (ANSI INCITS 154): where the first key lies, in widths of a key, without and with shift."""


@lru_cache(maxsize=1)
def neighbours() -> dict[str, str]:
    """The characters next to each one of the keyboard, with shift if it needs shift.

    Keys are neighbours if they lie side by side in a row, or less than a key's width apart in rows that touch.
    """
    found = {}
    for shift in (0, 1):
        keys = [(row, x + k, key) for row, (x, keys) in enumerate(_KEYS) for k, key in enumerate(keys[shift])]
        for row, x, key in keys:
            near = [k for r, at, k in keys if k != key and ((r == row) * abs(at - x) == 1 or _touch(r - row, at - x))]
            found[key] = "".join(near)
    return found


def _touch(rows: int, x: float) -> bool:
    return abs(rows) == 1 and abs(x) < 1


class Table:
    """What each ASCII character, or pair of them, may be replaced with.

    Parameters
    ----------
    choices : mapping
        Of one or two characters to replacements of one or two characters.
    """

    def __init__(self, choices: Mapping[str, Sequence[str]]) -> None:
        most = max(map(len, choices.values()))
        self._single, self._pair = np.zeros(128, np.int16), np.zeros((128, 128), np.int16)
        self.counts = np.zeros(len(choices) + 1, np.int64)
        """Replacements of each row; row 0 has none."""
        self.codes = np.zeros((len(choices) + 1, most, 2), np.uint8)
        self.lengths = np.zeros((len(choices) + 1, most), np.int64)
        for row, (found, others) in enumerate(choices.items(), start=1):
            self.counts[row] = len(others)
            if len(found) == 1:
                self._single[ord(found)] = row
            else:
                self._pair[ord(found[0]), ord(found[1])] = row
            for k, other in enumerate(others):
                self.codes[row, k, : len(other)] = list(other.encode("ascii"))
                self.lengths[row, k] = len(other)

    def rows(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row for each pair of code points, or for the first alone, and how many of the two it replaces."""
        first, second = (np.where(codes < 128, codes, 0) for codes in (first, second))
        pair = self._pair.ravel().take(first.astype(np.int32) << 7 | second)
        return np.where(pair, pair, self._single.take(first)), np.where(pair, 2, 1)


@lru_cache(maxsize=1)
def _keyboard() -> Table:
    return Table(neighbours())


@dataclass(frozen=True, repr=False)
class KeyboardTypo(RatedNoise):
    """Hit the key beside the right one.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance that a character is replaced with a neighbour on the keyboard, up to 1.

    Notes
    -----
    The keyboard is the US one (QWERTY). Neighbours are the keys at the left and the right and those less than a key's
    width away in the row above and below, all with the same chance; shift stays as it is, so that the case of letters
    is kept. Letters, digits and punctuation of the layout are hit. White space, characters of other layouts and those
    of several code points stay.
    """

    version = 1
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    def _changed(self, block: Block) -> Joined:
        hits, table = block.hits(self.strength[0]), _keyboard()
        rows, _ = table.rows(block.codes[hits], block.codes[hits])
        hits, rows = hits[rows > 0], rows[rows > 0]
        alone = block.alone(hits)
        hits, rows = hits[alone], rows[alone]
        return substituted(block, hits, table.codes[rows, below(block.draw(hits), table.counts[rows]), 0])


CONFUSIONS = {
    "0": ("O", "o"), "1": ("l", "I"), "2": ("Z", "z"), "5": ("S", "s"), "6": ("b", "G"), "8": ("B",), "9": ("g", "q"),
    "B": ("8",), "C": ("G",), "D": ("O",), "E": ("F",), "F": ("E",), "G": ("6", "C"), "I": ("l", "1"), "O": ("0", "Q"),
    "Q": ("O",), "S": ("5",), "Z": ("2",), "a": ("o",), "b": ("6", "h"), "c": ("e", "o"), "d": ("cl",), "e": ("c", "o"),
    "f": ("t",), "g": ("9", "q"), "h": ("b", "li"), "i": ("l", "1"), "l": ("1", "I", "i"), "m": ("rn", "nn"),
    "n": ("ri", "u"), "o": ("0", "c"), "q": ("g", "9"), "s": ("5",), "t": ("f",), "u": ("n", "ii"), "v": ("y",),
    "w": ("vv",), "y": ("v",), "z": ("2",), "W": ("VV",), ".": (",",), ",": (".",),
    "rn": ("m",), "nn": ("m",), "cl": ("d",), "li": ("h",), "ri": ("n",), "ii": ("u",), "vv": ("w",), "VV": ("W",),
}  # fmt: skip
"""What is read as what. Ours: pairs of similar shapes in common Latin type."""


@lru_cache(maxsize=1)
def _shapes() -> Table:
    return Table(CONFUSIONS)


@dataclass(frozen=True, repr=False)
class OcrConfusion(RatedNoise):
    """Misread characters, as machines do that turn pictures of texts into texts.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        rate = 0.02, 0.05, 0.10, 0.15, 0.25.
    rate : float, optional
        Chance, for each character, that it (or the pair that begins with it) is misread, if it looks like another; up
        to 1.

    Notes
    -----
    `CONFUSIONS` holds what is read as what; it is ours: l, I and 1; O, o and 0; S and 5; B and 8; m and rn; d and cl;
    and so on, of basic Latin. A pair goes before its first character, and pairs do not overlap. If there are several
    readings, all have the same chance. Characters of several code points stay.
    """

    version = 1
    severities = (0.02, 0.05, 0.10, 0.15, 0.25)

    @property
    def growth(self) -> float:
        """Every m as rn."""
        return 2.0

    def _changed(self, block: Block) -> Joined:
        hits, table = block.hits(self.strength[0]), _shapes()
        hits = hits[hits < block.ends[-1]]  # not the last NUL
        second = block.codes[hits + 1]
        if not block.ascii:
            alone = block.alone(hits)
            hits, second = hits[alone], np.where(block.alone(hits + 1), second, 0)[alone]
        rows, widths = table.rows(block.codes[hits], second)
        hits, rows, widths = (found[rows > 0] for found in (hits, rows, widths))
        taken = apart(hits, widths == 2)
        hits, rows, widths = hits[taken], rows[taken], widths[taken]
        choice = below(block.draw(hits), table.counts[rows])
        lengths, codes = table.lengths[rows, choice], table.codes[rows, choice]
        return splice(block, hits, widths, codes[np.arange(2) < lengths[:, None]], lengths)
