"""What the page shows of a run's robustness: curves, corruption errors and what denoising buys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.report import degradation, denoising
from pipeline.report.reading import RunRecord
from pipeline.report.robustness import Robustness
from pipeline.report.robustness_verdict import scope
from pipeline.report.verdict import chance_level


@dataclass(frozen=True)
class DenoisingView:
    """Accuracy with and without the denoiser."""

    found: Sequence[denoising.Denoised]
    drawings: Sequence[denoising.Dumbbells]
    price: str


@dataclass(frozen=True)
class RobustnessView:
    """The robustness part of a run's page; `denoising` is None where no denoiser was tried."""

    robustness: Robustness
    scope: str
    panels: degradation.Panels | None
    errors: degradation.ErrorTable
    scores: Sequence[degradation.ScoreRow]
    denoising: DenoisingView | None


def view_robustness(record: RunRecord) -> RobustnessView | None:
    """All that the page shows; None where nobody asked for it or nothing can be read."""
    robustness = record.robustness
    if robustness is None:
        return None
    found = denoising.denoised(robustness)
    return RobustnessView(
        robustness=robustness,
        scope=scope(robustness),
        panels=degradation.panels(robustness, chance_level(record)),
        errors=degradation.error_table(robustness),
        scores=degradation.score_rows(robustness),
        denoising=DenoisingView(found, denoising.dumbbells(found), denoising.price(found)) if found else None,
    )
