"""Row blocks of a matrix: how every method here goes over its data.

A matrix is a run of row blocks, each over all columns. On a Dask array a pass is one task per block and a tree of
tasks that combines what they found; data that fits is read once and kept in the workers' memory until the fit is
over, other data is read again in every pass. On a NumPy array the blocks are views and the passes are plain calls.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import dask
import numpy as np

from tasks.methods.execution import Engine, choose_engine, step_name
from tasks.methods.reading import Ledger, finish_block, sources_of, working_dtype
from tasks.methods.threads import one_blas_thread

CACHE_FRACTION = 0.3
"""Share of the workers' memory that all fits of this process together may fill with data kept for further passes."""

VIEW_BYTES = 32 << 20
"""Size of the row blocks that an array in this process is cut into; bounds what a pass allocates beside it."""

_LEDGER = Ledger()


class Blocks:
    """The row blocks of one matrix during one fit; made by `open_blocks`.

    Attributes
    ----------
    engine : Engine
        What runs the passes.
    lengths : tuple of int
        Rows of each block; no block is empty.
    starts : tuple of int
        First row of each block.
    shape : tuple of (int, int)
        Rows and columns of the matrix.
    dtype : numpy.dtype
        float32 or float64: what the blocks hold when a function gets them.
    cached : bool
        True if the blocks stay in memory between passes.
    """

    def __init__(
        self, sources: Sequence[Any], lengths: Sequence[int], columns: int, dtype: np.dtype, engine: Engine, name: str
    ) -> None:
        self.sources = list(sources)
        self.lengths = tuple(int(n) for n in lengths)
        self.starts = tuple(int(n) for n in np.cumsum((0, *self.lengths))[:-1])
        self.shape = (sum(self.lengths), columns)
        self.dtype = dtype
        self.engine = engine
        self.cached = not engine.parallel
        self._name = name

    def __len__(self) -> int:
        return len(self.sources)

    def named(self, phase: str) -> str:
        """Return the name that tasks of this phase carry."""
        return step_name(phase, self._name)

    def map(self, phase: str, function: Callable, *aligned: Sequence[Any], shared: tuple = ()) -> list:
        """Call ``function(block, *one of each aligned, *shared)`` for every block.

        Parameters
        ----------
        phase : str
            What the pass does, for the task's names.
        function : callable
            Pure, and importable by the workers.
        *aligned : sequence
            One entry per block: handles of an earlier pass, or small values.
        shared : tuple
            The same for all blocks; arrays are sent once.

        Returns
        -------
        list
            A handle per block. The results stay where they were made; `fetch` brings them here.
        """
        return self.engine.map(self.named(phase), function, self._calls(aligned), shared)

    def reduce(
        self, phase: str, function: Callable, *aligned: Sequence[Any], shared: tuple = (), combine: Callable
    ) -> Any:
        """Call the function as `map` does and combine the results, in block order, to one value in this process."""
        groups = [self._calls(aligned)]
        return self.fetch(self.engine.reduce_each(self.named(phase), function, groups, shared, combine=combine))[0]

    def scatter(self, phase: str, values: np.ndarray) -> list:
        """Cut an array of one entry per row along the blocks and bring each part to the workers."""
        parts = [values[low : low + n] for low, n in zip(self.starts, self.lengths, strict=True)]
        return self.engine.put(self.named(phase), parts)

    def fetch(self, handles: Sequence[Any]) -> list:
        """Bring results to this process."""
        return self.engine.fetch(handles)

    def take(self, rows: np.ndarray, phase: str = "take") -> np.ndarray:
        """Bring some rows to this process.

        Parameters
        ----------
        rows : ndarray of int64, shape (m,)
            Positions in the matrix, increasing. They must be few: all of them are held here.

        Returns
        -------
        ndarray, shape (m, columns)
        """
        cuts = np.searchsorted(rows, (*self.starts, self.shape[0]))
        calls = [
            (self.sources[i], rows[cuts[i] : cuts[i + 1]] - self.starts[i])
            for i in range(len(self))
            if cuts[i] < cuts[i + 1]
        ]
        parts = self.fetch(self.engine.map(self.named(phase), _take_rows, calls))
        return np.concatenate(parts) if parts else np.empty((0, self.shape[1]), self.dtype)

    def assemble(self, handles: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Any:
        """Make one array of a handle per block.

        Parameters
        ----------
        handles : sequence
            Results of `map`: arrays of shape (rows of the block, *shape).
        shape : tuple of int
            What follows the row axis; () for one value per row.
        dtype : dtype
            Of the results.

        Returns
        -------
        ndarray or dask.array.Array
            A Dask array, whose blocks are the results, if the matrix was one.
        """
        return assemble(self.engine, handles, self.lengths, shape, dtype, self.named("result"))

    def _calls(self, aligned: Sequence[Sequence[Any]]) -> list[tuple]:
        return list(zip(self.sources, *aligned, strict=True))


def is_dask(array: Any) -> bool:
    """Return True for a Dask array, False for what is in this process.

    Raises
    ------
    TypeError
        For Dask's other collections: a data frame does not know its length.
    """
    if not dask.is_dask_collection(array):
        return False
    if not hasattr(array, "chunks"):
        raise TypeError(
            f"expected a NumPy or Dask array, received a Dask {type(array).__name__}; "
            "use its to_dask_array(lengths=True)"
        )
    return True


def check_dask_matrix(X: Any, name: str = "X") -> Any:
    """Check what can be checked of a Dask matrix without computing, and return it with one block over the columns.

    Raises
    ------
    ValueError
        If it is not two-dimensional, not numeric, has no rows or columns, or has chunks of unknown size.
    """
    if X.ndim != 2:
        raise ValueError(f"expected 2D array for {name}, received {X.ndim}D array instead; reshape it")
    if np.isnan(np.sum(X.shape)):
        raise ValueError(
            f"expected a Dask array with known chunk sizes for {name}, received chunks of unknown size; "
            "call compute_chunk_sizes() on it first"
        )
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} is {X.dtype}")
    if X.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers in {name}, received dtype {X.dtype}; convert it to float32 or float64")
    if X.shape[1] == 0:
        raise ValueError(f"expected at least one column in {name}, received shape {X.shape}")
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


