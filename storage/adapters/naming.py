"""Which columns of a feed an adapter hands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.feeding.feed import Batches


def column_names(feed: Batches, columns: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Columns that were asked for, checked; None for all that a batch holds.

    Raises
    ------
    TypeError
        If there is no feed.
    ValueError
        If the feed's batches lack one of them.
    """
    check_feed(feed)
    if columns is None:
        return None
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not names or set(names) - set(feed.columns):
        raise ValueError(
            f"expected columns of {list(feed.columns)}, which the feed gives, received {list(names)}; ask "
            "`storage.batches` for more"
        )
    return names


def check_feed(feed: object) -> None:
    """Refuse what is no feed."""
    if not isinstance(feed, Batches):
        raise TypeError(f"expected a feed, which storage.batches(...) gives, received {feed!r:.200}")


def pick(batch: dict[str, Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """Some columns of a batch, in the order of their names; None: all."""
    return batch if names is None else {name: batch[name] for name in names}
