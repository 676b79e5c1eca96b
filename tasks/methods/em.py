"""Expectation and maximisation of Gaussian mixtures over row blocks.

A pass gives each row its responsibilities and sums up, per component, the weights, the rows and their squares; what
blocks found is added. All arithmetic is in float64. Rows, and the means that the tasks get, are relative to an origin
near the middle of the data. Full covariances are summed about the component's mean of the step before, which is where
the new mean lies but for one step; so nothing large cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tasks.methods.lloyd import nearest_centers
from tasks.methods.scratch import Scratch, slices

TINY = 10 * float(np.finfo(np.float64).eps)
"""What scikit-learn adds to the weight of a component, so that one without rows can be divided by it."""

NEGLIGIBLE = 1e-36
"""Responsibilities up to this are left out of full covariances. Against `TINY` they are nothing, even a billion."""

PART_VALUES = 1 << 16
"""Values that a step works on at a time: 512 KB, so that its temporaries stay in the processor's cache."""

Model = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Constants of the log densities, means about the origin, Cholesky factors of the precisions, and the origin."""


class Found(NamedTuple):
    """What one pass summed up."""

    log_likelihood: float
    """Of all rows."""
    weights: np.ndarray
    """Sum of the responsibilities, (k,)."""
    sums: np.ndarray
    """Of the rows times their responsibilities, (k, d): about the means if covariances are full, else the origin."""
    squares: np.ndarray
    """The same of squares: outer products (k, d, d), squares (k, d), squared norms (k,), or for tied ones nothing."""


def add(a: Found, b: Found) -> Found:
    """Return the sums over the rows of both."""
    return Found(a.log_likelihood + b.log_likelihood, a.weights + b.weights, a.sums + b.sums, a.squares + b.squares)


def constants(weights: np.ndarray, roots: np.ndarray, kind: str, columns: int) -> np.ndarray:
    """Return what the log density of each component, times its weight, has beside the squared distance; (k,).

    Parameters
    ----------
    weights : ndarray (k,)
    roots : ndarray
        Cholesky factors of the precisions, in scikit-learn's form.
    kind : {"full", "tied", "diag", "spherical"}
    columns : int
    """
    if kind == "full":
        determinant = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    elif kind == "tied":
        determinant = np.log(np.diagonal(roots)).sum()
    else:
        determinant = np.log(roots).sum(axis=1) if kind == "diag" else columns * np.log(roots)
    with np.errstate(divide="ignore"):  # a component of no weight
        result: np.ndarray = np.log(weights) + determinant - 0.5 * columns * np.log(2 * np.pi)
    return result


def step(
    block: np.ndarray, constants: np.ndarray, means: np.ndarray, roots: np.ndarray, origin: np.ndarray, kind: str
) -> Found:
    """Give the rows of a block to the components, and sum up for the next means and covariances."""
    total = _Sums(len(means), block.shape[1], kind)
    scratch, terms = Scratch(), _terms(means, roots, kind)
    for _, rows in _centred(block, origin, len(means), scratch):
        densities = _log_densities(rows, constants, terms, kind, scratch)
        total.log_likelihood += float(_normalise(densities).sum())
        total.count(rows, densities, means, scratch)
    return total.found()


def step_from_labels(
    block: np.ndarray, centers: np.ndarray, around: np.ndarray, origin: np.ndarray, kind: str
) -> Found:
    """Sum up with each row given wholly to its nearest centre; centres are about `around`."""
    labels = nearest_centers(block, centers, around)
    reference = centers + (around - origin)
    total = _Sums(len(centers), block.shape[1], kind)
    scratch = Scratch()
    for low, rows in _centred(block, origin, len(centers), scratch):
        shares = np.zeros((len(rows), len(centers)))
        shares[np.arange(len(rows)), labels[low : low + len(rows)]] = 1.0
        total.count(rows, shares, reference, scratch)
    return total.found()


def step_from_random(
    block: np.ndarray, start: int, seed: int, reference: np.ndarray, origin: np.ndarray, kind: str
) -> Found:
    """Sum up with random responsibilities: drawn by the row's position, whichever block it is in."""
    components = len(reference)
    draws = np.random.Generator(np.random.PCG64(seed).advance(start * components))
    total = _Sums(components, block.shape[1], kind)
    scratch = Scratch()
    for _, rows in _centred(block, origin, components, scratch):
        shares = draws.random((len(rows), components))
        shares /= shares.sum(axis=1, keepdims=True)
        total.count(rows, shares, reference, scratch)
    return total.found()


