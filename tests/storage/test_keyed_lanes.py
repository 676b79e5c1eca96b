from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage import keyed
from storage.keyed import key_of, lanes, words, words_at

samples = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 40)), max_size=12)


@given(samples, st.integers(0, 2**64 - 1))
@example([(1, 0), (2, 3), (3, 0)], 0)
@example([(1, 4), (2, 8)], 0)
def test_lanes__are_those_of_words(drawn, key):
    ids = np.array([sample for sample, _ in drawn], np.int64)
    counts = np.array([count for _, count in drawn], np.int64)
    expected = [words(key, ids[i : i + 1], (c + 3) // 4).view(np.uint16)[0, :c] for i, c in enumerate(counts.tolist())]
    found = lanes(key, ids, counts)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.concatenate([np.empty(0, np.uint16), *expected]))


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_lanes__do_not_depend_on_the_block_size(monkeypatch, block):
    ids, counts = np.arange(30), np.arange(30) * 5 % 17
    expected = lanes(3, ids, counts)
    monkeypatch.setattr(keyed, "_BLOCK_WORDS", block)
    np.testing.assert_array_equal(lanes(3, ids, counts), expected)


def test_lanes__are_the_low_bits_first():
    first = 0xEAD35AA0FEE6AAE6  # as pinned in test_keyed.py
    found = lanes(key_of(0, "gaussian", 0), np.array([0]), np.array([4]))
    assert found.tolist() == [first >> shift & 0xFFFF for shift in (0, 16, 32, 48)]


@given(samples, st.integers(0, 2**64 - 1))
def test_words_at__are_those_of_words(drawn, key):
    ids, places = np.array(drawn, np.int64).reshape(-1, 2).T
    expected = [words(key, ids[k : k + 1], place + 1)[0, place] for k, place in enumerate(places.tolist())]
    found = words_at(key, ids, places)
    assert found.dtype == np.uint64
    assert found.tolist() == expected


@pytest.mark.parametrize(("start", "count"), [(0, 5), (1, 4), (7, 20), (3, 0)])
def test_words__from_a_later_one_on(start, count):
    ids = np.array([0, 5, -1, 2**62])
    np.testing.assert_array_equal(words(9, ids, count, start), words(9, ids, start + count)[:, start:])
