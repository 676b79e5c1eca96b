"""Geometric noise and augmentation: shift, rotate, zoom, shear, flip, crop, elastic.

Severities are those of MNIST-C (Mu and Gilmer 2019, "MNIST-C: a robustness benchmark for computer vision"; constants of
their published code) where it has the noise, there named translate, rotate, scale and shear. Each image goes one way or
the other, by a coin of its own; with ``vary=True``, as augmentation wants it, by any amount up to the given one.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from storage.keyed import key_of, uniforms, words
from tasks.noise.graded import ImageNoise, Parameter
from tasks.noise.linear import SMALL, UNIT, rows_per_block, separable
from tasks.noise.warp import BORDERS, PARTS, about_centre, warp


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


@dataclass(frozen=True, repr=False)
class RandomCrop(ImageNoise):
    """Cut out a window at a random place and enlarge it to the whole image, bilinear.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        share = 0.9, 0.8, 0.7, 0.6, 0.5 (ours).
    share : float, optional
        Of height and of width that is kept, up to 1; at least one pixel.
    vary : bool
        Any share between `share` and 1, instead of `share`.
    """

    version = 1
    parameters = (Parameter("share"),)
    severities = (0.9, 0.8, 0.7, 0.6, 0.5)
    channels = (1, 3)
    options = {"vary": (False, True)}  # noqa: RUF012
    _: KW_ONLY
    share: float | None = None
    vary: bool = False

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        n, height, width, _ = samples.shape
        draws = uniforms(key, ids, 3)
        share = 1 - (1 - self.strength[0]) * (draws[:, 2] if self.vary else np.ones(n))
        sides = np.array([height, width])
        windows = np.clip(np.rint(share[:, None] * sides), 1, sides).astype(np.int64)
        corners = (draws[:, :2] * (sides - windows + 1)).astype(np.int64)
        out = np.empty_like(samples)
        enlarge = _enlarge_small if max(height, width) <= SMALL else _enlarge
        for window in np.unique(windows, axis=0):
            rows = np.flatnonzero((windows == window).all(axis=1))
            enlarge(samples, out, rows, corners, window.tolist())
        return out


def _enlarge(samples: np.ndarray, out: np.ndarray, rows: np.ndarray, corners: np.ndarray, window: list[int]) -> None:
    """Enlarge windows by OpenCV's interpolation that gives the same bits on every machine."""
    import cv2

    size = samples.shape[2], samples.shape[1]
    for row, (top, left) in zip(rows.tolist(), corners[rows].tolist(), strict=True):
        cut = samples[row, top : top + window[0], left : left + window[1]]
        out[row] = cv2.resize(cut, size, interpolation=cv2.INTER_LINEAR_EXACT).reshape(out.shape[1:])


def _enlarge_small(
    samples: np.ndarray, out: np.ndarray, rows: np.ndarray, corners: np.ndarray, window: list[int]
) -> None:
    """Enlarge windows of one size by two matrix products for all of them."""
    _, height, width, _ = samples.shape
    down, across = _interpolation(window[0], height), _interpolation(window[1], width)
    # All windows of all images as views; the drawn ones are copied out.
    views = np.lib.stride_tricks.sliding_window_view(samples, (window[0], window[1]), axis=(1, 2))
    step = rows_per_block(samples)
    for low in range(0, len(rows), step):
        chosen = rows[low : low + step]
        cut = views[chosen, corners[chosen, 0], corners[chosen, 1]]
        out[chosen] = separable(cut, down, across).transpose(0, 2, 3, 1)


@lru_cache(maxsize=256)
def _interpolation(window: int, side: int) -> np.ndarray:
    """Bilinear interpolation of `window` pixels to `side`, as a matrix for `separable`."""
    place = np.clip((np.arange(side) + 0.5) * window / side - 0.5, 0, window - 1)
    low = np.minimum(place.astype(np.int64), max(window - 2, 0))
    weight = np.rint((place - low) * UNIT)
    matrix = np.zeros((window, side), np.float32)
    matrix[low, np.arange(side)] = UNIT - weight
    matrix[np.minimum(low + 1, window - 1), np.arange(side)] += weight
    matrix.setflags(write=False)
    return matrix


@lru_cache(maxsize=32)
def _smoothing(sigma: float, side: int) -> np.ndarray:
    """Gaussian smoothing of a row with reflected edges as a matrix, float32 (side, side), of whole numbers.

    Every column sums to `UNIT` or a little less.
    """
    reach = max(1, int(3 * sigma + 0.5))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    at = np.arange(side)
    matrix = np.zeros((side, side))
    for offset, weight in zip(range(-reach, reach + 1), kernel.tolist(), strict=True):
        folded = (at + offset) % (2 * side)  # the edge's pixel occurs twice
        np.add.at(matrix, (np.minimum(folded, 2 * side - 1 - folded), at), weight)
    matrix = np.floor(matrix * (UNIT / matrix.sum(axis=0)) + 1e-9).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


