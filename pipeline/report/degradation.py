"""Robustness curves as small multiples, and the table of corruption errors: a panel and a column per noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report import wording
from pipeline.report.charts import COLOURS, SHAPES, Sign, Tick, nice_ticks, percent, tick_label
from pipeline.report.robustness import Noise, Robustness, Trial, finite

DASHES = 3
MOST_LEVELS = 6
_CLOSE = 0.005
"""Corruption errors this near to 1 read as 1.00 and get no colour."""


@dataclass(frozen=True)
class Series:
    """One method or network in one panel; `pieces` are SVG point lists, cut where a value is missing."""

    sign: Sign
    dash: int
    pieces: tuple[str, ...]
    marks: tuple[tuple[float, float, str], ...]
    """Place in percent and text of every value."""


@dataclass(frozen=True)
class Panel:
    """Everyone under one noise."""

    name: str
    series: tuple[Series, ...]
    text: str
    """The panel in words, for who cannot see it."""


@dataclass(frozen=True)
class Panels:
    """A panel per noise, all on the same axes."""

    measure: str
    legend: tuple[tuple[Sign, int], ...]
    """Signs and dashes, in the order of the table."""
    panels: tuple[Panel, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    chance: Tick | None


@dataclass(frozen=True)
class ErrorCell:
    """A number under one noise; `level` 0..MOST_LEVELS says how far it is from the baseline's 1."""

    value: float | None
    level: int
    tone: str
    best: bool


@dataclass(frozen=True)
class ErrorRow:
    """One method or network; `place` is None where it cannot be ranked."""

    trial: Trial
    place: int | None
    best: bool
    baseline: bool
    mean_drop: float | None
    cells: tuple[ErrorCell, ...]


@dataclass(frozen=True)
class ErrorTable:
    """Corruption errors or, where no baseline makes them, mean values; best first."""

    noises: tuple[str, ...]
    has_errors: bool
    by_mce: bool
    """Whether the rows are ranked by mean corruption error; else by mean drop."""
    rows: tuple[ErrorRow, ...]


@dataclass(frozen=True)
class ScoreRow:
    """Everything measured of one method under one noise, by severity."""

    label: str
    noise: str
    clean: float | None
    scores: tuple[float | None, ...]
    mean: float | None
    drop: float | None


def panels(robustness: Robustness, chance: float | None) -> Panels | None:
    """The small multiples; None where no value can be drawn."""
    level = chance if robustness.measure == "accuracy" else None
    values = [finite(v) for trial in robustness.trials for v in (trial.clean, *sum(trial.scores.values(), ()))]
    drawn = [value for value in values if value is not None]
    if not drawn:
        return None
    drawn += [level] if level is not None else []
    ticks = nice_ticks(min(drawn), max(drawn), wanted=6)
    places = robustness.severities
    signs = [_sign(trial, index) for index, trial in enumerate(robustness.trials)]
    order = {id(trial): sign for trial, sign in zip(robustness.trials, signs, strict=True)}
    return Panels(
        measure=robustness.measure,
        legend=tuple(order[id(trial)] for trial in robustness.ranked),
        panels=tuple(_panel(noise, robustness, signs, places[-1], ticks) for noise in robustness.noises),
        x_ticks=(Tick(0.0, "clean"), *(Tick(percent(at, 0, places[-1]), f"{at:g}") for at in _labelled(places))),
        y_ticks=tuple(Tick(round(100 - percent(t, ticks[0], ticks[-1]), 2), tick_label(t, ticks)) for t in ticks),
        chance=Tick(round(100 - percent(level, ticks[0], ticks[-1]), 2), wording.number(level))
        if level is not None
        else None,
    )


def _sign(trial: Trial, index: int) -> tuple[Sign, int]:
    """A sign and a dash; colours come back after six, with another shape and another dash."""
    return Sign(trial.label, index % COLOURS, SHAPES[index % len(SHAPES)]), index // COLOURS % DASHES


def _labelled(places: Sequence[float], room: float = 0.16) -> list[float]:
    """The severities to label: the last one and those before it that leave each other, and "clean", some room."""
    kept: list[float] = []
    for place in reversed(places):
        if place >= room * places[-1] and (not kept or kept[-1] - place >= room * places[-1]):
            kept.append(place)
    return kept[::-1]


