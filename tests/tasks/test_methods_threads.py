"""BLAS is limited while it is asked for, and gets its threads back after the last one."""

from __future__ import annotations

import threading

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tasks.methods.blocks import open_blocks
from tasks.methods.threads import one_blas_thread


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    before = max(blas_threads())
    in_thread(threadpool_limits, 2)
    yield
    in_thread(threadpool_limits, before)


def in_thread(function, count):
    # A limit that the main thread set would be the main thread's, and nobody else's to change.
    thread = threading.Thread(target=function, args=(count,), kwargs={"user_api": "blas"})
    thread.start()
    thread.join()


def test_one_blas_thread__until_the_last_user_leaves():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        assert inside.wait(30)
        assert blas_threads() == {1}
    assert blas_threads() == {1}, "the other one still needs it"
    leave.set()
    thread.join()
    assert blas_threads() == {2}


def test_one_blas_thread__given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        raise ZeroDivisionError
    assert blas_threads() == {2}


def test_open_blocks__limits_blas_beside_dask_only():
    with open_blocks(da.ones((4, 2)), name="Test"):
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with open_blocks(np.ones((4, 2)), name="Test"):
        assert blas_threads() == {2}
