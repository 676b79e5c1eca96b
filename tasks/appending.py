"""Grow a dataset by the samples of a source that it does not have yet: new shards, nothing copied."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from distributed import Client

from storage.dataset import Dataset, is_dataset, open_dataset
from storage.documents import BUILDS
from storage.errors import StorageError
from storage.manifest import read_manifest
from storage.part import Part
from storage.stamps import STAMP, file_stamps, stamp
from storage.stores import locate, store_of
from storage.texts import encode
from storage.versions import publish
from tasks.building import Reporting, Work, build_parts
from tasks.ingest import Rows, ingest, ingest_recipe, plan_rows, seen, share, source_labels
from tasks.placement import cpu_resources, task_key
from tasks.sources.stamps import stamps_of
from tasks.split import Split, arrange

VERSION = 1
"""Raised when appending gives other bytes for the same source, seed and dataset."""
BY = ("content", "files", "all")
_BLOCK_ROWS = 4096


def append_recipe(recipe: dict[str, Any], builds: list[str], by: str) -> dict[str, Any]:
    """Everything that the bytes of an appended build depend on.

    Parameters
    ----------
    recipe : dict
        Of an ingest of the whole source, from `tasks.ingest.ingest_recipe`.
    builds : list of str
        Keys of the builds that it is appended to.
    by : {"content", "files", "all"}
    """
    return {**recipe, "step": "append", "version": VERSION, "after": builds, "by": by}


def continues(location: str, document: dict[str, Any], recipe: dict[str, Any], source: Any) -> bool:
    """Whether a dataset's version can grow: ingested with the same seed, split and layout, and kept in the same way."""
    first = read_manifest(store_of(location), f"{BUILDS}/{document['parts'][0]['build']}")
    kept = first["kind"] == "images" and first["slot_bytes"] is not None
    same = all(first["recipe"].get(name) == recipe[name] for name in ("split", "seed", "layout"))
    return same and kept == bool(getattr(source, "keeps_files", False))


def append(
    source: Any,
    folder: str,
    client: Client,
    *,
    by: str,
    split: Split,
    seed: int,
    layout: dict[str, int],
    name: str = "clean",
    label: str = "ingest",
    start: Callable[[int, int], Any] | None = None,
    advance: Callable[[int], Any] | None = None,
    retries: int = 2,
) -> Dataset:
    """Ingest the samples of a source that a dataset does not have yet, as a new version of it.

    Exact: nothing of the old version is copied, moved or changed. New ids continue after the old ones. Each new sample
    draws its split by its id, so no append changes the split of an old sample, and the shares hold over many small
    appends. Where there is no dataset yet, or one of another seed, split or layout, all of the source is ingested.

    Parameters
    ----------
    source, folder, client, split, seed, layout, name, label, start, advance, retries
        See `tasks.ingest.ingest`.
    by : {"content", "files", "all"}
        How new samples are told. ``"content"``: by a 128-bit hash of their pixels or text; reads all of the source and
        of the dataset. A sample that is there n times in the source and m times in the dataset is new n - m times.
        ``"files"``: by name, size and time of change of their files; reads only the new ones; for sources with a file
        for each sample. ``"all"``: the source holds new samples only.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If the source's samples do not fit the dataset: other kind, shape, or lost classes.
    StorageError
        If another run changed the dataset meanwhile.
    """
    if by not in BY:
        raise ValueError(f"expected by one of {BY}, received {by!r}")
    folder = locate(folder)
    options: dict[str, Any] = {"split": split, "seed": seed, "layout": layout, "name": name, "label": label}
    recipe = ingest_recipe(source, split, seed, layout)
    current = open_dataset(folder) if is_dataset(folder) else None
    if current is None or not continues(folder, current.document, recipe, source):
        return ingest(source, folder, client, **options, start=start, advance=advance, retries=retries)
    builds = [part.build for part in current.parts]
    if current.document["notes"].get("source") == recipe["source"]:
        return current
    work = plan_append(source, current, client, by=by, **options)
    if work is not None:
        builds += build_parts([work], client, Reporting(label, start, advance), retries=retries)
    publish(folder, builds, notes=seen(source), after=current.number)
    return open_dataset(folder)


