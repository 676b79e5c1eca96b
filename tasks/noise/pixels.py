"""Noise that changes pixels by themselves: Gaussian, shot, speckle, salt and pepper, erased rectangles.

Severities are those of ImageNet-C (Hendrycks and Dietterich 2019, "Benchmarking neural network robustness to common
corruptions and perturbations", ICLR; constants of their published code), where pixels lie in [0, 1]. MNIST-C (Mu and
Gilmer 2019, "MNIST-C: a robustness benchmark for computer vision") has the same for 28 x 28.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from storage.keyed import words
from tasks.noise.graded import ImageNoise, Parameter

_BLOCK = 100_352  # pixels, as of 128 images of 28 x 28: words, table and pixels stay in cache
_LEVELS = 65_536


def _lanes(key: int, ids: np.ndarray, count: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks of samples, or parts of large ones, with 16 random bits for each of `count` numbers of a sample.

    Yields
    ------
    rows, columns : slice
        Which samples, and which of their numbers.
    lanes : ndarray of uint16, shape (rows, columns)
    """
    step = max(1, _BLOCK // count)
    width = min(count, _BLOCK)  # a whole number of words
    for low in range(0, len(ids), step):
        rows = slice(low, low + step)
        for left in range(0, count, width):
            columns = slice(left, min(left + width, count))
            drawn = words(key, ids[rows], math.ceil((columns.stop - left) / 4), start=left // 4)
            yield rows, columns, drawn.view(np.uint16)[:, : columns.stop - left]


@lru_cache(maxsize=4)
def _quantiles() -> np.ndarray:
    """Quantiles of the standard normal distribution at 65,536 equally likely levels."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(_LEVELS) + 0.5) / _LEVELS))


@lru_cache(maxsize=16)
def _normal_table(sigma: float) -> np.ndarray:
    """Quantiles of a normal distribution at 65,536 equally likely levels, in grey levels, rounded to int16.

    The k-th value is the quantile at (k + 1/2) / 65,536: indexing it by 16 random bits draws a normal of standard
    deviation `sigma` (of 255) truncated at 4.3 sigma. Rounding before the addition equals rounding after it, because
    pixels are whole numbers.
    """
    table = np.rint(_quantiles() * sigma * 255).astype(np.int16)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=16)
def _speckle_table(sigma: float) -> np.ndarray:
    """What a pixel is multiplied by, float32, for each value of 16 random bits."""
    table = (1 + _quantiles() * sigma).astype(np.float32)
    table.setflags(write=False)
    return table


@dataclass(frozen=True, repr=False)
class Gaussian(ImageNoise):
    """Additive Gaussian noise, clipped to [0, 255].

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        sigma = 0.08, 0.12, 0.18, 0.26, 0.38 (ImageNet-C).
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
        for rows, columns, lanes in _lanes(key, ids, pixels):
            noisy = table.take(lanes)
            noisy += flat[rows, columns]
            np.clip(noisy, 0, 255, out=noisy)
            out[rows, columns] = noisy
        return out.reshape(samples.shape)


@dataclass(frozen=True, repr=False)
class Speckle(ImageNoise):
    """Multiplicative Gaussian noise: a pixel x becomes x + x n, clipped to [0, 255]; black stays black.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        sigma = 0.15, 0.2, 0.35, 0.45, 0.6 (ImageNet-C).
    sigma : float, optional
        Standard deviation of n, up to 1.

    Notes
    -----
    Normal numbers come from a table of 65,536 quantiles, which ends at 4.3 sigma.
    """

    version = 1
    parameters = (Parameter("sigma"),)
    severities = (0.15, 0.2, 0.35, 0.45, 0.6)
    _: KW_ONLY
    sigma: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        factors = _speckle_table(self.strength[0])
        pixels = math.prod(samples.shape[1:])
        flat = samples.reshape(len(samples), pixels)
        out = np.empty_like(flat)
        for rows, columns, lanes in _lanes(key, ids, pixels):
            noisy = factors.take(lanes)
            noisy *= flat[rows, columns]
            np.rint(noisy, out=noisy)
            np.clip(noisy, 0, 255, out=noisy)
            out[rows, columns] = noisy
        return out.reshape(samples.shape)


@lru_cache(maxsize=8)
def _shot_table(photons: float) -> tuple[np.ndarray, int]:
    """For each grey level, the distribution of what a Poisson count makes of it, as an alias table.

    Returns
    -------
    table : ndarray of uint32, shape (256 * columns,)
        The columns of level 0, then of level 1, ...; each holds a threshold (upper 16 bits) and the grey level below it
        (8 bits) and from it on (8 bits).
    bits : int
        ``log2(columns)``. Of 16 random bits the upper ones choose the column and the lower ones are compared.
    """
    from scipy.special import pdtr

    counts = np.arange(math.ceil(photons) + 1)
    values = np.rint(np.minimum(counts / photons, 1) * 255).astype(np.int64)
    below = np.rint(pdtr(counts, np.arange(256)[:, None] / 255 * photons) * _LEVELS).astype(np.int64)
    below[:, -1] = _LEVELS  # what is brighter than white is white
    grey, last = np.unique(values[::-1], return_index=True)  # high rates: several counts give the same level
    shares = np.diff(below[:, len(values) - 1 - last], axis=1, prepend=0)
    bits = max(4, math.ceil(math.log2(len(grey))))
    return np.concatenate([_alias(row, grey, bits) for row in shares]).astype(np.uint32), bits


def _alias(shares: np.ndarray, values: np.ndarray, bits: int) -> np.ndarray:
    """Walker's alias table (1977) of a distribution in shares of 1 / 65,536, in whole numbers and so without error."""
    columns, size = 1 << bits, _LEVELS >> bits
    left = dict(enumerate(shares.tolist()))
    left.update((column, 0) for column in range(len(shares), columns))
    small = [column for column in range(columns) if left[column] < size]
    large = [column for column in range(columns) if left[column] >= size]
    names = [*values.tolist(), *[0] * (columns - len(values))]
    table = np.empty(columns, np.int64)
    while small:
        low, high = small.pop(), large[-1]
        table[low] = left[low] << 16 | names[low] << 8 | names[high]
        left[high] -= size - left[low]
        if left[high] < size:
            small.append(large.pop())
    for column in large:  # what is left fills its own column
        table[column] = size << 16 | names[column] << 8 | names[column]
    return table


@dataclass(frozen=True, repr=False)
class Shot(ImageNoise):
    """Shot (Poisson) noise: a pixel is the number of photons that arrived where x `photons` were expected.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        photons = 60, 25, 12, 5, 3 (ImageNet-C).
    photons : float, optional
        Photons expected at a white pixel, up to 10,000: fewer are noisier.

    Notes
    -----
    Counts have the Poisson distribution, to a step of 1 / 65,536 in probability, by Walker's alias method.
    """

    version = 1
    parameters = (Parameter("photons", high=10_000),)
    severities = (60, 25, 12, 5, 3)
    _: KW_ONLY
    photons: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        table, bits = _shot_table(float(self.strength[0]))
        pixels = math.prod(samples.shape[1:])
        flat = samples.reshape(len(samples), pixels)
        out = np.empty_like(flat)
        for rows, columns, lanes in _lanes(key, ids, pixels):
            places = flat[rows, columns].astype(np.uint16)
            places <<= bits
            places |= lanes >> (16 - bits)
            found = table.take(places)
            lanes &= (1 << (16 - bits)) - 1
            # Below the threshold the first of the two levels: shifted to where the second lies.
            first = lanes < (found >> 16)
            found >>= first.view(np.uint8) * np.uint8(8)
            out[rows, columns] = found
        return out.reshape(samples.shape)


@dataclass(frozen=True, repr=False)
class SaltAndPepper(ImageNoise):
    """Impulse noise: pixels become 0 or 255, with equal chance; all channels of a pixel together.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        amount = 0.03, 0.06, 0.09, 0.17, 0.27 (impulse noise of ImageNet-C, which hits every channel by itself).
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
        flat = samples.reshape(n, height * width * channels)
        out = np.empty_like(flat)
        # The 16 random bits of a pixel: the lowest 2k values are hit, even ones black and odd ones white.
        hits = 2 * round(self.strength[0] * _LEVELS / 2)
        for rows, pixels, lanes in _lanes(key, ids, height * width):
            hit = (lanes < hits).view(np.uint8)
            white = lanes.astype(np.uint8) & hit
            # In bytes without a branch: hit - 1 keeps all bits of a pixel or none; -white adds all bits or none.
            keep, add = hit - np.uint8(1), np.negative(white)
            if channels > 1:
                keep, add = keep.repeat(channels, axis=1), add.repeat(channels, axis=1)
            columns = slice(pixels.start * channels, pixels.stop * channels)
            np.bitwise_and(flat[rows, columns], keep, out=out[rows, columns])
            out[rows, columns] |= add
        return out.reshape(samples.shape)


@dataclass(frozen=True, repr=False)
class RandomErasing(ImageNoise):
    """Occlusion: a rectangle at a random place is erased (Zhong et al. 2020, "Random erasing data augmentation").

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        area = 0.05, 0.1, 0.2, 0.3, 0.4 (the span of the paper).
    area : float, optional
        Share of the image that is erased, up to 1, in whole pixels. Height by width is drawn, log-uniform, between 0.3
        and 1 / 0.3.
    fill : {"random", "zeros", "mean"}
        What is written there: random bytes, as the paper found best; black; or the image's mean, channel by channel.
    """

    version = 1
    parameters = (Parameter("area"),)
    severities = (0.05, 0.1, 0.2, 0.3, 0.4)
    options = {"fill": ("random", "zeros", "mean")}  # noqa: RUF012
    _: KW_ONLY
    area: float | None = None
    fill: str = "random"

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        from storage.keyed import key_of, uniforms

        n, height, width, channels = samples.shape
        aspect, y, x = uniforms(key, ids, 3).T
        ratio = 0.3 ** (1 - 2 * aspect)  # height by width
        erased = self.strength[0] * height * width
        tall = np.clip(np.rint(np.sqrt(erased * ratio)), 1, height)
        wide = np.clip(np.rint(erased / tall), 1, width)
        tall = np.clip(np.rint(erased / wide), 1, height)  # where the other side came to its end
        sides = np.stack([tall, wide, y * (height - tall + 1), x * (width - wide + 1)], 1).astype(np.int64)
        out = samples.copy()
        if self.fill == "random":
            most = int((sides[:, 0] * sides[:, 1]).max()) * channels
            fills = words(key_of(key, "fill"), ids, math.ceil(most / 8)).view(np.uint8)
        elif self.fill == "mean":
            fills = np.rint(samples.mean(axis=(1, 2), dtype=np.float64)).astype(np.uint8)
        else:
            fills = np.zeros((n, channels), np.uint8)
        for image, fill, (h, w, top, left) in zip(out, fills, sides.tolist(), strict=True):
            fill = fill[: h * w * channels].reshape(h, w, channels) if self.fill == "random" else fill
            image[top : top + h, left : left + w] = fill
        return out
