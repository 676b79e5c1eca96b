"""Columns of a dataset (labels, ids, split, offsets): gathered from the records into a few large files, and read."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from blake3 import blake3

from storage.arrays import column_key, column_rows, column_shape
from storage.documents import GROUP
from storage.errors import StorageError
from storage.hashing import hash_bytes
from storage.layout import Variable
from storage.stores.protocol import Store


class ColumnWriter:
    """Write one column in files of equal size, as its rows come in order.

    Parameters
    ----------
    store : Store
    build : str
        The build's folder in the store.
    variable : Variable
    count : int
        Rows of the whole column.
    dry : bool
        Only hash, write nothing.
    """

    def __init__(self, store: Store, build: str, variable: Variable, count: int, *, dry: bool = False) -> None:
        self._dry = dry
        self._store, self._build, self._variable, self._count = store, build, variable, count
        self._rows = column_rows(count)
        self._held = np.zeros(column_shape(variable, self._rows), np.dtype(variable.dtype).newbyteorder("<"))
        self._filled = self._chunk = 0
        self._content = blake3()
        self.files: dict[str, dict[str, object]] = {}
        """Bytes and hash of every file, by its path inside the build."""

    def add(self, rows: np.ndarray) -> None:
        """Take the next rows."""
        while len(rows):
            part = rows[: self._rows - self._filled]
            self._held[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            rows = rows[len(part) :]
            if self._filled == self._rows:
                self._write()

    def finish(self) -> str:
        """Write the last file, its end filled with zeros as Zarr does, and give the hash of the plain column."""
        if self._filled:
            self._held[self._filled :] = 0
            self._write()
        return self._content.hexdigest()

    def _write(self) -> None:
        self._content.update(memoryview(self._held[: self._filled]).cast("B"))
        data = memoryview(self._held).cast("B")
        key = f"{GROUP}/{column_key(self._variable, self._chunk)}"
        if not self._dry:
            self._store.write(f"{self._build}/{key}", data)
        self.files[key] = {"bytes": data.nbytes, "hash": hash_bytes(data).hex()}
        self._chunk, self._filled = self._chunk + 1, 0


def read_column(store: Store, build: str, variable: Variable, count: int, start: int, stop: int) -> np.ndarray:
    """Read some rows of a column, nothing else.

    Raises
    ------
    StorageError
        If a file is missing or short: Zarr would give zeros.
    """
    out = np.empty(column_shape(variable, stop - start), np.dtype(variable.dtype).newbyteorder("<"))
    row_bytes = out.itemsize * math.prod(out.shape[1:])
    for chunk, low, high in pieces_of(count, start, stop):
        key = f"{build}/{GROUP}/{column_key(variable, chunk)}"
        first = chunk * column_rows(count)
        held = memoryview(out[low - start : high - start]).cast("B")
        try:
            found = read_into(store, key, (low - first) * row_bytes, held)
        except FileNotFoundError:
            raise StorageError(f"missing {store.location}/{key}; run verify") from None
        except IsADirectoryError:
            raise StorageError(f"damaged {store.location}/{key}: expected a file, found a folder; run verify") from None
        if found != len(held):
            raise StorageError(f"damaged {store.location}/{key}: it is too short; run verify")
    return out


def read_into(store: Store, key: str, start: int, out: memoryview) -> int:
    """Read a part of a file into memory, where there is a file without a copy; the number of bytes that were there."""
    path = store.path(key)
    if path is None:
        data = store.read_range(key, start, len(out))
        out[: len(data)] = data
        return len(data)
    with open(path, "rb") as file:
        file.seek(start)
        return file.readinto(out)


def pieces_of(count: int, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(file, first row, past-the-last row) of every file that holds some of the rows."""
    rows = column_rows(count)
    while start < stop:
        chunk = start // rows
        end = min(stop, (chunk + 1) * rows)
        yield chunk, start, end
        start = end
