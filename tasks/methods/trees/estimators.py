"""Decision trees and random forests over row blocks, by histograms."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tasks.methods.blocks import collect, is_dask, map_rows, open_blocks
from tasks.methods.inputs import FLOATS, check_labelled, check_matrix
from tasks.methods.trees.binning import find_bins
from tasks.methods.trees.fitted import Tree, fitted_tree, mean_value
from tasks.methods.trees.forest import check_room, grow_trees
from tasks.methods.trees.growth import Plan
from tasks.methods.trees.parameters import criterion_number, least_decrease, limits_of, whole_number, width_of
from tasks.methods.trees.targets import Targets, class_targets, number_targets


class _Trees(BaseEstimator):
    """What single trees and forests share: parameters, the fit, and going over rows."""

    criterion: str
    max_depth: int | None
    min_samples_split: int | float
    min_samples_leaf: int | float
    min_weight_fraction_leaf: float
    min_impurity_decrease: float
    max_features: Any
    random_state: Any
    n_features_in_: int
    _trees: list[Tree]

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Grow.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,)
            Labels of any type, or numbers; held in this process.
        sample_weight : array-like or dask.array.Array, shape (n,), optional
            Not negative; held in this process. Rows of weight 0 count as absent.

        Raises
        ------
        ValueError
            If a parameter or the data is not usable.
        MemoryError
            If the bins, n d bytes, take more than a fifth of the memory of a worker; of NumPy arrays and on Dask's
            local threads, of what is free on this machine.
        """
        criterion = criterion_number(self.criterion, isinstance(self, ClassifierMixin))
        count, jobs, bootstrap = self._of_forest()
        decrease = least_decrease(self.min_impurity_decrease)
        X, targets = self._learn(X, y, sample_weight)
        rows, columns = X.shape
        total = float(targets.weights(targets_sums(targets))[0])
        # A cut that gains nothing may lead to one that does; so only a wish for more than nothing stops one.
        gain = (decrease - np.finfo(np.float64).eps) * total * targets.scales[0] / targets.unit
        plan = Plan(
            criterion,
            targets.channels,
            width_of(self.max_features, columns),
            limits_of(
                self.max_depth,
                self.min_samples_split,
                self.min_samples_leaf,
                self.min_weight_fraction_leaf,
                rows,
                round(total * targets.scales[0]),
            ),
            gain if decrease else -np.inf,
            targets.tolerance,
            targets.square,
            bootstrap,
            int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)),
        )
        with open_blocks(X, name=type(self).__name__, passes=3) as blocks:
            check_room(blocks)
            bins = find_bins(blocks)
            grown = grow_trees(blocks, bins, targets, plan, count, jobs)
        self._trees = [fitted_tree(tree, bins, targets, criterion) for tree in grown]
        return self

    @property
    def feature_importances_(self) -> np.ndarray:
        """Share of each column in what the cuts gained, mean over the trees, float64 (d,); they sum to 1."""
        check_is_fitted(self)
        shares = np.mean([tree.importances(self.n_features_in_) for tree in self._trees], axis=0)
        total = shares.sum()
        return shares / total if total > 0 else shares

    def _of_forest(self) -> tuple[int, int, bool]:
        """How many trees, on how many threads, from bootstraps or not."""
        return 1, 1, False

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Targets]:
        raise NotImplementedError

    def _apply(self, X: Any) -> Any:
        """Return the leaf of each row in each tree."""
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(_leaves, trees=self._trees)
        name = type(self).__name__
        return map_rows(X, apply, name=name, phase="apply", columns=len(self._trees), dtype=np.dtype(np.int64))


def targets_sums(targets: Targets) -> np.ndarray:
    """Return the sums of all rows, as those of one node, int64 (1, channels + 1)."""
    sums = np.zeros((1, targets.channels + 1), np.int64)
    if targets.classes:
        np.add.at(sums[0], targets.codes, targets.amounts[:, 0])
    else:
        sums[0, :3] = targets.amounts.sum(axis=0)
    sums[0, -1] = np.count_nonzero(targets.amounts[:, 0])
    return sums


