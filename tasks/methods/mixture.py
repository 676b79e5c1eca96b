"""Gaussian mixtures by expectation and maximisation, one pass over the data per step."""

from __future__ import annotations

import warnings
from functools import partial
from inspect import signature
from typing import Any, Self

import numpy as np
from sklearn import mixture
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky
from sklearn.utils import check_random_state
from sklearn.utils._array_api import get_namespace
from sklearn.utils.validation import check_is_fitted

from tasks.methods import em
from tasks.methods.blocks import Blocks, map_rows, open_blocks
from tasks.methods.clusters import EQUAL, SAMPLE_ROWS, KMeans, best_run
from tasks.methods.inputs import check_matrix
from tasks.methods.moments import column_moments, cross_moments, merge_moments
from tasks.methods.seeding import sample_of


class GaussianMixture(mixture.GaussianMixture):
    """Fit a mixture of normal distributions by expectation and maximisation.

    Exact: from the same start every step is scikit-learn's, in float64 whatever the data holds. Starts are
    scikit-learn's for the same `random_state` too, but for two: "kmeans" and "k-means++" begin with a sample of
    16,384 rows if there are more (see `KMeans`), and "random" draws each row's responsibilities by its position, so
    that the chunks do not change them.

    Parameters
    ----------
    n_components : int, default 1
    covariance_type : {"full", "tied", "diag", "spherical"}, default "full"
    tol : float, default 1e-3
        Stop when the mean log likelihood of the rows gains less.
    reg_covar : float, default 1e-6
        Added to the variances.
    max_iter : int, default 100
    n_init : int, default 1
        Number of starts, one after the other. The one of the greatest likelihood wins, the first of those that are
        equal to 1e-9.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, default "kmeans"
    weights_init, means_init, precisions_init : array-like, optional
        Take the place of what the start finds, in the form of `weights_`, `means_` and `precisions_`.
    random_state : int, RandomState or None
    warm_start : bool, default False
        True begins where the last fit ended.
    verbose, verbose_interval : int
        As in scikit-learn.

    Attributes
    ----------
    weights_ : ndarray, float64 (k,)
    means_ : ndarray, float64 (k, d)
    covariances_, precisions_, precisions_cholesky_ : ndarray, float64
        (k, d, d) if full, (d, d) if tied, (k, d) if diag, (k,) if spherical.
    lower_bound_ : float
        Mean log likelihood of a row, before the last step.
    lower_bounds_ : list of float
        That of each step.
    converged_ : bool
    n_iter_, n_features_in_ : int

    Notes
    -----
    A step is one pass. Its cost is 2 n k d^2 operations for full covariances, and n d^2 for each component that a row
    has a share in; 2 n d^2 and 4 n k d for tied ones; 8 n k d for diag, 4 n k d for spherical.
    Per task: one block and some MB of it in float64. A task gets and sends k d^2 float64 if covariances are full, else
    k d (2 k d for diag), n/b of them in a tree. This process holds k d^2 (or k d) and factors the covariances.
    Passes: one for the mean; those of `KMeans` and one more to start; one per step. Data that does not fit in the
    workers' memory is read again in each.
    Diagonal and spherical variances are computed about the mean of all rows: where components lie apart by a million
    of their standard deviations, four digits are left. Full ones have no such limit.

    References
    ----------
    A. P. Dempster, N. M. Laird, D. B. Rubin (1977). Maximum likelihood from incomplete data via the EM algorithm.
    J. Royal Statistical Society B 39(1), 1-38.
    C. M. Bishop (2006). Pattern Recognition and Machine Learning, section 9.2.2.
    """

    lower_bound_: float

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)

        Raises
        ------
        ValueError
            If a parameter is not usable, there are fewer rows than components or fewer than 2, the data is not
            finite, or a covariance is not positive definite.
        """
        with self._opened(X) as rows:
            self._climb(rows)
        return self

    def fit_predict(self, X: Any, y: Any = None) -> Any:
        """Find the components, and return the most likely one of each row.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)

        Returns
        -------
        ndarray or dask.array.Array, int64 (n,)
            A Dask array, held by the workers, if the data was one.
        """
        with self._opened(X) as rows:
            self._climb(rows)
            labels = rows.map("labels", partial(em.labels, kind=self.covariance_type), shared=self._model())
            return rows.assemble(labels, (), np.int64)

    def predict(self, X: Any) -> Any:
        """Return the most likely component of each row, int64 (m,); of a Dask array lazily."""
        return self._each(X, "predict", em.most_likely, None, np.int64)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each component, float64 (m, k); of a Dask array lazily."""
        return self._each(X, "predict_proba", em.responsibilities, self.n_components, np.float64)

    def score_samples(self, X: Any) -> Any:
        """Return the log density of each row, float64 (m,); of a Dask array lazily."""
        return self._each(X, "score_samples", em.log_likelihoods, None, np.float64)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean log density of the rows."""
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False, narrow=True)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            total = partial(em.total_log_likelihood, kind=self.covariance_type)
            found: float = rows.reduce("score", total, shared=self._model(), combine=np.add)
        return float(found) / X.shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # NumPy and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _each(self, X: Any, word: str, function: Any, columns: int | None, dtype: Any) -> Any:
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False, narrow=True)
        apply = partial(function, model=self._model(), kind=self.covariance_type)
        return map_rows(X, apply, name=type(self).__name__, phase=word, columns=columns, dtype=dtype)

    def _opened(self, X: Any) -> Any:
        self._validate_params()
        X = check_matrix(self, X, reset=True, rows=2, narrow=True)
        if X.shape[0] < self.n_components:
            raise ValueError(
                "Expected n_samples >= n_components "
                f"but got n_components = {self.n_components}, n_samples = {X.shape[0]}"
            )
        # Of scikit-learn's own, which looks at the number of columns only; from 1.9 on it asks for the array library.
        library = {"xp": get_namespace(np.empty(0))[0]} if "xp" in signature(self._check_parameters).parameters else {}
        self._check_parameters(np.empty((1, X.shape[1])), **library)
        return open_blocks(X, name=type(self).__name__, passes=self.max_iter + 2)

    def _climb(self, rows: Blocks) -> None:
        """Iterate from each start, and keep where the best one ended."""
        fresh = not (self.warm_start and hasattr(self, "converged_"))
        random = check_random_state(self.random_state)
        moments = cross_moments if self.covariance_type == "tied" else column_moments
        _, origin, scatter = rows.reduce("moments", moments, combine=merge_moments)
        best = -np.inf
        converged, kept, bounds = False, None, []
        for start in range(self.n_init if fresh else 1):
            self._print_verbose_msg_init_beg(start)
            if fresh:
                self._begin(rows, origin, scatter, random)
            found, reached = self._iterate(rows, origin, scatter, -np.inf if fresh else self.lower_bound_)
            last = found[-1] if found else -np.inf
            # Starts that end in the same place differ by rounding, which depends on the blocks.
            if kept is None or last > best + EQUAL * max(1.0, abs(best)):
                best, converged, bounds, kept = last, reached, found, self._get_parameters()
        if not converged and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase "
                "max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._set_parameters(kept)
        self.converged_, self.n_iter_, self.lower_bound_, self.lower_bounds_ = converged, len(bounds), best, bounds

    def _iterate(self, rows: Blocks, origin: np.ndarray, scatter: np.ndarray, bound: float) -> tuple[list[float], bool]:
        """Take steps until they gain less than tol; return the bound of each, and whether they ended so."""
        kind, bounds = self.covariance_type, []
        for iteration in range(1, self.max_iter + 1):
            model = self._model(origin)
            found = rows.reduce("step", partial(em.step, kind=kind), shared=model, combine=em.add)
            reference = model[1] if kind == "full" else np.zeros_like(model[1])
            weights, self.means_, self.covariances_ = em.maximise(
                found, reference, origin, kind, self.reg_covar, scatter
            )
            self.weights_ = weights / weights.sum()
            self.precisions_cholesky_ = _compute_precision_cholesky(self.covariances_, kind)
            change, bound = found.log_likelihood / rows.shape[0] - bound, found.log_likelihood / rows.shape[0]
            bounds.append(bound)
            self._print_verbose_msg_iter_end(iteration, change)
            if abs(change) < self.tol:
                self._print_verbose_msg_init_end(bound, True)
                return bounds, True
        if bounds:
            self._print_verbose_msg_init_end(bound, False)
        return bounds, False

    def _begin(self, rows: Blocks, origin: np.ndarray, scatter: np.ndarray, random: Any) -> None:
        """Set the parameters from which to go."""
        given = (self.weights_init, self.means_init, self.precisions_init)
        if any(part is None for part in given):
            if self.init_params in ("kmeans", "random"):
                weights, means, covariances = self._from_all(rows, origin, scatter, random)
            else:
                weights, means, covariances = self._from_few(rows, origin, scatter, random)
            self.weights_, self.means_, self.covariances_ = weights / rows.shape[0], means, covariances
        if self.weights_init is not None:
            self.weights_ = np.asarray(self.weights_init, np.float64)
        if self.means_init is not None:
            self.means_ = np.asarray(self.means_init, np.float64)
        if self.precisions_init is not None:
            self.precisions_cholesky_ = _root(np.asarray(self.precisions_init, np.float64), self.covariance_type)
        else:
            self.precisions_cholesky_ = _compute_precision_cholesky(self.covariances_, self.covariance_type)

    def _from_all(self, rows: Blocks, origin: np.ndarray, scatter: np.ndarray, random: Any) -> tuple:
        """Take one step with responsibilities from k-means, or random ones."""
        kind = self.covariance_type
        if self.init_params == "kmeans":
            run, around = best_run(rows, KMeans(self.n_components, n_init=1, random_state=random))
            reference = run.centers + (around - origin)
            count = partial(em.step_from_labels, kind=kind)
            found = rows.reduce("start", count, shared=(run.centers, around, origin), combine=em.add)
        else:
            reference = np.zeros((self.n_components, rows.shape[1]))
            seed = int(random.randint(np.iinfo(np.int32).max))
            count = partial(em.step_from_random, kind=kind)
            found = rows.reduce("start", count, rows.starts, shared=(seed, reference, origin), combine=em.add)
        if kind != "full":
            reference = np.zeros_like(reference)
        return em.maximise(found, reference, origin, kind, self.reg_covar, scatter)

    def _from_few(self, rows: Blocks, origin: np.ndarray, scatter: np.ndarray, random: Any) -> tuple:
        """Make each of some rows a component of its own, as scikit-learn does."""
        k, d, kind = self.n_components, rows.shape[1], self.covariance_type
        if self.init_params == "random_from_data":
            chosen = random.choice(rows.shape[0], size=k, replace=False)
            order = np.argsort(chosen)
            means = np.empty((k, d))
            means[order] = rows.take(chosen[order], "start")
        else:
            _, sample = sample_of(rows, max(SAMPLE_ROWS, 20 * k), random)
            means = kmeans_plusplus(sample, k, random_state=random)[0].astype(np.float64)
        weights = np.full(k, 1 + em.TINY)
        means = means / weights[:, None]
        if kind == "tied":
            # scikit-learn sums over all rows here, but divides by the weight of the few.
            inner = scatter + rows.shape[0] * np.outer(origin, origin) - (weights * means.T) @ means
            return weights, means, inner / weights.sum() + self.reg_covar * np.eye(d)
        shape = {"full": (k, d, d), "diag": (k, d), "spherical": (k,)}[kind]
        return weights, means, np.zeros(shape) + (np.eye(d) if kind == "full" else 1.0) * self.reg_covar

    def _model(self, origin: np.ndarray | None = None) -> em.Model:
        """Return the parameters in the form that the tasks need."""
        means = np.asarray(self.means_, np.float64)
        origin = means.mean(axis=0) if origin is None else origin
        factors = em.constants(self.weights_, self.precisions_cholesky_, self.covariance_type, means.shape[1])
        return factors, means - origin, self.precisions_cholesky_, origin


def _root(precisions: np.ndarray, kind: str) -> np.ndarray:
    """Return upper triangular factors U of the precisions U U^T, as scikit-learn defines them."""
    if kind in ("diag", "spherical"):
        return np.sqrt(precisions)
    # Of the matrix turned by half a turn the lower factor, turned back.
    turned: np.ndarray = np.linalg.cholesky(precisions[..., ::-1, ::-1])[..., ::-1, ::-1]
    return turned
