"""What every image noise promises. Whatever image noise the catalogue names is tested here."""

from __future__ import annotations

import math
import re
from itertools import combinations

import numpy as np
import pytest

from tasks import noise as catalogue
from tasks.noise.graded import Graded, ImageNoise
from tests.tasks.noise_pictures import correlation, pictures, psnr

EXPORTED = [getattr(catalogue, name) for name in catalogue.__all__]
KINDS = [kind for kind in EXPORTED if isinstance(kind, type) and issubclass(kind, ImageNoise)]
RANDOM = [kind(3) for kind in KINDS if kind(3).random is True] + [catalogue.Zoom(3, vary=True)]

# Hendrycks and Dietterich 2019, github.com/hendrycks/robustness, ImageNet-C/create_c/make_imagenet_c.py.
IMAGENET_C = {
    "Gaussian": (0.08, 0.12, 0.18, 0.26, 0.38),
    "Shot": (60, 25, 12, 5, 3),
    "SaltAndPepper": (0.03, 0.06, 0.09, 0.17, 0.27),
    "Speckle": (0.15, 0.2, 0.35, 0.45, 0.6),
    "GaussianBlur": (1, 2, 3, 4, 6),
    "DefocusBlur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "MotionBlur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "Contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "Brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "Saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    "JpegCompression": (25, 18, 15, 10, 7),
    "Pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    # There in pixels: the shares that its code multiplies by 244.
    "ElasticTransform": ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
}
# Mu and Gilmer 2019, github.com/google-research/mnist-c, corruptions.py.
MNIST_C = {
    "Shift": [pixels / 28 for pixels in (1, 2, 3, 4, 5)],
    "Rotate": [math.degrees(radians) for radians in (0.2, 0.4, 0.6, 0.8, 1.0)],
    "Shear": [math.tan(radians) for radians in (0.2, 0.4, 0.6, 0.8, 1.0)],
    # There as what coordinates are multiplied by: 1 / 0.9 and so on.
    "Zoom": [0.9, 0.8, 0.7, 0.6, 0.5],
}
OURS = {"Gamma", "HorizontalFlip", "RandomCrop", "RandomErasing"}
# First less colour, then more; first wide waves, then ever rougher ones.
NOT_MONOTONE = {"Saturate", "ElasticTransform"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_severities__are_the_published_ones(kind):
    published = IMAGENET_C | MNIST_C
    assert (kind.__name__ in published) != (kind.__name__ in OURS)
    if kind.__name__ in published:
        found = [kind(severity).strength for severity in range(1, 6)]
        expected = [row if isinstance(row, tuple) else (row,) for row in published[kind.__name__]]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("side", "channels", "shrink"), [(28, 1, 4), (64, 3, 2)])
def test_severities__lower_psnr(kind, side, channels, shrink):
    if kind.__name__ in NOT_MONOTONE or (kind.colour and channels == 1):
        return
    # Of 28 pixels 14 are left at severity 2, which is kinder than the uneven 16 at severity 1: as in MNIST-C.
    first = 2 if kind is catalogue.Pixelate and side == 28 else 1
    images = pictures(side, side, channels, count=60, shrink=shrink)
    found = [psnr(kind(severity)(images, np.arange(60)), images) for severity in range(first, 6)]
    assert (np.diff(found) < 0).all(), found
    assert found[0] > 8


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (2, 2, 3), (7, 1, 1), (1, 9, 3), (5, 3, 1), (70, 3, 1)])
def test_call__any_size(kind, shape):
    if kind.colour and shape[2] != 3:
        return
    images = pictures(*shape, count=3)
    for severity in (1, 2, 5):
        noise = kind(severity)
        noisy = noise(images, np.arange(3))
        assert (noisy.shape, noisy.dtype) == (images.shape, np.uint8)
        for i in range(3):
            np.testing.assert_array_equal(noisy[i : i + 1], noise(images[i : i + 1], np.array([i])))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_call__large_images(kind):
    images = pictures(224, 224, 3, count=2)
    noise = kind(5)
    noisy = noise(images, np.arange(2))
    assert noisy.shape == images.shape
    np.testing.assert_array_equal(noisy[1:], noise(images[1:], np.array([1])))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_call__channels_that_it_cannot_do(kind, channels):
    images, noise = np.full((2, 8, 9, channels), 100, np.uint8), kind(3)
    if kind.colour:
        message = (
            f"expected colour images (3 channels) for {noise}, received {channels} channels; leave it out for grey "
            "images"
        )
    elif kind.channels and channels not in kind.channels:
        message = f"expected images of 1 or 3 channels for {noise}, received {channels} channels; drop the others first"
    else:
        assert noise(images, np.arange(2)).shape == images.shape
        return
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        noise(images, np.arange(2))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (0, 5, 5, 3), (0, 0, 0, 3)])
def test_call__images_without_pixels(kind, shape):
    images = np.empty(shape, np.uint8)
    noisy = kind(5)(images, np.arange(shape[0]))
    assert (noisy.shape, noisy.dtype) == (shape, np.uint8)
    assert noisy is not images


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("height", "width"), [(12, 17), (66, 40)])
def test_call__views_in_any_memory_order(kind, height, width):
    images = pictures(height, width, 3, count=4)
    noise, expected = kind(3), kind(3)(images, np.arange(4))
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    wide = np.concatenate([images, images], axis=3)[..., :3]
    for view in (np.asfortranarray(images), images[:, ::-1][:, ::-1].copy()[:], planes, wide, images.repeat(2, 0)[::2]):
        before = view.copy()
        np.testing.assert_array_equal(noise(view, np.arange(4)), expected)
        np.testing.assert_array_equal(view, before)


