from __future__ import annotations

import gc

import numpy as np
import pytest

from storage.feeding import memory
from storage.feeding.memory import Buffers


def address(array) -> int:
    return array.ctypes.data


@pytest.mark.parametrize("shape", [(3,), (256, 28, 28, 1), (1, 5, 3, 1), (0, 4)])
def test_take__begins_on_a_cache_line(shape):
    array = Buffers(2).take(shape)
    assert array.shape == shape and array.dtype == np.uint8 and array.flags.writeable
    assert address(array) % 64 == 0 or not array.size


def test_take__memory_of_a_dropped_array_is_used_again():
    buffers = Buffers(2)
    first = buffers.take((1000,))
    where = address(first)
    del first
    assert address(buffers.take((10, 50))) == where


@pytest.mark.parametrize(
    "keep",
    [
        lambda array: array[5:7],
        lambda array: array.reshape(10, 100).T,
        lambda array: memoryview(array),
        lambda array: np.from_dlpack(array),
        lambda array: array.view(np.uint64),
    ],
)
def test_take__never_memory_that_somebody_still_sees(keep):
    buffers = Buffers(4)
    array = buffers.take((1000,))
    array[:] = 7
    kept = keep(array)
    del array
    gc.collect()
    others = [buffers.take((1000,)) for _ in range(4)]
    for other in others:
        other[:] = 9
    assert (np.asarray(kept).view(np.uint8) == 7).all()


def test_take__larger_than_what_is_free():
    buffers = Buffers(2)
    del (small := [buffers.take((10,))])[0]
    assert not small
    large = buffers.take((10_000,))
    large[:] = 1
    assert large.sum() == 10_000


def test_buffers__keep_no_more_than_they_were_told():
    buffers = Buffers(2)
    held = [buffers.take((100,)) for _ in range(10)]
    held.clear()
    assert len(buffers._held) == 2


def test_free_memory__counts_limits_of_control_groups(monkeypatch):
    assert memory.free_memory() > 2**20
    monkeypatch.setattr(memory, "group_limits", lambda: [123_456_789, 12_345])
    assert memory.free_memory() == 12_345
