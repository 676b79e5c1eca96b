"""What the commit protocol asks of a place. Keys are relative, with ``/`` between their parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

Piece = bytes | memoryview


class Store(Protocol):
    """A place for files. Whatever `write` and `create` wrote survives a crash as soon as they return.

    All methods raise `FileNotFoundError` for what is not there and `OSError` for what the place refuses.
    """

    location: str
    """Where this is, as a path or URL."""

    def read(self, key: str) -> bytes:
        """Read a whole file."""
        ...

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part of a file."""
        ...

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Read files in the order given, ahead of the consumer where that is faster; None for what is not there."""
        ...

    def size(self, key: str) -> int:
        """Bytes of a file."""
        ...

    def children(self, prefix: str) -> list[str]:
        """Names directly below a prefix, files and folders, unsorted; empty if there is nothing."""
        ...

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """(key, bytes) of every file below a prefix."""
        ...

    def write(self, key: str, *pieces: Piece) -> None:
        """Write a file, over the old one if there is one; readers see the old or the new, nothing between."""
        ...

    def create(self, key: str, *pieces: Piece) -> bool:
        """Write a file unless it is there; of many writers at once exactly one gets True."""
        ...

    def remove(self, key: str) -> None:
        """Remove a file; nothing happens if it is not there."""
        ...

    def remove_tree(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        ...

    def clean(self) -> None:
        """Remove what dead writers left."""
        ...

    def free_bytes(self) -> int | None:
        """Space that is left; None where there is no such thing."""
        ...

    def path(self, key: str) -> Path | None:
        """Path of a file on this machine, for memory maps; None where there is none."""
        ...

    def zarr(self, prefix: str) -> Any:
        """What `zarr.open_group` and `xarray.open_zarr` take for a group."""
        ...


def exists(store: Store, key: str) -> bool:
    """Whether a file is there."""
    try:
        store.size(key)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
