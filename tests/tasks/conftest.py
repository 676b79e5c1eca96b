"""A cluster in this process, and small sources that keep or break their word."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker

TEXTS = ["", "e\u0301 mark", "two\r\nlines", "\U0001f468\u200d\U0001f469 family", "plain words here", "\ud83d alone"]


class Values(NamedTuple):
    values: Any
    labels: Any


class Source:
    """By protocol alone, without anything of ours: what a user might write."""

    name = "mine"

    def __init__(self, kind: str = "images", count: int = 60, *, splits: Any = None, labelled: bool = True) -> None:
        self.kind = kind
        self.splits = splits
        rng = np.random.default_rng(count)
        self.held: Any
        if kind == "images":
            self.held = rng.integers(0, 256, (count, 5, 4, 3), dtype=np.uint8)
        else:
            self.held = [f"{TEXTS[i % len(TEXTS)]} {'x' * int(rng.integers(0, 40))} {i}" for i in range(count)]
        self.sample_shape = (5, 4, 3) if kind == "images" else None
        self.classes = ("cat", "dog", "élan") if labelled else ()
        self.codes = rng.integers(0, 3, count) if labelled else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind!r}, {len(self)})"

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, key: slice) -> Values:
        return self.take(np.arange(len(self))[key])

    def take(self, indices: Any) -> Values:
        values = self.held[indices] if self.kind == "images" else [self.held[i] for i in indices]
        return Values(values, None if self.codes is None else self.codes[indices])

    def labels(self) -> Any:
        return self.codes

    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.kind, len(self), self.classes)).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        return {"source": "Source"}


@pytest.fixture(scope="session")
def make_source() -> type[Source]:
    """The class of the small sources, to make one or to derive one that breaks its word."""
    return Source


@contextmanager
def running(*resources: dict[str, float], threads: int = 1) -> Iterator[Client]:
    """A cluster in this process with a worker for each of the resources."""
    workers = {
        f"worker-{i}": {"cls": Worker, "options": {"nthreads": threads, "resources": declared, "name": f"worker-{i}"}}
        for i, declared in enumerate(resources)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    with SpecCluster(workers=workers, scheduler=scheduler) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(len(resources))
        yield client


@pytest.fixture(scope="session")
def cluster_of() -> Callable[..., Any]:
    """Starts a cluster: ``with cluster_of({"CPU": 1}, {"GPU": 1}) as client``."""
    return running


@pytest.fixture(scope="session")
def workers() -> Iterator[Client]:
    """A client of three workers in this process."""
    with running({}, {}, {}) as client:
        yield client
