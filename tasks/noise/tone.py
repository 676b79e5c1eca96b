"""Noise that changes tone and colour: brightness, contrast, gamma, saturation.

Severities are those of ImageNet-C (Hendrycks and Dietterich 2019); MNIST-C (Mu and Gilmer 2019) has the same for
28 x 28. Nothing is random here: every image is changed in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        factor = (risen / np.maximum(_GREY, 1)).astype(np.float32)
        factor[0] = 1
        black = np.uint8(np.rint(risen[0]))

        def brightened(planes: Planes) -> Planes:
            value = _largest(planes)
            factors = factor.take(value)
            changed = [_rounded(plane * factors) for plane in planes]
            if black:
                for plane in changed:
                    plane[value == 0] = black
            return changed

        return _by_planes(samples, brightened)


Planes = Sequence[np.ndarray]
"""The channels of an image, uint8 (height, width) each."""


def _by_planes(samples: np.ndarray, change: Callable[[Planes], Planes]) -> np.ndarray:
    """Change colour images channel by channel, some rows of pixels at a time."""
    import cv2

    width = samples.shape[2]
    tall = samples.reshape(-1, width, 3)
    out, step = np.empty_like(tall), max(1, _BLOCK // width)
    for low in range(0, len(tall), step):
        cv2.merge(change(cv2.split(tall[low : low + step])), dst=out[low : low + step])
    return out.reshape(samples.shape)


def _largest(planes: Planes) -> np.ndarray:
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2])


def _rounded(values: np.ndarray) -> np.ndarray:
    """Round to the nearest grey level; what is a hair above 255 is 255."""
    np.rint(values, out=values)
    return np.minimum(values, 255, out=values).astype(np.uint8)


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
        if channels not in (1, 3):  # channels do not mix
            parts = [self._noisy(np.ascontiguousarray(samples[..., c : c + 1]), ids, key) for c in range(channels)]
            return np.concatenate(parts, axis=3)
        # Sums of bytes are whole numbers, exact in OpenCV's float64.
        means = np.array([cv2.mean(image)[:channels] for image in samples])
        # A table for each image and channel: as many products as grey levels, not as pixels.
        tables = np.rint(_GREY[:, None] * factor + means[:, None, :] * (1 - factor)).astype(np.uint8)
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

        def saturated(planes: Planes) -> Planes:
            value = _largest(planes)
            least = np.minimum(np.minimum(planes[0], planes[1]), planes[2])
            stretch = table.take(value.astype(np.uint16) << 8 | least)
            grey = value == least
            changed = [_rounded(value - np.subtract(value, plane) * stretch) for plane in planes]
            if shift:
                pale = _rounded(value[grey] * np.float32(1 - shift))
                for plane in changed[1:]:
                    plane[grey] = pale
            return changed

        return _by_planes(samples, saturated)
