"""Small multiples and the table of corruption errors."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.report.degradation import error_table, panels, score_rows
from pipeline.report.robustness import Robustness, parse_robustness


def parsed(content: dict[str, Any]) -> Robustness:
    found = parse_robustness(content)
    assert found is not None
    return found


def many(noises: int, methods: int, severities: list[int]) -> Robustness:
    names = [f"Noise{place}" for place in range(noises)]
    scores = {name: [0.8 - 0.1 * place for place in range(len(severities))] for name in names}
    results = [{"label": f"method{place}", "clean": 0.9, "scores": scores} for place in range(methods)]
    return parsed({"noises": [{"name": name, "severities": severities} for name in names], "results": results})


def test_panels__place_values_between_the_ticks(robustness: dict[str, Any]) -> None:
    drawn = panels(parsed(robustness), 0.1)
    assert drawn is not None
    # From 0.1 (guessing) to 0.89: the axis is 0 to 1, severity 0 to 5.
    assert [tick.label for tick in drawn.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert drawn.chance is not None
    assert (drawn.chance.at, drawn.chance.label) == (90.0, "0.100")
    gaussian = drawn.panels[0]
    neighbours = gaussian.series[0]
    assert neighbours.sign.name == "KNeighborsClassifier(n_neighbors=5)"
    assert neighbours.pieces == ("0,15 20,20 60,30 100,40",)
    assert [text.rpartition(", ")[2] for _, _, text in neighbours.marks] == [
        "clean: 0.850",
        "Gaussian(severity=1): 0.800",
        "Gaussian(severity=3): 0.700",
        "Gaussian(severity=5): 0.600",
    ]
    assert "LinearSVC(C=0.1) 0.830 to 0.300" in gaussian.text


def test_panels__list_the_legend_in_the_order_of_the_table(robustness: dict[str, Any]) -> None:
    found = parsed(robustness)
    drawn = panels(found, None)
    assert drawn is not None
    assert [sign.name for sign, _ in drawn.legend] == [row.trial.label for row in error_table(found).rows]
    assert drawn.chance is None


def test_panels__give_a_method_one_sign_in_all(robustness: dict[str, Any]) -> None:
    drawn = panels(parsed(robustness), 0.1)
    assert drawn is not None
    for panel in drawn.panels:
        assert {(series.sign, series.dash) for series in panel.series} == set(drawn.legend)


def test_panels__tell_eight_methods_and_more_apart() -> None:
    drawn = panels(many(21, 20, [1, 2, 3, 4, 5]), 0.1)
    assert drawn is not None
    assert len(drawn.panels) == 21
    assert len({(sign.colour, sign.shape) for sign, _ in drawn.legend}) == 20
    assert len({(sign.colour, dash) for sign, dash in drawn.legend[:18]}) == 18


def test_panels__cut_a_curve_where_a_value_is_missing(robustness: dict[str, Any]) -> None:
    robustness["results"][0]["scores"]["Gaussian"] = [None, 0.5, math.nan]
    drawn = panels(parsed(robustness), 0.1)
    assert drawn is not None
    linear = next(series for series in drawn.panels[0].series if series.sign.name == "LinearSVC(C=0.1)")
    assert linear.pieces == ()
    assert [(x, y) for x, y, _ in linear.marks] == [(0.0, 17.0), (60.0, 50.0)]


@pytest.mark.parametrize(
    ("severities", "labels"),
    [
        ([3], ["clean", "3"]),
        ([5, 1], ["clean", "1", "5"]),
        (list(range(1, 11)), ["clean", "2", "4", "6", "8", "10"]),
    ],
)
def test_panels__label_severities_that_have_room(severities: list[int], labels: list[str]) -> None:
    drawn = panels(many(1, 1, severities), None)
    assert drawn is not None
    assert [tick.label for tick in drawn.x_ticks] == labels


def test_panels__of_no_value_are_none(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result |= {"clean": None, "scores": {"Gaussian": [None, math.nan, "x"]}}
    assert panels(parsed(robustness), 0.1) is None


def test_error_table__ranks_marks_and_tints(robustness: dict[str, Any]) -> None:
    table = error_table(parsed(robustness))
    assert table.has_errors
    neighbours, linear, lenet = table.rows
    assert (neighbours.place, neighbours.best, neighbours.baseline) == (1, True, False)
    assert (linear.place, linear.best, linear.baseline) == (2, False, True)
    assert (lenet.place, lenet.best, lenet.mean_drop) == (None, False, None)
    assert [(cell.value, cell.tone, cell.level, cell.best) for cell in neighbours.cells] == [
        (0.6, "less", 4, True),
        (0.638298, "less", 4, True),
    ]
    assert [cell.tone for cell in linear.cells] == ["", ""]
    assert lenet.cells[0].value is None


def test_error_table__without_a_baseline_shows_mean_values(robustness: dict[str, Any]) -> None:
    robustness["baseline"] = None
    for result in robustness["results"]:
        result |= {"ce": None, "mce": None, "relative_mce": None}
    table = error_table(parsed(robustness))
    assert not table.has_errors
    assert [cell.value for cell in table.rows[0].cells] == pytest.approx([0.7, 0.7])
    assert [row.best for row in table.rows] == [True, False, False]
    assert not any(row.baseline for row in table.rows)


def test_error_table__without_any_mean_keeps_the_errors_there_are(robustness: dict[str, Any]) -> None:
    for result in robustness["results"]:
        result |= {"mce": None, "relative_mce": None}
        result["ce"]["Gaussian"] = None
    table = error_table(parsed(robustness))
    assert (table.has_errors, table.by_mce) == (True, False)
    assert [row.place for row in table.rows] == [1, 2, None]
    assert [table.rows[0].best, table.rows[0].cells[1].value] == [True, 0.638298]


def test_error_table__of_one_method_has_no_best() -> None:
    table = error_table(many(1, 1, [3]))
    assert not table.rows[0].best
    assert not table.rows[0].cells[0].best


def test_score_rows__have_a_place_for_every_severity_of_the_run(robustness: dict[str, Any]) -> None:
    rows = score_rows(parsed(robustness))
    assert len(rows) == 6
    first = rows[0]
    assert (first.noise, first.scores) == ("Gaussian", (0.8, None, 0.7, 0.6))
    assert first.mean == pytest.approx(0.7)
    assert first.drop == pytest.approx(0.15)
