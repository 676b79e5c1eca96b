"""Files behind sources: found or refused, told apart by size and time, read once per process."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from blake3 import blake3

T = TypeVar("T")

#: Of a memory map larger than this no more is kept mapped at a time.
MAPPED_BYTES = 64 << 20
#: What one process keeps of decompressed and parsed files, in bytes; the newest entry stays whatever its size.
CACHE_BYTES = 2 << 30
#: How many entries it keeps: memory maps weigh nothing but hold a file open.
CACHE_ENTRIES = 64
#: Files up to this size are known by their content, larger ones by name, size and time of change.
DIGEST_BYTES = 1 << 30
#: Clocks of file systems tick every few milliseconds, old ones every two seconds; git calls such files racily clean.
SETTLING_SECONDS = 2.0


class Stamp(NamedTuple):
    """A file as it is now; another size or time of change is another file."""

    path: str
    size: int
    modified_ns: int
    settled: bool = True
    """False while the file may change again without another time: nothing that depends on it is kept."""


def absolute(path: str | os.PathLike[str]) -> str:
    """A path that means the same on a worker with another working directory; ``~`` is the home folder."""
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


def stamp(path: str) -> Stamp:
    """Size and time of a file.

    Raises
    ------
    FileNotFoundError
        Naming what was looked for.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"expected a file at {path}, found none; do check the path") from None
    if os.path.isdir(path):
        raise FileNotFoundError(f"expected a file at {path}, found a folder; do name the file in it")
    age = time.time() - state.st_mtime
    return Stamp(path, state.st_size, state.st_mtime_ns, settled=not 0 <= age < SETTLING_SECONDS)


def existing_folder(path: str | os.PathLike[str]) -> str:
    """The absolute path of a folder that is there."""
    folder = absolute(path)
    if not os.path.exists(folder):
        raise FileNotFoundError(f"expected a folder at {folder}, found nothing; do check the path")
    if not os.path.isdir(folder):
        raise NotADirectoryError(f"expected a folder at {folder}, found a file; do name the folder that holds it")
    return folder


class _Cache:
    """The least recently used entries go when there is too much."""

    def __init__(self, limit_bytes: int, limit_entries: int) -> None:
        self.limit_bytes = limit_bytes
        self.limit_entries = limit_entries
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        # Held while loading, so that the threads of a worker decompress a file once, not once each.
        self._lock = threading.RLock()

    def get(self, key: Hashable, load: Callable[[], tuple[Any, int]]) -> Any:
        with self._lock:
            if key not in self._entries:
                self._entries[key] = load()
            self._entries.move_to_end(key)
            while len(self._entries) > 1 and (
                len(self._entries) > self.limit_entries or self.held_bytes() > self.limit_bytes
            ):
                self._entries.popitem(last=False)
            return self._entries[key][0]

    def held_bytes(self) -> int:
        return sum(size for _, size in self._entries.values())

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


_cache = _Cache(CACHE_BYTES, CACHE_ENTRIES)


def once(key: Hashable, load: Callable[[], tuple[T, int]]) -> T:
    """What `load` gives for a key, loaded once per process and kept while there is room.

    Parameters
    ----------
    key : hashable
        A tuple with the `Stamp` of every file that it depends on, so that a changed file is read again.
    load : callable
        Gives the value and its weight in bytes.
    """
    if not _is_settled(key):
        return load()[0]
    value: T = _cache.get(key, load)
    return value


def _is_settled(key: Any) -> bool:
    if isinstance(key, Stamp):
        return key.settled
    return not isinstance(key, tuple) or all(map(_is_settled, key))


def gather(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows of an array, in the order given; of a large memory map in pieces, whose pages are let go of.

    They stay in the system's cache, but no longer count as this process's memory: Dask pauses, and then kills, workers
    that read a file larger than their limit through a map.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is None or array.nbytes <= MAPPED_BYTES:
        taken: np.ndarray = array[rows]
        return taken
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    order = np.argsort(rows, kind="stable")  # in the order of the file, so that neighbours share their pages
    # Linux maps 64 KiB around every page that is touched.
    step = max(1, MAPPED_BYTES // ((64 << 10) + out[:1].nbytes))
    for low in range(0, len(rows), step):
        places = order[low : low + step]
        out[places] = array[rows[places]]
        mapped.madvise(mmap.MADV_DONTNEED)
    return out


def forget() -> None:
    """Drop what this process keeps."""
    _cache.clear()


def digest(*parts: Any) -> str:
    """A hex digest of parts; bytes-like parts by content, all others by their `repr`."""
    total = blake3()
    for part in parts:
        content = memoryview(part).cast("B") if isinstance(part, bytes | memoryview) else repr(part).encode()
        total.update(f"{len(content)}:".encode())
        total.update(content)
    return total.hexdigest(20)


def texts_digest(texts: Iterable[str]) -> str:
    """A hex digest of texts, each with its length so that no two lists collide by joining."""
    total = hashlib.blake2b(digest_size=20)
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        total.update(f"{len(content)}:".encode())
        total.update(content)
    return total.hexdigest()


def file_digest(path: str) -> str:
    """A hex digest of a file: of its bytes, or of name, size and time when reading it would take long."""
    now = stamp(path)
    if now.size > DIGEST_BYTES:
        return digest(Path(path).name, now.size, now.modified_ns)

    def load() -> tuple[str, int]:
        return blake3().update_mmap(path).hexdigest(20), 0

    return once(("digest", now), load)
