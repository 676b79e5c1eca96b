"""Packed rows, against best fit decreasing as the textbook has it, and against lists of Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from storage.feeding.packing import lay, packed
from storage.feeding.ragged import offsets_of, ragged_of, take

LENGTHS = st.lists(st.integers(0, 25), max_size=60)
WIDTH = st.integers(1, 20)
WINDOW = st.integers(1, 70)


def pack(lengths, width=10, window=16, seed=0, epoch=0, **options):
    return packed(np.array(lengths, np.int64), width, window=window, seed=seed, epoch=epoch, **options)


def rows_of(packing) -> list[list[int]]:
    return [packing.order[low:high].tolist() for low, high in pairwise(packing.edges)]


def room_left(lengths: list[int], width: int) -> list[int]:
    """Best fit decreasing, one sequence after the other: the free room of every row."""
    rooms: list[int] = []
    for length in sorted((min(max(length, 1), width) for length in lengths), reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms.remove(min(fitting))
        rooms.append((min(fitting) if fitting else width) - length)
    return sorted(rooms)


def reviews(count: int) -> np.ndarray:
    """Lengths as texts have them."""
    return np.random.default_rng(0).lognormal(5, 0.7, count).astype(np.int64)


@given(LENGTHS, WIDTH, WINDOW, st.integers(0, 3))
def test_packed__every_sequence_once_and_within_its_window(lengths, width, window, epoch):
    packing = pack(lengths, width, window, epoch=epoch)
    assert packing.order.dtype == packing.edges.dtype == np.int64
    assert packing.edges[0] == 0
    assert packing.edges[-1] == len(lengths)
    for low in range(0, len(lengths), window):
        high = min(low + window, len(lengths))
        assert sorted(packing.order[low:high].tolist()) == list(range(low, high))
    assert len(packing) == len(rows_of(packing))
    for row in rows_of(packing):
        assert row == sorted(row) != []
        assert len({place // window for place in row}) == 1
        assert sum(min(lengths[place], width) for place in row) <= width
        assert len(row) <= width


@given(LENGTHS, WIDTH, WINDOW)
def test_packed__is_best_fit_decreasing(lengths, width, window):
    rows = rows_of(pack(lengths, width, window))
    for low in range(0, len(lengths), window):
        room = [
            width - sum(min(max(lengths[place], 1), width) for place in row)
            for row in rows
            if row[0] // window == low // window
        ]
        assert sorted(room) == room_left(lengths[low : low + window], width)


@given(LENGTHS, WIDTH, WINDOW, st.integers(0, 3))
@example([*range(25), *range(25)], 10, 16, 0)
def test_packed__a_window_at_a_time_gives_the_same(lengths, width, window, seed):
    found = []
    for low in range(0, len(lengths), window):
        part = pack(lengths[low : low + window], width, window, seed, first=low)
        found += [[low + place for place in row] for row in rows_of(part)]
    assert found == rows_of(pack(lengths, width, window, seed))


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_packed__the_order_of_rows_changes_with(change):
    one, other = (rows_of(pack(reviews(100), 512, 100, **options)) for options in ({}, change))
    assert one != other
    assert sorted(one) == sorted(other)


def test_packed__seed_and_epoch_are_not_added():
    one, other = (pack([9] * 40, seed=seed, epoch=1 - seed) for seed in (0, 1))
    assert not np.array_equal(one.order, other.order)


@pytest.mark.parametrize(("width", "least"), [(256, 0.96), (512, 0.99), (2048, 0.99)])
def test_packed__rows_are_full(width, least):
    # Of rows of 256 many hold one sequence of more than 128 beside which nothing fits: no packing is much better.
    lengths = reviews(20_000)
    tokens = np.minimum(lengths, width).sum()
    packing = packed(lengths, width, seed=0, epoch=0)
    assert least * width * len(packing) <= tokens <= width * len(packing)


def test_packed__a_small_window_is_nearly_as_good():
    lengths = reviews(20_000)
    assert len(packed(lengths, 512, seed=0, epoch=0, window=1024)) < 1.01 * len(packed(lengths, 512, seed=0, epoch=0))


def test_packed__the_longest_comes_at_any_time():
    lengths = [8] + [5] * 14
    where = [rows_of(pack(lengths, seed=seed)).index([0]) for seed in range(1600)]
    assert stats.chisquare(np.bincount(where, minlength=8)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [([], []), ([4], [[0]]), ([0], [[0]]), ([99], [[0]]), ([0] * 12, [[*range(10)], [10, 11]])],
)
def test_packed__of_few(lengths, rows):
    assert sorted(rows_of(pack(lengths))) == rows


def test_packed__rows_of_one_token():
    assert sorted(rows_of(pack([0, 1, 5], width=1))) == [[0], [1], [2]]


def test_packed__never_changes():
    # Pinned: a training that is resumed by a newer version must go on in the same order.
    lengths = [5, 1, 9, 1, 7, 3, 3, 8, 2, 6, 4, 4, 19, 0, 2, 5, 8, 1]
    packing = pack(lengths, 10, 12)
    assert packing.order.tolist() == [0, 1, 11, 9, 10, 4, 5, 6, 2, 3, 7, 8, 14, 16, 13, 15, 17, 12]
    assert packing.edges.tolist() == [0, 3, 5, 7, 8, 10, 12, 14, 17, 18]


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([1], {"width": 0}, "expected a width of at least 1, received 0"),
        ([1], {"window": 0}, "expected a window of at least 1, received 0"),
        ([1, -2], {}, "expected lengths of 0 or more, received -2 at 1"),
        ([1], {"first": 7}, "expected the beginning of a window, a multiple of 16, received first=7"),
    ],
)
def test_packed__refuses(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        pack(lengths, **options)


def slowly_laid(rows: list[list[list[int]]], width: int, fill: int, keep: str) -> tuple[list, list, list]:
    """Token by token."""
    tokens, segments, positions = [], [], []
    for row in rows:
        line: list[tuple[int, int, int]] = []
        for number, sequence in enumerate(row, 1):
            kept = sequence if len(sequence) <= width else sequence[:width] if keep == "head" else sequence[-width:]
            line += [(token, number, position) for position, token in enumerate(kept)]
        line += [(fill, 0, 0)] * (width - len(line))
        for out, column in zip((tokens, segments, positions), zip(*line, strict=True), strict=True):
            out.append(list(column))
    return tokens, segments, positions


@given(
    st.lists(st.lists(st.integers(1, 99), max_size=13), max_size=25),
    st.integers(1, 10),
    st.integers(1, 30),
    st.integers(-1, 0),
    st.sampled_from(["head", "tail"]),
)
def test_lay__of_packed_is_that_of_lists(sequences, width, window, fill, keep):
    values, offsets = ragged_of(sequences)
    packing = pack(np.diff(offsets), width, window)
    found = lay(*take(values, offsets, packing.order), packing.edges, width, fill=fill, keep=keep)
    expected = slowly_laid([[sequences[place] for place in row] for row in rows_of(packing)], width, fill, keep)
    assert [array.dtype for array in found] == [np.int32] * 3
    assert [array.shape for array in found] == [(len(packing), width)] * 3
    assert tuple(array.tolist() for array in found) == expected


@given(st.lists(st.integers(0, 10), max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_lay__of_some_rows_is_that_of_all(lengths, one, other):
    packing = pack(lengths)
    low, high = sorted((min(one, len(packing)), min(other, len(packing))))
    offsets = offsets_of(np.array(lengths, np.int64)[packing.order])
    values = np.arange(offsets[-1], dtype=np.int32)
    whole = lay(values, offsets, packing.edges, 10)
    edges = packing.edges[low : high + 1]
    part = lay(values, offsets[edges[0] : edges[-1] + 1], edges, 10)
    for found, expected in zip(part, whole, strict=True):
        np.testing.assert_array_equal(found, expected[low:high])


@pytest.mark.parametrize(
    ("edges", "width", "message"),
    [
        ([0, 1], 9, "expected ascending edges of 3 sequences, received \\[0 1\\]"),
        ([0, 4, 3], 9, "expected ascending edges of 3 sequences"),
        ([], 9, "expected ascending edges of 3 sequences"),
        ([0, 1, 3], 4, "expected rows of at most 4 tokens, received 5 in row 1; pack for this width"),
        ([0, 1, 3], 0, "expected a width of at least 1, received 0"),
    ],
)
def test_lay__refuses(edges, width, message):
    with pytest.raises(ValueError, match=message):
        lay(*ragged_of([[1, 2, 3], [4, 5], [6, 7, 8]]), np.array(edges, np.int64), width)
