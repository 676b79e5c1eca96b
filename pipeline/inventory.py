"""What lies below an output folder, with sizes: datasets and their versions, models, runs; and which of it may go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.lock import RunLock
from pipeline.run import RECORD
from storage.retention import VersionEntry, catalog, find_datasets, prune
from storage.stores import is_url


@dataclass(frozen=True)
class Inventory:
    """Everything below a path; prints as a table."""

    path: str
    versions: tuple[VersionEntry, ...]
    models: tuple[tuple[str, int], ...]
    """(folder, bytes) of the result of each method and network."""
    runs: tuple[tuple[str, int], ...]
    """(folder, bytes) of each run."""

    def __str__(self) -> str:
        rows = [("dataset", "version", "made", "samples", "MB", "MB of its own", "tags")]
        rows += [
            (
                _below(entry.dataset, self.path),
                f"{entry.number} {entry.version[:12]}",
                entry.created.replace("T", " ")[:16],
                f"{entry.count:,}",
                f"{entry.bytes / 1e6:,.1f}",
                f"{entry.own_bytes / 1e6:,.1f}",
                ", ".join(entry.tags),
            )
            for entry in self.versions
        ]
        parts = [_table(rows)]
        for title, folders in (("method or network", self.models), ("run", self.runs)):
            if folders:
                sized = [(_below(folder, self.path), f"{size / 1e6:,.1f}") for folder, size in folders]
                parts.append(_table([(title, "MB"), *sized]))
        return f"{self.path}\n" + "\n\n".join(parts)


def _below(location: str, path: str) -> str:
    return location.removeprefix(path.rstrip("/") + "/")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(f"  {line}" for line in lines)


def inventory(path: str | Path) -> Inventory:
    """List datasets with their versions, models and runs below an output folder, or one dataset.

    Parameters
    ----------
    path : str or Path
        An output folder, a pipeline's folder in it, a dataset, or the URL of one of these.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    """
    text = str(path) if is_url(path) else str(Path(path).absolute())
    versions = [entry for dataset in find_datasets(text) for entry in catalog(dataset)]
    models, runs = [], []
    for folder in _pipelines(text):
        models += [(str(step), _size(step)) for step in sorted((folder / "steps").glob("*"))]
        runs += [(str(run), _size(run)) for run in sorted((folder / "runs").glob("*"))]
    return Inventory(text, tuple(versions), tuple(models), tuple(runs))


def _pipelines(path: str) -> list[Path]:
    """Folders of the pipelines below an output folder."""
    if is_url(path):
        return []
    return sorted({found.parent for name in ("runs", "steps", "datasets") for found in _named(Path(path), name)})


def _named(path: Path, name: str) -> list[Path]:
    return [found for pattern in (name, f"*/{name}") for found in path.glob(pattern) if found.is_dir()]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prune_root(
    path: str | Path, *, keep: int = 3, unfinished: bool = False, apply: bool = False
) -> list[tuple[str, int]]:
    """Remove old runs, the models that only they used, and old versions of datasets.

    Of every pipeline the last `keep` runs are kept, with the results and the dataset versions that they name; of every
    dataset also the last `keep` versions and tagged ones. Nothing that a kept run or version uses is removed.

    Parameters
    ----------
    path : str or Path
        An output folder, a pipeline's folder in it, or a dataset.
    keep : int
        At least 1.
    unfinished : bool
        Also builds of datasets that were begun and never finished.
    apply : bool
        Without it nothing is removed.

    Returns
    -------
    list of (what, bytes)
        What was removed, or would be.

    Raises
    ------
    InUseError
        If a run is going on in a folder.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ValueError(f"expected to keep 1 or more, received keep={keep!r}")
    text = str(path) if is_url(path) else str(Path(path).absolute())
    for folder in [] if is_url(text) else [Path(text), Path(text).parent]:
        if folder.name == "datasets" and (folder.parent / "runs").is_dir():
            raise ValueError(
                f"expected an output folder or a pipeline's, received {path}, which runs of {folder.parent} use; prune "
                "that, so that what its runs name is kept"
            )
    pipelines = _pipelines(text)
    removed: list[tuple[str, int]] = []
    pruned: set[str] = set()
    for folder in pipelines:
        with RunLock(folder):
            records = {run: _read_run(run) for run in (folder / "runs").glob("*")}
            # By the time in the record: names tell seconds only.
            runs = sorted(records, key=lambda run: (records[run]["started"], run.name))
            kept = [records[run] for run in runs[-keep:]]
            elsewhere = {entry["path"].rsplit("/versions/", 1)[0] for run in kept for entry in run["datasets"]}
            names = {name for name in elsewhere if is_url(name) or Path(name).is_absolute()} | set(
                find_datasets(folder)
            )
            versions = {entry["version"] for run in kept for entry in run["datasets"]}
            for dataset in sorted(names):
                pruned.add(dataset)
                removed += _prune_dataset(dataset, keep, versions, unfinished, apply)
            used = {entry["folder"] for run in kept for entry in [*run["results"], *run["steps"]]}
            steps = [step for step in sorted((folder / "steps").glob("*")) if f"steps/{step.name}" not in used]
            # Without any run nothing says which results are of use.
            removed += [_remove(found, apply) for found in [*runs[:-keep], *(steps if runs else [])]]
    for dataset in find_datasets(text):
        if dataset not in pruned:
            removed += _prune_dataset(dataset, keep, set(), unfinished, apply)
    return removed


def _read_run(run: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads((run / RECORD).read_bytes())
        return {name: document[name] for name in ("started", "datasets", "results", "steps")}
    except FileNotFoundError:
        return {"started": "", "datasets": [], "results": [], "steps": []}  # it never came to its end
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"damaged record of a run {run / RECORD}: {error}; remove that folder first") from error


def _prune_dataset(dataset: str, keep: int, versions: set[str], unfinished: bool, apply: bool) -> list[tuple[str, int]]:
    found = prune(dataset, keep=keep, also=versions, unfinished=unfinished, apply=apply)
    if not (found.versions or found.builds):
        return []
    what = f"{dataset}: versions {list(found.versions)}, {len(found.builds)} builds"
    return [(what, found.bytes)]


def _remove(folder: Path, apply: bool) -> tuple[str, int]:
    size = _size(folder)
    if apply:
        shutil.rmtree(folder)
    return str(folder), size