@pytest.fixture(scope="module")
def drawn() -> dict[tuple[str, int, int], np.ndarray]:
    """Every random noise, of three addresses, on many copies of one picture: what became of each, in a few numbers."""
    picture = pictures(20, 20, 1, count=3)[1:2]
    copies, ids = picture.repeat(4001, 0), np.arange(4001)
    # Sums of pixels over four random halves: a number for each copy that depends on what was drawn for it.
    halves = np.random.default_rng(1).integers(0, 2, (400, 4)) * 2.0 - 1
    found = {}
    for noise in RANDOM:
        for seed, epoch in ((0, 0), (1, 0), (0, 1)):
            noisy = noise(copies, ids, seed=seed, epoch=epoch).reshape(4001, 400)
            found[str(noise), seed, epoch] = noisy @ halves
    return found


def dependence(one: np.ndarray, other: np.ndarray) -> float:
    """The largest correlation of what became of copies, and of how far it is from the usual, in standard errors."""
    found = []
    for k in range(one.shape[1]):
        pairs = [(one[:, k], other[:, k]), tuple(abs(x[:, k] - np.median(x[:, k])) for x in (one, other))]
        # What goes one way or the other is always as far from the usual.
        found += [correlation(*pair) for pair in pairs if min(values.std() for values in pair) > 1e-9]
    return max(found)


@pytest.mark.parametrize("noise", RANDOM, ids=str)
def test_randomness__samples_seeds_and_epochs_are_independent(noise, drawn):
    first = drawn[str(noise), 0, 0]
    assert first.std(axis=0).min() > 0
    assert dependence(first[:-1], first[1:]) < 4
    assert dependence(first, drawn[str(noise), 1, 0]) < 4
    assert dependence(first, drawn[str(noise), 0, 1]) < 4
    assert dependence(drawn[str(noise), 1, 0], drawn[str(noise), 0, 1]) < 4
    # The next sample of this seed is not this sample of the next seed.
    assert dependence(first[1:], drawn[str(noise), 1, 0][:-1]) < 4
    assert dependence(first[1:], drawn[str(noise), 0, 1][:-1]) < 4


def test_randomness__noises_of_one_seed_are_independent(drawn):
    pairs = [pair for pair in combinations(RANDOM, 2) if type(pair[0]) is not type(pair[1])]
    assert len(pairs) >= 60
    found = {(str(a), str(b)): dependence(drawn[str(a), 0, 0], drawn[str(b), 0, 0]) for a, b in pairs}
    # The largest of some thousand standard normal numbers exceeds 5 with a chance below 1 in 1,000.
    assert max(found.values()) < 5, max(found, key=found.__getitem__)


def test_kinds__are_all_that_the_catalogue_has():
    assert len(KINDS) >= 21
    assert all(issubclass(kind, Graded) and kind.kind == "images" for kind in KINDS)
