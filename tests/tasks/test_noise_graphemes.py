from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.noise.graphemes import attached, joins, kinds

WHOLE = {
    "an accent": "e\u0301",
    "two accents": "o\u0308\u0323",
    "a line": "\r\n",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a skin tone": "\U0001f44d\U0001f3fd",
    "a flag": "\U0001f1e9\U0001f1ea",
    "Scotland": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "a keycap": "1\ufe0f\u20e3",
    "a syllable": "\u1112\u1161\u11ab",
    "a syllable and its end": "\uac00\u11a8",
    "two initials": "\u1100\u1100\u1161",
    "a conjunct": "\u0915\u094d\u0937",
    "a conjunct with a nukta": "\u0915\u094d\u093c\u0937",
    "a conjunct with a joiner": "\u0915\u094d\u200d\u0937",
    "a vowel sign": "\u0924\u093f",
    "Thai am": "\u0e01\u0e33",
    "katakana": "\uff76\uff9e",
    "a number sign": "\u06001",
    "a space with an accent": " \u0301",
}


def parts(text: str) -> list[str]:
    codes = np.frombuffer((text + "\0").encode("utf-32-le", "surrogatepass"), np.uint32)
    fronts = np.flatnonzero(~attached(codes)).tolist()
    return [text[start:stop] for start, stop in pairwise(fronts)]


@pytest.mark.parametrize("cluster", WHOLE.values(), ids=WHOLE.keys())
def test_attached__whole_characters(cluster):
    assert parts(f"a{cluster}b" if cluster != "\r\n" else cluster) in (["a", cluster, "b"], [cluster])
    assert parts(cluster) == [cluster]
    assert parts(cluster * 3) == ([cluster] * 3)


@pytest.mark.parametrize(
    "pieces",
    [
        ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7", "\U0001f1ee"],  # flags in pairs, one left over
        ["\r\n", "\r", "\x00", "\u0301", "a"],  # nothing is attached to a control character
        ["\n", "\r", "\u2028", "\u0301\u0301"],
        ["a\u200d", " ", "b"],  # white space is never attached
        ["\uac01", "\u1161"],  # a vowel does not follow a final
        ["\u0915", "\u0937", "\u093e\u0302"[:0] + "x"],
        ["\ud83d", "\ude00"],
    ],
    ids=ascii,
)
def test_attached__where_characters_end(pieces):
    assert parts("".join(pieces)) == pieces


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_attached__of_ascii_is_the_same_in_bytes(text):
    codes = np.frombuffer((text + "\0").encode(), np.uint8)
    np.testing.assert_array_equal(attached(codes), attached(codes.astype(np.uint32)))
    np.testing.assert_array_equal(kinds()(codes), kinds()(codes.astype(np.uint32)))
    other = np.roll(codes, 1)
    np.testing.assert_array_equal(joins(codes, other), joins(codes.astype(np.uint32), other.astype(np.uint32)))


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_attached__of_a_text_does_not_depend_on_what_follows_a_control_character(text):
    assert parts(text + "\x00" + text) == [*parts(text), "\x00", *parts(text)]
