"""Where a pass over row blocks runs: in this process, on Dask's local threads, or on a cluster's workers.

All three offer the same words. `map` calls a function once per tuple of arguments and leaves the results where they
were made; `reduce_each` combines those of each group in a fixed order and leaves one result per group; `runs` and
`fold` add to as few totals as calls run at once, and leave them there or bring their sum here; `shelves` are where they
keep what they make of blocks; `load` makes blocks and keeps them; `put` brings values to where the work is; `fetch`
brings results here.
"""

from __future__ import annotations

import functools
import itertools
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import dask
import numpy as np
import psutil
from dask._task_spec import DataNode, Task, TaskRef
from dask.system import CPU_COUNT
from dask.utils import parse_bytes

from tasks.methods.pieces import Later, Node, Piece, go_on, invoke
from tasks.methods.pieces import fold as fold_parts
from tasks.methods.shelf import Shelf

if TYPE_CHECKING:
    from distributed import Client

label: ContextVar[str | None] = ContextVar("duskflow_step_label", default=None)
"""Name of the step that is running; the keys of its tasks begin with it. A thread starts without one: set it there."""

INLINE_BYTES = 1 << 20
"""Up to so many bytes, copies included, a value that all calls share travels inside their tasks."""

WAVE_FRACTION = 0.1
"""Share of the workers' memory that totals may take which wait to be combined."""

FAN_IN = 8
"""Partial results that one task of a reduction combines; bounds its memory to that many partial results."""


class Engine(Protocol):
    """What runs the passes of one fit."""

    parallel: bool
    """True if calls of one pass can run at the same time and their results may live elsewhere."""

    def map(self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple = ()) -> list: ...
    def reduce_each(
        self, name: str, function: Callable, groups: Sequence[Sequence[tuple]], shared: tuple = (), *, combine: Callable
    ) -> list: ...
    def shelves(self, name: str, sources: Sequence[Any]) -> list: ...
    def runs(
        self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple = (), *, shelves: list | None = None
    ) -> list: ...
    def fold(
        self,
        name: str,
        function: Callable,
        calls: Sequence[tuple],
        shared: tuple = (),
        *,
        combine: Callable,
        size: int,
        shelves: list | None = None,
    ) -> Any: ...
    def load(self, stem: str, sources: Sequence[Any]) -> list: ...
    def put(self, name: str, values: Sequence[Any]) -> list: ...
    def fetch(self, handles: Sequence[Any]) -> list: ...
    def keep(self, handles: Sequence[Any]) -> None: ...
    def memory(self) -> int: ...
    def task_memory(self) -> int: ...
    def slots(self) -> int: ...
    def close(self) -> None: ...


class Serial:
    """Runs the calls of a pass one after the other, here; for arrays that are in this process already."""

    parallel = False

    def map(self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple = ()) -> list:
        return [invoke(function, *arguments, *shared) for arguments in calls]

    def reduce_each(
        self, name: str, function: Callable, groups: Sequence[Sequence[tuple]], shared: tuple = (), *, combine: Callable
    ) -> list:
        # One partial result beside the total, however many there are.
        return [functools.reduce(combine, (invoke(function, *c, *shared) for c in calls)) for calls in groups]

    def shelves(self, name: str, sources: Sequence[Any]) -> list:
        return []

    def runs(
        self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple = (), *, shelves: list | None = None
    ) -> list:
        return [functools.reduce(lambda total, call: function(total, *call, *shared), calls, None)]

    def fold(
        self,
        name: str,
        function: Callable,
        calls: Sequence[tuple],
        shared: tuple = (),
        *,
        combine: Callable,
        size: int,
        shelves: list | None = None,
    ) -> Any:
        return functools.reduce(lambda total, call: function(total, *call, *shared), calls, None)

    def load(self, stem: str, sources: Sequence[Any]) -> list:
        return list(sources)

    def put(self, name: str, values: Sequence[Any]) -> list:
        return list(values)

    def fetch(self, handles: Sequence[Any]) -> list:
        return list(handles)

    def keep(self, handles: Sequence[Any]) -> None:
        pass

    def memory(self) -> int:
        return _memory_of_this_machine()

    def worker_memory(self) -> int:
        return _memory_of_this_machine()

    def task_memory(self) -> int:
        return _free_memory_of_this_machine()

    def slots(self) -> int:
        return 1

    def close(self) -> None:
        pass


