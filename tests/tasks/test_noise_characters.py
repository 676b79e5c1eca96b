from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from storage.keyed import key_of, words
from storage.texts import encode
from tasks.noise import (
    CaseFlip,
    CharacterDrop,
    CharacterInsert,
    CharacterRepeat,
    CharacterSwap,
    KeyboardTypo,
    OcrConfusion,
)
from tasks.noise import graphemes as g
from tasks.noise.confusions import CONFUSIONS, neighbours

any_text = st.text(st.one_of(st.characters(exclude_categories=()), st.sampled_from("abcRN. \u0301\u200d")), max_size=60)
rates = st.floats(0.01, 1)
SEVERITIES = [(1, 0.02), (2, 0.05), (3, 0.10), (4, 0.15), (5, 0.25)]
LETTERS = "abcdefghij" * 2000


def one(noise, text: str, sample: int = 0) -> str:
    (noisy,) = noise([text], np.array([sample]))
    return noisy


def clusters(text: str) -> list[str]:
    codes = np.frombuffer((text + "\0").encode("utf-32-le", "surrogatepass"), np.uint32)
    fronts = np.flatnonzero(~g.attached(codes)).tolist()
    return [text[start:stop] for start, stop in pairwise(fronts)]


def draws(name: str, text: str, sample: int, *more: str) -> tuple[list[int], list[int]]:
    """The 16 bits of each code point, and the words that choose, of seed 0 and epoch 0."""
    key, ids = key_of(0, name, 0), np.array([sample])
    lanes = words(key, ids, len(text) // 4 + 1).view(np.uint16)[0]
    return lanes.tolist(), words(key_of(key, "which"), ids, len(text) + 1)[0].tolist()


def places(text: str) -> list[tuple[int, str]]:
    found, i = [], 0
    for cluster in clusters(text):
        found.append((i, cluster))
        i += len(cluster)
    return found


def level(rate: float) -> int:
    return max(1, round(rate * 65536))


@given(any_text, st.integers(0, 10**6), rates)
@example("abcdef gh i\u0301jk", 0, 1.0)
def test_swap__as_written_out(text, sample, rate):
    lanes, _ = draws("character swap", text, sample)
    alone = {i for i, cluster in places(text) if len(cluster) == 1 and cluster.isalnum()}
    expected, i = list(text), 0
    while i < len(text):
        if lanes[i] < level(rate) and i in alone and i + 1 in alone:
            expected[i], expected[i + 1] = text[i + 1], text[i]
            i += 1
        i += 1
    noisy = one(CharacterSwap(rate=rate), text, sample)
    assert noisy == "".join(expected)
    assert Counter(clusters(noisy)) == Counter(clusters(text))


@given(any_text, st.integers(0, 10**6), rates)
@example("abcd", 0, 1.0)
@example("a\u0301b \x07\u0301", 0, 1.0)
def test_drop__as_written_out(text, sample, rate):
    lanes, _ = draws("character drop", text, sample)
    fixed = {g.CONTROL, g.CR, g.LF, g.MARK, g.VIRAMA, g.JOINER}
    dropped = [
        i
        for i, cluster in places(text)
        if not cluster[0].isspace() and g.class_of(cluster[0]) not in fixed and lanes[i] < level(rate)
    ]
    lost = sum(len(cluster) for i, cluster in places(text) if i in dropped)
    if dropped and lost == sum(not character.isspace() for character in text):
        dropped.remove(max(dropped, key=lambda i: (lanes[i], -i)))
    expected = "".join(cluster for i, cluster in places(text) if i not in dropped)
    assert one(CharacterDrop(rate=rate), text, sample) == expected


@given(any_text, st.integers(0, 10**6), rates)
@example("Hello, World! e\u0301 1\ufe0f\u20e3 {}~", 0, 1.0)
def test_typo__as_written_out(text, sample, rate):
    lanes, which = draws("keyboard typo", text, sample)
    expected = list(text)
    for i, cluster in places(text):
        if cluster in neighbours() and lanes[i] < level(rate):
            near = neighbours()[cluster]
            expected[i] = near[(which[i] >> 32) * len(near) >> 32]
    assert one(KeyboardTypo(rate=rate), text, sample) == "".join(expected)


@given(any_text, st.integers(0, 10**6), rates)
@example("rnrn modern vvv ii", 0, 1.0)
def test_ocr__as_written_out(text, sample, rate):
    lanes, which = draws("ocr confusion", text, sample)
    alone = {i: cluster for i, cluster in places(text) if len(cluster) == 1}
    expected, i = "", 0
    while i < len(text):
        pair = alone.get(i, "") + alone.get(i + 1, "")
        found = next((found for found in (pair, text[i]) if i in alone and found in CONFUSIONS), None)
        if found and lanes[i] < level(rate):
            others = CONFUSIONS[found]
            expected += others[(which[i] >> 32) * len(others) >> 32]
            i += len(found)
        else:
            expected += text[i]
            i += 1
    assert one(OcrConfusion(rate=rate), text, sample) == expected


@given(any_text, st.integers(0, 10**6), rates)
def test_insert_repeat_flip__as_written_out(text, sample, rate):
    lanes, which = draws("character insert", text, sample)
    inserted = repeated = flipped = ""
    for i, cluster in places(text):
        inserted += cluster
        if len(cluster) == 1 and cluster.isalnum() and lanes[i] < level(rate):
            letter = chr(97 + ((which[i] >> 32) * 26 >> 32))
            inserted += letter.upper() if cluster.isupper() else letter
    assert one(CharacterInsert(rate=rate), text, sample) == inserted
    lanes, _ = draws("character repeat", text, sample)
    for i, cluster in places(text):
        repeated += cluster * (1 + (cluster[0].isalnum() and lanes[i] < level(rate)))
    assert one(CharacterRepeat(rate=rate), text, sample) == repeated
    lanes, _ = draws("case flip", text, sample)
    for i, character in enumerate(text):
        other = character.swapcase()
        fits = len(other) == 1 and other.swapcase() == character and other != character
        fits = fits and len(encode(other)) == len(encode(character))
        flipped += other if fits and lanes[i] < level(rate) else character
    noisy = one(CaseFlip(rate=rate), text, sample)
    assert noisy == flipped
    assert one(CaseFlip(rate=rate), noisy, sample) == text


@pytest.mark.parametrize(("severity", "rate"), SEVERITIES)
def test_swap__rate(severity, rate):
    # Neighbours always differ, so every swap shows. A swap covers two places and its successor starts behind it:
    # of n places, n r / (1 + r) begin a swap.
    swaps = sum(a != b for a, b in zip(LETTERS, one(CharacterSwap(severity), LETTERS), strict=True)) / 2
    expected = len(LETTERS) * rate / (1 + rate)
    assert abs(swaps - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize(("severity", "rate"), SEVERITIES)
def test_others__rate(severity, rate):
    count = len(LETTERS)
    hits = {
        "drop": count - len(one(CharacterDrop(severity), LETTERS)),
        "insert": len(one(CharacterInsert(severity), LETTERS)) - count,
        "repeat": len(one(CharacterRepeat(severity), LETTERS)) - count,
        "flip": sum(character.isupper() for character in one(CaseFlip(severity), LETTERS)),
        "typo": sum(a != b for a, b in zip(LETTERS, one(KeyboardTypo(severity), LETTERS), strict=True)),
        "ocr": one(OcrConfusion(severity), "B" * count).count("8"),
    }
    for name, hit in hits.items():
        assert stats.binomtest(hit, count, rate).pvalue > 1e-3, name


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


def test_drop__full_rate_leaves_any_one_character():
    kept = Counter(CharacterDrop(rate=1)(["abcd"] * 4000, np.arange(4000)))
    assert set(kept) == set("abcd")
    assert stats.chisquare(list(kept.values())).pvalue > 1e-3


def test_insert__every_letter_is_equally_likely():
    noisy = one(CharacterInsert(rate=1), "5" * 26_000)
    counts = Counter(noisy[1::2])
    assert set(noisy[::2]) == {"5"}
    assert len(counts) == 26
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    assert one(CharacterInsert(rate=1), "AB")[1::2].isupper()


def test_neighbours__of_some_keys():
    assert {key: set(neighbours()[key]) for key in "sSg1p"} == {
        "s": set("weadzx"),
        "S": set("WEADZX"),
        "g": set("tyfhvb"),
        "1": set("`2q"),
        "p": set("0-o[;l"),
    }
    assert all(key in neighbours()[near] for key, found in neighbours().items() for near in found)
    assert all(character.isascii() and " " not in found for character, found in neighbours().items())
    assert len(neighbours()) == 94  # all that ASCII prints but the space


def test_typo__every_neighbour_is_equally_likely():
    counts = Counter(one(KeyboardTypo(rate=1), "s" * 12_000))
    assert set(counts) == set("weadzx")
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_confusions__are_no_words_apart():
    for found, others in CONFUSIONS.items():
        assert 1 <= len(found) <= 2
        assert others
        assert found not in others
        assert all(1 <= len(other) <= 2 and other.isascii() and not other.isspace() for other in others)


@pytest.mark.parametrize("letter", "ß\u0131\u017f\u212a\u023a\u2c65中א")
def test_flip__letters_without_a_fitting_other_case_stay(letter):
    assert one(CaseFlip(rate=1), letter + "a") == letter + "A"


def test_flip__beyond_ascii():
    assert one(CaseFlip(rate=1), "Éte\u0301 Ωμ Жя 𐐀") == "éTE\u0301 ωΜ жЯ 𐐨"
