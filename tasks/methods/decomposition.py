"""Principal components, from the covariance, from triangular factors or from a sketch."""

from __future__ import annotations

import operator
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import scipy.linalg
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.extmath import svd_flip
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, is_dask, map_rows, open_blocks
from tasks.methods.factors import Root, block_root, merge_triangles
from tasks.methods.inputs import check_least, check_matrix
from tasks.methods.moments import merge_moments, narrow_cross_moments
from tasks.methods.probabilistic import Model, check_rank, covariance_of, likely_dimension, log_likelihood, precision_of
from tasks.methods.reading import working_dtype
from tasks.methods.sketch import Spectrum, leading_spectrum

EXACT_COLUMNS = 4096
"""Up to so many columns the whole covariance is computed unless the caller decides; it takes 134 MB of float64 then."""


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Principal components, from the eigenvectors of the covariance or, of many columns, from a random sketch.

    Solver "covariance_eigh" is exact up to rounding: the covariance is summed in float64 about the blocks' own means,
    so large offsets do no harm. As with scikit-learn's solver of this name, singular values below 1e-8 of the largest
    are noise. Solver "randomized" is approximate, as close as scikit-learn's of this name with the same
    `iterated_power`; its products are in the data's dtype. Solver "full" is exact, small singular values too:
    triangular factors of the blocks are combined in a tree, and the singular values are those of the last one. Signs
    are scikit-learn's: the entry of largest magnitude in each component is positive.

    Parameters
    ----------
    n_components : int, float, "mle" or None, default None
        How many components to keep; a number between 0 and 1 keeps as many as explain this share of the variance;
        "mle" as many as Minka's estimate says, of at least as many rows as columns; None keeps min(n, d).
    whiten : bool, default False
        Divide the transformed columns by their standard deviations.
    svd_solver : {"auto", "full", "covariance_eigh", "randomized"}, default "auto"
        "auto" is "covariance_eigh" up to 4096 columns and for a share of the variance or "mle". Above, it is
        "randomized" if fewer than 80 % of min(n, d) components are wanted, or if min(n, d) is at most 4096.
        scikit-learn's "arpack" is refused: it goes over the data once per vector that it tries.
    iterated_power : int or "auto", default "auto"
        Power iterations of "randomized"; "auto" is 7 if fewer than 10 % of min(n, d) are wanted, else 4.
    n_oversamples : int, default 10
        Columns of the sketch of "randomized" beyond `n_components`.
    random_state : int, RandomState or None
        Draws the sketch of "randomized". The chunks have no part in it.

    Attributes
    ----------
    components_ : ndarray (k, d)
    explained_variance_, explained_variance_ratio_, singular_values_ : ndarray (k,)
    mean_ : ndarray (d,)
    noise_variance_ : float
        Mean variance of the components left out.
    n_components_, n_samples_, n_features_in_ : int

    Notes
    -----
    "covariance_eigh": one pass, n d^2 operations, then d^3 in this process. Per task: one block, 4096 rows of it in
    float64 and two d x d matrices; a combining task holds nine of them. Each task sends one d x d matrix of float64
    (5 MB at d = 784, 134 MB at d = 4096), n/b of them in a tree.

    "full": one pass, some 4 n d^2 operations in QR factorizations, and sends the same.

    "randomized" with q power iterations and l = n_components + n_oversamples: q + 2 passes of 4 n d l operations.
    Per task: one block, 8 MB of it about the mean, and three d x l matrices; a combining task holds nine of them. Each
    task gets and sends one d x l matrix per pass. Nothing of n rows is held in this process.

    References
    ----------
    I. T. Jolliffe (2002). Principal Component Analysis, 2nd ed., sections 1.1 and 3.5. For the sums, see
    `tasks.methods.moments`; for the triangles, `tasks.methods.factors`; for the sketch, `tasks.methods.sketch`; for the
    likelihood and "mle", `tasks.methods.probabilistic`.
    """

    def __init__(
        self,
        n_components: int | float | str | None = None,
        *,
        whiten: bool = False,
        svd_solver: str = "auto",
        iterated_power: int | str = "auto",
        n_oversamples: int = 10,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
            At least two rows.

        Raises
        ------
        ValueError
            If n_components is neither a count up to min(n, d) nor a share nor "mle", another parameter has no such
            value, or the data is not usable.
        """
        X = check_matrix(self, X, reset=True, rows=2)
        limit = min(X.shape)
        _check_components(self.n_components, limit)
        if isinstance(self.n_components, str) and X.shape[0] < X.shape[1]:
            raise ValueError(
                f"expected at least as many rows as columns for n_components='mle', received shape {X.shape}; "
                "give a count"
            )
        solver = self._choose_solver(X.shape)
        with open_blocks(X, name=type(self).__name__, passes=3 if solver == "randomized" else 1) as rows:
            find = {"full": _from_triangles, "randomized": self._sketched}.get(solver, self._from_covariance)
            spectrum = find(rows, limit)
            dtype = rows.dtype
        count, total = spectrum.rows, spectrum.spread / (spectrum.rows - 1)
        variance = spectrum.values**2 / (count - 1)
        ratio = variance / total if total > 0 else np.zeros_like(variance)
        kept = likely_dimension(variance, count) if self.n_components == "mle" else _count(self.n_components, ratio)
        self.n_samples_ = int(count)
        self.n_components_ = kept
        self.mean_ = spectrum.mean.astype(dtype)
        self.components_ = spectrum.vectors[:kept].astype(dtype)
        self.explained_variance_ = variance[:kept].astype(dtype)
        self.explained_variance_ratio_ = ratio[:kept].astype(dtype)
        self.singular_values_ = spectrum.values[:kept].astype(dtype)
        rest = max(total - float(variance[:kept].sum()), 0.0)
        self.noise_variance_ = rest / (limit - kept) if kept < limit else 0.0
        return self

    def _choose_solver(self, shape: tuple[int, int]) -> str:
        """Check the solver's parameters and choose."""
        if self.svd_solver not in ("auto", "full", "covariance_eigh", "randomized"):
            raise ValueError(
                "expected svd_solver 'auto', 'full', 'covariance_eigh' or 'randomized', received "
                f"{self.svd_solver!r}; for a few of many components use 'randomized'"
            )
        if self.iterated_power != "auto":
            check_least("iterated_power", self.iterated_power, 0)
        check_least("n_oversamples", self.n_oversamples, 1)
        share = self.n_components is not None and not isinstance(self.n_components, Integral)
        if self.svd_solver != "auto":
            if share and self.svd_solver == "randomized":
                raise ValueError(
                    f"expected n_components as a count for svd_solver 'randomized', received "
                    f"{self.n_components!r}; use 'covariance_eigh'"
                )
            return self.svd_solver
        limit = min(shape)
        few = limit <= EXACT_COLUMNS or (isinstance(self.n_components, Integral) and self.n_components < 0.8 * limit)
        return "randomized" if shape[1] > EXACT_COLUMNS and not share and few else "covariance_eigh"

    def _from_covariance(self, rows: Blocks, limit: int) -> Spectrum:
        count, mean, scatter = rows.reduce("covariance", narrow_cross_moments, combine=merge_moments)
        known = int(self.n_components) if isinstance(self.n_components, Integral) else limit
        squares, components = _eigenvectors(scatter, known)
        return Spectrum(count, mean, float(np.trace(scatter)), np.sqrt(squares), components, squares / count)

    def _sketched(self, rows: Blocks, limit: int) -> Spectrum:
        count = int(self.n_components) if isinstance(self.n_components, Integral) else limit
        iterations = self.iterated_power
        if iterations == "auto":
            iterations = 7 if count < 0.1 * limit else 4
        random = check_random_state(self.random_state)
        return leading_spectrum(rows, count, self.n_oversamples, int(iterations), random, centre=True)

    def transform(self, X: Any) -> Any:
        """Project on the components.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, k)
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        axes = self.components_.astype(np.float64)
        if self.whiten:
            axes /= self._deviations()[:, None]
        return self._map(X, axes.T, self.mean_ @ axes.T, "transform", self.n_components_)

    def inverse_transform(self, X: Any) -> Any:
        """Return to the space of the data, without what the components left out.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, k)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m, d)
        """
        check_is_fitted(self)
        if not is_dask(X):
            X = np.asarray(X, dtype=working_dtype(np.asarray(X).dtype))
        if X.ndim != 2 or X.shape[1] != self.n_components_:
            raise ValueError(f"expected {self.n_components_} columns, one per component, received shape {X.shape}")
        axes = self.components_.astype(np.float64)
        if self.whiten:
            axes *= self._deviations()[:, None]
        return self._map(X, axes, -self.mean_.astype(np.float64), "inverse_transform", self.n_features_in_)

    def score_samples(self, X: Any) -> Any:
        """Return the log-likelihood of each row in the model of probabilistic PCA; exact, computed in float64.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m,)

        Raises
        ------
        numpy.linalg.LinAlgError
            If the covariance has no inverse.
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        dtype = working_dtype(X.dtype)
        apply = partial(log_likelihood, model=self._model(whole=True), dtype=dtype)
        return map_rows(X, apply, name=type(self).__name__, phase="score_samples", columns=None, dtype=dtype)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`; of a Dask array by one pass.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        float
        """
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            total = rows.reduce("score", _likelihood_sum, shared=(self._model(whole=True),), combine=operator.add)
        return float(total) / int(X.shape[0])

    def get_covariance(self) -> np.ndarray:
        """Return the covariance of the model: that of the data, with `noise_variance_` beside the components.

        Returns
        -------
        ndarray, float64 (d, d)
            `whiten` has no part in it; scikit-learn's, with whitening, scales the components once too often.
        """
        check_is_fitted(self)
        return covariance_of(self._model())

    def get_precision(self) -> np.ndarray:
        """Return the inverse of the covariance of the model.

        Returns
        -------
        ndarray, float64 (d, d)

        Raises
        ------
        numpy.linalg.LinAlgError
            If it has none: where all components are kept and some have no variance.
        """
        check_is_fitted(self)
        return precision_of(self._model())

    def _model(self, whole: bool = False) -> Model:
        noise = float(self.noise_variance_)
        variances = np.maximum(self.explained_variance_.astype(np.float64), noise)
        mean, axes = (values.astype(np.float64) for values in (self.mean_, self.components_))
        model = Model(mean, axes, variances, noise)
        if whole:
            check_rank(model)
        return model

    @property
    def _n_features_out(self) -> int:
        # Read by ClassNamePrefixFeaturesOutMixin.
        return int(self.components_.shape[0])

    def _deviations(self) -> np.ndarray:
        # As in scikit-learn: a component without variance must not divide by zero.
        deviations: np.ndarray = np.sqrt(self.explained_variance_.astype(np.float64))
        return np.maximum(deviations, np.finfo(self.explained_variance_.dtype).eps)

    def _map(self, X: Any, matrix: np.ndarray, shift: np.ndarray, phase: str, columns: int) -> Any:
        dtype = working_dtype(X.dtype)
        apply = partial(_project, matrix=matrix.astype(dtype), shift=shift, dtype=dtype)
        return map_rows(X, apply, name=type(self).__name__, phase=phase, columns=columns, dtype=dtype)


def _check_components(wanted: Any, limit: int) -> None:
    whole = isinstance(wanted, Integral)
    if wanted is None or (isinstance(wanted, str) and wanted == "mle"):
        return
    if whole and not isinstance(wanted, bool) and 1 <= int(wanted) <= limit:
        return
    if isinstance(wanted, Real) and not whole and 0 < float(wanted) < 1:
        return
    raise ValueError(
        f"expected n_components as a count from 1 to min(n_samples, n_features)={limit}, a share between 0 and 1, "
        f"'mle' or None, received {wanted!r}"
    )


def _from_triangles(rows: Blocks, limit: int) -> Spectrum:
    count, mean, triangle = rows.reduce("triangle", _triangle, combine=merge_triangles)
    _, values, vectors = scipy.linalg.svd(triangle, full_matrices=False, check_finite=False)
    values, vectors = values[:limit], vectors[:limit]
    _, vectors = svd_flip(None, vectors, u_based_decision=False)
    return Spectrum(int(count), mean, float((values**2).sum()), values, vectors, values**2 / count)


def _triangle(block: np.ndarray) -> Root:
    return block_root(block, np.empty((len(block), 0)), None, center=True, gram=False)


def _likelihood_sum(block: np.ndarray, model: Model) -> float:
    return float(log_likelihood(block, model, np.dtype(np.float64)).sum())


def _eigenvectors(scatter: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, none below zero, and their eigenvectors as rows, signs settled."""
    size = len(scatter)
    wanted = (size - count, size - 1) if count < size else None
    values, vectors = scipy.linalg.eigh(scatter, subset_by_index=wanted)
    _, vectors = svd_flip(None, vectors.T[::-1], u_based_decision=False)
    return np.maximum(values[::-1], 0.0), vectors


def _count(wanted: Any, ratio: np.ndarray) -> int:
    if wanted is None:
        return len(ratio)
    if isinstance(wanted, Integral):
        return int(wanted)
    # Strictly more than the share, as in scikit-learn.
    return min(int(np.searchsorted(np.cumsum(ratio), wanted, side="right")) + 1, len(ratio))


def _project(block: np.ndarray, matrix: np.ndarray, shift: np.ndarray, dtype: np.dtype) -> np.ndarray:
    result: np.ndarray = (block @ matrix - shift).astype(dtype)
    return result