@contextmanager
def open_blocks(
    X: Any,
    *,
    name: str,
    passes: int = 2,
    engine: Engine | None = None,
    sparse: bool = False,
    view_bytes: int | None = None,
) -> Iterator[Blocks]:
    """Open a matrix for the passes of one fit, and release what the fit leaves in the workers' memory.

    Parameters
    ----------
    X : ndarray or dask.array.Array, shape (rows, columns)
        Checked already, if NumPy; a Dask array is checked here and its values in the workers.
    name : str
        Names the tasks unless `execution.label` is set; a method gives its class.
    passes : int
        How often the fit will go over the data, as far as known; for one pass nothing is kept.
    engine : Engine, optional
        An engine to use instead of the one that suits X.
    sparse : bool, default False
        The blocks of a Dask array may be SciPy-sparse; then functions get them as matrices by rows.
    view_bytes : int, optional
        Size of the blocks of a NumPy array; by default `VIEW_BYTES`.

    Yields
    ------
    Blocks

    Notes
    -----
    If the data takes up at most `CACHE_FRACTION` of the workers' memory it is read once and kept there, as float32 or
    float64, for the time of the fit. Fits on the same array at the same time share what is kept.
    """
    own = engine is None
    engine = engine or choose_engine(X)
    with ExitStack() as stack:
        if own:
            stack.callback(engine.close)
        if engine.parallel:
            stack.enter_context(one_blas_thread())
        if is_dask(X):
            blocks = _lazy_blocks(check_dask_matrix(X), engine, name, sparse)
            if passes > 1 and (release := _cache(blocks, X)):
                stack.callback(release)
        else:
            blocks = _views(X, engine, name, VIEW_BYTES if view_bytes is None else view_bytes)
        yield blocks


def _lazy_blocks(X: Any, engine: Engine, name: str, sparse: bool) -> Blocks:
    dtype = working_dtype(X.dtype)
    finish = partial(finish_block, columns=X.shape[1], dtype=dtype, name=name, sparse=sparse)
    filled = [(source, n) for source, n in zip(sources_of(X, finish), X.chunks[0], strict=True) if n]
    return Blocks([source for source, _ in filled], [n for _, n in filled], X.shape[1], dtype, engine, name)


def assemble(
    engine: Engine, handles: Sequence[Any], lengths: Sequence[int], shape: tuple[int, ...], dtype: Any, name: str
) -> Any:
    """Make one array of the handles of row blocks: NumPy if the work was done here, else Dask."""
    if not engine.parallel:
        return np.concatenate(handles)
    import dask.array as da
    from dask._task_spec import DataNode

    engine.keep(handles)
    stem = f"{name}-{uuid.uuid4().hex}"
    graph: dict[Hashable, Any] = {}
    for i, handle in enumerate(handles):
        key = (stem, i, *(0,) * len(shape))
        graph[key] = DataNode(key, handle) if isinstance(handle, np.ndarray) else handle
    chunks = (tuple(lengths), *((n,) for n in shape))
    return da.Array(graph, stem, chunks, meta=np.empty((0,) * (1 + len(shape)), dtype))


