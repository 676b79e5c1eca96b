from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from tasks.noise import CharacterSwap, WordDrop

any_text = st.text(st.characters(exclude_categories=()), max_size=60)
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ODD = ["", " ", "\r\n", "a", "e\u0301e\u0301e\u0301", FAMILY, "\ud83d", "\ud83d\ude00", "é\u200dx", "1\ufe0f\u20e32"]


def one(noise, text: str, sample: int = 0, **options) -> str:
    (noisy,) = noise([text], np.array([sample]), **options)
    return noisy


def clusters(text: str) -> list[str]:
    """Characters with the marks, joiners and modifiers that follow them; what a joiner joins is one cluster."""
    parts: list[str] = []
    for character in text:
        extends = (
            unicodedata.category(character) in ("Mn", "Mc", "Me") or character in "\u200c\u200d\U0001f3fb\U0001f3ff"
        )
        if parts and (extends or parts[-1].endswith("\u200d")):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


@given(any_text, st.integers(0, 10**6), st.floats(0.01, 1))
@example("e\u0301abc", 0, 1.0)
@example("ab\u0301c", 0, 1.0)
def test_swap__keeps_characters_length_and_white_space(text, sample, rate):
    noisy = one(CharacterSwap(rate=rate), text, sample)
    assert Counter(noisy) == Counter(text)
    assert len(noisy) == len(text)
    for before, after in zip(text, noisy, strict=True):
        if not before.isalnum() or not after.isalnum():
            assert before == after


@pytest.mark.parametrize(
    "parts",
    [
        ["\u1112\u1161\u11ab", "\u1100\u1173\u11af", "a", "b"],  # Hangul in conjoining parts
        ["\u0915\u094d\u0937", "\u092e", "\u0924\u093f", "x"],  # Devanagari conjunct and vowel sign
        ["\u0e01\u0e33", "\u0e17", "\u0e35\u0e48", "y"],  # Thai
        ["\uff76\uff9e", "\uff71", "b", "c"],  # half-width katakana with a voicing mark
        ["n\u0303", "o\u0308\u0323", "p", "q"],  # accents of their own
        ["1\ufe0f\u20e3", "2", "3"],  # keycap
        ["\U0001f44d\U0001f3fd", FAMILY, "r", "s"],  # skin tone, family
    ],
    ids=["Hangul", "Devanagari", "Thai", "katakana", "accents", "keycap", "emoji"],
)
def test_swap__characters_of_several_code_points_stay_whole(parts):
    for turn in range(len(parts)):
        turned = parts[turn:] + parts[:turn]
        noisy = one(CharacterSwap(rate=1), "".join(turned))
        for part in parts:
            assert part in noisy, ascii(noisy)
        rest = noisy
        while rest:  # nothing but whole characters
            rest = rest[len(next(part for part in sorted(parts, key=len, reverse=True) if rest.startswith(part))) :]


@given(any_text, st.integers(0, 1000))
@example("aé" + FAMILY + "ab", 0)
@example("a\u200dbc", 0)
def test_swap__tears_no_cluster_apart(text, sample):
    assert Counter(clusters(one(CharacterSwap(rate=1.0), text, sample))) == Counter(clusters(text))


@given(any_text, st.integers(0, 1000))
def test_swap__never_moves_a_character_by_more_than_one_place(text, sample):
    noisy = one(CharacterSwap(rate=0.9), text, sample)
    i = 0
    while i < len(text):
        if noisy[i] == text[i]:
            i += 1
        else:
            assert noisy[i : i + 2] == text[i + 1] + text[i]
            i += 2


@pytest.mark.parametrize(("severity", "rate"), [(1, 0.02), (2, 0.05), (3, 0.10), (4, 0.15), (5, 0.25)])
def test_swap__rate(severity, rate):
    # Neighbours always differ, so every swap shows. A swap covers two places and its successor starts behind it:
    # of n places, n r / (1 + r) begin a swap.
    text = ("abcdefghij" * 2000)[: 20_000 + 1]
    noisy = one(CharacterSwap(severity), text)
    swaps = sum(a != b for a, b in zip(text, noisy, strict=True)) / 2
    expected = 20_000 * rate / (1 + rate)
    assert abs(swaps - expected) < 4 * np.sqrt(expected)


def test_swap__at_full_rate_every_pair():
    assert one(CharacterSwap(rate=1), "abcdef gh i") == "badcfe hg i"


