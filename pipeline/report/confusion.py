"""Confusion matrices as heat tables, and in words: which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    # A class beyond the known names (or a list of names that is missing) still has a number to call it by.
    names = [classes[index] if index < len(classes) else f"class {index}" for index in range(len(counts))]
    mistakes = _mistakes(counts, names)
    hidden = 0
    recalls = [row[index] / sum(row) if sum(row) else None for index, row in enumerate(counts)]
    table = [list(row) for row in counts]
    if len(names) > MOST_CLASSES:
        kept = _most_mistaken(counts)
        hidden = len(names) - len(kept)
        table, recalls = _fold(counts, kept), [recalls[index] for index in kept] + [None]
        names = [names[index] for index in kept] + [f"{hidden} other classes"]
    rows = tuple(
        _row(name, row, place, recall, folded=bool(hidden) and place == len(names) - 1)
        for place, (name, row, recall) in enumerate(zip(names, table, recalls, strict=True))
    )
    return Matrix(names=tuple(names), rows=rows, mistakes=mistakes, hidden=hidden)


def _row(name: str, counts: Sequence[int], place: int, recall: float | None, *, folded: bool) -> Row:
    total = sum(counts)
    cells = []
    for column, count in enumerate(counts):
        share = count / total if total else 0.0
        # Any mistake at all is tinted: a rounded-away level would hide it. "Other" holds rights and mistakes alike.
        level = max(round(share * LEVELS), 1) if count else 0
        cells.append(Cell(count=count, share=share, level=0 if folded else level, right=column == place))
    return Row(name=name, cells=tuple(cells), recall=recall)


def _mistakes(counts: Sequence[Sequence[int]], names: Sequence[str], most: int = 5) -> tuple[Mistake, ...]:
    wrong = [
        (count, true, predicted)
        for true, row in enumerate(counts)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    wrong.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
    return tuple(
        Mistake(names[true], names[predicted], count, count / sum(counts[true])) for count, true, predicted in wrong[:most]
    )


def _most_mistaken(counts: Sequence[Sequence[int]]) -> list[int]:
    """The classes with the most mistakes, as true or predicted class, in their own order."""
    size = range(len(counts))
    columns = [sum(counts[row][column] for row in size) for column in size]
    wrong = [sum(counts[index]) + columns[index] - 2 * counts[index][index] for index in size]
    return sorted(sorted(size, key=lambda index: -wrong[index])[:KEPT_CLASSES])


def _fold(counts: Sequence[Sequence[int]], kept: Sequence[int]) -> list[list[int]]:
    """The kept classes, and a last row and column with the sums of all others."""
    rest = [index for index in range(len(counts)) if index not in set(kept)]
    table = [[*(counts[row][column] for column in kept), sum(counts[row][column] for column in rest)] for row in kept]
    last = [sum(counts[row][column] for row in rest) for column in kept]
    table.append([*last, sum(counts[row][column] for row in rest for column in rest)])
    return table