def collect(array: Any, phase: str = "collect", name: str = "result") -> np.ndarray:
    """Compute a Dask array into this process, under the rules of the passes (names, CPU workers only).

    Parameters
    ----------
    array : ndarray or dask.array.Array, shape (rows, ...)
        Must fit in this process. A NumPy array is returned as it is.
    """
    if not is_dask(array):
        return np.asarray(array)
    if array.ndim > 1:
        array = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    engine = choose_engine(array)
    try:
        calls = [(source,) for source in sources_of(array, np.asarray)]
        parts = engine.fetch(engine.map(step_name(phase, name), np.asarray, calls))
    finally:
        engine.close()
    return np.concatenate(parts)


def map_rows(
    X: Any,
    function: Callable[[np.ndarray], np.ndarray],
    *,
    name: str,
    phase: str,
    columns: int | None,
    dtype: Any,
    sparse: bool = False,
) -> Any:
    """Apply a function to every row block: at once to a NumPy array, lazily to a Dask array.

    Parameters
    ----------
    X : ndarray or dask.array.Array, shape (rows, d)
        Checked already.
    function : callable
        (m, d) -> (m,) or (m, columns); works on each row by itself.
    name, phase : str
        For the task's names.
    columns : int or None
        Columns of the result; None for one value per row.
    dtype : dtype
        Of the result.
    sparse : bool, default False
        The blocks of a Dask array may be SciPy-sparse.
    """
    if not is_dask(X):
        rows = _view_rows(X, VIEW_BYTES)
        parts = [function(X[low : low + rows]) for low in range(0, len(X), rows)]
        return np.concatenate(parts) if parts else np.empty((0,) if columns is None else (0, columns), dtype)
    X = check_dask_matrix(X)
    finish = partial(finish_block, columns=X.shape[1], dtype=working_dtype(X.dtype), name=name, sparse=sparse)
    if not sparse and _is_sparse(X._meta):
        finish(X._meta)  # refused now, not by the tasks
    return X.map_blocks(
        partial(_finish_and_apply, finish, function, np.empty((0,) if columns is None else (0, columns), dtype)),
        token=step_name(phase, name),
        dtype=dtype,
        meta=np.empty((0,) if columns is None else (0, 0), dtype),
        drop_axis=1 if columns is None else None,
        chunks=(X.chunks[0],) if columns is None else (X.chunks[0], (columns,)),
    )


def _is_sparse(block: Any) -> bool:
    from scipy.sparse import issparse

    return bool(issparse(block))


def _finish_and_apply(finish: Callable, function: Callable, nothing: np.ndarray, block: np.ndarray) -> np.ndarray:
    rows = finish(block)
    # Estimators refuse a block without rows; filters leave such blocks.
    return function(rows) if rows.shape[0] else nothing


def _view_rows(X: np.ndarray, size: int) -> int:
    return max(1, size // max(1, X.shape[1] * X.dtype.itemsize))


def _views(X: np.ndarray, engine: Engine, name: str, size: int) -> Blocks:
    rows = _view_rows(X, size)
    views = [X[low : low + rows] for low in range(0, len(X), rows)]
    # To workers they travel once for all passes; here they are the views themselves.
    sources = engine.put(step_name("put", name), views)
    blocks = Blocks(sources, [len(v) for v in views], X.shape[1], X.dtype, engine, name)
    blocks.cached = True
    return blocks


def _take_rows(block: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return block[rows]


def _stored_bytes(block: Any) -> int:
    arrays = (block.data, block.indices, block.indptr) if hasattr(block, "nnz") else (block,)
    return sum(a.nbytes for a in arrays)


def _cache(blocks: Blocks, X: Any) -> Callable[[], None] | None:
    """Keep the blocks in memory if they fit; return what ends that."""
    size = blocks.shape[0] * blocks.shape[1] * blocks.dtype.itemsize
    if hasattr(X._meta, "nnz"):
        size = blocks.reduce("size", _stored_bytes, combine=operator.add)
    place = (getattr(getattr(blocks.engine, "client", None), "id", None), X.name)
    if not _LEDGER.enter(place, size, int(CACHE_FRACTION * blocks.engine.memory())):
        return None
    # Named by the data and not by the step: fits on the same array find each other's blocks under the same keys.
    stem = f"data.load-{dask.base.tokenize(X.name, blocks.dtype.str)}"
    try:
        blocks.sources = blocks.engine.load(stem, blocks.sources)
    except BaseException:
        _LEDGER.leave(place)
        raise
    blocks.cached = True
    return partial(_LEDGER.leave, place)
