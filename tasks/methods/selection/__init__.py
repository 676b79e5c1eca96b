"""Splits of rows, and searches for parameters; interfaces and results are scikit-learn's."""

from tasks.methods.selection.folds import KFold, StratifiedKFold, take_rows, train_test_split
from tasks.methods.selection.halving import HalvingSearchCV, HyperbandSearchCV
from tasks.methods.selection.search import GridSearchCV, RandomizedSearchCV

__all__ = [
    "GridSearchCV",
    "HalvingSearchCV",
    "HyperbandSearchCV",
    "KFold",
    "RandomizedSearchCV",
    "StratifiedKFold",
    "take_rows",
    "train_test_split",
]
