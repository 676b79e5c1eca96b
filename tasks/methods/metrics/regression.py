"""Errors of predicted numbers, in one pass, in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn import metrics

from tasks.methods.metrics.aligned import any_dask, open_aligned
from tasks.methods.metrics.tally import check_weights

NOTE = """

    NumPy input is scikit-learn's own work. Dask arrays are read in one pass; the spread of the truth is merged as in
    `tasks.methods.moments`, so that a large mean costs no digits.

    Parameters
    ----------
    y_true, y_pred : array-like or dask.array.Array, shape (n,) or (n, outputs)
    sample_weight : array-like or dask.array.Array, shape (n,), optional
    multioutput : {"raw_values", "uniform_average"} or array-like of shape (outputs,)
        For `r2_score` also "variance_weighted".

    Notes
    -----
    Equal to scikit-learn's to rounding. Per task: some copies of a block in float64; each sends 4 numbers per output.
    """


class _Errors(NamedTuple):
    weight: float
    mean: np.ndarray
    scatter: np.ndarray
    squared: np.ndarray
    absolute: np.ndarray


def mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Return the mean of the squared errors."""
    if not any_dask(y_true, y_pred, sample_weight):
        return metrics.mean_squared_error(y_true, y_pred, sample_weight=sample_weight, multioutput=multioutput)
    found = _errors("mean_squared_error", y_true, y_pred, sample_weight)
    return _averaged(found.squared / found.weight, multioutput)


def root_mean_squared_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Return the square root of the mean of the squared errors, of each output, then averaged."""
    if not any_dask(y_true, y_pred, sample_weight):
        return metrics.root_mean_squared_error(y_true, y_pred, sample_weight=sample_weight, multioutput=multioutput)
    found = _errors("root_mean_squared_error", y_true, y_pred, sample_weight)
    return _averaged(np.sqrt(found.squared / found.weight), multioutput)


def mean_absolute_error(
    y_true: Any, y_pred: Any, *, sample_weight: Any = None, multioutput: Any = "uniform_average"
) -> Any:
    """Return the mean of the absolute errors."""
    if not any_dask(y_true, y_pred, sample_weight):
        return metrics.mean_absolute_error(y_true, y_pred, sample_weight=sample_weight, multioutput=multioutput)
    found = _errors("mean_absolute_error", y_true, y_pred, sample_weight)
    return _averaged(found.absolute / found.weight, multioutput)


def r2_score(
    y_true: Any,
    y_pred: Any,
    *,
    sample_weight: Any = None,
    multioutput: Any = "uniform_average",
    force_finite: bool = True,
) -> Any:
    """Return the share of the truth's variance that is predicted; 1 is best."""
    if not any_dask(y_true, y_pred, sample_weight):
        options = {"multioutput": multioutput, "force_finite": force_finite}
        return metrics.r2_score(y_true, y_pred, sample_weight=sample_weight, **options)
    found = _errors("r2_score", y_true, y_pred, sample_weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1 - found.squared / found.scatter
    if force_finite:  # a constant truth: 1 if it is met, else 0
        scores[(found.scatter == 0) & (found.squared == 0)] = 1.0
        scores[(found.scatter == 0) & (found.squared != 0)] = 0.0
    if isinstance(multioutput, str) and multioutput == "variance_weighted":
        return _averaged(scores, found.scatter if found.scatter.any() else "uniform_average")
    return _averaged(scores, multioutput)


def _averaged(values: np.ndarray, multioutput: Any) -> Any:
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return values
        if multioutput != "uniform_average":
            raise ValueError(
                "expected multioutput 'raw_values', 'uniform_average' or one weight per output, "
                f"received {multioutput!r}"
            )
        return float(values.mean())
    return float(np.average(values, weights=multioutput))


def _errors(name: str, y_true: Any, y_pred: Any, sample_weight: Any) -> _Errors:
    with open_aligned(name, y_true=y_true, y_pred=y_pred, sample_weight=sample_weight) as rows:
        found: _Errors = rows.reduce("errors", _block_errors, combine=_merge)
    return found


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"expected numbers in {name}, received dtype {values.dtype}; convert it")
    values = values.astype(np.float64).reshape(len(values), -1)
    if not np.isfinite(values).all():
        raise ValueError(f"Input {name} contains NaN or infinity.")
    return values


def _block_errors(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None) -> _Errors:
    true, predicted = _numbers(true, "y_true"), _numbers(predicted, "y_pred")
    if true.shape != predicted.shape:
        raise ValueError(f"y_true and y_pred have different number of output ({true.shape[1]}!={predicted.shape[1]})")
    weights = check_weights(weights, len(true))
    share = np.ones(len(true)) if weights is None else weights
    weight, error = float(share.sum()), true - predicted
    absolute = share @ np.abs(error)
    # From the first row on: the mean of a constant column is that constant, to the last digit.
    mean = true[0] + (share @ (true - true[0]) / weight if weight else 0.0)
    return _Errors(weight, mean, share @ (true - mean) ** 2, share @ error**2, absolute)


def _merge(a: _Errors, b: _Errors) -> _Errors:
    weight = a.weight + b.weight
    delta = b.mean - a.mean
    step = b.weight / weight if weight else 0.0
    scatter = a.scatter + b.scatter + a.weight * step * delta**2
    return _Errors(weight, a.mean + delta * step, scatter, a.squared + b.squared, a.absolute + b.absolute)


for _metric in (mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error):
    _metric.__doc__ = f"{_metric.__doc__}{NOTE}"
