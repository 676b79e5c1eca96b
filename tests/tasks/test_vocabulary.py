"""Codes of texts, ragged and in rows; what else a vocabulary does is in test_networks.py."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.feeding.ragged import pad
from tasks.networks import Vocabulary
from tasks.networks.vocabulary import tokenize

VOCABULARY = Vocabulary(("a", "b", "don't", "é", "the"))
TEXTS = st.lists(st.text(st.sampled_from("ab 'dontÉ’<br />.é\ud83d"), max_size=30), max_size=12)


def code(word: str) -> int:
    return 2 + VOCABULARY.words.index(word) if word in VOCABULARY.words else 1


@given(TEXTS)
def test_ragged__is_the_code_of_every_word(texts):
    values, offsets = VOCABULARY.ragged(texts)
    assert (values.dtype, offsets.dtype) == (np.int32, np.int64)
    assert len(offsets) == len(texts) + 1
    found = [values[low:high].tolist() for low, high in pairwise(offsets)]
    assert found == [[code(word) for word in tokenize(text)] for text in texts]


@given(TEXTS, st.integers(0, 12))
def test_ragged__does_not_depend_on_the_blocks(texts, cut):
    values, offsets = VOCABULARY.ragged(texts)
    parts = [VOCABULARY.ragged(texts[:cut]), VOCABULARY.ragged(texts[cut:])]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), values)
    np.testing.assert_array_equal(np.concatenate([np.diff(edges) for _, edges in parts]), np.diff(offsets))


def test_ragged__takes_texts_that_come_one_by_one():
    values, offsets = VOCABULARY.ragged(text for text in ["The DON'T", "", "A film"])
    assert values.tolist() == [6, 4, 2, 1]
    assert offsets.tolist() == [0, 2, 2, 4]


@given(TEXTS, st.integers(1, 12))
def test_encode__is_the_ragged_ones_padded_in_front_and_the_last_kept(texts, length):
    rows = VOCABULARY.encode(texts, length)
    expected = []
    for text in texts:
        codes = [0] * length + [code(word) for word in tokenize(text)]
        expected.append(codes[-length:])
    assert rows.dtype == np.int32
    assert rows.shape == (len(texts), length)
    assert rows.tolist() == expected
    padded, _ = pad(*VOCABULARY.ragged(texts), length, keep="tail", padding="before")
    np.testing.assert_array_equal(rows, padded)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_encode__pads_and_cuts_as_keras_does():
    keras = pytest.importorskip("keras")
    texts = ["the film", "", "a b don't é the a a b b", "The end."]
    values, offsets = VOCABULARY.ragged(texts)
    rows = keras.utils.pad_sequences(np.split(values, offsets[1:-1]), maxlen=4)
    np.testing.assert_array_equal(VOCABULARY.encode(texts, 4), rows)
