"""Write what a run did: ``run.json``, ``leaderboard.csv`` and the report."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import config
from pipeline.run import LEADERBOARD, RECORD, REPORT
from storage import durable

if TYPE_CHECKING:
    from pipeline.execution import Execution
    from storage.dataset import Dataset

_PACKAGES = [
    "duskflow",
    "dask",
    "distributed",
    "dask-ml",
    "scikit-learn",
    "numpy",
    "scipy",
    "zarr",
    "xarray",
    "pandas",
    "pillow",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "torch",
    "jax",
]


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result can depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_run(execution: Execution) -> Path:
    """Write the record, the leaderboard and the report of a run.

    Returns
    -------
    Path
        The run's folder.
    """
    from pipeline.cluster import resources_of
    from pipeline.report import write_leaderboard, write_report

    finished = datetime.now(UTC)
    # The time sorts runs by name; the random part keeps two in one second apart.
    name = f"{execution.started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    folder = execution.folders.run(name)
    durable.make_folder(folder)
    failed = any(record.status in ("failed", "skipped") for record in execution.records.values())
    order = [*execution.pipeline.labels]
    pipeline = execution.pipeline
    record = {
        "pipeline": pipeline.name,
        "run": name,
        "root": str(execution.folders.root.resolve()),
        "started": execution.started.isoformat(),
        "finished": finished.isoformat(),
        "seconds": (finished - execution.started).total_seconds(),
        "seed": pipeline.seed,
        "exit_code": int(failed),
        "versions": installed_versions(),
        "config": config.as_dict(),
        "cluster": resources_of(execution.client),
        "source": pipeline.source.describe()
        if hasattr(pipeline.source, "describe")
        else {"source": repr(pipeline.source)},
        "kind": pipeline.source.kind,
        "classes": list(pipeline.source.classes),
        "split": asdict(pipeline.split),
        "noise": [str(noise) for noise in pipeline.noise],
        "datasets": [_dataset_entry(execution, name, dataset) for name, dataset in execution.datasets.items()],
        "steps": [asdict(step) for step in execution.records.values()],
        "results": [execution.results[label] for label in order if label in execution.results],
        "robustness": execution.curves,
    }
    durable.replace_json(folder / RECORD, record)
    write_leaderboard(record, folder / LEADERBOARD)
    write_report([folder], folder / REPORT)
    return folder


def _source_entry(source: Any) -> dict[str, Any]:
    described = source.describe() if hasattr(source, "describe") else {"source": repr(source)}
    return {**described, "skipped_count": len(described.get("skipped") or [])}


def _dataset_entry(execution: Execution, name: str, dataset: Dataset) -> dict[str, Any]:
    counts = dataset.statistics["class_counts"]
    step = execution.records[name]
    return {
        "name": name,
        "path": step.folder,
        "version": dataset.version,
        "count": dataset.count,
        "shards": dataset.shards,
        "bytes": dataset.nbytes,
        "splits": {split: sum(high - low for low, high in ranges) for split, ranges in dataset.splits.items()},
        "class_counts": _add(list(counts.values())),
        "reused": step.status == "reused",
        "seconds": step.seconds,
    }


def _add(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*counts, strict=True)]
