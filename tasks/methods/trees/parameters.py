"""What the parameters of trees may be, and what they come to on n rows and d columns."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from tasks.methods.trees.kernels import ENTROPY, GINI, SQUARED

CRITERIA: Mapping[str, int] = {"gini": GINI, "entropy": ENTROPY, "log_loss": ENTROPY, "squared_error": SQUARED}


def criterion_number(value: Any, classifies: bool) -> int:
    """Return the number of a criterion."""
    allowed = [name for name, number in CRITERIA.items() if (number == SQUARED) != classifies]
    if value not in allowed:
        raise ValueError(f"expected criterion as one of {allowed}, received {value!r}")
    return CRITERIA[value]


def limits_of(
    max_depth: Any, min_samples_split: Any, min_samples_leaf: Any, weight: Any, rows: int, total: int
) -> np.ndarray:
    """Return depth, rows to cut a node, rows of a leaf and its weight, a share of `total`; int64."""
    if max_depth is not None:
        whole_number("max_depth", max_depth, 1)
    if not isinstance(weight, Real) or not 0 <= float(weight) <= 0.5:
        raise ValueError(f"expected min_weight_fraction_leaf as a number from 0 to 0.5, received {weight!r}")
    leaf = _rows_of("min_samples_leaf", min_samples_leaf, 1, rows)
    split = max(2, _rows_of("min_samples_split", min_samples_split, 2, rows), 2 * leaf)
    depth = np.iinfo(np.int64).max if max_depth is None else max_depth
    return np.array([depth, split, leaf, int(np.ceil(float(weight) * total))], np.int64)


def width_of(max_features: Any, columns: int) -> int:
    """Return how many columns are drawn for a node."""
    if max_features is None:
        return columns
    if isinstance(max_features, str):
        if max_features not in ("sqrt", "log2"):
            raise ValueError(_width_message(max_features))
        return max(1, int(np.sqrt(columns) if max_features == "sqrt" else np.log2(columns)))
    if isinstance(max_features, Integral) and not isinstance(max_features, bool) and int(max_features) >= 1:
        return min(int(max_features), columns)
    if isinstance(max_features, Real) and not isinstance(max_features, Integral) and 0 < float(max_features) <= 1:
        return max(1, int(float(max_features) * columns))
    raise ValueError(_width_message(max_features))


def least_decrease(value: Any) -> float:
    """Check `min_impurity_decrease`."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < np.inf:
        raise ValueError(f"expected min_impurity_decrease as a number of at least 0, received {value!r}")
    return float(value)


def whole_number(name: str, value: Any, least: int) -> int:
    """Check an integer parameter."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"expected {name} as an integer of at least {least}, received {value!r}")
    return int(value)


def _rows_of(name: str, value: Any, least: int, rows: int) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Integral) and 0 < float(value) <= 1:
        return int(np.ceil(float(value) * rows))
    raise ValueError(
        f"expected {name} as an integer of at least {least} or a share of the rows above 0 and up to 1, "
        f"received {value!r}"
    )


def _width_message(value: Any) -> str:
    return (
        "expected max_features as 'sqrt', 'log2', an integer of at least 1, a share of the columns above 0 and up to 1,"
        f" or None, received {value!r}"
    )
