"""Elastic deformation of images."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from storage.keyed import key_of, uniforms, words
from tasks.noise.graded import ImageNoise, Parameter
from tasks.noise.linear import UNIT
from tasks.noise.warp import BORDERS, PARTS, warp


@lru_cache(maxsize=4)  # 64 MB each at 4,000 pixels
def _smoothing(sigma: float, side: int) -> np.ndarray:
    """Gaussian smoothing of a row with reflected edges as a matrix, float32 (side, side), of whole numbers.

    Every column sums to `UNIT` or a little less.
    """
    reach = max(1, int(3 * sigma + 0.5))
    with np.errstate(under="ignore"):
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
    Shares of the side as in MNIST-C; ImageNet-C multiplies them by 244 for images of 224, a slip by its own comment.
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
