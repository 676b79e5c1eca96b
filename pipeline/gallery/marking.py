"""What changed between a text and its noisy copy, as pieces to mark."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

_TOKENS = re.compile(r"\s+|\S+")
_ALIKE = 0.5  # below, a word is taken for another one and not for a misspelt one


class Piece(NamedTuple):
    """A run of characters; `kind` is "same", "new", or "gone" (in the clean text only)."""

    kind: str
    text: str


def differences(clean: str, noisy: str) -> list[Piece]:
    """Compare two texts by words, and similar words by characters.

    Returns
    -------
    list of Piece
        Those that are not gone make up `noisy`; those that are gone stand where they were, except letters that others
        took the place of.
    """
    before, after = _TOKENS.findall(clean), _TOKENS.findall(noisy)
    pieces: list[Piece] = []
    for change, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if change == "equal":
            pieces.append(Piece("same", "".join(after[c:d])))
        elif b - a == d - c:
            for old, new in zip(before[a:b], after[c:d], strict=True):
                pieces += _changed(old, new)
        else:
            pieces += _changed("".join(before[a:b]), "".join(after[c:d]))
    return _joined(pieces)


def _changed(old: str, new: str) -> list[Piece]:
    if len(old) == len(new):
        # Replaced or swapped letters: place by place is how they came about.
        pairs = list(zip(old, new, strict=True))
        alike = sum(one == other for one, other in pairs)
        same_letters = sorted(old) == sorted(new) or old.casefold() == new.casefold()
        if same_letters or alike >= _ALIKE * len(old):
            return [Piece("same" if one == other else "new", other) for one, other in pairs]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    if not old or not new or matcher.ratio() < _ALIKE:
        return [Piece("gone", old), Piece("new", new)]
    pieces: list[Piece] = []
    for change, a, b, c, d in matcher.get_opcodes():
        if change == "equal":
            pieces.append(Piece("same", new[c:d]))
        elif change == "delete":
            pieces.append(Piece("gone", old[a:b]))
        else:
            pieces.append(Piece("new", new[c:d]))
    return _swaps(pieces)


def _swaps(pieces: list[Piece]) -> list[Piece]:
    """Mark neighbours that changed places, which a comparison sees as one that went and came back, as a pair."""
    out: list[Piece] = []
    place = 0
    while place < len(pieces):
        three = pieces[place : place + 3]
        kinds = [piece.kind for piece in three]
        if kinds in (["gone", "same", "new"], ["new", "same", "gone"]) and three[0].text == three[2].text:
            out.append(Piece("new", "".join(piece.text for piece in three if piece.kind != "gone")))
            place += 3
        else:
            out.append(pieces[place])
            place += 1
    return out


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of a kind as one, empty ones left out."""
    out: list[Piece] = []
    for piece in pieces:
        if not piece.text:
            continue
        if out and out[-1].kind == piece.kind:
            out[-1] = Piece(piece.kind, out[-1].text + piece.text)
        else:
            out.append(piece)
    return out


def visible(text: str) -> str:
    """The text with characters that cannot be seen (such as a zero-width space) as their code: ``[U+200B]``."""
    return "".join(
        character if character.isprintable() or character.isspace() else f"[U+{ord(character):04X}]"
        for character in text
    )
