"""What a method accepts: checks of matrices and labels, for NumPy and Dask arrays alike."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from tasks.methods.blocks import check_dask_matrix, collect, is_dask

FLOATS = (np.float64, np.float32)


def check_matrix(estimator: Any, X: Any, *, reset: bool, rows: int = 1, narrow: bool = False) -> Any:
    """Check X for an estimator and set or compare ``n_features_in_``.

    Parameters
    ----------
    X : array-like or dask.array.Array, shape (n, d)
    reset : bool
        True in `fit`; otherwise the number of columns must be that of the fit.
    rows : int
        Rows needed at least.
    narrow : bool
        Take numbers of one or two bytes as float32, which holds them exactly, as blocks of a Dask array are taken. For
        methods whose choices would otherwise differ between the two where rows tie but for rounding.

    Returns
    -------
    ndarray of float32 or float64, or dask.array.Array
        A Dask array has one block over its columns; its values are checked later, by the tasks that read them.

    Raises
    ------
    ValueError
        If X is not a finite, numeric matrix of enough rows and the right number of columns.
    """
    if not is_dask(X):
        small = narrow and isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and X.dtype.itemsize <= 2
        dtype = np.float32 if small else FLOATS
        return validate_data(estimator, X, reset=reset, dtype=dtype, order="C", ensure_min_samples=rows)
    X = check_dask_matrix(X)
    name = type(estimator).__name__
    if X.shape[0] < rows:
        raise ValueError(f"expected at least {rows} rows for {name}, received {X.shape[0]}; add samples")
    if reset:
        estimator.n_features_in_ = X.shape[1]
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {name} is expecting {estimator.n_features_in_} features as input."
        )
    return X


def check_labelled(estimator: Any, X: Any, y: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Check a matrix and its class labels.

    Returns
    -------
    X : ndarray or dask.array.Array
        As `check_matrix` returns it.
    classes : ndarray
        The labels that occur, sorted.
    codes : ndarray of int32, shape (n,)
        The index of each row's label in `classes`. Labels, unlike data, are held in this process: 4 bytes per row.
    """
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )
    if is_dask(y):
        y = collect(y, "labels", type(estimator).__name__)
    if is_dask(X):
        X = check_matrix(estimator, X, reset=True)
        y = column_or_1d(y, warn=True)
        if len(y) != X.shape[0]:
            raise ValueError(f"expected as many labels as rows, received {len(y)} labels and {X.shape[0]} rows")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
    else:
        X, y = validate_data(estimator, X, y, dtype=FLOATS, order="C")
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    return X, classes, codes.astype(np.int32)


def check_targets(estimator: Any, X: Any, y: Any) -> tuple[Any, np.ndarray]:
    """Check a matrix and the numbers that belong to its rows.

    Returns
    -------
    X : ndarray or dask.array.Array
        As `check_matrix` returns it.
    y : ndarray, float64 (n,) or (n, t)
        Held in this process: 8 bytes per value.
    """
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    y = in_this_process(y, name)
    if not is_dask(X):
        X, y = validate_data(estimator, X, y, dtype=FLOATS, order="C", multi_output=True, y_numeric=True)
        return X, y.astype(np.float64)
    X = check_matrix(estimator, X, reset=True)
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    if len(y) != X.shape[0]:
        raise ValueError(f"expected as many targets as rows, received {len(y)} targets and {X.shape[0]} rows")
    return X, y


def check_weights(values: Any, rows: int) -> np.ndarray | None:
    """Check weights of rows and bring them to this process, as float64 (rows,); None stands for no weights."""
    if values is None:
        return None
    weights = np.asarray(in_this_process(values), np.float64)
    if weights.shape != (rows,):
        raise ValueError(f"expected sample_weight of shape {(rows,)}, received {weights.shape}; give one per row")
    if not np.isfinite(weights).all():
        raise ValueError("Input sample_weight contains NaN or infinity.")
    return weights


def check_masses(values: Any, rows: int) -> np.ndarray | None:
    """Check weights as `check_weights` does, and refuse those below zero; a single number stands for all rows."""
    weights = check_weights(np.full(rows, values) if isinstance(values, Real) else values, rows)
    if weights is not None and weights.min(initial=0) < 0:
        raise ValueError(f"expected sample_weight of at least 0, received {weights.min()}")
    return weights


def check_enough_masses(weights: np.ndarray | None, clusters: int) -> None:
    """Refuse fewer rows of positive weight than clusters."""
    if weights is not None and (count := np.count_nonzero(weights)) < clusters:
        raise ValueError(
            f"expected at least n_clusters={clusters} rows whose sample_weight is above zero, received {count}; "
            "ask for fewer clusters"
        )


def in_this_process(values: Any, name: str = "result") -> Any:
    """Compute a Dask array of one entry per row; return anything else as it is."""
    return collect(values, "labels", name) if is_dask(values) else values


def check_least(name: str, value: Any, least: int) -> None:
    """Refuse what is not an integer of at least `least`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"expected {name} as an integer of at least {least}, received {value!r}")