def log_likelihoods(block: np.ndarray, model: Model, kind: str) -> np.ndarray:
    """Return the log density of each row under the mixture, float64 (m,)."""
    return _each_part(block, model, kind, np.empty(len(block)), _normalise)


def responsibilities(block: np.ndarray, model: Model, kind: str) -> np.ndarray:
    """Return the probability of each component for each row, float64 (m, k)."""
    return _each_part(block, model, kind, np.empty((len(block), len(model[1]))), _shares)


def most_likely(block: np.ndarray, model: Model, kind: str) -> np.ndarray:
    """Return the most likely component of each row, int64 (m,)."""
    return _each_part(block, model, kind, np.empty(len(block), np.int64), lambda densities: densities.argmax(axis=1))


def labels(
    block: np.ndarray, constants: np.ndarray, means: np.ndarray, roots: np.ndarray, origin: np.ndarray, kind: str
) -> np.ndarray:
    """Return the most likely component of each row, int64 (m,); large parameters travel apart from the function."""
    return most_likely(block, (constants, means, roots, origin), kind)


def total_log_likelihood(
    block: np.ndarray, constants: np.ndarray, means: np.ndarray, roots: np.ndarray, origin: np.ndarray, kind: str
) -> float:
    """Return the sum of the log densities of the rows."""
    return float(log_likelihoods(block, (constants, means, roots, origin), kind).sum())


