"""Numbers, times and sizes in words that a person reads.

Every function takes None and answers with a dash, because the report has to show what is missing, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

MISSING = "\N{EN DASH}"
# The minus sign is as wide as plus and digits; a hyphen is not.
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, measure: str = "") -> str:
    """A measured value: three decimals for shares and scores, two for decibels and large numbers."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    digits = 2 if "dB" in measure or abs(value) >= 10 else 3
    if abs(value) >= 10_000:
        digits = 0
    # Rounding may leave -0.000, which would read as a loss.
    text = f"{abs(value):,.{digits}f}"
    return f"{MINUS}{text}" if value < 0 and float(text.replace(",", "")) != 0 else text


def difference(drop: float | None, measure: str = "", *, lower_is_better: bool = False) -> str:
    """A drop as the signed change of the value: a drop of 0.02 in accuracy is "-0.020" with a minus sign."""
    if drop is None or not math.isfinite(drop):
        return MISSING
    change = drop if lower_is_better else -drop
    text = number(change, measure)
    if not text.strip("0.,"):
        return f"±{text}"
    return text if text.startswith(MINUS) else f"+{text}"


def points(change: float | None) -> str:
    """A change of a share in signed percentage points: 0.123 is "+12.3"."""
    if change is None or not math.isfinite(change):
        return MISSING
    text = f"{abs(100 * change):.1f}"
    return f"±{text}" if text == "0.0" else f"{'+' if change > 0 else MINUS}{text}"


def count(value: int | None) -> str:
    """A count with thousands separated."""
    return MISSING if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """A time: milliseconds below a tenth of a second, then seconds, minutes, hours."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def size(bytes_: int | None) -> str:
    """A size in decimal units, as disks are sold and storage is billed."""
    if bytes_ is None:
        return MISSING
    amount = float(bytes_)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"


def moment(time: datetime | None) -> str:
    """A date and time, in UTC so that a report reads the same everywhere."""
    return MISSING if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def plural(amount: int, one: str, many: str | None = None) -> str:
    """ "1 step", "2 steps"."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def everyone(amount: int) -> str:
    """ "both" of two, else "all 5"."""
    return "both" if amount == 2 else f"all {amount}"


def listing(names: Sequence[str], most: int = 4) -> str:
    """ "a", "a and b", "a, b and c", "a, b, c and 5 more"."""
    shown = list(names[:most]) if len(names) > most + 1 else list(names)
    if len(shown) < len(names):
        shown.append(f"{len(names) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def plain(value: Any) -> str:
    """Any JSON value as short text."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return listing([plain(item) for item in value], most=12) or MISSING
    return str(value)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, text) pairs, in its own order."""
    pairs: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            pairs += flatten(value, f"{name}.")
        else:
            text = MISSING if isinstance(value, Mapping) else plain(value)
            is_size = key.endswith("bytes") and isinstance(value, int) and value >= 1000
            pairs.append((name, f"{size(value)} ({text})" if is_size else text))
    return pairs
