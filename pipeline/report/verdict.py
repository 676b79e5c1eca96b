"""The headline of a run in plain sentences: what wins, what stands the noise, what failed.

A sentence never claims more than the numbers carry: a lead that the test rows cannot tell apart is called so, and a
method that guesses is not praised for not losing anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.report import wording
from pipeline.report.leaderboard import Board, Standing, boards, has_clean_baseline, lower_is_better
from pipeline.report.reading import CLEAN, RunRecord, Score, Step


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One card of the headline."""

    title: str
    figure: str
    """The number, large."""
    unit: str
    subject: str
    """The method or network it is about."""
    sentence: str
    tone: str = "plain"
    """"plain", "good" or "bad"."""


def verdicts(record: RunRecord) -> list[Verdict]:
    """The cards of a run's headline, most important first; empty where nothing was measured."""
    found: list[Verdict] = []
    for board in boards(record):
        if board.task == "classification":
            found += _winner(board, "Best on clean data", "wins")
            found += _robust(board, chance_level(record))
        elif board.task == "reconstruction":
            found += _denoiser(board)
        elif board.task == "clustering":
            labelled = board.measure in ("ARI", "NMI")
            verb = "comes closest to the true classes" if labelled else "forms the clearest clusters"
            found += _winner(board, "Best clusters", verb)
        elif board.task == "decomposition":
            found += _winner(board, "Best decomposition", "keeps most")
        elif board.task != "view":  # a picture does not win
            found += _winner(board, f"Best in {board.task}", "wins")
    return found + _not_finite(record)


def summary(record: RunRecord) -> str:
    """A run in one line, for the top of the page."""
    parts = []
    board = next((board for board in boards(record) if board.ranked), None)
    if board is not None:
        best = board.ranked[0]
        where = "on clean data" if CLEAN in board.data else "on noisy data"
        parts.append(f"{best.result.label} leads {where}: {board.measure} {wording.number(best.key, board.measure)}.")
    else:
        parts.append("Nothing was measured.")
    if trouble(record):
        parts.append(f"{trouble(record)}.")
    return " ".join(parts)


def trouble(record: RunRecord) -> str:
    """What went wrong, in a few words; empty where nothing did."""
    failed, skipped = with_status(record, "failed"), with_status(record, "skipped")
    parts = [f"{wording.plural(len(failed), 'step')} failed"] if failed else []
    parts += [f"{wording.plural(len(skipped), 'step was', 'steps were')} skipped"] if skipped else []
    if not parts and record.exit_code:
        parts.append(f"The run ended with exit code {record.exit_code}")
    return ", ".join(parts)


def with_status(record: RunRecord, *status: str) -> list[Step]:
    """The steps that ended so."""
    return [step for step in record.steps if step.status in status]


def chance_level(record: RunRecord) -> float | None:
    """The accuracy of always naming the most frequent class; None without labels or with one class only."""
    counts = next((dataset.class_counts for dataset in record.datasets if dataset.name == CLEAN), ())
    if sum(counts) and len(counts) > 1:
        return max(counts) / sum(counts)
    return 1 / len(record.classes) if len(record.classes) > 1 else None


def _winner(board: Board, title: str, verb: str) -> list[Verdict]:
    ranked = board.ranked
    if not ranked:
        return []
    best = ranked[0]
    score = best.scores.get(CLEAN) or next((score for score in best.scores.values() if score), None)
    where = f"{board.measure} {wording.number(best.key, board.measure)}"
    if score is not None and score.rows is not None:
        where += f" on {score.rows:,} {score.split or 'clean'} rows"
    if len(ranked) == 1:
        sentence = f"The only one of its kind in this run: {where}."
    elif best.key == ranked[1].key:
        level = [standing.result.label for standing in ranked[1:] if standing.key == best.key]
        sentence = f"Shares the first place with {wording.listing(level)}: {where}."
    else:
        sentence = f"{_capital(verb)} with {where}, {_lead(board, best, ranked[1])}"
    return [
        Verdict(
            title=title,
            figure=wording.number(best.key, board.measure),
            unit=board.measure,
            subject=best.result.label,
            sentence=sentence,
            tone="good",
        )
    ]


def _lead(board: Board, best: Standing, second: Standing) -> str:
    if best.key is None or second.key is None:
        return f"ahead of {second.result.label}."
    lead = abs(best.key - second.key)
    sentence = f"{wording.number(lead, board.measure)} ahead of {second.result.label}."
    if _within_chance(board.measure, best.scores.get(CLEAN), second.scores.get(CLEAN)):
        sentence += " That lead is smaller than the test rows can tell apart."
    return sentence


