"""What data a classifier is scored on: clean or noisy, as it is or denoised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage.plan import digest
from tasks.noising import noise_recipe

CLEAN = "clean"


@dataclass(frozen=True)
class Variant:
    """The test rows under one noise, or clean."""

    series: str
    """Name of the kind of noise; ``clean``."""
    severity: int
    """0 for clean."""
    noise: Any = None
    path: str | None = None
    """A stored copy with this noise; None: the noise is added to the clean rows when they are read."""


@dataclass(frozen=True)
class Condition:
    """A variant as it is, or after the denoiser."""

    series: str
    severity: int
    denoised: bool
    key: str
    """Under which a score is kept: the same whenever the score would be."""

    def __str__(self) -> str:
        what = self.series if not self.severity else f"{self.series} {self.severity}"
        return f"{what}, denoised" if self.denoised else what


def condition_of(variant: Variant, *, rows: int | None, denoiser: str | None) -> Condition:
    """Name a condition.

    Parameters
    ----------
    variant : Variant
    rows : int or None
        How many rows at most are scored.
    denoiser : str or None
        Fingerprint of the network that removes the noise; None: as it is.
    """
    noise = variant.noise
    key = digest(
        {
            # Clean data and seed are in the fingerprint of what was fitted.
            "noise": None if noise is None else noise_recipe("", noise, 0),
            "rows": rows,
            "denoiser": denoiser,
        }
    )
    return Condition(variant.series, variant.severity, denoiser is not None, key[:16])