def maximise(
    found: Found, reference: np.ndarray, origin: np.ndarray, kind: str, reg_covar: float, scatter: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (not normalised), means and covariances, as scikit-learn's M step defines them.

    Parameters
    ----------
    found : Found
    reference : ndarray (k, d)
        What `found.sums` are about.
    origin : ndarray (d,)
        What the reference is about; 0 of the data.
    kind : {"full", "tied", "diag", "spherical"}
    reg_covar : float
        Added to the variances.
    scatter : ndarray (d, d) or None
        For tied covariances: the sum over all rows of the outer products about the origin.
    """
    raw, sums = found.weights, found.sums
    weights = raw + TINY
    absolute = reference + origin
    # Of sum(r x) / weights, written so that it does not round where the data lies far from 0.
    shift = (sums - TINY * absolute) / weights[:, None]
    means = absolute + shift
    if kind == "full":
        cross = np.einsum("ki,kj->kij", sums, shift)
        inner = found.squares - cross - cross.transpose(0, 2, 1)
        inner += raw[:, None, None] * np.einsum("ki,kj->kij", shift, shift)
        covariances = inner / weights[:, None, None]
        covariances += reg_covar * np.eye(len(origin))
        return weights, means, covariances
    if kind == "tied":
        cross = sums.T @ shift
        inner = scatter - cross - cross.T + (raw[:, None] * shift).T @ shift
        return weights, means, inner / weights.sum() + reg_covar * np.eye(len(origin))
    about_mean = raw[:, None] * shift**2 - 2 * sums * shift
    if kind == "diag":
        return weights, means, np.maximum(found.squares + about_mean, 0.0) / weights[:, None] + reg_covar
    inner = np.maximum(found.squares + about_mean.sum(axis=1), 0.0)
    return weights, means, inner / (weights * len(origin)) + reg_covar


class _Sums:
    """Adds up over the parts of a block."""

    def __init__(self, components: int, columns: int, kind: str) -> None:
        shape = {"full": (components, columns, columns), "diag": (components, columns), "spherical": (components,)}
        self.kind = kind
        self.log_likelihood = 0.0
        self.weights = np.zeros(components)
        self.sums = np.zeros((components, columns))
        self.squares = np.zeros(shape.get(kind, (0,)))

    def count(self, rows: np.ndarray, shares: np.ndarray, means: np.ndarray, scratch: Scratch) -> None:
        """Add rows (m, d) with their responsibilities (m, k)."""
        self.weights += shares.sum(axis=0)
        if self.kind == "full":
            for k in range(len(means)):
                self._count_full(k, rows, shares[:, k], means[k], scratch)
            return
        self.sums += shares.T @ rows
        if self.kind == "diag":
            self.squares += shares.T @ np.multiply(rows, rows, out=scratch("squares", rows.shape, np.float64))
        elif self.kind == "spherical":
            self.squares += shares.T @ np.einsum("ij,ij->i", rows, rows)

    def _count_full(self, k: int, rows: np.ndarray, share: np.ndarray, mean: np.ndarray, scratch: Scratch) -> None:
        # Most rows belong to one or two components; the others cost nothing then.
        chosen = np.flatnonzero(share > NEGLIGIBLE)
        if not len(chosen):
            return
        shape = (len(chosen), rows.shape[1])
        own = np.take(rows, chosen, axis=0, out=scratch("own", shape, np.float64), mode="clip")
        own -= mean
        share = share[chosen]
        self.sums[k] += share @ own
        own *= np.sqrt(share)[:, None]
        # NumPy sees that both factors are one array and computes half of the product.
        self.squares[k] += own.T @ own

    def found(self) -> Found:
        return Found(self.log_likelihood, self.weights, self.sums, self.squares)


def _centred(
    block: np.ndarray, origin: np.ndarray, components: int, scratch: Scratch
) -> Iterator[tuple[int, np.ndarray]]:
    """Go over a block in parts: where they begin, and their rows about the origin in float64."""
    rows = max(64, PART_VALUES // max(block.shape[1], components))
    for low, high in slices(len(block), rows):
        out = scratch("rows", (high - low, block.shape[1]), np.float64)
        yield low, np.subtract(block[low:high], origin, out=out)


def _terms(means: np.ndarray, roots: np.ndarray, kind: str) -> tuple[np.ndarray, ...]:
    """Return what the squared distances need of the components: made once, for all parts of a block."""
    if kind == "full":
        return roots, np.einsum("ki,kij->kj", means, roots)
    if kind == "tied":
        moved = means @ roots
        return roots, -2.0 * moved.T, np.einsum("ij,ij->i", moved, moved)
    if kind == "diag":
        precisions = roots**2
        return precisions.T, -2.0 * (means * precisions).T, (means**2 * precisions).sum(axis=1)
    return roots**2, -2.0 * means.T, np.einsum("ij,ij->i", means, means)


def _log_densities(
    rows: np.ndarray, constants: np.ndarray, terms: tuple[np.ndarray, ...], kind: str, scratch: Scratch
) -> np.ndarray:
    """Return log(weight x density) of each row and component; the next call overwrites them."""
    distances = scratch("distances", (len(rows), len(constants)), np.float64)
    if kind == "full":
        roots, moved = terms
        product = scratch("product", rows.shape, np.float64)
        for k, root in enumerate(roots):
            np.matmul(rows, root, out=product)
            product -= moved[k]
            np.einsum("ij,ij->i", product, product, out=distances[:, k])
    elif kind == "tied":
        roots, twice, constant = terms
        product = np.matmul(rows, roots, out=scratch("product", rows.shape, np.float64))
        _squared_distances(product, twice, constant, distances)
    elif kind == "diag":
        precisions, twice, constant = terms
        squares = np.multiply(rows, rows, out=scratch("squares", rows.shape, np.float64))
        np.matmul(squares, precisions, out=distances)
        distances += np.matmul(rows, twice, out=scratch("cross", distances.shape, np.float64))
        distances += constant
    else:
        precisions, twice, constant = terms
        _squared_distances(rows, twice, constant, distances)
        distances *= precisions
    np.maximum(distances, 0.0, out=distances)
    distances *= -0.5
    distances += constants
    return distances


def _squared_distances(rows: np.ndarray, twice: np.ndarray, squares: np.ndarray, out: np.ndarray) -> None:
    """Return the squared distances to centres of which -2 times each and the squared norms are given."""
    np.matmul(rows, twice, out=out)
    out += np.einsum("ij,ij->i", rows, rows)[:, None]
    out += squares


def _normalise(densities: np.ndarray) -> np.ndarray:
    """Turn log densities into responsibilities, in place, and return the log of their sums."""
    largest = densities.max(axis=1)
    densities -= largest[:, None]
    np.exp(densities, out=densities)
    sums = densities.sum(axis=1)
    densities /= sums[:, None]
    result: np.ndarray = largest + np.log(sums)
    return result


def _shares(densities: np.ndarray) -> np.ndarray:
    _normalise(densities)
    return densities


def _each_part(block: np.ndarray, model: Model, kind: str, result: np.ndarray, finish: Callable) -> np.ndarray:
    weights, means, roots, origin = model
    scratch, terms = Scratch(), _terms(means, roots, kind)
    for low, rows in _centred(block, origin, len(means), scratch):
        result[low : low + len(rows)] = finish(_log_densities(rows, weights, terms, kind, scratch))
    return result
