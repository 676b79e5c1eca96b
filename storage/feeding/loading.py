"""Runs of rows on their way into memory, ahead of the batches that need them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, Protocol

import numpy as np

from storage.feeding.held import Held, Places
from storage.feeding.schedule import Schedule

Submit = Callable[..., "Future[Any]"]
_NOTHING: Future[Any] = Future()
_NOTHING.set_result(None)
_AHEAD = 8
"""Pieces of a split that is held as a whole which are read before they are needed."""


class Loading(Protocol):
    """What the batches of one epoch ask for. All methods belong to the consumer's thread."""

    places: Places

    def ask(self, stop: int) -> bool:
        """Have everything read that batches before `stop` need; False if there is no room until others are done."""
        ...

    def reads(self, stop: int) -> list[Future[Any]]:
        """The reads that batches before `stop` wait for, except those that were given out before."""
        ...

    def release(self, step: int) -> None:
        """Batches before `step` are done."""
        ...

    def stop(self) -> None:
        """Read nothing more; returns when nothing is being read."""
        ...


class RingLoading:
    """A bounded number of slots, used again when no batch needs their rows any more.

    Parameters
    ----------
    schedule : Schedule
    first : int
        The first batch that is wanted.
    held : sequence of Held
        Where the runs go: the samples, and their targets.
    slots, slot_rows : int
        At least as many slots as one piece of work needs at once; the others are for reading ahead.
    submit : callable
        Runs a function in a reading thread.
    """

    def __init__(
        self, schedule: Schedule, first: int, held: Sequence[Held], slots: int, slot_rows: int, submit: Submit
    ) -> None:
        wanted = schedule.last >= first
        # Arrays: of as many shards as there may be, Python's numbers would take several times the memory.
        self._runs = schedule.cuts[wanted, 1:]
        self._first, self._last = schedule.first[wanted], schedule.last[wanted]
        self._held, self._submit = held, submit
        self.places = Places(slot_rows)
        self._free = list(range(slots))[::-1]
        self._futures: list[Future[Any]] = []
        self._waited = 0
        self._step = first
        self._ends: list[tuple[int, int, int, int]] = []  # last batch, first row, slot, number of what is in memory
        self._read_ahead()

    def _read_ahead(self) -> None:
        while self._free and len(self._futures) < len(self._runs):
            number = len(self._futures)
            if self._last[number] < self._step:  # between two batches of a part: no batch of its own needed it
                self._futures.append(_NOTHING)
                continue
            low, high = self._runs[number].tolist()
            slot = self._free.pop()
            self.places.add(low, slot)
            heapq.heappush(self._ends, (int(self._last[number]), low, slot, number))
            self._futures.append(self._submit(_load, self._held, slot, low, high))

    def ask(self, stop: int) -> bool:
        """See `Loading`."""
        return len(self._futures) >= int(np.searchsorted(self._first, stop, side="left"))

    def reads(self, stop: int) -> list[Future[Any]]:
        """See `Loading`."""
        end = int(np.searchsorted(self._first, stop, side="left"))
        found = self._futures[self._waited : end]
        self._waited = max(self._waited, end)
        return found

    def release(self, step: int) -> None:
        """See `Loading`."""
        self._step = step
        while self._ends and self._ends[0][0] < step:
            _, low, slot, number = heapq.heappop(self._ends)
            future = self._futures[number]
            # What nobody waits for may still be read, into a slot that is about to be given to others.
            if not (number >= self._waited and future.cancel()):
                wait([future])
            self._futures[number] = _NOTHING
            self.places.remove(low)
            self._free.append(slot)
        self._read_ahead()

    def stop(self) -> None:
        """See `Loading`."""
        _stop(self._futures)


class WholeLoading:
    """All of a split, each piece read when it is first needed and kept from then on, also for other epochs.

    Parameters
    ----------
    edges : ndarray of int64, shape (pieces + 1,)
        See `storage.feeding.order.EpochOrder`.
    schedule : Schedule
    first : int
        The first batch that is wanted.
    places : Places
        Where all pieces lie or will lie.
    held : sequence of Held
    loaded : set of int
        Pieces that are in memory; added to.
    submit : callable
    """

    def __init__(
        self,
        edges: np.ndarray,
        schedule: Schedule,
        first: int,
        places: Places,
        held: Sequence[Held],
        loaded: set[int],
        submit: Submit,
    ) -> None:
        self.places, self._held, self._loaded, self._submit = places, held, loaded, submit
        self._edges = edges
        wanted = schedule.last >= first
        pieces, index = np.unique(schedule.cuts[wanted, 0], return_index=True)
        absent = ~np.isin(pieces, np.fromiter(loaded, np.int64, len(loaded)))
        order = np.flatnonzero(absent)[np.argsort(index[absent], kind="stable")]  # as they are needed
        self._first = schedule.first[wanted][index[order]]
        self._pieces = pieces[order]
        self._futures: list[Future[Any]] = []
        self._waited = self._forgotten = 0
        self._start_up_to(_AHEAD)

    def _start_up_to(self, end: int) -> None:
        """Not all at once: who leaves Python would have to wait for all that was begun."""
        while len(self._futures) < min(end, len(self._pieces)):
            self._futures.append(self._start(int(self._pieces[len(self._futures)])))

    def _start(self, piece: int) -> Future[Any]:
        low, high = self._edges[piece : piece + 2].tolist()
        slot = int(self.places.of(np.array([low]))[0]) // self.places.slot_rows

        def load() -> None:
            _load(self._held, slot, low, high)
            self._loaded.add(piece)

        return self._submit(load)

    def ask(self, stop: int) -> bool:
        """See `Loading`."""
        return True

    def reads(self, stop: int) -> list[Future[Any]]:
        """See `Loading`."""
        end = int(np.searchsorted(self._first, stop, side="left"))
        self._start_up_to(end + _AHEAD)
        found = self._futures[self._waited : end]
        self._waited = max(self._waited, end)
        while self._forgotten < self._waited and self._futures[self._forgotten].done():
            self._futures[self._forgotten] = _NOTHING  # a future takes two kilobytes
            self._forgotten += 1
        return found

    def release(self, step: int) -> None:
        """See `Loading`."""

    def stop(self) -> None:
        """See `Loading`."""
        _stop(self._futures)


class Loaded:
    """All is in memory already.

    Parameters
    ----------
    places : Places
    """

    def __init__(self, places: Places) -> None:
        self.places = places

    def ask(self, stop: int) -> bool:
        """See `Loading`."""
        return True

    def reads(self, stop: int) -> list[Future[Any]]:
        """See `Loading`."""
        return []

    def release(self, step: int) -> None:
        """See `Loading`."""

    def stop(self) -> None:
        """See `Loading`."""


def _load(held: Sequence[Held], slot: int, low: int, high: int) -> None:
    for one in held:
        one.load(slot, low, high)


def _stop(futures: Sequence[Future[Any]]) -> None:
    wait([future for future in futures if not future.cancel()])
