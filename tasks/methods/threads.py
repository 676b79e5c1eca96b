"""One BLAS thread in this process while Dask's tasks keep the processors busy.

BLAS threads wait for each other by spinning. Where workers, or other tasks of this process, have the processors, a
product that should take 10 ms then takes 300 (a Cholesky factor of 785 x 785, measured).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

_lock = threading.Lock()
_users = 0
_limit: threadpool_limits | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread for the whole process until the last of those who asked for it is done.

    Where each thread of the process has BLAS threads of its own (OpenBLAS on OpenMP) this has no effect.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _elsewhere(_set)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _elsewhere(_restore)


def _set() -> None:
    global _limit
    _limit = threadpool_limits(1, user_api="blas")


def _restore() -> None:
    global _limit
    if _limit is not None:
        _limit.restore_original_limits()
    _limit = None


def _elsewhere(function: Callable[[], None]) -> None:
    # To threadpoolctl the limit belongs to the thread that set it, as long as that lives; but here the first to ask
    # need not be the last to leave.
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
