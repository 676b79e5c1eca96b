"""Datasets as lazy Dask arrays and xarray datasets, read by whole shards past Zarr's indexing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.dataset import Dataset, open_dataset
from storage.feeding.reading import read_images, read_samples, shard_edges
from storage.images import decode_images
from storage.layout import IDS, IMAGES, LABELS, OFFSETS, VALUES, Variable, columns
from storage.part import Verify
from storage.texts import decode

if TYPE_CHECKING:
    import dask.array
    import xarray


def to_dask(dataset: Dataset | str | Path, split: str | None = None, *, verify: bool = False) -> dict[str, Any]:
    """Open a dataset as lazy arrays in the order of rows.

    A chunk is a shard, or the part of it that lies in a split, and is read by one plain read into the chunk's memory
    when it is computed. Zarr's indexing would be slower, and would give zeros for a shard that is missing.

    Parameters
    ----------
    dataset : Dataset or path
    split : str, optional
        ``train``, ``validation`` or ``test``; by default all rows.
    verify : bool
        Compare every shard, and every file of labels and ids, with its hash as it is read.

    Returns
    -------
    dict
        ``values``: of images a `dask.array.Array` of uint8, (n, height, width, channel); of texts a `dask.bag.Bag` of
        str, which computes in processes unless told otherwise. ``labels`` and ``ids``: arrays of int64, (n,), with the
        same chunks; labels are -1 where there is none.

    Raises
    ------
    ValueError
        If the dataset has no such split.
    StorageError
        When computed: if a shard is missing or, with `verify`, damaged. Names it.
    """
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    bounds = _bounds(opened, split)
    read, name = partial(read_rows, verify=verify), f"read {opened.name}"
    values: Any
    if opened.kind == "texts":
        import dask.bag

        stem, graph = _graph(read, opened, bounds, name)
        values = dask.bag.Bag(graph, stem, len(bounds))
    else:
        values = lazy_rows(read, opened, bounds, opened.sample_shape or (), np.dtype(np.uint8), name)
    labels, ids = (_column(opened, bounds, one, verify) for one in (LABELS, IDS))
    return {"values": values, "labels": labels, "ids": ids}


def to_xarray(dataset: Dataset | str | Path, split: str | None = None, *, verify: bool = False) -> xarray.Dataset:
    """Open a dataset, or one split of it, as a lazy `xarray.Dataset`.

    As `Dataset.xarray`, but read by whole shards, see `to_dask`; images that are kept as files are decoded. Of texts,
    ``values`` is the UTF-8 of the only part, and ``offsets`` tells where each text of the split lies in it; a dataset
    with appended parts has neither, see `to_dask`.

    Parameters
    ----------
    dataset, split, verify
        See `to_dask`.

    Returns
    -------
    xarray.Dataset
        ``images`` (sample, height, width, channel) uint8, ``labels``, ``ids`` and ``split`` (sample).
    """
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    bounds = _bounds(dataset, split)
    opened = dataset.xarray()
    found = {one: _column(dataset, bounds, one, verify) for one in columns(False)}
    if dataset.kind == "images":
        opened = opened.drop_vars(["values", "offsets"], errors="ignore")
        found[IMAGES] = to_dask(dataset, split, verify=verify)["values"]
    elif len(dataset.parts) == 1:
        part = dataset.parts[0]
        found[OFFSETS] = _column(dataset, bounds, OFFSETS, verify)
        slots, read = [(shard, shard + 1) for shard in range(part.layout.shards)], partial(read_slots, verify=verify)
        sizes = [int(part.plan.slot_bytes or 0)] * len(slots)
        found[VALUES] = lazy_rows(read, dataset, slots, (), np.dtype(np.uint8), f"read {dataset.name}", sizes)
    if split is not None:
        opened = opened.isel(sample=dataset.rows(split))
    return opened.assign({one.name: (one.dims, array, {"long_name": one.meaning}) for one, array in found.items()})


def lazy_rows(
    read: Callable[..., Any],
    dataset: Dataset,
    bounds: Sequence[tuple[int, int]],
    shape: tuple[int, ...],
    dtype: np.dtype,
    name: str,
    lengths: Sequence[int] | None = None,
) -> dask.array.Array:
    """Make a Dask array whose blocks are ``read(path, start, stop)``; only the path travels.

    Parameters
    ----------
    read : callable
    dataset : Dataset
    bounds : sequence of (int, int)
        First and past-the-last row of every block.
    shape, dtype
        Of one row of what is read.
    name : str
        What dashboards call the tasks.
    lengths : sequence of int, optional
        Rows of every block, where they are not those that it is read from.
    """
    import dask.array as da

    stem, graph = _graph(read, dataset, bounds, name, (0,) * len(shape))
    lengths = [high - low for low, high in bounds] if lengths is None else lengths
    return da.Array(graph, stem, (tuple(lengths), *((size,) for size in shape)), dtype=dtype)


def read_rows(path: str, start: int, stop: int, *, verify: bool = False) -> np.ndarray | list[str]:
    """Read samples as `Dataset.read` does, whole shards past what an open dataset keeps; the task of a block."""
    dataset = open_dataset(path)
    check: Verify = "every-read" if verify else None
    if not dataset.parts[0].plan.ragged:
        out = np.empty((stop - start, *(dataset.sample_shape or ())), np.uint8)
        read_images(dataset, start, out, verify=check)
        return out
    shards = read_samples(dataset, start, stop, verify=check)
    samples = [data[low:high] for _, data, offsets in shards for low, high in offsets.tolist()]
    if dataset.kind == "texts":
        return [decode(sample) for sample in samples]
    return decode_images(samples, dataset.sample_shape or ())


def read_slots(path: str, start: int, stop: int, *, verify: bool = False) -> np.ndarray:
    """Read the slots of some shards of texts, each filled with zeros to its end; the task of a block."""
    part = open_dataset(path).parts[0]
    out = np.zeros((stop - start, int(part.plan.slot_bytes or 0)), np.uint8)
    for row, shard in zip(out, range(start, stop), strict=True):
        data, _ = part.read_slot(shard, verify="every-read" if verify else None)
        row[: len(data)] = np.frombuffer(data, np.uint8)
    return out.reshape(-1)


def read_column(path: str, start: int, stop: int, *, name: str, verify: bool = False) -> np.ndarray:
    """Read rows of a column; a worker's task."""
    dataset = open_dataset(path)
    if name == OFFSETS.name:
        return dataset.parts[0].column(name, start, stop, verify=verify)
    return dataset.column(name, start, stop, verify=verify)


