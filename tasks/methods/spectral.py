"""Spectral clustering of a sample, and of any number of rows by it."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn import cluster
from sklearn.utils import check_random_state

from tasks.methods.blocks import is_dask, open_blocks
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.manifold.placing import choose_rows
from tasks.methods.nearest import nearest_in_block

PRECOMPUTED = ("precomputed", "precomputed_nearest_neighbors")


class SpectralClustering(cluster.SpectralClustering):
    """Cluster by the lowest eigenvectors of a graph of similarities between rows.

    Up to `sample` rows: scikit-learn's own work, of Dask arrays as well. Beyond that the result is approximate: so many
    random rows are clustered, and each other row gets the label of the sampled row nearest to it. Clusters that have
    few rows in the sample, or are narrower than it is dense, are lost. Precomputed affinities and SciPy-sparse matrices
    are scikit-learn's own work at any size.

    Parameters
    ----------
    n_clusters : int, default 8
    eigen_solver, n_components, n_init, gamma, affinity, n_neighbors, eigen_tol, assign_labels
    degree, coef0, kernel_params
        As in scikit-learn. A Dask array is rows, never an affinity.
    n_jobs : int, optional
    verbose : bool, default False
    random_state : int, RandomState or None
        Chooses the sample; then as in scikit-learn.
    sample : int, default 5000
        Most rows that are clustered together.

    Attributes
    ----------
    labels_ : ndarray or dask.array.Array, int (n,)
        A Dask array if the data was one.
    affinity_matrix_ : ndarray or sparse matrix (m, m)
        Of the sample.
    sample_rows_ : ndarray, int64 (m,)
        The rows of the sample, increasing; all rows if there are no more than `sample`.
    n_features_in_ : int

    Notes
    -----
    One pass that reads the sample; a second, over all rows, if there are more. With a sample of m rows of d columns
    this process holds m d values in float64 and a few m x m matrices (200 MB each for 5000), or m x `n_neighbors`
    numbers with affinity "nearest_neighbors"; then the eigenvectors, at up to m^3 operations. Labelling costs 2 n m d
    operations. Per task: one block, the sample, and tiles of 2048 x 1024 distances; it keeps 8 bytes for each row.

    References
    ----------
    U. von Luxburg (2007). A tutorial on spectral clustering. Statistics and Computing 17(4), 395-416.
    D. Yan, L. Huang, M. I. Jordan (2009). Fast approximate spectral clustering. KDD, 907-916 (clusters of
    representatives, whose labels the rows take over).
    """

    labels_: Any

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        eigen_solver: str | None = None,
        n_components: int | None = None,
        random_state: Any = None,
        n_init: int = 10,
        gamma: float = 1.0,
        affinity: Any = "rbf",
        n_neighbors: int = 10,
        eigen_tol: float | str = "auto",
        assign_labels: str = "kmeans",
        degree: float = 3,
        coef0: float = 1,
        kernel_params: dict | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        sample: int = 5000,
    ) -> None:
        super().__init__(
            n_clusters,
            eigen_solver=eigen_solver,
            n_components=n_components,
            random_state=random_state,
            n_init=n_init,
            gamma=gamma,
            affinity=affinity,
            n_neighbors=n_neighbors,
            eigen_tol=eigen_tol,
            assign_labels=assign_labels,
            degree=degree,
            coef0=coef0,
            kernel_params=kernel_params,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.sample = sample

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster the sample and label all rows.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
            At least two rows. Affinities, (n, n), if `affinity` says so.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable, or a Dask array is given as affinities.
        """
        check_least("sample", self.sample, 1)
        given = self.affinity in PRECOMPUTED if isinstance(self.affinity, str) else False
        if is_dask(X):
            if given:
                raise ValueError(
                    f"expected a NumPy array or sparse matrix with affinity={self.affinity!r}, received a Dask array; "
                    "give rows, or compute it"
                )
        elif given or scipy.sparse.issparse(X):
            super().fit(X)
            self.sample_rows_ = np.arange(len(self.labels_))
            return self
        data = check_matrix(self, X, reset=True, rows=2)
        if not is_dask(X) and len(data) <= self.sample:
            super().fit(X)
            self.sample_rows_ = np.arange(len(data))
        else:
            self._fit_by_sample(data)
        return self

    def _fit_by_sample(self, X: Any) -> None:
        names = getattr(self, "feature_names_in_", None)
        count = X.shape[0]
        random = check_random_state(self.random_state)
        with open_blocks(X, name=type(self).__name__, passes=1 + (count > self.sample)) as rows:
            self.sample_rows_ = choose_rows(self.sample, count, random)
            sample = rows.take(self.sample_rows_, "sample")
            super().fit(sample)
            if count > self.sample:
                apply = partial(_label_of_nearest, center=sample.mean(axis=0, dtype=np.float64))
                handles = rows.map("label", apply, shared=(sample, self.labels_))
                self.labels_ = rows.assemble(handles, (), self.labels_.dtype)
        if is_dask(X) and count <= self.sample:
            import dask.array as da

            self.labels_ = da.from_array(self.labels_, chunks=(X.chunks[0],))
        if names is not None:
            # The sample has none, so its fit has removed them.
            self.feature_names_in_ = names


def _label_of_nearest(block: np.ndarray, sample: np.ndarray, labels: np.ndarray, center: np.ndarray) -> np.ndarray:
    found: np.ndarray = nearest_in_block(sample, 0, labels, block, k=1, center=center).targets[:, 0]
    return found
