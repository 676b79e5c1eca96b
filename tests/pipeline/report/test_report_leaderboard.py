"""Ranking, differences from clean, and the table that scripts read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from pipeline.report import leaderboard, write_leaderboard
from pipeline.report.leaderboard import COLUMNS, boards, lower_is_better
from pipeline.report.reading import parse_run


def result(
    label: str, task: str = "classification", measure: str = "accuracy", **values: float | None
) -> dict[str, Any]:
    scores = [{"data": data, "split": "test", "measure": measure, "value": value} for data, value in values.items()]
    return {"label": label, "name": label, "kind": "method", "task": task, "scores": scores}


def test_leaderboard__has_a_row_per_result_and_data_best_first(images: dict[str, Any]) -> None:
    table = leaderboard(images["results"], pipeline="fashion")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == sum(len(entry["scores"]) for entry in images["results"])
    assert list(table["task"]) == sorted(table["task"])
    for _, rows in table.groupby("task"):
        assert rows["value"].is_monotonic_decreasing
    assert set(table["pipeline"]) == {"fashion"}


def test_leaderboard__says_how_much_worse_than_clean() -> None:
    table = leaderboard([result("a", clean=0.9, noisy=0.7), result("b", "regression", "RMSE", clean=2.0, noisy=5.0)])
    drops = table.set_index(["label", "data"])["drop_from_clean"]
    assert drops["a", "noisy"] == pytest.approx(0.2)
    assert drops["b", "noisy"] == pytest.approx(3.0), "a larger error is a drop as well"
    assert drops["a", "clean"] == drops["b", "clean"] == 0


def test_leaderboard__has_no_drop_without_a_clean_baseline() -> None:
    table = leaderboard([result("a", noisy=0.7), result("b", "reconstruction", "PSNR gain (dB)", clean=0.0, noisy=6.0)])
    assert table["drop_from_clean"].isna().all()


def test_leaderboard__puts_missing_values_last_and_the_smallest_error_first() -> None:
    entries = [
        result(label, "regression", "RMSE", clean=value) for label, value in zip("abcd", (3, None, 1, 2), strict=True)
    ]
    table = leaderboard(entries)
    assert list(table["label"]) == ["c", "d", "a", "b"]
    assert table["value"].dtype == "float64"
    assert pandas.isna(table["value"].iloc[-1])


def test_leaderboard__of_nothing_has_the_same_columns() -> None:
    table = leaderboard([])
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 0


def test_write_leaderboard__reads_back_the_same(
    images: dict[str, Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_leaderboard(save(images) / "run.json", tmp_path / "deep" / "leaderboard.csv")
    again = pandas.read_csv(path)
    table = leaderboard(images["results"], pipeline="fashion")
    assert list(again["label"]) == list(table["label"])
    assert list(again["value"]) == list(table["value"])
    assert again["parameters"].dropna().astype(int).tolist() == table["parameters"].dropna().tolist()
    assert [file.name for file in path.parent.iterdir()] == ["leaderboard.csv"]


def test_write_leaderboard__takes_the_content_as_well(images: dict[str, Any], tmp_path: Path) -> None:
    one = write_leaderboard(images, tmp_path / "one.csv")
    (tmp_path / "run.json").write_text(json.dumps(images))
    two = write_leaderboard(tmp_path / "run.json", tmp_path / "two.csv")
    assert one.read_bytes() == two.read_bytes()


def test_boards__keep_tasks_and_measures_apart(images: dict[str, Any], tmp_path: Path) -> None:
    found = boards(parse_run(images, tmp_path))
    assert [(board.task, board.measure) for board in found] == [
        ("classification", "accuracy"),
        ("reconstruction", "PSNR gain (dB)"),
        ("clustering", "ARI"),
        ("decomposition", "explained variance"),
    ]
    labels = [standing.result.label for standing in found[0].standings]
    assert labels == ["lenet5()", "KNeighborsClassifier(n_neighbors=5)", "LinearSVC(C=0.1)"]
    assert found[0].data == ("clean", "gaussian-3", "salt-and-pepper-2")


def test_boards__average_the_drops(tmp_path: Path) -> None:
    board = boards(parse_run({"results": [result("a", clean=0.9, one=0.8, two=0.5)]}, tmp_path))[0]
    assert board.standings[0].mean_drop == pytest.approx(0.25)
    assert board.standings[0].key == 0.9


def test_boards__rank_denoisers_by_their_mean_gain(tmp_path: Path) -> None:
    gain = ("reconstruction", "PSNR gain (dB)")
    entries = [result("a", *gain, clean=float("-inf"), one=4.0, two=4.0), result("b", *gain, one=9.0, two=1.0)]
    board = boards(parse_run({"results": entries}, tmp_path))[0]
    assert [(standing.result.label, standing.key) for standing in board.standings] == [("b", 5.0), ("a", 4.0)]
    assert board.data == ("one", "two"), "a gain on clean data means nothing and gets no column"


def test_boards__lose_no_method_that_measured_nothing(tmp_path: Path) -> None:
    entries = [result("silent"), result("a", clean=0.5), result("lost", clean=float("nan"))]
    (board,) = boards(parse_run({"results": entries}, tmp_path))
    assert board.standings[0].result.label == "a"
    assert {standing.result.label for standing in board.standings} == {"a", "silent", "lost"}
    assert [standing.result.label for standing in board.ranked] == ["a"]


@pytest.mark.parametrize(
    ("measure", "lower"), [("accuracy", False), ("RMSE", True), ("test_loss", True), ("explained variance", False)]
)
def test_lower_is_better__knows_errors(measure: str, lower: bool) -> None:
    assert lower_is_better(measure) is lower
