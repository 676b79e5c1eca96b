"""Who is ahead: results ranked by their measure, on clean data and on every noisy copy.

Measures of different tasks do not compare (an accuracy with a PSNR), so there is one board per task and measure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.report.reading import CLEAN, Result, RunRecord, Score, parse_results

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "pipeline",
    "label",
    "name",
    "kind",
    "task",
    "data",
    "split",
    "measure",
    "value",
    "drop_from_clean",
    "fit_seconds",
    "predict_seconds",
    "fit_rows",
    "rows",
    "parameters",
    "device",
)
_LOWER_WORDS = {"loss", "mse", "rmse", "mae", "error", "perplexity", "stress", "inertia"}
_TASK_ORDER = ("classification", "regression", "reconstruction", "clustering", "decomposition", "view")


@dataclass(frozen=True)
class Standing:
    """One method or network on a board."""

    result: Result
    scores: Mapping[str, Score | None]
    """By dataset name; None where it was not measured."""
    drops: Mapping[str, float | None]
    """How much worse than on clean data, by noisy dataset; negative where noise helped, None where unknown."""
    key: float | None
    """What the board is ranked by: the value on clean data or, where clean data says nothing, the mean of the rest."""
    mean_drop: float | None


@dataclass(frozen=True)
class Board:
    """All results of one task and measure, best first."""

    task: str
    measure: str
    data: tuple[str, ...]
    standings: tuple[Standing, ...]

    @property
    def noisy(self) -> tuple[str, ...]:
        """The names of the noisy copies that somebody was measured on."""
        return tuple(name for name in self.data if name != CLEAN)

    @property
    def ranked(self) -> tuple[Standing, ...]:
        """The standings that have a value to be ranked by."""
        return tuple(standing for standing in self.standings if standing.key is not None)


def lower_is_better(measure: str) -> bool:
    """Whether a smaller value of `measure` wins."""
    return bool(_LOWER_WORDS & set(measure.lower().replace("-", " ").replace("_", " ").split()))


def has_clean_baseline(measure: str) -> bool:
    """Whether noisy values can be set against the clean one; a gain over the noisy picture cannot."""
    return "gain" not in measure.lower()


def drop(measure: str, clean: Score | None, other: Score | None) -> float | None:
    """How much worse `other` is than `clean`; None where either has no finite value."""
    if not has_clean_baseline(measure) or clean is None or other is None:
        return None
    if clean.finite is None or other.finite is None:
        return None
    difference = clean.finite - other.finite
    return -difference if lower_is_better(measure) else difference


def boards(record: RunRecord) -> list[Board]:
    """The boards of a run: classification first, networks and methods together."""
    groups: dict[tuple[str, str], list[Result]] = {}
    measures: dict[str, str] = {}
    # Results that measured nothing join their task's board at its end, so that no method vanishes.
    for result in sorted(record.results, key=lambda result: not result.scores):
        measure = result.scores[0].measure if result.scores else measures.get(result.task, "score")
        measures.setdefault(result.task, measure)
        groups.setdefault((result.task, measure), []).append(result)
    order = [dataset.name for dataset in record.datasets]
    found = [_board(task, measure, results, order) for (task, measure), results in groups.items()]
    return sorted(found, key=lambda board: (_task_rank(board.task), board.task))


def _task_rank(task: str) -> int:
    return _TASK_ORDER.index(task) if task in _TASK_ORDER else len(_TASK_ORDER)


def _board(task: str, measure: str, results: Sequence[Result], order: Sequence[str]) -> Board:
    # A gain over the noisy picture has no meaning on clean data, where it is minus infinity at best: no column for it.
    measured = {
        score.data: None
        for result in results
        for score in result.scores
        if score.data != CLEAN or score.finite is not None or has_clean_baseline(score.measure)
    }
    # Clean data leads even where a run lists its datasets in another order.
    known = [name for name in order if name in measured]
    names = sorted(dict.fromkeys([*known, *measured]), key=lambda name: name != CLEAN)
    standings = [_standing(result, measure, names) for result in results]
    sign = 1 if lower_is_better(measure) else -1
    standings.sort(key=lambda standing: math.inf if standing.key is None else sign * standing.key)
    return Board(task=task, measure=measure, data=tuple(names), standings=tuple(standings))


def _standing(result: Result, measure: str, names: Sequence[str]) -> Standing:
    scores = {name: result.score(name, measure) for name in names}
    clean = scores.get(CLEAN)
    noisy = [name for name in names if name != CLEAN]
    drops = {name: drop(measure, clean, scores[name]) for name in noisy}
    if has_clean_baseline(measure) and clean is not None:
        key = clean.finite
    else:
        key = mean(score.finite for name in noisy if (score := scores[name]) is not None)
    return Standing(result=result, scores=scores, drops=drops, key=key, mean_drop=mean(drops.values()))


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of what is there; None where nothing is."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


def leaderboard(results: Sequence[Mapping[str, Any]], *, pipeline: str = "") -> pandas.DataFrame:
    """A row per method or network and dataset, best first within a task.

    Parameters
    ----------
    results : sequence of dict
        Results as steps produce them and ``run.json`` keeps them. A result's own ``"pipeline"`` wins over `pipeline`.
    pipeline : str
        The name for the column of that name.

    Returns
    -------
    pandas.DataFrame
        Columns as in `COLUMNS`. ``value`` and ``drop_from_clean`` are float64 with NaN where nothing was measured;
        counts are Int64. A positive ``drop_from_clean`` means worse than on clean data, whichever way the measure
        points; it is NaN for a measure without a clean baseline (PSNR gain).
    """
    import pandas

    rows: list[dict[str, Any]] = []
    for entry, result in zip(results, parse_results(results), strict=True):
        owner = str(entry.get("pipeline") or pipeline)
        rows += [_row(owner, result, score) for score in result.scores]
    rows.sort(key=_row_order)
    types = dict.fromkeys(("value", "drop_from_clean", "fit_seconds", "predict_seconds"), "float64")
    types |= dict.fromkeys(("fit_rows", "rows", "parameters"), "Int64")
    return pandas.DataFrame(rows, columns=list(COLUMNS)).astype(types)


def _row(pipeline: str, result: Result, score: Score) -> dict[str, Any]:
    return {
        "pipeline": pipeline,
        "label": result.label,
        "name": result.name,
        "kind": result.kind,
        "task": result.task,
        "data": score.data,
        "split": score.split,
        "measure": score.measure,
        "value": score.value,
        "drop_from_clean": drop(score.measure, _clean_twin(result, score), score),
        "fit_seconds": result.fit_seconds,
        "predict_seconds": score.predict_seconds,
        "fit_rows": result.fit_rows,
        "rows": score.rows,
        "parameters": result.parameters,
        "device": result.device,
    }


def _clean_twin(result: Result, score: Score) -> Score | None:
    """The clean score of the same split and measure."""
    wanted = (CLEAN, score.split, score.measure)
    return next((other for other in result.scores if (other.data, other.split, other.measure) == wanted), None)


def _row_order(row: Mapping[str, Any]) -> tuple[str, str, float]:
    value = row["value"]
    if value is None or not math.isfinite(value):
        return row["task"], row["measure"], math.inf
    return row["task"], row["measure"], value if lower_is_better(row["measure"]) else -value


def write_leaderboard(run_json: Path | Mapping[str, Any], path: Path) -> Path:
    """Write a run's leaderboard as CSV.

    Parameters
    ----------
    run_json : Path or dict
        A ``run.json``, or its content.
    path : Path
        The file to write; it is replaced in one move.

    Returns
    -------
    Path
        `path`.
    """
    content = run_json if isinstance(run_json, Mapping) else json.loads(Path(run_json).read_text(encoding="utf-8"))
    table = leaderboard(content.get("results") or [], pipeline=str(content.get("pipeline") or ""))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    table.to_csv(partial, index=False)
    partial.replace(path)
    return path
