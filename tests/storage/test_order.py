from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from storage.order import epoch_order

VERSION = "ab" * 32


def order(start=0, stop=100, shard=8, window=100, seed=0, epoch=0, version=VERSION):
    return epoch_order(start, stop, shard, window, seed=seed, epoch=epoch, version=version)


@given(
    st.integers(0, 50), st.integers(0, 80), st.integers(1, 20), st.integers(0, 9), st.integers(0, 5), st.integers(0, 5)
)
def test_epoch_order__is_a_permutation_of_the_split(start, length, shard, window, seed, epoch):
    rows = order(start, start + length, shard, window, seed, epoch)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(np.sort(rows), np.arange(start, start + length))


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"version": "cd" * 32}])
def test_epoch_order__changes_with(change):
    assert not np.array_equal(order(**change), order())
    # Of shards among each other, and of rows within a shard.
    one, other = (order(stop=96, window=1, **options).reshape(12, 8) for options in ({}, change))
    assert not np.array_equal(one[:, 0] // 8, other[:, 0] // 8)
    assert not np.array_equal(one[one[:, 0] // 8 == 0], other[other[:, 0] // 8 == 0])


def test_epoch_order__seed_and_epoch_are_not_added():
    assert not np.array_equal(order(seed=1, epoch=0), order(seed=0, epoch=1))


def test_epoch_order__reads_each_shard_in_one_window():
    rows = order(stop=96, window=3)
    shards = rows.reshape(4, 24) // 8
    assert [len(set(window.tolist())) for window in shards] == [3, 3, 3, 3]
    # Windows hold shards from everywhere, and rows of their shards are mixed.
    assert any(np.ptp(window) > 3 for window in shards)
    assert any(len(set(window[:8].tolist())) > 1 for window in shards)


def test_epoch_order__one_window_is_a_fair_shuffle():
    first = np.array([order(stop=10, shard=3, seed=seed)[0] for seed in range(3000)])
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-3


def test_epoch_order__never_changes():
    # Pinned: a training that is resumed by a newer version must go on in the same order.
    assert order(stop=10, shard=4).tolist() == [2, 8, 7, 3, 5, 9, 1, 4, 6, 0]
