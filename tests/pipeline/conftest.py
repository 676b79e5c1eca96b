"""A small cluster in this process, a tiny source, and stand-ins for methods and networks that leave traces."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker
from sklearn.base import BaseEstimator, ClassifierMixin

from pipeline import Pipeline
from tasks import noise, sources


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two CPU workers and one that declares a GPU, all in this process."""
    workers = {
        name: {"cls": Worker, "options": {"nthreads": 1, "resources": resources, "name": name}}
        for name, resources in {"cpu-0": {"CPU": 1}, "cpu-1": {"CPU": 1}, "gpu-0": {"GPU": 1}}.items()
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    with SpecCluster(workers=workers, scheduler=scheduler) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def source() -> sources.Arrays:
    """120 images of 8 x 8 in three classes that differ in brightness."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = (labels[:, None, None] * 80 + rng.integers(0, 60, (120, 8, 8))).astype(np.uint8)
    return sources.Arrays(images=images, labels=labels, classes=("dark", "grey", "bright"))


@pytest.fixture
def pipeline(source: sources.Arrays) -> Pipeline:
    """Data only: no methods, no networks."""
    return Pipeline(name="tiny", source=source, noise=[noise.Gaussian(severity=2)])


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """A folder where a stand-in leaves a file each time it is run."""
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


class Traced(ClassifierMixin, BaseEstimator):
    """A classifier by the most frequent class that leaves a trace of each fit, or fails."""

    def __init__(self, traces: str = "", fail: str = "", random_state: int | None = None) -> None:
        self.traces = traces
        self.fail = fail
        self.random_state = random_state

    def fit(self, X, y):
        (Path(self.traces) / f"fit-{self.random_state}-{uuid.uuid4().hex}").touch()
        if self.fail:
            raise ValueError(self.fail)
        self.classes_ = np.unique(y)
        values, counts = np.unique(y, return_counts=True)
        self.most_ = values[np.argmax(counts)]
        return self

    def predict(self, X):
        return np.full(len(X), self.most_)


@pytest.fixture
def traced(traces: Path):
    """Make stand-in methods: ``traced(fail="why")``."""
    return lambda **parameters: Traced(str(traces), **parameters)
