from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from tasks.noise import Gaussian, SaltAndPepper
from tasks.noise.pixels import _normal_table

IDS = np.arange(4000)
# Hendrycks and Dietterich 2019, published code of ImageNet-C: the scales of gaussian_noise and impulse_noise.
SIGMA = {1: 0.08, 2: 0.12, 3: 0.18, 4: 0.26, 5: 0.38}
AMOUNT = {1: 0.03, 2: 0.06, 3: 0.09, 4: 0.17, 5: 0.27}


def grey(level: int = 128, channels: int = 1) -> np.ndarray:
    return np.full((len(IDS), 20, 20, channels), level, np.uint8)


def added(noise, level: int = 128, **options) -> np.ndarray:
    return noise(grey(level), IDS, **options).astype(np.float64) - level


@pytest.mark.parametrize("severity", [1, 2])
def test_gaussian__mean_and_deviation(severity):
    # Grey, and 4.3 sigma inside the range: nothing is clipped.
    drawn, sigma = added(Gaussian(severity)), SIGMA[severity] * 255
    if severity == 2:
        sigma = min(sigma, 127 / 4.3)
        drawn = added(Gaussian(sigma=sigma / 255))
    n = drawn.size
    assert abs(drawn.mean()) < 4 * sigma / np.sqrt(n)
    # Rounding to whole grey levels adds a variance of 1/12; the standard error of a variance is sqrt(2/n).
    assert abs(drawn.var() / (sigma**2 + 1 / 12) - 1) < 4 * np.sqrt(2 / n) + 5e-4  # and 4.3 sigma take a little away


@pytest.mark.parametrize("severity", SIGMA)
def test_gaussian__severity_is_that_of_imagenet_c(severity):
    np.testing.assert_array_equal(added(Gaussian(severity)), added(Gaussian(sigma=SIGMA[severity])))


def test_gaussian__its_table_holds_the_quantiles():
    # The standard library's inverse, at every hundredth level and at both ends.
    levels = [0, *range(50, 65_536, 100), 65_535]
    quantiles = [NormalDist(sigma=0.3 * 255).inv_cdf((level + 0.5) / 65_536) for level in levels]
    table = _normal_table(0.3)
    assert np.abs(table[levels] - quantiles).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(table, -table[::-1])
    assert table.sum() == 0


def test_gaussian__is_normal():
    drawn, sigma = added(Gaussian(sigma=0.1)), 25.5
    edges = np.arange(-60, 61, 8) + 0.5
    counts = np.histogram(drawn, [-np.inf, *edges, np.inf])[0]
    expected = np.diff(stats.norm.cdf([-np.inf, *edges, np.inf], scale=sigma)) * drawn.size
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize(("level", "bound"), [(0, 0), (255, 255)])
def test_gaussian__is_clipped_not_wrapped(level, bound):
    noisy = Gaussian(5)(grey(level), IDS)
    # Half the draws point outwards (a little more than half with those that round to zero).
    assert (noisy == bound).mean() == pytest.approx(0.5 + stats.norm.cdf(0.5 / (0.38 * 255)) - 0.5, abs=5e-3)
    assert np.abs(noisy.astype(int) - level).mean() == pytest.approx(0.38 * 255 * np.sqrt(1 / (2 * np.pi)), rel=0.02)


def test_gaussian__full_strength():
    noisy = Gaussian(sigma=1)(grey(), IDS)
    for bound in (0, 255):
        assert (noisy == bound).mean() == pytest.approx(stats.norm.cdf(-127.5 / 255), abs=5e-3)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """In standard errors of no correlation."""
    return abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * np.sqrt(one.size)


def test_gaussian__pixels_samples_seeds_and_epochs_are_independent():
    drawn = added(Gaussian(1))
    assert correlation(drawn[:-1], drawn[1:]) < 4
    assert correlation(drawn[:, :-1], drawn[:, 1:]) < 4
    assert correlation(drawn[:, :, :-1], drawn[:, :, 1:]) < 4
    assert correlation(drawn, added(Gaussian(1), seed=1)) < 4
    assert correlation(drawn, added(Gaussian(1), epoch=1)) < 4
    colour = Gaussian(1)(grey(channels=3), IDS).astype(float)
    assert correlation(colour[..., 0], colour[..., 1]) < 4


