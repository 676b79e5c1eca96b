"""Values out of a ``run.json`` that may be missing or of another type: what does not fit becomes empty or None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def number(value: Any) -> float | None:
    """A float, NaN and infinity included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def count(value: Any) -> int | None:
    """A finite number without its fraction."""
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) else None


def text(value: Any) -> str | None:
    """Text; None for an empty one."""
    return str(value) if value not in (None, "") else None


def time(value: Any) -> datetime | None:
    """A moment with its zone."""
    try:
        moment = datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None
    # A moment without a zone cannot be compared with one that has it; runs record UTC.
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def mapping(value: Any) -> Mapping[str, Any]:
    """A mapping; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """A list or tuple; empty for anything else."""
    return value if isinstance(value, (list, tuple)) else ()


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list."""
    return [entry for entry in sequence(value) if isinstance(entry, Mapping)]
