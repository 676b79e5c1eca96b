"""Whoever iterates anew for every epoch, and may take batches ahead or stop early: which epoch an iteration reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from storage.feeding.batches import Batches
from storage.feeding.running import Batch

Place = tuple[int, int]


class Passes:
    """Iterations over a feed, each over one epoch, or over what is left of the one where the feed stands.

    After an iteration to its end comes the next epoch. One that was given up is begun again by the next: frameworks look
    at a first batch to learn its shape, and threads of theirs take batches that nobody trains on. Where the feed is moved
    by its owner, the next iteration begins.

    Parameters
    ----------
    feed : Batches
    most : int, optional
        Batches of an iteration after which nobody asks for more.
    """

    def __init__(self, feed: Batches, most: int | None = None) -> None:
        self.feed = feed
        self._most = most
        self._lock = threading.Lock()
        self._start = self._left = feed.epoch, feed.step
        self._current: Pass | None = None
        self._done = False

    @property
    def current(self) -> Pass | None:
        """The iteration that took the feed to where it is; None if nobody iterated, or the feed was moved."""
        return self._current if (self.feed.epoch, self.feed.step) == self._left else None

    @property
    def start(self) -> Place:
        """Epoch and step where the next iteration begins."""
        place = self.feed.epoch, self.feed.step
        if place != self._left:
            return place
        return (self._start[0] + 1, 0) if self._done else self._start

    def move(self, epoch: int, step: int = 0) -> None:
        """Begin the next iteration there.

        Raises
        ------
        ValueError
            If the epoch has no such step.
        """
        with self._lock:
            self._go(epoch, step)
            self._current = None

    def __iter__(self) -> Pass:
        return Pass(self)

    def _go(self, epoch: int, step: int) -> None:
        if (self.feed.epoch, self.feed.step) != (epoch, step):
            self.feed.load_state_dict({**self.feed.state_dict(), "epoch": epoch, "step": step})
        self._start = self._left = epoch, step
        self._done = False

    def _begin(self, current: Pass) -> None:
        self._go(*self.start)
        self._current = current
        current.most = len(self.feed) if self._most is None else min(self._most, len(self.feed))

    def _take(self, current: Pass) -> Batch | None:
        """The next batch of an iteration; None after the last."""
        with self._lock:
            if not current.begun:
                current.begun = True
                self._begin(current)
            if self._current is not current:
                raise RuntimeError(
                    "expected one iteration over a feed at a time, received a request of an earlier one; make a feed for "
                    "each"
                )
            batch = next(self.feed, None)
            if batch is None and not current.given and self._start[1]:  # it stood behind the last batch of its epoch
                self._go(self._start[0] + 1, 0)
                batch = next(self.feed, None)
            self._left = self.feed.epoch, self.feed.step
            current.given += batch is not None
            self._done = batch is None or current.given >= current.most
            return batch


class Pass(Iterator[Batch]):
    """One iteration; it begins when its first batch is asked for."""

    def __init__(self, owner: Passes) -> None:
        self._owner = owner
        self.begun = False
        self.given = self.most = 0

    def __next__(self) -> Batch:
        batch = self._owner._take(self)
        if batch is None:
            raise StopIteration
        return batch
