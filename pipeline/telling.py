"""What a run says of itself, in one line each: an error, a result, what a source left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.pipeline import Pipeline


def skipped_note(pipeline: Pipeline) -> str:
    """Say how many samples the source left out because it could not read them."""
    describe = getattr(pipeline.source, "describe", None)
    skipped = (describe() if describe else {}).get("skipped") or []
    return (
        f", {len(skipped):,} unreadable ones skipped: {skipped[0]}{', ...' if skipped[1:] else ''}" if skipped else ""
    )


def one_line(error: BaseException) -> str:
    """Say an error in one line: its type where the text does not speak for itself."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def headline(result: dict[str, Any]) -> str:
    """Say the first score of a result."""
    scores = result.get("scores") or []
    if not scores:
        return ""
    first = scores[0]
    return f"{first['measure']} {first['value']:.4g} on {first['data']}"