def _bounds(dataset: Dataset, split: str | None) -> list[tuple[int, int]]:
    """Rows of every shard, cut where splits end."""
    edges = [shard_edges(dataset, name).tolist() for name in ([split] if split is not None else dataset.splits)]
    return [pair for one in edges for pair in itertools.pairwise(one)]


def _column(dataset: Dataset, bounds: Sequence[tuple[int, int]], variable: Variable, verify: bool) -> dask.array.Array:
    read, dtype = partial(read_column, name=variable.name, verify=verify), np.dtype(variable.dtype)
    shape = (2,) if variable is OFFSETS else ()
    return lazy_rows(read, dataset, bounds, shape, dtype, f"read {variable.name} {dataset.name}")


def _graph(
    read: Callable[..., Any], dataset: Dataset, bounds: Sequence[tuple[int, int]], name: str, rest: tuple[int, ...] = ()
) -> tuple[str, dict[Any, Any]]:
    """The name of a collection, and a task for each of its blocks."""
    from dask._task_spec import Task
    from dask.base import tokenize

    stem = name.replace("-", "_") + "-" + tokenize(read, dataset.path, dataset.version, bounds)
    keys = [(stem, number, *rest) for number in range(len(bounds))]
    return stem, {key: Task(key, read, dataset.path, low, high) for key, (low, high) in zip(keys, bounds, strict=True)}
