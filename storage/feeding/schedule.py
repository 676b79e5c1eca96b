"""When which rows must be in memory: arithmetic on an epoch's order, no input or output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.feeding.order import EpochOrder, share


@dataclass(frozen=True)
class Schedule:
    """What one rank reads in an epoch, in the order in which it is needed."""

    cuts: np.ndarray
    """int64 (n, 3): piece, first and past-the-last row of every run that is read."""
    first: np.ndarray
    """int64 (n,), ascending: the first batch that needs each run."""
    last: np.ndarray
    """int64 (n,): the last batch that needs it."""

    def most_at_once(self, span: int = 1) -> int:
        """Runs that must be in memory for `span` batches in a row, at the most."""
        if not len(self.first):
            return 0
        # For the batches from b on: runs that begin before b + span, less those that end before b. The most is found
        # where a run is the last to begin.
        batch = self.first - span + 1
        begun = np.searchsorted(self.first, self.first, side="right")
        ended = np.searchsorted(np.sort(self.last), batch, side="left")
        return int((begun - ended).max())

    @property
    def largest(self) -> int:
        """Rows of the largest run."""
        return int((self.cuts[:, 2] - self.cuts[:, 1]).max()) if len(self.cuts) else 0


def schedule(order: EpochOrder, steps: int, *, rank: int = 0, ranks: int = 1, pool: int = 1) -> Schedule:
    """Find what a rank needs, from when to when.

    Parameters
    ----------
    order : EpochOrder
    steps : int
        Batches of the epoch that are asked for.
    rank, ranks : int
    pool : int
        Batches whose rows are mixed among each other: all of them need what one needs.

    Returns
    -------
    Schedule
    """
    streams, starts, stops = order.windows[:, 0], order.windows[:, 1], order.windows[:, 2]
    quotas = np.diff(order.full_places)[streams]
    # Places of a stream beyond those of the full batches belong to the last batch.
    in_full = order.whole * quotas
    first = np.where(starts < in_full, starts // np.maximum(quotas, 1), order.whole)
    last = np.where(stops <= in_full, (stops - 1) // np.maximum(quotas, 1), order.whole)
    first = first // pool * pool
    last = np.minimum(last // pool * pool + pool - 1, steps - 1)
    used = np.isin(streams, _streams(order, rank, ranks)) & (first < steps)
    chosen = np.flatnonzero(used)
    chosen = chosen[np.argsort(first[chosen], kind="stable")]
    counts = (order.windows[:, 4] - order.windows[:, 3])[chosen]
    # Numbers of the cuts of every chosen window, one window after the other.
    numbers = np.arange(counts.sum()) + np.repeat(order.windows[chosen, 3] - (np.cumsum(counts) - counts), counts)
    return Schedule(order.cuts[numbers], np.repeat(first[chosen], counts), np.repeat(last[chosen], counts))


def _streams(order: EpochOrder, rank: int, ranks: int) -> np.ndarray:
    """Streams that a rank takes rows from."""
    found = np.zeros(order.streams, bool)
    for places, size in ((order.full_places, order.batch_size), (order.last_places, order.rest)):
        low, high = share(size, rank, ranks)
        found |= (places[1:] > low) & (places[:-1] < high) & (high > low)
    return np.flatnonzero(found)