def _within_chance(measure: str, best: Score | None, second: Score | None) -> bool:
    """Whether two accuracies lie within two standard errors of their difference, taken as independent."""
    if measure != "accuracy" or best is None or second is None or best.finite is None or second.finite is None:
        return False
    if not best.rows or not second.rows:
        return False
    variance = sum(s.finite * (1 - s.finite) / s.rows for s in (best, second) if s.finite is not None and s.rows)
    return abs(best.finite - second.finite) < 2 * math.sqrt(max(variance, 0.0))


def _robust(board: Board, chance: float | None) -> list[Verdict]:
    """Who loses least to noise, among those measured on every noisy copy that do better than guessing."""
    if not board.noisy:
        return []
    complete = [standing for standing in board.ranked if all(drop is not None for drop in standing.drops.values())]
    floor = 1.2 * chance if chance is not None else -math.inf
    able = [standing for standing in complete if lower_is_better(board.measure) or (standing.key or 0.0) > floor]
    pairs = sorted(((s.mean_drop, index, s) for index, s in enumerate(able) if s.mean_drop is not None))
    if not pairs:
        return []
    least, _, robust = pairs[0]
    most, _, fragile = pairs[-1]
    copies = f"over {wording.plural(len(board.noisy), 'noisy copy', 'noisy copies')}"
    sentence = f"{_capital(_loses(least, board))} on average {copies}."
    if len(pairs) > 1:
        sentence += f" Hit hardest: {fragile.result.label}, which {_loses(most, board)}{_worst(fragile, board)}."
    return [
        Verdict(
            title="Most robust to noise",
            figure=wording.difference(least, board.measure, lower_is_better=lower_is_better(board.measure)),
            unit=f"{board.measure}, mean change",
            subject=robust.result.label,
            sentence=sentence,
        )
    ]


def _loses(drop: float, board: Board) -> str:
    amount = wording.number(abs(drop), board.measure)
    if not amount.strip("0.,"):
        return f"loses no {board.measure}"
    return f"loses {amount} {board.measure}" if drop > 0 else f"gains {amount} {board.measure}"


def _worst(standing: Standing, board: Board) -> str:
    """Which noise hurt most, where there is more than one."""
    drops = {name: drop for name, drop in standing.drops.items() if drop is not None}
    if len(drops) < 2:
        return ""
    name = max(drops, key=lambda name: drops[name])
    return f" ({wording.number(drops[name], board.measure)} on {name})" if drops[name] > 0 else ""


def _denoiser(board: Board) -> list[Verdict]:
    if not board.ranked:
        return []
    best = board.ranked[0]
    measured = {name: score for name in board.noisy if (score := best.scores[name]) is not None}
    values = {name: score.finite for name, score in measured.items() if score.finite is not None}
    if not values or best.key is None:
        return _winner(board, "Best reconstruction", "wins")
    unit = "dB" if "dB" in board.measure else board.measure
    gains = wording.listing(
        [f"{wording.number(value, board.measure)} {unit} on {name}" for name, value in values.items()]
    )
    verb = "Raises the pictures' PSNR by" if "PSNR" in board.measure else "Reaches"
    sign = "+" if best.key > 0 and "gain" in board.measure else ""
    bad = min(values.values()) <= 0 and "gain" in board.measure
    ending = " Where the gain is not above zero, the network did not clean the picture." if bad else ""
    return [
        Verdict(
            title="Best denoiser",
            figure=sign + wording.number(best.key, board.measure),
            unit=f"{board.measure}, mean" if len(values) > 1 else board.measure,
            subject=best.result.label,
            sentence=f"{verb} {gains}.{ending}",
            tone="bad" if bad else "good",
        )
    ]


def _not_finite(record: RunRecord) -> list[Verdict]:
    """Scores that are NaN or infinite: nothing failed, and yet nothing was measured."""
    lost = [
        f"{result.label} on {score.data}"
        for result in record.results
        for score in result.scores
        if score.value is not None and score.finite is None
        if score.data != CLEAN or has_clean_baseline(score.measure)
    ]
    if not lost:
        return []
    return [
        Verdict(
            title="Without a finite value",
            figure=str(len(lost)),
            unit="score" if len(lost) == 1 else "scores",
            subject=wording.listing(lost),
            sentence="Such a value cannot be ranked; often a training diverged or an input was empty.",
            tone="bad",
        )
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
