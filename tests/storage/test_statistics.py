from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.statistics import merge, shard_statistics

RNG = np.random.default_rng(0)
COUNT = 60
PIXELS = RNG.integers(0, 256, (COUNT, 5, 4, 3), dtype=np.uint8)
LABELS = RNG.integers(-1, 4, COUNT)
SPLIT = RNG.integers(0, 3, COUNT).astype(np.uint8)
TEXTS = ["é" * int(n) for n in RNG.integers(0, 9, COUNT)]


def of(values, cuts) -> dict:
    """Merged statistics of shards that end at the cuts."""
    edges = [0, *sorted(cuts), COUNT]
    shards = [slice(low, high) for low, high in itertools.pairwise(edges)]
    return merge([shard_statistics(values[s], LABELS[s], SPLIT[s], 4) for s in shards])


def test_merge__pixels_against_numpy():
    found = of(PIXELS, [10, 11, 40])
    train = PIXELS[SPLIT == 0].astype(np.float64)
    np.testing.assert_allclose(found["mean"], train.mean((0, 1, 2)), rtol=1e-14)
    np.testing.assert_allclose(found["std"], train.std((0, 1, 2)), rtol=1e-14)
    assert found["pixels"] == train[..., 0].size


def test_merge__rows_and_classes_of_every_split():
    found = of(PIXELS, [20])
    for code, name in enumerate(("train", "validation", "test")):
        assert found["rows"][name] == (code == SPLIT).sum()
        assert found["class_counts"][name] == [((code == SPLIT) & (label == LABELS)).sum() for label in range(4)]


def test_merge__texts():
    found = of(TEXTS, [7, 30])
    lengths = [len(text.encode()) for text, code in zip(TEXTS, SPLIT, strict=True) if code == 0]
    assert (found["bytes"], found["longest"]) == (sum(lengths), max(lengths))
    assert found["mean_bytes"] == sum(lengths) / len(lengths)


@pytest.mark.parametrize("values", [PIXELS, TEXTS], ids=["images", "texts"])
@given(cuts=st.lists(st.integers(0, COUNT), max_size=8))
def test_merge__is_exact_for_any_shards(values, cuts):
    # Also with empty shards and shards without training rows.
    assert of(values, cuts) == of(values, [])


def test_merge__other_splits_do_not_leak():
    changed = PIXELS.copy()
    changed[SPLIT != 0] = 255
    assert of(changed, [30])["mean"] == of(PIXELS, [30])["mean"]


def test_merge__constant_pixels_have_no_spread():
    same = np.full((3, 2, 2, 1), 255, np.uint8)
    found = merge([shard_statistics(same, np.zeros(3, np.int64), np.zeros(3, np.uint8), 1)])
    assert (found["mean"], found["std"]) == ([255.0], [0.0])


def test_merge__large_sums_do_not_overflow():
    # A shard of 2**20 white pixels, merged 2**16 times: more than 64 bits of squares times pixels.
    shard = shard_statistics(
        np.full((1, 2**10, 2**10, 1), 255, np.uint8), np.zeros(1, np.int64), np.zeros(1, np.uint8), 1
    )
    total = {key: [n << 16 for n in shard[key]] for key in ("sum", "sum_of_squares")}
    found = merge([{**shard, **total, "pixels": shard["pixels"] << 16}])
    assert (found["mean"], found["std"]) == ([255.0], [0.0])


def test_merge__without_training_rows():
    found = merge([shard_statistics(PIXELS[:2], LABELS[:2], np.array([1, 2], np.uint8), 4)])
    assert "mean" not in found
    assert found["rows"]["train"] == 0
    assert merge([shard_statistics(["a"], LABELS[:1], np.array([2], np.uint8), 4)])["mean_bytes"] == 0


def test_shard_statistics__survive_json():
    for values in (PIXELS, TEXTS):
        found = shard_statistics(values, LABELS, SPLIT, 4)
        assert json.loads(json.dumps(found)) == found


def test_shard_statistics__without_classes():
    found = shard_statistics(PIXELS, np.full(COUNT, -1), SPLIT, 0)
    assert found["class_counts"] == {"train": [], "validation": [], "test": []}


def test_merge__new_classes_count_on():
    # Appended samples can bring classes that the first builds did not know.
    half, labels = SPLIT[:30], np.arange(30) % 2
    first = shard_statistics(PIXELS[:30], labels, half, 2)
    later = shard_statistics(PIXELS[30:], np.arange(30) % 5, SPLIT[30:], 5)
    both = np.concatenate([labels, np.arange(30) % 5])
    for merged in (merge([first, later]), merge([later, first])):
        for code, name in enumerate(("train", "validation", "test")):
            assert merged["class_counts"][name] == np.bincount(both[code == SPLIT], minlength=5).tolist()


@pytest.mark.parametrize("values", [PIXELS, TEXTS], ids=["images", "texts"])
def test_merge__of_merged_is_the_same_as_of_all(values):
    # A dataset's statistics are merged from those of its builds.
    shards = [shard_statistics(values[s], LABELS[s], SPLIT[s], 4) for s in (slice(0, 9), slice(9, 33), slice(33, 60))]
    assert merge([merge(shards[:2]), merge(shards[2:])]) == merge(shards)


def test_merge__of_nothing():
    assert merge([]) == {}


def test_shard_statistics__of_more_pixels_than_are_counted_at_once():
    values = RNG.integers(0, 256, (3, 300, 200, 2), dtype=np.uint8)
    found = shard_statistics(values, LABELS[:3], np.zeros(3, np.uint8), 4)
    wide = values.astype(np.int64)
    assert found["sum"] == wide.sum((0, 1, 2)).tolist()
    assert found["sum_of_squares"] == (wide**2).sum((0, 1, 2)).tolist()
