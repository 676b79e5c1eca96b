"""Decompositions that are scikit-learn's own on arrays here, and go over the blocks of a Dask array."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn import decomposition
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, check_dask_matrix, is_dask, map_rows, open_blocks
from tasks.methods.inputs import check_matrix
from tasks.methods.reading import working_dtype
from tasks.methods.sketch import leading_spectrum


class _OnBlocks:
    """Projects Dask arrays block by block; anything else is the work of scikit-learn's class, next in the order."""

    components_: np.ndarray
    n_features_in_: int

    def transform(self, X: Any) -> Any:
        """Project on the components; a Dask array lazily.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, k)
        """
        if not is_dask(X):
            return super().transform(X)  # type: ignore[misc]
        check_is_fitted(self)
        return self._each(check_matrix(self, X, reset=False), "transform", len(self.components_))

    def inverse_transform(self, X: Any) -> Any:
        """Return to the space of the data, without what the components left out; a Dask array lazily.

        Parameters
        ----------
        X : array-like or dask.array.Array, shape (m, k)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, d)
        """
        check_is_fitted(self)
        if not is_dask(X):
            return super().inverse_transform(X)  # type: ignore[misc]
        X = check_dask_matrix(X)
        if X.shape[1] != len(self.components_):
            raise ValueError(f"expected {len(self.components_)} columns, one per component, received shape {X.shape}")
        return self._each(X, "inverse_transform", self.n_features_in_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        # NumPy, SciPy-sparse and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _each(self, X: Any, word: str, columns: int) -> Any:
        dtype = working_dtype(X.dtype)
        apply = partial(_projected, estimator=self, word=word, dtype=dtype)
        return map_rows(X, apply, name=type(self).__name__, phase=word, columns=columns, dtype=dtype)


class IncrementalPCA(_OnBlocks, decomposition.IncrementalPCA):
    """Principal components from batches of rows, one after the other.

    scikit-learn's result: NumPy and SciPy-sparse input is its own work, and a Dask array is cut into the same batches,
    wherever its chunks lie. It approximates `PCA`, which is exact, goes over the blocks at the same time and is the
    better choice for a Dask array; this class is for models that are to go on with `partial_fit`.

    Parameters
    ----------
    n_components : int or None, default None
        None keeps min(d, rows of the first batch).
    whiten : bool, default False
    copy : bool, default True
        False lets a NumPy array be written into. A Dask array is never changed.
    batch_size : int or None, default None
        Rows per batch; None is 5 d. A last batch of fewer rows than `n_components` joins the one before.

    Attributes
    ----------
    components_ : ndarray (k, d)
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray (k,)
    mean_, var_ : ndarray (d,)
    noise_variance_ : float
    n_components_, batch_size_, n_samples_seen_, n_features_in_ : int

    Notes
    -----
    One pass as a chain of tasks, a block after the other: each gets the k d numbers of the model and the rows that did
    not fill a batch, and gives them on. It holds a block, those rows, and three copies of a batch. A worker that dies
    costs the chain up to its last block that is still in memory elsewhere.

    References
    ----------
    D. A. Ross, J. Lim, R.-S. Lin, M.-H. Yang (2008). Incremental learning for robust visual tracking. IJCV 77, 125-141.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If there are fewer rows than `n_components` in the first batch, or the data is not usable.
        """
        if not is_dask(X):
            super().fit(X)
            return self
        self._validate_params()
        X = check_matrix(self, X, reset=True)
        size = 5 * X.shape[1] if self.batch_size is None else self.batch_size
        batches = gen_batches(X.shape[0], size, min_batch_size=self.n_components or 0)
        ends = np.array([batch.stop for batch in batches])
        plain = decomposition.IncrementalPCA(self.n_components, whiten=self.whiten, copy=False)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            fitted = _chain(rows, plain, ends)
        for name, value in vars(fitted).items():
            if name.endswith("_") and name != "n_features_in_":
                setattr(self, name, value)
        self.batch_size_ = size
        return self

    def partial_fit(self, X: Any, y: Any = None, check_input: bool = True) -> Self:
        """Add the rows of a NumPy array, as one batch."""
        if is_dask(X):
            raise TypeError("expected a NumPy array, received a Dask array; use fit, which cuts it into batches")
        super().partial_fit(X, y, check_input)
        return self


class TruncatedSVD(_OnBlocks, decomposition.TruncatedSVD):
    """The leading singular vectors of a matrix that is not centred; of texts, latent semantic analysis.

    NumPy and SciPy-sparse input is scikit-learn's own work. Of a Dask array it is approximate, as close as
    scikit-learn's algorithm "randomized" with the same `n_iter`; the products are in the data's dtype.

    Parameters
    ----------
    n_components : int, default 2
    algorithm : {"randomized", "arpack"}, default "randomized"
        "arpack" for what is in this process only.
    n_iter : int, default 5
        Power iterations.
    n_oversamples : int, default 10
        Columns of the random sketch beyond `n_components`.
    power_iteration_normalizer : {"auto", "QR", "LU", "none"}, default "auto"
        A Dask array's iterations are normalised by QR, always.
    random_state : int, RandomState or None
        Draws the sketch. The chunks have no part in it.
    tol : float, default 0.0
        For "arpack".

    Attributes
    ----------
    components_ : ndarray (k, d)
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray (k,)
    n_features_in_ : int

    Notes
    -----
    n_iter + 2 passes, as `PCA` with svd_solver="randomized", whose memory and communication it has.

    References
    ----------
    See `tasks.methods.sketch`.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If there are fewer columns than `n_components`, or the algorithm or the data is not usable.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Find the components and project on them; a Dask array lazily."""
        if not is_dask(X):
            return super().fit_transform(X)
        self._validate_params()
        X = check_matrix(self, X, reset=True)
        if self.algorithm != "randomized":
            raise ValueError(
                f"expected algorithm 'randomized' for a Dask array, received {self.algorithm!r}; "
                "'arpack' needs the whole matrix in this process"
            )
        if self.n_components > X.shape[1]:
            raise ValueError(f"n_components({self.n_components}) must be <= n_features({X.shape[1]}).")
        random = check_random_state(self.random_state)
        with open_blocks(X, name=type(self).__name__, passes=self.n_iter + 2) as rows:
            found = leading_spectrum(rows, self.n_components, self.n_oversamples, self.n_iter, random, centre=False)
            dtype = rows.dtype
        variance = found.variances
        total = found.spread / found.rows
        self.components_ = found.vectors.astype(dtype)
        self.singular_values_ = found.values.astype(dtype)
        self.explained_variance_ = variance.astype(dtype)
        self.explained_variance_ratio_ = (variance / total if total > 0 else np.zeros_like(variance)).astype(dtype)
        return self.transform(X)


class _State(NamedTuple):
    """What travels along the chain."""

    model: Any
    """scikit-learn's, fitted on the batches so far."""
    waiting: list[np.ndarray]
    """Rows that come after them."""


def _chain(rows: Blocks, model: Any, ends: np.ndarray) -> Any:
    state: Any = _State(model, [])
    done = 0
    for source, start, length in zip(rows.sources, rows.starts, rows.lengths, strict=True):
        complete = ends[np.searchsorted(ends, start, side="right") : np.searchsorted(ends, start + length, "right")]
        sizes = np.diff(complete, prepend=done).tolist() if len(complete) else []
        done = int(complete[-1]) if len(complete) else done
        (state,) = rows.engine.map(rows.named("update"), _update, [(source, state, sizes)])
    return rows.fetch([state])[0].model


def _update(block: np.ndarray, state: _State, sizes: Sequence[int]) -> _State:
    """Fit the batches that end in this block; pure, so that it can be done again if its worker is lost."""
    model, waiting = state.model, state.waiting
    used = 0
    for size in sizes:
        need = size - sum(map(len, waiting))
        # A copy always: partial_fit centres the batch in place, and the block may be the caller's.
        batch = np.concatenate([*waiting, block[used : used + need]])
        used, waiting = used + need, []
        model = _with(model, batch)
    return _State(model, [*waiting, block[used:].copy()] if used < len(block) else waiting)


def _with(model: Any, batch: np.ndarray) -> Any:
    grown = decomposition.IncrementalPCA(**model.get_params())
    vars(grown).update(vars(model))
    # It replaces its arrays and does not write into them, so the model before stays as it was.
    return grown.partial_fit(batch, check_input=False)


def _projected(block: np.ndarray, estimator: Any, word: str, dtype: np.dtype) -> np.ndarray:
    result: np.ndarray = np.asarray(getattr(estimator, word)(block), dtype)
    return result
