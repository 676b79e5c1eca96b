"""Robustness: how accuracy falls with the severity of a noise, and how much of it a denoiser brings back."""

from __future__ import annotations

from tasks.robustness.conditions import Condition, Variant
from tasks.robustness.errors import corruption_errors
from tasks.robustness.scoring import Measure, measure
from tasks.robustness.subjects import MethodSubject, NetworkSubject, Subject

__all__ = [
    "Condition",
    "Measure",
    "MethodSubject",
    "NetworkSubject",
    "Subject",
    "Variant",
    "corruption_errors",
    "measure",
]
