"""How accuracy falls with the severity of a noise: the record's ``robustness``, read tolerantly.

A run that was not asked has none. A value that is missing stays None, so that curves have gaps and not wrong points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.report.tolerant import count, mapping, mappings, number, sequence, text


@dataclass(frozen=True, kw_only=True)
class Noise:
    """One kind of noise and the severities it was tried at."""

    name: str
    severities: tuple[float, ...]
    """From mild to strong, above 0; 0 stands for clean data."""
    written: tuple[str, ...]
    """The noise at each severity, as code."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method or network on clean data and under every noise."""

    label: str
    kind: str
    measure: str
    clean: float | None
    scores: Mapping[str, tuple[float | None, ...]]
    """By noise, a value per severity."""
    denoised_clean: float | None = None
    denoised: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    """The same after a denoiser; empty where there was none."""
    ce: Mapping[str, float | None] = field(default_factory=dict)
    """Corruption errors: the errors under a noise over the baseline's, summed over the severities."""
    mce: float | None = None
    relative_mce: float | None = None

    def mean_score(self, noise: str) -> float | None:
        """The mean over a noise's severities; None unless every one was measured."""
        return whole_mean(self.scores[noise])

    def drop(self, noise: str) -> float | None:
        """How much worse than on clean data, on average over a noise's severities."""
        clean, score = finite(self.clean), self.mean_score(noise)
        return clean - score if clean is not None and score is not None else None


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """All that was measured of a run's robustness."""

    baseline: str | None
    denoiser: str | None
    split: str
    rows: int | None
    seed: int | None
    noises: tuple[Noise, ...]
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    @property
    def measure(self) -> str:
        """What the values are; one run has one."""
        return self.trials[0].measure

    @property
    def severities(self) -> tuple[float, ...]:
        """Every severity of any noise, mild ones first."""
        return tuple(sorted({severity for noise in self.noises for severity in noise.severities}))

    @property
    def compared(self) -> list[str]:
        """The noises that somebody was measured under at every severity."""
        return [n.name for n in self.noises if any(trial.mean_score(n.name) is not None for trial in self.trials)]

    def mean_drop(self, trial: Trial) -> float | None:
        """The mean of a trial's drops; None where it misses one that others have, because noises differ in strength."""
        return whole_mean([trial.drop(noise) for noise in self.compared])

    @property
    def ranked(self) -> list[Trial]:
        """Lowest mean corruption error first or, without a baseline, lowest mean drop; what has neither comes last."""
        return sorted(self.trials, key=lambda trial: (_last(trial.mce), _last(self.mean_drop(trial))))


def finite(value: float | None) -> float | None:
    """The value where it can be drawn and ranked; None for a missing value, NaN or infinity."""
    return value if value is not None and math.isfinite(value) else None


def whole_mean(values: Iterable[float | None]) -> float | None:
    """The mean; None where a value is missing, because the mean of the rest would compare with nothing."""
    found = [finite(value) for value in values]
    present = [value for value in found if value is not None]
    return math.fsum(present) / len(present) if present and len(present) == len(found) else None


def _last(value: float | None) -> float:
    known = finite(value)
    return math.inf if known is None else known


def parse_robustness(value: Any) -> Robustness | None:
    """Turn the ``robustness`` of a ``run.json`` into a record; None where it says nothing."""
    content = mapping(value)
    noises = _noises(content.get("noises"))
    trials = tuple(_trial(entry, noises) for entry in mappings(content.get("results")))
    if not noises or not trials:
        return None
    return Robustness(
        baseline=text(content.get("baseline")),
        denoiser=text(content.get("denoiser")),
        split=str(content.get("split") or ""),
        rows=count(content.get("rows")),
        seed=count(content.get("seed")),
        noises=noises,
        trials=trials,
        notes=tuple(str(note) for note in sequence(content.get("notes")) if note),
    )


def _noises(value: Any) -> tuple[Noise, ...]:
    found: dict[str, Noise] = {}
    for entry in mappings(value):
        name = str(entry.get("name") or "unnamed")
        severities = [number(severity) for severity in sequence(entry.get("severities"))]
        # A place on the axis for every value, even where the severities themselves cannot be read.
        known = [severity for severity in severities if finite(severity) is not None and (severity or 0) > 0]
        places = known if len(known) == len(set(severities)) else range(1, len(severities) + 1)
        written = [str(code) for code in sequence(entry.get("written"))][: len(severities)]
        written += [""] * (len(severities) - len(written))
        if severities:
            noise = Noise(name=name, severities=tuple(float(at or 0) for at in places), written=tuple(written))
            found.setdefault(name, noise)
    return tuple(found.values())


def _trial(entry: Mapping[str, Any], noises: tuple[Noise, ...]) -> Trial:
    ce = mapping(entry.get("ce"))
    denoised = entry.get("denoised")
    return Trial(
        label=str(entry.get("label") or "unnamed"),
        kind=str(entry.get("kind") or "method"),
        measure=str(entry.get("measure") or "accuracy"),
        clean=number(entry.get("clean")),
        scores=_scores(entry.get("scores"), noises),
        denoised_clean=number(entry.get("denoised_clean")),
        denoised=_scores(denoised, noises) if isinstance(denoised, Mapping) else {},
        ce={noise.name: number(ce.get(noise.name)) for noise in noises} if ce else {},
        mce=number(entry.get("mce")),
        relative_mce=number(entry.get("relative_mce")),
    )


def _scores(value: Any, noises: tuple[Noise, ...]) -> dict[str, tuple[float | None, ...]]:
    """A value per noise and severity: what is not there is None, what is too much is left out."""
    found = mapping(value)
    table = {}
    for noise in noises:
        values = [number(score) for score in sequence(found.get(noise.name))][: len(noise.severities)]
        table[noise.name] = (*values, *[None] * (len(noise.severities) - len(values)))
    return table
