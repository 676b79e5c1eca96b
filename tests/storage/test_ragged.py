"""Ragged sequences and rectangles of them, against lists of Python."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.feeding import ragged
from storage.feeding.ragged import copy_runs, cut, offsets_of, pad, ragged_of, take

ROWS = st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=12)
KEEP = st.sampled_from(["head", "tail"])
WIDTH = st.integers(1, 11)


def lists_of(values: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [values[low:high].tolist() for low, high in pairwise(offsets)]


def shortened(row: list[int], width: int, keep: str) -> list[int]:
    while len(row) > width:
        row = row[:-1] if keep == "head" else row[1:]
    return row


@given(ROWS, st.sampled_from([list, tuple, np.array, lambda row: np.array(row, np.uint16)]))
def test_ragged_of__gives_the_rows_back(rows, kind):
    values, offsets = ragged_of([kind(row) for row in rows])
    assert (values.dtype, offsets.dtype) == (np.int32, np.int64)
    assert offsets[0] == 0
    assert len(values) == offsets[-1]
    assert lists_of(values, offsets) == rows


def test_ragged_of__a_rectangle_and_the_largest_numbers():
    extremes = [-(2**31), 2**31 - 1]
    values, offsets = ragged_of(np.array([extremes, extremes]))
    assert values.tolist() == extremes * 2
    assert offsets.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0]], "expected rows of whole numbers, received float64"),
        ([np.array([1.5]), [1]], "expected rows of whole numbers, received float64"),
        ([[True]], "received bool"),
        (["ab"], "expected rows of whole numbers"),
        ([[[1, 2]]], "received int64 of shape \\(1, 2\\)"),
        ([[0], [2**31]], "expected whole numbers of 32 bits, received 0 to 2147483648"),
        ([np.array([-(2**31) - 1])], "expected whole numbers of 32 bits"),
    ],
)
def test_ragged_of__refuses(rows, message):
    with pytest.raises(ValueError, match=message):
        ragged_of(rows)


@given(ROWS.filter(len), st.data())
def test_take__gathers_any_sequences(rows, data):
    low = data.draw(st.integers(0, len(rows) - 1))
    places = data.draw(st.lists(st.integers(0, len(rows) - low - 1), max_size=15))
    values, offsets = ragged_of(rows)
    found, edges = take(values, offsets[low:], np.array(places, np.int64))
    assert found.dtype == np.int32
    assert edges[0] == 0
    assert lists_of(found, edges) == [rows[low:][place] for place in places]


@pytest.mark.parametrize("place", [-1, 2])
def test_take__refuses_places_that_are_not_there(place):
    with pytest.raises(IndexError, match=f"expected places within 0 to 1, received {min(0, place)} to {max(0, place)}"):
        take(*ragged_of([[1], [2]]), np.array([0, place]))


@given(ROWS, WIDTH, KEEP)
def test_cut__keeps_the_head_or_the_tail(rows, width, keep):
    found, edges = cut(*ragged_of(rows), width, keep=keep)
    assert edges[0] == 0
    assert lists_of(found, edges) == [shortened(row, width, keep) for row in rows]


def test_cut__copies_nothing_if_all_fit():
    values, offsets = ragged_of([[1, 2], [3], [4, 5]])
    found, edges = cut(values, offsets[1:], 2)
    assert np.shares_memory(found, values)
    assert found.tolist() == [3, 4, 5]
    assert edges.tolist() == [0, 1, 3]


@given(ROWS, WIDTH, KEEP, st.sampled_from(["after", "before"]), st.integers(-1, 1))
def test_pad__is_each_row_padded_alone(rows, width, keep, padding, fill):
    values, offsets = ragged_of(rows)
    before = values.copy()
    found, lengths = pad(values, offsets, width, fill=fill, keep=keep, padding=padding)
    expected = []
    for row in rows:
        row = shortened(row, width, keep)
        space = [fill] * (width - len(row))
        expected.append(row + space if padding == "after" else space + row)
    assert (found.shape, found.dtype, lengths.dtype) == ((len(rows), width), np.int32, np.int64)
    assert found.tolist() == expected
    assert lengths.tolist() == [min(len(row), width) for row in rows]
    np.testing.assert_array_equal(values, before)


@given(ROWS, WIDTH, KEEP, st.integers(0, 12), st.integers(0, 12))
def test_pad__of_some_rows_is_that_of_all(rows, width, keep, one, other):
    low, high = sorted((min(one, len(rows)), min(other, len(rows))))
    values, offsets = ragged_of(rows)
    whole, lengths = pad(values, offsets, width, keep=keep)
    part, part_lengths = pad(values, offsets[low : high + 1], width, keep=keep)
    np.testing.assert_array_equal(part, whole[low:high])
    np.testing.assert_array_equal(part_lengths, lengths[low:high])


def test_pad__keeps_the_dtype():
    assert pad(np.array([7], np.uint8), np.array([0, 1]), 2, fill=9)[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 2, 1], "expected ascending offsets, received 1 after 2 at 2"),
        ([0, 4], "expected offsets within 3 values, received 0 to 4"),
        ([-1, 2], "expected offsets within 3 values, received -1 to 2"),
        ([], "one more than sequences, received float64 of shape \\(0,\\)"),
        ([[0, 1]], "received int64 of shape \\(1, 2\\)"),
        ([0.0, 1.0], "expected offsets as whole numbers"),
    ],
)
@pytest.mark.parametrize("work", [lambda *ragged: take(*ragged, np.array([0])), lambda *ragged: pad(*ragged, 2)])
def test_offsets__are_checked(work, offsets, message):
    with pytest.raises(ValueError, match=message):
        work(np.arange(3), np.array(offsets))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "expected a width of at least 1, received 0"),
        ({"width": 2.5}, "expected a width of at least 1, received 2.5"),
        ({"width": True}, "expected a width of at least 1, received True"),
        ({"keep": "middle"}, "expected one of \\['head', 'tail'\\], received 'middle'"),
        ({"padding": "left"}, "expected one of \\['after', 'before'\\], received 'left'"),
    ],
)
def test_pad__refuses(options, message):
    with pytest.raises(ValueError, match=message):
        pad(np.arange(3), np.array([0, 3]), **{"width": 2, **options})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 12), min_size=1, max_size=20), st.integers(1, 30), st.randoms())
def test_copy_runs__whatever_is_copied_together(monkeypatch, lengths, together, random):
    monkeypatch.setattr(ragged, "RUN_TOKENS", together)
    offsets = offsets_of(np.array(lengths))
    values, places = np.arange(offsets[-1]), list(range(len(lengths)))
    random.shuffle(places)
    wanted, edges = take(values, offsets, np.array(places))
    out = np.full(len(wanted) + 2, -1)
    copy_runs(values, offsets[places], offsets[1:][places], out, edges[:-1] + 1)
    assert out.tolist() == [-1, *wanted.tolist(), -1]


def test_offsets_of__lengths():
    assert offsets_of(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
    assert offsets_of(np.array([], np.int64)).tolist() == [0]
