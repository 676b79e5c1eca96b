"""One BLAS thread in this process while Dask's tasks keep the processors busy.

BLAS threads wait for each other by spinning. Where workers, or other tasks of this process, have the processors, a
product that should take 10 ms then takes 300 (a Cholesky factor of 785 x 785, measured).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

_lock = threading.Lock()
_users = 0
_limit: threadpool_limits | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread for the whole process until the last of those who asked for it is done."""
    global _users, _limit
    with _lock:
        _users += 1
        if _limit is None:
            _limit = threadpool_limits(1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _limit is not None:
                _limit.restore_original_limits()
                _limit = None
