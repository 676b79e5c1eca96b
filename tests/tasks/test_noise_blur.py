from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage, stats

from tasks.noise import DefocusBlur, GaussianBlur, MotionBlur
from tests.tasks.noise_pictures import fading, pictures

IDS = np.arange(4)


def looked_at(height: int, width: int, channels: int) -> np.ndarray:
    """Photographs, coarse checks of black and white, and noise: what is smooth, steep and rough."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    checks = 255 * ((x // 5 + y // 3 + c) % 2)
    rough = np.random.default_rng(0).integers(0, 256, (height, width, channels))
    return np.concatenate([pictures(height, width, channels, count=2), [checks, rough]]).astype(np.uint8)


def far_apart(noisy: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference to what would have been written without rounding on the way."""
    return float(np.abs(noisy - np.rint(expected)).max())


def gaussian(images: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(images.astype(float), (0, sigma, sigma, 0), mode="nearest", truncate=4)


@pytest.mark.parametrize("sigma", [0.2, 0.6, 1, 1.5, 2, 3, 4, 6, 20, 50])
@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 40, 3), (5, 3, 2), (1, 1, 3), (1, 30, 1)])
def test_gaussian_blur__is_scipys_for_small_images(sigma, shape):
    images = looked_at(*shape)
    noisy, expected = GaussianBlur(sigma=sigma)(images, IDS), gaussian(images, sigma)
    assert far_apart(noisy, expected) <= 1
    if sigma <= 6:  # little more than the rounding at the end; a kernel that ended at 3 sigma would show
        assert np.abs(noisy - expected).max() <= 0.7


@pytest.mark.parametrize("sigma", [0.2, 0.6, 1, 1.5, 2, 3, 4, 6, 12, 20, 50])
@pytest.mark.parametrize("shape", [(65, 90, 3), (120, 66, 1), (2, 80, 3), (1, 65, 1), (70, 3, 2)])
def test_gaussian_blur__is_scipys_for_large_images(sigma, shape):
    images = looked_at(*shape)
    noisy, expected = GaussianBlur(sigma=sigma)(images, IDS), gaussian(images, sigma)
    assert far_apart(noisy, expected) <= 1
    if sigma <= 6:  # little more than the rounding at the end; a kernel that ended at 3 sigma would show
        assert np.abs(noisy - expected).max() <= 0.7


@pytest.mark.parametrize("sigma", [0.5, 1, 3, 6])
@pytest.mark.parametrize("channels", [1, 3])
def test_gaussian_blur__small_and_large_images_agree(sigma, channels):
    wide, reach = looked_at(64, 65, channels), int(4 * sigma + 0.5)
    small, large = (GaussianBlur(sigma=sigma)(images, IDS) for images in (wide[:, :, :64], wide))
    np.testing.assert_array_equal(small[:, :, : 64 - reach], large[:, :, : 64 - reach])


@lru_cache(maxsize=32)
def disk(radius: float, softness: float) -> np.ndarray:
    """The kernel of ImageNet-C in float64, on a grid that cuts nothing off."""
    margin = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + margin
    at = np.arange(-reach, reach + 1)
    sharp = (at[:, None] ** 2 + at**2 <= radius**2).astype(float)
    weights = np.exp(-0.5 * (np.arange(-margin, margin + 1) / softness) ** 2)
    weights /= weights.sum()
    return ndimage.correlate(sharp / sharp.sum(), np.outer(weights, weights), mode="constant")


def defocused(images: np.ndarray, radius: float, softness: float) -> np.ndarray:
    kernel = disk(radius, softness)
    assert kernel.sum() == pytest.approx(1)
    return ndimage.correlate(images.astype(float), kernel[None, :, :, None], mode="nearest")


@pytest.mark.parametrize(
    ("radius", "softness"),
    [
        (3, 0.1),
        (4, 0.5),
        (6, 0.5),
        (8, 0.5),
        (10, 0.5),
        (1, 1),
        (1.5, 0.3),
        (2.9, 1),
        (7.07, 0.7),
        (8.5, 1),
        (12.3, 0.01),
    ],
)
@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 33, 3), (1, 1, 3), (2, 30, 1), (3, 2, 2)])
def test_defocus_blur__is_a_convolution_with_the_disk(radius, softness, shape):
    images = looked_at(*shape)
    noisy = DefocusBlur(radius=radius, softness=softness)(images, IDS)
    assert far_apart(noisy, defocused(images, radius, softness)) <= 1


