from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from scipy import ndimage, stats

from storage.keyed import key_of, uniforms
from tasks.noise import ElasticTransform, HorizontalFlip, RandomCrop, Rotate, Shear, Shift, Zoom
from tasks.noise.elastic import _moved_triangles
from tests.tasks.noise_pictures import correlation, fading, pictures

# Beyond the edge: what scipy calls it.
BORDERS = {"zeros": "grid-constant", "edge": "nearest", "reflect": "mirror"}


def mapped(images: np.ndarray, linear: np.ndarray, border: str) -> np.ndarray:
    """Images read where `linear` (of column and row, about the centre) sends each pixel; by scipy in float64."""
    height, width = images.shape[1:3]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    y, x = np.mgrid[:height, :width]
    columns, rows = np.tensordot(linear, np.stack([x - centre[0], y - centre[1]]), axes=1) + centre[:, None, None]
    planes = images.astype(float).transpose(0, 3, 1, 2).reshape(-1, height, width)
    read = [ndimage.map_coordinates(plane, [rows, columns], order=1, mode=BORDERS[border]) for plane in planes]
    return np.reshape(read, (len(images), images.shape[3], height, width)).transpose(0, 2, 3, 1)


def rotation(degrees: float) -> np.ndarray:
    radians = math.radians(degrees)
    return np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 40, 3), (90, 120, 3)])
@pytest.mark.parametrize(
    ("noise", "one", "other"),
    [
        (Rotate(degrees=20), rotation(20), rotation(-20)),
        (Rotate(5), rotation(math.degrees(1)), rotation(-math.degrees(1))),
        (Rotate(degrees=180), rotation(180), rotation(180)),
        (Shear(slope=0.4), np.array([[1, 0.4], [0, 1]]), np.array([[1, -0.4], [0, 1]])),
        (Shear(slope=3), np.array([[1, 3], [0, 1]]), np.array([[1, -3], [0, 1]])),
        (Zoom(factor=0.5), np.eye(2) * 2, np.eye(2) * 2),
        (Zoom(factor=1.7), np.eye(2) / 1.7, np.eye(2) / 1.7),
        (Zoom(factor=10), np.eye(2) / 10, np.eye(2) / 10),
    ],
    ids=str,
)
def test_warps__are_scipys(noise, one, other, border, shape):
    images = fading(*shape, count=12)
    noise = type(noise)(**{p.name: v for p, v in zip(noise.parameters, noise.strength, strict=True)}, border=border)
    noisy = noise(images, np.arange(12))
    apart = np.array([np.abs(noisy - mapped(images, linear, border)).max(axis=(1, 2, 3)) for linear in (one, other)])
    assert apart.min(axis=0).max() <= 2
    if (one != other).any():  # each way for some, and they differ
        assert apart.max(axis=0).min() > 4
        assert 2 <= (apart[0] < apart[1]).sum() <= 10


@pytest.mark.parametrize("side", [1, 5, 28, 65])
@pytest.mark.parametrize("border", BORDERS)
def test_rotate__quarter_turns_are_exact(side, border):
    images, ids = pictures(side, side, 3, count=20), np.arange(20)
    half = Rotate(degrees=180, border=border)(images, ids)
    np.testing.assert_array_equal(half, images[:, ::-1, ::-1])
    quarter = Rotate(degrees=90, border=border)(images, ids)
    left, right = (np.rot90(images, turns, axes=(1, 2)) for turns in (1, -1))
    goes_left = (quarter == left).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(quarter[~goes_left], right[~goes_left])
    if side > 1:
        assert 4 <= goes_left.sum() <= 16


def slopes(noisy: np.ndarray, radius: int = 16) -> np.ndarray:
    """Rise of each channel along columns and rows around the centre, float64 (n, channel, 2), by least squares."""
    n, height, width, channels = noisy.shape
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    near = x**2 + y**2 <= radius**2
    design = np.stack([x[near], y[near], np.ones(near.sum())], 1)
    found = np.linalg.lstsq(
        design, noisy[:, near].transpose(1, 0, 2).reshape(near.sum(), -1).astype(float), rcond=None
    )[0]
    return found[:2].reshape(2, n, channels).transpose(1, 2, 0)


