"""One column of zeros and ones for each category, found in one pass."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn import preprocessing
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask
from tasks.methods.execution import choose_engine, step_name
from tasks.methods.reading import sources_of

KINDS = "biufUSO"


class OneHotEncoder(preprocessing.OneHotEncoder):
    """Write each categorical column as one column per category, with a one where the row has it.

    Exact. NumPy, pandas and SciPy-sparse input is scikit-learn's own work, with everything it offers. Of a Dask array
    the categories are found in one pass, and it is encoded lazily: to SciPy-sparse blocks, or dense ones with
    ``sparse_output=False``. (dask-ml's encoder wants categorical data frames, or numbers from 0 on.)

    Parameters
    ----------
    categories : "auto" or list of array-like, default "auto"
    drop : {"first", "if_binary"}, array-like or None, default None
    sparse_output : bool, default True
    dtype : dtype, default float64
    handle_unknown : {"error", "ignore", "infrequent_if_exist", "warn"}, default "error"
        On Dask, unknown categories raise when the blocks are computed.
    min_frequency, max_categories : optional
        For NumPy input only.
    feature_name_combiner : "concat" or callable, default "concat"

    Attributes
    ----------
    categories_ : list of ndarray
    drop_idx_ : ndarray or None
    n_features_in_ : int

    Notes
    -----
    Each task reads a block and sends its distinct values, which are merged in a tree; here they are held once.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the categories.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
            Numbers or strings.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        if not is_dask(X):
            super().fit(X, y)
            return self
        if self.min_frequency is not None or self.max_categories is not None:
            raise ValueError(
                "expected no min_frequency and no max_categories with a Dask array, received "
                f"min_frequency={self.min_frequency!r}, max_categories={self.max_categories!r}; take them out, or use "
                "NumPy"
            )
        X = _checked(X)
        columns = _categories(X, type(self).__name__)
        most = max(map(len, columns))
        # A few rows in which every category occurs: from here on everything is as scikit-learn does it.
        shown = np.stack([np.resize(values, most) for values in columns], axis=1)
        super().fit(shown)
        return self

    def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Find the categories and encode."""
        return self.fit(X, y).transform(X)

    def transform(self, X: Any) -> Any:
        """Encode; a Dask array lazily.

        Returns
        -------
        sparse matrix, ndarray or dask.array.Array, shape (n, categories)
        """
        if not is_dask(X):
            return super().transform(X)
        check_is_fitted(self)
        X = _checked(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        width = len(self.get_feature_names_out())
        meta = csr_matrix((0, 0), dtype=self.dtype) if self.sparse_output else np.empty((0, 0), self.dtype)
        return X.map_blocks(
            partial(_encoded, model=self, width=width),
            dtype=self.dtype,
            meta=meta,
            chunks=(X.chunks[0], (width,)),
            token=step_name("transform", type(self).__name__),
        )

    def inverse_transform(self, X: Any) -> Any:
        """Return the categories; of a Dask array lazily, as objects if the columns differ in type."""
        if not is_dask(X):
            return super().inverse_transform(X)
        check_is_fitted(self)
        dtype = np.result_type(*self.categories_) if len({c.dtype.kind for c in self.categories_}) == 1 else object
        return X.map_blocks(
            partial(_decoded, model=self),
            dtype=dtype,
            meta=np.empty((0, 0), dtype),
            chunks=(X.chunks[0], (self.n_features_in_,)),
            token=step_name("inverse_transform", type(self).__name__),
        )


def _checked(X: Any) -> Any:
    if X.ndim != 2:
        raise ValueError(f"expected 2D array for X, received {X.ndim}D array instead; reshape it")
    if np.isnan(np.sum(X.shape)):
        raise ValueError(
            "expected a Dask array with known chunk sizes for X, received chunks of unknown size; "
            "call compute_chunk_sizes() on it first"
        )
    if X.dtype.kind not in KINDS:
        raise ValueError(f"expected numbers or strings in X, received dtype {X.dtype}; convert it")
    if 0 in X.shape:
        raise ValueError(f"expected at least one row and one column in X, received shape {X.shape}")
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def _categories(X: Any, name: str) -> list[np.ndarray]:
    """Return the distinct values of each column, sorted."""
    engine = choose_engine(X)
    try:
        calls = [(source,) for source, n in zip(sources_of(X, np.asarray), X.chunks[0], strict=True) if n]
        found = engine.reduce_each(step_name("categories", name), _distinct, [calls], combine=_merged)
        columns: list[np.ndarray] = engine.fetch(found)[0]
    finally:
        engine.close()
    return columns


def _distinct(block: np.ndarray) -> list[np.ndarray]:
    return [np.unique(column) for column in block.T]


def _merged(a: list[np.ndarray], b: list[np.ndarray]) -> list[np.ndarray]:
    return [np.unique(np.concatenate(pair)) for pair in zip(a, b, strict=True)]


def _encoded(block: np.ndarray, model: OneHotEncoder, width: int) -> Any:
    if not len(block):
        # Estimators refuse a block without rows; filters leave such blocks.
        return csr_matrix((0, width), dtype=model.dtype) if model.sparse_output else np.empty((0, width), model.dtype)
    return preprocessing.OneHotEncoder.transform(model, block)


def _decoded(block: Any, model: OneHotEncoder) -> np.ndarray:
    if not block.shape[0]:
        return np.empty((0, model.n_features_in_), object)
    values: np.ndarray = preprocessing.OneHotEncoder.inverse_transform(model, block)
    return values
