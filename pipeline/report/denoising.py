"""What denoising buys: accuracy on noisy pictures before and after a denoiser, and what it costs on clean ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report import wording
from pipeline.report.charts import Tick, nice_ticks, percent, tick_label
from pipeline.report.leaderboard import mean
from pipeline.report.robustness import Robustness, Trial, finite

CLEAN_ROW = "clean data"


@dataclass(frozen=True)
class Effect:
    """Accuracy before and after the denoiser; means over the severities that have both."""

    name: str
    """The noise, or `CLEAN_ROW`."""
    before: float
    after: float
    pairs: tuple[tuple[float | None, float | None], ...]
    """Before and after by severity of the run; empty on clean data."""

    @property
    def gain(self) -> float:
        """How much better it is after; negative where denoising hurts."""
        return self.after - self.before

    @property
    def tone(self) -> str:
        """ "up", "down" or "level", as the page's tenth of a point shows it."""
        return {"+": "up", "±": "level"}.get(wording.points(self.gain)[0], "down")


@dataclass(frozen=True)
class Denoised:
    """One method or network with and without the denoiser."""

    label: str
    clean: float | None
    on_clean: Effect | None
    effects: tuple[Effect, ...]
    """A noise each, in the run's order."""

    @property
    def before(self) -> float | None:
        """The mean over the noises before denoising."""
        return mean(effect.before for effect in self.effects)

    @property
    def after(self) -> float | None:
        """The mean over the noises after denoising."""
        return mean(effect.after for effect in self.effects)

    @property
    def gain(self) -> float | None:
        """The mean gain over the noises."""
        return mean(effect.gain for effect in self.effects)

    @property
    def helped(self) -> int:
        """Under how many noises it is better after."""
        return sum(effect.tone == "up" for effect in self.effects)


@dataclass(frozen=True)
class DumbbellRow:
    """Two places on the axis and the change between them; `clean` is where clean data lie."""

    effect: Effect
    start: float
    end: float
    clean: float | None


@dataclass(frozen=True)
class Dumbbells:
    """One method or network: a row for clean data and one per noise; every drawing of a run has the same axis."""

    label: str
    ticks: tuple[Tick, ...]
    rows: tuple[DumbbellRow, ...]


def denoised(robustness: Robustness) -> list[Denoised]:
    """Who was tried after a denoiser, largest mean gain first; empty where nobody was."""
    found = [_denoised(trial, robustness) for trial in robustness.trials]
    measured = [one for one in found if one.effects or one.on_clean]
    return sorted(measured, key=lambda one: -(one.gain if one.gain is not None else float("-inf")))


def _denoised(trial: Trial, robustness: Robustness) -> Denoised:
    clean, after = finite(trial.clean), finite(trial.denoised_clean)
    on_clean = Effect(CLEAN_ROW, clean, after, ()) if clean is not None and after is not None else None
    effects = (_effect(trial, name, robustness) for name in trial.denoised)
    return Denoised(trial.label, clean, on_clean, tuple(effect for effect in effects if effect is not None))


def _effect(trial: Trial, name: str, robustness: Robustness) -> Effect | None:
    noise = next(noise for noise in robustness.noises if noise.name == name)
    rows = zip(noise.severities, trial.scores[name], trial.denoised[name], strict=True)
    found = {severity: (before, after) for severity, before, after in rows}
    known = [
        (b, a)
        for before, after in found.values()
        if (b := finite(before)) is not None and (a := finite(after)) is not None
    ]
    before, after = mean(b for b, _ in known), mean(a for _, a in known)
    if before is None or after is None:
        return None
    pairs = tuple(found.get(place, (None, None)) for place in robustness.severities)
    return Effect(name, before, after, pairs)


def dumbbells(found: Sequence[Denoised]) -> list[Dumbbells]:
    """A drawing per method or network."""
    shown = [[*([one.on_clean] if one.on_clean else []), *one.effects] for one in found]
    values = [value for effects in shown for effect in effects for value in (effect.before, effect.after)]
    values += [one.clean for one in found if one.clean is not None]
    if not values:
        return []
    ticks = nice_ticks(min(values), max(values), wanted=4)
    low, high = ticks[0], ticks[-1]
    axis = tuple(Tick(percent(tick, low, high), tick_label(tick, ticks)) for tick in ticks)
    drawn = []
    for one, effects in zip(found, shown, strict=True):
        clean = percent(one.clean, low, high) if one.clean is not None else None
        rows = tuple(
            DumbbellRow(effect, percent(effect.before, low, high), percent(effect.after, low, high), clean)
            for effect in effects
        )
        drawn.append(Dumbbells(label=one.label, ticks=axis, rows=rows))
    return drawn


def price(found: Sequence[Denoised]) -> str:
    """What the denoiser does to clean data, in a sentence; empty where nobody looked."""
    changes = {one.label: one.on_clean for one in found if one.on_clean}
    hurt = {label: effect.gain for label, effect in changes.items() if effect.tone == "down"}
    if not changes:
        return ""
    if not hurt:
        return "On clean data denoising costs nothing."
    if len(changes) == 1:
        return f"On clean data denoising hurts: {wording.points(next(iter(hurt.values())))} points."
    worst = min(hurt, key=lambda label: hurt[label])
    who = wording.everyone(len(hurt)) if len(hurt) == len(changes) else f"{len(hurt)} of {len(changes)}"
    average = wording.points(mean(effect.gain for effect in changes.values()))
    return (
        f"On clean data denoising hurts {who}: {average} points on average, "
        f"{wording.points(hurt[worst])} for {worst}, which it costs most."
    )
