"""Read one finished build: a run of samples in shards. A dataset is one of these, or several after appends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from storage import raw
from storage.arrays import compressed, data_key, decode_values
from storage.columns import read_column
from storage.comparing import ComparedColumn
from storage.documents import BUILDS, GROUP, SHARDS
from storage.errors import StorageError
from storage.hashing import hash_bytes, hash_file
from storage.images import decode_images
from storage.kept import Kept
from storage.layout import Layout, columns
from storage.manifest import decode_table, read_manifest
from storage.plan import Plan
from storage.stores import Store, join, store_of
from storage.texts import decode

T = TypeVar("T")
Verify = Literal["first-read", "every-read"] | None


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
        self._held = Kept()
        self._sound: set[int] = set()
        self._compared: dict[str, ComparedColumn] = {}
        self._offsets: tuple[np.ndarray, bool] | None = None  # of all rows, and whether they were compared

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

    def column(self, name: str, start: int, stop: int, *, verify: bool = False) -> np.ndarray:
        """Read rows of ``labels``, ``ids``, ``split`` or ``offsets`` without reading the rest.

        Parameters
        ----------
        name : str
        start, stop : int
        verify : bool
            Compare what is read with its hash; the first time that rows of a file are read, the whole file.

        Raises
        ------
        StorageError
            If a file is missing or, with `verify`, damaged; names it.
        """
        variable = next(one for one in columns(self.plan.ragged) if one.name == name)
        arguments = self.store, self.key, variable, self.layout.count
        if not verify:
            return read_column(*arguments, start, stop)
        if name not in self._compared:
            self._compared[name] = ComparedColumn(*arguments, self.manifest["files"])
        return self._compared[name].read(start, stop)

    def _all_offsets(self, verify: Verify) -> np.ndarray:
        """Offsets of all rows, kept from now on."""
        if self._offsets is None or (verify is not None and not self._offsets[1]):
            compare = verify is not None
            self._offsets = self.column("offsets", 0, self.layout.count, verify=compare), compare
        return self._offsets[0]

    def _offsets_of(self, start: int, stop: int, verify: Verify = None) -> np.ndarray:
        """Offsets of some rows; those of all only once `take` has asked for them."""
        held = self._offsets
        if held is None or (verify is not None and not held[1]):
            return self.column("offsets", start, stop, verify=verify is not None)
        return held[0][start:stop]

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
            whole = (low, high) == self.layout.bounds(shard)
            values = self._values(shard, self._offsets_of(low, high))[0] if whole else self._kept(shard)
            found += self._cut(shard, self._offsets_of(low, high), values)
        return found

    def take(self, rows: np.ndarray, *, verify: Verify = None) -> np.ndarray | list[str]:
        """Gather samples at any rows, in the order given."""
        shards = rows // self.layout.shard
        if self.plan.ragged:
            offsets = self._all_offsets(verify)
            samples: list[memoryview] = [memoryview(b"")] * len(rows)
            for shard in np.unique(shards).tolist():
                places = np.flatnonzero(shards == shard)
                kept = self._kept(shard, verify)
                for place, sample in zip(places, self._cut(shard, offsets[rows[places]], kept), strict=True):
                    samples[place] = sample
            return self._decode(samples)
        out = np.empty((len(rows), *(self.plan.sample_shape or ())), np.uint8)
        for shard in np.unique(shards).tolist():
            places = np.flatnonzero(shards == shard)
            out[places] = self._kept(shard, verify)[rows[places] - shard * self.layout.shard]
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

    def _cut(self, shard: int, offsets: np.ndarray, values: Any) -> list[memoryview]:
        """The bytes of some samples of a shard."""
        data = memoryview(values)
        start = shard * int(self.plan.slot_bytes or 0)
        return [data[low:high] for low, high in (offsets - start).tolist()]

    def _kept(self, shard: int, verify: Verify = None) -> Any:
        """A shard's samples from what is kept, or kept from now on; loaded anew where they are to be compared."""
        digest = self._expected(shard, verify)

        def load() -> tuple[Any, int]:
            if self.plan.ragged:
                return self._values(shard, self._offsets_of(*self.layout.bounds(shard), verify), digest)
            return self._images(shard, digest)

        found = self._held.get(shard, load, anew=digest is not None)
        self._was_read(shard, verify)
        return found

    def _images(self, shard: int, digest: bytes | None) -> tuple[np.ndarray, int]:
        """The samples of a shard of plain images: a memory map, or the bytes of an object."""
        key = self._data_key(shard)

        def load() -> tuple[np.ndarray, int]:
            if (path := self.store.path(key)) is not None:
                images = raw.map_shard(path, self.plan, shard)
                if digest is not None:
                    _refuse_other(hash_file(path), digest)
                return images, images.nbytes
            data = self.store.read(key)
            _compare(data, digest)
            return raw.view_shard(data, self.plan, shard), len(data)

        return self._refuse_damage(shard, key, load)

    def _read_images(self, shard: int, first: int, out: np.ndarray) -> None:
        """Read rows of a shard of plain images, from its row `first` on, past what is kept."""
        if self.store.path(self._data_key(shard)) is None:
            out[:] = self._kept(shard)[first : first + len(out)]
        else:
            self.read_images(shard, first, out)

    def read_images(self, shard: int, first: int, out: np.ndarray, *, verify: Verify = None, keep: bool = True) -> None:
        """Read rows of a shard of plain images into memory; nothing of it is kept here.

        Parameters
        ----------
        shard, first : int
            The first row counts from the shard's own.
        out : ndarray of uint8, shape (rows, height, width, channel), C-contiguous
        verify : {None, "first-read", "every-read"}
            Whether the whole shard is compared with its hash: never, if this object has not done so yet, always.
        keep : bool
            False asks the operating system to drop the file's pages.

        Raises
        ------
        StorageError
            If the shard is missing or damaged; names it.
        """
        key = self._data_key(shard)
        digest = self._expected(shard, verify)

        def load() -> tuple[Any, int]:
            path = self.store.path(key)
            if path is not None:
                raw.read_rows(path, self.plan, shard, first, out, digest=digest, keep=keep)
            else:
                data = self.store.read(key)
                _compare(data, digest)
                out[:] = raw.view_shard(data, self.plan, shard)[first : first + len(out)]
            return out, len(out)

        self._refuse_damage(shard, key, load)
        self._was_read(shard, verify)

    def read_slot(self, shard: int, *, verify: Verify = None, keep: bool = True) -> tuple[memoryview, np.ndarray]:
        """Read the bytes of a shard of ragged samples, and where each begins; nothing of it is kept here.

        Parameters
        ----------
        shard : int
        verify, keep
            See `read_images`.

        Returns
        -------
        memoryview
            UTF-8, or files of images, one after the other.
        ndarray of int64, shape (rows, 2)
            First and past-the-last byte of each sample.
        """
        digest = self._expected(shard, verify)
        offsets = self._offsets_of(*self.layout.bounds(shard), verify)
        data = memoryview(self._values(shard, offsets, digest, mapped=False, keep=keep)[0])
        self._was_read(shard, verify)
        return data, offsets - shard * int(self.plan.slot_bytes or 0)

    def _data_key(self, shard: int) -> str:
        return f"{self.key}/{GROUP}/{data_key(self.plan, shard)}"

    def _expected(self, shard: int, verify: Verify) -> bytes | None:
        """The hash that a shard must have; None if it need not be looked at."""
        if verify is None or (verify == "first-read" and shard in self._sound):
            return None
        return bytes(self.table["hash"][shard])

    def _was_read(self, shard: int, verify: Verify) -> None:
        if verify == "first-read":
            self._sound.add(shard)

    def _values(
        self, shard: int, offsets: np.ndarray, digest: bytes | None = None, *, mapped: bool = True, keep: bool = True
    ) -> tuple[Any, int]:
        """The slot of a shard of ragged samples, whose offsets these are."""
        key = self._data_key(shard)

        def load() -> tuple[Any, int]:
            used = self._used_bytes(shard, offsets)
            path = self.store.path(key)
            if mapped and path is not None and not compressed(self.plan):
                if (size := path.stat().st_size) != self.plan.slot_bytes:
                    raise ValueError(f"expected {self.plan.slot_bytes:,} bytes, found {size:,}")
                values = np.memmap(path, np.uint8, "r")
                _compare(values, digest)
                return values, size
            stored = self.store.read(key) if keep or path is None else raw.read_file(path, keep=False)
            _compare(stored, digest)
            data = decode_values(self.plan, stored)
            # The slot's end is zeros that nobody reads.
            return data[:used], used

        return self._refuse_damage(shard, key, load)

    def _used_bytes(self, shard: int, offsets: np.ndarray) -> int:
        """Bytes of all samples of a shard, if each begins where the one before it ends, within the shard's slot."""
        slot = int(self.plan.slot_bytes or 0)
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
        except IsADirectoryError:
            raise StorageError(f"damaged {what}: expected a file, found a folder; run verify") from None
        except ValueError as error:
            raise StorageError(f"damaged {what}: {error}; run verify") from error


def _compare(data: bytes | np.ndarray, digest: bytes | None) -> None:
    """Refuse bytes that are not those that were committed."""
    if digest is not None:
        _refuse_other(hash_bytes(data), digest)


def _refuse_other(found: bytes, digest: bytes) -> None:
    if found != digest:
        raise ValueError("its bytes are not those that were committed")
