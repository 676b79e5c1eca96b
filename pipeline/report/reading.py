"""What one run left behind, read from its ``run.json``.

The report must open for every run: one that was interrupted, one whose network failed, one written by an older
version. So reading is tolerant (a missing part becomes empty or None) and everything after this module works on
frozen records whose fields always exist.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.report.robustness import Robustness, parse_robustness
from pipeline.report.tolerant import count, mapping, mappings, number, sequence, text, time

CLEAN = "clean"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number that a method or network reached on one dataset."""

    data: str
    split: str
    measure: str
    value: float | None
    rows: int | None = None
    predict_seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Counts, true classes by predicted classes; None where classes have no meaning (clusterings)."""

    @property
    def finite(self) -> float | None:
        """The value where it can be ranked; None for a missing value, NaN or infinity."""
        return self.value if self.value is not None and math.isfinite(self.value) else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One fitted method or trained network and all its scores."""

    label: str
    name: str
    kind: str
    task: str
    trained_on: str = CLEAN
    fit_seconds: float | None = None
    fit_rows: int | None = None
    parameters: int | None = None
    device: str | None = None
    scores: tuple[Score, ...] = ()
    history: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None

    def score(self, data: str, measure: str | None = None) -> Score | None:
        """The score on `data` (by `measure`, else by any): that of the test split, else the first one."""
        here = [score for score in self.scores if score.data == data and measure in (None, score.measure)]
        return next((score for score in here if score.split == "test"), here[0] if here else None)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One Zarr dataset of the run: ``clean`` or a noisy copy."""

    name: str
    version: str = ""
    count: int | None = None
    shards: int | None = None
    bytes: int | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    reused: bool = False
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One node of the pipeline's graph and how it ended."""

    name: str
    kind: str
    status: str
    seconds: float | None = None
    started: datetime | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One execution of a pipeline, as the report sees it."""

    pipeline: str
    run: str
    folder: Path
    root: Path | None = None
    kind: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    seconds: float | None = None
    seed: int | None = None
    exit_code: int | None = None
    classes: tuple[str, ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    noise: tuple[str, ...] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    steps: tuple[Step, ...] = ()
    results: tuple[Result, ...] = ()
    robustness: Robustness | None = None
    """How accuracy falls with a noise's severity; None where nobody asked."""

    def artifact(self, result: Result, name: str) -> Path | None:
        """Where a result's artifact lies; None where there is none.

        A run folder may have been copied to another machine together with its root, so besides the recorded root the
        folders above the run are tried.
        """
        file = result.artifacts.get(name)
        if not file:
            return None
        roots = ([self.root] if self.root else []) + [self.folder, *self.folder.parents]
        candidates = (root / (result.folder or "") / file for root in roots)
        return next((path for path in candidates if path.is_file()), None)


def read_run(folder: Path) -> RunRecord:
    """Read ``run.json`` in `folder`.

    Raises
    ------
    FileNotFoundError
        When there is no ``run.json``.
    ValueError
        When the file is no JSON object.
    """
    path = Path(folder) / "run.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected a run folder with run.json, received {folder}; do give the folder of a run")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ValueError(f"expected JSON in {path}, received {error}; do run the pipeline again") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"expected a JSON object in {path}, received {type(content).__name__}; do run it again")
    return parse_run(content, Path(folder).resolve())


def parse_run(content: Mapping[str, Any], folder: Path) -> RunRecord:
    """Turn the content of a ``run.json`` that lies in `folder` into a record."""
    root = content.get("root")
    return RunRecord(
        pipeline=str(content.get("pipeline") or folder.name),
        run=str(content.get("run") or folder.name),
        folder=folder,
        root=Path(str(root)) if root else None,
        kind=str(content.get("kind") or ""),
        started=time(content.get("started")),
        finished=time(content.get("finished")),
        seconds=number(content.get("seconds")),
        seed=count(content.get("seed")),
        exit_code=count(content.get("exit_code")),
        classes=tuple(str(name) for name in sequence(content.get("classes"))),
        versions=mapping(content.get("versions")),
        config=mapping(content.get("config")),
        cluster=mapping(content.get("cluster")),
        source=mapping(content.get("source")),
        noise=tuple(str(noise) for noise in sequence(content.get("noise"))),
        split=mapping(content.get("split")),
        datasets=tuple(_dataset(entry) for entry in mappings(content.get("datasets"))),
        steps=tuple(_step(entry) for entry in mappings(content.get("steps"))),
        results=parse_results(mappings(content.get("results"))),
        robustness=parse_robustness(content.get("robustness")),
    )


def parse_results(entries: Sequence[Mapping[str, Any]]) -> tuple[Result, ...]:
    """Turn result dictionaries into records."""
    return tuple(_result(entry) for entry in entries)


def _result(entry: Mapping[str, Any]) -> Result:
    name = str(entry.get("name") or entry.get("label") or "unnamed")
    history = mapping(entry.get("history"))
    return Result(
        label=str(entry.get("label") or name),
        name=name,
        kind=str(entry.get("kind") or "method"),
        task=str(entry.get("task") or "other"),
        trained_on=str(entry.get("trained_on") or CLEAN),
        fit_seconds=number(entry.get("fit_seconds")),
        fit_rows=count(entry.get("fit_rows")),
        parameters=count(entry.get("parameters")),
        device=text(entry.get("device")),
        scores=tuple(_score(score) for score in mappings(entry.get("scores"))),
        history={str(key): tuple(number(value) for value in sequence(values)) for key, values in history.items()},
        artifacts={str(key): str(file) for key, file in mapping(entry.get("artifacts")).items() if file},
        folder=text(entry.get("folder")),
    )


def _score(entry: Mapping[str, Any]) -> Score:
    return Score(
        data=str(entry.get("data") or CLEAN),
        split=str(entry.get("split") or ""),
        measure=str(entry.get("measure") or "score"),
        value=number(entry.get("value")),
        rows=count(entry.get("rows")),
        predict_seconds=number(entry.get("predict_seconds")),
        extra=mapping(entry.get("extra")),
        confusion=_square(entry.get("confusion")),
    )


def _square(value: Any) -> tuple[tuple[int, ...], ...] | None:
    try:
        rows = tuple(tuple(map(int, row)) for row in sequence(value))
    except (TypeError, ValueError):
        return None
    return rows if rows and all(len(row) == len(rows) for row in rows) else None


def _dataset(entry: Mapping[str, Any]) -> Dataset:
    splits = {str(name): count(rows) for name, rows in mapping(entry.get("splits")).items()}
    return Dataset(
        name=str(entry.get("name") or "unnamed"),
        version=str(entry.get("version") or ""),
        count=count(entry.get("count")),
        shards=count(entry.get("shards")),
        bytes=count(entry.get("bytes")),
        splits={name: rows for name, rows in splits.items() if rows is not None},
        class_counts=tuple(count(rows) or 0 for rows in sequence(entry.get("class_counts"))),
        reused=bool(entry.get("reused")),
        seconds=number(entry.get("seconds")),
    )


def _step(entry: Mapping[str, Any]) -> Step:
    return Step(
        name=str(entry.get("name") or "unnamed"),
        kind=str(entry.get("kind") or ""),
        status=str(entry.get("status") or "unknown"),
        seconds=number(entry.get("seconds")),
        started=time(entry.get("started")),
        error=text(entry.get("error")),
        traceback=text(entry.get("traceback")),
    )
