"""The leading right singular vectors of a matrix of many columns, from products with a narrow random matrix.

The scatter matrix S = (X - m)'(X - m), d x d, is never formed: a pass computes S Q for a d x l matrix Q, by blocks, and
sends d x l numbers. Subspace iteration on S from a random Q turns Q towards the leading eigenvectors; a last pass
finds the singular values within its span, from the triangular factors of (X - m) Q, so that they are not squared.

References
----------
N. Halko, P. G. Martinsson, J. A. Tropp (2011). Finding structure with randomness: probabilistic algorithms for
constructing approximate matrix decompositions. SIAM Review 53(2), 217-288, algorithms 4.4 and 5.1; here applied to the
transposed matrix, so that nothing of n rows is held.
J. Demmel, L. Grigori, M. Hoemmen, J. Langou (2012). Communication-optimal parallel and sequential QR and LU
factorizations. SIAM J. Scientific Computing 34(1), A206-A239, section 1 (the tree of triangular factors).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn.utils.extmath import svd_flip

from tasks.methods.blocks import Blocks
from tasks.methods.scratch import Scratch, parts

PRODUCT_VALUES = 1 << 21
"""Values of a block that are multiplied at a time: 8 MB of float32."""


class Spectrum(NamedTuple):
    """Leading singular values and right singular vectors of a matrix about an origin."""

    rows: int
    """Number of rows."""
    mean: np.ndarray
    """Mean row, float64 (d,)."""
    spread: float
    """Sum of the squared distances of the rows to their mean."""
    values: np.ndarray
    """Singular values, float64 (k,), descending."""
    vectors: np.ndarray
    """Right singular vectors as rows, float64 (k, d); the entry of largest magnitude in each is positive."""
    variances: np.ndarray
    """Of the rows' coordinates along the vectors, each about its own mean, float64 (k,)."""


class Sketch(NamedTuple):
    """What the first pass found of some rows."""

    rows: int
    """Number of rows."""
    mean: np.ndarray
    """float64 (d,)."""
    spread: float
    """Sum of the squared distances of the rows to their mean."""
    product: np.ndarray
    """Scatter matrix about the mean times the basis, float64 (d, l)."""
    mean_product: np.ndarray
    """Mean times the basis, float64 (l,)."""


def leading_spectrum(
    rows: Blocks, count: int, oversamples: int, iterations: int, random: np.random.RandomState, *, centre: bool
) -> Spectrum:
    """Find the leading singular values and right singular vectors.

    Parameters
    ----------
    rows : Blocks
    count : int
        How many are wanted.
    oversamples : int
        Columns of the random matrix beyond `count`.
    iterations : int
        Power iterations; with q of them the vectors are those that the algorithm of the paper gives with q.
    random : RandomState
        Draws the random matrix, d x (count + oversamples); neither blocks nor workers have a part in it.
    centre : bool
        True for deviations from the mean, False for the matrix as it is.

    Returns
    -------
    Spectrum

    Notes
    -----
    iterations + 2 passes.
    """
    size = min(count + oversamples, *rows.shape)
    basis = random.normal(size=(rows.shape[1], size)).astype(rows.dtype)
    found: Sketch = rows.reduce("sketch", sketch_of, shared=(basis,), combine=merge_sketches)
    # Always of deviations, in which a large offset costs no digits; the matrix as it is has the mean's part besides.
    offset = 0 if centre else found.rows
    product = found.product + np.outer(offset * found.mean, found.mean_product)
    for _ in range(iterations):
        basis = _orthonormal(product, rows.dtype)
        product = rows.reduce("power", scatter_product, shared=(basis, found.mean), combine=np.add)
        product = product + np.outer(offset * found.mean, found.mean @ basis)
    basis = _orthonormal(product, rows.dtype)
    triangle = rows.reduce("project", triangle_of, shared=(basis, found.mean), combine=merge_triangles)
    whole = merge_triangles(triangle, np.sqrt(offset) * (found.mean @ basis)[None])
    _, values, turn = np.linalg.svd(whole, full_matrices=False)
    values, turn = values[:count], turn[:count]
    variances = ((triangle @ turn.T) ** 2).sum(axis=0) / found.rows
    vectors = turn @ basis.T.astype(np.float64)
    _, vectors = svd_flip(None, vectors, u_based_decision=False)
    return Spectrum(found.rows, found.mean, found.spread, values, vectors, variances)


def sketch_of(block: np.ndarray, basis: np.ndarray) -> Sketch:
    """Return the moments of a block, and its scatter matrix about its own mean times the basis."""
    mean = block.mean(axis=0, dtype=np.float64)
    product = np.zeros(basis.shape)
    spread = 0.0
    for part in _deviations(block, mean):
        spread += float(np.einsum("ij,ij->", part, part, dtype=np.float64))
        product += part.T @ (part @ basis)
    return Sketch(len(block), mean, spread, product, mean @ basis)


def merge_sketches(a: Sketch, b: Sketch) -> Sketch:
    """Return the sketch of the rows of both; as `tasks.methods.moments.merge_moments`."""
    rows = a.rows + b.rows
    share = b.rows / rows
    weight = a.rows * share
    delta, delta_product = b.mean - a.mean, b.mean_product - a.mean_product
    return Sketch(
        rows,
        a.mean + share * delta,
        a.spread + b.spread + weight * float(delta @ delta),
        a.product + b.product + np.outer(weight * delta, delta_product),
        a.mean_product + share * delta_product,
    )


def scatter_product(block: np.ndarray, basis: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the scatter matrix of a block about the origin times the basis, float64 (d, l)."""
    product = np.zeros(basis.shape)
    for part in _deviations(block, origin):
        product += part.T @ (part @ basis)
    return product


def triangle_of(block: np.ndarray, basis: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return the triangular factor of the projected rows, float64 (at most l, l)."""
    triangle = np.empty((0, basis.shape[1]))
    for part in _deviations(block, origin):
        triangle = merge_triangles(triangle, (part @ basis).astype(np.float64))
    return triangle


def merge_triangles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the triangular factor of the rows below both."""
    return np.asarray(np.linalg.qr(np.concatenate([a, b]), mode="r"))


def _deviations(block: np.ndarray, origin: np.ndarray) -> Iterator[np.ndarray]:
    """Give the rows less the origin, some at a time, in the block's dtype; the next ones overwrite them."""
    scratch = Scratch()
    for low, high in parts(block, PRODUCT_VALUES):
        part = scratch("part", block[low:high].shape, block.dtype)
        # The difference is taken in float64, then rounded: large offsets do no harm.
        yield np.subtract(block[low:high], origin, out=part, casting="same_kind")


def _orthonormal(product: np.ndarray, dtype: np.dtype) -> np.ndarray:
    basis: np.ndarray = np.linalg.qr(product)[0].astype(dtype)
    return basis