def _panel(
    noise: Noise, robustness: Robustness, signs: Sequence[tuple[Sign, int]], last: float, ticks: Sequence[float]
) -> Panel:
    told, series = [], []
    for trial, (sign, dash) in zip(robustness.trials, signs, strict=True):
        points = _points(noise, trial)
        found = [(at, value) for at, value, _ in points if value is not None]
        if not found:
            continue
        told.append(f"{trial.label} {' to '.join(wording.number(value) for _, value in (found[0], found[-1]))}")
        series.append(_series(sign, dash, points, last, ticks))
    ends = f"from clean to severity {max(noise.severities):g}"
    text = f"{noise.name}, {robustness.measure} {ends}: {'; '.join(told) or 'nothing was measured'}."
    # The first methods come last, so that they lie on top.
    return Panel(name=noise.name, series=tuple(reversed(series)), text=text)


def _points(noise: Noise, trial: Trial) -> list[tuple[float, float | None, str]]:
    """Severity, value and what to say of it, from clean to strong."""
    rows = zip(noise.severities, trial.scores[noise.name], noise.written, strict=True)
    noisy = sorted((at, finite(value), written or f"severity {at:g}") for at, value, written in rows)
    return [(0.0, finite(trial.clean), "clean"), *noisy]


def _series(
    sign: Sign, dash: int, points: Sequence[tuple[float, float | None, str]], last: float, ticks: Sequence[float]
) -> Series:
    pieces: list[list[str]] = [[]]
    marks = []
    for at, value, name in points:
        if value is None:
            pieces.append([])
            continue
        x, y = percent(at, 0, last), round(100 - percent(value, ticks[0], ticks[-1]), 2)
        pieces[-1].append(f"{x:g},{y:g}")
        marks.append((x, y, f"{sign.name}, {name}: {wording.number(value)}"))
    lines = tuple(" ".join(piece) for piece in pieces if len(piece) > 1)
    return Series(sign=sign, dash=dash, pieces=lines, marks=tuple(marks))


def error_table(robustness: Robustness) -> ErrorTable:
    """The rows of the table, lowest mean corruption error first; without any, lowest mean drop first."""
    noises = tuple(noise.name for noise in robustness.noises)
    by_mce = any(finite(trial.mce) is not None for trial in robustness.trials)
    # One noise without a ratio leaves no mean, and yet the other noises have theirs.
    has_errors = by_mce or any(finite(value) is not None for trial in robustness.trials for value in trial.ce.values())
    numbers = [
        trial.ce if has_errors else {name: trial.mean_score(name) for name in noises} for trial in robustness.trials
    ]
    best = {name: _best([finite(found.get(name)) for found in numbers], lowest=has_errors) for name in noises}
    by_trial = {id(trial): found for trial, found in zip(robustness.trials, numbers, strict=True)}
    keys = {id(t): finite(t.mce if by_mce else robustness.mean_drop(t)) for t in robustness.trials}
    first = _best(list(keys.values()), lowest=True)
    rows = []
    for place, trial in enumerate(robustness.ranked, start=1):
        found, key = by_trial[id(trial)], keys[id(trial)]
        row = ErrorRow(
            trial=trial,
            place=place if key is not None else None,
            best=key is not None and key == first,
            baseline=has_errors and trial.label == robustness.baseline,
            mean_drop=robustness.mean_drop(trial),
            cells=tuple(_cell(found.get(name), best[name], has_errors) for name in noises),
        )
        rows.append(row)
    return ErrorTable(noises=noises, has_errors=has_errors, by_mce=by_mce, rows=tuple(rows))


def _best(values: Sequence[float | None], *, lowest: bool) -> float | None:
    """The best of several; None where nothing is ahead of anything."""
    known = {value for value in values if value is not None}
    return (min(known) if lowest else max(known)) if len(known) > 1 else None


def _cell(value: float | None, best: float | None, is_error: bool) -> ErrorCell:
    known = finite(value)
    if known is None or not is_error or abs(known - 1) < _CLOSE:
        return ErrorCell(value, 0, "", known is not None and known == best)
    level = min(MOST_LEVELS, math.ceil(abs(known - 1) * 10))
    return ErrorCell(value, level, "less" if known < 1 else "more", known == best)


def score_rows(robustness: Robustness) -> tuple[ScoreRow, ...]:
    """Every value: a row per noise and method, a place per severity of the run."""
    places = robustness.severities
    rows = []
    for noise in robustness.noises:
        for trial in robustness.ranked:
            found = dict(zip(noise.severities, trial.scores[noise.name], strict=True))
            scores = tuple(found.get(place) for place in places)
            mean, drop = trial.mean_score(noise.name), trial.drop(noise.name)
            rows.append(ScoreRow(trial.label, noise.name, trial.clean, scores, mean, drop))
    return tuple(rows)
