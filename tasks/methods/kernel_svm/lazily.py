"""Lazy results that need large arrays beside each row block."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from tasks.methods.blocks import check_dask_matrix, map_rows
from tasks.methods.execution import INLINE_BYTES, Scheduled, choose_engine, step_name
from tasks.methods.reading import finish_block, working_dtype


def map_rows_holding(
    X: Any,
    function: Callable[..., np.ndarray],
    held: Mapping[str, np.ndarray],
    *,
    name: str,
    phase: str,
    columns: int | None,
    dtype: Any,
) -> Any:
    """Apply ``function(block, **held)`` as `map_rows` does, with arrays that may be too large for a graph.

    On a cluster, arrays of more than 1 MB together are sent to the workers now, in messages of a bounded size, and
    live there as long as the result.
    """
    engine = choose_engine(X)
    small = sum(array.nbytes for array in held.values()) <= INLINE_BYTES
    if small or not isinstance(engine, Scheduled) or engine.client is None:
        return map_rows(X, partial(function, **held), name=name, phase=phase, columns=columns, dtype=dtype)
    handles = engine.put(step_name("vectors", name), list(held.values()))
    engine.keep(handles)
    X = check_dask_matrix(X)
    prepare = partial(finish_block, columns=X.shape[1], dtype=working_dtype(X.dtype), name=name)
    return X.map_blocks(
        partial(_finish_and_apply, prepare, function),
        **{word: _delayed(handle) for word, handle in zip(held, handles, strict=True)},
        token=step_name(phase, name),
        dtype=dtype,
        meta=np.empty((0,) if columns is None else (0, 0), dtype),
        drop_axis=1 if columns is None else None,
        chunks=(X.chunks[0],) if columns is None else (X.chunks[0], (columns,)),
    )


def _delayed(handle: Any) -> Any:
    from dask.delayed import Delayed

    key = f"vectors-{uuid.uuid4().hex}"
    return Delayed(key, {key: handle})


def _finish_and_apply(prepare: Callable, function: Callable, block: np.ndarray, **held: np.ndarray) -> np.ndarray:
    result: np.ndarray = function(prepare(block), **held)
    return result
