"""Splits of rows, by row number: the same whatever the chunks, and picked block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn import model_selection
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from tasks.methods.blocks import collect, is_dask


class KFold(model_selection.KFold):
    """scikit-learn's `KFold`; X may be a Dask array, of which only the length is asked."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of training and test of each fold, increasing."""
        yield from super().split(np.empty((count_rows(X), 0)), None, groups)


class StratifiedKFold(model_selection.StratifiedKFold):
    """scikit-learn's `StratifiedKFold`, for Dask arrays too.

    The rows of a class in two folds differ by at most one. X may be a Dask array, of which only the length is asked;
    labels of a Dask array are brought to this process.
    """

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers of training and test of each fold, increasing."""
        yield from super().split(np.empty((count_rows(X), 0)), collect(y) if is_dask(y) else y, groups)


def take_rows(array: Any, rows: np.ndarray) -> Any:
    """Pick rows; of a Dask array lazily, each block for itself, so that nothing travels.

    Parameters
    ----------
    array : array-like, sparse matrix or dask.array.Array, shape (n, ...)
    rows : ndarray of int64, shape (m,)
        For a Dask array increasing.

    Returns
    -------
    of the same kind, shape (m, ...)
        A Dask array has a block, of known size, for each of the array's that has rows in it.

    Raises
    ------
    ValueError
        If a Dask array has chunks of unknown size, or the rows are not increasing.
    """
    if not is_dask(array):
        return _safe_indexing(array, rows)
    import dask.array as da

    edges = np.cumsum((0, *array.chunks[0])) if count_rows(array) else np.zeros(1, int)
    rows = np.asarray(rows)
    if len(rows) and (np.any(np.diff(rows) <= 0) or rows[0] < 0 or rows[-1] >= edges[-1]):
        raise ValueError(f"expected increasing row numbers of 0 to {edges[-1] - 1}, received others; sort them")
    cuts = np.searchsorted(rows, edges)
    parts = [
        array.blocks[i][rows[low:high] - edges[i]]
        for i, (low, high) in enumerate(itertools.pairwise(cuts))
        if low < high
    ]
    return da.concatenate(parts) if parts else array[:0]


def train_test_split(
    *arrays: Any,
    test_size: Any = None,
    train_size: Any = None,
    random_state: Any = None,
    shuffle: bool = True,
    stratify: Any = None,
) -> list[Any]:
    """Split arrays of equal length into training and test, the same rows of each.

    scikit-learn's draw for the same `random_state`. Where an array is a Dask array the rows keep their order, in all
    of them: nothing is shuffled. NumPy input is scikit-learn's own work, which gives the rows in the drawn order.

    Parameters
    ----------
    *arrays : array-like, sparse matrix or dask.array.Array, shape (n, ...)
    test_size, train_size : float or int, optional
        Share or number of rows; a quarter is for the test if neither is given.
    random_state : int, RandomState or None
    shuffle : bool, default True
        False takes the last rows for the test.
    stratify : array-like or dask.array.Array, shape (n,), optional
        Labels whose shares both parts keep.

    Returns
    -------
    list
        Training and test of the first array, then of the second, and so on; of Dask arrays lazily.
    """
    options = {"test_size": test_size, "train_size": train_size, "random_state": random_state, "shuffle": shuffle}
    stratify = collect(stratify) if is_dask(stratify) else stratify
    if not any(is_dask(array) for array in arrays):
        found: list[Any] = model_selection.train_test_split(*arrays, stratify=stratify, **options)
        return found
    lengths = {count_rows(array) for array in arrays}
    if len(lengths) != 1:
        raise ValueError(f"expected arrays of one length, received lengths {sorted(lengths)}")
    parts = model_selection.train_test_split(np.arange(lengths.pop()), stratify=stratify, **options)
    parts = [np.sort(part) for part in parts]
    return [take_rows(array, part) for array in arrays for part in parts]


def count_rows(array: Any) -> int:
    """Return the number of rows; of a Dask array they must be known."""
    if not is_dask(array):
        return int(_num_samples(array))
    if np.isnan(array.shape[0]):
        raise ValueError(
            "expected a Dask array with known chunk sizes, received chunks of unknown size; "
            "call compute_chunk_sizes() on it first"
        )
    return int(array.shape[0])
