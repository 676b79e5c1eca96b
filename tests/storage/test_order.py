from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from storage.feeding.order import EpochOrder, permutation, share
from storage.keyed import key_of

VERSION = "ab" * 32
EDGES = np.arange(0, 101, 10)


def order(edges=EDGES, batch_size=8, seed=0, epoch=0, version=VERSION, **options):
    return EpochOrder(np.asarray(edges), batch_size, seed=seed, epoch=epoch, version=version, **options)


def batches(made: EpochOrder, part=0, parts=1) -> list[list[int]]:
    found = [made.rows(step, step + 1, part, parts)[0].tolist() for step in range(made.steps())]
    return [rows for rows in found if rows or parts == 1]


def epoch_rows(made: EpochOrder) -> np.ndarray:
    return np.concatenate([np.array(rows, np.int64) for rows in batches(made)])


shapes = st.fixed_dictionaries(
    {
        "edges": st.lists(st.integers(1, 12), min_size=1, max_size=14).map(lambda sizes: np.cumsum([7, *sizes])),
        "batch_size": st.integers(1, 40),
        "window": st.sampled_from([None, 1, 2, 5]),
        "streams": st.integers(1, 9),
        "seed": st.integers(0, 3),
        "epoch": st.integers(0, 2),
        "shuffle": st.booleans(),
    }
)


@given(shapes)
def test_order__is_a_permutation_of_the_split(shape):
    rows = epoch_rows(order(**shape))
    np.testing.assert_array_equal(np.sort(rows), np.arange(shape["edges"][0], shape["edges"][-1]))


@given(shapes, st.integers(0, 6), st.integers(0, 6))
def test_rows__do_not_depend_on_how_many_batches_are_asked_for(shape, one, other):
    made, again = order(**shape), order(**shape)
    first, stop = sorted((min(one, made.whole), min(other, made.whole)))
    for step in range(first, stop):
        np.testing.assert_array_equal(made.rows(first, stop)[step - first], again.rows(step, step + 1)[0])


@given(shapes, st.sampled_from([1, 2, 4, 8]), st.integers(1, 5))
def test_rows__ranks_together_get_each_batch(shape, ranks, per_rank):
    made = order(**shape | {"batch_size": ranks * per_rank})
    for step in range(made.steps()):
        parts = [made.rows(step, step + 1, rank, ranks)[0] for rank in range(ranks)]
        np.testing.assert_array_equal(np.concatenate(parts), made.rows(step, step + 1)[0])
        sizes = {len(part) for part in parts}
        assert sizes == {per_rank} if step < made.whole else max(sizes) - min(sizes) <= 1


