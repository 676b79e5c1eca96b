"""What denoising buys: pairs before and after, gains, and the price on clean data."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.report.denoising import denoised, dumbbells, price
from pipeline.report.robustness import Robustness, parse_robustness


def parsed(content: dict[str, Any]) -> Robustness:
    found = parse_robustness(content)
    assert found is not None
    return found


def test_denoised__compares_what_has_both_values(robustness: dict[str, Any]) -> None:
    lenet, neighbours, linear = denoised(parsed(robustness))
    assert [one.label for one in (lenet, neighbours, linear)] == [
        "lenet5()",
        "KNeighborsClassifier(n_neighbors=5)",
        "LinearSVC(C=0.1)",
    ]
    # Severity 5 has no value before denoising, so its value after it does not count.
    assert (lenet.effects[0].before, lenet.effects[0].after) == pytest.approx((0.7, 0.76))
    assert lenet.effects[0].pairs == ((0.8, 0.82), (None, None), (0.6, 0.7), (None, 0.5))
    assert neighbours.gain == pytest.approx(0.045)
    assert (linear.before, linear.after) == pytest.approx((0.515, 0.545))
    assert [effect.tone for effect in linear.effects] == ["up", "down"]
    assert linear.helped == 1
    assert linear.on_clean is not None
    assert linear.on_clean.gain == pytest.approx(-0.03)


def test_denoised__is_empty_without_a_denoiser(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result |= {"denoised": None, "denoised_clean": None}
    assert denoised(parsed(robustness)) == []


def test_denoised__keeps_who_was_tried_on_clean_data_only(robustness: dict[str, Any]) -> None:
    robustness["results"][0]["denoised"] = None
    last = denoised(parsed(robustness))[-1]
    assert (last.label, last.gain, last.helped) == ("LinearSVC(C=0.1)", None, 0)


def test_dumbbells__share_an_axis_and_start_with_clean_data(robustness: dict[str, Any]) -> None:
    drawn = dumbbells(denoised(parsed(robustness)))
    assert len({drawing.ticks for drawing in drawn}) == 1
    assert [row.effect.name for row in drawn[0].rows] == ["clean data", "Gaussian", "SaltAndPepper"]
    # From 0.83 to 0.80 on an axis from 0.4 to 1.0.
    assert (drawn[2].rows[0].start, drawn[2].rows[0].end) == (71.67, 66.67)
    assert drawn[2].rows[1].clean == 71.67
    assert dumbbells([]) == []


def test_price__says_whom_it_hurts_and_how_much(robustness: dict[str, Any]) -> None:
    found = denoised(parsed(robustness))
    assert price(found) == (
        "On clean data denoising hurts all 3: −1.8 points on average, −3.0 for LinearSVC(C=0.1), which it costs most."
    )
    assert price(found[-1:]) == "On clean data denoising hurts: −3.0 points."
    robustness["results"][2]["denoised_clean"] = 0.86
    assert price(denoised(parsed(robustness))).startswith("On clean data denoising hurts 2 of 3: −0.8 points")
    for result in robustness["results"]:
        result["denoised_clean"] = result["clean"]
    assert price(denoised(parsed(robustness))) == "On clean data denoising costs nothing."
    assert price([]) == ""
