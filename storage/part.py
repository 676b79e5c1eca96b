"""Read one finished build: a run of samples in shards. A dataset is one of these, or several after appends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from storage import raw
from storage.arrays import compressed, data_key, decode_values
from storage.columns import read_column
from storage.documents import BUILDS, GROUP, SHARDS
from storage.errors import StorageError
from storage.images import decode_images
from storage.layout import MIB, Layout, columns
from storage.manifest import decode_table, read_manifest
from storage.plan import Plan
from storage.stores import Store, join, store_of
from storage.texts import decode

T = TypeVar("T")

HELD_BYTES = 640 * MIB
"""Shards that an open dataset keeps for `take`, mapped or decoded; above a batch window, `feed.WINDOW_BYTES`."""
HELD_MAPS = 1024
"""Memory maps that it keeps: Linux allows a process some 65,000."""


class _Held:
    """The least recently used go when there is too much."""

    def __init__(self) -> None:
        self._items: OrderedDict[int, tuple[Any, int]] = OrderedDict()

    def get(self, key: int, load: Callable[[], tuple[T, int]]) -> T:
        """What is kept for a key, or else what `load` gives: the value, and its weight in bytes."""
        item = self._items.pop(key, None) or load()
        self._items[key] = item
        # Threads share this without a lock: each step is atomic, and what is loaded twice is the same twice.
        while len(self._items) > HELD_MAPS or (
            len(self._items) > 1 and sum(size for _, size in list(self._items.values())) > HELD_BYTES
        ):
            self._items.pop(next(iter(list(self._items))), None)
        value: T = item[0]
        return value


class Part:
    """One finished build of a dataset. Picklable: only its place and manifest travel.

    Parameters
    ----------
    dataset : str
        The dataset's location.
    build : str
        The build's key.
    manifest : dict, optional
        If it was read already.
    """

    def __init__(self, dataset: str, build: str, manifest: dict[str, Any] | None = None) -> None:
        self.dataset, self.build = dataset, build
        self.key = f"{BUILDS}/{build}"
        self.manifest = manifest or read_manifest(store_of(dataset), self.key)
        self.version: str = self.manifest["version"]
        shape, splits = self.manifest["sample_shape"], self.manifest["splits"]
        self.plan = Plan(
            name=self.manifest["name"],
            kind=self.manifest["kind"],
            layout=Layout(**self.manifest["layout"]),
            recipe=self.manifest["recipe"],
            sample_shape=tuple(shape) if shape else None,
            classes=tuple(self.manifest["classes"]),
            splits={name: (low, high) for name, (low, high) in splits.items()},
            slot_bytes=self.manifest["slot_bytes"],
        )
        self._held = _Held()

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.dataset, self.build, self.manifest)

    def __repr__(self) -> str:
        return f"<Part {self.build}: {self.layout.count:,} {self.plan.kind}, {self.layout.shards} shards>"

    @property
    def store(self) -> Store:
        """Where the dataset lies."""
        return store_of(self.dataset)

    @property
    def layout(self) -> Layout:
        """Samples per shard and chunk."""
        return self.plan.layout

    @property
    def group(self) -> str:
        """Location of the Zarr group, for any reader of Zarr v3."""
        return join(self.dataset, self.key, GROUP)

    @cached_property
    def table(self) -> np.ndarray:
        """Bytes and hashes of every shard; see `storage.manifest.SHARD_TABLE`."""
        try:
            return decode_table(self.store.read(f"{self.key}/{SHARDS}"))
        except (FileNotFoundError, ValueError) as error:
            raise StorageError(f"damaged table of shards of {self.group}: {error}; run `duskflow repair`") from error

    def column(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read rows of ``labels``, ``ids``, ``split`` or ``offsets`` without reading the rest."""
        variable = next(one for one in columns(self.plan.ragged) if one.name == name)
        return read_column(self.store, self.key, variable, self.layout.count, start, stop)

    @cached_property
    def _offsets(self) -> np.ndarray:
        return self.column("offsets", 0, self.layout.count)

    def _offsets_of(self, start: int, stop: int) -> np.ndarray:
        """Offsets of some rows; those of all only once `take` has asked for them."""
        held = self.__dict__.get("_offsets")
        return self.column("offsets", start, stop) if held is None else held[start:stop]

    def read(self, start: int, stop: int) -> np.ndarray | list[str]:
        """Read the samples of rows ``start`` to ``stop``; out of core, a shard at a time."""
        if self.plan.ragged:
            return self._decode(self.stored(start, stop))
        out = np.empty((stop - start, *(self.plan.sample_shape or ())), np.uint8)
        for shard, low, high in self._pieces(start, stop):
            self._read_images(shard, low - shard * self.layout.shard, out[low - start : high - start])
        return out

    def stored(self, start: int, stop: int) -> list[memoryview]:
        """Read ragged samples as the bytes that are kept: UTF-8, or files of images."""
        found: list[memoryview] = []
        for shard, low, high in self._pieces(start, stop):
            # A whole shard is read in passing, and not kept.
            whole = self._values(shard)[0] if (low, high) == self.layout.bounds(shard) else None
            found += self._cut(shard, self._offsets_of(low, high), whole)
        return found

    def take(self, rows: np.ndarray) -> np.ndarray | list[str]:
        """Gather samples at any rows, in the order given."""
        shards = rows // self.layout.shard
        if self.plan.ragged:
            samples: list[memoryview] = [memoryview(b"")] * len(rows)
            for shard in np.unique(shards).tolist():
                places = np.flatnonzero(shards == shard)
                for place, sample in zip(places, self._cut(shard, self._offsets[rows[places]]), strict=True):
                    samples[place] = sample
            return self._decode(samples)
        out = np.empty((len(rows), *(self.plan.sample_shape or ())), np.uint8)
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            out[places] = self._images(shard)[rows[places] - shard * self.layout.shard]
        return out

    def _pieces(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(shard, first row, past-the-last row) of every shard that holds some of the rows."""
        shards = range(start // self.layout.shard, -(-stop // self.layout.shard) if stop > start else 0)
        bounds = [(shard, *self.layout.bounds(shard)) for shard in shards]
        return [(shard, max(start, low), min(stop, high)) for shard, low, high in bounds]

    def _decode(self, samples: Sequence[memoryview]) -> np.ndarray | list[str]:
        if self.plan.kind == "texts":
            return [decode(sample) for sample in samples]
        return decode_images(samples, self.plan.sample_shape or ())

    def _cut(self, shard: int, offsets: np.ndarray, values: Any = None) -> list[memoryview]:
        """The bytes of some samples of a shard."""
        data = memoryview(self._held.get(shard, lambda: self._values(shard)) if values is None else values)
        start = shard * int(self.plan.slot_bytes or 0)
        return [data[low:high] for low, high in (offsets - start).tolist()]

    def _images(self, shard: int) -> np.ndarray:
        """The samples of a shard of plain images: a memory map, or the bytes of an object."""
        key = f"{self.key}/{GROUP}/{data_key(self.plan, shard)}"

        def load() -> tuple[np.ndarray, int]:
            if (path := self.store.path(key)) is not None:
                images = raw.map_shard(path, self.plan, shard)
                return images, images.nbytes
            data = self.store.read(key)
            return raw.view_shard(data, self.plan, shard), len(data)

        return self._held.get(shard, lambda: self._refuse_damage(shard, key, load))

    def _read_images(self, shard: int, first: int, out: np.ndarray) -> None:
        """Read rows of a shard of plain images, from its row `first` on, past what is kept."""
        key = f"{self.key}/{GROUP}/{data_key(self.plan, shard)}"
        path = self.store.path(key)
        if path is None:
            out[:] = self._images(shard)[first : first + len(out)]
        else:
            self._refuse_damage(shard, key, lambda: (raw.read_rows(path, self.plan, shard, first, out), len(out)))

    def _values(self, shard: int) -> tuple[Any, int]:
        """The slot of a shard of ragged samples."""
        key = f"{self.key}/{GROUP}/{data_key(self.plan, shard)}"

        def load() -> tuple[Any, int]:
            used = self._used_bytes(shard)
            path = self.store.path(key)
            if path is not None and not compressed(self.plan):
                if (size := path.stat().st_size) != self.plan.slot_bytes:
                    raise ValueError(f"expected {self.plan.slot_bytes:,} bytes, found {size:,}")
                return np.memmap(path, np.uint8, "r"), size
            data = decode_values(self.plan, self.store.read(key))
            # The slot's end is zeros that nobody reads.
            return data[:used], used

        return self._refuse_damage(shard, key, load)

    def _used_bytes(self, shard: int) -> int:
        """Bytes of all samples of a shard, if each begins where the one before it ends, within the shard's slot."""
        slot = int(self.plan.slot_bytes or 0)
        offsets = self._offsets_of(*self.layout.bounds(shard))
        edges = np.append(offsets[:, 0], offsets[-1, 1])
        whole = (edges[1:] == offsets[:, 1]).all() and (np.diff(edges) >= 0).all()
        if not whole or edges[0] != shard * slot or edges[-1] > (shard + 1) * slot:
            raise ValueError("its offsets are not those that were written")
        return int(edges[-1]) - shard * slot

    def _refuse_damage(self, shard: int, key: str, load: Callable[[], tuple[T, int]]) -> tuple[T, int]:
        what = f"shard {shard} of {self.plan.name!r} ({self.store.location}/{key})"
        try:
            return load()
        except FileNotFoundError:
            raise StorageError(f"missing {what}; run verify") from None  # Zarr would silently give zeros
        except ValueError as error:
            raise StorageError(f"damaged {what}: {error}; run verify") from error
