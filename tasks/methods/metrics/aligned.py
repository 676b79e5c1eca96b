"""Arrays of one entry per row, cut along the same blocks: how a metric goes over truth, prediction and weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tasks.methods.blocks import is_dask
from tasks.methods.execution import Engine, choose_engine, step_name
from tasks.methods.reading import sources_of


class AlignedRows:
    """The common row blocks of some arrays; made by `open_aligned`."""

    def __init__(self, engine: Engine, calls: list[tuple], name: str) -> None:
        self._engine = engine
        self._calls = calls
        self._name = name

    def reduce(self, phase: str, function: Callable, *, shared: tuple = (), combine: Callable) -> Any:
        """Call ``function(*a block of each array, *shared)`` and combine the results, in order, to one value here."""
        name = step_name(phase, self._name)
        found = self._engine.reduce_each(name, function, [self._calls], shared, combine=combine)
        return self._engine.fetch(found)[0]


@contextmanager
def open_aligned(name: str, **arrays: Any) -> Iterator[AlignedRows]:
    """Open arrays of equal length for a pass over their rows.

    Parameters
    ----------
    name : str
        Names the tasks.
    **arrays
        NumPy or Dask arrays by the names of the caller's parameters, at least one of them Dask; None stays None for
        every block. The first Dask array gives the blocks. Another one is cut along them lazily, which sends rows
        only where the chunks differ; what is in this process is cut here and sent to its tasks.

    Raises
    ------
    ValueError
        If the lengths differ, there are no rows, or chunks are of unknown size.
    """
    checked = {key: _checked(key, array) for key, array in arrays.items()}
    there = {key: array for key, array in checked.items() if array is not None}
    lengths = {key: array.shape[0] for key, array in there.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{n} in {key}" for key, n in lengths.items())
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: expected one number, found {told}"
        )
    if not next(iter(lengths.values())):
        raise ValueError(f"expected at least one row in {next(iter(lengths))}, received none")
    lazy = [array for array in there.values() if is_dask(array)]
    chunks = lazy[0].chunks[0]
    engine = choose_engine(*lazy)
    try:
        columns = [_cut(engine, step_name(key, name), array, chunks) for key, array in checked.items()]
        calls = [call for call, n in zip(zip(*columns, strict=True), chunks, strict=True) if n]
        yield AlignedRows(engine, calls, name)
    finally:
        engine.close()


def any_dask(*arrays: Any) -> bool:
    """Say whether the work is ours: scikit-learn's own functions do what is in this process."""
    return any(is_dask(array) for array in arrays)


def _checked(name: str, array: Any) -> Any:
    if array is None:
        return None
    if not is_dask(array):
        array = np.asarray(array)
    elif np.isnan(array.shape).any():
        raise ValueError(
            f"expected a Dask array with known chunk sizes for {name}, received chunks of unknown size; "
            "call compute_chunk_sizes() on it first"
        )
    if array.ndim not in (1, 2):
        raise ValueError(f"expected a 1D or 2D array for {name}, received {array.ndim}D; reshape it")
    return array


def _cut(engine: Engine, name: str, array: Any, chunks: tuple[int, ...]) -> list:
    if array is None:
        return [None] * len(chunks)
    if not is_dask(array):
        edges = np.cumsum((0, *chunks))
        return engine.put(name, [array[low:high] for low, high in itertools.pairwise(edges)])
    whole = (chunks, *((n,) for n in array.shape[1:]))
    return sources_of(array if array.chunks == whole else array.rechunk(whole), np.asarray)
