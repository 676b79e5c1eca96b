"""One run through the batches of an epoch: what is read and made ahead, and handed over in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.feeding.held import Held
from storage.feeding.loading import Loading
from storage.feeding.memory import Buffers

Batch = dict[str, Any]
Change = Callable[[Any, np.ndarray], Any]


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
    columns: dict[str, np.ndarray]
    """int64 (batches, samples)."""
    places: np.ndarray
    """int64 (batches, samples): where the samples lie in memory."""
    made: Future[Batch] | None
    """Samples of all batches, one after the other, if a thread makes them."""


@dataclass(frozen=True)
class Making:
    """How samples in memory become what a batch holds."""

    held: Held
    targets: Held | None
    """Where the targets come from; None if there are none, or if they are the samples before `change`."""
    change: Change | None
    """Applied to samples and their ids."""
    wanted: frozenset[str]
    """Columns that the consumer asked for."""
    buffers: Buffers

    def __call__(self, places: np.ndarray, ids: np.ndarray | None, reads: Sequence[Future[Any]] = ()) -> Batch:
        """Make the samples at some places, once they have been read."""
        for read in reads:
            read.result()
        made: Batch = {}
        unchanged = "targets" in self.wanted and self.targets is None
        if "values" in self.wanted or unchanged:
            made["values"] = self.held.gather(places, self.buffers)
        if "targets" in self.wanted:
            made["targets"] = made["values"] if self.targets is None else self.targets.gather(places, self.buffers)
        if self.change is not None and "values" in self.wanted:
            made["values"] = self.change(made["values"], ids)
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
        self._group: Group | None = None
        self._fault: BaseException | None = None
        self.waited = 0.0

    def batch(self, step: int) -> Batch:
        """The batch of a number; they are asked for in order.

        Raises
        ------
        StorageError
            If what it needs is missing or damaged; again whenever it is asked for.
        """
        if self._fault is not None:
            raise self._fault
        try:
            if self._group is None or step > self._group.steps[-1]:
                self._group = self._following()
            return self._cut(self._group, self._group.steps.index(step))
        except BaseException as error:
            # What failed is not made again from memory that was never filled.
            self._fault = error
            raise

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
        self._group = None

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
        reads = [*(read for read in self._reading if not read.done()), *self._loading.reads(steps[-1] + 1)]
        # A failed read stays in the list: whoever comes to need it must not take what is in memory.
        self._reading = [read for read in reads if not (read.done() and read.exception() is None)]
        if self._makers is None:
            self._wait(reads)
            return Group(steps, columns, places, None)
        ids = columns["ids"].reshape(-1) if "ids" in columns else None
        return Group(steps, columns, places, self._makers.submit(self._make, places.reshape(-1), ids, reads))

    def _wait(self, reads: Sequence[Future[Any]]) -> None:
        begun = time.perf_counter()
        for read in reads:
            read.result()
        if reads:
            self.waited += time.perf_counter() - begun

    def _cut(self, group: Group, number: int) -> Batch:
        wanted = self._make.wanted
        batch: Batch = {name: column[number] for name, column in group.columns.items() if name in wanted}
        places = group.places[number]
        if group.made is None:
            ids = group.columns["ids"][number] if "ids" in group.columns else None
            return self._make(places, ids) | batch
        size, made = len(places), group.made.result()
        return {name: values[number * size : (number + 1) * size] for name, values in made.items()} | batch
