"""The numbers of robustness curves: as they stand in ``run.json``, and as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from tasks.robustness import Condition

COLUMNS = ("label", "kind", "noise", "severity", "accuracy", "denoised")


def curve_entry(label: str, kind: str, conditions: Sequence[Condition], scores: Mapping[str, Any]) -> dict[str, Any]:
    """The accuracies of one classifier.

    Parameters
    ----------
    label, kind : str
    conditions : sequence of Condition
        Clean first; each noise from its least severity to its largest.
    scores : mapping of str to dict
        By a condition's key, ``{"accuracy": ...}``.
    """
    curves: dict[bool, dict[str, list[float]]] = {False: {}, True: {}}
    clean: dict[bool, float | None] = {False: None, True: None}
    for condition in conditions:
        value = scores[condition.key]["accuracy"]
        if condition.severity:
            curves[condition.denoised].setdefault(condition.series, []).append(value)
        else:
            clean[condition.denoised] = value
    return {
        "label": label,
        "kind": kind,
        "measure": "accuracy",
        "clean": clean[False],
        "scores": curves[False],
        "denoised_clean": clean[True],
        "denoised": curves[True] or None,
        "ce": None,
        "mce": None,
        "relative_mce": None,
    }


def add_errors(entries: Sequence[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Compare every classifier with the baseline; without the baseline's numbers the errors stay None."""
    from tasks.robustness import corruption_errors

    base = next((entry for entry in entries if entry["label"] == baseline), None)
    if base is None:
        return list(entries)
    done = []
    for entry in entries:
        errors = corruption_errors(entry["clean"], entry["scores"], base["clean"], base["scores"])
        done.append({**entry, **errors._asdict()})
    return done


def curve_table(document: Mapping[str, Any] | None) -> pandas.DataFrame:
    """A row for each accuracy; severity 0 is clean data, whose noise is None."""
    import pandas

    rows: list[tuple[Any, ...]] = []
    severities = {entry["name"]: entry["severities"] for entry in (document or {}).get("noises", [])}
    for entry in (document or {}).get("results", []):
        for denoised in (False, True):
            clean = entry["denoised_clean" if denoised else "clean"]
            if clean is not None:
                rows.append((entry["label"], entry["kind"], None, 0, clean, denoised))
            for name, values in (entry["denoised" if denoised else "scores"] or {}).items():
                pairs = zip(severities[name], values, strict=True)
                rows += [(entry["label"], entry["kind"], name, severity, value, denoised) for severity, value in pairs]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def error_table(document: Mapping[str, Any] | None) -> pandas.DataFrame:
    """A row for each classifier, the most robust first: mCE, relative mCE and the corruption error of each noise."""
    import pandas

    names = [entry["name"] for entry in (document or {}).get("noises", [])]
    rows = [
        [entry["label"], entry["mce"], entry["relative_mce"], *((entry["ce"] or {}).get(name) for name in names)]
        for entry in (document or {}).get("results", [])
    ]
    table = pandas.DataFrame(rows, columns=["label", "mCE", "relative mCE", *names])
    return table.sort_values("mCE", na_position="last", kind="stable", ignore_index=True)
