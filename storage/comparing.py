"""Columns that are compared with their hashes as they are read, however few rows are read at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from blake3 import blake3

from storage.arrays import column_key, column_rows, column_shape
from storage.columns import pieces_of, read_into
from storage.documents import GROUP
from storage.errors import StorageError
from storage.layout import Variable
from storage.stores.protocol import Store

_BLOCK = 1024
"""Rows that are compared together once the whole file was: a few pages of it."""
_SIZE = 16
"""Bytes that are kept of the hash of a block."""


class ComparedColumn:
    """A column of which only bytes that were compared are given.

    The first time that rows of a file are read, all of it is compared with its hash, and hashes of its blocks are kept:
    so later reads of a few rows are compared, too, without reading the file once more.

    Parameters
    ----------
    store : Store
    build : str
        The build's folder in the store.
    variable : Variable
    count : int
        Rows of the whole column.
    files : dict
        Hash of every file, by its path inside the build; see `storage.columns.ColumnWriter.files`.
    """

    def __init__(self, store: Store, build: str, variable: Variable, count: int, files: dict[str, Any]) -> None:
        self._store, self._build, self._variable, self._count, self._files = store, build, variable, count, files
        self._dtype = np.dtype(variable.dtype).newbyteorder("<")
        self._row_bytes = self._dtype.itemsize * int(np.prod(column_shape(variable, 1)))
        self._blocks: dict[int, list[bytes]] = {}

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read some rows.

        Raises
        ------
        StorageError
            If a file that holds some of them is missing or damaged; names it.
        """
        out = np.empty(column_shape(self._variable, stop - start), self._dtype)
        for chunk, low, high in pieces_of(self._count, start, stop):
            first = chunk * column_rows(self._count)
            held = memoryview(out[low - start : high - start]).cast("B")
            begin = (low - first) * self._row_bytes
            try:
                self._read(chunk, begin, held)
            except FileNotFoundError:
                raise StorageError(f"missing {self._where(chunk)}; run verify") from None
            except IsADirectoryError:
                why = "expected a file, found a folder"
                raise StorageError(f"damaged {self._where(chunk)}: {why}; run verify") from None
            except ValueError as error:
                raise StorageError(f"damaged {self._where(chunk)}: {error}; run verify") from error
        return out

    def _read(self, chunk: int, begin: int, out: memoryview) -> None:
        """Fill `out` with the bytes of a file from `begin` on."""
        size = _BLOCK * self._row_bytes
        known = self._blocks.get(chunk)
        # Only what is wanted of a file that is known; the whole file the first time.
        numbers = range(0) if known is None else range(begin // size, -(-(begin + len(out)) // size))
        total, found = blake3(), []
        for number, block in enumerate(self._read_blocks(chunk, numbers), numbers.start):
            if known is None:
                total.update(block)
            hashed = blake3(block).digest(_SIZE)
            if known is not None and hashed != known[number]:
                raise ValueError("its bytes are not those that were committed")
            found.append(hashed)
            low, high = max(begin, number * size), min(begin + len(out), number * size + len(block))
            if low < high:
                out[low - begin : high - begin] = memoryview(block)[low - number * size : high - number * size]
        if known is None:
            if total.hexdigest() != self._files.get(self._key(chunk), {}).get("hash"):
                raise ValueError("its bytes are not those that were committed")
            self._blocks[chunk] = found

    def _read_blocks(self, chunk: int, numbers: range) -> Iterator[bytes | memoryview]:
        """Some blocks of a file; all of them if none are named."""
        key, size = f"{self._build}/{self._key(chunk)}", _BLOCK * self._row_bytes
        if numbers:
            held = memoryview(bytearray(len(numbers) * size))
            held = held[: read_into(self._store, key, numbers.start * size, held)]
            for begin in range(0, len(numbers) * size, size):
                yield held[begin : begin + size]
        elif (path := self._store.path(key)) is None:
            data = memoryview(self._store.read(key))
            for begin in range(0, len(data), size):
                yield data[begin : begin + size]
        else:
            with open(path, "rb") as file:
                while block := file.read(size):
                    yield block

    def _key(self, chunk: int) -> str:
        return f"{GROUP}/{column_key(self._variable, chunk)}"

    def _where(self, chunk: int) -> str:
        return f"{self._store.location}/{self._build}/{self._key(chunk)}"
