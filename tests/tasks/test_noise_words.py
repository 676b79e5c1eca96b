from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from storage.keyed import key_of, words
from tasks.noise import PunctuationNoise, WhitespaceNoise, WordDrop, WordMask, WordRepeat, WordSwap

any_text = st.text(st.characters(exclude_categories=()), max_size=60)
# Neither marks nor what may join: there a word is what `str.split` takes for one.
simple = st.text(
    st.one_of(st.sampled_from("abc. \t\r\n\x1c\u2003\x00"), st.characters(categories=["Ll", "Nd"])), max_size=60
)
rates = st.floats(0.01, 1)
SEVERITIES = [(1, 0.05), (2, 0.10), (3, 0.20), (4, 0.30), (5, 0.50)]
MANY = [f"w{i}" for i in range(20_000)]
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def one(noise, text: str, sample: int = 0) -> str:
    (noisy,) = noise([text], np.array([sample]))
    return noisy


def draws(name: str, count: int, sample: int) -> tuple[list[int], list[int]]:
    """The 16 bits of each word, and the words that choose, of seed 0 and epoch 0."""
    key, ids = key_of(0, name, 0), np.array([sample])
    lanes = words(key, ids, count // 4 + 1).view(np.uint16)[0]
    return lanes.tolist(), words(key_of(key, "which"), ids, count + 1)[0].tolist()


def pieces(text: str) -> tuple[str, list[tuple[str, str]]]:
    """White space before the first word, then each word with the white space behind it."""
    found = re.findall(r"(\S+)(\s*)", text)
    return text[: len(text) - len(text.lstrip())], found


def level(rate: float) -> int:
    return max(1, round(rate * 65536))


@given(simple, st.integers(0, 10**6), rates)
@example(" a b\r\nc ", 0, 1.0)
def test_drop__as_written_out(text, sample, rate):
    before, found = pieces(text)
    lanes, _ = draws("word drop", len(found), sample)
    kept = [i for i in range(len(found)) if lanes[i] >= level(rate)]
    kept = kept or ([max(range(len(found)), key=lambda i: (lanes[i], -i))] if found else [])
    expected = before + "".join(found[i][0] + found[i][1] for i in kept)
    assert one(WordDrop(rate=rate), text, sample) == expected


@given(simple, st.integers(0, 10**6), rates)
@example(" a bb\r\nccc  d ", 0, 1.0)
def test_swap__as_written_out(text, sample, rate):
    before, found = pieces(text)
    lanes, _ = draws("word swap", len(found), sample)
    order, i = [word for word, _ in found], 0
    while i + 1 < len(order):
        if lanes[i] < level(rate):
            order[i], order[i + 1] = order[i + 1], order[i]
            i += 1
        i += 1
    expected = before + "".join(word + gap for word, (_, gap) in zip(order, found, strict=True))
    assert one(WordSwap(rate=rate), text, sample) == expected


@given(simple, st.integers(0, 10**6), rates, st.sampled_from(["[MASK]", "_", "…", "\ud83d"]))
def test_repeat_and_mask__as_written_out(text, sample, rate, token):
    before, found = pieces(text)
    lanes, _ = draws("word repeat", len(found), sample)
    twice = [f"{word} {word}{gap}" if lanes[i] < level(rate) else word + gap for i, (word, gap) in enumerate(found)]
    assert one(WordRepeat(rate=rate), text, sample) == before + "".join(twice)
    lanes, _ = draws("word mask", len(found), sample)
    masked = [(token if lanes[i] < level(rate) else word) + gap for i, (word, gap) in enumerate(found)]
    assert one(WordMask(rate=rate, token=token), text, sample) == before + "".join(masked)


@given(simple, st.integers(0, 10**6), rates)
@example("one two\r\n\r\nthree four  five six ", 3, 1.0)
def test_white_space__as_written_out(text, sample, rate):
    expected, found = pieces(text)
    lanes, which = draws("whitespace noise", len(found), sample)
    for i, (word, gap) in enumerate(found):
        kind = (which[i] >> 32) * 3 >> 32 if lanes[i] < level(rate) else None
        last = i + 1 == len(found)
        if kind == 0 and not last:
            expected += word
        elif kind == 1 and not last:
            expected += word + gap + gap
        elif kind == 2 and len(word) > 1:
            place = 1 + ((which[i] & 0xFFFFFFFF) * (len(word) - 1) >> 32)
            expected += word[:place] + " " + word[place:] + gap
        else:
            expected += word + gap
    assert one(WhitespaceNoise(rate=rate), text, sample) == expected


@given(any_text, st.integers(0, 10**6), rates)
def test_white_space__keeps_everything_else(text, sample, rate):
    noisy = one(WhitespaceNoise(rate=rate), text, sample)
    assert "".join(noisy.split()) == "".join(text.split())


@given(simple, st.integers(0, 10**6), rates)
@example("Well, (he said) it is... no!\tno", 0, 1.0)
def test_punctuation__as_written_out(text, sample, rate):
    lanes, which = draws("punctuation noise", len(text), sample)
    expected = ""
    for i, character in enumerate(text):
        hit, choice = lanes[i] < level(rate), which[i] >> 32
        if hit and character == ".":
            expected += ["", ".."][choice * 2 >> 32]
        elif hit and character.isalnum() and not text[i + 1 : i + 2].strip():
            expected += character + ".,;:!?"[choice * 6 >> 32]
        elif hit and character in ",()!":
            expected += ["", 2 * character][choice * 2 >> 32]
        else:
            expected += character
    assert one(PunctuationNoise(rate=rate), text, sample) == (expected or text)


@given(any_text, st.integers(0, 10**6), rates)
@example("\u2028a\u00a0b", 0, 0.5)
def test_drop__keeps_words_in_order_and_at_least_one(text, sample, rate):
    noisy = one(WordDrop(rate=rate), text, sample)
    before, after = text.split(), noisy.split()
    assert (len(after) > 0) == (len(before) > 0)
    rest = iter(before)
    assert all(word in rest for word in after)  # a subsequence


@given(any_text, st.integers(0, 10**6), rates)
def test_swap__keeps_words_and_length(text, sample, rate):
    noisy = one(WordSwap(rate=rate), text, sample)
    assert Counter(noisy) == Counter(text)
    assert Counter(noisy.split()) == Counter(text.split())


@pytest.mark.parametrize(("severity", "rate"), SEVERITIES)
def test_words__rate(severity, rate):
    text, count = " ".join(MANY), len(MANY)
    spaced = one(WhitespaceNoise(severity), text)
    hits = {
        "drop": count - len(one(WordDrop(severity), text).split()),
        "repeat": len(one(WordRepeat(severity), text).split()) - count,
        "mask": one(WordMask(severity), text).split().count("[MASK]"),
        "insert": len(re.findall(r"[.,;:!?]", one(PunctuationNoise(severity), text))),
    }
    for name, hit in hits.items():
        assert stats.binomtest(hit, count, rate).pvalue > 1e-3, name
    widened = spaced.count("  ")
    whole = set(MANY)
    changed = sum(word not in whole for word in spaced.split())
    assert stats.binomtest(widened, count, rate / 3).pvalue > 1e-3
    assert changed > widened  # a join makes one new word, a split two
    marks = one(PunctuationNoise(severity), "!" * count)
    assert abs(len(marks) - count) < 4 * np.sqrt(count * rate)
    swaps = sum(a != b for a, b in zip(MANY, one(WordSwap(severity), text).split(), strict=True)) / 2
    assert abs(swaps - count * rate / (1 + rate)) < 4 * np.sqrt(count * rate)


def test_drop__full_rate_leaves_any_one_word():
    kept = Counter(WordDrop(rate=1)(["a b c d"] * 4000, np.arange(4000)))
    assert {text.strip() for text in kept} == set("abcd")
    assert stats.chisquare(list(kept.values())).pvalue > 1e-3


@pytest.mark.parametrize("kind", [WordDrop, WordSwap, WordRepeat])
def test_words__joined_emoji_and_marks_stay_whole(kind):
    text = f"{FAMILY} e\u0301té {FAMILY} a \u0301b"
    for sample in range(20):
        noisy = one(kind(rate=0.5), text, sample)
        assert set(noisy.replace("a \u0301b", "").split()) <= {FAMILY, "e\u0301té"}


def test_white_space__makes_no_character_of_two():
    for text in ("a\n\u0301", "\U0001f1e9 \U0001f1ea", "a\u200d \U0001f468", "\u0915\u094d \u0937"):
        for sample in range(30):
            assert one(WhitespaceNoise(rate=1), text, sample) in (
                text,
                text.replace("\n", "\n\n"),
                text.replace(" ", "  "),
            )


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", None, 5, b"x"], ids=repr)
def test_mask__refuses_what_is_no_word(token):
    with pytest.raises(ValueError, match=r"^expected WordMask with a token of one word without white space, received "):
        WordMask(severity=3, token=token)


def test_mask__token():
    assert str(WordMask(severity=3)) == "WordMask(severity=3)"
    noise = WordMask(rate=1, token="<unk>")
    assert str(noise) == "WordMask(rate=1.0, token='<unk>')"
    assert one(noise, " one,\ttwo\n") == " <unk>\t<unk>\n"
    assert noise.growth == 5
    assert WordMask(1, token="…").growth == 3
