from __future__ import annotations

import numpy as np
import pytest

from tasks.noise.warp import BORDERS, _warp_blocks, about_centre, warp
from tests.tasks.noise_pictures import pictures


def looked_at(count: int, height: int, width: int, channels: int) -> np.ndarray:
    """Noise: every wrong neighbour and every wrong rounding shows."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def neighbour(images: np.ndarray, rows: np.ndarray, columns: np.ndarray, border: str) -> np.ndarray:
    """Pixels at whole places, beyond the edge too, int64 (n, height, width, channel)."""
    outside = np.zeros(rows.shape, bool)
    places = []
    for at, side in ((rows, images.shape[1]), (columns, images.shape[2])):
        outside |= (at < 0) | (at >= side)
        if border == "reflect" and side > 1:  # 2 1 0 1 2 ... without the edge twice
            at = at % (2 * side - 2)
            at = np.where(at >= side, 2 * side - 2 - at, at)
        places.append(np.clip(at, 0, side - 1))
    found = images[np.arange(len(images))[:, None, None], places[0], places[1]].astype(np.int64)
    if border == "zeros":
        found[outside] = 0
    return found


def bilinear(images, matrices, border, displacement=None) -> np.ndarray:
    """The rule, in whole numbers: places to 1/32 of a pixel, weights to 1/1,024, halves upwards.

    A place is a sum of two terms, each rounded to 1/32,768, and is then rounded to 1/32, halves upwards.
    """
    height, width = images.shape[1:3]
    places = []
    for axis in (0, 1):
        across, down, shift = matrices[:, axis].T[:, :, None, None] * 32_768
        term = np.rint(across * np.arange(width)).astype(np.int64)
        other = np.rint(down * np.arange(height)[:, None] + shift).astype(np.int64)
        place = (term + other + 512) // 1024
        places.append(place if displacement is None else place + displacement[:, axis])
    columns, rows = places
    x, y = columns // 32, rows // 32
    fx, fy = (columns % 32)[..., None], (rows % 32)[..., None]
    total = (
        (32 - fy) * (32 - fx) * neighbour(images, y, x, border)
        + (32 - fy) * fx * neighbour(images, y, x + 1, border)
        + fy * (32 - fx) * neighbour(images, y + 1, x, border)
        + fy * fx * neighbour(images, y + 1, x + 1, border)
    )
    return (total + 512) // 1024


def any_maps(count: int, height: int, width: int) -> np.ndarray:
    """Maps that turn, stretch, shear and move a lot, in part far out of the image."""
    rng = np.random.default_rng(1)
    linear = np.eye(2) + rng.normal(scale=0.7, size=(count, 2, 2))
    return about_centre(linear, height, width, rng.normal(scale=0.4, size=(count, 2)) * (width, height))


SHAPES = [(28, 28, 1), (28, 28, 3), (1, 1, 1), (2, 2, 3), (1, 40, 3), (33, 1, 1), (5, 90, 3), (224, 200, 3)]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_warp__bytes_are_those_of_the_rule(border, shape):
    images = looked_at(9, *shape)
    matrices = any_maps(9, *shape[:2])
    np.testing.assert_array_equal(warp(images, matrices, border), bilinear(images, matrices, border))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_warp__with_displacement(border, shape):
    images = looked_at(5, *shape)
    matrices = any_maps(5, *shape[:2])
    moved = np.random.default_rng(2).integers(-4000, 4000, (5, 2, *shape[:2]), dtype=np.int32)
    np.testing.assert_array_equal(warp(images, matrices, border, moved), bilinear(images, matrices, border, moved))


@pytest.mark.parametrize("border", BORDERS)
def test_warp__every_fraction_of_a_pixel(border):
    # 32 x 32 images, each moved by its own fraction.
    images = looked_at(1024, 6, 7, 3)
    y, x = np.divmod(np.arange(1024), 32)
    matrices = about_centre(np.tile(np.eye(2), (1024, 1, 1)), 6, 7, np.stack([x, y], 1) / 32)
    noisy = warp(images, matrices, border)
    np.testing.assert_array_equal(noisy, bilinear(images, matrices, border))
    np.testing.assert_array_equal(noisy[0], images[0])


@pytest.mark.parametrize("border", BORDERS)
def test_warp__many_images_make_many_blocks(border):
    images = looked_at(400, 28, 28, 1)
    matrices = any_maps(400, 28, 28)
    noisy = warp(images, matrices, border)
    np.testing.assert_array_equal(noisy, bilinear(images, matrices, border))
    order = np.random.default_rng(0).permutation(400)
    np.testing.assert_array_equal(warp(images[order], matrices[order], border), noisy[order])


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (200, 210, 1)])
def test_warp__images_that_share_maps_give_the_same_bytes(border, shape):
    count = 150 if shape[0] < 100 else 8
    images = looked_at(count, *shape)
    matrices = any_maps(3, *shape[:2])[np.random.default_rng(3).integers(0, 3, count)]
    # A few maps are made once each; the other way makes one for each image.
    together = warp(images, matrices, border)
    np.testing.assert_array_equal(together, _warp_blocks(images, matrices, border, None))
    np.testing.assert_array_equal(together, bilinear(images, matrices, border))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("scale", [1e3, 1e5, 1e9, -1e11])
def test_warp__places_further_away_than_int32_counts(border, scale):
    images = looked_at(4, 28, 28, 3)
    matrices = any_maps(4, 28, 28) * scale
    np.testing.assert_array_equal(warp(images, matrices, border), bilinear(images, matrices, border))


def test_warp__a_wild_map_changes_no_other_image():
    images = looked_at(20, 28, 28, 1)
    matrices = any_maps(20, 28, 28)
    calm = warp(images, matrices, "zeros")
    matrices[7] *= 1e7
    np.testing.assert_array_equal(np.delete(warp(images, matrices, "zeros"), 7, 0), np.delete(calm, 7, 0))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(1, 20_000, 1), (20_000, 1, 3), (1200, 3, 1)])
def test_warp__long_images(border, shape):
    images = looked_at(2, *shape)
    matrices = about_centre(np.tile(np.eye(2) * 1.01, (2, 1, 1)), *shape[:2], 3.3)
    np.testing.assert_array_equal(warp(images, matrices, border), bilinear(images, matrices, border))


def test_warp__too_long_images():
    with pytest.raises(ValueError, match=r"^expected images of at most 32,000 pixels a side, received 1 x 32001$"):
        warp(np.zeros((1, 1, 32_001, 1), np.uint8), np.eye(2, 3)[None], "zeros")


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("side", [1, 2, 27, 28, 70])
def test_warp__quarter_turns_are_exact(border, side):
    images = pictures(side, side, 3, count=8)
    for turns in range(4):
        angle = np.radians(90 * turns)
        linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        noisy = warp(images, about_centre(np.tile(linear, (8, 1, 1)), side, side), border)
        np.testing.assert_array_equal(noisy, np.rot90(images, turns, axes=(1, 2)))


def test_about_centre__keeps_the_centre_where_it_is():
    linear = np.random.default_rng(0).normal(size=(5, 2, 2))
    maps = about_centre(linear, 31, 20, np.array([[1.0, -2.0]] * 5))
    centre = np.array([9.5, 15])
    np.testing.assert_allclose(maps @ [*centre, 1], np.tile(centre + np.array([1, -2]), (5, 1)))
    np.testing.assert_array_equal(maps[:, :, :2], linear)
