"""Where marks, lines and labels lie: pure arithmetic, in percent of the drawing's box.

Percentages, because the templates draw with them: a chart then fits a phone and a wide screen while its text keeps
the page's size. Vertical positions count from the top, as in SVG.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.report import wording
from pipeline.report.leaderboard import Board
from pipeline.report.reading import CLEAN, Result, Step

SHAPES = ("disc", "square", "triangle", "diamond", "cross", "ring", "bar")
COLOURS = 6


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Sign:
    """How a dataset is drawn: the same colour and shape in every chart of a run."""

    name: str
    colour: int
    shape: str


@dataclass(frozen=True)
class Mark:
    """One value on one dataset."""

    at: float
    sign: Sign
    text: str


@dataclass(frozen=True)
class DotRow:
    """One method: its marks and the line from the lowest to the highest."""

    label: str
    marks: tuple[Mark, ...]
    start: float
    end: float


@dataclass(frozen=True)
class DotPlot:
    """What the noise did: a row per method, a mark per dataset, one shared axis."""

    measure: str
    legend: tuple[Sign, ...]
    """The datasets of this chart."""
    ticks: tuple[Tick, ...]
    rows: tuple[DotRow, ...]
    chance: Tick | None


@dataclass(frozen=True)
class Line:
    """One curve; `pieces` are SVG point lists, cut where a value is missing."""

    name: str
    style: str
    pieces: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    """Values alone between gaps, which no line would show."""
    last: str


@dataclass(frozen=True)
class Curves:
    """One measure over the epochs, on training and validation data; or over something else."""

    measure: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    remark: str
    axis: str = "epoch"


@dataclass(frozen=True)
class Bar:
    """A step's bar on the timeline, in percent of the run."""

    start: float
    width: float


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers that cover low..high, at steps of 1, 2 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high < low:
        raise ValueError(f"expected finite low <= high, received {low} and {high}; do leave out missing values")
    if high == low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / max(wanted - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def signs(names: Sequence[str]) -> dict[str, Sign]:
    """A sign for every dataset of a run: clean has the first one, whether a chart shows it or not.

    Shape and colour cycle apart, so that no pair comes back among the first 42.
    """
    order = dict.fromkeys([CLEAN, *names])
    return {name: Sign(name, index % COLOURS, SHAPES[index % len(SHAPES)]) for index, name in enumerate(order)}


def dot_plot(board: Board, by_name: Mapping[str, Sign], chance: float | None = None) -> DotPlot | None:
    """The chart of a board; None where fewer than two datasets were measured."""
    finite = {
        (place, name): score.finite
        for place, standing in enumerate(board.standings)
        for name in board.data
        if (score := standing.scores[name]) is not None and score.finite is not None
    }
    series = tuple(name for name in board.data if any(name == measured for _, measured in finite))
    if len(series) < 2:
        return None
    level = chance if board.measure == "accuracy" else None
    ticks = nice_ticks(*_span([*finite.values(), *([level] if level is not None else [])], board.measure), wanted=6)
    low, high = ticks[0], ticks[-1]
    rows = []
    for place, standing in enumerate(board.standings):
        marks = [
            Mark(
                at=percent(finite[place, name], low, high),
                sign=by_name[name],
                text=f"{name}: {wording.number(finite[place, name], board.measure)}",
            )
            for name in series
            if (place, name) in finite
        ]
        if marks:
            places = [mark.at for mark in marks]
            # Clean comes last, so that it lies on top where marks meet.
            rows.append(DotRow(standing.result.label, tuple(reversed(marks)), min(places), max(places)))
    return DotPlot(
        measure=board.measure,
        legend=tuple(by_name[name] for name in series),
        ticks=tuple(Tick(percent(tick, low, high), tick_label(tick, ticks)) for tick in ticks),
        rows=tuple(rows),
        chance=Tick(percent(level, low, high), wording.number(level)) if level is not None else None,
    )


def _span(values: Sequence[float], measure: str) -> tuple[float, float]:
    low, high = min(values), max(values)
    # Gains start at zero: whether a picture got better at all is the first thing to see.
    return (min(low, 0.0), max(high, 0.0)) if "gain" in measure else (low, high)


def percent(value: float, low: float, high: float) -> float:
    """Where `value` lies between `low` (0) and `high` (100), to a hundredth."""
    return round(100 * (value - low) / (high - low), 2) if high > low else 50.0


def tick_label(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as the axis's step needs."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick + 0.0:,.{digits}f}".replace("-", wording.MINUS)


def learning_curves(result: Result) -> list[Curves]:
    """A drawing per measure in the history, loss first; empty where nothing was recorded."""
    names = [name for name in result.history if not name.startswith("val_")]
    names += [name[4:] for name in result.history if name.startswith("val_") and name[4:] not in names]
    names.sort(key=lambda name: name != "loss")
    drawn = (_curves(name, result.history) for name in names)
    return [curves for curves in drawn if curves is not None]


def _curves(measure: str, history: Mapping[str, tuple[float | None, ...]]) -> Curves | None:
    train, validation = history.get(measure, ()), history.get(f"val_{measure}", ())
    present = [value for value in (*train, *validation) if value is not None and math.isfinite(value)]
    epochs = max(len(train), len(validation))
    if not present:
        return None
    y_ticks = nice_ticks(min(present), max(present), wanted=4)
    lines = tuple(
        _line(name, style, values, epochs, y_ticks)
        for name, style, values in (("training", "train", train), ("validation", "validation", validation))
        if any(value is not None and math.isfinite(value) for value in values)
    )
    return Curves(
        measure=measure,
        lines=lines,
        x_ticks=tuple(Tick(_epoch(tick - 1, epochs), str(tick)) for tick in epoch_ticks(epochs)),
        y_ticks=tuple(Tick(100 - percent(t, y_ticks[0], y_ticks[-1]), tick_label(t, y_ticks)) for t in y_ticks),
        remark=_remark(measure, train, validation),
    )


def epoch_ticks(epochs: int) -> list[int]:
    """The epochs to label: the first, the last and round ones between that leave both some room."""
    if epochs < 2:
        return [1]
    room = (epochs - 1) / 12
    between = [int(tick) for tick in nice_ticks(1, epochs, wanted=6) if tick == int(tick)]
    return [1, *(tick for tick in between if 1 + room < tick < epochs - room), epochs]


def _epoch(index: float, epochs: int) -> float:
    return round(100 * index / (epochs - 1), 2) if epochs > 1 else 50.0


def _line(name: str, style: str, values: Sequence[float | None], epochs: int, ticks: Sequence[float]) -> Line:
    pieces: list[list[tuple[float, float]]] = [[]]
    last = None
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value):
            pieces.append([])
        else:
            pieces[-1].append((_epoch(index, epochs), round(100 - percent(value, ticks[0], ticks[-1]), 2)))
            last = value
    return Line(
        name=name,
        style=style,
        pieces=tuple(" ".join(f"{x:g},{y:g}" for x, y in piece) for piece in pieces if len(piece) > 1),
        dots=tuple(piece[0] for piece in pieces if len(piece) == 1),
        last=wording.number(last),
    )


def _remark(measure: str, train: Sequence[float | None], validation: Sequence[float | None]) -> str:
    """Which epoch was best, on validation data where there are any, and whether something was not a number."""
    values = validation if any(value is not None for value in validation) else train
    finite = {place: v for place, v in enumerate(values, start=1) if v is not None and math.isfinite(v)}
    smallest = "accuracy" not in measure and "psnr" not in measure.lower() and "auc" not in measure.lower()
    sentence = ""
    if finite:
        epoch = min(finite, key=lambda place: finite[place] if smallest else -finite[place])
        kind = "validation" if values is validation else "training"
        sentence = f"Best {kind} {measure} {wording.number(finite[epoch])} in epoch {epoch} of {len(values)}."
    if any(value is not None and not math.isfinite(value) for value in (*train, *validation)):
        sentence += " Some epochs gave no finite number: the training diverged."
    return sentence.strip()


def timeline(steps: Sequence[Step]) -> list[Bar | None]:
    """A bar per step on the run's time axis; without start times, bars of their length from the left."""
    ends = [_offset(step, steps) + (step.seconds or 0.0) for step in steps]
    total = max(ends, default=0.0)
    if total <= 0:
        return [None] * len(steps)
    return [
        Bar(start=round(100 * _offset(step, steps) / total, 2), width=round(100 * step.seconds / total, 2))
        if step.seconds
        else None
        for step in steps
    ]


def has_starts(steps: Sequence[Step]) -> bool:
    """Whether every step that took time says when it started."""
    timed = [step for step in steps if step.seconds]
    return bool(timed) and all(step.started is not None for step in timed)


def _offset(step: Step, steps: Sequence[Step]) -> float:
    if step.started is None or not has_starts(steps):
        return 0.0
    first = min(other.started for other in steps if other.started is not None)
    return (step.started - first).total_seconds()
