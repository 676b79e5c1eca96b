"""A random window of an image, enlarged to the whole."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from storage.keyed import uniforms
from tasks.noise.graded import ImageNoise, Parameter
from tasks.noise.linear import SMALL, UNIT, rows_per_block, separable


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
