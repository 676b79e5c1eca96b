"""Placing rows by some that are held: how these travel to the tasks of a lazy result, and how they are chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import numpy as np

from tasks.methods.blocks import check_dask_matrix, is_dask, map_rows
from tasks.methods.execution import step_name
from tasks.methods.reading import finish_block, working_dtype


def place_rows(
    X: Any, function: Callable[..., np.ndarray], held: tuple[np.ndarray, ...], *, name: str, columns: int
) -> Any:
    """Apply ``function(block, *held)`` to every row block: at once to a NumPy array, lazily to a Dask array.

    Parameters
    ----------
    X : ndarray or dask.array.Array, shape (m, d)
        Checked already.
    function : callable
        (rows, d) -> (rows, columns), float64; works on each row by itself.
    held : tuple of ndarray
        Each is one node of the graph, which the workers pass on; not every task carries it.
    name : str
        For the tasks' names.
    columns : int
        Of the result.

    Returns
    -------
    ndarray or lazy dask.array.Array, float64 (m, columns)
    """
    if not is_dask(X):
        apply = partial(_with_held, held=held, function=function)
        return map_rows(X, apply, name=name, phase="transform", columns=columns, dtype=np.float64)
    X = check_dask_matrix(X)
    finish = partial(finish_block, columns=X.shape[1], dtype=working_dtype(X.dtype), name=name)
    return X.map_blocks(
        _finish_and_place,
        *(dask.delayed(array, pure=True) for array in held),
        finish=finish,
        function=function,
        columns=columns,
        token=step_name("transform", name),
        dtype=np.float64,
        meta=np.empty((0, 0)),
        chunks=(X.chunks[0], (columns,)),
    )


def choose_rows(count: int, rows: int, random: np.random.RandomState) -> np.ndarray:
    """Choose `count` of `rows` positions, increasing; all of them if there are no more."""
    if rows <= count:
        return np.arange(rows)
    return np.sort(random.choice(rows, count, replace=False))


def _with_held(block: np.ndarray, held: tuple[np.ndarray, ...], function: Callable[..., np.ndarray]) -> np.ndarray:
    return function(block, *held)


def _finish_and_place(
    block: np.ndarray, *held: np.ndarray, finish: Callable, function: Callable, columns: int
) -> np.ndarray:
    if not len(block):
        return np.empty((0, columns))
    result: np.ndarray = function(finish(block), *held)
    return result
