"""Locally linear embedding of a sample, and of any number of rows by it."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import is_dask, open_blocks
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.manifold.barycenters import (
    barycenter_weights,
    error_matrix,
    lowest_vectors,
    nearest_others,
    place_between,
)
from tasks.methods.manifold.placing import choose_rows, place_rows

SOLVERS = ("auto", "arpack", "dense")


class LocallyLinearEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Coordinates in few dimensions in which each row is the same weighted mean of its neighbours as in the data.

    Up to `sample` rows: scikit-learn's result with method "standard", up to rounding and signs, if no distances tie.
    Here ties go to the lower row and no row is its own neighbour; scikit-learn has no order of ties, and of equal rows
    leaves out the first that it finds. If the neighbourhoods fall apart into several sets, coordinates are any of many.
    Beyond that the result is approximate: so many random rows are embedded, and each other row goes to the weighted
    mean of the places of its neighbours among them. The larger the sample, the finer the folds of the data that it
    sees.

    Parameters
    ----------
    n_neighbors : int, default 5
        Fewer than rows in the sample.
    n_components : int, default 2
        At most the number of columns, and fewer than rows in the sample.
    reg : float, default 1e-3
        Regularises the weights: relative to the trace of the neighbours' Gram matrix. Needed where there are more
        neighbours than columns.
    eigen_solver : {"auto", "arpack", "dense"}, default "auto"
        "auto" is "dense" for up to 200 rows or more than 8 components; otherwise "arpack", and "dense" if that fails.
    tol : float, default 1e-6
        Of "arpack".
    max_iter : int, default 100
        Of "arpack".
    method : {"standard"}, default "standard"
    sample : int, default 5000
        Most rows that are embedded together.
    random_state : int, RandomState or None
        Chooses the sample, and where "arpack" begins.

    Attributes
    ----------
    embedding_ : ndarray or dask.array.Array, float64 (n, k)
        A Dask array if the data was one. The largest entry of each column of the sample is positive.
    reconstruction_error_ : float
        Sum of the eigenvalues that belong to the columns, of the sample.
    sample_rows_ : ndarray, int64 (m,)
        The rows of the sample, increasing; all rows if there are no more than `sample`.
    n_features_in_ : int

    Notes
    -----
    One pass that reads the sample; a second, over all rows, if there are more. With a sample of m rows, k neighbours
    and d columns this process holds m d values, a sparse matrix of about m k^2 entries and its factors, which can be
    several times as large, and takes 2 m^2 d operations for the neighbours; the dense solver takes an m x m matrix of
    float64 (200 MB for 5000) and m^3 operations. Placing costs 2 n m d operations for n rows. Per task: one block, the
    sample, tiles of 2048 x 1024 distances, and k neighbours of each row of the block; it keeps its coordinates.
    `transform` is lazy on Dask arrays; the sample is part of their graph. Unlike scikit-learn's, it leaves rows of the
    sample where they are, so that `fit_transform` and `transform` agree.

    References
    ----------
    See `tasks.methods.manifold.barycenters`.
    """

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        n_components: int = 2,
        reg: float = 1e-3,
        eigen_solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int = 100,
        method: str = "standard",
        sample: int = 5000,
        random_state: Any = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.reg = reg
        self.eigen_solver = eigen_solver
        self.tol = tol
        self.max_iter = max_iter
        self.method = method
        self.sample = sample
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Embed the sample and place all rows.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
            At least two rows.

        Raises
        ------
        ValueError
            If a parameter is not usable, there are too few rows or columns, or the data is not finite.
        """
        self._check_parameters()
        X = check_matrix(self, X, reset=True, rows=2)
        self._check_sizes(*X.shape)
        random = check_random_state(self.random_state)
        with open_blocks(X, name=type(self).__name__, passes=1 + (X.shape[0] > self.sample)) as rows:
            self.sample_rows_ = choose_rows(self.sample, X.shape[0], random)
            self._sample = rows.take(self.sample_rows_, "sample")
            neighbors = nearest_others(self._sample, self.n_neighbors)
            weights = barycenter_weights(self._sample, self._sample, neighbors, self.reg)
            matrix = error_matrix(weights, neighbors)
            self._places, self.reconstruction_error_ = lowest_vectors(
                matrix, self.n_components, self.eigen_solver, self.tol, self.max_iter, random
            )
            if X.shape[0] > self.sample:
                handles = rows.map("place", self._placing(), shared=(self._sample, self._places))
                self.embedding_ = rows.assemble(handles, (self.n_components,), np.float64)
        if X.shape[0] <= self.sample:
            self.embedding_ = _as(X, self._places)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Return `embedding_` of a fit."""
        return self.fit(X).embedding_

    def transform(self, X: Any) -> Any:
        """Place rows at the weighted means of their neighbours in the sample; rows of the sample where they are.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, float64 (m, k)
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        held = (self._sample, self._places)
        return place_rows(X, self._placing(), held, name=type(self).__name__, columns=self._n_features_out)

    @property
    def _n_features_out(self) -> int:
        # Read by ClassNamePrefixFeaturesOutMixin.
        return int(self._places.shape[1])

    def _placing(self) -> partial:
        return partial(place_between, k=self.n_neighbors, reg=float(self.reg))

    def _check_parameters(self) -> None:
        for name in ("n_neighbors", "n_components", "max_iter", "sample"):
            check_least(name, getattr(self, name), 1)
        for name, values in (("method", ("standard",)), ("eigen_solver", SOLVERS)):
            if getattr(self, name) not in values:
                raise ValueError(f"expected {name} one of {', '.join(values)}; received {getattr(self, name)!r}")
        for name in ("reg", "tol"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 <= float(value) < np.inf:
                raise ValueError(f"expected {name} as a number of at least 0, received {value!r}")

    def _check_sizes(self, rows: int, columns: int) -> None:
        least = min(rows, self.sample)
        for name in ("n_neighbors", "n_components"):
            if getattr(self, name) >= least:
                raise ValueError(
                    f"expected {name} below the rows that are embedded, n_samples = {least}, received "
                    f"{getattr(self, name)}; lower it, raise sample or add rows"
                )
        if self.n_components > columns:
            raise ValueError(
                f"expected n_components of at most n_features = {columns}, received {self.n_components}; lower it"
            )


def _as(X: Any, values: np.ndarray) -> Any:
    """Return one row of values for each row of X in the array type of X."""
    if not is_dask(X):
        return values
    import dask.array as da

    return da.from_array(values, chunks=(X.chunks[0], values.shape[1:]))
