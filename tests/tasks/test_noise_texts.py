"""What holds for every noise for texts."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks import noise as catalogue
from tasks.noise import blocks, graphemes

any_text = st.text(st.characters(exclude_categories=()), max_size=40)
mixed = st.text(
    st.sampled_from("abrnclAé \n\r\t.,!\x00\u0301\u200d\u0915\u094d\U0001f1e9\U0001f44d\U0001f3fd\ud83d"), max_size=40
)
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
ODD = ["", " ", "\r\n", "a", "e\u0301e\u0301e\u0301", FAMILY, "\ud83d", "\ud83d\ude00", "é\u200dx", "1\ufe0f\u20e32"]
ODD += ["\0", "\0a\0\0 b\0", "...", "a b", " a", "a ", "\u0301", " \u0301", "rnrnm", "\U0010ffff"]
# Characters of several code points, between plain ones.
NASTY = [
    *("e\u0301", "o\u0308\u0323", FAMILY, "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "1\ufe0f\u20e3"),
    *("\u1112\u1161\u11ab", "\uac00\u11a8", "\u0915\u094d\u0937", "\u0924\u093f", "\u0e01\u0e33", "\uff76\uff9e"),
    *("\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "m\u0300", "\u0915\u094d\u093c\u0937"),
]
SENTENCE = "The quick brown fox, it is said, jumps over 15 lazy dogs; modern barns can be illusory! "

KINDS = [kind for name in catalogue.__all__ if getattr(kind := getattr(catalogue, name), "kind", "") == "texts"]
KINDS = [kind for kind in KINDS if hasattr(kind, "severities")]
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def one(noise, text: str, sample: int = 0, **options) -> str:
    (noisy,) = noise([text], np.array([sample]), **options)
    return noisy


def clusters(text: str) -> list[str]:
    codes = np.frombuffer((text + "\0").encode("utf-32-le", "surrogatepass"), np.uint32)
    fronts = np.flatnonzero(~graphemes.attached(codes)).tolist()
    return [text[start:stop] for start, stop in pairwise(fronts)]


def size(texts: list[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def test_kinds__are_all():
    assert len(KINDS) == 13


@every
@settings(max_examples=40)
@given(st.lists(st.one_of(any_text, mixed), max_size=6), st.floats(0.01, 1), st.integers(1, 60))
@example(ODD, 1.0, 1)
@example(ODD, 0.5, 10**6)
def test_call__a_text_gets_the_same_in_any_company(kind, texts, rate, block):
    noise, ids = kind(rate=rate), np.arange(len(texts)) * 7 - 3
    expected = [one(noise, text, sample) for text, sample in zip(texts, ids.tolist(), strict=True)]
    assert noise(texts, ids) == expected
    assert noise(texts[::-1], ids[::-1]) == expected[::-1]
    before, blocks._BLOCK = blocks._BLOCK, block
    try:
        assert noise(texts, ids) == expected
    finally:
        blocks._BLOCK = before


@every
@settings(max_examples=40)
@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=60), max_size=5), st.floats(0.01, 1))
@example([SENTENCE * 3, "a\r\nb \r\n c.", "rnm vv"], 0.5)
def test_call__ascii_gets_the_same_as_any_text(kind, texts, rate):
    noise, ids = kind(rate=rate), np.arange(len(texts))
    key = noise._key(0, 0)
    ends = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64) - 1
    codes = blocks._codes_of(texts, ascii=False)
    if texts:
        general = list(blocks._split(noise._changed(blocks.Block(codes, ends, ids, key))))
        assert noise(texts, ids) == [after or before for after, before in zip(general, texts, strict=True)]


@every
@settings(max_examples=40)
@given(st.lists(st.one_of(any_text, mixed), max_size=6), st.floats(0.01, 1))
@example(["a", "m", ".", "a" + " " * 50, "n.", "d\u0301", "W", "ab"], 1.0)
@example(["a"] * 50, 1.0)
@example(["m.m" * 10], 1.0)
def test_growth__is_never_passed(kind, texts, rate):
    noise = kind(rate=rate)
    for sample in range(0, 50, 10):
        noisy = noise(texts, np.arange(len(texts)) + sample)
        assert size(noisy) <= math.ceil(noise.growth * size(texts))


@every
@pytest.mark.parametrize("cluster", NASTY, ids=ascii)
def test_call__tears_no_character_apart(kind, cluster):
    parts = {part for part in cluster if not part.isascii()}
    text = f"ab{cluster}cd {cluster} x{cluster}{cluster} .{cluster}\n{cluster}"
    for rate in (0.3, 1.0):
        for sample in range(10):
            noisy = one(kind(rate=rate), text, sample)
            if kind is catalogue.CaseFlip:  # a letter with its accent has another case
                noisy = noisy.lower()
            assert not parts & set("".join(noisy.split(cluster))), ascii(noisy)


@every
@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_call__odd_texts(kind, text):
    for rate in (0.5, 1.0):
        noisy = one(kind(rate=rate), text)
        assert type(noisy) is str
        assert (noisy == "") == (text == "")


@every
@given(st.text(st.sampled_from(" \t\n\r\x0b\x0c\x1c\x85\u00a0\u2003\u2028\u3000"), max_size=20))
def test_call__white_space_alone_stays(kind, text):
    assert one(kind(rate=1.0), text) == text


@every
def test_severity__is_the_weaker_one_made_stronger(kind):
    # The units that a weaker severity changes are among those of a stronger one.
    text = SENTENCE * 60
    shares = []
    for severity in range(1, 6):
        noisy = one(kind(severity), text)
        before, after = (Counter([*pairwise(found), *pairwise(found.split())]) for found in (text, noisy))
        shares.append(sum((before & after).values()) / max(sum(before.values()), sum(after.values())))
    assert (np.diff(shares) < 0).all(), shares


@every
def test_call__epoch_seed_and_id_are_other_draws(kind):
    noise, text = kind(severity=3), SENTENCE * 5
    found = {one(noise, text, sample, seed=s, epoch=e) for sample in (0, 1) for s in (0, 1) for e in (0, 1)}
    assert len(found) == 8


@every
def test_call__a_long_text_and_numpy_strings(kind):
    text = "some words, of a long text. " * 40_000
    noisy = one(kind(3), text)
    assert noisy != text
    texts = np.array(["abc def.", "ghi jklé"])
    assert kind(5)(texts, np.arange(2)) == kind(5)(texts.tolist(), np.arange(2))


def test_noises__of_one_seed_are_independent():
    texts, ids = ["ab cd"] * 4000, np.arange(4000)
    swapped = [text.startswith("ba") for text in catalogue.CharacterSwap(rate=0.5)(texts, ids)]
    dropped = [not text.startswith("ab") for text in catalogue.WordDrop(rate=0.5)(texts, ids)]
    table = np.histogram2d(swapped, dropped, bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3
