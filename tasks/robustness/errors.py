"""Corruption errors: how much worse than a baseline a classifier gets under noise.

References
----------
Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common corruptions and perturbations" (ICLR),
Sec. 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class CorruptionErrors(NamedTuple):
    """Shares of the baseline's errors: 1.0 is as bad as the baseline."""

    ce: dict[str, float | None]
    """Corruption error of each noise: errors over those of the baseline, both summed over the severities."""
    mce: float | None
    """Mean of `ce` over the noises."""
    relative_mce: float | None
    """The same with each error less that on clean data, so that it tells robustness apart from accuracy."""


def corruption_errors(
    clean: float,
    scores: Mapping[str, Sequence[float]],
    baseline_clean: float,
    baseline_scores: Mapping[str, Sequence[float]],
) -> CorruptionErrors:
    """Compare the errors of a classifier with those of a baseline.

    Parameters
    ----------
    clean, baseline_clean : float
        Accuracies on clean data.
    scores, baseline_scores : mapping of str to sequence of float
        By noise, the accuracy at each severity; the same noises and severities in both.

    Returns
    -------
    CorruptionErrors
        None where the baseline's errors sum to zero, and in a mean over such.
    """
    ce: dict[str, float | None] = {}
    relative: dict[str, float | None] = {}
    for name, values in scores.items():
        theirs = baseline_scores[name]
        ce[name] = _ratio(_sum(values, 1.0), _sum(theirs, 1.0))
        relative[name] = _ratio(_sum(values, clean), _sum(theirs, baseline_clean))
    return CorruptionErrors(ce, _mean(ce), _mean(relative))


def _sum(scores: Sequence[float], best: float) -> float:
    return sum(best - score for score in scores)


def _ratio(value: float, base: float) -> float | None:
    # Accuracies are quotients of whole numbers: a difference this small is rounding.
    return value / base if abs(base) > 1e-12 else None


def _mean(values: Mapping[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
