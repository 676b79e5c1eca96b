"""Where things lie in the drawings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report import charts
from pipeline.report.leaderboard import boards
from pipeline.report.reading import Result, parse_run


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6), wanted=st.integers(3, 10))
def test_nice_ticks__cover_at_round_steps(low: float, span: float, wanted: int) -> None:
    ticks = charts.nice_ticks(low, low + span, wanted)
    step = ticks[1] - ticks[0]
    slack = 1e-6 * (abs(low) + span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert ticks[0] > low - step - slack
    assert ticks[-1] < low + span + step + slack
    assert 2 <= len(ticks) <= 2 * wanted + 1


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [2.6, 2.8, 3.0, 3.2, 3.4])]
)
def test_nice_ticks__known_axes(low: float, high: float, ticks: list[float]) -> None:
    assert charts.nice_ticks(low, high, 6 if high == 1 else 5) == pytest.approx(ticks)


def test_nice_ticks__refuse_what_is_no_range() -> None:
    with pytest.raises(ValueError, match="expected finite low <= high, received nan"):
        charts.nice_ticks(math.nan, 1)


@pytest.mark.parametrize(
    ("ticks", "label"), [([0.0, 0.2], "0.2"), ([0.0, 0.05], "0.05"), ([0.0, 50.0], "50"), ([-1.0, -0.5], "−0.5")]
)
def test_tick_label__has_the_decimals_of_the_step(ticks: list[float], label: str) -> None:
    assert charts.tick_label(ticks[1], ticks) == label


def test_dot_plot__places_values_on_the_axis(images: dict[str, Any]) -> None:
    board = boards(parse_run(images, Path()))[0]
    plot = charts.dot_plot(board, charts.signs(board.data), chance=0.1)
    assert plot is not None
    assert (plot.ticks[0].label, plot.ticks[-1].label) == ("0.0", "1.0")
    assert plot.chance == charts.Tick(at=10.0, label="0.100")
    row = plot.rows[0]
    places = {mark.sign.name: mark.at for mark in row.marks}
    values = {score.data: score.value for score in board.standings[0].result.scores}
    assert places == pytest.approx({name: 100 * value for name, value in values.items() if value is not None})
    assert (row.start, row.end) == (min(places.values()), max(places.values()))


def test_dot_plot__needs_two_datasets(texts: dict[str, Any]) -> None:
    for result in texts["results"]:
        result["scores"] = result["scores"][:1]
    board = boards(parse_run(texts, Path()))[0]
    assert charts.dot_plot(board, charts.signs(board.data)) is None


def test_signs__keep_the_first_for_clean_and_differ() -> None:
    found = charts.signs([f"noise-{index}" for index in range(41)])
    assert found["clean"] == charts.Sign("clean", 0, "disc")
    assert len({(sign.colour, sign.shape) for sign in found.values()}) == 42


def curves(**history: list[float | None]) -> list[charts.Curves]:
    values = {name: tuple(values) for name, values in history.items()}
    return charts.learning_curves(Result(label="a", name="a", kind="network", task="classification", history=values))


def test_learning_curves__draw_training_and_validation() -> None:
    loss, accuracy = curves(accuracy=[0.5, 1.0], loss=[2.0, 1.0, 0.0], val_loss=[2.0, 0.5, 1.0])
    assert (loss.measure, accuracy.measure) == ("loss", "accuracy")
    assert [line.name for line in loss.lines] == ["training", "validation"]
    assert loss.lines[0].pieces == ("0,0 50,50 100,100",)
    assert loss.remark == "Best validation loss 0.500 in epoch 2 of 3."
    assert accuracy.remark == "Best training accuracy 1.000 in epoch 2 of 2."


def test_learning_curves__break_where_a_value_is_missing() -> None:
    (loss,) = curves(loss=[4.0, 3.0, math.nan, 2.0, None, 1.0, 0.0])
    assert len(loss.lines[0].pieces) == 2
    assert loss.lines[0].dots == ((50.0, 50.0),)
    assert "diverged" in loss.remark


def test_learning_curves__of_one_epoch_are_a_dot() -> None:
    (loss,) = curves(loss=[0.3])
    assert loss.lines[0].pieces == ()
    assert len(loss.lines[0].dots) == 1
    assert [tick.label for tick in loss.x_ticks] == ["1"]


def test_learning_curves__of_nothing_finite_are_left_out() -> None:
    assert curves(loss=[math.nan, None], val_loss=[]) == []
    assert curves() == []


@pytest.mark.parametrize(
    ("epochs", "ticks"), [(1, [1]), (2, [1, 2]), (12, [1, 5, 10, 12]), (100, [1, 20, 40, 60, 80, 100])]
)
def test_epoch_ticks__name_the_first_and_the_last(epochs: int, ticks: list[int]) -> None:
    assert charts.epoch_ticks(epochs) == ticks


def test_timeline__lies_between_the_first_start_and_the_last_end(images: dict[str, Any]) -> None:
    steps = parse_run(images, Path()).steps
    bars = charts.timeline(steps)
    assert charts.has_starts(steps)
    # The run's steps begin at second 1 and end with the autoencoder at 31.7 + 24.2 = 55.9.
    first, autoencoder = bars[0], bars[9]
    assert first is not None
    assert autoencoder is not None
    assert first.start == 0
    assert first.width == pytest.approx(100 * 2.1 / 54.9, abs=0.01)
    assert autoencoder.start + autoencoder.width == pytest.approx(100, abs=0.01)
    assert bars[11] is None, "a skipped step took no time"


def test_timeline__without_starts_shows_lengths(images: dict[str, Any]) -> None:
    for step in images["steps"]:
        step["started"] = None
    steps = parse_run(images, Path()).steps
    bars = [bar for bar in charts.timeline(steps) if bar is not None]
    assert not charts.has_starts(steps)
    assert {bar.start for bar in bars} == {0.0}
    assert max(bar.width for bar in bars) == 100
