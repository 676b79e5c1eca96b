"""How many candidates train for how long: the arithmetic of successive halving and of Hyperband, in integers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One step of a bracket."""

    candidates: int
    """Candidates that take part."""
    calls: int
    """Calls of `partial_fit` that each of them has had at the end of the rung, those of earlier rungs included."""


def halving_rungs(candidates: int, least: int, most: int, factor: int) -> list[Rung]:
    """Return the rungs of successive halving.

    Each rung keeps one in `factor` candidates of the rung before, and trains them `factor` times as long; the last one
    has the longest training of at most `most` calls, or a single candidate.
    """
    rungs = [Rung(candidates, least)]
    while rungs[-1].candidates > 1 and least * factor ** len(rungs) <= most:
        kept = max(1, candidates // factor ** len(rungs))
        rungs.append(Rung(kept, least * factor ** len(rungs)))
    return rungs


def hyperband_brackets(most: int, factor: int) -> list[list[Rung]]:
    """Return the rungs of each bracket of Hyperband, the one with the most candidates first.

    Parameters
    ----------
    most : int
        R of the paper: calls of `partial_fit` that a candidate has at most.
    factor : int
        eta of the paper.

    References
    ----------
    L. Li, K. Jamieson, G. DeSalvo, A. Rostamizadeh, A. Talwalkar (2018). Hyperband: A Novel Bandit-Based Approach to
    Hyperparameter Optimization. JMLR 18(185), algorithm 1 and table 1.
    """
    top = 0
    while factor ** (top + 1) <= most:  # the logarithm in integers: floats take log(243, 3) for less than 5
        top += 1
    brackets = []
    for steps in range(top, -1, -1):
        count = -(-(top + 1) * factor**steps // (steps + 1))
        sizes = [Rung(count // factor**i, most // factor ** (steps - i)) for i in range(steps + 1)]
        brackets.append(sizes)
    return brackets
