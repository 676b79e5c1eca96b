"""The report: one HTML file that holds everything it shows and opens without a network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.report import charts, confusion, pictures, verdict, wording
from pipeline.report.leaderboard import Board, boards, lower_is_better
from pipeline.report.record import CLEAN, Result, RunRecord, Score, Step, read_run

if TYPE_CHECKING:
    import jinja2

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
    legend: Sequence[tuple[int, str, str]]
    details: DetailTable
    lower: bool
    full_scale: bool
    """Whether values lie between 0 and 1, so that a bar may stand for them."""


@dataclass(frozen=True)
class DetailTable:
    """Every number of a board: a row per method and dataset."""

    columns: tuple[str, ...]
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
    failures: Sequence[Step]
    absent: Sequence[Step]
    boards: Sequence[BoardView]
    confusions: Sequence[ConfusionView]
    curves: Sequence[tuple[str, Sequence[charts.Curves]]]
    pictures: Sequence[PictureView]
    timeline: Sequence[charts.Bar | None]
    has_starts: bool
    balance: Sequence[tuple[str, int, float]]
    balance_hidden: int

    @property
    def failed(self) -> bool:
        """Whether the run has to be shown as failed."""
        return bool(self.failures or self.record.exit_code)


def write_report(runs: Sequence[Path], target: Path) -> Path:
    """Write one HTML page about one or several runs.

    Parameters
    ----------
    runs : sequence of Path
        Run folders, each with a ``run.json``; shown in this order.
    target : Path
        The HTML file to write; its folder is made, an old file is replaced in one move.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    ValueError
        When `runs` is empty, `target` is a folder, or a ``run.json`` is no JSON object.
    FileNotFoundError
        When a folder has no ``run.json``.

    Notes
    -----
    The page depends on the runs alone, not on when it is written: the same runs give the same bytes. Artifacts that
    are missing or damaged cost their pictures, never the page.
    """
    target = Path(target)
    if not runs:
        raise ValueError("expected at least one run folder, received none; do run a pipeline first")
    if target.is_dir():
        raise ValueError(f"expected a file to write the report to, received the folder {target}; do add report.html")
    html = render([read_run(Path(folder)) for folder in runs])
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(html, encoding="utf-8")
    partial.replace(target)
    return target


def render(records: Sequence[RunRecord]) -> str:
    """The page as text."""
    from markupsafe import Markup

    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    names = list(dict.fromkeys(record.pipeline for record in records))
    views = [_view(record, place) for place, record in enumerate(records, start=1)]
    return _environment().get_template("page.html.j2").render(
        title=wording.listing(names),
        views=views,
        finished=max((record.finished for record in records if record.finished), default=None),
        # Our own two files are the only text that is not escaped.
        style=Markup(_asset("page.css")),
        script=Markup(script),
        # Nothing but this one script may run and nothing may be fetched, even if a name got past the escaping.
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
    )


def _asset(name: str) -> str:
    return resources.files("pipeline.report").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (wording.number, wording.difference, wording.count, wording.duration, wording.size, wording.moment)
    environment.filters |= {word.__name__: word for word in words}
    environment.filters |= {"plain": wording.plain, "flatten": wording.flatten, "listing": wording.listing}
    environment.globals |= {"plural": wording.plural, "clean": CLEAN, "isfinite": math.isfinite}
    return environment


def _view(record: RunRecord, place: int) -> RunView:
    found = boards(record)
    counts = next((d.class_counts for d in record.datasets if d.name == CLEAN), ())
    balance, hidden = _balance(counts, record.classes)
    curves = [(result.label, charts.learning_curves(result)) for result in record.results]
    return RunView(
        id=f"run-{place}",
        record=record,
        summary=verdict.summary(record),
        verdicts=verdict.verdicts(record),
        failures=verdict.failures(record),
        absent=verdict.absent(record),
        boards=[_board_view(board, verdict.chance_level(record)) for board in found],
        confusions=[
            view
            for board in found
            for standing in board.standings
            if (view := _confusion_view(board, standing.result, record.classes)).matrices
        ],
        curves=[(label, drawn) for label, drawn in curves if drawn],
        pictures=[view for result in record.results if (view := _picture_view(record, result)) is not None],
        timeline=charts.timeline(record.steps),
        has_starts=charts.has_starts(record.steps),
        balance=balance,
        balance_hidden=hidden,
    )


def _board_view(board: Board, chance: float | None) -> BoardView:
    plot = charts.dot_plot(board, chance)
    return BoardView(
        board=board,
        plot=plot,
        legend=charts.legend(plot.series) if plot else (),
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
    rows = tuple((label, score.data, score, tuple(_cell(score.extra.get(key)) for key in keys)) for label, score in scores)
    return DetailTable(columns=tuple(_EXTRA_NAMES.get(key, key.replace("_", " ")) for key in keys), rows=rows)


def _keys(scores: Iterable[Score]) -> Iterable[str]:
    return (key for score in scores for key, value in score.extra.items() if not isinstance(value, (Mapping, list)))


def _cell(value: Any) -> tuple[str, float | None]:
    """An extra number as text and as what its column is sorted by."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return wording.plain(value), None
    text = wording.count(value) if isinstance(value, int) else wording.number(value)
    return text, float(value) if math.isfinite(value) else None


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
