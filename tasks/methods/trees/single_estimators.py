"""Decision trees over row blocks, by histograms."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from tasks.methods.trees.fitted import Tree
from tasks.methods.trees.learning import Classifies, Regresses, Trees


class _Single(Trees):
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

    def decision_path(self, X: Any) -> Any:
        """Return the nodes that each row goes through, exact.

        Parameters
        ----------
        X : ndarray or dask.array.Array, shape (m, d)

        Returns
        -------
        csr_matrix or lazy dask.array.Array of such blocks, int64 (m, nodes)
            Ones.
        """
        return self._paths(X)


class DecisionTreeClassifier(_Single, Classifies):
    """A decision tree of classes, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.

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


class DecisionTreeRegressor(_Single, Regresses):
    """A decision tree of numbers, grown on columns cut into at most 256 bins.

    Exact for columns of at most 256 distinct values; others are cut by quantiles of a sample of 100,000 rows. All
    sums are of whole numbers, so the result does not depend on chunks, workers or threads, bit for bit, and NumPy and
    Dask arrays of the same values and dtype give the same. Between equal cuts the first that is tried wins, where
    scikit-learn draws.

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
