"""From a source to the dataset `clean`: split, shuffled by the seed, sharded, committed."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from storage.dataset import Dataset
from storage.documents import STAMPS
from storage.layout import Layout, plan_layout
from storage.plan import Plan
from storage.shards import Shard
from storage.stamps import encode_stamps
from storage.stores import locate
from storage.texts import byte_lengths
from storage.writer import Build
from tasks.building import Reporting, Work, build_dataset, wrong_texts
from tasks.placement import cpu_resources, task_key
from tasks.sources.stamps import stamps_of
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
        The dataset's folder or URL.
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
    reporting = Reporting(label, start, advance)
    work = plan_ingest(source, folder, client, split=split, seed=seed, layout=layout, name=name, label=label)
    return build_dataset([work], client, reporting, retries=retries, notes=seen(source))


def seen(source: Any) -> dict[str, Any]:
    """What a version remembers of the source that it was made from, for `tasks.appending`."""
    return {"source": source.fingerprint()}


def plan_ingest(
    source: Any,
    folder: str | Path,
    client: Client,
    *,
    split: Split,
    seed: int,
    layout: dict[str, int],
    name: str = "clean",
    label: str = "ingest",
) -> Work:
    """How the shards of an ingested dataset are made; see `ingest`. Texts are measured on the workers."""
    if len(source) == 0:
        raise ValueError(f"expected samples in {source!r}, received none; check its path")
    labels = source_labels(source)
    codes = split.assign(source.splits, labels, seed)
    ids, splits = arrange(codes, seed)
    rows = Rows(ids, ids, labels[ids], codes[ids])
    recipe = ingest_recipe(source, split, seed, layout)
    return plan_rows(source, folder, client, rows, splits, recipe, layout, tuple(source.classes), name, label)


@dataclass(frozen=True)
class Rows:
    """The samples of a build in the order of its rows."""

    positions: np.ndarray
    """int64 (n,): where in the source."""
    ids: np.ndarray
    """int64 (n,)."""
    labels: np.ndarray
    """int64 (n,), in the dataset's classes."""
    codes: np.ndarray
    """uint8 (n,): the split."""

    def cut(self, low: int, high: int) -> tuple[np.ndarray, ...]:
        """Some rows, as `read_shard` takes them."""
        return self.positions[low:high], self.ids[low:high], self.labels[low:high], self.codes[low:high]


def plan_rows(
    source: Any,
    folder: str | Path,
    client: Client,
    rows: Rows,
    splits: dict[str, tuple[int, int]],
    recipe: dict[str, Any],
    layout: dict[str, int],
    classes: tuple[str, ...],
    name: str,
    label: str,
) -> Work:
    """How some samples of a source become the shards of a build."""
    shared = share(source, client, label)
    shape: tuple[int, int, int] | None = None
    slot, kept = None, bool(getattr(source, "keeps_files", False))
    if source.kind == "images":
        height, width, channels = map(int, source.sample_shape)
        shape = (height, width, channels)
    if source.kind == "texts" or kept:
        lengths = _survey(shared, rows.positions, client, label)
        # A file of an image is small beside its pixels, and shards are read decoded.
        arranged = plan_layout(len(lengths), float(lengths.mean()), **layout)
        slot = _slot_bytes(lengths, arranged)
    else:
        arranged = plan_layout(len(rows.ids), float(np.prod(shape or ())), **layout)
    plan = Plan(
        name=name,
        kind=source.kind,
        layout=arranged,
        recipe=recipe,
        sample_shape=shape,
        classes=classes,
        splits=splits,
        slot_bytes=slot,
    )

    def arguments(number: int) -> tuple[Any, ...]:
        return (shared, *rows.cut(*arranged.bounds(number)))

    stamps = stamps_of(source)
    attachments = {} if stamps is None else {STAMPS: encode_stamps(stamps[rows.positions])}
    return Work(Build(locate(folder), plan), read_shard, arguments, attachments)


def source_labels(source: Any) -> np.ndarray:
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


def read_shard(
    plan: Plan,
    number: int,
    source: Any,
    positions: np.ndarray,
    ids: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
) -> Shard:
    """Read the samples of one shard from the source and check that it kept its word."""
    if plan.kind == "images" and plan.ragged:
        return Shard(source.files(positions), labels, ids, split)
    values = source.take(positions).values
    if plan.kind == "images":
        expected = (len(ids), *(plan.sample_shape or ()))
        if not isinstance(values, np.ndarray) or values.dtype != np.uint8 or values.shape != expected:
            found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise ValueError(f"expected uint8 images of shape {expected} from {source!r}, received {found}")
    elif wrong := wrong_texts(values, len(ids)):
        raise ValueError(f"expected {len(ids)} strings from {source!r}, received {wrong}")
    return Shard(values, labels, ids, split)


def share(source: Any, client: Client, label: str) -> Any:
    """Send the source to the cluster once, as the result of a task: if its worker dies, it is sent again."""
    with warnings.catch_warnings():
        # Arrays in memory travel inside the graph on purpose: scattered data would be lost with its worker.
        warnings.filterwarnings("ignore", message="Sending large graph")
        key = task_key(f"{label} source", f"{source.fingerprint()}{uuid.uuid4()}")
        return client.submit(_hold, source, key=key, resources=cpu_resources(client), pure=False)


def _hold(source: Any) -> Any:
    return source


def _survey(shared: Any, ids: np.ndarray, client: Client, label: str) -> np.ndarray:
    """Measure texts, or files of images: bytes of each row, in storage order."""
    starts = range(0, len(ids), _SURVEY_ROWS)
    label, resources = f"{label} survey", cpu_resources(client)  # asks the scheduler: once, not per block
    futures = [
        client.submit(
            _lengths,
            shared,
            ids[low : low + _SURVEY_ROWS],
            key=task_key(label, f"{label}{shared.key}", low),
            resources=resources,
            pure=False,
        )
        for low in starts
    ]
    return np.concatenate(client.gather(futures))


def _lengths(source: Any, ids: np.ndarray) -> np.ndarray:
    if source.kind == "images":
        return np.asarray(source.file_sizes(ids), np.int64)
    values = source.take(ids).values
    if wrong := wrong_texts(values, len(ids)):
        raise ValueError(f"expected {len(ids)} strings from {source!r}, received {wrong}")
    return byte_lengths(values)


def _slot_bytes(lengths: np.ndarray, layout: Layout) -> int:
    """Bytes of the largest shard, rounded up so that small differences do not change the layout."""
    largest = max(int(lengths[low:high].sum()) for low, high in map(layout.bounds, range(layout.shards)))
    return max(1, -(-largest // 4096)) * 4096