def test_noises__of_one_seed_are_independent():
    hit = SaltAndPepper(5)(grey(), IDS).astype(float) - 128
    drawn = added(Gaussian(1))
    assert correlation(drawn, hit) < 4
    assert correlation(drawn**2, hit**2) < 4


def test_gaussian__severities_of_one_seed_share_their_draws():
    # Documented: a sample's noise grows from severity to severity, it is not drawn anew.
    one, other = added(Gaussian(1)), added(Gaussian(sigma=0.04))
    assert np.abs(one / 2 - other).max() <= 1


@pytest.mark.parametrize("severity", AMOUNT)
def test_salt_and_pepper__rate_and_halves(severity):
    noisy, amount = SaltAndPepper(severity)(grey(), IDS), AMOUNT[severity]
    n = noisy.size
    black, white = (noisy == 0).sum(), (noisy == 255).sum()
    assert (noisy == 128).sum() == n - black - white
    assert stats.binomtest(int(black + white), n, amount).pvalue > 1e-3
    assert stats.binomtest(int(black), int(black + white), 0.5).pvalue > 1e-3


def test_salt_and_pepper__channels_of_a_pixel_together():
    noisy = SaltAndPepper(5)(grey(channels=3), IDS)
    assert (noisy == noisy[..., :1]).all()
    np.testing.assert_array_equal(noisy[..., :1], SaltAndPepper(5)(grey(), IDS))


def test_salt_and_pepper__other_pixels_stay():
    images = np.random.default_rng(0).integers(1, 255, (4000, 20, 20, 3), dtype=np.uint8)
    noisy = SaltAndPepper(3)(images, IDS)
    hit = np.isin(noisy, (0, 255)).all(-1)
    np.testing.assert_array_equal(noisy[~hit], images[~hit])


def test_salt_and_pepper__everything():
    noisy = SaltAndPepper(amount=1)(grey(), IDS)
    assert np.isin(noisy, (0, 255)).all()


def test_salt_and_pepper__places_are_independent():
    hit = (SaltAndPepper(5)(grey(), IDS) != 128).astype(float)
    assert correlation(hit[:-1], hit[1:]) < 4
    assert correlation(hit[:, :, :-1], hit[:, :, 1:]) < 4
    # Every pixel is hit equally often.
    assert stats.chisquare(hit.sum(0).ravel()).pvalue > 1e-3


@pytest.mark.parametrize("kind", [Gaussian, SaltAndPepper])
def test_severity__lowers_psnr(kind):
    images = (np.arange(4000 * 400) % 251).astype(np.uint8).reshape(4000, 20, 20, 1)
    errors = [np.mean((kind(s)(images, IDS).astype(float) - images) ** 2) for s in range(1, 6)]
    psnr = 10 * np.log10(255**2 / np.array(errors))
    assert (np.diff(psnr) < -0.5).all()


@pytest.mark.parametrize("kind", [Gaussian, SaltAndPepper])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (7, 1, 1), (1, 9, 2), (5, 3, 1), (224, 224, 3)])
def test_call__any_size(kind, shape):
    images = np.full((3, *shape), 128, np.uint8)
    noisy = kind(5)(images, np.arange(3))
    assert noisy.shape == images.shape
    for i in range(3):
        np.testing.assert_array_equal(noisy[i : i + 1], kind(5)(images[i : i + 1], np.array([i])))


@pytest.mark.parametrize("kind", [Gaussian, SaltAndPepper])
@pytest.mark.parametrize("shape", [(0, 5, 1), (5, 0, 1), (5, 5, 0)])
def test_call__images_without_pixels(kind, shape):
    assert kind(5)(np.empty((2, *shape), np.uint8), np.arange(2)).shape == (2, *shape)


@pytest.mark.parametrize("kind", [Gaussian, SaltAndPepper])
def test_call__views_in_any_memory_order(kind):
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    expected = kind(3)(images, np.arange(4))
    for view in (np.asfortranarray(images), images[:, ::-1][:, ::-1], np.repeat(images, 2, 0)[::2]):
        np.testing.assert_array_equal(kind(3)(view, np.arange(4)), expected)