def ramps(count: int, side: int = 60, rise: int = 3) -> np.ndarray:
    """Red rises along the columns, green along the rows: what is done to coordinates can be read off."""
    y, x = np.mgrid[:side, :side]
    image = np.stack([x, y, 0 * x], axis=-1) * rise + 30
    return np.repeat(image[None].astype(np.uint8), count, 0)


RAMPS = ramps(600)


def angles(noisy: np.ndarray) -> np.ndarray:
    red = slopes(noisy)[:, 0]
    return np.degrees(np.arctan2(-red[:, 1], red[:, 0]))


def test_rotate__by_the_angle_and_either_way():
    found = angles(Rotate(degrees=30, border="edge")(RAMPS, np.arange(600)))
    np.testing.assert_allclose(abs(found), 30, atol=0.2)
    assert stats.binomtest(int((found > 0).sum()), 600).pvalue > 1e-3


def test_rotate__by_any_angle():
    found = angles(Rotate(degrees=30, border="edge", vary=True)(RAMPS, np.arange(600)))
    assert abs(found).max() <= 30.2
    assert stats.kstest(found, stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_shear__by_the_slope_and_either_way():
    found = slopes(Shear(slope=0.5, border="edge")(RAMPS, np.arange(600)))
    np.testing.assert_allclose(abs(found[:, 0, 1] / found[:, 0, 0]), 0.5, atol=0.01)
    np.testing.assert_allclose(found[:, 1], np.tile([0, 3], (600, 1)), atol=0.02)  # rows stay where they are
    assert stats.binomtest(int((found[:, 0, 1] > 0).sum()), 600).pvalue > 1e-3


def test_shear__by_any_slope():
    red = slopes(Shear(slope=0.5, border="edge", vary=True)(RAMPS, np.arange(600)))[:, 0]
    assert abs(red[:, 1] / red[:, 0]).max() <= 0.51
    assert stats.kstest(red[:, 1] / red[:, 0], stats.uniform(-0.5, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.5, 4])
def test_zoom__by_the_factor(factor):
    found = slopes(Zoom(factor=factor)(RAMPS[:3], np.arange(3)), radius=12)
    np.testing.assert_allclose(found[:, (0, 1), (0, 1)], 3 / factor, rtol=0.01)
    assert Zoom(factor=factor).random is False


@pytest.mark.parametrize(("factor", "radius"), [(0.5, 14), (1.5, 29)])
def test_zoom__by_any_factor(factor, radius):
    noise = Zoom(factor=factor, vary=True, border="edge")
    assert noise.random is True
    found = 3 / slopes(noise(RAMPS, np.arange(600)), radius)[:, 0, 0]
    low, high = sorted((1, factor))
    assert found.min() >= low - 0.01
    assert found.max() <= high + 0.01
    assert stats.kstest(found, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize("factor", [1e-3, 1e-7, 5e-324])
def test_zoom__to_less_than_a_pixel(factor):
    # Places are further away than int32 counts. The corner of four pixels is the centre: nothing of them is left.
    images = np.full((2, 28, 28, 1), 200, np.uint8)
    assert not Zoom(factor=factor)(images, np.arange(2)).any()
    assert (Zoom(factor=factor, border="edge")(images, np.arange(2)) == 200).all()


def test_zoom__one_leaves_images_alone():
    images = pictures(30, 41, 3)
    np.testing.assert_array_equal(Zoom(factor=1)(images, np.arange(12)), images)


def shifted(image: np.ndarray, down: int, right: int, border: str) -> np.ndarray:
    """Rolled in a wider picture, whose margin NumPy filled."""
    reach = max(image.shape[:2])
    mode = {"zeros": "constant", "edge": "edge", "reflect": "reflect"}[border]
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode=mode)
    return np.roll(wide, (down, right), axis=(0, 1))[reach:-reach, reach:-reach]


def steps(noise: Shift, height: int, width: int, count: int) -> np.ndarray:
    """How far down and right each copy was moved, by looking for it; exactly one place must fit."""
    image = np.random.default_rng(0).integers(1, 256, (height, width, 1), dtype=np.uint8)
    noisy = noise(np.repeat(image[None], count, 0), np.arange(count))
    ways = [(down, right) for down in range(-height, height + 1) for right in range(-width, width + 1)]
    known = {}
    for way in ways:
        known.setdefault(shifted(image, *way, noise.border).tobytes(), way)
    return np.array([known[found.tobytes()] for found in noisy])


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_shift__rolls_and_fills(border, severity):
    found = steps(Shift(severity, border=border), 28, 14, 200)
    np.testing.assert_array_equal(abs(found), np.tile([severity, np.rint(severity / 2)], (200, 1)))
    for axis in (0, 1):
        if found[:, axis].any():
            assert stats.binomtest(int((found[:, axis] > 0).sum()), 200).pvalue > 1e-3
    assert len(np.unique(found, axis=0)) == (4 if found[:, 1].any() else 2)


@pytest.mark.parametrize("border", BORDERS)
def test_shift__by_any_number_of_pixels(border):
    found = steps(Shift(share=0.25, border=border, vary=True), 16, 12, 1500)
    for axis, most in ((0, 4), (1, 3)):
        counts = np.bincount(found[:, axis] + most, minlength=2 * most + 1)
        # Rounded: the ends are half as likely as the others.
        expected = np.r_[0.5, np.ones(2 * most - 1), 0.5] / (2 * most) * 1500
        assert stats.chisquare(counts, expected).pvalue > 1e-3
    assert correlation(*found.T) < 4


def test_shift__all_the_way():
    images = pictures(9, 7, 3)
    assert not Shift(share=1)(images, np.arange(12)).any()


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_horizontal_flip__some_exactly_and_the_others_not(severity):
    images = pictures(11, 8, 3, count=1000)
    noise = HorizontalFlip(severity)
    noisy = noise(images, np.arange(1000))
    flipped = (noisy == images[:, :, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(noisy[~flipped], images[~flipped])
    assert stats.binomtest(int(flipped.sum()), 1000, noise.strength[0]).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(28, 28, 1), (300, 200, 3), (1, 1, 1), (1, 6, 3), (6, 1, 1)])
def test_horizontal_flip__all(shape):
    images = pictures(*shape, count=5)
    np.testing.assert_array_equal(HorizontalFlip(p=1)(images, np.arange(5)), images[:, :, ::-1])


def coded(height: int, width: int, count: int) -> np.ndarray:
    """Red tells the row and green the column of a pixel; blue is a photograph."""
    y, x = np.mgrid[:height, :width]
    images = pictures(height, width, 3, count=count)
    images[..., 0], images[..., 1] = 2 * y, 2 * x
    return images


def enlarged(window: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, pixels as areas, by scipy in float64."""
    rows = (np.arange(height) + 0.5) * window.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * window.shape[1] / width - 0.5
    places = np.meshgrid(rows, columns, indexing="ij")
    read = [
        ndimage.map_coordinates(plane.astype(float), places, order=1, mode="nearest")
        for plane in window.T.swapaxes(1, 2)
    ]
    return np.stack(read, axis=-1)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.31, 0.03])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (64, 20), (7, 64), (80, 70), (3, 100)])
def test_random_crop__is_a_window_enlarged(share, height, width):
    images = coded(height, width, 20)
    noisy = RandomCrop(share=share)(images, np.arange(20))
    high, wide = max(1, round(height * share)), max(1, round(width * share))
    # The corner pixel is the window's own: it tells where the window lay.
    corners = noisy[:, 0, 0, :2].astype(int) // 2
    for image, found, (top, left) in zip(images, noisy, corners, strict=True):
        assert top + high <= height
        assert left + wide <= width
        expected = enlarged(image[top : top + high, left : left + wide], height, width)
        assert np.abs(found - expected).max() <= 1.01


@pytest.mark.parametrize(("height", "width"), [(28, 28), (100, 90), (1, 1), (65, 2)])
@pytest.mark.parametrize("vary", [False, True])
def test_random_crop__all_of_it_is_the_image(height, width, vary):
    images = pictures(height, width, 3, count=6)
    np.testing.assert_array_equal(RandomCrop(share=1, vary=vary)(images, np.arange(6)), images)


@pytest.mark.parametrize("side", [20, 66])
def test_random_crop__windows_lie_anywhere(side):
    images = np.repeat(coded(side, side, 1), 1200, 0)
    corners = RandomCrop(share=0.8)(images, np.arange(1200))[:, 0, 0, :2].astype(int) // 2
    for place in corners.T:
        assert stats.chisquare(np.bincount(place, minlength=side - round(side * 0.8) + 1)).pvalue > 1e-3
    assert correlation(*corners.T) < 4


@pytest.mark.parametrize("side", [40, 66])
def test_random_crop__windows_of_any_size(side):
    images = np.repeat(coded(side, side, 1), 800, 0)
    noisy = RandomCrop(share=0.4, vary=True)(images, np.arange(800)).astype(int)
    first, last = noisy[:, 0, 0, :2] // 2, noisy[:, -1, -1, :2] // 2
    windows = last - first + 1
    np.testing.assert_array_equal(windows[:, 0], windows[:, 1])
    assert windows.min() >= round(side * 0.4)
    assert windows.max() <= side
    assert windows.mean() == pytest.approx(0.7 * side, abs=4 * 0.6 * side / math.sqrt(12 * 800))
    assert windows.std() == pytest.approx(0.6 * side / math.sqrt(12), rel=0.1)


def displacements(noise: ElasticTransform, count: int, side: int = 60, rise: int = 3) -> np.ndarray:
    """How far each pixel's column and row was read from elsewhere, float64 (n, side, side, 2), rounded to 1 / rise."""
    images = ramps(count, side, rise)
    return (noise(images, np.arange(count))[..., :2].astype(float) - images[..., :2]) / rise


@pytest.mark.parametrize(("sigma", "alpha"), [(1.5, 6), (2, 12), (3, 20), (4, 40)])
def test_elastic_transform__displacements_are_smoothed_uniform_noise(sigma, alpha):
    noise = ElasticTransform(alpha=alpha / 60, sigma=sigma / 60, affine=0, border="edge")
    moved = displacements(noise, 60)[:, 16:-16, 16:-16]
    # Noise of variance 1/3, smoothed by a Gaussian in two dimensions, has 1 / (4 pi sigma^2) of it left.
    expected = alpha * math.sqrt(1 / 3) / (2 * sigma * math.sqrt(math.pi))
    assert 0.6 < expected < 2.5
    assert moved.var() == pytest.approx(expected**2 + 1 / 12 / 9, rel=0.1)
    # As many independent values as patches of 4 pi sigma^2 pixels.
    patches = moved[..., 0].size / (4 * math.pi * sigma**2)
    assert (abs(moved.mean(axis=(0, 1, 2))) < 4 * expected / math.sqrt(patches)).all()
    columns, rows = moved[..., 0], moved[..., 1]
    assert abs(np.corrcoef(columns.ravel(), rows.ravel())[0, 1]) < 4 / math.sqrt(patches)
    # The correlation over a distance d is exp(-d^2 / (4 sigma^2)).
    for distance in (1, 2, 4):
        found = np.corrcoef(columns[:, :, distance:].ravel(), columns[:, :, :-distance].ravel())[0, 1]
        assert found == pytest.approx(math.exp(-(distance**2) / (4 * sigma**2)), abs=0.08)


def test_elastic_transform__without_affine_map_pictures_stay_in_place():
    images = np.pad(fading(30, 30, 3, count=100), ((0, 0), (10, 10), (10, 10), (0, 0)))
    noisy = ElasticTransform(alpha=1, sigma=0.08, affine=0)(images, np.arange(100))
    assert np.abs(noisy.astype(float) - images).mean() > 2
    assert abs(noisy.mean() - images.mean()) < 0.5
    moved = displacements(ElasticTransform(alpha=1, sigma=0.08, affine=0, border="edge"), 200)
    assert abs(moved[:, 16:-16, 16:-16].mean()) < 0.1


def test_elastic_transform__nearly_nothing_is_nothing():
    images = pictures(33, 40, 3)
    np.testing.assert_array_equal(ElasticTransform(alpha=1e-6, sigma=0.1, affine=0)(images, np.arange(12)), images)


@pytest.mark.parametrize("affine", [0.02, 0.1])
def test_elastic_transform__affine_maps_of_moved_points(affine):
    noise = ElasticTransform(alpha=1e-6, sigma=0.1, affine=affine, border="edge")
    moved = displacements(noise, 300)
    # What is read at the drawn place of a point is the point: fit the map, and turn it round.
    y, x = np.mgrid[20:41, 20:41]
    design = np.stack([x.ravel(), y.ravel(), np.ones(441)], 1)
    read = moved[:, 20:41, 20:41] + np.stack([x, y], -1)
    fitted = np.linalg.lstsq(design, read.reshape(300, 441, 2).transpose(1, 0, 2).reshape(441, -1), rcond=None)[0]
    maps = fitted.reshape(3, 300, 2).transpose(1, 2, 0)
    points = np.array([[50.0, 50], [50, 10], [10, 10]])
    drawn = np.array([cv2.transform(points[None], cv2.invertAffineTransform(each))[0] for each in maps])
    by = (drawn - points) / 60
    assert abs(by).max() <= affine + 0.01
    for place in by.reshape(300, 6).T:
        assert stats.kstest(place, stats.uniform(-affine - 0.002, 2 * affine + 0.004).cdf).pvalue > 1e-4


def test_elastic_transform__affine_map_and_displacements_are_independent():
    # A noise that is nearly not smoothed, and the map alone, of the same samples.
    rough = displacements(ElasticTransform(alpha=0.1, sigma=0.005, affine=0, border="edge"), 800)[:, 0, 1:49]
    turned = displacements(ElasticTransform(alpha=1e-6, sigma=0.1, affine=0.1, border="edge"), 800)
    for y, x in ((30, 30), (20, 40), (40, 20)):
        for one in turned[:, y, x].T:
            for other in rough[..., 0].T:
                assert correlation(one, other) < 4.5


def test_moved_triangles__undo_opencvs_affine_map():
    draws = np.random.default_rng(0).random((200, 6))
    maps = _moved_triangles(draws, 6.0, 60, 80)
    points = np.array([[40, 30], [40, 30], [40, 30]]) + 20 * np.array([[1, 1], [1, -1], [-1, -1]])
    for draw, found in zip(draws, maps, strict=True):
        moved = points + 6 * (2 * draw.reshape(3, 2) - 1)
        forth = cv2.getAffineTransform(points.astype(np.float32), moved.astype(np.float32))
        np.testing.assert_allclose(found, cv2.invertAffineTransform(forth), atol=1e-4)


def test_elastic_transform__triangles_moved_to_nearly_a_line():
    # One image of some 200,000 at severity 2: its map reads further away than int32 counts.
    images, ids, noise = pictures(224, 224, 1, count=1), np.arange(400_000), ElasticTransform(2)
    draws = uniforms(key_of(noise._key(0, 0), "affine"), ids, 6)
    largest = np.abs(_moved_triangles(draws, 0.2 * 224, 224, 224)).max(axis=(1, 2))
    assert largest.max() * 224 * 32_768 > 2**31
    assert noise(images, ids[[largest.argmax()]]).shape == images.shape


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(64, 60, 3), (28, 28, 1)])
def test_elastic_transform__blocks_change_nothing(severity, shape):
    count = 40 if shape[0] == 64 else 200
    images, ids = pictures(*shape, count=count), np.arange(count)
    noise = ElasticTransform(severity)
    together = noise(images, ids)
    for i in range(7):
        np.testing.assert_array_equal(together[i::7], noise(images[i::7], ids[i::7]))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 3), (1, 20, 1), (2, 3, 1), (3, 3, 3)])
def test_elastic_transform__tiny_images(shape):
    images = np.random.default_rng(0).integers(0, 256, (50, *shape), dtype=np.uint8)
    for severity in range(1, 6):
        noisy = ElasticTransform(severity)(images, np.arange(50))
        assert (noisy >= images.min(axis=(1, 2), keepdims=True)).all()
        assert (noisy <= images.max(axis=(1, 2), keepdims=True)).all()
