"""One run through the batches of an epoch: what is read and made ahead, and handed over in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from storage.feeding.held import Held
from storage.feeding.loading import Loading
from storage.feeding.memory import Buffers

Batch = dict[str, Any]
Change = Callable[[Any, Any], Any]
Finish = Callable[[Any, np.ndarray | None], Batch]


class Here(Executor):
    """Does work at once, in the thread that asks for it: no threads at all."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Run a function, and give its result as a future."""
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass
class Group:
    """Batches whose rows were looked up together."""

    steps: list[int]
    wanted: dict[str, np.ndarray]
    """Columns that the consumer asked for, int64 (batches, samples)."""
    ids: np.ndarray | None
    """int64 (batches, samples), where samples are changed by their ids."""
    edges: np.ndarray | None
    """int64 (batches, rows + 1), where rows hold several samples."""
    places: np.ndarray
    """int64 (batches, samples): where the samples lie in memory."""
    made: Future[Batch] | None
    """Samples of all batches, one after the other, if a thread makes them."""


@dataclass(frozen=True)
class Making:
    """How samples in memory become what a batch holds."""

    held: Held | None
    """Where the samples come from; None if none are wanted."""
    targets: Held | None
    """Where the targets come from; None if there are none, or if they are the samples before `change`."""
    change: Change | None
    """Applied to samples and their ids."""
    finish: Finish | None
    """Makes arrays of samples that are none, given where the rows of packed texts begin."""
    wanted: frozenset[str]
    """Columns that the consumer asked for."""
    buffers: Buffers

    @cached_property
    def plain(self) -> bool:
        """Whether samples are only copied."""
        changed = self.change is not None or self.finish is not None
        return not changed and "values" in self.wanted and "targets" not in self.wanted

    def __call__(
        self,
        places: np.ndarray,
        ids: np.ndarray | None,
        edges: np.ndarray | None = None,
        reads: Sequence[Future[Any]] = (),
    ) -> Batch:
        """Make the samples at some places, once they have been read."""
        for read in reads:
            read.result()
        if self.plain and self.held is not None:
            return {"values": self.held.gather(places, self.buffers)}
        made: Batch = {}
        unchanged = "targets" in self.wanted and self.targets is None
        if self.held is not None and ("values" in self.wanted or unchanged):
            made["values"] = self.held.gather(places, self.buffers)
        if "targets" in self.wanted:
            made["targets"] = made["values"] if self.targets is None else self.targets.gather(places, self.buffers)
        if self.change is not None and "values" in self.wanted:
            made["values"] = self.change(made["values"], ids)
        if unchanged and "values" in self.wanted and _share(made["values"], made["targets"]):
            made["targets"] = made["targets"].copy()  # whoever writes into one does not mean the other
        if self.finish is not None and "values" in self.wanted:
            return self.finish(made["values"], edges)
        return {name: made[name] for name in made if name in self.wanted}


class Run:
    """Batches of one epoch from some batch on.

    Parameters
    ----------
    steps : iterator of list of int
        Numbers of the batches, in groups.
    look_up : callable
        Gives the columns of the batches of some numbers, ``rows`` among them, int64 (batches, samples).
    loading : Loading
    make : Making
    makers : Executor or None
        Threads that make batches; None: the consumer's own makes them.
    ahead : int
        Groups that are made ahead.
    """

    def __init__(
        self,
        steps: Iterator[list[int]],
        look_up: Callable[[list[int]], dict[str, np.ndarray]],
        loading: Loading,
        make: Making,
        makers: Executor | None,
        ahead: int,
    ) -> None:
        self._steps, self._look_up, self._loading, self._make = steps, look_up, loading, make
        self._makers, self._most = makers, ahead if makers else 0
        self._next = next(steps, None)
        self._ahead: deque[Group] = deque()
        self._reading: list[Future[Any]] = []
        self.waited = 0.0

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Every batch, in order, with the number of the one after it.

        Raises
        ------
        StorageError
            If what a batch needs is missing or damaged.
        """
        make = self._make
        while self._next is not None or self._ahead:
            group = self._following()
            if make.plain and self._makers is None and make.held is not None:
                # What `_cut` does, for small batches, of which there can be hundreds of thousands in a second.
                columns, gather, buffers = list(group.wanted.items()), make.held.gather, make.buffers
                for number, step in enumerate(group.steps):
                    batch = {"values": gather(group.places[number], buffers)}
                    for name, column in columns:
                        batch[name] = column[number]
                    yield step + 1, batch
                    del batch  # its memory may be used again
            else:
                for number, step in enumerate(group.steps):
                    yield step + 1, self._cut(group, number)
            del group

    def stop(self) -> None:
        """Make and read nothing more; returns when nothing is being read."""
        for group in self._ahead:
            if group.made is not None:
                group.made.cancel()
        self._loading.stop()
        for group in self._ahead:
            if group.made is not None and not group.made.cancelled():
                group.made.exception()
        self._ahead.clear()

    def _following(self) -> Group:
        oldest = self._ahead[0].steps[0] if self._ahead else self._next[0] if self._next else 0
        self._loading.release(oldest)
        while self._next is not None and len(self._ahead) <= self._most:
            if not self._loading.ask(self._next[-1] + 1):
                break  # no room until the batches before are done
            self._ahead.append(self._begin(self._next))
            self._next = next(self._steps, None)
        group = self._ahead.popleft()
        if group.made is not None and not group.made.done():
            begun = time.perf_counter()
            group.made.exception()
            self.waited += time.perf_counter() - begun
        return group

    def _begin(self, steps: list[int]) -> Group:
        columns = self._look_up(steps)
        places = self._loading.places.of(columns["rows"])
        # Those that earlier groups wait for may be needed here, too.
        reads = [*(read for read in self._reading if not read.done()), *self._loading.reads(steps[-1] + 1)]
        self._reading = reads
        ids, edges = columns.get("ids"), columns.get("edges")
        wanted = {name: column for name, column in columns.items() if name in self._make.wanted}
        if self._makers is None:
            self._wait(reads)
            return Group(steps, wanted, ids, edges, places, None)
        made = self._makers.submit(self._make, places.reshape(-1), _flat(ids), _flat(edges), reads)
        return Group(steps, wanted, ids, edges, places, made)

    def _wait(self, reads: Sequence[Future[Any]]) -> None:
        begun = time.perf_counter()
        for read in reads:
            read.result()
        if reads:
            self.waited += time.perf_counter() - begun

    def _cut(self, group: Group, number: int) -> Batch:
        places = group.places[number]
        if group.made is None:
            ids, edges = (None if part is None else part[number] for part in (group.ids, group.edges))
            batch = self._make(places, ids, edges)
        elif len(group.steps) == 1:
            batch = dict(group.made.result())
        else:
            size = len(places)
            made = group.made.result()
            batch = {name: values[number * size : (number + 1) * size] for name, values in made.items()}
        for name, column in group.wanted.items():
            batch[name] = column[number]
        return batch


def _share(one: Any, other: Any) -> bool:
    """Whether two batches of samples lie in the same memory: a noise may give back what it got."""
    return one is other or (isinstance(one, np.ndarray) and np.may_share_memory(one, other))


def _flat(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else values.reshape(-1)
