"""What the robustness curves say, as cards of the headline: who degrades least, and whether denoising helped."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.report import wording
from pipeline.report.denoising import Denoised, denoised, price
from pipeline.report.leaderboard import lower_is_better, mean
from pipeline.report.reading import RunRecord
from pipeline.report.robustness import Robustness, Trial, finite, whole_mean
from pipeline.report.verdict import Verdict, chance_level


def robustness_verdicts(record: RunRecord) -> list[Verdict]:
    """The cards of a run's robustness; empty where it was not measured."""
    robustness = record.robustness
    if robustness is None or lower_is_better(robustness.measure):
        return []
    return _degrades_least(robustness, chance_level(record)) + _denoising(robustness)


def _degrades_least(robustness: Robustness, chance: float | None) -> list[Verdict]:
    """The lowest mean drop, among those measured under every noise that do better than guessing on clean data."""
    floor = 1.2 * chance if chance is not None and robustness.measure == "accuracy" else -math.inf
    able = [trial for trial in robustness.trials if (finite(trial.clean) or 0.0) > floor]
    pairs = sorted(
        (drop, place) for place, trial in enumerate(able) if (drop := robustness.mean_drop(trial)) is not None
    )
    if not pairs:
        return []
    least, best = pairs[0][0], able[pairs[0][1]]
    sentence = f"{_capital(_loses(least, robustness))} on average over {scope(robustness)}"
    if finite(best.mce) is not None and robustness.baseline not in (None, best.label):
        sentence += f", with a mean corruption error of {wording.number(best.mce)} against {robustness.baseline}"
    sentence += "."
    if len(pairs) > 1:
        most, last = pairs[-1][0], able[pairs[-1][1]]
        if not _told_apart(robustness, best, able[pairs[1][1]]):
            sentence += f" Its lead over {able[pairs[1][1]].label} is smaller than the test rows can tell apart."
        sentence += f" Hit hardest: {last.label}, which {_loses(most, robustness)}{_worst(last, robustness)}."
    return [
        Verdict(
            title="Degrades least",
            figure=wording.difference(least, robustness.measure),
            unit=f"{robustness.measure}, mean change",
            subject=best.label,
            sentence=sentence,
        )
    ]


def scope(robustness: Robustness) -> str:
    """How much was tried: "13 noises at severities 1 to 5"."""
    kept = [noise for noise in robustness.noises if noise.name in robustness.compared] or robustness.noises
    places = sorted({severity for noise in kept for severity in noise.severities})
    without_gaps = len(places) > 2 and places[-1] - places[0] == len(places) - 1
    listed = f"{', '.join(f'{place:g}' for place in places[:-1])} and {places[-1]:g}"
    run = f"{places[0]:g} to {places[-1]:g}" if without_gaps else listed
    at = f"severities {run}" if len(places) > 1 else f"severity {places[0]:g}"
    return f"{wording.plural(len(kept), 'noise')} at {at}"


def _loses(drop: float, robustness: Robustness) -> str:
    amount = wording.number(abs(drop), robustness.measure)
    if not amount.strip("0.,"):
        return f"loses no {robustness.measure}"
    return f"{'loses' if drop > 0 else 'gains'} {amount} {robustness.measure}"


def _worst(trial: Trial, robustness: Robustness) -> str:
    drops = {name: drop for name in robustness.compared if (drop := trial.drop(name)) is not None}
    if len(drops) < 2:
        return ""
    name = max(drops, key=lambda name: drops[name])
    return f" ({wording.number(drops[name], robustness.measure)} on {name})" if drops[name] > 0 else ""


def _told_apart(robustness: Robustness, best: Trial, second: Trial) -> bool:
    """Whether two mean drops differ by more than two standard errors, taken as independent; true without row counts.

    The rows are the same for both and under every noise, so this errs on the side of doubt.
    """
    if not robustness.rows or robustness.measure != "accuracy":
        return True
    scores = [whole_mean([trial.mean_score(name) for name in robustness.compared]) for trial in (best, second)]
    variance = sum(score * (1 - score) / robustness.rows for score in scores if score is not None)
    gap = abs((robustness.mean_drop(best) or 0.0) - (robustness.mean_drop(second) or 0.0))
    return gap >= 2 * math.sqrt(max(variance, 0.0))


def _denoising(robustness: Robustness) -> list[Verdict]:
    found = [one for one in denoised(robustness) if one.gain is not None]
    gain = mean(one.gain for one in found)
    if gain is None:
        return []
    change = wording.points(gain)
    title, tone = {"+": ("Denoising helps", "good"), "±": ("Denoising changes nothing", "plain")}.get(
        change[0], ("Denoising hurts", "bad")
    )
    before, after = (
        wording.number(mean(values)) for values in zip(*[(one.before, one.after) for one in found], strict=True)
    )
    verb = {"good": "Raises", "bad": "Lowers"}.get(tone, "Leaves")
    sentence = f"{verb} {robustness.measure} on noisy pictures from {before} to {after} on average{_spread(found)}."
    return [
        Verdict(
            title=title,
            figure=change,
            unit="points, mean change",
            subject=robustness.denoiser or "denoiser",
            sentence=" ".join([sentence, price(found)]).strip(),
            tone=tone,
        )
    ]


def _spread(found: Sequence[Denoised]) -> str:
    """Who gains most, and whom it does not help."""
    if len(found) == 1:
        one = found[0]
        return f", better under {one.helped} of {wording.plural(len(one.effects), 'noise')}"
    gains = {one.label: one.gain or 0.0 for one in found}
    most, least = max(gains, key=lambda label: gains[label]), min(gains, key=lambda label: gains[label])
    helped = [label for label, gain in gains.items() if wording.points(gain).startswith("+")]
    if not helped:
        return f", helping none of {len(gains)}"
    whom = (
        f"helping {wording.everyone(len(gains))}"
        if len(helped) == len(gains)
        else f"helping {len(helped)} of {len(gains)}"
    )
    ends = [f"{label} ({wording.points(gains[label])} points)" for label in (most, least)]
    return f", {whom}: most {ends[0]}, least {ends[1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
