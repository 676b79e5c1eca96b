"""How a radius was found: the k-distance curve of a clustering with eps="auto", and its knee."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

from pipeline.report import wording
from pipeline.report.charts import Curves, Line, Tick, nice_ticks, percent, tick_label
from pipeline.report.reading import Result, Score


def knee_curves(result: Result) -> list[tuple[str, Curves]]:
    """A drawing for each dataset whose radius was found; empty for other results."""
    drawn = [(score.data, _curve(score)) for score in result.scores]
    return [(data, curve) for data, curve in drawn if curve is not None]


def _curve(score: Score) -> Curves | None:
    values = _numbers(score.extra.get("k_distances"))
    eps = score.extra.get("eps")
    if len(values) < 2 or not isinstance(eps, (int, float)) or not math.isfinite(eps):
        return None
    ticks = nice_ticks(0.0, max(values[-1], eps), wanted=4)
    last = len(values) - 1
    points = [(round(100 * at / last, 2), _height(value, ticks)) for at, value in enumerate(values)]
    knee = (points[min(bisect_left(values, eps), last)][0], _height(eps, ticks))
    nearest = score.extra.get("min_samples")
    name = f"distance to neighbour {nearest}" if isinstance(nearest, int) else "k-distance"
    curve = " ".join(f"{x:g},{y:g}" for x, y in points)
    return Curves(
        measure=name,
        lines=(
            Line("sorted rows, up to", "train", (curve,), (), wording.number(values[-1])),
            Line("knee", "validation", (), (knee,), wording.number(eps)),
        ),
        x_ticks=tuple(Tick(float(at), f"{at} %") for at in (0, 25, 50, 75, 100)),
        y_ticks=tuple(Tick(_height(tick, ticks), tick_label(tick, ticks)) for tick in ticks),
        remark=f"eps = {wording.number(eps)}, where the curve bends; {round(knee[0])} % of the rows are below.",
        axis="rows, sorted",
    )


def _height(value: float, ticks: list[float]) -> float:
    return round(100 - percent(value, ticks[0], ticks[-1]), 2)


def _numbers(values: Any) -> list[float]:
    """A sorted list of finite numbers, or nothing."""
    if not isinstance(values, list) or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
        return []
    return values if values == sorted(values) else []
