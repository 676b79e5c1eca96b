"""Shards that an open dataset keeps for gathering samples at any rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from storage.layout import MIB

T = TypeVar("T")

HELD_BYTES = 640 * MIB
"""Shards that are kept, mapped or decoded."""
HELD_MAPS = 1024
"""Memory maps that are kept: Linux allows a process some 65,000."""


class Kept:
    """The least recently used go when there is too much."""

    def __init__(self) -> None:
        self._items: OrderedDict[int, tuple[Any, int]] = OrderedDict()

    def get(self, key: int, load: Callable[[], tuple[T, int]], *, anew: bool = False) -> T:
        """What is kept for a key, or else, or if it has to be read anew, what `load` gives: the value and its bytes."""
        item = self._items.pop(key, None)
        item = load() if item is None or anew else item
        self._items[key] = item
        # Threads share this without a lock: each step is atomic, and what is loaded twice is the same twice.
        while len(self._items) > HELD_MAPS or (
            len(self._items) > 1 and sum(size for _, size in list(self._items.values())) > HELD_BYTES
        ):
            self._items.pop(next(iter(list(self._items))), None)
        value: T = item[0]
        return value
