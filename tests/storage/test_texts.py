from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.texts import byte_lengths, pack, unpack

# Characters of every category, lone surrogates among them.
any_text = st.text(st.characters(exclude_categories=()), max_size=20)


@given(st.lists(any_text, max_size=12), st.integers(0, 10**6))
@example([], 0)
@example(["", "", ""], 5)
@example(["\ud83d", "\ude00"], 0)
def test_unpack__undoes_pack(texts, start):
    values, offsets = pack(texts, start)
    assert values.dtype == np.uint8
    assert offsets.dtype == np.int64
    assert offsets.shape == (len(texts), 2)
    assert unpack(values, offsets, start) == texts


def test_pack__by_hand():
    values, offsets = pack(["ab", "", "é"], start=100)
    assert values.tobytes() == b"ab\xc3\xa9"
    assert offsets.tolist() == [[100, 102], [102, 102], [102, 104]]


@given(st.lists(any_text, max_size=12))
def test_byte_lengths__are_those_of_the_packed_texts(texts):
    _, offsets = pack(texts)
    np.testing.assert_array_equal(byte_lengths(texts), offsets[:, 1] - offsets[:, 0])


def test_unpack__some_of_them():
    texts = [f"text {i}" for i in range(20)]
    values, offsets = pack(texts, 7)
    first, last = offsets[5, 0], offsets[9, 1]
    assert unpack(values[first - 7 : last - 7], offsets[5:10], first) == texts[5:10]


def test_unpack__bytes_that_are_no_text():
    with pytest.raises(UnicodeDecodeError):
        unpack(np.array([0xFF], np.uint8), np.array([[0, 1]]))
