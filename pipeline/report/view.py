"""What the page shows of a run: the record's numbers, ranked, placed and put into words, ready to be drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import charts, confusion, pictures, verdict, wording
from pipeline.report.knee import knee_curves
from pipeline.report.leaderboard import Board, boards, lower_is_better
from pipeline.report.reading import CLEAN, Result, RunRecord, Score, Step
from pipeline.report.robustness_verdict import robustness_verdicts
from pipeline.report.robustness_view import RobustnessView, view_robustness
from pipeline.report.scatter import ScatterView, scatter_view

_EXTRA_NAMES = {
    "f1_macro": "F1 (macro)",
    "noise_points": "noise points",
    "psnr_noisy": "PSNR noisy (dB)",
    "psnr_denoised": "PSNR denoised (dB)",
    "mse": "MSE",
}
_FULL_SCALE = ("accuracy", "explained variance", "ARI", "NMI", "F1")
_MOST_BALANCED = 24


@dataclass(frozen=True)
class BoardView:
    """A board with its chart; `chance` is drawn where the measure is an accuracy."""

    board: Board
    plot: charts.DotPlot | None
    details: DetailTable
    lower: bool
    full_scale: bool
    """Whether values lie between 0 and 1, so that a bar may stand for them."""


@dataclass(frozen=True)
class DetailTable:
    """Every number of a board: a row per method and dataset."""

    columns: tuple[str, ...]
    mixed: bool
    """Whether more than one measure occurs."""
    rows: tuple[tuple[str, str, Score, tuple[Any, ...]], ...]


@dataclass(frozen=True)
class ConfusionView:
    """The matrices of one result, clean first."""

    label: str
    headline: str
    matrices: tuple[tuple[str, Score, confusion.Matrix], ...]


@dataclass(frozen=True)
class PictureView:
    """The picture grids of one result, or why there are none."""

    label: str
    grids: tuple[pictures.Grid, ...]
    problem: str | None


@dataclass(frozen=True)
class RunView:
    """All that the page shows of one run."""

    id: str
    record: RunRecord
    summary: str
    verdicts: Sequence[verdict.Verdict]
    trouble: str
    failures: Sequence[Step]
    skipped: Sequence[Step]
    boards: Sequence[BoardView]
    robustness: RobustnessView | None
    confusions: Sequence[ConfusionView]
    curves: Sequence[tuple[str, Sequence[charts.Curves]]]
    scatters: Sequence[ScatterView]
    knees: Sequence[tuple[str, charts.Curves]]
    pictures: Sequence[PictureView]
    timeline: Sequence[charts.Bar | None]
    has_starts: bool
    balance: Sequence[tuple[str, int, float]]
    balance_hidden: int

    @property
    def failed(self) -> bool:
        """Whether the run has to be shown as failed."""
        return bool(self.trouble)

    @property
    def absent(self) -> list[Step]:
        """Methods and networks that are on no board because they failed or were skipped."""
        return [step for step in (*self.failures, *self.skipped) if step.kind != "dataset"]

    @property
    def has_setup(self) -> bool:
        """Whether anything is known about the pipeline, versions, cluster, source or configuration."""
        record = self.record
        return bool(self.pipeline or record.versions or record.cluster or record.source or record.config)

    @property
    def pipeline(self) -> dict[str, Any]:
        """What the pipeline says about the data."""
        facts = {"seed": self.record.seed, "noise": self.record.noise, "split": self.record.split}
        return {name: fact for name, fact in facts.items() if fact is not None and fact not in ((), {})}


def view_run(record: RunRecord, place: int) -> RunView:
    """All that the page shows of a run; `place` is its number on the page, from 1."""
    found = boards(record)
    names = [dataset.name for dataset in record.datasets]
    signs = charts.signs([*names, *(name for board in found for name in board.data)])
    counts = next((d.class_counts for d in record.datasets if d.name == CLEAN), ())
    balance, hidden = _balance(counts, record.classes)
    curves = [(result.label, charts.learning_curves(result)) for result in record.results]
    return RunView(
        id=f"run-{place}",
        record=record,
        summary=verdict.summary(record),
        verdicts=[*verdict.verdicts(record), *robustness_verdicts(record)],
        trouble=verdict.trouble(record),
        failures=verdict.with_status(record, "failed"),
        skipped=verdict.with_status(record, "skipped"),
        boards=[_board_view(board, signs, verdict.chance_level(record)) for board in found],
        robustness=view_robustness(record),
        confusions=_confusion_views(found, record.classes),
        curves=[(label, lines) for label, lines in curves if lines],
        scatters=[made for result in record.results if (made := scatter_view(result, record.classes)) is not None],
        knees=[
            (f"{result.label} on {data}", curve) for result in record.results for data, curve in knee_curves(result)
        ],
        pictures=[drawn for result in record.results if (drawn := _picture_view(record, result)) is not None],
        timeline=charts.timeline(record.steps),
        has_starts=charts.has_starts(record.steps),
        balance=balance,
        balance_hidden=hidden,
    )


def _board_view(board: Board, signs: Mapping[str, charts.Sign], chance: float | None) -> BoardView:
    return BoardView(
        board=board,
        plot=charts.dot_plot(board, signs, chance),
        details=_details(board),
        lower=lower_is_better(board.measure),
        full_scale=board.measure in _FULL_SCALE,
    )


def _details(board: Board) -> DetailTable:
    scores = [
        (standing.result.label, score)
        for standing in board.standings
        for name in board.data
        for score in standing.result.scores
        if score.data == name
    ]
    keys = [key for key in dict.fromkeys(_keys(score for _, score in scores)) if key.lower() != board.measure.lower()]
    rows = tuple(
        (label, score.data, score, tuple(_cell(score.extra.get(key)) for key in keys)) for label, score in scores
    )
    columns = tuple(_EXTRA_NAMES.get(key, key.replace("_", " ")) for key in keys)
    return DetailTable(columns=columns, mixed=any(score.measure != board.measure for _, score in scores), rows=rows)


def _keys(scores: Iterable[Score]) -> Iterable[str]:
    return (key for score in scores for key, value in score.extra.items() if not isinstance(value, (Mapping, list)))


def _cell(value: Any) -> tuple[str, float | None]:
    """An extra number as text and as what its column is sorted by."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return wording.plain(value), None
    text = wording.count(value) if isinstance(value, int) else wording.number(value)
    return text, float(value) if math.isfinite(value) else None


