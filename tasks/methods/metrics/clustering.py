"""Agreement of two clusterings, from their contingency table, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

from tasks.methods.metrics.aligned import any_dask
from tasks.methods.metrics.tally import Pairs, count_pairs


def adjusted_rand_score(labels_true: Any, labels_pred: Any) -> float:
    """Return the Rand index adjusted for chance: 1 for equal clusterings, about 0 for independent ones.

    Exact, in whole numbers of any size. NumPy input is scikit-learn's own work; Dask arrays are read in one pass, and
    the table's entries that are not zero are held here.

    References
    ----------
    L. Hubert, P. Arabie (1985). Comparing partitions. Journal of Classification 2, 193-218.
    """
    if not any_dask(labels_true, labels_pred):
        return float(metrics.adjusted_rand_score(labels_true, labels_pred))
    pairs = count_pairs("adjusted_rand_score", labels_true, labels_pred)
    rows, columns = _margins(pairs)
    # Python's integers: squares of counts of rows pass 64 bits.
    together, in_true, in_other = (sum(int(n) ** 2 for n in counts) for counts in (pairs.weights, rows, columns))
    total = int(pairs.weights.sum())
    both, only_true, only_other = together - total, in_true - together, in_other - together
    neither = total**2 - in_true - in_other + together
    if not only_true and not only_other:
        return 1.0
    expected = (both + only_true) * (only_true + neither) + (both + only_other) * (only_other + neither)
    return 2.0 * (both * neither - only_true * only_other) / expected


def normalized_mutual_info_score(labels_true: Any, labels_pred: Any, *, average_method: str = "arithmetic") -> float:
    """Return the mutual information of two clusterings as a share of the mean of their entropies, 0 to 1.

    Equal to scikit-learn's to rounding; NumPy input is its own work. One pass over Dask arrays.

    Parameters
    ----------
    average_method : {"arithmetic", "geometric", "min", "max"}, default "arithmetic"
        How the two entropies are averaged.
    """
    means: dict[str, Any] = {"arithmetic": np.mean, "geometric": lambda h: np.sqrt(h[0] * h[1]), "min": min, "max": max}
    if not any_dask(labels_true, labels_pred):
        return float(metrics.normalized_mutual_info_score(labels_true, labels_pred, average_method=average_method))
    if average_method not in means:
        raise ValueError(f"expected average_method to be one of {', '.join(means)}, received {average_method!r}")
    information, *entropies = _information(count_pairs("normalized_mutual_info_score", labels_true, labels_pred))
    if not any(entropies):
        return 1.0  # neither splits anything: equal
    return float(information / means[average_method](entropies)) if information else 0.0


def homogeneity_completeness_v_measure(
    labels_true: Any, labels_pred: Any, *, beta: float = 1.0
) -> tuple[float, float, float]:
    """Return homogeneity, completeness and their weighted harmonic mean.

    Equal to scikit-learn's to rounding; NumPy input is its own work. One pass over Dask arrays.

    References
    ----------
    A. Rosenberg, J. Hirschberg (2007). V-measure: a conditional entropy-based external cluster evaluation measure.
    EMNLP-CoNLL, 410-420.
    """
    if not any_dask(labels_true, labels_pred):
        found: tuple[float, float, float] = metrics.homogeneity_completeness_v_measure(
            labels_true, labels_pred, beta=beta
        )
        return found
    information, in_true, in_other = _information(
        count_pairs("homogeneity_completeness_v_measure", labels_true, labels_pred)
    )
    homogeneity = information / in_true if in_true else 1.0
    completeness = information / in_other if in_other else 1.0
    if homogeneity + completeness == 0:
        return 0.0, 0.0, 0.0
    measure = (1 + beta) * homogeneity * completeness / (beta * homogeneity + completeness)
    return float(homogeneity), float(completeness), float(measure)


def _margins(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each true class and of each cluster, int64."""
    sums = []
    for labels in (pairs.true, pairs.other):
        _, codes = np.unique(labels, return_inverse=True)
        counts = np.zeros(codes.max() + 1, np.int64)
        np.add.at(counts, codes, pairs.weights)
        sums.append(counts)
    return sums[0], sums[1]


def _information(pairs: Pairs) -> tuple[float, float, float]:
    """Return the mutual information and both entropies, in nats."""
    rows, columns = _margins(pairs)
    total = pairs.weights.sum()
    entropies = []
    for counts in (rows, columns):
        shares = counts / total
        entropies.append(0.0 if len(counts) == 1 else float(-(shares * np.log(shares)).sum()))
    if min(len(rows), len(columns)) == 1:
        return 0.0, entropies[0], entropies[1]
    _, a = np.unique(pairs.true, return_inverse=True)
    _, b = np.unique(pairs.other, return_inverse=True)
    terms = (
        pairs.weights / total * (np.log(pairs.weights / total) - np.log(rows[a] / total) - np.log(columns[b] / total))
    )
    terms[np.abs(terms) < np.finfo(np.float64).eps] = 0.0
    return max(float(terms.sum()), 0.0), entropies[0], entropies[1]
