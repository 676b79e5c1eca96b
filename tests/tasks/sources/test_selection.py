from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sources import Arrays, Selection, SourceError
from tasks.sources.selection import balanced_rows, seeded_order

NAMES = ["no", "yes"]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 5))
def test_balanced_rows__balanced_and_no_test_text_in_training(data: st.DataObject, seed: int) -> None:
    # Few different texts, so that many occur more than once.
    numbers = data.draw(st.lists(st.integers(0, 40), min_size=60, max_size=80))
    texts = [f"text {number}" for number in numbers]
    codes = np.array([number % 2 for number in numbers])
    once = [min(sum(texts.count(t) == 1 and n % 2 == c for t, n in zip(texts, numbers, strict=True)) for c in (0, 1))]
    test = 2 * data.draw(st.integers(0, once[0]))
    train = 2 * data.draw(st.integers(1, max(1, int(np.bincount(codes, minlength=2).min()) - test // 2)))
    if np.bincount(codes, minlength=2).min() < (train + test) // 2:
        return
    train_rows, test_rows = balanced_rows(texts, codes, NAMES, train, test, seed)
    assert np.bincount(codes[train_rows], minlength=2).tolist() == [train // 2] * 2
    assert np.bincount(codes[test_rows], minlength=2).tolist() == [test // 2] * 2
    assert len(set(train_rows.tolist()) | set(test_rows.tolist())) == train + test
    assert not {texts[row] for row in train_rows} & {texts[row] for row in test_rows}


def test_seeded_order__known_for_ever() -> None:
    """A change of these would draw other reviews for the same seed."""
    keys = [f"key {number}".encode() for number in range(8)]
    assert seeded_order(keys, 0) == [5, 7, 6, 0, 3, 2, 1, 4]
    assert seeded_order(keys, 1) == [4, 2, 1, 0, 3, 6, 7, 5]


def texts_and_labels(count: int = 40) -> tuple[list[str], list[str]]:
    return [f"text {number}" for number in range(count)], [NAMES[number % 2] for number in range(count)]


def test_selection__same_rows_in_whatever_order_they_are_found() -> None:
    texts, labels = texts_and_labels()
    one = Selection(Arrays(texts=texts, labels=labels), 20, 10)
    other = Selection(Arrays(texts=texts[::-1], labels=labels[::-1]), 20, 10)
    assert one[:].values == other[:].values
    assert one.fingerprint() == other.fingerprint()


def test_selection__seed_draws_others() -> None:
    texts, labels = texts_and_labels()
    source = Arrays(texts=texts, labels=labels)
    one, other = Selection(source, 20, 10, seed=0), Selection(source, 20, 10, seed=1)
    assert set(one[:].values) != set(other[:].values)
    assert one.fingerprint() != other.fingerprint()


def test_selection__classes_are_mixed() -> None:
    texts, labels = texts_and_labels(400)
    codes = Selection(Arrays(texts=texts, labels=labels), 200, 100).labels()
    assert all(set(codes[start : start + 20]) == {0, 1} for start in range(0, 300, 20))


def test_selection__not_enough() -> None:
    texts, labels = texts_and_labels()
    with pytest.raises(SourceError, match=r"at least 21 texts of class 'no' .* received 20 \(20 of them only once\)"):
        Selection(Arrays(texts=texts, labels=labels), 30, 12)[:]
    repeated = Arrays(texts=["same"] * 40, labels=labels)
    with pytest.raises(SourceError, match=r"received 20 \(0 of them only once\)"):
        Selection(repeated, 10, 10)[:]


@pytest.mark.parametrize("counts", [(0, 2), (2, -2), (2.0, 2), (2, "2")], ids=str)
def test_selection__wrong_counts(counts: tuple[int, int]) -> None:
    texts, labels = texts_and_labels()
    with pytest.raises(ValueError, match="as a whole number of texts"):
        Selection(Arrays(texts=texts, labels=labels), *counts)


def test_selection__counts_that_cannot_be_balanced() -> None:
    texts, labels = texts_and_labels()
    with pytest.raises(ValueError, match="expected test as a multiple of 2, the number of classes, received 5"):
        Selection(Arrays(texts=texts, labels=labels), 10, 5)[:]


def test_selection__source_without_labels() -> None:
    with pytest.raises(SourceError, match="expected labels to balance"):
        Selection(Arrays(texts=["a", "b"]), 2, 0)[:]