@dataclass
class Scheduled:
    """Runs a pass as one task graph, on Dask's local schedulers or on a cluster.

    The graph is submitted as it is, below Dask's collections: nothing fuses its tasks, so that their resources
    cannot be lost and their names stay readable.
    """

    get: Callable[..., Any]
    client: Client | None = None
    resources: dict[str, float] | None = None
    _owned: weakref.WeakSet = field(default_factory=weakref.WeakSet)
    parallel = True

    def map(self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple = ()) -> list:
        graph, keys, _held = self._graph(name, function, calls, shared)
        return self._run(graph, keys)

    def reduce_each(
        self, name: str, function: Callable, groups: Sequence[Sequence[tuple]], shared: tuple = (), *, combine: Callable
    ) -> list:
        graph, keys, _held = self._graph(name, function, [c for calls in groups for c in calls], shared)
        stem = f"{name.rpartition('.')[0] or name}.reduce-{uuid.uuid4().hex}"
        leaves, roots = iter(keys), []
        for group, calls in enumerate(groups):
            level, parts = 0, [next(leaves) for _ in calls]
            while len(parts) > 1:
                parents = [(stem, group, level, i) for i in range(-(-len(parts) // FAN_IN))]
                for i, parent in enumerate(parents):
                    children = map(TaskRef, parts[i * FAN_IN : (i + 1) * FAN_IN])
                    graph[parent] = Task(parent, fold_parts, combine, *children)
                level, parts = level + 1, list(parents)
            roots += parts
        return self._run(graph, roots)

    def shelves(self, name: str, sources: Sequence[Any]) -> list:
        """Return handles of shelves for `runs` and `fold` over these blocks; none if their tasks do not make them.

        Each run has a shelf of its own, so all passes have the same runs, and Dask has a run where its shelf is.
        """
        if not _make_their_blocks([(source,) for source in sources]):
            return []
        return self.map(name, Shelf, [()] * min(self.slots(), len(sources)))

    def runs(
        self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple = (), *, shelves: list | None = None
    ) -> list:
        """Return, where they are, what ``function(total, *call, *shared)`` makes of runs of calls, in their order.

        Calls whose task makes its block by itself follow each other in as many tasks as run at once; each of the others
        is a run of its own. With shelves the function gets a `Shelved` in place of its block.
        """
        if _make_their_blocks(calls):
            one = functools.partial(go_on, function, len(calls[0]))
            return self.map(name, one, self._in_turn(calls, shelves), shared)
        return self.map(name, functools.partial(function, None), calls, shared)

    def fold(
        self,
        name: str,
        function: Callable,
        calls: Sequence[tuple],
        shared: tuple = (),
        *,
        combine: Callable,
        size: int,
        shelves: list | None = None,
    ) -> Any:
        """Return, here, what ``function(total, *call, *shared)`` makes of all calls; None stands for no total yet.

        For large totals: Dask would make one for each call before it combines them. Calls whose task makes its block by
        itself follow each other in as many tasks as run at once, each with one total; others are made in waves.

        Parameters
        ----------
        combine : callable
            Makes one total of two.
        size : int
            Bytes of a total.
        shelves : list, optional
            As for `runs`.
        """
        if _make_their_blocks(calls):
            # The last few are combined here: a worker would hold three of them, two of which it did not make.
            runs = self._in_turn(calls, shelves)
            cuts = np.linspace(0, len(runs), min(FAN_IN, len(runs)) + 1).astype(int).tolist()
            groups = [runs[low:high] for low, high in itertools.pairwise(cuts)]
            one = functools.partial(go_on, function, len(calls[0]))
            found = self.reduce_each(name, one, groups, shared, combine=combine)
            return functools.reduce(combine, (self.fetch([total])[0] for total in found))
        wave = max(1, int(WAVE_FRACTION * self.memory()) // size)
        one = functools.partial(function, None)
        totals = (
            self.fetch(self.reduce_each(name, one, [calls[low : low + wave]], shared, combine=combine))[0]
            for low in range(0, len(calls), wave)
        )
        return functools.reduce(combine, totals)

    def load(self, stem: str, sources: Sequence[Any]) -> list:
        """Make the blocks and keep them where they are made, under keys that depend on `stem` only."""
        graph: dict[Any, Any] = {}
        keys: list[Any] = [(stem, i) for i in range(len(sources))]
        for key, source in zip(keys, sources, strict=True):
            if isinstance(source, Node):
                graph.update(source.graph)
                graph[key] = Task(key, source.finish, TaskRef(source.key))
            else:
                graph[key] = Task(key, source.read)
        return self._run(graph, keys)

    def put(self, name: str, values: Sequence[Any]) -> list:
        if self.client is None:
            return list(values)
        handles: list[Any] = []
        graph: dict[Any, Any] = {}
        size, limit = 0, self._message_bytes()
        stem = f"{name}-{uuid.uuid4().hex}"
        for i, value in enumerate(values):
            bytes_ = getattr(value, "nbytes", 0)
            if graph and size + bytes_ > limit:
                handles += self._run(graph, list(graph))
                graph, size = {}, 0
            if bytes_ > limit:
                handles.append(self._put_large(name, value, limit))
            else:
                graph[stem, i] = DataNode((stem, i), value)
                size += bytes_
        return handles + (self._run(graph, list(graph)) if graph else [])

    def fetch(self, handles: Sequence[Any]) -> list:
        if self.client is None:
            return list(handles)
        gathered: list = self.client.gather(list(handles))
        return gathered

    def keep(self, handles: Sequence[Any]) -> None:
        """Leave these results alive after `close`, for as long as somebody holds them."""
        if self.client is not None:
            self._owned.difference_update(handles)

    def memory(self) -> int:
        """Bytes that the workers in question may use together."""
        return sum(self._worker_memory())

    def task_memory(self) -> int:
        """Bytes of the smallest worker in question: what a task can count on wherever it runs."""
        if self.client is None:
            return _free_memory_of_this_machine()
        # Workers that are still to come are taken to be like this machine.
        return min(self._worker_memory(), default=_memory_of_this_machine())

    def slots(self) -> int:
        """Calls that can run at the same time."""
        if self.client is None:
            return CPU_COUNT
        return max(1, sum(int(worker["nthreads"]) for worker in self._able()))

    def close(self) -> None:
        """Release every result that was not kept; tasks that nobody waits for any more are dropped by Dask."""
        for handle in list(self._owned):
            handle.release()
        self._owned.clear()

    def _worker_memory(self) -> list[int]:
        if self.client is None:
            return [_memory_of_this_machine()]
        able = self._able()
        return [int(w["memory_limit"]) or _memory_of_this_machine() // max(len(able), 1) for w in able]

    def _in_turn(self, calls: Sequence[tuple], shelves: list | None) -> list[tuple]:
        """Return the arguments of tasks in which calls follow each other."""
        shelves = shelves or [None] * min(self.slots(), len(calls))
        ends = np.linspace(0, len(calls), len(shelves) + 1).astype(int).tolist()
        later = [tuple(Later(a, i) if isinstance(a, Piece) else a for a in call) for i, call in enumerate(calls)]
        return [
            (high - low, shelf, *itertools.chain.from_iterable(later[low:high]))
            for shelf, (low, high) in zip(shelves, itertools.pairwise(ends), strict=True)
        ]

    def _able(self) -> list[Any]:
        """Return what is known of the workers that may take these tasks."""
        assert self.client is not None
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return [w for w in workers if not self.resources or self.resources.keys() <= w["resources"].keys()]

    def _run(self, graph: dict[Any, Any], keys: list) -> list:
        if self.client is None:
            return list(self.get(graph, keys))
        futures: list = self.client.get(graph, keys, sync=False, resources=self.resources)
        self._owned.update(futures)
        return futures

    def _graph(
        self, name: str, function: Callable, calls: Sequence[tuple], shared: tuple
    ) -> tuple[dict[Any, Any], list, list]:
        stem = f"{name}-{uuid.uuid4().hex}"
        graph: dict[Any, Any] = {}
        # Handles that the caller must hold until the graph is on its way; Dask would forget them before.
        held: list = []
        common = [self._shared(graph, held, stem, i, value, len(calls)) for i, value in enumerate(shared)]
        seen: dict[int, TaskRef] = {}
        merged: set[int] = set()
        keys: list = []
        for i, arguments in enumerate(calls):
            key = (stem, i)
            references = [_reference(graph, stem, a, seen, merged) for a in arguments]
            graph[key] = Task(key, invoke, function, *references, *common)
            keys.append(key)
        return graph, keys, held

    def _shared(self, graph: dict[Any, Any], held: list, stem: str, position: int, value: Any, copies: int) -> Any:
        if _is_future(value):
            return TaskRef(value.key)
        if not isinstance(value, np.ndarray) or value.nbytes * copies <= INLINE_BYTES:
            return value
        # One node that the workers pass on among themselves, not a copy per task.
        if self.client is not None and value.nbytes > self._message_bytes():
            held.append(self._put_large(f"{stem}-shared", value, self._message_bytes()))
            return TaskRef(held[-1].key)
        key = (f"{stem}-shared", position)
        graph[key] = DataNode(key, value)
        return TaskRef(key)

    def _put_large(self, name: str, value: np.ndarray, limit: int) -> Any:
        # In messages of a bounded size. Not scattered: a scattered value dies with its worker, a task's is made again.
        rows = max(1, int(limit * len(value) // max(value.nbytes, 1)))
        parts = [value[low : low + rows] for low in range(0, len(value), rows)]
        handles = [self._run({key: DataNode(key, part)}, [key])[0] for key, part in _keyed(name, parts)]
        key = f"{name}-{uuid.uuid4().hex}"
        return self._run({key: Task(key, _concatenate, *[TaskRef(h.key) for h in handles])}, [key])[0]

    def _message_bytes(self) -> int:
        # Dask warns about a graph above its threshold.
        return int(parse_bytes(dask.config.get("distributed.admin.large-graph-warning-threshold", "10MB"))) // 2


def choose_engine(*arrays: Any) -> Engine:
    """Pick what runs the passes over these arrays, the way `dask.compute` would.

    Parameters
    ----------
    *arrays
        NumPy or Dask arrays. Without a Dask array among them the work is done here, one call after the other.

    Returns
    -------
    Engine
        For Dask arrays: the active client (also from a thread other than the one that made it), else the scheduler
        of `dask.config`, else Dask's threads. If any worker of the client declares the resource "CPU", every task
        asks for one of it, so that workers without it (GPU workers) are left alone.
    """
    collections = [a for a in arrays if dask.is_dask_collection(a)]
    return scheduled_engine(collections) if collections else Serial()


def scheduled_engine(collections: Iterable[Any] = ()) -> Scheduled:
    """Return the engine for work that is to run where Dask runs, even without a Dask array."""
    import dask.threaded

    get = dask.base.get_scheduler(collections=list(collections)) or dask.threaded.get
    client = getattr(get, "__self__", None)
    if client is None or not hasattr(client, "scheduler_info"):
        return Scheduled(get)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    declared = any("CPU" in worker["resources"] for worker in workers)
    return Scheduled(get, client, {"CPU": 1} if declared else None)


def step_name(phase: str, default: str) -> str:
    """Return "<step>.<phase>", the name under which Dask's dashboard shows the tasks of a phase."""
    # Dask ends a task's name at the first word after a hyphen that is not letters only.
    return f"{label.get() or default}.{phase}".replace("-", "_")


def _reference(graph: dict[Any, Any], stem: str, value: Any, seen: dict[int, TaskRef], merged: set[int]) -> Any:
    """Say how an argument stands in a task, adding to the graph what it needs."""
    if _is_future(value):
        return TaskRef(value.key)
    if isinstance(value, Node):
        if id(value) not in seen:
            if id(value.graph) not in merged:
                graph.update(value.graph)
                merged.add(id(value.graph))
            key = (f"{stem}-block", len(seen))
            graph[key] = Task(key, value.finish, TaskRef(value.key))
            seen[id(value)] = TaskRef(key)
        return seen[id(value)]
    return value


def _make_their_blocks(calls: Sequence[tuple]) -> bool:
    return all(isinstance(call[0], Piece) for call in calls)


def _concatenate(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def _keyed(name: str, parts: Sequence[Any]) -> list[tuple[Any, Any]]:
    stem = f"{name}-{uuid.uuid4().hex}"
    return [((stem, i), part) for i, part in enumerate(parts)]


def _is_future(value: Any) -> bool:
    # Of any scheduler that speaks distributed's protocol, without importing distributed.
    return isinstance(value, TaskRef) and hasattr(value, "client")


def _memory_of_this_machine() -> int:
    return int(psutil.virtual_memory().total)


def _free_memory_of_this_machine() -> int:
    return int(psutil.virtual_memory().available)
