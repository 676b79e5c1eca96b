"""Naive Bayes in one pass: Gaussian, multinomial and Bernoulli."""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn import naive_bayes
from sklearn.utils.validation import check_is_fitted

from tasks.methods.blocks import Blocks, is_dask, map_rows, open_blocks
from tasks.methods.inputs import check_labelled, check_matrix, check_weights, in_this_process
from tasks.methods.moments import Moments, column_moments, merge_moments
from tasks.methods.scratch import Scratch, parts, slices

LEAST_ALPHA = 1e-10
"""What scikit-learn raises a smaller `alpha` to, unless `force_alpha`."""


class _OnBlocks:
    """Dask arrays block by block, anything else by scikit-learn's own class, which follows in the order of classes."""

    classes_: np.ndarray
    _takes_sparse_blocks = False

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Count.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,)
            Labels of any type; held in this process.
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            Held in this process.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        """
        if not is_dask(X):
            super().fit(X, in_this_process(y), in_this_process(sample_weight))  # type: ignore[misc]
            return self
        X, classes, codes = check_labelled(self, X, y)
        weights = check_weights(sample_weight, len(codes))
        if weights is not None and not weights.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        # Of scikit-learn's own: all checks of the parameters, and every attribute in its form. The counts come next.
        super().fit(np.zeros((len(classes), X.shape[1])), classes)  # type: ignore[misc]
        self._count_blocks(X, codes, weights)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Add rows of a NumPy array to what was fitted."""
        if is_dask(X):
            raise TypeError("expected a NumPy array, received a Dask array; use fit, which is one pass over it")
        super().partial_fit(X, in_this_process(y), classes, in_this_process(sample_weight))  # type: ignore[misc]
        return self

    def predict(self, X: Any) -> Any:
        """Return the most likely class of each row; of a Dask array lazily."""
        return self._each(X, "predict")

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, float64 (m, classes); of a Dask array lazily."""
        return self._each(X, "predict_proba")

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of the probability of each class; of a Dask array lazily."""
        return self._each(X, "predict_log_proba")

    def predict_joint_log_proba(self, X: Any) -> Any:
        """Return log P(class) + log P(row given class), float64 (m, classes); of a Dask array lazily."""
        return self._each(X, "predict_joint_log_proba")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        # NumPy, SciPy-sparse and Dask arrays are promised here; other array libraries are not tested.
        tags.array_api_support = False
        return tags

    def _count_blocks(self, X: Any, codes: np.ndarray, weights: np.ndarray | None) -> None:
        raise NotImplementedError

    def _each(self, X: Any, word: str) -> Any:
        if not is_dask(X):
            with np.errstate(divide="ignore"):  # a class of no weight has the probability 0, and no logarithm
                return getattr(super(), word)(X)
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        votes = word == "predict"
        columns, dtype = (None, self.classes_.dtype) if votes else (len(self.classes_), np.dtype(np.float64))
        apply = partial(_predicted, estimator=self, word=word)
        name, sparse = type(self).__name__, self._takes_sparse_blocks
        return map_rows(X, apply, name=name, phase=word, columns=columns, dtype=dtype, sparse=sparse)


class GaussianNB(_OnBlocks, naive_bayes.GaussianNB):
    """Naive Bayes with a normal distribution of each column in each class.

    Exact. NumPy input is scikit-learn's own work. A Dask array is fitted in one pass, in float64 whatever it holds;
    a variance is smoothed as in scikit-learn, by a share of the largest variance of a column.

    Parameters
    ----------
    priors : array-like, shape (classes,), optional
        Probabilities of the classes; by default their shares of the rows.
    var_smoothing : float, default 1e-9

    Attributes
    ----------
    classes_, class_count_, class_prior_ : ndarray (classes,)
    theta_, var_ : ndarray, float64 (classes, d)
        Means and smoothed variances.
    epsilon_ : float
        What each variance was raised by.
    n_features_in_ : int

    Notes
    -----
    Per task: one block and 1 MB of it in float64. Each task sends 2 d float64 per class, n/b of them in a tree.
    A prediction takes a copy of the block in float64.

    References
    ----------
    See `tasks.methods.moments`.
    """

    def _count_blocks(self, X: Any, codes: np.ndarray, weights: np.ndarray | None) -> None:
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            aligned = _aligned(rows, codes, weights)
            shared = (len(self.classes_),)
            by_class, total = rows.reduce("moments", _class_moments, *aligned, shared=shared, combine=_merge_moments)
        self.epsilon_ = self.var_smoothing * float((total.scatter / total.rows).max())
        counts = np.array([found.rows for found in by_class], np.float64)
        filled = np.maximum(counts, np.finfo(np.float64).tiny)
        self.class_count_ = counts
        self.theta_ = np.stack([found.mean for found in by_class])
        self.var_ = np.stack([found.scatter for found in by_class]) / filled[:, None] + self.epsilon_
        if self.priors is None:
            self.class_prior_ = counts / counts.sum()


