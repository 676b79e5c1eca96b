"""Support vector classification with kernels."""

from __future__ import annotations

import warnings
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn import svm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted, validate_data

from tasks.methods.blocks import CACHE_FRACTION, collect, is_dask, open_blocks
from tasks.methods.inputs import FLOATS, check_labelled, check_matrix
from tasks.methods.kernel_svm.decisions import against_rest, decide, weights_of_pairs, winners
from tasks.methods.kernel_svm.gathering import WORKER_FRACTION, solve_here, solve_on_blocks
from tasks.methods.kernel_svm.kernels import Kernel, total_variance
from tasks.methods.kernel_svm.lazily import map_rows_holding
from tasks.methods.kernel_svm.pairs import Pair, Settings, unite
from tasks.methods.moments import column_moments, merge_moments

OWN_ROWS, OWN_VALUES = 20_000, 1_200_000
"""Rows, or values, from which a NumPy array is fitted by the solver of this package; libsvm is quicker on fewer.

Measured on two cores, C=10: they are equal between 5,000 and 20,000 rows of digits (64 columns), and between 1,000 and
5,000 of Fashion-MNIST (784 columns).
"""

KERNELS = ("linear", "poly", "rbf", "sigmoid")


class SVC(ClassifierMixin, BaseEstimator):
    """Support vector classification with a kernel, one class against one.

    Exact to `tol`: it solves the dual problem of scikit-learn's class of this name, each pair of classes until no row
    of the two violates the optimality conditions by more than `tol`. NumPy arrays of fewer than 20,000 rows and
    1.2 million values, and sparse matrices, are scikit-learn's own work (libsvm); others, and Dask arrays, go to a
    solver by working sets, whose kernel rows come from matrix products in the data's dtype and are kept in float32, as
    libsvm keeps them. In data of float32 the kernel is computed in float32.

    Parameters
    ----------
    C : float, default 1.0
        Upper bound of a row's coefficient.
    kernel : {"rbf", "linear", "poly", "sigmoid"}, default "rbf"
    degree : int, default 3
        Of "poly".
    gamma : {"scale", "auto"} or float, default "scale"
        Of "rbf", "poly" and "sigmoid"; "scale" is 1 / (d times the variance of all values), "auto" 1 / d.
    coef0 : float, default 0.0
        Of "poly" and "sigmoid".
    tol : float, default 1e-3
        Largest violation of the optimality conditions to end a pair at.
    cache_size : float, default 200
        MB of kernel rows that a task keeps; at least a working set of up to 512 rows.
    class_weight : dict, "balanced" or None, default None
        Multiplies C for the rows of a class.
    max_iter : int, default -1
        Most steps for each pair; -1 for no limit.
    decision_function_shape : {"ovr", "ovo"}, default "ovr"
        Whether `decision_function` of three or more classes gives a value per class, or one per pair.
    break_ties : bool, default False
        Whether `predict` breaks ties of votes by the decisions instead of by the order of the classes.

    Attributes
    ----------
    classes_, class_weight_ : ndarray (classes,)
    support_ : ndarray of int32 (support vectors,)
        Rows of the training data, grouped by class.
    support_vectors_ : ndarray (support vectors, d)
        In the dtype of the data.
    n_support_ : ndarray of int32 (classes,)
    dual_coef_ : ndarray, float64 (classes - 1, support vectors)
        In scikit-learn's layout.
    coef_ : ndarray, float64 (1 or pairs, d)
        Of kernel "linear" only: weights of the columns, of two classes positive for the second, else for each pair,
        (0, 1), (0, 2), ..., positive for its first class. Exact to rounding, computed when asked for.
    intercept_ : ndarray, float64 (pairs,)
    n_iter_ : ndarray of int32 (pairs,)
    dual_gap_, violation_ : ndarray, float64 (pairs,)
        Primal less dual objective, and the largest violation of the optimality conditions over all rows of the pair,
        where the solver was ours.
    n_features_in_ : int

    Notes
    -----
    A pair of m rows with s support vectors takes about 2 m d kernel values for each of little more than s rows. The
    rows of a class are brought together once, n d values in all, in the workers; data that takes more than 30 % of
    their memory is brought by tiles of classes, k^2 / 2 tiles at most, with one pass over the blocks for each. Each
    pair is a task and holds its rows twice, 100 bytes per row, and `cache_size` or 2 kB per row if that is more; tasks
    wait for each other where together they would take more than 40 % of a worker. It sends its support vectors'
    numbers. A pair that takes more than that alone is solved by rounds on its support vectors and the rows that
    compete with them, to the same optimum: two passes over the blocks for each of some 3 to 10 rounds
    (`tasks.methods.kernel_svm.rounds`), one such pair after the other.
    The support vectors are held in this process and, for a prediction, in each worker. A prediction of m rows takes
    2 m d s operations for the s support vectors of all pairs, and m k^2 float64 besides its block.

    Kernels that are callables or precomputed, and `probability`, are not offered: use scikit-learn's class, with
    `CalibratedClassifierCV` for probabilities.

    References
    ----------
    See `tasks.methods.kernel_svm.smo`. C.-C. Chang, C.-J. Lin (2011). LIBSVM: a library for support vector machines.
    ACM TIST 2(3), 27 (the problem, and its one against one).
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        kernel: str = "rbf",
        degree: int = 3,
        gamma: Any = "scale",
        coef0: float = 0.0,
        tol: float = 1e-3,
        cache_size: float = 200,
        class_weight: Any = None,
        max_iter: int = -1,
        decision_function_shape: str = "ovr",
        break_ties: bool = False,
    ) -> None:
        self.C = C
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.cache_size = cache_size
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.decision_function_shape = decision_function_shape
        self.break_ties = break_ties

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the support vectors.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,)
            Labels of any type; held in this process.
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            Multiplies C for each row; rows of weight 0 are left out. Held in this process.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        MemoryError
            If the support vectors of a pair do not fit into a worker.
        """
        self._check_parameters()
        if sparse.issparse(X):
            return self._fit_libsvm(X, y, sample_weight)
        X, self.classes_, codes = check_labelled(self, X, y)
        if len(self.classes_) < 2:
            raise ValueError(f"The number of classes has to be greater than one; got {len(self.classes_)} class")
        if not is_dask(X) and len(X) < OWN_ROWS and X.size < OWN_VALUES:
            return self._fit_libsvm(X, self.classes_[codes], sample_weight)
        # On the labels themselves: a dictionary of weights is keyed by them.
        self.class_weight_ = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_[codes])
        weights = _weights(sample_weight, len(codes))
        used = codes if weights is None else np.where(weights > 0, codes, np.int32(-1))
        bounds = self._bounds(used, weights)
        with open_blocks(X, name=type(self).__name__, passes=1) as rows:
            moments = rows.reduce("moments", column_moments, combine=merge_moments) if self._scales() else None
            self._gamma_value = self._find_gamma(X.shape[1], total_variance(moments) if moments else 0.0)
            settings = Settings(self._kernel(), float(self.tol), int(self.cache_size * 1e6), int(self.max_iter))
            if is_dask(X):
                settings = settings._replace(room=WORKER_FRACTION * rows.engine.task_memory())
                solved = solve_on_blocks(rows, used, bounds, settings, int(CACHE_FRACTION * rows.engine.memory()))
            else:
                solved = solve_here(X, used, bounds, settings)
            self._keep(solved, used)
            order = np.argsort(self.support_)
            vectors = rows.take(self.support_[order].astype(np.int64))
        self.support_vectors_ = np.empty_like(vectors)
        self.support_vectors_[order] = vectors
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the decision for each class, or for each pair of them.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, float64
            (m,) for two classes, positive for the second; else (m, classes): votes, and a fraction that breaks their
            ties; with `decision_function_shape="ovo"` (m, pairs), positive for the first class of a pair.
        """
        check_is_fitted(self)
        classes = len(self.classes_)
        shape = self.decision_function_shape
        columns = None if classes == 2 else classes if shape == "ovr" else classes * (classes - 1) // 2
        return self._apply(X, partial(_shaped, classes=classes, shape=shape), "decide", columns, np.dtype(np.float64))

    def predict(self, X: Any) -> Any:
        """Return the class with most votes of the pairs.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (m, d)

        Returns
        -------
        ndarray or lazy dask.array.Array, shape (m,)
        """
        check_is_fitted(self)
        if self.break_ties and self.decision_function_shape == "ovo":
            raise ValueError("break_ties must be False when decision_function_shape is 'ovo'")
        finish = partial(_named, classes=self.classes_, break_ties=self.break_ties and len(self.classes_) > 2)
        return self._apply(X, finish, "predict", None, self.classes_.dtype)

    @property
    def coef_(self) -> np.ndarray:
        """Weights of the columns, of the linear kernel; float64 (1 or pairs, d)."""
        if self.kernel != "linear":
            raise AttributeError(
                f"expected kernel 'linear' for coef_, received {self.kernel!r}; of other kernels dual_coef_ and "
                "support_vectors_ say all"
            )
        check_is_fitted(self)
        weights = weights_of_pairs(self.support_vectors_, self.dual_coef_, self.n_support_)
        weights.flags.writeable = False  # what is written there would be lost
        return weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _apply(self, X: Any, finish: Any, phase: str, columns: int | None, dtype: np.dtype) -> Any:
        """Decide about rows, and finish: (decisions of the pairs) -> result."""
        if is_dask(X):
            X = check_matrix(self, X, reset=False)
        else:
            X = validate_data(self, X, reset=False, dtype=FLOATS, order="C", accept_sparse="csr")
        sign = -1.0 if len(self.classes_) == 2 else 1.0
        vectors, coefficients = self.support_vectors_, sign * self.dual_coef_
        known: dict[str, Any] = {"kernel": self._kernel(), "counts": self.n_support_, "offsets": sign * self.intercept_}
        function: Any = partial(_decide_and_finish, finish=finish, **known)
        name = type(self).__name__
        if sparse.issparse(X) or sparse.issparse(vectors):
            return function(X, vectors=vectors, coefficients=coefficients)
        held = {"vectors": vectors, "coefficients": coefficients}
        return map_rows_holding(X, function, held, name=name, phase=phase, columns=columns, dtype=dtype)

    def _kernel(self) -> Kernel:
        return Kernel(self.kernel, self._gamma_value, self.degree, float(self.coef0))

    def _scales(self) -> bool:
        return self.kernel != "linear" and isinstance(self.gamma, str) and self.gamma == "scale"

    def _find_gamma(self, columns: int, variance: float) -> float:
        if self._scales():
            return 1.0 / (columns * variance) if variance else 1.0
        return 1.0 / columns if isinstance(self.gamma, str) else float(self.gamma)

    def _bounds(self, codes: np.ndarray, weights: np.ndarray | None) -> list[np.ndarray]:
        """Return the upper bounds of each class's coefficients, one for all rows unless they have weights."""
        counts = np.bincount(codes[codes >= 0], minlength=len(self.classes_))
        if not counts.all():
            raise ValueError(
                "expected rows of positive weight in every class, received none in class "
                f"{self.classes_[counts.argmin()]!r}; leave that class out"
            )
        scale = self.C * self.class_weight_
        if not (scale > 0).all():
            raise ValueError(f"expected class weights above 0, received {self.class_weight!r}; leave such a class out")
        if weights is None:
            return [np.array([value]) for value in scale]
        return [value * weights[codes == c] for c, value in enumerate(scale)]

    def _keep(self, solved: list[Pair], codes: np.ndarray) -> None:
        machine = unite(solved, len(self.classes_))
        members = [np.flatnonzero(codes == c)[rows] for c, rows in enumerate(machine.rows)]
        sign = -1.0 if len(self.classes_) == 2 else 1.0
        self.support_ = np.concatenate(members).astype(np.int32 if len(codes) < 2**31 else np.int64)
        self.n_support_ = machine.counts.astype(np.int32)
        self.dual_coef_ = sign * machine.coefficients
        self.intercept_ = sign * machine.offsets
        self.n_iter_ = np.array([max(pair.steps, 1) for pair in solved], np.int32)
        self.dual_gap_ = np.array([pair.gap for pair in solved])
        self.violation_ = np.array([pair.violation for pair in solved])
        late = int(np.count_nonzero(self.violation_ > self.tol))
        if late:
            warnings.warn(
                f"SVC ended before tol={self.tol} in {late} of {len(solved)} pairs (largest violation "
                f"{self.violation_.max():.2g}); raise max_iter or tol, or scale the data",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _fit_libsvm(self, X: Any, y: Any, sample_weight: Any) -> Self:
        """Let scikit-learn do it, and keep what it found under the same names."""
        weights = collect(sample_weight) if is_dask(sample_weight) else sample_weight
        model = svm.SVC(**self.get_params()).fit(X, collect(y) if is_dask(y) else y, weights)
        for word in ("dual_gap_", "violation_"):
            if hasattr(self, word):
                delattr(self, word)
        for word in (
            *("classes_", "class_weight_", "support_", "support_vectors_", "n_support_", "dual_coef_"),
            *("intercept_", "n_iter_", "n_features_in_", "feature_names_in_"),
        ):
            if hasattr(model, word):
                setattr(self, word, getattr(model, word))
        dual: Any = model.dual_coef_
        self.dual_coef_ = dual.toarray() if sparse.issparse(dual) else dual
        self._gamma_value = self._find_gamma(X.shape[1], _variance_here(X) if self._scales() else 0.0)
        return self

    def _check_parameters(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(
                f"expected kernel as one of {', '.join(KERNELS)}, received {self.kernel!r}; "
                "scikit-learn's SVC takes others"
            )
        for name in ("C", "tol", "cache_size"):
            value = getattr(self, name)
            if not isinstance(value, Real) or not 0 < float(value) < np.inf:
                raise ValueError(f"expected {name} as a number above 0, received {value!r}")
        if not (self.gamma in ("scale", "auto") if isinstance(self.gamma, str) else _is_gamma(self.gamma)):
            raise ValueError(f"expected gamma as 'scale', 'auto' or a number of at least 0, received {self.gamma!r}")
        if not isinstance(self.degree, Integral) or self.degree < 0:
            raise ValueError(f"expected degree as an integer of at least 0, received {self.degree!r}")
        if not isinstance(self.max_iter, Integral) or self.max_iter < -1:
            raise ValueError(f"expected max_iter as an integer of at least 0, or -1, received {self.max_iter!r}")
        if self.decision_function_shape not in ("ovr", "ovo"):
            raise ValueError(
                f"expected decision_function_shape 'ovr' or 'ovo', received {self.decision_function_shape!r}"
            )


def _is_gamma(value: Any) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < np.inf


def _variance_here(X: Any) -> float:
    if sparse.issparse(X):
        return float(X.multiply(X).mean() - X.mean() ** 2)
    return float(np.var(X, dtype=np.float64))


def _weights(values: Any, rows: int) -> np.ndarray | None:
    if values is None:
        return None
    weights = np.asarray(collect(values) if is_dask(values) else values, np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"expected sample_weight of shape {(rows,)}, received {weights.shape}; give one per row")
    if not np.isfinite(weights).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    return weights


def _decide_and_finish(X: Any, vectors: Any, coefficients: np.ndarray, finish: Any, **known: Any) -> np.ndarray:
    result: np.ndarray = finish(decide(X, vectors, coefficients, **known))
    return result


def _shaped(decisions: np.ndarray, classes: int, shape: str) -> np.ndarray:
    if classes == 2:
        return -decisions[:, 0]
    return against_rest(decisions, classes) if shape == "ovr" else decisions


def _named(decisions: np.ndarray, classes: np.ndarray, break_ties: bool) -> np.ndarray:
    count = len(classes)
    chosen = against_rest(decisions, count).argmax(axis=1) if break_ties else winners(decisions, count)
    named: np.ndarray = classes[chosen]
    return named