def plan_append(
    source: Any,
    current: Dataset,
    client: Client,
    *,
    by: str,
    split: Split,
    seed: int,
    layout: dict[str, int],
    name: str = "clean",
    label: str = "ingest",
) -> Work | None:
    """How the shards of an appended part are made; None if the source has no new samples. See `append`."""
    if (source.kind, tuple(source.sample_shape or ())) != (current.kind, current.sample_shape or ()):
        raise ValueError(
            f"expected {current.kind} of shape {current.sample_shape} to append to {current.name!r}, received "
            f"{source.kind} of shape {source.sample_shape} from {source!r}"
        )
    positions = new_positions(source, current, client, by, label)
    if not len(positions):
        return None
    classes = current.classes + tuple(label for label in source.classes if label not in current.classes)
    codes_of = np.array([classes.index(label) for label in source.classes] + [-1], np.int64)  # the last is for -1
    labels = codes_of[source_labels(source)[positions]]
    ids = current.count + np.arange(len(positions))
    codes = split.assign_more(source.splits, positions, ids, seed)
    order, splits = arrange(codes, seed)
    rows = Rows(positions[order], ids[order], labels[order], codes[order])
    builds = [part.build for part in current.parts]
    recipe = append_recipe(ingest_recipe(source, split, seed, layout), builds, by)
    return plan_rows(source, current.location, client, rows, splits, recipe, layout, classes, name, label)


def new_positions(source: Any, current: Dataset, client: Client, by: str, label: str = "append") -> np.ndarray:
    """Positions in the source of samples that a dataset does not have; see `append`.

    Returns
    -------
    ndarray of int64, in ascending order
    """
    if by == "all":
        return np.arange(len(source))
    if by == "files":
        found = stamps_of(source)
        if found is None:
            raise ValueError(f"expected a source with a file for each sample, received {source!r}; use by='content'")
        known = [file_stamps(part) for part in current.parts]
        if any(stamps is None for stamps in known):
            raise StorageError(
                f"the dataset in {current.location} does not know the files of its samples; use by='content' once"
            )
        return surplus(found, np.concatenate([stamps for stamps in known if stamps is not None]))
    return surplus(_stamp_source(source, client, label), _stamp_dataset(current, client, label))


def surplus(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Places of stamps that occur more often than in another array, counted with multiplicity; int64, ascending.

    Of equal ones the first are taken for those that are known.
    """
    both = np.concatenate([known, found])
    _, codes = np.unique(_words(both), axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    counts = np.bincount(codes[: len(known)], minlength=codes.max(initial=-1) + 1)
    own = codes[len(known) :]
    order = np.argsort(own, kind="stable")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(own[order])) + 1]) if len(own) else np.empty(0, np.int64)
    rank = np.empty(len(own), np.int64)
    lengths = np.diff(np.append(starts, len(own)))
    rank[order] = np.arange(len(own)) - np.repeat(starts, lengths)
    return np.flatnonzero(rank >= counts[own])


def _words(stamps: np.ndarray) -> np.ndarray:
    """Stamps as two integers each, which NumPy can sort; uint64 (n, 2)."""
    return np.ascontiguousarray(stamps, STAMP).view("<u8").reshape(-1, 2)


def _stamp_source(source: Any, client: Client, label: str) -> np.ndarray:
    shared = share(source, client, label)
    blocks = [(shared, low, min(low + _BLOCK_ROWS, len(source))) for low in range(0, len(source), _BLOCK_ROWS)]
    return _gather(client, _stamp_positions, blocks, f"{label} stamps")


def _stamp_dataset(current: Dataset, client: Client, label: str) -> np.ndarray:
    blocks = [
        (part, low, min(low + _BLOCK_ROWS, part.layout.count))
        for part in current.parts
        for low in range(0, part.layout.count, _BLOCK_ROWS)
    ]
    return _gather(client, _stamp_rows, blocks, f"{label} stamps")


def _gather(client: Client, function: Callable[..., Any], blocks: list[Any], label: str) -> np.ndarray:
    token, resources = f"{label}:{uuid.uuid4()}", cpu_resources(client)
    futures = [
        client.submit(function, *block, key=task_key(label, token, number), resources=resources, pure=False)
        for number, block in enumerate(blocks)
    ]
    return np.concatenate([np.frombuffer(words, STAMP) for words in client.gather(futures)])


def _stamp_positions(source: Any, low: int, high: int) -> bytes:
    positions = np.arange(low, high)
    if getattr(source, "keeps_files", False):
        return stamp(source.files(positions)).tobytes()
    return _stamp_values(source.take(positions).values)


def _stamp_rows(part: Part, low: int, high: int) -> bytes:
    return stamp(part.stored(low, high)).tobytes() if part.plan.ragged else _stamp_values(part.read(low, high))


def _stamp_values(values: Any) -> bytes:
    if isinstance(values, np.ndarray):
        return stamp(np.ascontiguousarray(values).reshape(len(values), -1)).tobytes()
    return stamp(encode(text) for text in values).tobytes()
