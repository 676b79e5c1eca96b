"""A view of some rows in two dimensions, for people to look at."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn import manifold
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from tasks.methods.blocks import open_blocks
from tasks.methods.inputs import check_least, check_matrix, in_this_process
from tasks.methods.manifold.placing import choose_rows

METHODS = ("tsne", "umap", "pca")

COLUMNS = 50
"""Data of more columns is turned to so many principal components first."""

PERPLEXITY = 30.0
"""Of t-SNE: about how many rows count as neighbours; fewer if the rows are few."""

UMAP_NEIGHBORS = 15


class View(NamedTuple):
    """Some rows and where they are shown."""

    rows: np.ndarray
    """Positions in the data, increasing, int64 (m,)."""
    coordinates: np.ndarray
    """float64 (m, 2)."""
    labels: np.ndarray | None
    """Those of the rows, (m,), if labels were given."""


def embed_view(X: Any, labels: Any = None, *, rows: int = 2000, method: str = "tsne", random_state: Any = 0) -> View:
    """Choose some rows at random and find coordinates for a picture of them.

    A picture, not a model: "tsne" and "umap" keep neighbours, while distances between clusters, their sizes and the
    axes mean nothing. Both are the libraries' own work; beyond 50 columns on the first 50 principal components of the
    chosen rows. The same `random_state` gives the same view, whatever the chunks.

    Parameters
    ----------
    X : ndarray or dask.array.Array, shape (n, d)
        At least two rows.
    labels : ndarray or dask.array.Array, shape (n,), optional
        Do not change the view; those of the rows are returned. Held in this process.
    rows : int, default 2000
        All rows if there are no more.
    method : {"tsne", "umap", "pca"}, default "tsne"
        "umap" needs the package umap-learn.
    random_state : int, RandomState or None, default 0

    Returns
    -------
    View
        Rows, coordinates and labels.

    Raises
    ------
    ValueError
        If a parameter is not usable, labels do not fit the rows, or the data is not finite.
    ImportError
        With "umap" if umap-learn is not installed.

    Notes
    -----
    One pass, of which only the chosen rows come to this process: m d values. t-SNE of 2000 rows takes some ten
    seconds on a core and m log m operations a step. Rows that are not chosen are not checked for NaN if their block
    has none that is.

    References
    ----------
    L. van der Maaten, G. Hinton (2008). Visualizing data using t-SNE. Journal of Machine Learning Research 9,
    2579-2605. L. van der Maaten (2014). Accelerating t-SNE using tree-based algorithms. The same 15, 3221-3245.
    L. McInnes, J. Healy, J. Melville (2018). UMAP: uniform manifold approximation and projection for dimension
    reduction. arXiv:1802.03426.
    """
    check_least("rows", rows, 2)
    if method not in METHODS:
        raise ValueError(f"expected method one of {', '.join(METHODS)}; received {method!r}")
    library = _umap() if method == "umap" else None
    X = check_matrix(BaseEstimator(), X, reset=True, rows=2)
    own = _check_labels(labels, X.shape[0])
    random = check_random_state(random_state)
    with open_blocks(X, name="embed_view", passes=1) as blocks:
        chosen = choose_rows(rows, X.shape[0], random)
        sample = blocks.take(chosen, "sample").astype(np.float64)
    seed = int(random.randint(np.iinfo(np.int32).max))
    coordinates = _principal(sample, 2, seed) if method == "pca" else _neighborly(sample, library, seed)
    return View(chosen, coordinates.astype(np.float64), None if own is None else own[chosen])


class EmbeddingView(BaseEstimator):
    """A view of the data for the report: a method of a pipeline that makes a picture of each test split.

    A picture, not a model: see `embed_view`, which does the work. In the report it is drawn with a colour for each
    class, and its number is the trustworthiness: how far rows that are near in the picture are near in the data.

    Parameters
    ----------
    method : {"tsne", "umap", "pca"}, default "tsne"
        "umap" needs the package umap-learn.
    rows : int, default 1000
        Rows that are shown; all if there are no more.
    random_state : int, RandomState or None, default None
        In a pipeline None is the pipeline's seed.

    Attributes
    ----------
    rows_ : ndarray of int64, shape (m,)
        The rows that are shown.
    coordinates_ : ndarray, float64 (m, 2)
    labels_ : ndarray of shape (m,), or None
        Those of the rows, if labels were given.
    n_features_in_ : int
    """

    task = "view"

    def __init__(self, method: str = "tsne", *, rows: int = 1000, random_state: Any = None) -> None:
        self.method = method
        self.rows = rows
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Make the picture.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
            At least two rows.
        y : ndarray or dask.array.Array, shape (n,), optional
            Labels; they do not change the picture. A column (n, 1) is taken with scikit-learn's
            `DataConversionWarning`.
        """
        X = check_matrix(self, X, reset=True, rows=2)
        self.rows_, self.coordinates_, self.labels_ = embed_view(
            X, y, rows=self.rows, method=self.method, random_state=self.random_state
        )
        return self


def _umap() -> Any:
    try:
        return import_module("umap")
    except ImportError as error:
        raise ImportError(
            "expected the package umap-learn for method 'umap', found none that can be imported; "
            "run `pip install umap-learn`, or use method 'tsne'"
        ) from error


def _check_labels(labels: Any, rows: int) -> np.ndarray | None:
    if labels is None:
        return None
    own = np.asarray(in_this_process(labels, "embed_view"))
    if own.shape == (rows, 1):
        own = column_or_1d(own, warn=True)
    if own.shape != (rows,):
        raise ValueError(f"expected labels of shape {(rows,)}, received {own.shape}; give one per row")
    return own


def _principal(sample: np.ndarray, columns: int, seed: int) -> np.ndarray:
    """Return scores of the first components; columns of zeros where there are no more."""
    if not np.ptp(sample, axis=0).any():
        return np.zeros((len(sample), columns))
    count = min(columns, *sample.shape)
    found: np.ndarray = PCA(count, svd_solver="auto", random_state=seed).fit_transform(sample)
    return np.pad(found, ((0, 0), (0, columns - count)))


def _neighborly(sample: np.ndarray, library: Any, seed: int) -> np.ndarray:
    """Return the coordinates of t-SNE, or of UMAP if that library is given."""
    if sample.shape[1] > COLUMNS:
        sample = _principal(sample, COLUMNS, seed)
    rows = len(sample)
    found: np.ndarray
    if library is not None:
        neighbors = max(2, min(UMAP_NEIGHBORS, rows - 1))
        # With a seed UMAP is single-threaded anyway, and warns unless told so.
        found = library.UMAP(n_components=2, n_neighbors=neighbors, random_state=seed, n_jobs=1).fit_transform(sample)
    else:
        start = "pca" if min(sample.shape) >= 2 and np.ptp(sample, axis=0).any() else "random"
        perplexity = min(PERPLEXITY, max(1.0, (rows - 1) / 3))
        model = manifold.TSNE(2, init=start, perplexity=min(perplexity, rows - 0.5), random_state=seed)
        # Its threads add up in the order in which they end, so that only one gives the same picture everywhere; and
        # several wait for each other, busily, where other tasks have the cores.
        with threadpool_limits(1):
            found = model.fit_transform(sample)
    return found
