"""Blur: Gaussian, out of focus, by motion. In whole numbers, so that every machine gives the same bytes.

Severities are those of ImageNet-C (Hendrycks and Dietterich 2019); MNIST-C (Mu and Gilmer 2019) has the same for
28 x 28, where they are strong. Beyond the edge the edge's pixels go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from storage.keyed import words
from tasks.noise.graded import ImageNoise, Parameter
from tasks.noise.linear import BLOCK, SMALL, UNIT, rows_per_block, separable, whole

DIRECTIONS = 64


def _gaussian(sigma: float, radius: int) -> np.ndarray:
    return np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)


@lru_cache(maxsize=32)
def _kernel(sigma: float) -> np.ndarray:
    """Weights of a Gaussian that ends at 4 sigma, in whole numbers that sum to `UNIT`."""
    weights = whole(_gaussian(sigma, max(1, int(4 * sigma + 0.5))), UNIT)
    used = np.flatnonzero(weights)
    return np.asarray(weights[used[0] : used[-1] + 1])


@lru_cache(maxsize=32)
def _blur_matrix(sigma: float, side: int) -> np.ndarray:
    """The blur of a row of pixels as a matrix, float32 (side, side), for `separable`."""
    kernel = _kernel(sigma)
    reach, at = len(kernel) // 2, np.arange(side)
    matrix = np.zeros((side, side), np.float32)
    for offset, weight in zip(range(-reach, reach + 1), kernel.tolist(), strict=True):
        np.add.at(matrix, (np.clip(at + offset, 0, side - 1), at), weight)
    matrix.setflags(write=False)
    return matrix


def _blur_small(samples: np.ndarray, sigma: float) -> np.ndarray:
    """Blur by two matrix products for a block of images."""
    _, height, width, _ = samples.shape
    down, across = _blur_matrix(sigma, height), _blur_matrix(sigma, width)
    out, step = np.empty_like(samples), rows_per_block(samples)
    for low in range(0, len(samples), step):
        planes = samples[low : low + step].transpose(0, 3, 1, 2)
        out[low : low + step] = separable(planes, down, across).transpose(0, 2, 3, 1)
    return out


def _blur_large(samples: np.ndarray, sigma: float) -> np.ndarray:
    """The same sums, and so the same bytes, by OpenCV's filters: faster where most weights of a matrix are zero."""
    import cv2

    one, kernel, edge = np.ones(1, np.float32), _kernel(sigma).astype(np.float32), cv2.BORDER_REPLICATE
    across, down = kernel * np.float32(16 / UNIT), kernel * np.float32(1 / (16 * UNIT))
    out = np.empty_like(samples)
    # Made once: memory that is asked for anew has to be paged in anew, which costs as much as the sums.
    rows, columns = np.empty(samples.shape[1:], np.float32), np.empty(samples.shape[1:], np.float32)
    for image, found in zip(samples, out, strict=True):
        cv2.sepFilter2D(image, cv2.CV_32F, across, one, dst=rows, borderType=edge)
        np.rint(rows, out=rows)  # in sixteenths of a grey level
        cv2.sepFilter2D(rows, cv2.CV_32F, one, down, dst=columns, borderType=edge)
        cv2.convertScaleAbs(columns, dst=found)
    return out


@dataclass(frozen=True, repr=False)
class GaussianBlur(ImageNoise):
    """Gaussian blur.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        sigma = 1, 2, 3, 4, 6 (ImageNet-C).
    sigma : float, optional
        Standard deviation in pixels, up to 50; the kernel ends at 4 sigma.

    Notes
    -----
    To one grey level.
    """

    version = 1
    random = False
    parameters = (Parameter("sigma", high=50),)
    severities = (1, 2, 3, 4, 6)
    _: KW_ONLY
    sigma: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        small = max(samples.shape[1:3]) <= SMALL or samples.shape[3] not in (1, 3)
        return (_blur_small if small else _blur_large)(samples, float(self.strength[0]))


