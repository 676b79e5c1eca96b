"""Pipelines on Dask: ingest, noise, methods, networks, one report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.pipeline import Pipeline
from pipeline.robustness import Robustness

if TYPE_CHECKING:
    from pipeline.cluster import connect
    from pipeline.run import Run
    from tasks.split import Split

_HOME = {"connect": "pipeline.cluster", "Run": "pipeline.run", "Split": "tasks.split"}
__all__ = ["Pipeline", "Robustness", "Run", "Split", "connect"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: Dask's scheduler and pandas take a while to import.
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
