"""Confusion matrices as heat tables, and in words: which class is taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_CLASSES = 24
"""Beyond this, a table of every class is wider than any screen, and nobody reads it."""
KEPT_CLASSES = 12
LEVELS = 10


@dataclass(frozen=True)
class Cell:
    """A count, its share of the true class, the heat level 0..LEVELS and whether it is a right answer."""

    count: int
    share: float
    level: int
    right: bool


@dataclass(frozen=True)
class Row:
    """A true class: its cells and the share that was recognised; `recall` is None without samples."""

    name: str
    cells: tuple[Cell, ...]
    recall: float | None


@dataclass(frozen=True)
class Mistake:
    """How often `true` was taken for `predicted`."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, ready to draw."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    mistakes: tuple[Mistake, ...]
    hidden: int
    """How many classes the row and column "other" stand for; 0 where every class is shown."""


def matrix(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Matrix:
    """Prepare a matrix of counts (true by predicted) for drawing.

    Above `MOST_CLASSES` classes, the `KEPT_CLASSES` with the most mistakes are shown and the rest is summed as "other".
    """
    table = np.asarray(counts, dtype="int64")
    # A class beyond the known names (or a list of names that is missing) still has a number to call it by.
    names = [classes[index] if index < len(classes) else f"class {index}" for index in range(len(table))]
    mistakes = _mistakes(table, names)
    totals = table.sum(axis=1)
    recalls = [
        int(table[place, place]) / total if (total := int(totals[place])) else None for place in range(len(table))
    ]
    hidden = 0
    if len(names) > MOST_CLASSES:
        kept = _most_mistaken(table)
        hidden = len(names) - len(kept)
        table, recalls = _fold(table, kept), [recalls[index] for index in kept] + [None]
        names = [names[index] for index in kept] + [f"{hidden} other classes"]
    rows = tuple(
        _row(name, row, place, recall, folded=bool(hidden) and place == len(names) - 1)
        for place, (name, row, recall) in enumerate(zip(names, table.tolist(), recalls, strict=True))
    )
    return Matrix(names=tuple(names), rows=rows, mistakes=mistakes, hidden=hidden)


def _row(name: str, counts: Sequence[int], place: int, recall: float | None, *, folded: bool) -> Row:
    total = sum(counts)
    cells = []
    for column, count in enumerate(counts):
        share = count / total if total else 0.0
        right = column == place
        # Mistakes are small beside the diagonal; the root brings them out, and any mistake at all is tinted.
        level = max(round((share if right else math.sqrt(share)) * LEVELS), 1) if count else 0
        # The folded row holds right answers and mistakes alike, so it has no colour.
        cells.append(Cell(count=count, share=share, level=0 if folded else level, right=right))
    return Row(name=name, cells=tuple(cells), recall=recall)


def _mistakes(table: np.ndarray, names: Sequence[str], most: int = 3) -> tuple[Mistake, ...]:
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    # Stable: equal counts stay in the order of the classes.
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    found = [(int(wrong.flat[place]), *map(int, divmod(place, len(names)))) for place in places]
    return tuple(
        Mistake(names[true], names[predicted], count, count / int(table[true].sum()))
        for count, true, predicted in found
        if count
    )


def _most_mistaken(table: np.ndarray) -> list[int]:
    """The classes with the most mistakes, as true or predicted class, in their own order."""
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * table.diagonal()
    return sorted(int(index) for index in np.argsort(-wrong, kind="stable")[:KEPT_CLASSES])


def _fold(table: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """The kept classes, and a last row and column with the sums of all others."""
    rest = np.setdiff1d(np.arange(len(table)), kept)
    rows = np.vstack([table[kept], table[rest].sum(axis=0)])
    return np.column_stack([rows[:, kept], rows[:, rest].sum(axis=1)])
