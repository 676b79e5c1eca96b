"""Workers give back what they freed."""

import sys
import time

import dask.array as da
import numpy as np
import psutil
import pytest

from pipeline import connect
from tasks import methods
from tasks.methods.trimming import give_back, watch_memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")


@linux
def test_give_back__what_lies_between_live_arrays():
    arrays = [np.ones(12_000) for _ in range(3000)]  # below the size that is mapped by itself
    kept = arrays[::50]
    before = psutil.Process().memory_info().rss
    del arrays
    assert give_back(1)
    assert before - psutil.Process().memory_info().rss > 100e6
    assert all(array.sum() == 12_000 for array in kept)


def test_give_back__not_without_need():
    assert not give_back(1e15)


def test_watch_memory__outside_of_a_worker():
    watch_memory()


def watched(dask_worker):
    callback = dask_worker.periodic_callbacks.get("duskflow-trim")
    return callback is not None and callback.is_running()


@linux
def test_watch_memory__in_the_workers_of_a_fit():
    X = np.random.default_rng(0).random((400, 5))
    with (
        connect("local", workers=1, gpu_workers=0, dashboard_address=None) as client,
        client.as_current(),
    ):
        assert not any(client.run(watched).values())
        methods.PCA(2).fit(da.from_array(X, (100, 5)))
        deadline = time.monotonic() + 30
        while not all(client.run(watched).values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
