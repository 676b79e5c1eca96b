"""Robustness on the page: the numbers shown, in which order, and nothing where nobody asked."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.page import render
from pipeline.report.reading import parse_run


def rendered(images: dict[str, Any]) -> str:
    return render([parse_run(images, Path())])


def said(page: str) -> str:
    body = page.partition("<body>")[2].replace("<wbr>", "")
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body)))


def rows(page: str, table: str) -> list[list[str]]:
    """The cells of a table's body as text."""
    body = page.partition(f'id="run-1-{table}"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [[said(f"<body>{cell}").strip() for cell in re.split(r"</t[hd]>", row)[:-1]] for row in body.split("</tr>")][
        :-1
    ]


def test_render__shows_corruption_errors_best_first(images: dict[str, Any]) -> None:
    best, baseline, unknown = rows(rendered(images), "robustness-errors")
    assert best == [
        "1",
        "KNeighborsClassifier(n_neighbors=5) method lowest mCE",
        "0.619",
        "0.477",
        "0.850",
        "−0.150",
        "0.60",
        "0.64",
    ]
    assert baseline[1:] == ["LinearSVC(C=0.1) method baseline", "1.000", "1.000", "0.830", "−0.315", "1.00", "1.00"]
    assert unknown == ["–", "lenet5() network", "–", "–", "0.890", "–", "–", "0.74"]


def test_render__shows_every_value(images: dict[str, Any]) -> None:
    page = rendered(images)
    first = rows(page, "robustness-scores")[0]
    name = "KNeighborsClassifier(n_neighbors=5)"
    assert first == [name, "Gaussian", "0.850", "0.800", "–", "0.700", "0.600", "0.700", "−0.150"]
    first = rows(page, "denoising-effects")[0]
    pairs = ["0.800 → 0.820", "–", "0.600 → 0.700", "– → 0.500"]
    assert first == ["lenet5()", "Gaussian", "0.890", "0.700", "0.760", "+6.0", *pairs]
    last = rows(page, "denoising-gains")[-1]
    assert last == ["LinearSVC(C=0.1)", "0.830", "0.800", "−3.0", "0.515", "0.545", "+3.0", "1 of 2 noises"]


def test_render__explains_in_words(images: dict[str, Any]) -> None:
    words = said(rendered(images))
    assert "2 noises at severities 1, 2, 3 and 5, measured on 1,000 test rows with seed 7" in words
    assert "A corruption error (CE) is the share of wrong answers under a noise, summed over its severities" in words
    assert "On clean data denoising hurts all 3: −1.8 points on average" in words
    assert "Hendrycks and Dietterich 2019" in words


@pytest.mark.parametrize("value", [None, {}, [], "no", {"noises": [{}], "results": [{}]}, {"noises": 1, "results": 2}])
def test_render__without_robustness_is_silent(images: dict[str, Any], value: Any) -> None:
    images["robustness"] = value
    page = rendered(images)
    assert 'id="run-1-robustness"' not in page
    assert "Robustness" not in said(page)
    assert "Degrades least" not in said(page)


def test_render__without_denoiser_and_baseline(images: dict[str, Any]) -> None:
    images["robustness"] |= {"denoiser": None, "baseline": None}
    for result in images["robustness"]["results"]:
        result |= {"denoised": None, "denoised_clean": None, "ce": None, "mce": None, "relative_mce": None}
    page = rendered(images)
    assert "What denoising buys" not in page
    assert "There is no baseline, so there are no corruption errors." in said(page)
    assert rows(page, "robustness-errors")[0][2:] == ["0.850", "−0.150", "0.700", "0.700"]


def test_render__of_a_baseline_that_failed_and_a_noise_that_was_left_out(images: dict[str, Any]) -> None:
    robustness = images["robustness"]
    robustness |= {"notes": ["Fog is left out: <fog-3> failed"], "results": robustness["results"][1:]}
    for result in robustness["results"]:
        result |= {"ce": None, "mce": None, "relative_mce": None}
    words = said(rendered(images))
    assert "Fog is left out: <fog-3> failed" in words
    assert "The baseline LinearSVC(C=0.1) left no errors to compare with, so there are no corruption errors." in words


def test_render__of_values_that_are_no_numbers(images: dict[str, Any]) -> None:
    for result in images["robustness"]["results"]:
        result |= {"clean": math.nan, "mce": math.inf, "relative_mce": "x", "denoised_clean": math.nan}
        result["scores"] = {"Gaussian": [math.nan, None, -math.inf]}
        result["denoised"] = {"Gaussian": [math.nan, None, 0.5]}
        result["ce"] = {"Gaussian": math.nan}
    page = rendered(images)
    assert "No accuracy was measured." in said(page)
    assert 'NaN"' not in page
    assert "nan%" not in page


def test_render__escapes_labels_and_noises(images: dict[str, Any]) -> None:
    bad = "\"><script>alert('x')</script>"
    robustness = images["robustness"]
    robustness |= {"denoiser": bad, "baseline": bad, "split": bad}
    robustness["noises"][0] |= {"name": bad, "written": [bad] * 3}
    for result in robustness["results"]:
        result |= {"label": bad, "kind": bad, "measure": bad}
        for key in ("scores", "denoised", "ce"):
            result[key][bad] = result[key].pop("Gaussian")
    page = rendered(images)
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert said(page).count(bad) > 20
