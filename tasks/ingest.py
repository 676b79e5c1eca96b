"""From a source to the dataset `clean`: split, shuffled by the seed, sharded, committed."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from storage.dataset import Dataset
from storage.layout import Layout, plan_layout
from storage.plan import Plan
from storage.texts import byte_lengths
from storage.writer import Build, Shard
from tasks.building import build_dataset, wrong_texts
from tasks.placement import cpu_resources, task_key
from tasks.split import Split, arrange

VERSION = 1
"""Raised when ingest gives other bytes for the same source and seed."""
_SURVEY_ROWS = 4096


def ingest_recipe(source: Any, split: Split, seed: int, layout: dict[str, int]) -> dict[str, Any]:
    """Everything that the bytes of an ingested dataset depend on.

    Parameters
    ----------
    source : Source
    split : Split
    seed : int
    layout : dict
        Keyword arguments of `storage.layout.plan_layout`.
    """
    return {
        "step": "ingest",
        "version": VERSION,
        "source": source.fingerprint(),
        "split": asdict(split),
        "seed": seed,
        "layout": layout,
    }


def ingest(
    source: Any,
    folder: str,
    client: Client,
    *,
    split: Split,
    seed: int,
    layout: dict[str, int],
    name: str = "clean",
    label: str = "ingest",
    start: Callable[[int, int], Any] | None = None,
    advance: Callable[[int], Any] | None = None,
    retries: int = 2,
) -> Dataset:
    """Write a source as a dataset; resumes what an earlier call committed.

    Parameters
    ----------
    source : Source
        See `tasks.sources`.
    folder : str
        The dataset's folder.
    client : distributed.Client
    split : Split
    seed : int
        Decides the split and the order of storage.
    layout : dict
        Keyword arguments of `storage.layout.plan_layout`.
    name, label : str
        Of the dataset, and of its tasks on the dashboard.
    start, advance : callable, optional
        Called once with the number of shards and how many are committed already, and with 1 for each that follows.
    retries : int

    Returns
    -------
    Dataset
    """
    folder = str(Path(folder).absolute())  # a worker may have another working directory
    if len(source) == 0:
        raise ValueError(f"expected samples in {source!r}, received none; check its path")
    labels = _labels(source)
    codes = split.assign(source.splits, labels, seed)
    ids, splits = arrange(codes, seed)
    shared = _share(source, client, label)
    shape: tuple[int, int, int] | None = None
    slot = None
    if source.kind == "images":
        height, width, channels = map(int, source.sample_shape)
        shape = (height, width, channels)
        arranged = plan_layout(len(ids), float(np.prod(shape)), **layout)
    else:
        lengths = _survey(shared, ids, client, label)
        arranged = plan_layout(len(ids), float(lengths.mean()), **layout)
        slot = _slot_bytes(lengths, arranged)
    plan = Plan(
        name=name,
        kind=source.kind,
        layout=arranged,
        recipe=ingest_recipe(source, split, seed, layout),
        sample_shape=shape,
        classes=tuple(source.classes),
        splits=splits,
        slot_bytes=slot,
    )

    def arguments(number: int) -> tuple[Any, ...]:
        low, high = arranged.bounds(number)
        return shared, ids[low:high], labels[ids[low:high]], codes[ids[low:high]]

    return build_dataset(
        Build(folder, plan), read_shard, arguments, client, label=label, start=start, advance=advance, retries=retries
    )


def _labels(source: Any) -> np.ndarray:
    """All labels, -1 where the source has none."""
    labels = source.labels()
    if labels is None:
        return np.full(len(source), -1, np.int64)
    labels, classes = np.asarray(labels), len(source.classes)
    if labels.shape != (len(source),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"expected {len(source)} labels as integers from {source!r}, received {labels.dtype} {labels.shape}"
        )
    if labels.size and not (labels.min() >= -1 and labels.max() < classes):
        raise ValueError(
            f"expected labels from -1 (none) to {classes - 1}, the last of {classes} classes, from {source!r}, "
            f"received {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int64)


def read_shard(plan: Plan, number: int, source: Any, ids: np.ndarray, labels: np.ndarray, split: np.ndarray) -> Shard:
    """Read the samples of one shard from the source and check that it kept its word."""
    values = source.take(ids).values
    if plan.kind == "images":
        expected = (len(ids), *(plan.sample_shape or ()))
        if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.shape != expected:
            found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise ValueError(f"expected uint8 images of shape {expected} from {source!r}, received {found}")
    elif wrong := wrong_texts(values, len(ids)):
        raise ValueError(f"expected {len(ids)} strings from {source!r}, received {wrong}")
    return Shard(values, labels, ids, split)


def _share(source: Any, client: Client, label: str) -> Any:
    """Send the source to the cluster once, as the result of a task: if its worker dies, it is sent again."""
    with warnings.catch_warnings():
        # Arrays in memory travel inside the graph on purpose: scattered data would be lost with its worker.
        warnings.filterwarnings("ignore", message="Sending large graph")
        key = task_key(f"{label} source", f"{source.fingerprint()}{uuid.uuid4()}")
        return client.submit(_hold, source, key=key, resources=cpu_resources(client), pure=False)


def _hold(source: Any) -> Any:
    return source


def _survey(shared: Any, ids: np.ndarray, client: Client, label: str) -> np.ndarray:
    """Measure the texts: UTF-8 bytes of each row, in storage order."""
    starts = range(0, len(ids), _SURVEY_ROWS)
    label, resources = f"{label} survey", cpu_resources(client)  # asks the scheduler: once, not per block
    futures = [
        client.submit(
            _text_lengths,
            shared,
            ids[low : low + _SURVEY_ROWS],
            key=task_key(label, f"{label}{shared.key}", low),
            resources=resources,
            pure=False,
        )
        for low in starts
    ]
    return np.concatenate(client.gather(futures))


def _text_lengths(source: Any, ids: np.ndarray) -> np.ndarray:
    values = source.take(ids).values
    if wrong := wrong_texts(values, len(ids)):
        raise ValueError(f"expected {len(ids)} strings from {source!r}, received {wrong}")
    return byte_lengths(values)


def _slot_bytes(lengths: np.ndarray, layout: Layout) -> int:
    """Bytes of the largest shard, rounded up so that small differences do not change the layout."""
    largest = max(int(lengths[low:high].sum()) for low, high in map(layout.bounds, range(layout.shards)))
    return max(1, -(-largest // 4096)) * 4096
