"""Blocks that a fit goes over again and again, kept by a worker in files where memory has no room for them."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

if TYPE_CHECKING:
    from distributed import Worker

FREE_FRACTION = 0.1
"""Share of a disk that is left free."""

_PLUGIN = "duskflow-shelves"


class Shelf:
    """Arrays in files of this process, each made when it is asked for first.

    It only saves making them again: what cannot be written, or is gone, is made anew. A shelf that is sent to another
    process arrives there empty; one that Dask itself puts to disk, and takes back, is the same. The files go when Dask
    forgets the result that the shelf is, or the worker ends; outside of workers, with the shelf.
    """

    def __init__(self, token: str | None = None) -> None:
        self._token = token or uuid.uuid4().hex
        if token is None:
            worker = _worker()
            if worker is None:
                weakref.finalize(self, _drop, self._token)
            else:
                _FILES[self._token] = _Files(worker.local_directory, worker.get_current_task())
                worker.loop.add_callback(_attend, worker)

    def __reduce__(self) -> Any:
        return Shelf, (self._token,)

    def get(self, number: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a number; `make` makes it, the same each time."""
        files = _files(self._token)
        array = files.read(number)
        if array is None:
            array = make()
            files.write(number, array)
        return array


class _Files:
    """What a process keeps for a shelf."""

    def __init__(self, parent: str | None, key: Hashable) -> None:
        self.parent, self.key = parent, key
        self.folder: Path | None = None
        self.kept: dict[int, tuple[tuple[int, ...], np.dtype]] = {}
        self.full = False

    def read(self, number: int) -> np.ndarray | None:
        if number in self.kept:
            shape, dtype = self.kept[number]
            with suppress(OSError, ValueError):  # a file that is gone or cut off
                array: np.ndarray = np.fromfile(self.place(number), dtype).reshape(shape)
                return array
        return None

    def write(self, number: int, array: np.ndarray) -> None:
        if self.full:
            return
        try:
            if self.folder is None:
                self.folder = Path(tempfile.mkdtemp(prefix="duskflow-shelf-", dir=self.parent))
            disk = shutil.disk_usage(self.folder)
            self.full = disk.free - array.nbytes < FREE_FRACTION * disk.total
            if not self.full:
                array.tofile(self.place(number))
                self.kept[number] = array.shape, array.dtype
        except OSError:
            self.full = True  # or not writable: from here on every pass makes the rest

    def place(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number}.bin"


_FILES: dict[str, _Files] = {}
_LOCK = threading.Lock()


def _files(token: str) -> _Files:
    with _LOCK:
        if token not in _FILES:
            worker = _worker()
            folder = dask.config.get("temporary-directory", None) if worker is None else worker.local_directory
            _FILES[token] = _Files(folder, None)
        return _FILES[token]


def _drop(token: str) -> None:
    files = _FILES.pop(token, None)
    if files is not None and files.folder is not None:
        shutil.rmtree(files.folder, ignore_errors=True)


def _worker() -> Worker | None:
    """Return the worker that this process is, if it is one."""
    # Without importing distributed: where nobody has, there is no worker.
    distributed = sys.modules.get("distributed")
    try:
        return None if distributed is None else distributed.get_worker()
    except ValueError:
        return None


async def _attend(worker: Worker) -> None:
    """Let a worker remove the files of shelves that Dask forgets."""
    from distributed.diagnostics.plugin import WorkerPlugin

    class Janitor(WorkerPlugin):
        def transition(self, key: Hashable, start: str, finish: str, **options: Any) -> None:
            if finish in ("released", "forgotten"):
                for token in [token for token, files in list(_FILES.items()) if files.key == key]:
                    _drop(token)

    if _PLUGIN not in worker.plugins:
        await worker.plugin_add(Janitor(), name=_PLUGIN)
