"""Open and read a committed dataset."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.documents import GROUP
from storage.errors import StorageError
from storage.layout import SPLITS, Layout, columns
from storage.part import Part, Verify
from storage.stores import is_url, join, locate, store_of
from storage.versions import describe_parts, find_version, latest, version_key, version_numbers

if TYPE_CHECKING:
    import xarray

_PINNED = re.compile(r"(?P<dataset>.*)/versions/(?P<number>\d+)\.json")


def open_dataset(path: str | Path, version: int | str | None = None) -> Dataset:
    """Open a finished dataset.

    Parameters
    ----------
    path : str or Path
        The dataset's folder or URL (``s3://bucket/prefix``); or `Dataset.path`, which names one version.
    version : int or str, optional
        A version's number, its tag, or the first 6 or more digits of its digest; by default the last.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StorageError
        If the dataset is there but not finished, has no such version, or its documents are damaged.
    """
    location = locate(path)
    if pinned := _PINNED.fullmatch(location):
        location = pinned["dataset"]
        version = int(pinned["number"]) if version is None else version
    store = store_of(location)
    document = latest(store) if version is None else find_version(store, version)
    if document is None:
        if not store.children("") and (is_url(location) or not Path(location).is_dir()):
            raise FileNotFoundError(f"expected a dataset, found nothing at {location}; run the pipeline that makes it")
        raise StorageError(f"no finished dataset in {location}; run its pipeline again to resume")
    try:
        return Dataset(location, document)
    except FileNotFoundError as error:
        raise StorageError(
            f"version {document['number']} of {location} lacks a build: no manifest ({error}); run `duskflow repair`, "
            "or restore it from a copy"
        ) from error


class Dataset:
    """An immutable, committed dataset. Picklable: only its place and documents travel.

    Rows are ordered train, validation, test, whatever was appended: a split is one run of rows. After an append the
    rows of a split are those of the first part, then those of the next.

    Attributes
    ----------
    path : str
        Where this version is, for `open_dataset`; a later append does not change what it opens.
    location : str
        Where the dataset is.
    name, kind, version : str
        ``kind`` is ``images`` or ``texts``; ``version`` is the digest of the content.
    number : int
        Counts the versions of the dataset, from 1.
    parts : tuple of Part
        What was ingested, and what was appended since; each a Zarr group of its own.
    classes : tuple of str
    sample_shape : tuple of int or None
        Height, width, channels.
    count : int
        Samples.
    layout : Layout
        Of the whole; appended parts can have smaller shards.
    statistics : dict
        Of the training split.
    """

    def __init__(self, location: str, document: dict[str, Any], parts: tuple[Part, ...] | None = None) -> None:
        self.location, self.document = location, document
        self.path = join(location, version_key(document["number"]))
        self.name: str = document["name"]
        self.kind: str = document["kind"]
        self.version: str = document["version"]
        self.number: int = document["number"]
        self.count: int = document["count"]
        self.nbytes: int = document["bytes"]
        self.statistics: dict[str, Any] = document["statistics"]
        self.parts = parts or tuple(Part(location, part["build"]) for part in document["parts"])
        last = self.parts[-1].plan
        self.classes: tuple[str, ...] = last.classes
        self.sample_shape = last.sample_shape
        largest = max((part.layout for part in self.parts), key=lambda layout: layout.shard)
        self.layout = Layout(self.count, largest.shard, largest.chunk)
        self._segments = _segments(self.parts)

    @classmethod
    def of_parts(cls, location: str, parts: tuple[Part, ...]) -> Dataset:
        """A dataset of some builds that no version names, numbered 0; to be read only."""
        document = describe_parts([part.build for part in parts], [part.manifest for part in parts], {})
        return cls(location, {**document, "number": 0}, parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self.location, self.document, self.parts)

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r}: {self.count:,} {self.kind}, {self.shards} shards, version {self.version[:12]}>"

    def __len__(self) -> int:
        return self.count

    @property
    def shards(self) -> int:
        """Number of shards."""
        return sum(part.layout.shards for part in self.parts)

    @cached_property
    def splits(self) -> dict[str, list[tuple[int, int]]]:
        """Row ranges (first, past the last) of every split that has rows."""
        found, start = {}, 0
        for name in SPLITS:
            rows = sum(high - low for part in self.parts for low, high in [part.plan.splits.get(name, (0, 0))])
            if rows:
                found[name] = [(start, start + rows)]
                start += rows
        return found

    def rows(self, split: str) -> slice:
        """Rows of one split.

        Raises
        ------
        ValueError
            If the dataset has no such split.
        """
        if split not in self.splits:
            raise ValueError(f"expected a split of {list(self.splits)}, received {split!r}")
        return slice(*self.splits[split][0])

    @cached_property
    def _labels(self) -> np.ndarray:
        return self.column("labels", 0, self.count)

    @cached_property
    def _ids(self) -> np.ndarray:
        return self.column("ids", 0, self.count)

    def column(self, name: str, start: int, stop: int, *, verify: bool = False) -> np.ndarray:
        """Read rows of ``labels``, ``ids`` or ``split`` without reading the rest; with `verify`, compared ones only."""
        if name not in (known := [c.name for c in columns(False)]):
            raise ValueError(f"expected a column of {known}, received {name!r}")
        self._check_range(start, stop)
        found = [
            self.parts[part].column(name, low, high, verify=verify) for _, part, low, high in self.pieces(start, stop)
        ]
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.empty(0, np.uint8 if name == "split" else np.int64)

    def labels(self) -> np.ndarray:
        """Labels of all rows, int64 (count,); -1 where there is none."""
        return self._labels

    def ids(self) -> np.ndarray:
        """Permanent ids of all rows, int64 (count,)."""
        return self._ids

    def read(self, start: int, stop: int) -> np.ndarray | list[str]:
        """Read the samples of rows ``start`` to ``stop``.

        Returns
        -------
        ndarray of uint8, shape (stop - start, height, width, channel), or list of str
        """
        self._check_range(start, stop)
        pieces = self.pieces(start, stop)
        if len(pieces) == 1:
            _, part, low, high = pieces[0]
            return self.parts[part].read(low, high)
        found: list[Any] = [self.parts[part].read(low, high) for _, part, low, high in pieces]
        if self.kind == "texts":
            return [text for texts in found for text in texts]
        return np.concatenate(found) if found else np.empty((0, *(self.sample_shape or ())), np.uint8)

    def take(self, rows: np.ndarray, *, verify: Verify = None) -> np.ndarray | list[str]:
        """Gather samples at any rows, in the order given.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
        verify : {None, "first-read", "every-read"}
            Compare the shards of these rows with their hashes: not at all, each once, or always.

        Returns
        -------
        ndarray of uint8, shape (n, height, width, channel), or list of str
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < self.count):
            raise IndexError(f"expected rows within 0 to {self.count - 1}, received {rows.min()} to {rows.max()}")
        if len(self.parts) == 1:
            return self.parts[0].take(rows, verify=verify)
        segments = np.searchsorted(self._segments[:, 0], rows, side="right") - 1
        local = rows - self._segments[segments, 0] + self._segments[segments, 2]
        owners = self._segments[segments, 1]
        texts: list[str] = [""] * len(rows)
        out = np.empty((0 if self.kind == "texts" else len(rows), *(self.sample_shape or ())), np.uint8)
        for part in np.unique(owners).tolist():
            places = np.flatnonzero(owners == part)
            found = self.parts[part].take(local[places], verify=verify)
            if isinstance(found, np.ndarray):
                out[places] = found
            else:
                for place, text in zip(places.tolist(), found, strict=True):
                    texts[place] = text
        return texts if self.kind == "texts" else out

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.count:
            raise IndexError(f"expected rows within 0 to {self.count}, received {start} to {stop}")

    def pieces(self, start: int, stop: int) -> list[tuple[int, int, int, int]]:
        """(first row, part, first row in it, past-the-last row in it) of every run of some rows."""
        found = []
        for first, part, low, high in self._segments.tolist():
            one, other = max(start, first), min(stop, first + high - low)
            if one < other:
                found.append((one, part, low + one - first, low + other - first))
        return found

    def xarray(self) -> xarray.Dataset:
        """Open as a lazy `xarray.Dataset` in the order of rows, a Dask chunk per shard.

        Of ragged samples (texts, images kept as files) `values` and `offsets` are those of the only part; a dataset
        with appended parts has them per part (`Dataset.parts`), because each counts its own bytes.
        """
        import xarray

        opened = []
        for part in self.parts:
            group = part.store.zarr(f"{part.key}/{GROUP}")
            one = xarray.open_zarr(group, chunks=None, consolidated=True, zarr_format=3)
            # Opened first, cut afterwards: the columns' files hold other numbers of rows, and xarray would warn.
            opened.append(one.chunk({"sample": part.layout.shard}))
        if len(opened) == 1:
            return opened[0]
        opened = [one.drop_vars(["values", "offsets"], errors="ignore") for one in opened]
        pieces = [opened[part].isel(sample=slice(low, high)) for _, part, low, high in self._segments.tolist()]
        joined: xarray.Dataset = xarray.concat(pieces, "sample", combine_attrs="drop_conflicts")
        return joined


def _segments(parts: tuple[Part, ...]) -> np.ndarray:
    """Runs of rows, int64 (n, 4): first row in the dataset, part, first and past-the-last row in the part.

    All training rows come first, part by part, then the other splits: so a split stays one run of rows.
    """
    if len(parts) == 1:
        return np.array([[0, 0, 0, parts[0].layout.count]])
    found, start = [], 0
    for name in SPLITS:
        for number, part in enumerate(parts):
            low, high = part.plan.splits.get(name, (0, 0))
            if high > low:
                found.append((start, number, low, high))
                start += high - low
    if start != sum(part.layout.count for part in parts):
        raise StorageError(f"the splits of {parts[0].dataset} do not cover its rows; run verify")
    return np.array(found)


def is_dataset(path: str | Path) -> bool:
    """Whether there is a finished dataset at a folder or URL."""
    return bool(version_numbers(store_of(path)))
