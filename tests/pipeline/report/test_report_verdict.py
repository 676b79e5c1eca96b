"""The headline says what the numbers carry, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.report.reading import parse_run
from pipeline.report.verdict import Verdict, chance_level, summary, verdicts


def told(results: list[dict[str, Any]], **more: Any) -> dict[str, Verdict]:
    content = {"results": results, "classes": list("abcdefghij")} | more
    return {verdict.title: verdict for verdict in verdicts(parse_run(content, Path()))}


def classifier(label: str, rows: int = 1000, **values: float) -> dict[str, Any]:
    scores = [
        {"data": data, "split": "test", "measure": "accuracy", "value": value, "rows": rows}
        for data, value in values.items()
    ]
    return {"label": label, "name": label, "kind": "method", "task": "classification", "scores": scores}


def test_verdicts__name_the_winner_of_every_task(images: dict[str, Any]) -> None:
    found = {verdict.title: verdict.subject for verdict in verdicts(parse_run(images, Path()))}
    assert found == {
        "Best on clean data": "lenet5()",
        "Most robust to noise": "KNeighborsClassifier(n_neighbors=5)",
        "Best denoiser": "denoising_autoencoder()",
        "Best clusters": "KMeans(n_clusters=10)",
        "Best decomposition": "PCA(n_components=32)",
    }


# The standard error of the difference of two accuracies near 0.85 on n rows is about sqrt(2 * 0.1275 / n):
# 0.016 on 1,000 rows, 0.0016 on 100,000.
@pytest.mark.parametrize(("rows", "doubtful"), [(1000, True), (100_000, False)])
def test_verdicts__doubt_a_lead_that_the_rows_cannot_carry(rows: int, doubtful: bool) -> None:
    sentence = told([classifier("a", rows, clean=0.855), classifier("b", rows, clean=0.845)])[
        "Best on clean data"
    ].sentence
    assert "0.010 ahead of b" in sentence
    assert ("smaller than the test rows can tell apart" in sentence) is doubtful


def test_verdicts__share_the_first_place() -> None:
    found = told([classifier("a", clean=0.8), classifier("b", clean=0.8), classifier("c", clean=0.7)])
    assert found["Best on clean data"].sentence == "Shares the first place with b: accuracy 0.800 on 1,000 test rows."


def test_verdicts__praise_no_guesser_for_losing_nothing() -> None:
    guesser, able = classifier("guesser", clean=0.1, noisy=0.1), classifier("able", clean=0.8, noisy=0.7)
    assert told([guesser, able])["Most robust to noise"].subject == "able"


def test_verdicts__compare_robustness_on_the_same_noises_only() -> None:
    partial, whole = classifier("partial", clean=0.9, one=0.9), classifier("whole", clean=0.9, one=0.8, two=0.6)
    found = told([partial, whole])["Most robust to noise"]
    assert found.subject == "whole"
    assert found.figure == "−0.200"


def test_verdicts__tell_a_denoiser_that_does_harm() -> None:
    scores = [{"data": "gaussian-3", "measure": "PSNR gain (dB)", "value": -1.2}]
    found = told([{"label": "a", "task": "reconstruction", "scores": scores}])["Best denoiser"]
    assert found.tone == "bad"
    assert found.figure == "−1.20"
    assert "did not clean" in found.sentence


def test_verdicts__report_values_that_are_not_finite() -> None:
    found = told([classifier("a", clean=float("nan"), noisy=0.5), classifier("b", clean=0.8, noisy=0.7)])
    assert found["Without a finite value"].subject == "a on clean"
    assert found["Best on clean data"].subject == "b"


def test_verdicts__of_an_empty_run_are_none() -> None:
    assert told([]) == {}


def test_summary__tells_the_leader_and_the_failures(images: dict[str, Any]) -> None:
    line = summary(parse_run(images, Path()))
    assert line == "lenet5() leads on clean data: accuracy 0.887. 1 step failed, 1 step was skipped."
    assert summary(parse_run({"exit_code": 2}, Path())) == "Nothing was measured. The run ended with exit code 2."


def test_chance_level__is_the_largest_class(images: dict[str, Any]) -> None:
    images["datasets"][0]["class_counts"] = [10, 30, 60]
    assert chance_level(parse_run(images, Path())) == 0.6
    assert chance_level(parse_run({"classes": ["only"]}, Path())) is None
    assert chance_level(parse_run({"classes": list("abcd")}, Path())) == 0.25