def test_swap__each_pair_is_equally_likely():
    counts = np.zeros(9)
    for noisy in CharacterSwap(rate=0.05)(["abcdefghij"] * 20_000, np.arange(20_000)):
        counts += np.array([noisy[i : i + 2] == "abcdefghij"[i + 1] + "abcdefghij"[i] for i in range(9)])
    # A place whose left neighbour swapped is skipped: p(i) = r (1 - p(i - 1)).
    expected = [0.05]
    for _ in range(8):
        expected.append(0.05 * (1 - expected[-1]))
    assert stats.chisquare(counts, np.array(expected) * counts.sum() / sum(expected)).pvalue > 1e-3
    assert counts.sum() == pytest.approx(20_000 * sum(expected), rel=0.03)


@given(any_text, st.integers(0, 10**6), st.floats(0.01, 1))
@example("\u2028a\u00a0b", 0, 0.5)
def test_drop__keeps_words_in_order_and_at_least_one(text, sample, rate):
    noisy = one(WordDrop(rate=rate), text, sample)
    before, after = text.split(), noisy.split()
    assert (len(after) > 0) == (len(before) > 0)
    rest = iter(before)
    assert all(word in rest for word in after)  # a subsequence


@given(any_text)
def test_drop__text_without_words_stays(text):
    blank = "".join(character for character in text if character.isspace())
    assert one(WordDrop(rate=1), blank) == blank


@pytest.mark.parametrize(("severity", "rate"), [(1, 0.05), (2, 0.10), (3, 0.20), (4, 0.30), (5, 0.50)])
def test_drop__rate(severity, rate):
    words = [f"w{i}" for i in range(20_000)]
    kept = one(WordDrop(severity), " ".join(words)).split()
    assert stats.binomtest(20_000 - len(kept), 20_000, rate).pvalue > 1e-3


def test_drop__full_rate_leaves_any_one_word():
    kept = Counter(WordDrop(rate=1)(["a b c d"] * 4000, np.arange(4000)))
    assert {text.strip() for text in kept} == set("abcd")
    assert stats.chisquare(list(kept.values())).pvalue > 1e-3


def test_drop__white_space_goes_with_the_word_before_it():
    text = "  one\ttwo\r\nthree  four "
    pieces = {"one\t", "two\r\n", "three  ", "four "}
    for sample in range(50):
        noisy = one(WordDrop(rate=0.5), text, sample)
        assert noisy.startswith("  ")
        rest = noisy[2:]
        while rest:
            piece = next(piece for piece in pieces if rest.startswith(piece))
            rest = rest[len(piece) :]


def test_drop__joined_emoji_and_marks_stay_whole():
    text = f"{FAMILY} e\u0301té {FAMILY}"
    for sample in range(20):
        assert set(one(WordDrop(rate=0.5), text, sample).split()) <= {FAMILY, "e\u0301té"}


@pytest.mark.parametrize("noise", [CharacterSwap(rate=1.0), WordDrop(rate=1.0)], ids=str)
@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_call__odd_texts(noise, text):
    noisy = one(noise, text)
    assert isinstance(noisy, str)
    assert (noisy == "") == (text == "")


@pytest.mark.parametrize("kind", [CharacterSwap, WordDrop])
def test_severity__changes_more(kind):
    text = " ".join(["character", "swaps", "and", "dropped", "words"] * 400)
    unchanged = []
    for severity in range(1, 6):
        noisy = Counter(one(kind(severity), text).split())
        unchanged.append(sum((noisy & Counter(text.split())).values()))
    assert (np.diff(unchanged) < 0).all()


def test_noises__of_one_seed_are_independent():
    texts, ids = ["ab cd"] * 4000, np.arange(4000)
    swapped = [text.startswith("ba") for text in CharacterSwap(rate=0.5)(texts, ids)]
    dropped = [not text.startswith("ab") for text in WordDrop(rate=0.5)(texts, ids)]
    table = np.histogram2d(swapped, dropped, bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_call__a_long_text_is_quick_enough():
    # Linear in the length; a quadratic implementation would take minutes.
    text = "some words of a long text " * 40_000
    assert len(one(CharacterSwap(3), text)) == len(text)
    assert len(one(WordDrop(3), text)) < len(text)


def test_call__numpy_strings_are_strings():
    texts = np.array(["abc def", "ghi jkl"])
    assert CharacterSwap(5)(texts, np.arange(2)) == CharacterSwap(5)(texts.tolist(), np.arange(2))
