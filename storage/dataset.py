"""Open and read a committed dataset."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from storage.documents import GROUP, MANIFEST, POINTER, read_pointer
from storage.errors import StorageError
from storage.layout import MIB, SPLITS, Layout
from storage.raw import map_shard
from storage.texts import decode, unpack

if TYPE_CHECKING:
    import xarray

HELD_BYTES = 640 * MIB
"""Texts that an open dataset keeps for `take`: somewhat more than a window of shuffled batches, `feed.WINDOW_BYTES`."""


def open_dataset(path: str | Path) -> Dataset:
    """Open a finished dataset.

    Parameters
    ----------
    path : str or Path
        The dataset's folder, or one of its builds.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StorageError
        If the dataset is there but not finished, or its manifest cannot be read.
    """
    folder = Path(path).absolute()  # a worker may have another working directory
    if not folder.is_dir():
        raise FileNotFoundError(
            f"expected a dataset's folder, found nothing at {folder}; run the pipeline that makes it"
        )
    if (pointer := read_pointer(folder)) is not None:
        folder = folder / pointer["build"]
    if not (folder / MANIFEST).is_file():
        raise StorageError(
            f"no finished dataset in {folder} (no {POINTER} or {MANIFEST}); run its pipeline again to resume"
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return Dataset(folder, manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"damaged manifest {folder / MANIFEST}: {type(error).__name__}: {error}; restore it, or delete the build "
            "and run again"
        ) from error


class Dataset:
    """An immutable, committed dataset. Picklable: only the path and manifest travel.

    Attributes
    ----------
    path : Path
        Folder of the build.
    name, kind, version : str
        ``kind`` is ``images`` or ``texts``; ``version`` is the digest of the content.
    classes : tuple of str
    sample_shape : tuple of int or None
        Height, width, channels.
    count : int
        Samples.
    layout : Layout
    statistics : dict
        Of the training split, from the manifest.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = Path(path)
        self.manifest = manifest
        self.name: str = manifest["name"]
        self.kind: str = manifest["kind"]
        self.version: str = manifest["version"]
        if not isinstance(self.version, str) or not isinstance(manifest["files"], dict):
            raise TypeError("expected a version as text and files by name")
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        shape = manifest["sample_shape"]
        self.sample_shape: tuple[int, ...] | None = tuple(shape) if shape else None
        self.layout = Layout(**manifest["layout"])
        self.statistics: dict[str, Any] = manifest["statistics"]
        self._maps: dict[int, np.ndarray | None] = {}
        self._texts: dict[int, tuple[bytes, int]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (Dataset, (self.path, self.manifest))

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r}: {self.count:,} {self.kind}, {self.shards} shards, version {self.version[:12]}>"

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.layout.count

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.layout.shards

    @property
    def nbytes(self) -> int:
        """Bytes of all files on disk."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    @property
    def splits(self) -> dict[str, list[tuple[int, int]]]:
        """Row ranges (first, past the last) of every split that has rows."""
        return {name: [tuple(self.manifest["splits"][name])] for name in SPLITS if name in self.manifest["splits"]}

    def rows(self, split: str) -> slice:
        """Rows of one split.

        Raises
        ------
        ValueError
            If the dataset has no such split.
        """
        if split not in self.manifest["splits"]:
            raise ValueError(f"expected a split of {list(self.splits)}, received {split!r}")
        return slice(*self.manifest["splits"][split])

    @cached_property
    def _group(self) -> zarr.Group:
        return zarr.open_group(self.path / GROUP, mode="r")

    def _array(self, name: str) -> zarr.Array:
        array = self._group[name]
        if not isinstance(array, zarr.Array):
            raise StorageError(f"expected {name!r} in {self.path} to be an array, found a group; verify the dataset")
        return array

    def _small(self, name: str) -> np.ndarray:
        """Read a whole per-sample array."""
        return self.column(name, 0, self.count)

    def _check_files(self, name: str, shards: range) -> None:
        """Refuse to read what is not there: Zarr would silently give zeros for a lost file."""
        rest = {"images": ".0.0.0", "offsets": ".0"}.get(name, "")
        for shard in shards:
            path = self.path / GROUP / name / f"c.{shard}{rest}"
            if not path.exists():
                raise StorageError(f"missing shard {shard} of {self.name!r} ({path}); run verify")

    def _shards_of(self, start: int, stop: int) -> range:
        """Shards that hold the rows ``start`` to ``stop``."""
        return range(start // self.layout.shard, -(-stop // self.layout.shard) if stop > start else 0)

    @cached_property
    def _labels(self) -> np.ndarray:
        return self._small("labels")

    @cached_property
    def _ids(self) -> np.ndarray:
        return self._small("ids")

    @cached_property
    def _offsets(self) -> np.ndarray:
        return self._small("offsets")

    def column(self, name: str, start: int, stop: int) -> np.ndarray:
        """Read rows of ``labels``, ``ids`` or ``split`` without reading the rest."""
        self._check_files(name, self._shards_of(start, stop))
        return np.asarray(self._array(name)[start:stop])

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
        if not 0 <= start <= stop <= self.count:
            raise IndexError(f"expected rows within 0 to {self.count}, received {start} to {stop}")
        if self.kind == "texts":
            return self._read_texts(start, stop)
        out = np.empty((stop - start, *(self.sample_shape or ())), np.uint8)
        for shard in self._shards_of(start, stop):
            low, high = self.layout.bounds(shard)
            first, last = max(start, low), min(stop, high)
            out[first - start : last - start] = self._shard_images(shard)[first - low : last - low]
        return out

    def take(self, rows: np.ndarray) -> np.ndarray | list[str]:
        """Gather samples at any rows, in the order given.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)

        Returns
        -------
        ndarray of uint8, shape (n, height, width, channel), or list of str
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < self.count):
            raise IndexError(f"expected rows within 0 to {self.count - 1}, received {rows.min()} to {rows.max()}")
        shards = rows // self.layout.shard
        if self.kind == "texts":
            texts: list[str] = [""] * len(rows)
            for shard in np.unique(shards).tolist():
                data, start = self._held_texts(shard)
                for place in np.flatnonzero(shards == shard).tolist():
                    low, high = (self._offsets[rows[place]] - start).tolist()
                    texts[place] = decode(data[low:high])
            return texts
        out = np.empty((len(rows), *(self.sample_shape or ())), np.uint8)
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            out[places] = self._shard_images(int(shard))[rows[places] - self.layout.bounds(int(shard))[0]]
        return out

    def _shard_images(self, shard: int) -> np.ndarray:
        low, high = self.layout.bounds(shard)
        if shard not in self._maps:
            self._check_files("images", range(shard, shard + 1))
            path = self.path / GROUP / "images" / f"c.{shard}.0.0.0"
            self._maps[shard] = map_shard(
                path, self.layout.chunk, self.layout.shard, high - low, self.sample_shape or ()
            )
        held = self._maps[shard]
        return np.asarray(self._array("images")[low:high]) if held is None else held

    def _read_texts(self, start: int, stop: int) -> list[str]:
        texts: list[str] = []
        for shard in self._shards_of(start, stop):
            low, high = self.layout.bounds(shard)
            values, first = self._shard_bytes(shard)
            texts += unpack(values, self._offsets[max(start, low) : min(stop, high)], first)
        return texts

    def _shard_bytes(self, shard: int) -> tuple[np.ndarray, int]:
        """The UTF-8 bytes of a shard's texts, and where they begin in `values`."""
        self._check_files("values", range(shard, shard + 1))
        values = self._array("values")
        slot = values.chunks[0]
        offsets = self._offsets[slice(*self.layout.bounds(shard))]
        edges = np.append(offsets[:, 0], offsets[-1, 1])
        # Each text begins where the one before it ends, all within the shard's slot.
        whole = (edges[1:] == offsets[:, 1]).all() and (np.diff(edges) >= 0).all()
        if not whole or edges[0] < shard * slot or edges[-1] > (shard + 1) * slot:
            raise StorageError(f"damaged offsets in shard {shard} of {self.name!r}; run verify")
        return np.asarray(values[int(edges[0]) : int(edges[-1])]), int(edges[0])

    def _held_texts(self, shard: int) -> tuple[bytes, int]:
        """The bytes of a shard's texts, kept: shuffled batches come back to the same shards again and again."""
        held = self._texts.get(shard)
        if held is None:
            values, first = self._shard_bytes(shard)
            held = self._texts[shard] = (values.tobytes(), first)
            spare = sum(len(data) for data, _ in list(self._texts.values())) - HELD_BYTES
            for other in list(self._texts)[:-1]:
                if spare > 0:
                    spare -= len(self._texts.pop(other, (b"", 0))[0])
        return held

    def xarray(self) -> xarray.Dataset:
        """Open as a lazy `xarray.Dataset`, a Dask chunk per shard."""
        import xarray

        chunks = {"sample": self.layout.shard}  # by default it would take the inner chunks of a shard
        return xarray.open_zarr(self.path / GROUP, chunks=chunks, consolidated=True, zarr_format=3)
