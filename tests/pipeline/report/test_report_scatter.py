"""Views of the data, and the radius that a clustering found."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.knee import knee_curves
from pipeline.report.page import render
from pipeline.report.reading import parse_results, parse_run
from pipeline.report.scatter import TINTS, scatter_view

POINTS = [[0.0, 0.0, 1], [100.0, 25.5, 0], [50.0, 100.0, 1], [3.0, 4.0, -1]]


def result(extra: dict[str, Any], task: str = "view") -> dict[str, Any]:
    score = {"data": "clean", "split": "test", "measure": "trustworthiness", "value": 0.9, "rows": 4, "extra": extra}
    return {"label": "EmbeddingView()", "name": "EmbeddingView", "kind": "method", "task": task, "scores": [score]}


def drawn(extra: dict[str, Any], classes: tuple[str, ...] = ("shirt", "boot")) -> Any:
    return scatter_view(parse_results([result(extra)])[0], classes)


def test_scatter__a_cloud_for_each_class_and_up_is_up() -> None:
    (picture,) = drawn({"points": POINTS}).pictures
    clouds = {cloud.name: cloud for cloud in picture.clouds}
    assert list(clouds) == ["shirt", "boot", "without label"]
    assert clouds["shirt"].path == "M100 74.5h0"
    assert clouds["boot"].path == "M0 100h0M50 0h0"
    assert [cloud.count for cloud in picture.clouds] == [1, 2, 1]
    assert clouds["without label"].tint == TINTS
    assert picture.rows == 4


def test_scatter__more_classes_than_colours() -> None:
    (picture,) = drawn({"points": [[0, 0, code] for code in range(23)]}).pictures
    assert len({(cloud.tint, cloud.square) for cloud in picture.clouds}) == 20
    assert picture.clouds[22].name == "class 22"


@pytest.mark.parametrize(
    "points", [None, "x", [], [[1, 2]], [["a", 1, 2]], [[math.nan, 0, 1]], [[None, 1, 1]]], ids=repr
)
def test_scatter__what_is_no_point_is_not_drawn(points: Any) -> None:
    assert drawn({"points": points}) is None


def test_knee__lies_on_the_curve() -> None:
    curve = [0.5, 1.0, 1.5, 2.0, 8.0]
    extra = {"k_distances": curve, "eps": 2.0, "min_samples": 5}
    ((data, found),) = knee_curves(parse_results([result(extra, "clustering")])[0])
    assert (data, found.measure, found.axis) == ("clean", "distance to neighbour 5", "rows, sorted")
    line, knee = found.lines
    points = [tuple(map(float, point.split(","))) for point in line.pieces[0].split()]
    assert [x for x, _ in points] == [0, 25, 50, 75, 100]
    assert knee.dots == (points[3],)
    heights = [y for _, y in points]
    assert heights == sorted(heights, reverse=True)
    assert "eps = 2" in found.remark and "75 %" in found.remark


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"k_distances": [1.0], "eps": 1.0},
        {"k_distances": [1.0, 2.0]},
        {"k_distances": [2.0, 1.0], "eps": 1.0},
        {"k_distances": ["a", 1.0], "eps": 1.0},
        {"k_distances": [1.0, 2.0], "eps": math.nan},
    ],
    ids=repr,
)
def test_knee__other_results_have_none(extra: dict[str, Any]) -> None:
    assert knee_curves(parse_results([result(extra, "clustering")])[0]) == []


def test_page__shows_both_and_no_winner_among_pictures(images: dict[str, Any]) -> None:
    clustering = result({"k_distances": [0.5, 1.0, 4.0], "eps": 1.0, "min_samples": 5}, "clustering")
    clustering |= {"label": "DBSCAN(eps='auto')", "name": "DBSCAN"}
    images["results"] += [result({"points": POINTS}), clustering]
    html = render([parse_run(images, Path())])
    assert "Views of the data" in html and "How the radius was found" in html
    assert html.count('class="scatter"') == 1
    assert re.search(r'<path class="t1" d="M0 100h0M50 0h0">', html)
    assert "Best in view" not in html
