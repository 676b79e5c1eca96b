"""Which epoch of a feed an iteration reads, where iterations may be given up."""

from __future__ import annotations

from collections.abc import Iterator

from storage.feeding.feed import Batches
from storage.feeding.running import Batch

Place = tuple[int, int]


class Passes:
    """Iterations over a feed, each over one epoch, or over what is left of the one where the feed stands.

    After an iteration to its end comes the next epoch. One that was given up is begun again by the next: Keras looks at
    a first batch to learn its shape. Where the feed is moved by its owner, the next iteration begins.

    Parameters
    ----------
    feed : Batches
    most : int
        Batches of an iteration after which nobody asks for more.

    Attributes
    ----------
    most : int
    """

    def __init__(self, feed: Batches, most: int) -> None:
        self.feed = feed
        self.most = most
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
        if (self.feed.epoch, self.feed.step) != (epoch, step):
            self.feed.load_state_dict({**self.feed.state_dict(), "epoch": epoch, "step": step})
        self._start = self._left = epoch, step
        self._current, self._done = None, False

    def measure(self) -> None:
        """Count the batches of the epoch that the next iteration reads."""
        epoch, step = self.start
        if epoch != self.feed.epoch:
            self.move(epoch, step)
        self.most = len(self.feed)

    def __iter__(self) -> Pass:
        return Pass(self)

    def _take(self, current: Pass) -> Batch | None:
        """The next batch of an iteration; None after the last."""
        if not current.begun:
            self.move(*self.start)
            current.begun, self._current = True, current
        if self.current is not current:
            raise RuntimeError(
                "expected one iteration over a feed at a time, received a request of one that began before the feed "
                "was moved; make a feed for each"
            )
        batch = next(self.feed, None)
        if batch is None and not current.given and self._start[1]:  # it stood behind the last batch of its epoch
            self.move(self._start[0] + 1)
            self._current = current
            batch = next(self.feed, None)
        self._left = self.feed.epoch, self.feed.step
        current.given += batch is not None
        self._done = batch is None or current.given >= self.most
        return batch


class Pass(Iterator[Batch]):
    """One iteration; it begins when its first batch is asked for.

    Attributes
    ----------
    begun : bool
    given : int
        Batches that were handed out.
    """

    def __init__(self, owner: Passes) -> None:
        self._owner = owner
        self.begun = False
        self.given = 0

    def __next__(self) -> Batch:
        batch = self._owner._take(self)
        if batch is None:
            raise StopIteration
        return batch
