"""The headline's cards on robustness: no guesser praised, no harm hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.report.reading import parse_run
from pipeline.report.robustness_verdict import robustness_verdicts
from pipeline.report.verdict import Verdict


def told(robustness: Any) -> dict[str, Verdict]:
    record = parse_run({"robustness": robustness, "classes": list("abcdefghij")}, Path())
    return {verdict.title.partition(" ")[0]: verdict for verdict in robustness_verdicts(record)}


def test_robustness_verdicts__name_the_lowest_mean_drop(robustness: dict[str, Any]) -> None:
    found = told(robustness)["Degrades"]
    assert found.subject == "KNeighborsClassifier(n_neighbors=5)"
    assert (found.figure, found.unit) == ("−0.150", "accuracy, mean change")
    assert found.sentence == (
        "Loses 0.150 accuracy on average over 2 noises at severities 1, 2, 3 and 5, with a mean corruption error of "
        "0.619 against LinearSVC(C=0.1). Hit hardest: LinearSVC(C=0.1), which loses 0.315 accuracy (0.330 on Gaussian)."
    )


def test_robustness_verdicts__praise_no_guesser(robustness: dict[str, Any]) -> None:
    guesser = {"label": "guesser", "clean": 0.1, "scores": {"Gaussian": [0.1] * 3, "SaltAndPepper": [0.1] * 2}}
    robustness["results"].append(guesser)
    assert told(robustness)["Degrades"].subject == "KNeighborsClassifier(n_neighbors=5)"


@pytest.mark.parametrize(("rows", "doubtful"), [(1000, True), (100_000, False), (None, False)])
def test_robustness_verdicts__doubt_a_lead_that_the_rows_cannot_carry(
    robustness: dict[str, Any], rows: int | None, doubtful: bool
) -> None:
    # Mean drops of 0.15 and 0.16; near 0.7, two standard errors on 1,000 rows are 0.041, on 100,000 rows 0.0041.
    second = {"label": "b", "clean": 0.86, "scores": robustness["results"][2]["scores"]}
    robustness["results"].append(second)
    sentence = told(robustness | {"rows": rows})["Degrades"].sentence
    assert ("Its lead over b is smaller than the test rows can tell apart." in sentence) is doubtful


def test_robustness_verdicts__tell_what_denoising_does(robustness: dict[str, Any]) -> None:
    found = told(robustness)["Denoising"]
    assert (found.title, found.figure, found.tone) == ("Denoising helps", "+4.2", "good")
    assert found.subject == "denoising_autoencoder()"
    assert found.sentence == (
        "Raises accuracy on noisy pictures from 0.630 to 0.672 on average, helping all 3: most lenet5() (+5.0 points), "
        "least LinearSVC(C=0.1) (+3.0 points). On clean data denoising hurts all 3: −1.8 points on average, −3.0 for "
        "LinearSVC(C=0.1), which it costs most."
    )


def test_robustness_verdicts__tell_a_denoiser_that_does_harm(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result["denoised"] = {name: [0.1] * len(values) for name, values in result["scores"].items()}
    found = told(robustness)["Denoising"]
    assert (found.title, found.tone) == ("Denoising hurts", "bad")
    assert "Lowers accuracy on noisy pictures from 0.630 to 0.100 on average, helping none of 3." in found.sentence


def test_robustness_verdicts__of_a_denoiser_without_effect(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result |= {"denoised": result["scores"], "denoised_clean": result["clean"]}
    found = told(robustness)["Denoising"]
    assert (found.title, found.figure, found.tone) == ("Denoising changes nothing", "±0.0", "plain")


def test_robustness_verdicts__of_one_method_under_one_noise() -> None:
    noises = [{"name": "Gaussian", "severities": [3]}]
    result = {"label": "a", "clean": 0.8, "scores": {"Gaussian": [0.6]}, "denoised": {"Gaussian": [0.7]}}
    found = told({"noises": noises, "results": [result]})
    assert found["Degrades"].sentence == "Loses 0.200 accuracy on average over 1 noise at severity 3."
    assert found["Denoising"].sentence == (
        "Raises accuracy on noisy pictures from 0.600 to 0.700 on average, better under 1 of 1 noise."
    )
    assert found["Denoising"].subject == "denoiser"


@pytest.mark.parametrize("value", [None, {}, {"noises": 3, "results": [None]}])
def test_robustness_verdicts__of_nothing_are_none(value: Any) -> None:
    assert told(value) == {}
