"""How a task gets its row block: from the graph of a Dask array, checked, as floats; and what may be kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import dask
import numpy as np

from tasks.methods.pieces import Node, Piece

LITERAL_BYTES = 1 << 20
"""Largest object that a task which reads its own block may carry in its graph although other blocks use it too."""


def working_dtype(dtype: np.dtype) -> np.dtype:
    """Return the float type that holds the values: float32 for float32 and for integers of up to 16 bits."""
    narrow = dtype == np.float32 or dtype.itemsize <= 2
    return np.dtype(np.float32 if narrow else np.float64)


def finish_block(block: Any, columns: int, dtype: np.dtype, name: str, sparse: bool = False) -> Any:
    """Turn what a task read into a checked block of floats, or into a sparse one by rows if it is sparse."""
    from scipy.sparse import issparse
    from sklearn.utils import assert_all_finite

    if issparse(block):
        if not sparse:
            raise TypeError(
                f"expected dense blocks for {name}, received a SciPy-sparse one; use map_blocks(lambda b: b.toarray())"
            )
        block = block.tocsr().astype(dtype, copy=False)
    else:
        block = np.asarray(block)
    if block.ndim != 2 or block.shape[1] != columns:
        raise ValueError(f"expected a block of shape (rows, {columns}), received {block.shape}; check how X was made")
    if not issparse(block):
        block = np.ascontiguousarray(block, dtype=dtype)
    assert_all_finite(block, input_name="X", estimator_name=name)
    return block


def sources_of(array: Any, finish: Callable[[Any], Any]) -> list[Any]:
    """Say for each row block how a task gets it.

    A block that shares no work with others becomes a `Piece`: the task that needs it makes it by itself, so that it
    never lies in memory waiting. Otherwise the blocks are nodes of one graph, whose shared parts are made once.
    """
    from dask.core import flatten

    keys = list(flatten(array.__dask_keys__()))
    (array,) = dask.optimize(array)
    graph = dict(array.__dask_graph__())
    parts = _separate(graph, keys)
    if parts is None:
        return [Node(graph, key, finish) for key in keys]
    return [Piece(part, key, finish) for part, key in zip(parts, keys, strict=True)]


def _separate(graph: dict[Hashable, Any], keys: Sequence[Hashable]) -> list[dict[Hashable, Any]] | None:
    """Cut a graph into one graph per key, or return None if they share work or hold results of a cluster."""
    from dask._task_spec import DataNode, TaskRef, convert_legacy_graph
    from dask.sizeof import sizeof

    if any(isinstance(node, TaskRef) for node in graph.values()):
        return None
    graph = convert_legacy_graph(graph)
    owner: dict[Hashable, Hashable] = {}
    parts = []
    for key in keys:
        part: dict[Hashable, Any] = {}
        waiting = [key]
        while waiting:
            name = waiting.pop()
            if name in part:
                continue
            node = graph.get(name)
            if node is None:
                return None
            if owner.setdefault(name, key) != key and not (
                isinstance(node, DataNode) and sizeof(node.value) <= LITERAL_BYTES
            ):
                return None
            part[name] = node
            waiting.extend(node.dependencies)
        parts.append(part)
    return parts


class Ledger:
    """How many bytes the fits of this process keep in the workers' memory, by array; safe to use from threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Hashable, tuple[int, int]] = {}

    def enter(self, place: Hashable, size: int, limit: int) -> bool:
        """Note one more user of an array; False, and no note, if it is new and the sum would pass the limit."""
        with self._lock:
            bytes_, users = self._held.get(place, (size, 0))
            if not users and sum(held for held, _ in self._held.values()) + size > limit:
                return False
            self._held[place] = (bytes_, users + 1)
            return True

    def leave(self, place: Hashable) -> None:
        """Note one user less; without users the array counts no more."""
        with self._lock:
            bytes_, users = self._held.pop(place)
            if users > 1:
                self._held[place] = (bytes_, users - 1)