def _confusion_views(found: Sequence[Board], classes: Sequence[str]) -> list[ConfusionView]:
    drawn = (_confusion_view(board, one.result, classes) for board in found for one in board.standings)
    return [view for view in drawn if view.matrices]


def _confusion_view(board: Board, result: Result, classes: Sequence[str]) -> ConfusionView:
    scores = [score for name in board.data if (score := result.score(name, board.measure)) is not None]
    drawn = tuple((s.data, s, confusion.matrix(s.confusion, classes)) for s in scores if s.confusion is not None)
    headline = " · ".join(f"{name} {wording.number(score.value, score.measure)}" for name, score, _ in drawn)
    return ConfusionView(label=result.label, headline=headline, matrices=drawn)


def _picture_view(record: RunRecord, result: Result) -> PictureView | None:
    if not result.artifacts.get("examples"):
        return None
    path = record.artifact(result, "examples")
    if path is None:
        missing = f"The file {result.artifacts['examples']} is not in the run's folder any more."
        return PictureView(label=result.label, grids=(), problem=missing)
    try:
        return PictureView(label=result.label, grids=tuple(pictures.read_grids(path)), problem=None)
    except ValueError as error:
        return PictureView(label=result.label, grids=(), problem=f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _balance(counts: Sequence[int], classes: Sequence[str]) -> tuple[list[tuple[str, int, float]], int]:
    """Class name, count and bar length in percent; and how many classes are left out."""
    names = [classes[index] if index < len(classes) else f"class {index}" for index in range(len(counts))]
    largest = max(counts, default=0) or 1
    bars = [(name, rows, round(100 * rows / largest, 1)) for name, rows in zip(names, counts, strict=True)]
    return bars[:_MOST_BALANCED], max(0, len(bars) - _MOST_BALANCED)