@dataclass(frozen=True, repr=False)
class DefocusBlur(ImageNoise):
    """Blur of a lens out of focus: every point becomes a disk with a softened edge.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        (radius, softness) = (3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5) (ImageNet-C).
    radius : float, optional
        Of the disk, in pixels, from 1 to 50.
    softness : float, optional
        Standard deviation of the blur of its edge, in pixels, up to 1.

    Notes
    -----
    To one grey level.
    """

    version = 1
    random = False
    parameters = (Parameter("radius", low=1, high=50, closed=True), Parameter("softness"))
    severities = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    _: KW_ONLY
    radius: float | None = None
    softness: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        radius, softness = self.strength
        weights = _gaussian(softness, 1 if radius <= 8 else 2)
        weights = (weights / weights.sum()).astype(np.float32)
        out = np.empty_like(samples)
        for rows, channels in _pieces(samples.shape):
            planes = np.ascontiguousarray(samples[rows, :, :, channels].transpose(0, 3, 1, 2))
            blurred = _softened(_disk_means(planes, radius, len(weights) // 2), weights)
            out[rows, :, :, channels] = np.rint(blurred, out=blurred).transpose(0, 2, 3, 1)
        return out


def _pieces(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Rows and channels of blocks of images; of large images one channel at a time, to need less memory."""
    count, height, width, channels = shape
    step = max(1, BLOCK // (height * width * channels))
    together = channels if step > 1 else 1
    for low in range(0, count, step):
        for first in range(0, channels, together):
            yield slice(low, low + step), slice(first, first + together)


def _disk_means(planes: np.ndarray, radius: float, more: int) -> np.ndarray:
    """Mean over a disk around each pixel, and around `more` pixels beyond the edge; float32.

    A row of the disk is a difference of two running sums. These may overflow: their differences do not.
    """
    n, channels, height, width = planes.shape
    reach = int(radius)
    pad, high, wide = reach + more, height + 2 * more, width + 2 * more
    sums = np.zeros((n, channels, high + 2 * reach, wide + 2 * reach + 1), np.uint16)
    np.cumsum(_padded(planes, pad), axis=3, dtype=np.uint16, out=sums[..., 1:])
    halves = [math.isqrt(int(radius * radius - dy * dy)) for dy in range(reach + 1)]
    area = sum((1 + (dy > 0)) * (2 * half + 1) for dy, half in enumerate(halves))
    total = np.zeros((n, channels, high, wide), np.uint16 if area * 255 < 65_536 else np.uint32)
    for half in sorted(set(halves)):
        run = sums[..., reach + half + 1 : reach + half + 1 + wide] - sums[..., reach - half : reach - half + wide]
        rows = [reach + dy for dy in range(-reach, reach + 1) if halves[abs(dy)] == half]
        fitting = 65_535 // (255 * (2 * half + 1))  # so many rows can be added as uint16, which is faster
        for first in range(0, len(rows), fitting):
            part = run[:, :, rows[first] : rows[first] + high]
            for row in rows[first + 1 : first + fitting]:
                part = part + run[:, :, row : row + high]
            total += part
    return total * np.float32(1 / area)


def _softened(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of neighbours, down and across; the margin that they need is cut off."""
    margin = len(weights) // 2
    for axis in (2, 3):
        length = values.shape[axis] - 2 * margin
        head = (slice(None),) * axis
        middle = values[(*head, slice(margin, margin + length))] * weights[margin]
        for i in range(margin):
            if weights[i] > 1e-6:
                pair = (
                    values[(*head, slice(i, i + length))]
                    + values[(*head, slice(2 * margin - i, 2 * margin - i + length))]
                )
                pair *= weights[i]
                middle += pair
        values = middle
    return values


def _padded(planes: np.ndarray, pad: int) -> np.ndarray:
    """Images in planes (n, channel, height, width), with their edges repeated."""
    return np.pad(planes, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="edge")


@dataclass(frozen=True, repr=False)
class MotionBlur(ImageNoise):
    """Blur of a camera that moves, at an angle drawn between -45 and 45 degrees for each image.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        (radius, sigma) = (10, 3), (15, 5), (15, 8), (15, 12), (20, 15) (ImageNet-C).
    radius : int, optional
        The trace is 2 radius + 1 pixels long, up to radius 50.
    sigma : float, optional
        Its weights fall as a normal distribution of this standard deviation, in pixels, up to 100.

    Notes
    -----
    Whole pixels along the trace, as ImageMagick does it, which ImageNet-C used; 64 angles instead of any.
    """

    version = 1
    parameters = (Parameter("radius", low=1, high=50, closed=True, whole=True), Parameter("sigma", high=100))
    severities = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    _: KW_ONLY
    radius: int | None = None
    sigma: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        direction = (words(key, ids, 1)[:, 0] >> np.uint64(58)).astype(np.int64)  # six bits
        out = np.empty_like(samples)
        for number in np.unique(direction).tolist():
            chosen = np.flatnonzero(direction == number)
            trace = _trace(*self.strength, number)
            for rows, channels in _pieces((len(chosen), *samples.shape[1:])):
                images = samples[chosen[rows], :, :, channels]
                out[chosen[rows], :, :, channels] = _traced(images, trace)
        return out


@lru_cache(maxsize=8 * DIRECTIONS)
def _trace(radius: int, sigma: float, direction: int) -> tuple[tuple[int, int, int], ...]:
    """Offsets (dy, dx) and weights of a trace; the weights sum to 32,768."""
    angle = math.radians((direction + 0.5) * 90 / DIRECTIONS - 45)
    steps = np.arange(2 * radius + 1)
    weights = whole(np.exp(-0.5 * (steps / sigma) ** 2), 32_768)
    taps: dict[tuple[int, int], int] = {}
    for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
        # Rounded to whole pixels as ImageMagick does, halves downwards.
        offset = math.ceil(step * math.sin(angle) - 0.5), math.ceil(step * math.cos(angle) - 0.5)
        taps[offset] = taps.get(offset, 0) + weight
    return tuple((dy, dx, weight) for (dy, dx), weight in taps.items() if weight)


def _traced(images: np.ndarray, trace: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    height, width = images.shape[1:3]
    pad = max(max(abs(dy), abs(dx)) for dy, dx, _ in trace)
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    wide = _padded(planes, pad).astype(np.float32)
    total, part = np.zeros(planes.shape, np.float32), np.empty(planes.shape, np.float32)
    for dy, dx, weight in trace:  # whole numbers below 2^23: exact in float32
        np.multiply(wide[..., pad + dy : pad + dy + height, pad + dx : pad + dx + width], np.float32(weight), out=part)
        total += part
    total *= np.float32(1 / 32_768)
    return np.rint(total, out=total).transpose(0, 2, 3, 1).astype(np.uint8)
