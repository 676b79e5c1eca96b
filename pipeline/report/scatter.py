"""Views of the data: rows as points of a picture, a colour for each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.reading import Result, Score

TINTS = 10
"""Colours of the style sheet; the next classes have the same ones again, as squares."""

_UNKNOWN = "without label"


@dataclass(frozen=True)
class Cloud:
    """The points of one class."""

    name: str
    tint: int
    """From 0; `TINTS` stands for rows without a label."""
    square: bool
    path: str
    """SVG path in a box of 100 by 100: a stroke of no length for each point."""
    count: int


@dataclass(frozen=True)
class Scatter:
    """A view of one dataset."""

    data: str
    score: Score
    rows: int
    clouds: tuple[Cloud, ...]


@dataclass(frozen=True)
class ScatterView:
    """The views that one method made."""

    label: str
    pictures: tuple[Scatter, ...]


def scatter_view(result: Result, classes: Sequence[str]) -> ScatterView | None:
    """The pictures of a result that has points; None for others."""
    drawn = (_scatter(score, classes) for score in result.scores)
    pictures = tuple(picture for picture in drawn if picture is not None)
    return ScatterView(result.label, pictures) if pictures else None


def _scatter(score: Score, classes: Sequence[str]) -> Scatter | None:
    by_class: dict[int, list[tuple[float, float]]] = {}
    for x, y, code in _points(score.extra):
        by_class.setdefault(code if code >= 0 else -1, []).append((x, y))
    if not by_class:
        return None
    codes = sorted(by_class, key=lambda code: (code < 0, code))
    clouds = tuple(_cloud(code, by_class[code], classes) for code in codes)
    return Scatter(score.data, score, sum(cloud.count for cloud in clouds), clouds)


def _points(extra: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    """The points of a record that are points."""
    found = []
    entries: Any = extra.get("points")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, list) and len(entry) == 3 and all(isinstance(value, (int, float)) for value in entry):
            x, y, code = entry
            if all(map(math.isfinite, entry)):
                found.append((float(x), float(y), int(code)))
    return found


def _cloud(code: int, points: Sequence[tuple[float, float]], classes: Sequence[str]) -> Cloud:
    name = _UNKNOWN if code < 0 else classes[code] if code < len(classes) else f"class {code}"
    # Upwards is up, as on paper.
    path = "".join(f"M{x:g} {100 - y:g}h0" for x, y in points)
    tint = TINTS if code < 0 else code % TINTS
    return Cloud(name, tint, square=code // TINTS % 2 == 1, path=path, count=len(points))
