"""Numbers as a reader meets them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.report import wording


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [
        (0.8532, "accuracy", "0.853"),
        (6.314, "PSNR gain (dB)", "6.31"),
        (-0.25, "", "−0.250"),
        (-0.0001, "", "0.000"),
        (1104.1, "", "1,104.10"),
        (123456.7, "", "123,457"),
        (None, "", "–"),
        (math.nan, "", "NaN"),
        (-math.inf, "", "−∞"),
    ],
)
def test_number__rounds_and_names_what_is_missing(value: float | None, measure: str, text: str) -> None:
    assert wording.number(value, measure) == text


@pytest.mark.parametrize(
    ("drop", "lower", "text"),
    [
        (0.06, False, "−0.060"),
        (-0.004, False, "+0.004"),
        (0.06, True, "+0.060"),
        (0.0, False, "±0.000"),
        (None, False, "–"),
    ],
)
def test_difference__is_the_change_of_the_value(drop: float | None, lower: bool, text: str) -> None:
    assert wording.difference(drop, lower_is_better=lower) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0124, "12 ms"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (61.0, "1 min 1 s"),
        (7320.0, "2 h 2 min"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_duration__takes_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (5_488_000, "5.49 MB"), (999_600_000, "1 GB"), (3 * 10**12, "3 TB")],
)
def test_size__counts_in_thousands(bytes_: int, text: str) -> None:
    assert wording.size(bytes_) == text


def test_moment__is_told_in_utc() -> None:
    time = datetime(2026, 11, 23, 21, 15, tzinfo=timezone(timedelta(hours=1)))
    assert wording.moment(time) == wording.moment(time.astimezone(UTC)) == "2026-11-23 20:15:00 UTC"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (list("abcde"), "a, b, c, d and e"),
        (list("abcdef"), "a, b, c, d and 2 more"),
    ],
)
def test_listing__ends_with_and(names: list[str], text: str) -> None:
    assert wording.listing(names) == text


def test_flatten__joins_keys_with_dots_and_explains_sizes() -> None:
    tree = {
        "duskflow": {"shard-bytes": 33_554_432, "workers": {"cpu": 2}, "noise": [1, 3], "empty": {}},
        "progress": True,
    }
    assert wording.flatten(tree) == [
        ("duskflow.shard-bytes", "33.6 MB (33554432)"),
        ("duskflow.workers.cpu", "2"),
        ("duskflow.noise", "1 and 3"),
        ("duskflow.empty", "–"),
        ("progress", "yes"),
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [(0.1234, "+12.3"), (-0.02, "−2.0"), (0.0004, "±0.0"), (-0.0004, "±0.0"), (None, "–"), (math.nan, "–")],
)
def test_points__are_signed_hundredths(change: float | None, text: str) -> None:
    assert wording.points(change) == text


def test_everyone__of_two_is_both() -> None:
    assert [wording.everyone(amount) for amount in (2, 5)] == ["both", "all 5"]
