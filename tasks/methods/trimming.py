"""Give back what a worker freed but keeps, before Dask pauses it for that.

glibc returns freed memory to the system from the top of its heaps only; what lies between live arrays it keeps. Dask
counts it, and pauses a worker above 80 % of its limit until that falls, which it never does where nothing runs.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from distributed import Worker

PRESSURE = 0.7
"""Share of a worker's limit from which on it gives memory back: where Dask begins to spill."""

INTERVAL = 200
"""Milliseconds from one look at the memory to the next."""

_NAME = "duskflow-trim"
_WATCHED: weakref.WeakSet[Worker] = weakref.WeakSet()


def watch_memory() -> None:
    """Let the worker that this process is give memory back from time to time; without effect elsewhere."""
    # Without importing distributed: where nobody has, there is no worker.
    distributed = sys.modules.get("distributed")
    if distributed is None or _allocator() is None:
        return
    try:
        worker = distributed.get_worker()
    except ValueError:
        return
    if worker not in _WATCHED and worker.memory_manager.memory_limit:
        _WATCHED.add(worker)
        worker.loop.add_callback(_begin, worker)


def give_back(limit: float) -> bool:
    """Return freed memory to the system if this process has more than `PRESSURE` of a limit; True if it tried."""
    allocator = _allocator()
    if allocator is None or psutil.Process().memory_info().rss <= PRESSURE * limit:
        return False
    allocator(0)
    return True


def _begin(worker: Worker) -> None:
    from tornado.ioloop import PeriodicCallback

    limit = worker.memory_manager.memory_limit
    assert limit is not None

    def look() -> None:
        give_back(limit)

    callback = PeriodicCallback(look, INTERVAL)
    # Dask stops those of a worker when it closes.
    worker.periodic_callbacks[_NAME] = callback
    callback.start()


@cache
def _allocator() -> Any:
    """Return glibc's `malloc_trim`; None where there is none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
