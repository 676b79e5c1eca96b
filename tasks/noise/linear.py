"""Separable linear maps of small images as matrix products in whole numbers, the same bytes on every machine."""

from __future__ import annotations

import math

import numpy as np

SMALL = 64
"""Pixels a side up to which a product with a matrix is faster than a filter for each image."""
UNIT = 4096
"""What the weights of a pixel sum to."""
BLOCK = 100_352
"""Pixels whose intermediate values stay in cache, as of 128 images of 28 x 28."""


def rows_per_block(samples: np.ndarray) -> int:
    """Images that make up a block."""
    return max(1, BLOCK // math.prod(samples.shape[1:]))


def whole(weights: np.ndarray, total: int) -> np.ndarray:
    """Weights as whole numbers with the given sum, int64; the largest takes what rounding left."""
    scaled = np.rint(weights / weights.sum() * total).astype(np.int64)
    scaled[np.argmax(scaled)] += total - scaled.sum()
    return scaled


def separable(planes: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Map the rows and the columns of images.

    Parameters
    ----------
    planes : ndarray of uint8, shape (..., height, width)
    down : ndarray of float32, shape (height, new height)
    across : ndarray of float32, shape (width, new width)
        Whole numbers of at least 0; every column sums to `UNIT`.

    Returns
    -------
    ndarray of float32, shape (..., new height, new width)
        Whole numbers from 0 to 255.

    Notes
    -----
    Every sum is a whole number below 2^24, which float32 holds exactly, whatever the order of the additions. Between
    the two products values are rounded to sixteenths of a grey level.
    """
    rows = planes.reshape(-1, planes.shape[-1]).astype(np.float32) @ across
    rows *= np.float32(16 / UNIT)
    np.rint(rows, out=rows)
    columns = down.T @ rows.reshape(*planes.shape[:-1], across.shape[1])
    columns *= np.float32(1 / (16 * UNIT))
    return np.asarray(np.rint(columns, out=columns))
