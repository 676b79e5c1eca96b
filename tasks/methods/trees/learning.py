"""What single trees and forests share: the fit, and going over rows to predict classes or numbers."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from tasks.methods.blocks import collect, is_dask, map_rows, open_blocks
from tasks.methods.execution import step_name
from tasks.methods.inputs import FLOATS, check_labelled, check_matrix
from tasks.methods.trees.binning import find_bins
from tasks.methods.trees.fitted import Tree, fitted_tree, mean_value
from tasks.methods.trees.forest import grow_trees
from tasks.methods.trees.growth import Plan
from tasks.methods.trees.parameters import criterion_number, least_decrease, limits_of, width_of
from tasks.methods.trees.targets import Targets, class_targets, number_targets
from tasks.methods.trees.weights import balanced, check_weights


class Trees(BaseEstimator):
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
    n_outputs_: int
    max_features_: int
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
        """
        criterion = criterion_number(self.criterion, isinstance(self, ClassifierMixin))
        count, jobs, bootstrap = self._of_forest()
        decrease = least_decrease(self.min_impurity_decrease)
        X, targets = self._learn(X, y, sample_weight)
        plan = self._plan(X.shape, targets, criterion, decrease, bootstrap)
        with open_blocks(X, name=type(self).__name__, passes=3) as blocks:
            bins = find_bins(blocks)
            grown = grow_trees(blocks, bins, targets, plan, count, jobs)
        self._trees = [fitted_tree(tree, bins, targets, criterion) for tree in grown]
        self.n_outputs_, self.max_features_ = 1, plan.width
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

    def _plan(self, shape: tuple[int, int], targets: Targets, criterion: int, decrease: float, bootstrap: bool) -> Plan:
        rows, columns = shape
        total = float(targets.weights(targets.total())[0])
        # A cut that gains nothing may lead to one that does; so only a wish for more than nothing stops one.
        gain = (decrease - np.finfo(np.float64).eps) * total * targets.scales[0] / targets.unit
        return Plan(
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

    def _learn(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Targets]:
        raise NotImplementedError

    def _apply(self, X: Any) -> Any:
        """Return the leaf of each row in each tree."""
        check_is_fitted(self)
        X = check_matrix(self, X, reset=False)
        apply = partial(_leaves, trees=self._trees)
        name = type(self).__name__
        return map_rows(X, apply, name=name, phase="apply", columns=len(self._trees), dtype=np.dtype(np.int64))

    def _paths(self, X: Any) -> Any:
        """Return the nodes that each row goes through, those of all trees side by side."""
        leaves = self._apply(X)
        ways = [tree.ancestors() for tree in self._trees]
        if not is_dask(leaves):
            return _nodes_of(leaves, ways)
        width = sum(tree.node_count for tree in self._trees)
        return leaves.map_blocks(
            _nodes_of,
            ways,
            token=step_name("decision_path", type(self).__name__),
            chunks=(leaves.chunks[0], (width,)),
            dtype=np.int64,
            meta=csr_matrix((0, 0), dtype=np.int64),
        )


class Classifies(ClassifierMixin, Trees):
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
        weights = check_weights(sample_weight, len(codes))
        if self.class_weight is not None:
            weights = balanced(self.class_weight, classes, codes, weights)
        self.classes_, self.n_classes_ = classes, len(classes)
        return X, class_targets(codes, len(classes), weights)


class Regresses(RegressorMixin, Trees):
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
        return X, number_targets(y, check_weights(sample_weight, len(y)))


def _leaves(block: np.ndarray, trees: list[Tree]) -> np.ndarray:
    return np.stack([tree.apply(block) for tree in trees], axis=1)


def _nodes_of(leaves: np.ndarray, ways: list[csr_matrix]) -> csr_matrix:
    return csr_matrix(hstack([own[leaves[:, t]] for t, own in enumerate(ways)], format="csr"))


def _winners(block: np.ndarray, trees: list[Tree], classes: np.ndarray) -> np.ndarray:
    winners: np.ndarray = classes[mean_value(block, trees).argmax(axis=1)]
    return winners


def _means(block: np.ndarray, trees: list[Tree]) -> np.ndarray:
    return mean_value(block, trees)[:, 0]


def _log(shares: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logarithms: np.ndarray = np.log(shares)
    return logarithms
