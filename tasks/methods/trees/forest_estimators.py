"""Random forests over row blocks, by histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.validation import check_is_fitted

from tasks.methods.trees.fitted import Tree
from tasks.methods.trees.learning import Classifies, Regresses, Trees
from tasks.methods.trees.parameters import whole_number
from tasks.methods.trees.single_estimators import DecisionTreeClassifier, DecisionTreeRegressor


class _Forest(Trees):
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

    @property
    def estimators_(self) -> list[Any]:
        """The trees as estimators of this package, which share them with the forest; made anew when asked for."""
        check_is_fitted(self)
        return [self._as_estimator(tree) for tree in self._trees]

    def decision_path(self, X: Any) -> tuple[Any, np.ndarray]:
        """Return the nodes that each row goes through in all trees, exact.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        paths : csr_matrix or lazy dask.array.Array of such blocks, int64 (m, nodes)
            Ones.
        starts : ndarray, int64 (trees + 1,)
            Columns ``starts[t]`` to ``starts[t + 1]`` are those of tree t.
        """
        paths = self._paths(X)
        return paths, np.cumsum([0, *(tree.node_count for tree in self._trees)])

    def apply(self, X: Any) -> Any:
        """Return the node of each row's leaf in each tree, int64 (m, trees); of a Dask array lazily."""
        return self._apply(X)

    def _as_estimator(self, tree: Tree) -> Any:
        kind = DecisionTreeClassifier if isinstance(self, Classifies) else DecisionTreeRegressor
        single = kind(**{name: getattr(self, name) for name in kind().get_params() if name != "random_state"})
        single._trees = [tree]
        for name in ("n_features_in_", "feature_names_in_", "n_outputs_", "max_features_", "classes_", "n_classes_"):
            if hasattr(self, name):
                setattr(single, name, getattr(self, name))
        return single

    def _of_forest(self) -> tuple[int, int, bool]:
        if not isinstance(self.bootstrap, bool | np.bool_):
            raise ValueError(f"expected bootstrap as True or False, received {self.bootstrap!r}")
        return whole_number("n_estimators", self.n_estimators, 1), effective_n_jobs(self.n_jobs), bool(self.bootstrap)


class RandomForestClassifier(_Forest, Classifies):
    """A random forest of classes, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.

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
    estimators_ : list of DecisionTreeClassifier
        Of the forest's classes, where scikit-learn's predict the numbers of the classes.
    feature_importances_ : ndarray, float64 (d,)
    n_features_in_ : int
    n_outputs_ : int
        1.
    max_features_ : int
        Columns that are drawn at every node.

    Notes
    -----
    Three passes: distinct values (each task sends up to 256 d values), the sample (64 MB at most, here), and the bins,
    a byte per value. If n (d + 112) bytes are at most a fifth of the smallest worker's memory, the bins are brought
    together in the workers that grow trees, a task per tree; while they are put in columns they are there twice. Else
    trees grow by levels, to the same result: passes over the blocks sum up histograms of nodes with many rows (64 MB
    at most in each message, 256 MB kept here) until the rows of a node fit 12 % of what a worker has beyond 320 MB for
    its code, and it grows what is below; rows on the way take at most 15 % of that of all workers, and a pass is made
    for each such share of every tree's rows. Bins of more than 30 % of it lie on the workers' disks (`shelf.py`); they
    are read in every pass, and a worker that dies has its part binned again. Each row takes 12 bytes here.

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


class RandomForestRegressor(_Forest, Regresses):
    """A random forest of numbers, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.

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
    estimators_ : list of DecisionTreeRegressor
    feature_importances_ : ndarray, float64 (d,)
    n_features_in_ : int
    n_outputs_ : int
        1.
    max_features_ : int
        Columns that are drawn at every node.

    Notes
    -----
    Three passes: distinct values (each task sends up to 256 d values), the sample (64 MB at most, here), and the bins,
    a byte per value. If n (d + 112) bytes are at most a fifth of the smallest worker's memory, the bins are brought
    together in the workers that grow trees, a task per tree; while they are put in columns they are there twice. Else
    trees grow by levels, to the same result: passes over the blocks sum up histograms of nodes with many rows (64 MB
    at most in each message, 256 MB kept here) until the rows of a node fit 12 % of what a worker has beyond 320 MB for
    its code, and it grows what is below; rows on the way take at most 15 % of that of all workers, and a pass is made
    for each such share of every tree's rows. Bins of more than 30 % of it lie on the workers' disks (`shelf.py`); they
    are read in every pass, and a worker that dies has its part binned again. Each row takes 28 bytes here.

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
