"""Geometric noise and augmentation: shift, rotate, zoom, shear, flip.

Severities are those of MNIST-C (Mu and Gilmer 2019, "MNIST-C: a robustness benchmark for computer vision"; constants of
their published code) where it has the noise, there named translate, rotate, scale and shear. Each image goes one way or
the other, by a coin of its own; with ``vary=True``, as augmentation wants it, by any amount up to the given one.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from storage.keyed import uniforms
from tasks.noise.graded import ImageNoise, Parameter
from tasks.noise.warp import BORDERS, about_centre, warp


@dataclass(frozen=True, repr=False)
class Geometric(ImageNoise):
    """What the geometric noises share: a signed amount for each image, and what lies beyond the edge."""

    channels: ClassVar[tuple[int, ...]] = (1, 3)
    options = {"vary": (False, True), "border": BORDERS}  # noqa: RUF012
    _: KW_ONLY
    vary: bool = False
    border: str = "zeros"

    def _signed(self, key: int, ids: np.ndarray, count: int) -> np.ndarray:
        """Numbers in [-1, 1], float64 (n, count): a sign, or any if the amount varies."""
        draws = uniforms(key, ids, count)
        return 2 * draws - 1 if self.vary else np.where(draws < 0.5, -1.0, 1.0)

    def _warped(self, samples: np.ndarray, linear: list[list[np.ndarray | float]]) -> np.ndarray:
        """Warp each image by its own linear map about its centre."""
        n, height, width, _ = samples.shape
        maps = np.empty((n, 2, 2))
        for row in (0, 1):
            for column in (0, 1):
                maps[:, row, column] = linear[row][column]
        return warp(samples, about_centre(maps, height, width), self.border)


@dataclass(frozen=True, repr=False)
class Shift(Geometric):
    """Shift along both axes, by whole pixels.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        share = 1/28, 2/28, 3/28, 4/28, 5/28 (translate of MNIST-C: 1 to 5 pixels of 28).
    share : float, optional
        How far, as a share of height and width, up to 1.
    vary : bool
        By any whole number of pixels up to `share`, instead of by `share` one way or the other.
    border : {"zeros", "edge", "reflect"}
        What lies beyond the edge.
    """

    version = 1
    parameters = (Parameter("share"),)
    severities = (1 / 28, 2 / 28, 3 / 28, 4 / 28, 5 / 28)
    _: KW_ONLY
    share: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        height, width = samples.shape[1:3]
        sides = np.array([height, width])
        steps = np.rint(self._signed(key, ids, 2) * np.rint(self.strength[0] * sides)).astype(np.int64)
        out = np.empty_like(samples)
        ways, chosen = np.unique(steps, axis=0, return_inverse=True)
        for number, (down, right) in enumerate(ways.tolist()):
            rows = chosen.reshape(-1) == number
            out[rows] = self._moved(samples[rows], down, right)
        return out

    def _moved(self, images: np.ndarray, down: int, right: int) -> np.ndarray:
        if self.border != "zeros":
            for axis, step in ((1, down), (2, right)):
                side = images.shape[axis]
                at = np.arange(side) - step
                if self.border == "reflect" and side > 1:
                    at = np.abs((at + side - 1) % (2 * side - 2) - side + 1)
                images = images.take(np.clip(at, 0, side - 1), axis=axis)
            return images
        out = np.zeros_like(images)
        height, width = images.shape[1:3]
        out[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = images[
            :, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
        ]
        return out


@dataclass(frozen=True, repr=False)
class Rotate(Geometric):
    """Rotate about the centre, bilinear.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        degrees = 11.5, 22.9, 34.4, 45.8, 57.3 (MNIST-C: 0.2, 0.4, 0.6, 0.8, 1 radian).
    degrees : float, optional
        Up to 180.
    vary : bool
        By any angle up to `degrees` either way, instead of by `degrees` one way or the other.
    border : {"zeros", "edge", "reflect"}
        What lies beyond the edge.
    """

    version = 1
    parameters = (Parameter("degrees", high=180),)
    severities = tuple(math.degrees(angle) for angle in (0.2, 0.4, 0.6, 0.8, 1.0))
    _: KW_ONLY
    degrees: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        angle = self._signed(key, ids, 1)[:, 0] * math.radians(self.strength[0])
        cosine, sine = np.cos(angle), np.sin(angle)
        return self._warped(samples, [[cosine, -sine], [sine, cosine]])


@dataclass(frozen=True, repr=False)
class Zoom(Geometric):
    """Make the content smaller or larger about the centre, bilinear.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        factor = 0.9, 0.8, 0.7, 0.6, 0.5 (scale of MNIST-C: smaller).
    factor : float, optional
        Size of the content afterwards, up to 10; above 1 it is cut off at the edge.
    vary : bool
        By any factor between 1 and `factor`, instead of by `factor`.
    border : {"zeros", "edge", "reflect"}
        What lies beyond the edge.
    """

    version = 1
    parameters = (Parameter("factor", high=10),)
    severities = (0.9, 0.8, 0.7, 0.6, 0.5)
    _: KW_ONLY
    factor: float | None = None

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Whether images differ in what is done to them."""
        return self.vary

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        share = uniforms(key, ids, 1)[:, 0] if self.vary else 1.0
        # A millionth is less than a pixel of any image.
        inverse = 1 / np.maximum(1 + (self.strength[0] - 1) * share, 1e-6)
        return self._warped(samples, [[inverse, 0.0], [0.0, inverse]])


