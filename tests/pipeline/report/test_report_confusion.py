"""Heat tables: counts, shares and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, recall_score

from pipeline.report.confusion import KEPT_CLASSES, LEVELS, matrix


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    true = rng.integers(0, 5, 400)
    return true, np.where(rng.random(400) < 0.7, true, rng.integers(0, 5, 400))


def test_matrix__agrees_with_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    true, predicted = answers
    found = matrix(confusion_matrix(true, predicted).tolist(), list("abcde"))
    assert found.names == tuple("abcde")
    assert [[cell.count for cell in row.cells] for row in found.rows] == confusion_matrix(true, predicted).tolist()
    assert [row.recall for row in found.rows] == pytest.approx(recall_score(true, predicted, average=None).tolist())


def test_matrix__names_the_largest_mistakes() -> None:
    found = matrix([[90, 4, 6], [1, 99, 0], [20, 0, 80]], ["shirt", "bag", "coat"])
    assert [(m.true, m.predicted, m.count) for m in found.mistakes] == [
        ("coat", "shirt", 20),
        ("shirt", "coat", 6),
        ("shirt", "bag", 4),
    ]
    assert found.mistakes[0].share == 0.2
    assert matrix([[3, 0], [0, 2]], ["a", "b"]).mistakes == ()


def test_matrix__tints_every_mistake_and_nothing_else() -> None:
    found = matrix([[9999, 1], [0, 10]], ["a", "b"])
    assert [[cell.level for cell in row.cells] for row in found.rows] == [[LEVELS, 1], [0, LEVELS]]


def test_matrix__abbreviates_many_classes() -> None:
    rng = np.random.default_rng(4)
    counts = np.diag(np.full(200, 50))
    counts[17, 23] = 40
    counts += rng.integers(0, 2, counts.shape)
    # Large, but never mistaken: not worth a row.
    counts[100], counts[:, 100], counts[100, 100] = 0, 0, 900
    found = matrix(counts.tolist(), [f"class {index}" for index in range(200)])
    assert len(found.rows) == KEPT_CLASSES + 1
    assert found.hidden == 200 - KEPT_CLASSES
    assert {"class 17", "class 23"} < set(found.names)
    assert "class 100" not in found.names
    assert found.names[-1] == f"{found.hidden} other classes"
    assert sum(cell.count for row in found.rows for cell in row.cells) == counts.sum(), "no sample may get lost"
    place = found.names.index("class 17")
    assert found.rows[place].recall == pytest.approx(counts[17, 17] / counts[17].sum())
    assert {cell.level for cell in found.rows[-1].cells} == {0}


def test_matrix__of_one_class_and_of_an_absent_class() -> None:
    assert matrix([[7]], ["only"]).rows[0].recall == 1
    absent = matrix([[5, 0], [0, 0]], ["a"])
    assert absent.names == ("a", "class 1")
    assert absent.rows[1].recall is None
