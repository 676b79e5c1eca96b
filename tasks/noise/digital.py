"""Digital noise: what files and small screens do to images.

Severities are those of ImageNet-C (Hendrycks and Dietterich 2019); MNIST-C (Mu and Gilmer 2019) has the same for
28 x 28.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache

import numpy as np

from tasks.noise.graded import ImageNoise, Parameter


@dataclass(frozen=True, repr=False)
class JpegCompression(ImageNoise):
    """Written as JPEG and read again, with OpenCV's libjpeg-turbo.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        quality = 25, 18, 15, 10, 7 (ImageNet-C).
    quality : int, optional
        From 1 to 100; colours are halved in resolution, as usual.
    """

    version = 1
    random = False
    channels = (1, 3)
    parameters = (Parameter("quality", low=1, high=100, closed=True, whole=True),)
    severities = (25, 18, 15, 10, 7)
    _: KW_ONLY
    quality: int | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        import cv2

        if max(samples.shape[1:3]) > 65_500:
            raise ValueError(f"expected images of at most 65,500 pixels a side for JPEG, received {samples.shape[1:3]}")
        options = [cv2.IMWRITE_JPEG_QUALITY, int(self.strength[0])]
        colour = samples.shape[3] == 3
        how = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
        out = np.empty_like(samples)
        for image, found in zip(samples, out, strict=True):
            _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if colour else image, options)
            found[...] = np.asarray(cv2.imdecode(data, how)).reshape(image.shape)
        return out


@lru_cache(maxsize=64)
def _averaging(old: int, new: int) -> np.ndarray:
    """Means over the pixels of each cell of a coarser grid, as Pillow's BOX filter takes them, float64 (old, new).

    Weights are whole numbers of 1 / 2^22, as Pillow's are, so the bytes are Pillow's too.
    """
    matrix = np.zeros((old, new))
    scale = old / new
    for cell in range(new):
        centre, reach = (cell + 0.5) * scale, scale / 2
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), old)
        inside = [x for x in range(low, high) if -0.5 < (x - centre + 0.5) * (1 / scale) <= 0.5]
        matrix[inside, cell] = int(0.5 + (1 << 22) / len(inside))
    matrix.setflags(write=False)
    return matrix


def _averaged(planes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Products are whole numbers below 2^53: exact in float64, in whatever order."""
    return np.floor((planes @ matrix + (1 << 21)) * 2.0**-22)


@dataclass(frozen=True, repr=False)
class Pixelate(ImageNoise):
    """Fewer and larger pixels: shrunk and enlarged again, both with a box filter.

    Parameters
    ----------
    severity : {1, 2, 3, 4, 5}, optional
        share = 0.6, 0.5, 0.4, 0.3, 0.25 (ImageNet-C).
    share : float, optional
        Of height and of width that is left, up to 1; at least one pixel.

    Notes
    -----
    Exact: the bytes of Pillow's ``resize`` with ``BOX``, there and back.
    """

    version = 1
    random = False
    channels = (1, 3)
    parameters = (Parameter("share"),)
    severities = (0.6, 0.5, 0.4, 0.3, 0.25)
    _: KW_ONLY
    share: float | None = None

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        height, width = samples.shape[1:3]
        high, wide = (max(1, int(side * self.strength[0])) for side in (height, width))
        # Enlarging by a box filter takes the nearest pixel.
        rows = np.minimum(((np.arange(height) + 0.5) * (high / height)).astype(np.intp), high - 1)
        columns = np.minimum(((np.arange(width) + 0.5) * (wide / width)).astype(np.intp), wide - 1)
        if max(height, width) > 64:
            return _pixelated_large(samples, rows, columns)
        down, across = _averaging(height, high), _averaging(width, wide)
        out = np.empty_like(samples)
        step = max(1, 50_176 // (height * width * samples.shape[3]))
        for low in range(0, len(samples), step):
            planes = samples[low : low + step].transpose(0, 3, 1, 2).astype(np.float64)
            small = _averaged(planes, across)
            small = _averaged(small.swapaxes(2, 3), down).astype(np.uint8)  # (n, channel, column, row)
            large = small[:, :, columns[:, None], rows[None, :]]
            out[low : low + step] = large.transpose(0, 3, 2, 1)
        return out


def _pixelated_large(samples: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The same bytes by Pillow's filter, which is faster than products with large matrices."""
    from PIL import Image

    _, height, _, channels = samples.shape
    high, wide = int(rows[-1]) + 1, int(columns[-1]) + 1
    out = np.empty_like(samples)
    for image, found in zip(samples, out, strict=True):
        picture = Image.fromarray(image if channels == 3 else image[..., 0])
        # Along the rows first, always: Pillow chooses by the shape what it does first, and rounds in between.
        small = picture.resize((wide, height), Image.Resampling.BOX).resize((wide, high), Image.Resampling.BOX)
        cells = np.asarray(small).reshape(high, wide, channels).take(columns, axis=1)
        np.take(cells, rows, axis=0, out=found)
    return out
