"""Build a dataset on Dask: one task per missing shard, a bounded number in flight, every shard committed by itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from distributed import Client, as_completed

from storage.dataset import Dataset, open_dataset
from storage.writer import Build, Shard
from tasks.placement import cpu_resources, task_key, total_threads

Produce = Callable[..., Shard]
IN_FLIGHT = 3
"""Tasks in flight per thread: enough to hide the scheduler, few enough that a million shards do not fill it."""


def build_dataset(
    build: Build,
    produce: Produce,
    arguments: Callable[[int], Sequence[Any]],
    client: Client,
    *,
    label: str,
    start: Callable[[int, int], Any] | None = None,
    advance: Callable[[int], Any] | None = None,
    retries: int = 2,
) -> Dataset:
    """Produce and commit every missing shard, then finish the dataset.

    Parameters
    ----------
    build : Build
    produce : callable
        ``produce(plan, number, *arguments(number)) -> Shard``; a pure function, run on workers.
    arguments : callable
        Gives the further arguments of a shard; futures among them are resolved on the worker.
    client : distributed.Client
    label : str
        What the Dask dashboard calls the tasks.
    start, advance : callable, optional
        Called once with the number of shards and how many are committed already, and with 1 for each that follows.
    retries : int
        How often a failing shard is tried again.

    Returns
    -------
    Dataset
    """
    build.begin()
    missing = build.missing()
    if start:
        start(build.plan.layout.shards, build.plan.layout.shards - len(missing))
    todo = iter(missing)
    # A name of its own in every call: a failed task of an earlier try, still held by somebody, would answer for ours.
    token = f"{label}:{build.plan.key}:{uuid.uuid4()}"
    resources = cpu_resources(client)

    def submit(number: int) -> Any:
        return client.submit(
            _produce_and_commit,
            build,
            produce,
            number,
            *arguments(number),
            key=task_key(label, token, number),
            resources=resources,
            retries=retries,
            pure=False,
        )

    first = [submit(number) for number in islice(todo, IN_FLIGHT * total_threads(client))]
    running = as_completed(first, loop=client.loop)  # without it, it looks for a default client
    try:
        for future in running:
            future.result()
            if advance:
                advance(1)
            for number in islice(todo, 1):
                running.add(submit(number))
    except BaseException:
        client.cancel(list(running.futures))
        raise
    build.finish()
    return open_dataset(build.dataset)


def _produce_and_commit(build: Build, produce: Produce, number: int, *arguments: Any) -> None:
    # Committed before: by another run, or by a try of this task whose answer was lost with its worker.
    if not build.record_path(number).exists():
        build.write_shard(number, produce(build.plan, number, *arguments))


def wrong_texts(values: Any, count: int) -> str | None:
    """Say what is wrong with what should be `count` strings; None if nothing is."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        return type(values).__name__
    if len(values) != count:
        return f"{len(values)} values"
    kinds = {type(text).__name__ for text in values if not isinstance(text, str)}
    return f"{', '.join(sorted(kinds))} among them" if kinds else None