@pytest.mark.parametrize(
    ("radius", "shape"), [(50, (24, 90, 1)), (49.9, (1, 1, 1)), (30, (3, 70, 1)), (9, (70, 70, 1))]
)
def test_defocus_blur__wide_disks(radius, shape):
    images = looked_at(*shape)
    noisy = DefocusBlur(radius=radius, softness=1)(images, IDS)
    assert far_apart(noisy, defocused(images, radius, 1)) <= 1


def test_defocus_blur__one_point_becomes_the_disk():
    image = np.zeros((1, 41, 41, 1), np.uint8)
    image[0, 20, 20] = 255
    spread = DefocusBlur(radius=3, softness=1e-3)(image, IDS[:1])[0, :, :, 0]
    y, x = np.mgrid[-20:21, -20:21]
    inside = x**2 + y**2 <= 9
    assert inside.sum() == 29  # the lattice points of a circle of radius 3, OEIS A000328
    np.testing.assert_array_equal(spread, np.where(inside, round(255 / 29), 0))


@pytest.mark.parametrize("radius", [*range(1, 51), 4.5, 8.01])
def test_defocus_blur__white_stays_white(radius):
    images = np.full((1, 8, 70, 1), 255, np.uint8)
    assert (DefocusBlur(radius=radius, softness=0.5)(images, IDS[:1]) == 255).all()


def traced(images: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Motion blur as ImageMagick describes it: a half Gaussian along a line, its places rounded to whole pixels."""
    height, width = images.shape[1:3]
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    total = np.zeros(images.shape)
    for step, weight in enumerate(weights / weights.sum()):
        down, right = math.ceil(step * math.sin(angle) - 0.5), math.ceil(step * math.cos(angle) - 0.5)
        rows = np.clip(np.arange(height) + down, 0, height - 1)
        columns = np.clip(np.arange(width) + right, 0, width - 1)
        total += weight * images[:, rows[:, None], columns]
    return total


ANGLES = np.radians((np.arange(64) + 0.5) * 90 / 64 - 45)


@pytest.mark.parametrize(
    ("radius", "sigma"), [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15), (1, 1), (50, 100), (3, 0.2)]
)
@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 70, 3), (1, 1, 3), (2, 9, 1)])
def test_motion_blur__is_a_trace_at_one_of_the_angles(radius, sigma, shape):
    images = looked_at(*shape)
    noisy = MotionBlur(radius=radius, sigma=sigma)(images, IDS)
    apart = [np.abs(noisy - np.rint(traced(images, radius, sigma, angle))).max(axis=(1, 2, 3)) for angle in ANGLES]
    assert np.min(apart, axis=0).max() <= 1


def test_motion_blur__all_angles_between_45_degrees_up_and_down_are_equally_likely():
    images = np.zeros((3200, 101, 101, 1), np.uint8)
    images[:, 50, 50] = 255
    noisy = MotionBlur(radius=25, sigma=100)(images, np.arange(3200))[..., 0]
    # A trace of whole pixels of its own for each angle.
    traces = [np.rint(traced(images[:1], 25, 100, angle)).astype(np.uint8).tobytes() for angle in ANGLES]
    assert len(set(traces)) == 64
    counts = np.bincount([traces.index(image.tobytes()) for image in noisy], minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-3
    # A line as long as it should be, through its far end: the angle itself, from the picture alone.
    found = []
    for image in noisy[:500]:
        rows, columns = np.nonzero(image)
        end = np.hypot(rows - 50, columns - 50).argmax()
        assert np.hypot(rows[end] - 50, columns[end] - 50) == pytest.approx(50, abs=1)
        found.append(np.degrees(np.arctan2(50 - rows[end], 50 - columns[end])))
    assert stats.kstest(found, stats.uniform(-45, 90).cdf).pvalue > 1e-3


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_motion_blur__white_stays_white(severity):
    images = np.full((200, 28, 28, 1), 255, np.uint8)
    assert (MotionBlur(severity)(images, np.arange(200)) == 255).all()


@pytest.mark.parametrize("kind", [GaussianBlur, DefocusBlur, MotionBlur])
@pytest.mark.parametrize("side", [40, 80])
def test_blur__keeps_the_mean(kind, side):
    images = fading(side, side, 3)  # black at the edge, so nothing leaves
    noisy = kind(1)(images, IDS)
    assert abs(noisy.mean() - images.mean()) < 1.5
    assert (noisy.std(axis=(1, 2, 3)) < images.std(axis=(1, 2, 3))).all()