@dataclass(frozen=True, repr=False)
class Shear(Geometric):
    """Shear along the rows, about the centre, bilinear.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        slope = tan(0.2), tan(0.4), tan(0.6), tan(0.8), tan(1) = 0.20, 0.42, 0.68, 1.03, 1.56 (MNIST-C: angles in
        radians).
    slope : float, optional
        Columns that a row moves against the row above it, up to 3.
    vary : bool
        By any slope up to `slope` either way, instead of by `slope` one way or the other.
    border : {"zeros", "edge", "reflect"}
        What lies beyond the edge.
    """

    version = 1
    parameters = (Parameter("slope", high=3),)
    severities = tuple(math.tan(angle) for angle in (0.2, 0.4, 0.6, 0.8, 1.0))
    _: KW_ONLY
    slope: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        slope = self._signed(key, ids, 1)[:, 0] * self.strength[0]
        return self._warped(samples, [[1.0, slope], [0.0, 1.0]])


@dataclass(frozen=True, repr=False)
class HorizontalFlip(ImageNoise):
    """Flip left and right, some of the images.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        p = 0.1, 0.2, 0.3, 0.4, 0.5 (ours).
    p : float, optional
        Chance that an image is flipped.
    """

    version = 1
    parameters = (Parameter("p"),)
    severities = (0.1, 0.2, 0.3, 0.4, 0.5)
    channels = (1, 3)
    _: KW_ONLY
    p: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        import cv2

        _, height, width, channels = samples.shape
        flipped = uniforms(key, ids, 1)[:, 0] < self.strength[0]
        out = np.empty_like(samples)
        if height * width > 10_000:  # one by one, without a copy of the chosen
            for image, found, turn in zip(samples, out, flipped.tolist(), strict=True):
                if turn:
                    cv2.flip(image, 1, dst=found)
                else:
                    found[...] = image
            return out
        out[...] = samples
        chosen = np.flatnonzero(flipped)
        step = max(1, 1_000_000 // (height * width))
        for low in range(0, len(chosen), step):
            rows = chosen[low : low + step]
            tall = samples[rows].reshape(len(rows) * height, width, channels)
            out[rows] = cv2.flip(tall, 1).reshape(len(rows), height, width, channels)
        return out
