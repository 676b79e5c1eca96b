"""Noise for images: uint8 in, uint8 out, same shape.

Severities are those of ImageNet-C (Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common
corruptions and perturbations", ICLR; table of their published code), where pixels lie in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from storage.keyed import words
from tasks.noise.graded import ImageNoise, Parameter

_ROWS = 128  # images of 28 x 28 per block: words, table and pixels stay in cache
_LEVELS = 65_536


@lru_cache(maxsize=16)
def _normal_table(sigma: float) -> np.ndarray:
    """Quantiles of a normal distribution at 65,536 equally likely levels, in grey levels, rounded to int16.

    The k-th value is the quantile at (k + 1/2) / 65,536: indexing it by 16 random bits draws a normal of standard
    deviation `sigma` (of 255) truncated at 4.3 sigma. Rounding before the addition equals rounding after it, because
    pixels are whole numbers.
    """
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS)
    table = np.rint(quantiles * sigma * 255).astype(np.int16)
    table.setflags(write=False)
    return table


def _blocks(n: int, pixels: int) -> range:
    return range(0, n, max(1, _ROWS * 784 // max(pixels, 1)))


@dataclass(frozen=True, repr=False)
class Gaussian(ImageNoise):
    """Additive Gaussian noise, clipped to [0, 255].

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        sigma = 0.08, 0.12, 0.18, 0.26, 0.38.
    sigma : float, optional
        Standard deviation, as a fraction of the full range, up to 1.

    Notes
    -----
    Normal numbers come from a table of 65,536 quantiles (exact to one grey level; the tails end at 4.3 sigma).
    """

    version = 1
    parameters = (Parameter("sigma"),)
    severities = (0.08, 0.12, 0.18, 0.26, 0.38)
    _: KW_ONLY
    sigma: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        table, pixels = _normal_table(self.strength[0]), math.prod(samples.shape[1:])
        flat = samples.reshape(len(samples), pixels)
        out = np.empty_like(flat)
        step = _blocks(len(flat), pixels).step
        for low in _blocks(len(flat), pixels):
            lanes = words(key, ids[low : low + step], math.ceil(pixels / 4)).view(np.uint16)[:, :pixels]
            noisy = table.take(lanes)
            noisy += flat[low : low + step]
            np.clip(noisy, 0, 255, out=noisy)
            out[low : low + step] = noisy
        return out.reshape(samples.shape)


@dataclass(frozen=True, repr=False)
class SaltAndPepper(ImageNoise):
    """Impulse noise: pixels become 0 or 255, with equal chance; all channels of a pixel together.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        amount = 0.03, 0.06, 0.09, 0.17, 0.27.
    amount : float, optional
        Share of pixels that are replaced, up to 1 (to a step of 1 / 32,768).
    """

    version = 1
    parameters = (Parameter("amount"),)
    severities = (0.03, 0.06, 0.09, 0.17, 0.27)
    _: KW_ONLY
    amount: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        n, height, width, channels = samples.shape
        pixels = height * width
        out = samples.copy().reshape(n, pixels, channels)
        # The 16 random bits of a pixel: the lowest 2k values are hit, even ones black and odd ones white.
        hits = 2 * round(self.strength[0] * _LEVELS / 2)
        step = _blocks(n, pixels).step
        for low in _blocks(n, pixels):
            lanes = words(key, ids[low : low + step], math.ceil(pixels / 4)).view(np.uint16)[:, :pixels]
            hit = lanes < hits
            out[low : low + step][hit] = np.where(lanes[hit] & 1, np.uint8(255), np.uint8(0))[:, None]
        return out.reshape(samples.shape)