class _Discrete(_OnBlocks):
    """Counts of the columns in each class, smoothed by `alpha`."""

    alpha: Any
    force_alpha: bool
    fit_prior: bool
    class_prior: Any
    _takes_sparse_blocks = True

    def _count_blocks(self, X: Any, codes: np.ndarray, weights: np.ndarray | None) -> None:
        with open_blocks(X, name=type(self).__name__, passes=1, sparse=True) as rows:
            aligned = _aligned(rows, codes, weights)
            shared = (len(self.classes_), *self._how_to_count())
            counts = rows.reduce("count", _class_sums, *aligned, shared=shared, combine=np.add)
        self.feature_count_, self.class_count_ = counts[:, :-1].copy(), counts[:, -1].copy()
        alpha = np.asarray(self.alpha) if self.force_alpha else np.maximum(self.alpha, LEAST_ALPHA)
        self.feature_log_prob_ = self._log_probabilities(alpha)
        if self.class_prior is None and self.fit_prior:
            with np.errstate(divide="ignore"):  # a class of no weight
                self.class_log_prior_ = np.log(self.class_count_) - np.log(self.class_count_.sum())

    def _how_to_count(self) -> tuple[bool, float | None]:
        """Whether the columns are counts, and where they are cut into 0 and 1."""
        raise NotImplementedError

    def _log_probabilities(self, alpha: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class MultinomialNB(_Discrete, naive_bayes.MultinomialNB):
    """Naive Bayes on counts: each class draws its words from a distribution of its own.

    Exact. NumPy and SciPy-sparse input is scikit-learn's own work. A Dask array, whose blocks may be SciPy-sparse, is
    fitted in one pass; its counts are summed in float64.

    Parameters
    ----------
    alpha : float or array-like of shape (d,), default 1.0
        Added to each count.
    force_alpha : bool, default True
        False raises an `alpha` below 1e-10 to that.
    fit_prior : bool, default True
        False makes all classes equally likely.
    class_prior : array-like, shape (classes,), optional

    Attributes
    ----------
    classes_, class_count_, class_log_prior_ : ndarray (classes,)
    feature_count_, feature_log_prob_ : ndarray, float64 (classes, d)
    n_features_in_ : int

    Notes
    -----
    Per task: one block and 1 MB of it in float64, or, of a sparse block, 12 bytes for each value that is stored. Each
    task sends d float64 per class, n/b of them in a tree.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schuetze (2008). Introduction to Information Retrieval, section 13.2.
    """

    def _how_to_count(self) -> tuple[bool, float | None]:
        return True, None

    def _log_probabilities(self, alpha: np.ndarray) -> np.ndarray:
        smoothed = self.feature_count_ + alpha
        probabilities: np.ndarray = np.log(smoothed) - np.log(smoothed.sum(axis=1, keepdims=True))
        return probabilities


class BernoulliNB(_Discrete, naive_bayes.BernoulliNB):
    """Naive Bayes on presence and absence: each column is 0 or 1.

    Exact. NumPy and SciPy-sparse input is scikit-learn's own work. A Dask array, whose blocks may be SciPy-sparse, is
    fitted in one pass.

    Parameters
    ----------
    alpha : float or array-like of shape (d,), default 1.0
        Added to the counts of 0 and of 1.
    force_alpha : bool, default True
        False raises an `alpha` below 1e-10 to that.
    binarize : float or None, default 0.0
        Values above it count as 1, others as 0; None takes the values as they are.
    fit_prior : bool, default True
        False makes all classes equally likely.
    class_prior : array-like, shape (classes,), optional

    Attributes
    ----------
    classes_, class_count_, class_log_prior_ : ndarray (classes,)
    feature_count_, feature_log_prob_ : ndarray, float64 (classes, d)
    n_features_in_ : int

    Notes
    -----
    Per task: one block and 1 MB of it in float64, or, of a sparse block, 12 bytes for each value that is stored. Each
    task sends d float64 per class, n/b of them in a tree.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schuetze (2008). Introduction to Information Retrieval, section 13.3.
    """

    def _how_to_count(self) -> tuple[bool, float | None]:
        return False, self.binarize

    def _log_probabilities(self, alpha: np.ndarray) -> np.ndarray:
        probabilities: np.ndarray = np.log(self.feature_count_ + alpha)
        probabilities -= np.log(self.class_count_[:, None] + 2 * alpha)
        return probabilities


def _aligned(rows: Blocks, codes: np.ndarray, weights: np.ndarray | None) -> list[list]:
    """Return labels and weights by block; None stands for no weights."""
    weighed = [None] * len(rows) if weights is None else rows.scatter("weights", weights)
    return [rows.scatter("labels", codes), weighed]


def _predicted(block: np.ndarray, estimator: Any, word: str) -> np.ndarray:
    result: np.ndarray = getattr(estimator, word)(block)
    return result


def _class_moments(
    block: np.ndarray, codes: np.ndarray, weights: np.ndarray | None, count: int
) -> tuple[list[Moments], Moments]:
    """Return the moments of each class, and of all rows without weights."""
    found = [_moments_of(block, np.flatnonzero(codes == code), weights) for code in range(count)]
    if weights is None:
        return found, reduce(_merge, found)
    return found, column_moments(block)


def _moments_of(block: np.ndarray, rows: np.ndarray, weights: np.ndarray | None) -> Moments:
    """Return weight, mean and weighted squared deviations of some rows; rows of no weight give zeros."""
    share = np.ones(len(rows)) if weights is None else weights[rows]
    total, columns = float(share.sum()), block.shape[1]
    mean, scatter = np.zeros(columns), np.zeros(columns)
    if total <= 0:
        return Moments(0, mean, scatter)
    scratch = Scratch()
    step = max(1, (1 << 17) // columns)
    for low, high in slices(len(rows), step):
        mean += share[low:high] @ _wide(block, rows[low:high], scratch)
    mean /= total
    for low, high in slices(len(rows), step):
        part = _wide(block, rows[low:high], scratch)
        part -= mean
        scatter += np.einsum("i,ij,ij->j", share[low:high], part, part)
    return Moments(total, mean, scatter)  # type: ignore[arg-type]


def _wide(block: np.ndarray, rows: np.ndarray, scratch: Scratch) -> np.ndarray:
    part = scratch("rows", (len(rows), block.shape[1]), np.float64)
    part[:] = block[rows]
    return part


def _merge(a: Moments, b: Moments) -> Moments:
    return b if not a.rows else a if not b.rows else merge_moments(a, b)


def _merge_moments(a: tuple[list[Moments], Moments], b: tuple[list[Moments], Moments]) -> tuple[list[Moments], Moments]:
    return [_merge(one, other) for one, other in zip(a[0], b[0], strict=True)], _merge(a[1], b[1])


def _class_sums(
    block: Any, codes: np.ndarray, weights: np.ndarray | None, count: int, counts: bool, threshold: float | None
) -> np.ndarray:
    """Return for each class the sum of its rows and, in a last column, their number; float64 (count, d + 1)."""
    values = block.data if issparse(block) else block
    if counts and values.size and values.min() < 0:
        raise ValueError("Negative values in data passed to MultinomialNB (input X)")
    if issparse(block):
        return _sparse_class_sums(block, codes, weights, count, threshold)
    sums = np.zeros((count, block.shape[1] + 1))
    members = np.zeros((len(block), count))
    members[np.arange(len(block)), codes] = 1 if weights is None else weights
    scratch = Scratch()
    for low, high in parts(block, 1 << 17):
        part = scratch("rows", (high - low, block.shape[1]), np.float64)
        np.copyto(part, block[low:high] if threshold is None else block[low:high] > threshold)
        sums[:, :-1] += members[low:high].T @ part
    sums[:, -1] = members.sum(axis=0)
    return sums


def _sparse_class_sums(
    block: Any, codes: np.ndarray, weights: np.ndarray | None, count: int, threshold: float | None
) -> np.ndarray:
    if threshold is not None:
        block = csr_matrix((block.data > threshold, block.indices, block.indptr), block.shape)
    share = np.ones(len(codes)) if weights is None else weights
    members = csr_matrix((share, (codes, np.arange(len(codes)))), (count, len(codes)))
    sums = np.zeros((count, block.shape[1] + 1))
    sums[:, :-1] = (members @ block).toarray()
    sums[:, -1] = np.bincount(codes, share, count)
    return sums
