"""Build a dataset on Dask: tasks of whole shards, a bounded number in flight, every shard committed by itself."""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from distributed import Client

from storage.dataset import Dataset, open_dataset
from storage.errors import StorageError
from storage.shards import Shard
from storage.versions import publish
from storage.writer import Build
from tasks.placement import cpu_resources, task_key, total_threads

Produce = Callable[..., Shard]
IN_FLIGHT = 3
"""Tasks in flight per thread: enough to hide the scheduler, few enough that a million shards do not fill it."""
MOST_TASKS = 100_000
"""Above this many missing shards a task takes several: the scheduler needs a millisecond for each task."""
PATIENCE = 600.0
"""Seconds without any worker after which a build gives up."""


@dataclass(frozen=True)
class Work:
    """How the shards of a build are made, again and again with the same bytes."""

    build: Build
    produce: Produce
    """``produce(plan, number, *arguments(number)) -> Shard``; a pure function, run on workers."""
    arguments: Callable[[int], Sequence[Any]]
    """Gives the further arguments of a shard; futures among them are resolved on the worker."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Further files of the build, by name; see `storage.writer.Build.finish`."""


@dataclass(frozen=True)
class Reporting:
    """Whom to tell of progress, and what the Dask dashboard calls the tasks."""

    label: str
    start: Callable[[int, int], Any] | None = None
    """Called once with the number of shards and how many are committed already."""
    advance: Callable[[int], Any] | None = None
    """Called with the number of shards committed since the last call."""


def build_parts(works: Sequence[Work], client: Client, reporting: Reporting, *, retries: int = 2) -> list[str]:
    """Produce and commit every missing shard of some builds, one build after the other, and finish them.

    Parameters
    ----------
    works : sequence of Work
    client : distributed.Client
    reporting : Reporting
    retries : int
        How often a failing shard is tried again.

    Returns
    -------
    list of str
        Keys of the builds, for `storage.versions.publish`.
    """
    missing = [work.build.begin() for work in works]
    shards = sum(work.build.plan.layout.shards for work in works)
    if reporting.start:
        reporting.start(shards, shards - sum(map(len, missing)))
    for work, numbers in zip(works, missing, strict=True):
        run_shards(work, numbers, commit_shards, client, reporting, retries=retries)
        work.build.finish(work.attachments)
    return [work.build.plan.key for work in works]


def build_dataset(
    works: Sequence[Work],
    client: Client,
    reporting: Reporting,
    *,
    retries: int = 2,
    notes: dict[str, Any] | None = None,
) -> Dataset:
    """Build what is missing and let readers see it.

    Parameters
    ----------
    works : sequence of Work
        Of one dataset: its parts, in the order of their rows.
    client : distributed.Client
    reporting : Reporting
    retries : int
    notes : dict, optional
        See `storage.versions.publish`.
    """
    location = works[0].build.dataset
    publish(location, build_parts(works, client, reporting, retries=retries), notes=notes)
    return open_dataset(location)


def run_shards(
    work: Work,
    numbers: np.ndarray,
    task: Callable[..., None],
    client: Client,
    reporting: Reporting,
    *,
    retries: int = 2,
    patience: float = PATIENCE,
) -> None:
    """Run a task over shards, a bounded number at a time.

    Parameters
    ----------
    work : Work
    numbers : ndarray of int
    task : callable
        ``task(build, produce, [(number, arguments), ...])``, such as `commit_shards`.
    client : distributed.Client
    reporting : Reporting
    retries : int
    patience : float
        Seconds without any worker after which it gives up.

    Raises
    ------
    StorageError
        If there is no worker for so long; what is committed is kept.
    """
    threads = total_threads(client)
    each = _shards_per_task(len(numbers), threads)
    groups = (numbers[low : low + each].tolist() for low in range(0, len(numbers), each))
    # A name of its own in every call: a failed task of an earlier try, still held by somebody, would answer for ours.
    token = f"{reporting.label}:{work.build.plan.key}:{uuid.uuid4()}"
    resources = cpu_resources(client)
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    running: dict[Any, int] = {}

    def submit(group: list[int]) -> None:
        future = client.submit(
            task,
            work.build,
            work.produce,
            [(number, tuple(work.arguments(number))) for number in group],
            key=task_key(reporting.label, token, group[0]),
            resources=resources,
            retries=retries,
            pure=False,
        )
        running[future] = len(group)
        future.add_done_callback(done.put)

    try:
        for group in islice(groups, IN_FLIGHT * threads):
            submit(group)
        while running:
            future = _next_done(done, client, patience, reporting.label)
            if future.status != "finished":
                future.result()  # raises; of those that went well there is nothing to fetch
            count = running.pop(future)
            if reporting.advance:
                reporting.advance(count)
            for group in islice(groups, 1):
                submit(group)
    except BaseException:
        client.cancel(list(running))
        raise


def _next_done(done: queue.SimpleQueue[Any], client: Client, patience: float, label: str) -> Any:
    """Wait for the next future, as long as there is anybody who could bring it."""
    alone_since: float | None = None
    while True:
        try:
            return done.get(timeout=min(5.0, patience))
        except queue.Empty:
            if client.status not in ("running", "connecting"):
                raise StorageError(
                    f"{label}: the scheduler is gone; start it and run again (committed shards are kept)"
                ) from None
            if client.scheduler_info(n_workers=-1)["workers"]:
                alone_since = None
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > patience:
                raise StorageError(
                    f"{label}: no worker for {patience:.0f} seconds; start some and run again (committed shards are "
                    "kept)"
                ) from None


def _shards_per_task(shards: int, threads: int) -> int:
    """A few, so that one is written while the next is made; not so many that workers wait for the last task."""
    return max(1, min(4, shards // (8 * threads)), -(-shards // MOST_TASKS))


def commit_shards(build: Build, produce: Produce, shards: list[tuple[int, tuple[Any, ...]]]) -> None:
    """Produce and commit some shards, on a worker: one is written, which is mostly waiting, while the next is made."""
    with ThreadPoolExecutor(1, "commit") as writer:
        writing: Future[int] | None = None
        for number, arguments in shards:
            # Committed before: by another run, or by a try of this task whose answer was lost with its worker.
            if build.is_committed(number):
                continue
            shard = produce(build.plan, number, *arguments)
            if writing is not None:
                writing.result()
            writing = writer.submit(build.write_shard, number, shard)
        if writing is not None:
            writing.result()


def wrong_texts(values: Any, count: int) -> str | None:
    """Say what is wrong with what should be `count` strings; None if nothing is."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        return type(values).__name__
    if len(values) != count:
        return f"{len(values)} values"
    kinds = {type(text).__name__ for text in values if not isinstance(text, str)}
    return f"{', '.join(sorted(kinds))} among them" if kinds else None
