"""A folder of a POSIX file system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from storage import durable
from storage.stores.protocol import Piece

_PARTIALS = "tmp"


class LocalStore:
    """Files below a folder; see `storage.stores.protocol.Store`.

    Temporary files lie in one folder of their own, ``tmp``, so that what dead writers left is found without looking
    through a million shards.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._root = Path(location)
        self._made: set[Path] = set()

    def __reduce__(self) -> tuple[type[LocalStore], tuple[str]]:
        return LocalStore, (self.location,)

    def path(self, key: str) -> Path:
        """Path of a file."""
        return self._root / key

    def read(self, key: str) -> bytes:
        """Read a whole file."""
        return self.path(key).read_bytes()

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Read a part of a file."""
        with open(self.path(key), "rb") as file:
            file.seek(start)
            return file.read(length)

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Read files in the order given; None for what is not there."""
        for key in keys:
            try:
                yield self.read(key)
            except FileNotFoundError:
                yield None

    def size(self, key: str) -> int:
        """Bytes of a file."""
        return self.path(key).stat().st_size

    def children(self, prefix: str) -> list[str]:
        """Names directly below a prefix."""
        try:
            with os.scandir(self._root / prefix) as found:
                return [entry.name for entry in found]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """(key, bytes) of every file below a prefix."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._root / prefix) as found:
            for entry in found:
                key = f"{prefix}/{entry.name}" if prefix else entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from self.walk(key)
                else:
                    with suppress(FileNotFoundError):
                        yield key, entry.stat(follow_symlinks=False).st_size

    def write(self, key: str, *pieces: Piece) -> None:
        """Write, sync, rename, sync the folder."""
        durable.replace(self._ready(key), *pieces, partials=self._root / _PARTIALS)

    def create(self, key: str, *pieces: Piece) -> bool:
        """Write, sync, link, sync the folder: linking fails if the name is taken."""
        return durable.create(self._ready(key), *pieces, partials=self._root / _PARTIALS)

    def _ready(self, key: str) -> Path:
        """The path of a key, its folder made."""
        path = self.path(key)
        for folder in (path.parent, self._root / _PARTIALS):
            if folder not in self._made or not folder.is_dir():
                durable.make_folder(folder)
                # Also names that were there: whoever made them may have died before they were on the disk.
                for above in [above for above in folder.parents if above.is_relative_to(self._root)]:
                    durable.fsync_folder(above)
                self._made.add(folder)
        return path

    def remove(self, key: str) -> None:
        """Remove a file and its name for good."""
        path = self.path(key)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            durable.fsync_folder(path.parent)

    def remove_tree(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        path = self._root / prefix
        if path.is_dir():
            shutil.rmtree(path)
            durable.fsync_folder(path.parent)

    def clean(self) -> None:
        """Remove temporary files of dead writers."""
        durable.remove_partials(self._root / _PARTIALS)

    def free_bytes(self) -> int:
        """Space that is left."""
        folder = self._root
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def zarr(self, prefix: str) -> Path:
        """Path of a group."""
        return self._root / prefix
