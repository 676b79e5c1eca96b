from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tasks.noise import JpegCompression, Pixelate
from tests.tasks.noise_pictures import pictures, psnr

IDS = np.arange(3)


def saved(image: np.ndarray, quality: int) -> np.ndarray:
    """Written by Pillow as JPEG with colours of half resolution, and read again."""
    file = io.BytesIO()
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file)).reshape(image.shape)


@pytest.mark.parametrize("quality", [1, 7, 10, 15, 18, 25, 50, 90, 100])
@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (33, 47, 3), (17, 8, 1), (1, 1, 3), (1, 1, 1), (3, 90, 3)])
def test_jpeg_compression__is_pillows(quality, shape):
    images = pictures(*shape, count=3)
    noisy = JpegCompression(quality=quality)(images, IDS)
    expected = np.stack([saved(image, quality) for image in images]).astype(int)
    apart = abs(noisy - expected)
    assert apart.mean() < 1
    assert apart.max() <= 16  # two builds of libjpeg-turbo, whose upsampling may differ


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 30)])
def test_jpeg_compression__a_plain_colour_stays(colour):
    images = np.full((1, 24, 24, 3), colour, np.uint8)
    assert abs(JpegCompression(quality=90)(images, IDS[:1]).astype(int) - images).max() <= 4
    assert abs(JpegCompression(1)(images, IDS[:1]).astype(int) - images).max() <= 20


def test_jpeg_compression__grey_stays_grey_and_full_quality_is_close():
    images = pictures(40, 40, 1, count=3)
    assert abs(JpegCompression(quality=100)(images, IDS).astype(int) - images).max() <= 2
    triple = images.repeat(3, 3)
    noisy = JpegCompression(1)(triple, IDS)
    assert (noisy == noisy[..., :1]).all()


def test_jpeg_compression__quality_orders_psnr():
    images = pictures(64, 64, 3, count=3)
    found = [psnr(JpegCompression(quality=q)(images, IDS), images) for q in (1, 5, 10, 20, 40, 60, 80, 95, 100)]
    assert (np.diff(found) > 0).all()


def test_jpeg_compression__refuses_what_the_format_cannot_hold():
    with pytest.raises(
        ValueError, match=r"expected images of at most 65,500 pixels a side for JPEG, received \(1, 65501\)"
    ):
        JpegCompression(1)(np.zeros((1, 1, 65_501, 1), np.uint8), IDS[:1])


def boxed(image: np.ndarray, high: int, wide: int) -> np.ndarray:
    """There and back by Pillow's box filter, rows first."""
    height, width = image.shape[:2]
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    small = picture.resize((wide, height), Image.Resampling.BOX).resize((wide, high), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)).reshape(image.shape)


SHARES = [0.6, 0.5, 0.4, 0.3, 0.25, 0.99, 0.77, 0.01, 1]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixelate__bytes_are_pillows(share, channels):
    # Up to 64 pixels a side by matrices, beyond by Pillow itself.
    for side in [*range(1, 65), 65, 70, 96, 131]:
        images = np.random.default_rng(side).integers(0, 256, (1, side, side, channels), dtype=np.uint8)
        less = max(1, int(side * share))
        picture = Image.fromarray(images[0] if channels == 3 else images[0, ..., 0])
        both = picture.resize((less, less), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)
        noisy = Pixelate(share=share)(images, IDS[:1])
        np.testing.assert_array_equal(noisy[0], np.asarray(both).reshape(images.shape[1:]), err_msg=f"{side}")


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("shape", [(20, 64, 3), (64, 7, 1), (1, 50, 3), (50, 1, 1), (30, 100, 3), (100, 30, 1)])
def test_pixelate__images_that_are_not_square(share, shape):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    high, wide = (max(1, int(side * share)) for side in shape[:2])
    noisy = Pixelate(share=share)(images, IDS)
    np.testing.assert_array_equal(noisy, np.stack([boxed(image, high, wide) for image in images]))
    assert noisy[0, ..., 0].size >= high * wide >= len(np.unique(noisy[0, ..., 0]))


def test_pixelate__whole_cells_are_means():
    images = pictures(32, 48, 3, count=3)
    cells = images.reshape(3, 8, 4, 12, 4, 3).mean(axis=(2, 4))
    noisy = Pixelate(5)(images, IDS)  # a quarter
    assert (noisy.reshape(3, 8, 4, 12, 4, 3) == noisy[:, ::4, ::4].reshape(3, 8, 1, 12, 1, 3)).all()
    assert np.abs(noisy[:, ::4, ::4] - cells).max() <= 1.01
    np.testing.assert_array_equal(Pixelate(share=1)(images, IDS), images)
