from __future__ import annotations

import numpy as np
import pytest

import storage

CASES = {
    "one": ["one"],
    "one empty": [""],
    "all empty": ["", "", "", ""],
    "empty shards": ["", "", "", "a", "", "", "", "", "", "b"],
    "last shard empty": ["a", "b", "c", ""],
    "null bytes": ["\x00", "\x00\x00", "", "\x00"],
    "ends in zeros": ["a\x00\x00", "b\x00"],
}


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize("case", CASES)
def test_read__texts_come_back(builds_at, commit, tmp_path, memory_location, case, place):
    texts = CASES[case]
    dataset = commit(builds_at["texts"](tmp_path / "a" if place == "local" else memory_location(), texts))
    assert dataset.read(0, len(texts)) == texts
    assert [dataset.read(i, i + 1) for i in range(len(texts))] == [[text] for text in texts]
    assert dataset.take(np.arange(len(texts))[::-1]) == texts[::-1]
    assert storage.verify(dataset.path).ok


@pytest.mark.parametrize("shard", [1, 3, 10, 100])
def test_read__any_unicode_comes_back(text_build, commit, odd_texts, shard):
    dataset = commit(text_build(odd_texts, shard))
    assert dataset.read(0, len(odd_texts)) == odd_texts
    assert dataset.take(np.array([6, 0, 6])) == [odd_texts[6], "", odd_texts[6]]


def test_read__a_text_of_ten_megabytes(text_build, commit):
    rng = np.random.default_rng(0)
    large = "é" * 1_000_000 + "".join(map(chr, rng.integers(97, 123, 8_000_000)))
    dataset = commit(text_build(["small", large, "", "after"], 2))
    assert dataset.take(np.array([3, 1])) == ["after", large]
    assert dataset.read(0, 1) == ["small"]
    assert dataset.parts[0].stored(1, 2)[0].nbytes == 10_000_000
    assert dataset.statistics["longest"] == 10_000_000
    assert storage.verify(dataset.path).ok
