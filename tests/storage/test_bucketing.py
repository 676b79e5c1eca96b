"""Buckets of like lengths: what they keep, what they gain, that they mix."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from storage.feeding.bucketing import bucketed, width_of

LENGTHS = st.lists(st.integers(0, 30), max_size=70)
SIZE = st.integers(1, 9)


def buckets(lengths, batch_size=4, pool=5, seed=0, epoch=0, **options):
    return bucketed(np.array(lengths, np.int64), batch_size, pool=pool, seed=seed, epoch=epoch, **options)


def reviews(count: int) -> np.ndarray:
    """Lengths as texts have them."""
    return np.random.default_rng(0).lognormal(5, 0.7, count).astype(np.int64)


@given(LENGTHS, SIZE, SIZE, st.integers(0, 3))
def test_bucketed__permutes_each_pool(lengths, batch_size, pool, epoch):
    places = buckets(lengths, batch_size, pool, epoch=epoch)
    whole = len(lengths) // batch_size * batch_size
    assert places.dtype == np.int64
    for low in range(0, whole, batch_size * pool):
        high = min(low + batch_size * pool, whole)
        assert sorted(places[low:high].tolist()) == list(range(low, high))
    assert places[whole:].tolist() == list(range(whole, len(lengths)))


@given(LENGTHS, SIZE, SIZE)
def test_bucketed__batches_hold_neighbours_in_length(lengths, batch_size, pool):
    places = buckets(lengths, batch_size, pool)
    for low in range(0, len(lengths) // batch_size * batch_size, batch_size * pool):
        high = min(low + batch_size * pool, len(lengths) // batch_size * batch_size)
        ascending = sorted(range(low, high), key=lambda place: (lengths[place], place))
        rank = {place: number for number, place in enumerate(ascending)}
        for batch in places[low:high].reshape(-1, batch_size).tolist():
            assert batch == sorted(batch)
            ranks = [rank[place] for place in batch]
            assert max(ranks) - min(ranks) < 2 * batch_size


@given(LENGTHS, SIZE, SIZE, st.integers(0, 3))
@example([*range(30), *range(35)], 4, 5, 0)
def test_bucketed__a_pool_at_a_time_gives_the_same(lengths, batch_size, pool, seed):
    size = batch_size * pool
    parts = [
        low + buckets(lengths[low : low + size], batch_size, pool, seed, first=low)
        for low in range(0, len(lengths), size)
    ]
    whole = buckets(lengths, batch_size, pool, seed)
    np.testing.assert_array_equal(np.concatenate([np.empty(0, np.int64), *parts]), whole)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_bucketed__changes_with(change):
    lengths = np.random.default_rng(0).permutation(120)
    one, other = (buckets(lengths, 8, 15, **options).reshape(15, 8) for options in ({}, change))
    # The order of the batches, and who meets whom: even of sequences that all differ in length, in a single pool.
    assert not np.array_equal(lengths[one].mean(axis=1).argsort(), lengths[other].mean(axis=1).argsort())
    assert {frozenset(batch) for batch in one.tolist()} != {frozenset(batch) for batch in other.tolist()}


def test_bucketed__seed_and_epoch_are_not_added():
    assert not np.array_equal(buckets(range(60), seed=1, epoch=0), buckets(range(60), seed=0, epoch=1))


def test_bucketed__little_padding():
    lengths = np.minimum(reviews(6400), 512)

    def padding(places: np.ndarray) -> float:
        batches = lengths[places].reshape(-1, 32)
        return 1 - batches.sum() / (32 * batches.max(axis=1).sum())

    by_length = np.argsort(lengths.reshape(4, 1600), axis=1) + 1600 * np.arange(4)[:, None]
    assert padding(np.arange(6400)) > 0.5
    # Neighbours are mixed in pairs: as if the buckets were twice as wide.
    assert padding(by_length) < padding(buckets(lengths, 32, 50)) < 2.2 * padding(by_length) < 0.06


def test_bucketed__not_the_same_meet_in_every_epoch():
    # All lengths differ, and one pool holds everything: sorting alone would always make the same batches.
    met = []
    for epoch in range(4):
        batch_of = np.empty(960, np.int64)
        batch_of[buckets(range(960), 32, 30, epoch=epoch)] = np.repeat(np.arange(30), 32)
        met.append(batch_of[:, None] == batch_of)
    for one, other in pairwise(met):
        assert (one & other).sum() < 0.35 * one.sum()


def test_bucketed__the_shortest_batch_comes_at_any_time():
    lengths = reviews(64)
    first = [
        int(lengths[buckets(lengths, 8, 8, seed=seed)].reshape(8, 8).mean(axis=1).argmin()) for seed in range(1600)
    ]
    assert stats.chisquare(np.bincount(first, minlength=8)).pvalue > 1e-3


def test_bucketed__equal_lengths_meet_by_the_order_of_the_epoch():
    # So they are as random as the epoch: places are near each other, whatever their number.
    places = buckets([7] * 400, 10, 40).reshape(40, 10)
    assert np.ptp(places, axis=1).max() < 20


def test_bucketed__never_changes():
    # Pinned: a training that is resumed by a newer version must go on in the same order.
    lengths = [5, 1, 9, 1, 7, 3, 3, 8, 2, 6, 4, 4, 9, 0, 2, 5, 8, 1]
    assert buckets(lengths, 3, 4).tolist() == [0, 4, 11, 1, 3, 8, 2, 7, 9, 5, 6, 10, 12, 13, 14, 15, 16, 17]
    assert buckets(lengths, 3, 4, epoch=1).tolist() == [2, 4, 7, 0, 9, 11, 1, 3, 8, 5, 6, 10, 13, 14, 17, 12, 15, 16]


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1], {"batch_size": 0}, "expected a batch size of at least 1, received 0"),
        ([1], {"pool": 0}, "expected a pool of at least 1, received 0"),
        ([1, -2], {}, "expected lengths of 0 or more, received -2 at 1"),
        ([[1]], {}, "expected lengths as whole numbers, received int64 of shape \\(1, 1\\)"),
        ([1], {"first": 7}, "expected the beginning of a pool, a multiple of 20, received first=7"),
        ([1], {"first": -20}, "expected the beginning of a pool"),
    ],
)
def test_bucketed__refuses(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        buckets(lengths, **options)


def test_bucketed__refuses_lengths_that_are_not_whole():
    with pytest.raises(ValueError, match="expected lengths as whole numbers, received float64"):
        bucketed(np.array([1.5]), 4, pool=5, seed=0, epoch=0)


def test_width_of__the_ladder():
    ladder = sorted({width_of(longest, 600) for longest in range(1, 700)})
    assert ladder == [*range(16, 257, 16), *range(288, 513, 32), 576, 600]
    assert sorted({width_of(longest, 40, step=5) for longest in range(50)}) == [5, 10, 15, 20, 25, 30, 35, 40]


@given(st.integers(0, 5000), st.integers(1, 3000), st.integers(1, 40))
def test_width_of__is_the_smallest_that_holds(longest, limit, step):
    ladder = sorted({min(limit, step * factor * 2**k) for factor in range(1, 17) for k in range(13)})
    ladder = [width for width in ladder if width >= min(longest, limit)]
    assert width_of(longest, limit, step=step) == ladder[0]


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 9, "step": 0}])
def test_width_of__refuses(options):
    with pytest.raises(ValueError, match=r"expected a .* of at least 1, received 0"):
        width_of(3, **options)
