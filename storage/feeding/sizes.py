"""How much a feed holds in memory: arithmetic, told before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from dask.utils import format_bytes

from storage.feeding.footprint import Footprint
from storage.feeding.memory import SHARE, free_memory
from storage.feeding.options import Options
from storage.feeding.schedule import Schedule
from storage.layout import MIB

INDEX_ROWS = 8192
"""Rows whose places are looked up together: it makes the cost of a small batch's share of Python small."""
MADE_BYTES = 4 * MIB
"""Batches that a thread makes together: handing over takes some 50 microseconds, whatever the size."""
INLINE_BYTES = MIB
"""Smaller batches are gathered sooner than another thread wakes up."""
BEYOND = 2
"""Groups of batches beyond those that are made ahead: the one in hand, and the one before it."""


ORDER_BYTES, RUN_BYTES, PIECE_BYTES, SLOT_BYTES = 256, 1024, 2816, 3584
"""Of memory for each shard: for its place in the order; where it is read anew in each epoch; where it is read once and
kept (all may be asked for at once, and a future is large); and where its samples differ in bytes. Measured; next to
nothing of large shards, most of what is held of thousands of tiny ones."""


@dataclass(frozen=True)
class Sizes:
    """What follows from a dataset's sizes and the options, the same in every epoch."""

    footprint: Footprint
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
    readers: int
    """Threads that read; 0: the consumer's own does."""
    makers: int
    """Threads that make batches, if `threaded`."""
    limit: int
    """Bytes that may be held."""
    strict: bool
    """Whether more is refused, because the limit was asked for."""

    @property
    def ahead(self) -> int:
        """Bytes of batches that are made and not yet dropped, and of what making and reading them takes."""
        made = self.group * (self.groups + BEYOND) if self.threaded else 2 * BEYOND
        making = self.footprint.making * (self.makers if self.threaded else 1)
        return made * self.footprint.batch + making + self.footprint.reading * max(1, self.readers)

    @property
    def room(self) -> int:
        """Bytes that are left for samples."""
        return self.limit - self.ahead if self.strict else self.limit

    @property
    def per_shard(self) -> int:
        """Bytes for each shard beside its samples."""
        if not self.footprint.total:
            return ORDER_BYTES
        if not self.whole:
            return RUN_BYTES
        return PIECE_BYTES if self.footprint.largest is None else SLOT_BYTES

    def shared(self, processes: int) -> Sizes:
        """For one of several processes on a machine."""
        whole = self.window is None or self.footprint.total * processes <= self.room
        return replace(self, whole=self.whole and whole)


def sizes_of(options: Options, edges: np.ndarray, footprint: Footprint, *, heavy: bool) -> Sizes:
    """Choose what is held, and how batches are made.

    Parameters
    ----------
    options : Options
    edges : ndarray of int64, shape (pieces + 1,)
        See `storage.feeding.order.EpochOrder`.
    footprint : Footprint
        The order depends on `Footprint.stored` alone.
    heavy : bool
        Whether more is done to a sample than copying it.

    Raises
    ------
    ValueError
        If a split that is shuffled as a whole is larger than the memory that is allowed.
    """
    rows, stored, held = int(edges[-1] - edges[0]), footprint.stored, footprint.held
    full = options.shuffle and rows * stored <= options.window
    window = None
    if options.shuffle and not full:
        window = max(1, int(options.window / (np.diff(edges).max() * stored)) // options.streams)
    # Two windows are nearly always enough to read by; where they are not, more is held.
    limit = options.memory or max(2 * int(options.window * held / stored), free_memory() // SHARE)
    strict = options.memory is not None
    threaded = options.threads > 0 and (heavy or footprint.batch >= INLINE_BYTES or options.depth is not None)
    # Batches that are looked up together need their shards together: fewer where windows are small.
    in_windows = int(np.diff(edges).max()) * (window * options.streams // 8 if window else 1)
    group = max(1, min(64, (INDEX_ROWS if full else min(INDEX_ROWS, in_windows)) // options.batch_size))
    if options.packs or (threaded and options.sequences is not None):
        group = 1  # each has a shape of its own
    elif threaded:
        group = max(1, min(group, MADE_BYTES // max(1, footprint.batch), (options.depth or 2 * group) // 2))
    # No more ahead than an epoch has, and than a part of the memory holds.
    steps = max(1, -(-rows // options.batch_size))
    group = min(group, steps)
    most = limit // (4 if strict else 2) // max(1, footprint.batch)
    group = max(1, min(group, most // (1 + BEYOND))) if threaded else group
    depth = min(options.depth or 2 * group, steps, max(1, most - BEYOND * group))
    groups = max(1, -(-depth // group))
    readers, makers = _threads(options, footprint, limit if strict else None)
    sizes = Sizes(footprint, window, False, threaded, group, groups, readers, makers, int(limit), strict)
    whole = footprint.total <= sizes.room
    if (full or options.packs) and not whole:
        needed = footprint.total + (sizes.ahead if strict else 0)
        what = "pack" if options.packs else "shuffle"
        cure = "" if options.packs else f"; lower window= (it is {format_bytes(options.window)})"
        raise ValueError(
            f"expected memory of at least {format_bytes(needed)} to {what} {rows:,} samples as a whole, "
            f"received {format_bytes(int(limit))}{cure}"
        )
    return replace(sizes, whole=whole)


def _threads(options: Options, footprint: Footprint, limit: int | None) -> tuple[int, int]:
    """Threads that read, and that make: no more than memory has room for."""
    if limit is None or not options.threads:
        return options.threads, options.threads
    found = (limit // 4 // max(1, needed) for needed in (footprint.reading, footprint.making))
    readers, makers = (max(1, min(options.threads, number)) for number in found)
    return readers, makers


def slots_of(sizes: Sizes, schedule: Schedule) -> int:
    """Slots for the runs that are in use at once, and for those that are read ahead as long as they fit.

    Raises
    ------
    ValueError
        If what one batch needs is more than the memory that is allowed.
    """
    needed = schedule.most_at_once(sizes.group)
    slot_bytes = sizes.footprint.run(schedule.largest)
    if sizes.strict and needed * slot_bytes > sizes.room:
        raise ValueError(
            f"expected memory of at least {format_bytes(needed * slot_bytes + sizes.ahead)} for {needed} runs of up "
            f"to {format_bytes(slot_bytes)} and {format_bytes(sizes.ahead)} of batches and of reading, received "
            f"{format_bytes(sizes.limit)}; lower window=, streams=, batch_size= or threads=, or raise memory="
        )
    if sizes.readers == 0:
        return needed
    ahead = max(sizes.readers, sizes.window or 1)
    return int(min(needed + ahead, max(needed, sizes.room // max(1, slot_bytes)), max(1, len(schedule.first))))
