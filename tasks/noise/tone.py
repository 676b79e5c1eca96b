"""Noise that changes tone and colour: brightness, contrast, gamma, saturation.

Severities are those of ImageNet-C (Hendrycks and Dietterich 2019); MNIST-C (Mu and Gilmer 2019) has the same for
28 x 28.
Nothing is random here: every image is changed in the same way.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from tasks.noise.graded import ImageNoise, Parameter

_GREY = np.arange(256)
_BLOCK = 65_536  # pixels whose intermediate values stay in cache


def _looked_up(samples: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace every byte by a table's, uint8 (256,)."""
    import cv2

    flat = samples.reshape(-1, samples.shape[-2] * samples.shape[-1])
    return np.asarray(cv2.LUT(flat, table)).reshape(samples.shape)


@dataclass(frozen=True, repr=False)
class Brightness(ImageNoise):
    """Brighter: the value of a pixel (its largest channel) rises, hue and saturation stay.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        amount = 0.1, 0.2, 0.3, 0.4, 0.5 (ImageNet-C).
    amount : float, optional
        What is added, as a fraction of the full range, from -1 (darker) to 1.

    Notes
    -----
    Exact: what the way through HSV and back gives, rounded. Grey images rise as a whole.
    """

    version = 1
    random = False
    parameters = (Parameter("amount", low=-1, closed=True),)
    severities = (0.1, 0.2, 0.3, 0.4, 0.5)
    _: KW_ONLY
    amount: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        risen = np.clip(_GREY / 255 + self.strength[0], 0, 1) * 255
        if samples.shape[3] != 3:
            return _looked_up(samples, np.rint(risen).astype(np.uint8))
        # All channels of a pixel are multiplied by the same factor; a black pixel has no hue and becomes grey.
        factor = (risen[1:] / _GREY[1:]).astype(np.float32)
        factor = np.concatenate([np.ones(1, np.float32), factor])
        rise_of_black = np.float32(risen[0])
        out = np.empty(samples.shape, np.uint8)
        for pixels, found in _pixels(samples, out):
            value = pixels.max(axis=0)
            changed = pixels * factor.take(value)
            if rise_of_black:
                changed += (value == 0) * rise_of_black
            # Adding a half and cutting rounds; the value itself may come out a hair above 255.
            np.minimum(np.rint(changed, out=changed), 255, out=changed)
            found[...] = changed
        return out


def _pixels(samples: np.ndarray, out: np.ndarray):  # type: ignore[no-untyped-def]
    """Blocks of pixels of both as views (channel, pixels)."""
    flat, target = samples.reshape(-1, 3), out.reshape(-1, 3)
    for low in range(0, len(flat), _BLOCK):
        yield np.ascontiguousarray(flat[low : low + _BLOCK].T), target[low : low + _BLOCK].T


def _means(samples: np.ndarray) -> np.ndarray:
    """Mean of each channel of each image, float64 (n, channel), from sums in whole numbers."""
    n, height, width, channels = samples.shape
    # Row by row in uint32, which is faster; a row of 16 million pixels would fit.
    sums = samples.reshape(n, height, width * channels).sum(axis=1, dtype=np.uint32)
    return np.asarray(sums.reshape(n, width, channels).sum(axis=1, dtype=np.int64) / (height * width))


@dataclass(frozen=True, repr=False)
class Contrast(ImageNoise):
    """Less contrast: the distance of a pixel to the image's mean, channel by channel, shrinks.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        factor = 0.4, 0.3, 0.2, 0.1, 0.05 (ImageNet-C).
    factor : float, optional
        What distances are multiplied by, up to 1.

    Notes
    -----
    Exact: (x - mean) factor + mean, rounded.
    """

    version = 1
    random = False
    parameters = (Parameter("factor"),)
    severities = (0.4, 0.3, 0.2, 0.1, 0.05)
    _: KW_ONLY
    factor: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        import cv2

        factor, channels = self.strength[0], samples.shape[3]
        means = _means(samples)
        # A table for each image and channel: as many products as grey levels, not as pixels.
        tables = np.rint(_GREY[:, None] * factor + means[:, None, :] * (1 - factor)).astype(np.uint8)
        if channels not in (1, 3):
            return np.asarray(np.take_along_axis(tables[:, :, None], samples, axis=1))
        out = np.empty_like(samples)
        for image, table, found in zip(samples, tables[:, None], out, strict=True):
            cv2.LUT(image, table if channels == 3 else table[0], dst=found)
        return out


@dataclass(frozen=True, repr=False)
class Gamma(ImageNoise):
    """Another gamma: a pixel x of [0, 1] becomes x ** gamma.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        gamma = 1.25, 1.5, 2, 2.5, 3 (ours; no table is published).
    gamma : float, optional
        Above 1 darkens, below 1 brightens; up to 10.

    Notes
    -----
    Exact, rounded.
    """

    version = 1
    random = False
    parameters = (Parameter("gamma", high=10),)
    severities = (1.25, 1.5, 2.0, 2.5, 3.0)
    _: KW_ONLY
    gamma: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        table = np.rint((_GREY / 255) ** self.strength[0] * 255).astype(np.uint8)
        return _looked_up(samples, table)


@lru_cache(maxsize=16)
def _saturation_table(factor: float, shift: float) -> np.ndarray:
    """What the distance of a channel to the pixel's value is multiplied by, float32 (value, least channel)."""
    value, least = _GREY[:, None].astype(np.float64), _GREY[None, :]
    spread = np.maximum(value - least, 1)
    saturation = np.clip(spread / np.maximum(value, 1) * factor + shift, 0, 1)
    table = (saturation * value / spread).astype(np.float32)
    table.setflags(write=False)
    return table


@dataclass(frozen=True, repr=False)
class Saturate(ImageNoise):
    """Other saturation, for colour images: s becomes s factor + shift in HSV, clipped to [0, 1].

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        (factor, shift) = (0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2) (ImageNet-C: first less, then more).
    factor : float, optional
        Up to 100.
    shift : float, optional
        From 0 to 1. Grey pixels have hue 0, so a shift makes them reddish, as in ImageNet-C.

    Notes
    -----
    Exact: what the way through HSV and back gives, rounded.
    """

    version = 1
    random = False
    colour = True
    parameters = (Parameter("factor", low=0, high=100, closed=True), Parameter("shift", closed=True))
    severities = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
    _: KW_ONLY
    factor: float | None = None
    shift: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        factor, shift = self.strength
        table = _saturation_table(factor, shift).ravel()
        out = np.empty_like(samples)
        for pixels, found in _pixels(samples, out):
            value, least = pixels.max(axis=0), pixels.min(axis=0)
            stretch = table.take(value.astype(np.uint16) << 8 | least)
            distance = np.subtract(value, pixels).astype(np.float32)
            if shift:
                grey = value == least
                stretch[grey] = value[grey] * np.float32(shift)
                distance[1:, grey] = 1
            distance *= stretch
            np.subtract(value, distance, out=distance)
            found[...] = np.rint(distance, out=distance)
        return out
