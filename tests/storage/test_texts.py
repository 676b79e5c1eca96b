from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.texts import byte_lengths, decode, encode, offsets_of

# Characters of every category, lone surrogates among them.
any_text = st.text(st.characters(exclude_categories=()), max_size=20)


@given(any_text)
@example("\ud83d\ude00")
@example("\ude00")
def test_decode__undoes_encode(text):
    data = encode(text)
    assert isinstance(data, bytes)
    assert decode(data) == decode(memoryview(data)) == text


@given(st.text(max_size=20))
def test_encode__is_utf8_where_that_exists(text):
    assert encode(text) == text.encode()


@given(st.lists(any_text, max_size=12), st.integers(0, 10**6))
@example([], 0)
@example(["", "", ""], 5)
def test_offsets_of__cut_the_samples_out_again(texts, start):
    samples = [encode(text) for text in texts]
    offsets = offsets_of(samples, start)
    assert offsets.dtype == np.int64
    assert offsets.shape == (len(texts), 2)
    whole = b"".join(samples)
    assert [whole[low - start : high - start] for low, high in offsets.tolist()] == samples


def test_offsets_of__by_hand():
    assert offsets_of([b"ab", b"", b"\xc3\xa9"], start=100).tolist() == [[100, 102], [102, 102], [102, 104]]


@given(st.lists(any_text, max_size=12))
def test_byte_lengths__are_those_of_the_encoded_texts(texts):
    assert byte_lengths(texts).tolist() == [len(encode(text)) for text in texts]
    assert byte_lengths(texts).dtype == np.int64


def test_decode__bytes_that_are_no_text():
    with pytest.raises(UnicodeDecodeError):
        decode(b"\xff")
