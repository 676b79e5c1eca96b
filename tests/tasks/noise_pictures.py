"""What the tests of image noises look at: photographs, and measures of what was done to them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=1)
def _photographs() -> np.ndarray:
    """Two photographs, uint8 (2, 427, 640, 3)."""
    from sklearn.datasets import load_sample_image

    return np.stack([load_sample_image(name) for name in ("china.jpg", "flower.jpg")])


def pictures(height: int, width: int, channels: int = 3, count: int = 12, shrink: int = 1) -> np.ndarray:
    """Cut pictures out of photographs, uint8 (count, height, width, channels).

    Parameters
    ----------
    height, width, channels, count : int
        One channel is grey, two are red and green.
    shrink : int
        Pixels a side of the photograph that make one of the picture.
    """
    both = _photographs()
    high, wide = both.shape[1] // shrink, both.shape[2] // shrink
    cells = both[:, : high * shrink, : wide * shrink].reshape(2, high, shrink, wide, shrink, 3)
    small = np.rint(cells.mean(axis=(2, 4)))
    if channels == 1:
        small = np.rint(small @ [[0.299], [0.587], [0.114]])
    rng = np.random.default_rng(0)
    corners = zip(rng.integers(0, high - height + 1, count), rng.integers(0, wide - width + 1, count), strict=True)
    cut = [small[i % 2, y : y + height, x : x + width, :channels] for i, (y, x) in enumerate(corners)]
    return np.ascontiguousarray(cut, dtype=np.uint8)


def fading(height: int, width: int, channels: int = 1, count: int = 4) -> np.ndarray:
    """Wide waves that fade to black at the edge: nothing in them is steep, uint8 (count, height, width, channels)."""
    y, x = (np.arange(height) + 0.5)[:, None] / height, (np.arange(width) + 0.5) / width
    window = np.sin(np.pi * y) * np.sin(np.pi * x)
    k = np.arange(count * channels).reshape(count, 1, 1, channels)
    waves = 1 + np.sin(5 * y[..., None] + k) * np.cos(4 * x[:, None] - 2 * k)
    return np.rint(120 * window[..., None] * waves).astype(np.uint8)


def psnr(noisy: np.ndarray, clean: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels."""
    return float(10 * np.log10(255**2 / np.mean((noisy.astype(float) - clean) ** 2)))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two samples, in standard errors of none."""
    return float(abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * np.sqrt(one.size))
