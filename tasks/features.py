"""Numbers for the methods: pixels as they are, texts as hashed tf-idf; lazy Dask matrices over a dataset's shards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.adapters.arrays import lazy_rows
from storage.dataset import Dataset, open_dataset

if TYPE_CHECKING:
    import dask.array
    from scipy.sparse import csr_matrix

BLOCK_BYTES = 64 << 20
"""Most bytes of one block as float32; a task holds about three blocks."""
LEAST_BLOCKS = 8
"""Blocks aimed at for small data, so that every worker has some; a block is never smaller than `LEAST_BYTES`."""
LEAST_BYTES = 4 << 20


class Features:
    """Turn the samples of datasets into matrices. What must be learnt is learnt from one training split.

    Images become their pixels, divided by 255. Texts become hashed tf-idf: lower-cased words of two or more
    characters are hashed to columns (MurmurHash3, as scikit-learn's `HashingVectorizer`), counts are weighted by
    ``ln((1 + n) / (1 + df)) + 1`` with document frequencies of the training split, and rows have length 1.

    Parameters
    ----------
    train : Dataset
        Its training split gives the document frequencies; read on first use.
    n_features : int
        Columns for texts.

    References
    ----------
    Weinberger et al. 2009, "Feature hashing for large scale multitask learning" (ICML), for the hashing.
    """

    def __init__(self, train: Dataset, n_features: int = 4096) -> None:
        self.train = train
        self.n_features = n_features
        self._lock = threading.Lock()

    @property
    def columns(self) -> int:
        """Columns of the matrices."""
        return int(np.prod(self.train.sample_shape)) if self.train.sample_shape else self.n_features

    def matrix(self, dataset: Dataset, split: str) -> tuple[dask.array.Array, np.ndarray]:
        """Make the matrix of one split; its blocks are read when they are computed.

        Parameters
        ----------
        dataset : Dataset
            Of the same kind and shape as `train`.
        split : str

        Returns
        -------
        X : dask.array.Array of float32, shape (n, columns)
        y : ndarray of int64, shape (n,)
            Labels, -1 where there is none.
        """
        if (dataset.kind, dataset.sample_shape) != (self.train.kind, self.train.sample_shape):
            raise ValueError(
                f"expected {self.train.kind} of shape {self.train.sample_shape} like {self.train.name!r}, received "
                f"{dataset.kind} of shape {dataset.sample_shape} in {dataset.name!r}"
            )
        rows = dataset.rows(split)
        read: Callable[..., np.ndarray] = read_pixels
        if dataset.kind == "texts":
            read = partial(read_tfidf, n_features=self.n_features, idf=self.idf)
        X = _lazy(read, dataset, rows, self.columns, f"{dataset.name} {split}")
        return X, dataset.labels()[rows]

    def bounds(self, dataset: Dataset, rows: slice) -> list[tuple[int, int]]:
        """Rows (first, past the last) of the blocks that the matrix of a run of rows has."""
        return _bounds(rows, self.columns, dataset.layout.shard)

    def transformer(self) -> Callable[[Any], np.ndarray]:
        """A function from samples to rows of the matrix, for workers."""
        if self.train.kind == "texts":
            return partial(tfidf, n_features=self.n_features, idf=self.idf)
        return pixels

    @property
    def idf(self) -> np.ndarray:
        """Inverse document frequencies, float32 (n_features,); counted in one pass over the training split."""
        with self._lock:  # several methods ask for it at the same time
            return self._idf

    @cached_property
    def _idf(self) -> np.ndarray:
        from tasks.methods.blocks import collect

        rows = self.train.rows("train")
        count = partial(document_frequencies, n_features=self.n_features)
        bounds = _bounds(rows, self.n_features, self.train.layout.shard)
        found = collect(_array(count, self.train, bounds, [1] * len(bounds), self.n_features, "idf"), "idf")
        seen = rows.stop - rows.start
        return (np.log((1 + seen) / (1 + found.sum(axis=0, dtype=np.float64))) + 1).astype(np.float32)


def read_pixels(path: str, start: int, stop: int) -> np.ndarray:
    """Read rows of an image dataset as float32 (stop - start, height * width * channel), from 0 to 1."""
    return pixels(np.asarray(open_dataset(path).read(start, stop)))


def pixels(images: np.ndarray) -> np.ndarray:
    """Images as float32 (n, height * width * channel), from 0 to 1."""
    return np.divide(images.reshape(len(images), -1), np.float32(255), dtype=np.float32)


def read_tfidf(path: str, start: int, stop: int, *, n_features: int, idf: np.ndarray) -> np.ndarray:
    """Read rows of a text dataset as dense tf-idf, float32 (stop - start, n_features)."""
    return tfidf(open_dataset(path).read(start, stop), n_features=n_features, idf=idf)


def tfidf(texts: Any, *, n_features: int, idf: np.ndarray) -> np.ndarray:
    """Texts as dense tf-idf, float32 (n, n_features)."""
    from sklearn.preprocessing import normalize

    counts = hashed_counts(texts, n_features)
    counts.data *= idf[counts.indices]
    return np.asarray(normalize(counts, copy=False).toarray())


def document_frequencies(path: str, start: int, stop: int, *, n_features: int) -> np.ndarray:
    """Count in how many texts each column occurs, float32 (1, n_features); exact up to 2^24 texts a block."""
    counts = hashed_counts(open_dataset(path).read(start, stop), n_features)
    return np.asarray(counts.getnnz(axis=0), np.float32)[None]


def hashed_counts(texts: Any, n_features: int) -> csr_matrix:
    """Count words by hashed column, float32 sparse (n, n_features)."""
    from sklearn.feature_extraction.text import HashingVectorizer

    # Line breaks of HTML stand in the reviews as text; as words they would only be noise.
    plain = [text.replace("<br />", " ") for text in texts]
    hasher = HashingVectorizer(n_features=n_features, alternate_sign=False, norm=None, dtype=np.float32)
    return hasher.transform(plain)


def _bounds(rows: slice, columns: int, shard: int) -> list[tuple[int, int]]:
    """Cut rows into blocks along shard boundaries where blocks are larger than shards."""
    row_bytes = 4 * columns
    wanted = max(LEAST_BYTES, min(BLOCK_BYTES, (rows.stop - rows.start) * row_bytes // LEAST_BLOCKS))
    step = max(1, wanted // row_bytes)
    if step > shard:
        step -= step % shard
    first = rows.start // step * step
    starts = range(first, rows.stop, step)
    return [(max(low, rows.start), min(low + step, rows.stop)) for low in starts]


def _lazy(read: Callable[..., np.ndarray], dataset: Dataset, rows: slice, columns: int, name: str) -> Any:
    bounds = _bounds(rows, columns, dataset.layout.shard)
    return _array(read, dataset, bounds, [high - low for low, high in bounds], columns, name)


def _array(
    read: Callable[..., np.ndarray],
    dataset: Dataset,
    bounds: Sequence[tuple[int, int]],
    lengths: Sequence[int],
    columns: int,
    name: str,
) -> Any:
    """Make a Dask array whose blocks are ``read(path, start, stop)``; only the path travels."""
    return lazy_rows(read, dataset, bounds, (columns,), np.dtype(np.float32), f"read {name}", lengths)
