from __future__ import annotations

import colorsys

import numpy as np
import pytest

from tasks.noise import Brightness, Contrast, Gamma, Saturate
from tests.tasks.noise_pictures import pictures

IDS = np.arange(1)


def colours() -> np.ndarray:
    """Pixels of every kind, uint8 (1, 100, 60, 3): any, nearly grey, dark, bright, grey, and of a single channel."""
    rng = np.random.default_rng(0)
    wild = rng.integers(0, 256, (1800, 3))
    near = rng.integers(2, 253, (1000, 1)) + rng.integers(-2, 3, (1000, 3))
    dark, bright = rng.integers(0, 8, (800, 3)), rng.integers(248, 256, (800, 3))
    grey = np.repeat(np.arange(256)[:, None], 3, 1)
    single = np.concatenate([np.arange(256)[:, None] * np.eye(3, dtype=int)[k] for k in range(3)])
    seen = pictures(24, 24, 3, count=1).reshape(-1, 3)
    return np.concatenate([wild, near, dark, bright, grey, single, seen]).astype(np.uint8)[:6000].reshape(1, 100, 60, 3)


def through_hsv(pixels: np.ndarray, change) -> np.ndarray:
    """What the standard library's way to HSV and back gives before it is rounded, float64 (..., 3)."""
    rows = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*row))) for row in (pixels.reshape(-1, 3) / 255).tolist()]
    return np.reshape(rows, pixels.shape) * 255


def clip(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def assert_rounded(found: np.ndarray, expected: np.ndarray, hair: float = 1e-9) -> None:
    """Nearest whole numbers; what lies half between two may go either way."""
    assert np.abs(found - expected).max() <= 0.5 + hair


@pytest.mark.parametrize("amount", [0.1, 0.2, 0.3, 0.4, 0.5, 1, 0.001, -0.1, -0.5, -1])
def test_brightness__is_a_way_through_hsv(amount):
    images = colours()
    expected = through_hsv(images, lambda h, s, v: (h, s, clip(v + amount)))
    found = Brightness(amount=amount)(images, IDS)
    assert_rounded(found, expected, hair=1e-4)
    sure = np.abs(expected % 1 - 0.5) > 1e-4  # 0.1 of 255 is 25.5: there many lie half between two grey levels
    assert sure.mean() > 0.6
    np.testing.assert_array_equal(found[sure], np.rint(expected[sure]))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("amount", [0.1, 0.5, 1, -0.3, -1])
def test_brightness__grey_images_rise_as_a_whole(amount, channels):
    images = np.arange(256 * channels).astype(np.uint8).reshape(1, 16, 16, channels)
    found = Brightness(amount=amount)(images, IDS)
    assert_rounded(found, np.clip(images / 255 + amount, 0, 1) * 255)


def test_brightness__grey_pixels_of_colour_images_stay_grey():
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    found = Brightness(2)(grey, IDS)
    assert (found == found[..., :1]).all()
    np.testing.assert_array_equal(found[..., :1], Brightness(2)(grey[..., :1], IDS))


def test_brightness__black_and_white():
    for amount, black, white in ((0.5, 128, 255), (-0.5, 0, 128), (1, 255, 255), (-1, 0, 0)):
        images = np.array([0, 255], np.uint8).repeat(3).reshape(1, 1, 2, 3)
        found = Brightness(amount=amount)(images, IDS)[0, 0]
        assert abs(found.astype(int) - [[black], [white]]).max() <= 1  # 127.5 goes either way


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_saturate__is_a_way_through_hsv(severity):
    factor, shift = [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)][severity - 1]
    images = colours()
    expected = through_hsv(images, lambda h, s, v: (h, clip(s * factor + shift), v))
    found = Saturate(severity)(images, IDS)
    assert_rounded(found, expected, hair=1e-4)
    sure = np.abs(expected % 1 - 0.5) > 1e-4  # 0.1 of 255 is 25.5: there many lie half between two grey levels
    assert sure.mean() > 0.6
    np.testing.assert_array_equal(found[sure], np.rint(expected[sure]))


@pytest.mark.parametrize(("factor", "shift"), [(0, 0), (1, 0), (0, 1), (100, 1), (0, 0.5), (1, 0.01)])
def test_saturate__any_parameters(factor, shift):
    images = colours()
    expected = through_hsv(images, lambda h, s, v: (h, clip(s * factor + shift), v))
    found = Saturate(factor=factor, shift=shift)(images, IDS)
    assert_rounded(found, expected, hair=1e-4)
    if (factor, shift) == (1, 0):
        np.testing.assert_array_equal(found, images)
    if (factor, shift) == (0, 0):
        np.testing.assert_array_equal(found, images.max(axis=3, keepdims=True).repeat(3, 3))


def test_saturate__the_value_of_a_pixel_stays():
    images = colours()
    for severity in (1, 3, 5):
        np.testing.assert_array_equal(Saturate(severity)(images, IDS).max(axis=3), images.max(axis=3))


@pytest.mark.parametrize("factor", [0.4, 0.3, 0.2, 0.1, 0.05, 1, 1e-6])
@pytest.mark.parametrize("shape", [(28, 28, 1), (13, 9, 3), (5, 4, 2), (90, 70, 3), (6, 6, 5), (1, 1, 3)])
def test_contrast__shrinks_the_distance_to_the_mean_of_each_channel(factor, shape):
    images = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype=np.uint8)
    images[1], images[2] = 255, images[2] // 9
    means = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    found = Contrast(factor=factor)(images, np.arange(5))
    assert_rounded(found, (images - means) * factor + means)
    np.testing.assert_array_equal(found[1], images[1])
    if factor == 1:
        np.testing.assert_array_equal(found, images)


def test_contrast__large_images_sum_without_overflow():
    images = np.full((1, 4200, 4100, 1), 255, np.uint8)  # a sum of 4.4e9
    images[0, 0] = 0
    mean = 255 * 4199 / 4200
    found = Contrast(factor=0.05)(images, IDS)
    assert_rounded(found[0, :2, 0, 0], np.array([mean * 0.95, 255 * 0.05 + mean * 0.95]))


@pytest.mark.parametrize("gamma", [1.25, 1.5, 2, 2.5, 3, 1, 0.5, 10, 1e-6])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_gamma__is_a_power(gamma, channels):
    images = np.repeat(np.arange(256), channels).astype(np.uint8).reshape(1, 32, 8, channels)
    found = Gamma(gamma=gamma)(images, IDS)
    assert_rounded(found, 255 * (images / 255) ** gamma)
    assert (found[images == 0] == 0).all()
    assert (found[images == 255] == 255).all()
    if gamma == 1:
        np.testing.assert_array_equal(found, images)


def test_gamma__severities_darken_more_and_more():
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = np.array([Gamma(severity)(images, IDS) for severity in range(1, 6)]).astype(int)
    assert (np.diff(found, axis=0) <= 0).all()
    np.testing.assert_array_equal(found[2].ravel(), np.rint(np.arange(256) ** 2 / 255))  # gamma 2
