"""How much a feed holds in memory: arithmetic, told before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from dask.utils import format_bytes

from storage.feeding.memory import SHARE, free_memory
from storage.feeding.options import Options
from storage.feeding.order import share
from storage.feeding.schedule import Schedule
from storage.layout import MIB

INDEX_ROWS = 8192
"""Rows whose places are looked up together: it makes the cost of a small batch's share of Python small."""
MADE_BYTES = 4 * MIB
"""Batches that a thread makes together: handing over takes some 50 microseconds, whatever the size."""
INLINE_BYTES = MIB
"""Smaller batches are gathered sooner than another thread wakes up."""


@dataclass(frozen=True)
class Sizes:
    """What follows from a dataset's sizes and the options, the same in every epoch."""

    rows: int
    """Rows of the split."""
    sample_bytes: float
    """Of one sample in memory and, where there are any, its target; the mean where samples differ."""
    made_bytes: float
    """Of one sample in a batch, decoded and with its target."""
    window: int | None
    """Pieces of a stream that are shuffled together; None: all rows of the split are."""
    whole: bool
    """Whether the whole split is held in memory."""
    threaded: bool
    """Whether threads make the batches, or the consumer's own thread."""
    group: int
    """Batches whose rows are looked up together and, by a thread, made together."""
    groups: int
    """Groups that are made ahead."""
    limit: int
    """Bytes that may be held."""
    strict: bool
    """Whether more is refused, because the limit was asked for."""

    @property
    def held_bytes(self) -> int:
        """Bytes of the whole split."""
        return int(self.rows * self.sample_bytes)

    def shared(self, processes: int) -> Sizes:
        """For one of several processes on a machine."""
        whole = self.window is None or self.held_bytes * processes <= self.limit
        return replace(self, whole=self.whole and whole)


def sizes_of(options: Options, edges: np.ndarray, stored: float, held: float, made: float, *, heavy: bool) -> Sizes:
    """Choose what is held, and how batches are made.

    Parameters
    ----------
    options : Options
    edges : ndarray of int64, shape (pieces + 1,)
        See `storage.feeding.order.EpochOrder`.
    stored, held, made : float
        Bytes of a sample as it is stored, in memory with its target, and in a batch. The order depends on the first
        alone.
    heavy : bool
        Whether more is done to a sample than copying it.

    Raises
    ------
    ValueError
        If a split that is shuffled as a whole is larger than the memory that is allowed.
    """
    rows = int(edges[-1] - edges[0])
    full = options.shuffle and rows * stored <= options.window
    window = None
    if options.shuffle and not full:
        window = max(1, int(options.window / (np.diff(edges).max() * stored)) // options.streams)
    # Two windows are nearly always enough to read by; where they are not, more is held.
    limit = options.memory or max(2 * int(options.window * held / stored), free_memory() // SHARE)
    if (full or options.packs) and rows * held > limit:
        what = "pack" if options.packs else "shuffle"
        cure = "" if options.packs else f"; lower window= (it is {format_bytes(options.window)})"
        raise ValueError(
            f"expected memory of at least {format_bytes(int(rows * held))} to {what} {rows:,} samples as a whole, "
            f"received {format_bytes(int(limit))}{cure}"
        )
    low, high = share(options.batch_size, options.rank, options.ranks)
    batch_bytes = (high - low) * made
    threaded = options.threads > 0 and (heavy or batch_bytes >= INLINE_BYTES)
    # Batches that are looked up together need their shards together: fewer where windows are small.
    in_windows = int(np.diff(edges).max()) * (window * options.streams // 8 if window else 1)
    group = max(1, min(64, (INDEX_ROWS if full else min(INDEX_ROWS, in_windows)) // options.batch_size))
    if options.packs or (threaded and options.sequences is not None):
        group = 1  # each has a shape of its own
    elif threaded:
        group = max(1, min(group, int(MADE_BYTES // max(1.0, batch_bytes)), (options.depth or 2 * group) // 2))
    groups = max(1, -(-options.depth // group)) if options.depth else 2
    return Sizes(
        rows, held, made, window, rows * held <= limit, threaded, group, groups, int(limit), options.memory is not None
    )


def slots_of(sizes: Sizes, schedule: Schedule, threads: int) -> int:
    """Slots for the runs that are in use at once, and for those that are read ahead as long as they fit.

    Raises
    ------
    ValueError
        If what one batch needs is more than the memory that is allowed.
    """
    needed = schedule.most_at_once(sizes.group)
    slot_bytes = schedule.largest * sizes.sample_bytes
    if sizes.strict and needed * slot_bytes > sizes.limit:
        raise ValueError(
            f"expected memory of at least {format_bytes(int(needed * slot_bytes))} for {needed} runs of up to "
            f"{format_bytes(int(slot_bytes))}, received {format_bytes(sizes.limit)}; lower window= or streams=, or "
            "raise memory="
        )
    if threads == 0:
        return needed
    ahead = max(threads, sizes.window or 1)
    return int(min(needed + ahead, max(needed, sizes.limit // max(1.0, slot_bytes)), max(1, len(schedule.first))))