def test_rows__the_hash_of_the_order_is_the_same_for_any_number_of_ranks():
    def digest(ranks: int) -> str:
        made = order(np.arange(0, 6001, 50), 24, window=3, streams=8)
        total = hashlib.sha256()
        for step in range(made.steps()):
            for rank in range(ranks):
                total.update(made.rows(step, step + 1, rank, ranks).astype("<i8").tobytes())
        return total.hexdigest()

    assert len({digest(ranks) for ranks in (1, 2, 4, 8, 3, 24)}) == 1


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"version": "cd" * 32}])
def test_order__changes_with(change, window):
    one, other = epoch_rows(order(window=window, streams=2)), epoch_rows(order(window=window, streams=2, **change))
    assert not np.array_equal(one, other)
    if window:
        # Pieces among each other, and rows within a piece.
        assert not np.array_equal(one // 10, other // 10)
        assert not np.array_equal(one[one // 10 == 3], other[other // 10 == 3])


def test_order__seed_and_epoch_are_not_added():
    assert not np.array_equal(epoch_rows(order(seed=1, epoch=0)), epoch_rows(order(seed=0, epoch=1)))


def test_order__unshuffled_ascends():
    assert epoch_rows(order(shuffle=False, window=2, streams=3)).tolist() == list(range(100))


def splitmix(state: int) -> int:
    """The mix of SplitMix64, written from its publication in whole numbers of Python."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


@pytest.mark.parametrize("start", [0, 1234])
def test_order__of_one_window_sorts_rows_by_a_word_of_their_own(start):
    key = key_of(5, "rows", 2, VERSION)
    word = {row: splitmix((row * 0x9E3779B97F4A7C15 + key) % 2**64) for row in range(start, start + 300)}
    rows = epoch_rows(order([start, start + 100, start + 300], seed=5, epoch=2))
    assert rows.tolist() == sorted(word, key=word.__getitem__)


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**40), unique=True, max_size=200))
def test_permutation__is_one(key, rows):
    assert sorted(permutation(key, np.array(rows, np.int64)).tolist()) == list(range(len(rows)))


def test_order__is_a_fair_shuffle():
    for options in ({}, {"window": 1, "streams": 2}):
        first = [order([0, 3, 6, 9, 10], 3, seed=seed, **options).rows(0, 1)[0, 0] for seed in range(3000)]
        counts = np.bincount(first, minlength=10)
        # Rows of the last piece, which is smaller, come no sooner than others where all are shuffled together.
        assert stats.chisquare(counts if not options else counts[:9]).pvalue > 1e-3


def test_order__every_batch_takes_as_much_from_each_stream():
    made = order(np.arange(0, 1001, 10), 20, window=2, streams=4)
    streams = {}
    for stream, _, _, low, high in made.windows.tolist():
        for _, start, stop in made.cuts[low:high].tolist():
            streams.update(dict.fromkeys(range(start, stop), stream))
    for rows in batches(made)[:-1]:
        assert [streams[row] for row in rows] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


def test_order__ranks_that_divide_the_streams_share_no_row_of_a_shard_twice():
    made = order(np.arange(0, 1001, 10), 20, window=2, streams=4)
    halves = [np.concatenate([made.rows(0, made.whole, rank, 2).reshape(-1)]) for rank in range(2)]
    shards = [set((half // 10).tolist()) for half in halves]
    assert len(shards[0] & shards[1]) <= 1  # the one at the border
    assert len(halves[0]) == len(halves[1])


def test_order__windows_hold_pieces_from_everywhere_and_each_piece_is_in_one():
    made = order(np.arange(0, 961, 8), 8, window=3, streams=1)
    pieces = [set(made.cuts[low:high, 0].tolist()) for low, high in made.windows[:, 3:5].tolist()]
    assert [len(window) for window in pieces] == [3] * 40
    assert len(set().union(*pieces)) == 120
    assert np.mean([max(window) - min(window) for window in pieces]) > 40  # of 120; 60 is expected
    rows = epoch_rows(made).reshape(40, 24)
    assert [set((window // 8).tolist()) for window in rows] == pieces
    assert any(len(set((window[:8] // 8).tolist())) > 1 for window in rows)


def test_order__streams_do_not_all_change_windows_at_the_same_batch():
    made = order(np.arange(0, 6401, 10), 64, window=8, streams=8)
    ends = [made.windows[made.windows[:, 0] == stream][0, 2] for stream in range(8)]
    assert len(set(ends)) == 8 and max(ends) == 80


@given(st.integers(0, 50), st.integers(1, 9))
def test_share__is_a_partition_into_nearly_equal_parts(size, parts):
    found = [share(size, part, parts) for part in range(parts)]
    assert [low for low, _ in found] == [0, *(high for _, high in found[:-1])]
    assert found[-1][1] == size
    assert max(high - low for low, high in found) - min(high - low for low, high in found) <= 1


def test_order__never_changes():
    # Pinned: a training that is resumed by a newer version must go on in the same order.
    assert epoch_rows(order([0, 4, 8, 10])).tolist() == [2, 8, 9, 3, 4, 0, 7, 5, 1, 6]
    assert batches(order(np.arange(0, 41, 5), 6, window=1, streams=2, seed=3, epoch=1)) == [
        [13, 12, 11, 4, 2, 1],
        [10, 14, 35, 0, 3, 16],
        [39, 38, 36, 19, 15, 18],
        [37, 23, 24, 17, 33, 32],
        [20, 22, 21, 30, 34, 31],
        [26, 25, 28, 9, 7, 5],
        [27, 29, 6, 8],
    ]
