"""Which code points belong together: the grapheme clusters of Unicode (UAX 29), found for a whole array at once.

Where the standard needs more than two neighbours to decide, this joins too much rather than too little: everything but
a control character to a zero width joiner before it, and every letter to a virama before it. A character here is such a
cluster; the noises change none of its parts alone. Categories are those of Python's own `unicodedata`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache

import numpy as np

(
    OTHER,
    CONTROL,
    CR,
    LF,
    MARK,
    VIRAMA,
    JOINER,
    FLAG,
    PREPEND,
    JAMO_L,
    JAMO_V,
    JAMO_T,
    JAMO_LV,
    JAMO_LVT,
    LETTER,
    SPACE,
) = range(16)
"""Classes of code points, after the property Grapheme_Cluster_Break; they fill the low four bits of `kinds`."""
CLASS = 15
WHITE, ALNUM, PUNCTUATION, UPPER = 16, 32, 64, 128
"""Further bits of `kinds`: `str.isspace`, `str.isalnum`, category P, and `str.isupper`."""

_UNKNOWN = 2**32 - 1
_PREPENDED = {
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0xD4E, 0x110BD, 0x110CD, 0x111C2, 0x111C3, 0x1193F,
    0x11941, 0x11A3A, *range(0x11A84, 0x11A8A), 0x11D46, 0x11F02,
}  # fmt: skip
"""Grapheme_Cluster_Break=Prepend of Unicode 15, which `unicodedata` does not know."""
_MARKS = {0x200C, 0x0E33, 0x0EB3, 0xFF9E, 0xFF9F, *range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080)}
"""Part of the character before them, but no marks by category: non-joiner, Thai and Lao am, half-width voicing marks,
skin tones, tags."""
_HANGUL = (
    (0x1100, 0x115F, JAMO_L), (0xA960, 0xA97C, JAMO_L), (0x1160, 0x11A7, JAMO_V), (0xD7B0, 0xD7C6, JAMO_V),
    (0x11A8, 0x11FF, JAMO_T), (0xD7CB, 0xD7FB, JAMO_T),
)  # fmt: skip


class Lookup:
    """A whole number for each code point, computed when it is first met.

    Parameters
    ----------
    value : callable
        From a character to a whole number below 2**32 - 1.
    """

    def __init__(self, value: Callable[[str], int]) -> None:
        self._value = value
        self._table = np.full(0x110000, _UNKNOWN, np.uint32)
        self._ascii = np.array([value(chr(code)) for code in range(128)], np.uint8)
        self._ascii.setflags(write=False)

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Look up code points: uint8 for ASCII in uint8, uint32 for any in uint32."""
        if codes.dtype == np.uint8:
            return self._ascii.take(codes)
        found = self._table.take(codes)
        unknown = found == _UNKNOWN
        if unknown.any():
            for code in set(codes[unknown].tolist()):
                self._table[code] = self._value(chr(code))
            found = self._table.take(codes)
        return found


@lru_cache(maxsize=1)
def kinds() -> Lookup:
    """The lookup of class and bits."""
    return Lookup(_kind)


def _kind(character: str) -> int:
    punctuation = unicodedata.category(character)[0] == "P"
    flags = WHITE * character.isspace() | ALNUM * character.isalnum() | UPPER * character.isupper()
    return class_of(character) | flags | PUNCTUATION * punctuation


def class_of(character: str) -> int:
    """The class of a character."""
    code, category = ord(character), unicodedata.category(character)
    special = {"\r": CR, "\n": LF, "\u200d": JOINER}
    if character in special:
        return special[character]
    if code in _PREPENDED:
        return PREPEND
    if code in _MARKS or category in ("Mn", "Mc", "Me"):
        return VIRAMA if unicodedata.combining(character) == 9 else MARK
    if 0xAC00 <= code <= 0xD7A3:
        return JAMO_LV if (code - 0xAC00) % 28 == 0 else JAMO_LVT
    if 0x1F1E6 <= code <= 0x1F1FF:
        return FLAG
    for first, last, found in _HANGUL:
        if first <= code <= last:
            return found
    by_category = {"Cc": CONTROL, "Cf": CONTROL, "Cs": CONTROL, "Zl": CONTROL, "Zp": CONTROL, "Zs": SPACE, "Lo": LETTER}
    return by_category.get(category, OTHER)


@lru_cache(maxsize=1)
def _pairs() -> np.ndarray:
    """Whether a code point joins the one before it, by their classes; bool (256,), at 16 * before + after."""
    joins = np.zeros((16, 16), bool)
    breaks = [CONTROL, CR, LF]
    joins[:, [MARK, VIRAMA, JOINER]] = True
    joins[[PREPEND, JOINER], :] = True
    joins[:, SPACE] = False
    joins[VIRAMA, LETTER] = True
    joins[JAMO_L, [JAMO_L, JAMO_V, JAMO_LV, JAMO_LVT]] = True
    for before in (JAMO_LV, JAMO_V):
        joins[before, [JAMO_V, JAMO_T]] = True
    for before in (JAMO_LVT, JAMO_T):
        joins[before, JAMO_T] = True
    joins[breaks, :] = False
    joins[:, breaks] = False
    joins[CR, LF] = True
    return joins.ravel()


def joins(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Whether code points would be one character with those before them; bool, two flags always."""
    if before.dtype == np.uint8:
        return (before == 13) & (after == 10)
    one, other = kinds()(before) & CLASS, kinds()(after) & CLASS
    return _pairs().take(one << 4 | other) | ((one == FLAG) & (other == FLAG))


def attached(codes: np.ndarray) -> np.ndarray:
    """Whether each code point belongs to the character before it.

    Parameters
    ----------
    codes : ndarray of uint8 (ASCII) or uint32, shape (n,)

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    joined = np.zeros(len(codes), bool)
    if codes.dtype == np.uint8:  # of ASCII only these two are one character
        joined[1:] = (codes[1:] == 10) & (codes[:-1] == 13)
        return joined
    classes = kinds()(codes) & CLASS
    joined[1:] = _pairs().take(classes[:-1] << 4 | classes[1:])
    places = np.arange(len(codes))
    flags = classes == FLAG
    if flags.any():  # two and two
        before = np.maximum.accumulate(np.where(flags, -1, places))
        joined |= flags & ((places - before) % 2 == 0)
    viramas = classes == VIRAMA
    if viramas.any():  # a letter after a virama with further marks between
        marks = viramas | (classes == MARK) | (classes == JOINER)
        last = np.maximum.accumulate(np.where(viramas, places, -1))
        outside = np.maximum.accumulate(np.where(marks, -1, places))
        joined[1:] |= (classes[1:] == LETTER) & (last[:-1] > outside[:-1])
    return joined
