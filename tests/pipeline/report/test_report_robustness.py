"""The record's robustness: read tolerantly, summed up only where nothing is missing, ranked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.reading import parse_run
from pipeline.report.robustness import Robustness, parse_robustness

NOISES = [{"name": "Gaussian", "severities": [1, 2]}]


def parsed(content: dict[str, Any]) -> Robustness:
    found = parse_robustness(content)
    assert found is not None
    return found


def test_parse_robustness__reads_everything(robustness: dict[str, Any]) -> None:
    found = parsed(robustness)
    assert (found.baseline, found.denoiser, found.rows, found.seed) == (
        "LinearSVC(C=0.1)",
        "denoising_autoencoder()",
        1000,
        7,
    )
    assert [noise.name for noise in found.noises] == ["Gaussian", "SaltAndPepper"]
    assert found.severities == (1, 2, 3, 5)
    assert found.trials[1].scores["Gaussian"] == (0.8, 0.6, None)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [],
        "yes",
        3,
        {"noises": NOISES},
        {"results": [{"label": "a"}]},
        {"noises": NOISES, "results": [4, None]},
        {"noises": [{"name": "Gaussian", "severities": []}], "results": [{"label": "a"}]},
    ],
)
def test_parse_robustness__of_nothing_is_none(value: Any) -> None:
    assert parse_robustness(value) is None
    assert parse_run({"robustness": value}, Path()).robustness is None


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"Gaussian": [0.5]}, (0.5, None)),
        ({"Gaussian": [0.5, 0.4, 0.3]}, (0.5, 0.4)),
        ({"Gaussian": ["much", True]}, (None, None)),
        ({"Gaussian": 0.5, "Other": [0.1]}, (None, None)),
        ([0.5, 0.4], (None, None)),
        (None, (None, None)),
    ],
)
def test_parse_robustness__fills_what_does_not_fit(scores: Any, expected: tuple[float | None, ...]) -> None:
    found = parsed({"noises": NOISES, "results": [{"label": "a", "scores": scores, "ce": 3, "denoised": []}]})
    assert found.trials[0].scores == {"Gaussian": expected}
    assert (found.trials[0].ce, found.trials[0].denoised) == ({}, {})


@pytest.mark.parametrize("severities", [["mild", "strong"], [0, 1], [2, 2], [math.nan, 1], [None, {}]])
def test_parse_robustness__counts_severities_that_have_no_place(severities: list[Any]) -> None:
    # {} is unhashable, as JSON can be; it must not matter.
    found = parsed({"noises": [{"name": "Gaussian", "severities": severities}], "results": [{"label": "a"}]})
    assert found.noises[0].severities == (1, 2)


def test_mean_drop__is_the_mean_of_the_noises(robustness: dict[str, Any]) -> None:
    linear, lenet, neighbours = parsed(robustness).trials
    found = parsed(robustness)
    assert neighbours.drop("Gaussian") == pytest.approx(0.15)
    assert linear.drop("Gaussian") == pytest.approx(0.33)
    assert found.mean_drop(linear) == pytest.approx((0.33 + 0.30) / 2)
    assert lenet.drop("Gaussian") is None
    assert found.mean_drop(lenet) is None


def test_mean_drop__leaves_out_a_noise_that_nobody_was_measured_under(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result["scores"]["Gaussian"] = [None, math.nan, 0.5]
    found = parsed(robustness)
    assert found.compared == ["SaltAndPepper"]
    assert found.mean_drop(found.trials[0]) == pytest.approx(0.30)


def test_ranked__puts_the_lowest_corruption_error_first(robustness: dict[str, Any]) -> None:
    order = [trial.label for trial in parsed(robustness).ranked]
    assert order == ["KNeighborsClassifier(n_neighbors=5)", "LinearSVC(C=0.1)", "lenet5()"]


def test_ranked__without_a_baseline_puts_the_smallest_drop_first(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result |= {"ce": None, "mce": None, "relative_mce": None}
    order = [trial.label for trial in parsed(robustness).ranked]
    assert order == ["KNeighborsClassifier(n_neighbors=5)", "LinearSVC(C=0.1)", "lenet5()"]