class _Classifies(ClassifierMixin, _Trees):
    """Trees of classes."""

    class_weight: Any
    classes_: np.ndarray
    n_classes_: int

    def predict(self, X: Any) -> Any:
        """Return the most likely class of each row; of a Dask array lazily."""
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(_winners, trees=self._trees, classes=self.classes_)
        return map_rows(X, apply, name=type(self).__name__, phase="predict", columns=None, dtype=self.classes_.dtype)

    def predict_proba(self, X: Any) -> Any:
        """Return the share of each class in the leaf, mean over the trees, float64 (m, classes); lazily of Dask."""
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply, columns = partial(mean_value, trees=self._trees), self.n_classes_
        dtype = np.dtype(np.float64)
        return map_rows(X, apply, name=type(self).__name__, phase="predict_proba", columns=columns, dtype=dtype)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`; minus infinity where that is 0."""
        shares = self.predict_proba(X)
        return shares.map_blocks(_log, dtype=np.float64) if is_dask(shares) else _log(shares)

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Targets]:
        X, classes, codes = check_labelled(self, X, y)
        weights = _weights(sample_weight, len(codes))
        if self.class_weight is not None:
            by_class = compute_class_weight(
                self.class_weight, classes=classes, y=classes[codes], **_weighing(self.class_weight, weights)
            )
            weights = by_class[codes] * (1.0 if weights is None else weights)
            _positive(weights)
        self.classes_, self.n_classes_ = classes, len(classes)
        return X, class_targets(codes, len(classes), weights)


class _Regresses(RegressorMixin, _Trees):
    """Trees of numbers."""

    def predict(self, X: Any) -> Any:
        """Return the mean of each row's leaf, mean over the trees, float64 (m,); of a Dask array lazily."""
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply, dtype = partial(_means, trees=self._trees), np.dtype(np.float64)
        return map_rows(X, apply, name=type(self).__name__, phase="predict", columns=None, dtype=dtype)

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Targets]:
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        y = collect(y, "targets", type(self).__name__) if is_dask(y) else y
        if is_dask(X):
            X = check_matrix(self, X, reset=True)
            y = column_or_1d(y, warn=True)
            if len(y) != X.shape[0]:
                raise ValueError(f"expected as many targets as rows, received {len(y)} targets and {X.shape[0]} rows")
        else:
            X, y = validate_data(self, X, y, dtype=FLOATS, order="C", y_numeric=True)
        y = np.asarray(y, np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        return X, number_targets(y, _weights(sample_weight, len(y)))


class _Single(_Trees):
    """One tree."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_trees")

    @property
    def tree_(self) -> Tree:
        """The tree, with the names of scikit-learn's."""
        check_is_fitted(self)
        return self._trees[0]

    def get_depth(self) -> int:
        """Return the cuts above the deepest leaf."""
        return self.tree_.max_depth

    def get_n_leaves(self) -> int:
        """Return the number of leaves."""
        return self.tree_.n_leaves

    def apply(self, X: Any) -> Any:
        """Return the node of each row's leaf, int64 (m,); of a Dask array lazily."""
        return self._apply(X)[:, 0]


class _Forest(_Trees):
    """Many trees, each of its own draw of rows and, at every node, of columns."""

    n_estimators: int
    bootstrap: bool
    n_jobs: int | None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_trees")

    @property
    def trees_(self) -> list[Tree]:
        """The trees."""
        check_is_fitted(self)
        return self._trees

    def apply(self, X: Any) -> Any:
        """Return the node of each row's leaf in each tree, int64 (m, trees); of a Dask array lazily."""
        return self._apply(X)

    def _of_forest(self) -> tuple[int, int, bool]:
        if not isinstance(self.bootstrap, bool | np.bool_):
            raise ValueError(f"expected bootstrap as True or False, received {self.bootstrap!r}")
        return whole_number("n_estimators", self.n_estimators, 1), effective_n_jobs(self.n_jobs), bool(self.bootstrap)


def _leaves(block: np.ndarray, trees: list[Tree]) -> np.ndarray:
    return np.stack([tree.apply(block) for tree in trees], axis=1)


def _winners(block: np.ndarray, trees: list[Tree], classes: np.ndarray) -> np.ndarray:
    winners: np.ndarray = classes[mean_value(block, trees).argmax(axis=1)]
    return winners


def _means(block: np.ndarray, trees: list[Tree]) -> np.ndarray:
    return mean_value(block, trees)[:, 0]


def _log(shares: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logarithms: np.ndarray = np.log(shares)
    return logarithms


def _weights(values: Any, rows: int) -> np.ndarray | None:
    """Check weights of rows."""
    if values is None:
        return None
    weights = np.asarray(collect(values) if is_dask(values) else values, np.float64)
    if weights.ndim == 0:
        weights = np.full(rows, float(weights))
    if weights.shape != (rows,):
        raise ValueError(f"expected sample_weight of shape {(rows,)}, received {weights.shape}; give one per row")
    if not np.isfinite(weights).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    if (weights < 0).any():
        raise ValueError("expected sample_weight of at least 0, received negative weights")
    _positive(weights)
    return weights


def _positive(weights: np.ndarray) -> None:
    if not (weights > 0).any():
        raise ValueError("expected a row of positive sample weight, received zero for all rows")


def _weighing(class_weight: Any, weights: np.ndarray | None) -> dict[str, Any]:
    # Newer versions of scikit-learn balance the weights, older ones the rows.
    from inspect import signature

    known = "sample_weight" in signature(compute_class_weight).parameters
    return {"sample_weight": weights} if known and class_weight == "balanced" else {}


class DecisionTreeClassifier(_Single, _Classifies):
    """A decision tree of classes, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.
    The bins of all rows, n d bytes (a quarter of float32), must fit one worker: see Notes.

    Parameters
    ----------
    criterion : {"gini", "entropy", "log_loss"}, default "gini"
    max_depth : int, optional
    min_samples_split, min_samples_leaf : int or float
        Rows to cut a node, and of each side; a float is a share of all rows.
    min_weight_fraction_leaf : float, default 0.0
        Share of the weight of all rows, before any are drawn, that each side must have.
    max_features : "sqrt", "log2", int, float or None
        Columns that are drawn at every node. As in scikit-learn, drawing goes on until one is not constant there.
    random_state : int, RandomState or None
    min_impurity_decrease : float, default 0.0
    class_weight : dict, "balanced" or None

    Attributes
    ----------
    classes_ : ndarray
    n_classes_ : int
    tree_ : Tree
    feature_importances_ : ndarray, float64 (d,)
    n_features_in_ : int

    Notes
    -----
    Three passes: distinct values (each task sends up to 256 d values), the sample (64 MB at most, here), and the bins.
    Then n d bytes of bins are brought together in the workers that grow trees, a task per tree; while they are put in
    columns they are there twice. They may take a fifth of the memory of one worker (the smallest); beyond that `fit`
    raises MemoryError before it reads: fit on fewer rows, or give workers more memory. Each row takes 12 bytes here,
    and up to 56 in each tree that a worker is growing.

    References
    ----------
    L. Breiman et al. (1984). Classification and Regression Trees. L. Breiman (2001). Random forests. Machine Learning
    45, 5-32.
    """

    def __init__(
        self,
        *,
        criterion: str = "gini",
        max_depth: int | None = None,
        min_samples_split: int | float = 2,
        min_samples_leaf: int | float = 1,
        min_weight_fraction_leaf: float = 0.0,
        max_features: Any = None,
        random_state: Any = None,
        min_impurity_decrease: float = 0.0,
        class_weight: Any = None,
    ) -> None:
        self.criterion = criterion
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.random_state = random_state
        self.min_impurity_decrease = min_impurity_decrease
        self.class_weight = class_weight


class DecisionTreeRegressor(_Single, _Regresses):
    """A decision tree of numbers, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.
    The bins of all rows, n d bytes (a quarter of float32), must fit one worker: see Notes.

    Parameters
    ----------
    criterion : {"squared_error"}
    max_depth : int, optional
    min_samples_split, min_samples_leaf : int or float
        Rows to cut a node, and of each side; a float is a share of all rows.
    min_weight_fraction_leaf : float, default 0.0
        Share of the weight of all rows, before any are drawn, that each side must have.
    max_features : "sqrt", "log2", int, float or None
        Columns that are drawn at every node. As in scikit-learn, drawing goes on until one is not constant there.
    random_state : int, RandomState or None
    min_impurity_decrease : float, default 0.0

    Attributes
    ----------
    tree_ : Tree
    feature_importances_ : ndarray, float64 (d,)
    n_features_in_ : int

    Notes
    -----
    Three passes: distinct values (each task sends up to 256 d values), the sample (64 MB at most, here), and the bins.
    Then n d bytes of bins are brought together in the workers that grow trees, a task per tree; while they are put in
    columns they are there twice. They may take a fifth of the memory of one worker (the smallest); beyond that `fit`
    raises MemoryError before it reads: fit on fewer rows, or give workers more memory. Each row takes 28 bytes here,
    and up to 104 in each tree that a worker is growing.

    References
    ----------
    L. Breiman et al. (1984). Classification and Regression Trees. L. Breiman (2001). Random forests. Machine Learning
    45, 5-32.
    """

    def __init__(
        self,
        *,
        criterion: str = "squared_error",
        max_depth: int | None = None,
        min_samples_split: int | float = 2,
        min_samples_leaf: int | float = 1,
        min_weight_fraction_leaf: float = 0.0,
        max_features: Any = None,
        random_state: Any = None,
        min_impurity_decrease: float = 0.0,
    ) -> None:
        self.criterion = criterion
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.random_state = random_state
        self.min_impurity_decrease = min_impurity_decrease


class RandomForestClassifier(_Forest, _Classifies):
    """A random forest of classes, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.
    The bins of all rows, n d bytes (a quarter of float32), must fit one worker: see Notes.

    Parameters
    ----------
    n_estimators : int, default 100
    criterion : {"gini", "entropy", "log_loss"}, default "gini"
    max_depth : int, optional
    min_samples_split, min_samples_leaf : int or float
        Rows to cut a node, and of each side; a float is a share of all rows.
    min_weight_fraction_leaf : float, default 0.0
        Share of the weight of all rows, before any are drawn, that each side must have.
    max_features : "sqrt", "log2", int, float or None
        Columns that are drawn at every node. As in scikit-learn, drawing goes on until one is not constant there.
    random_state : int, RandomState or None
    min_impurity_decrease : float, default 0.0
    class_weight : dict, "balanced" or None
    bootstrap : bool, default True
        Draw each row a Poisson number of times (mean 1), by seed, tree and row number; not n rows with replacement.
    n_jobs : int or None
        Threads for NumPy input; for Dask arrays Dask decides.

    Attributes
    ----------
    classes_ : ndarray
    n_classes_ : int
    trees_ : list of Tree
    feature_importances_ : ndarray, float64 (d,)
    n_features_in_ : int

    Notes
    -----
    Three passes: distinct values (each task sends up to 256 d values), the sample (64 MB at most, here), and the bins.
    Then n d bytes of bins are brought together in the workers that grow trees, a task per tree; while they are put in
    columns they are there twice. They may take a fifth of the memory of one worker (the smallest); beyond that `fit`
    raises MemoryError before it reads: fit on fewer rows, or give workers more memory. Each row takes 12 bytes here,
    and up to 56 in each tree that a worker is growing.

    References
    ----------
    L. Breiman et al. (1984). Classification and Regression Trees. L. Breiman (2001). Random forests. Machine Learning
    45, 5-32.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        criterion: str = "gini",
        max_depth: int | None = None,
        min_samples_split: int | float = 2,
        min_samples_leaf: int | float = 1,
        min_weight_fraction_leaf: float = 0.0,
        max_features: Any = "sqrt",
        min_impurity_decrease: float = 0.0,
        bootstrap: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
        class_weight: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.criterion = criterion
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.min_impurity_decrease = min_impurity_decrease
        self.bootstrap = bootstrap
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.class_weight = class_weight


class RandomForestRegressor(_Forest, _Regresses):
    """A random forest of numbers, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.
    The bins of all rows, n d bytes (a quarter of float32), must fit one worker: see Notes.

    Parameters
    ----------
    n_estimators : int, default 100
    criterion : {"squared_error"}
    max_depth : int, optional
    min_samples_split, min_samples_leaf : int or float
        Rows to cut a node, and of each side; a float is a share of all rows.
    min_weight_fraction_leaf : float, default 0.0
        Share of the weight of all rows, before any are drawn, that each side must have.
    max_features : "sqrt", "log2", int, float or None
        Columns that are drawn at every node. As in scikit-learn, drawing goes on until one is not constant there.
    random_state : int, RandomState or None
    min_impurity_decrease : float, default 0.0
    bootstrap : bool, default True
        Draw each row a Poisson number of times (mean 1), by seed, tree and row number; not n rows with replacement.
    n_jobs : int or None
        Threads for NumPy input; for Dask arrays Dask decides.

    Attributes
    ----------
    trees_ : list of Tree
    feature_importances_ : ndarray, float64 (d,)
    n_features_in_ : int

    Notes
    -----
    Three passes: distinct values (each task sends up to 256 d values), the sample (64 MB at most, here), and the bins.
    Then n d bytes of bins are brought together in the workers that grow trees, a task per tree; while they are put in
    columns they are there twice. They may take a fifth of the memory of one worker (the smallest); beyond that `fit`
    raises MemoryError before it reads: fit on fewer rows, or give workers more memory. Each row takes 28 bytes here,
    and up to 104 in each tree that a worker is growing.

    References
    ----------
    L. Breiman et al. (1984). Classification and Regression Trees. L. Breiman (2001). Random forests. Machine Learning
    45, 5-32.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        *,
        criterion: str = "squared_error",
        max_depth: int | None = None,
        min_samples_split: int | float = 2,
        min_samples_leaf: int | float = 1,
        min_weight_fraction_leaf: float = 0.0,
        max_features: Any = 1.0,
        min_impurity_decrease: float = 0.0,
        bootstrap: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.criterion = criterion
        self.max_depth = max_depth
        self.min_samples_split = min_samples_split
        self.min_samples_leaf = min_samples_leaf
        self.min_weight_fraction_leaf = min_weight_fraction_leaf
        self.max_features = max_features
        self.min_impurity_decrease = min_impurity_decrease
        self.bootstrap = bootstrap
        self.n_jobs = n_jobs
        self.random_state = random_state
