"""Blocks that a fit goes over again and again, kept by a worker in files where memory has no room for them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np

FREE_FRACTION = 0.1
"""Share of a disk that is left free."""


class Shelf:
    """Arrays in files of this process, each made when it is asked for first.

    It only saves making them again: what cannot be written, or is gone, is made anew. So a shelf that is sent to
    another process arrives empty. The files go when nobody holds it any more: as the result of a task, when Dask
    forgets that or the worker ends.
    """

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._kept: dict[int, tuple[tuple[int, ...], np.dtype]] = {}
        self._full = False

    def __reduce__(self) -> Any:
        return Shelf, ()

    def get(self, number: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of a number; `make` makes it, the same each time."""
        if number in self._kept:
            shape, dtype = self._kept[number]
            with suppress(OSError, ValueError):  # a file that is gone or cut off
                return np.fromfile(self._place(number), dtype).reshape(shape)
        array = make()
        if not self._full:
            try:
                self._write(number, array)
            except OSError:
                self._full = True  # or not writable: from here on every pass makes the rest
        return array

    def _write(self, number: int, array: np.ndarray) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="duskflow-shelf-", dir=_folder()))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        disk = shutil.disk_usage(self._folder)
        if disk.free - array.nbytes < FREE_FRACTION * disk.total:
            self._full = True
            return
        array.tofile(self._place(number))
        self._kept[number] = array.shape, array.dtype

    def _place(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number}.bin"


def _folder() -> str | None:
    """Return the worker's folder for what it spills, which goes with it."""
    from distributed import get_worker

    try:
        folder: str = get_worker().local_directory
    except ValueError:  # not in a worker
        return dask.config.get("temporary-directory", None)
    return folder