@dataclass(frozen=True, repr=False)
class ElasticTransform(ImageNoise):
    """Elastic deformation: smooth random displacements and a random affine map (Simard et al. 2003).

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        (alpha, sigma, affine) = (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02) (ImageNet-C; first two wide waves, then ever rougher ones).
    alpha : float, optional
        Scale of the displacements, as a share of the shorter side, up to 10.
    sigma : float, optional
        Standard deviation of the smoothing of uniform noise, as a share of the shorter side, up to 1.
    affine : float, optional
        How far three points of the image move at most, as a share of the shorter side, from 0 to 0.25.
    border : {"reflect", "edge", "zeros"}
        What lies beyond the edge.

    Notes
    -----
    ImageNet-C interpolates twice, first the affine map and then the displacements; here both are one.
    """

    version = 1
    parameters = (
        Parameter("alpha", high=10),
        Parameter("sigma", high=1),
        Parameter("affine", high=0.25, closed=True),
    )
    severities = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    channels = (1, 3)
    options = {"border": BORDERS}  # noqa: RUF012
    _: KW_ONLY
    alpha: float | None = None
    sigma: float | None = None
    affine: float | None = None
    border: str = "reflect"

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        n, height, width, _ = samples.shape
        alpha, sigma, affine = (float(value) * min(height, width) for value in self.strength)
        maps = _moved_triangles(uniforms(key_of(key, "affine"), ids, 6), affine, height, width)
        out = np.empty_like(samples)
        step = max(1, 65_536 // (height * width))
        for low in range(0, n, step):
            rows = slice(low, low + step)
            fields = self._fields(key, ids[rows], height, width, alpha, sigma)
            out[rows] = warp(samples[rows], maps[rows], self.border, fields)
        return out

    def _fields(self, key: int, ids: np.ndarray, height: int, width: int, alpha: float, sigma: float) -> np.ndarray:
        """Displacements in 1/32 of a pixel, int32 (n, 2, height, width).

        Noise below 2^10 and weights that sum to 2^12 make whole numbers below 2^22; of these 12 bits are kept for the
        second product, which stays below 2^24. So all sums are exact in float32, in whatever order.
        """
        count = 2 * height * width
        lanes = words(key, ids, math.ceil(count / 4)).view(np.uint16)[:, :count]
        noise = (lanes >> 6).astype(np.float32).reshape(-1, 2, height, width)
        noise *= 2
        noise -= 1023  # odd numbers from -1023 to 1023: uniform, without a mean
        rows = noise @ _smoothing(sigma, width)
        rows *= np.float32(1 / 1024)
        np.rint(rows, out=rows)
        smooth = _smoothing(sigma, height).T @ rows
        smooth *= np.float32(alpha * PARTS / (1024 * UNIT * 4))
        return np.rint(smooth, out=smooth).astype(np.int32)


def _moved_triangles(draws: np.ndarray, reach: float, height: int, width: int) -> np.ndarray:
    """Affine maps (n, 2, 3) that undo what moves three points of the image by up to `reach` pixels an axis.

    Each point's place is drawn around where it was; the map takes the drawn places back.
    """
    centre, arm = np.array([width // 2, height // 2]), min(height, width) // 3
    points = centre + np.array([[arm, arm], [arm, -arm], [-arm, -arm]])
    if arm == 0:  # smaller than three pixels: too small for a triangle
        return np.tile(np.eye(2, 3), (len(draws), 1, 1))
    moved = points + (2 * draws.reshape(-1, 3, 2) - 1) * reach
    # Solved by hand: sums of a library of linear algebra may differ from machine to machine.
    (ax, ay), (bx, by) = (moved[:, 1] - moved[:, 0]).T, (moved[:, 2] - moved[:, 0]).T
    area = ax * by - ay * bx
    area = np.where(np.abs(area) < 1e-6, 1e-6, area)  # a triangle that became a line
    inverse = np.array([[by, -bx], [-ay, ax]]) / area  # of the matrix with columns a and b
    columns = (points[1:] - points[0]).T.astype(np.float64)
    linear = np.stack([[c * inverse[0, j] + d * inverse[1, j] for j in (0, 1)] for c, d in columns])
    (mx, my), first = moved[:, 0].T, points[0]
    shift = [first[i] - linear[i, 0] * mx - linear[i, 1] * my for i in (0, 1)]
    return np.stack([np.stack([*linear[i], shift[i]], axis=-1) for i in (0, 1)], axis=1)
