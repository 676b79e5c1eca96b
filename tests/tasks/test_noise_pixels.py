from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from tasks.noise import Gaussian, RandomErasing, SaltAndPepper, Shot, Speckle
from tasks.noise.pixels import _alias, _normal_table, _shot_table, _speckle_table
from tests.tasks.noise_pictures import correlation

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


@pytest.mark.parametrize("noise", [Gaussian(1), Shot(1), Speckle(1)], ids=str)
def test_noise__pixels_samples_seeds_and_epochs_are_independent(noise):
    drawn = added(noise)
    assert correlation(drawn[:-1], drawn[1:]) < 4
    assert correlation(drawn[:, :-1], drawn[:, 1:]) < 4
    assert correlation(drawn[:, :, :-1], drawn[:, :, 1:]) < 4
    assert correlation(drawn[:, :, :-4], drawn[:, :, 4:]) < 4  # four pixels share a word
    assert correlation(drawn, added(noise, seed=1)) < 4
    assert correlation(drawn, added(noise, epoch=1)) < 4
    colour = noise(grey(channels=3), IDS).astype(float)
    assert correlation(colour[..., 0], colour[..., 1]) < 4
    assert correlation(colour[..., 0], colour[..., 2]) < 4


def test_noises__of_one_seed_are_independent():
    drawn = [added(noise) for noise in (Gaussian(1), Shot(1), Speckle(1), SaltAndPepper(5))]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert correlation(one, other) < 4
            assert correlation(one**2, other**2) < 4


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


PHOTONS = [60, 25, 12, 5, 3, 0.5, 1, 2.5, 51, 254.7, 1000, 10_000]


def poisson_levels(level: int, photons: float) -> np.ndarray:
    """Chance of each grey level after a Poisson count, float64 (256,), from the probabilities of single counts."""
    rate = level / 255 * photons
    counts = np.arange(int(photons + 20 * math.sqrt(photons) + 60))
    levels = np.minimum(np.rint(counts / photons * 255), 255).astype(int)
    return np.bincount(levels, stats.poisson.pmf(counts, rate), minlength=256)


def table_levels(level: int, photons: float) -> np.ndarray:
    """The same as the alias table has it: a column is drawn, then one of its two levels."""
    table, bits = _shot_table(float(photons))
    columns = table.astype(np.int64)[level << bits : (level + 1) << bits]
    threshold, first, second = columns >> 16, columns >> 8 & 255, columns & 255
    size = 65_536 >> bits
    assert threshold.min() >= 0
    assert threshold.max() <= size
    return (np.bincount(first, threshold, 256) + np.bincount(second, size - threshold, 256)) / 65_536


@pytest.mark.parametrize("photons", PHOTONS)
def test_shot__its_table_is_the_poisson_distribution(photons):
    for level in range(0, 256, 1 if photons < 500 else 5):
        found, expected = table_levels(level, photons), poisson_levels(level, photons)
        assert expected.sum() == pytest.approx(1, abs=1e-9)
        # Chances up to a grey level are rounded to 1 / 65,536, and nothing else is.
        assert np.abs(np.cumsum(found - expected)).max() <= 2**-17 + 1e-9
        assert np.abs(found - expected).max() <= 2**-16 + 1e-9
        assert found.sum() == 1


def test_alias__holds_any_distribution_exactly():
    rng = np.random.default_rng(0)
    for count, bits in [(1, 4), (2, 4), (16, 4), (17, 5), (200, 8), (256, 8)]:
        cuts = np.sort(rng.integers(0, 65_537, count - 1))
        shares = np.diff([0, *cuts, 65_536])
        values = np.sort(rng.choice(256, count, replace=False))
        columns = _alias(shares, values, bits)
        threshold, first, second = columns >> 16, columns >> 8 & 255, columns & 255
        found = np.bincount(first, threshold, 256) + np.bincount(second, (65_536 >> bits) - threshold, 256)
        np.testing.assert_array_equal(found[values], shares)
        assert found.sum() == 65_536


@pytest.mark.parametrize(("level", "photons"), [(128, 12), (40, 60), (200, 3), (90, 400), (250, 25)])
def test_shot__is_drawn_from_that_distribution(level, photons):
    counts = np.bincount(Shot(photons=photons)(grey(level), IDS).ravel(), minlength=256)
    expected = poisson_levels(level, photons) * counts.sum()
    assert counts[expected == 0].sum() == 0
    often = expected > 50
    pooled = np.append(counts[often], counts[~often].sum()), np.append(expected[often], expected[~often].sum())
    keep = pooled[1] > 5
    assert (
        stats.chisquare(pooled[0][keep], pooled[1][keep] * pooled[0][keep].sum() / pooled[1][keep].sum()).pvalue > 1e-3
    )


@pytest.mark.parametrize("level", [5, 20, 60])
def test_shot__mean_and_variance(level):
    # 51 photons: each is five grey levels, nothing is rounded; and hardly ever are there more than a white pixel's.
    noisy = Shot(photons=51)(grey(level), IDS).astype(float)
    rate, n = level / 5, noisy.size
    assert abs(noisy.mean() - level) < 4 * 5 * math.sqrt(rate / n)
    assert abs(noisy.var() / (25 * rate) - 1) < 4 * math.sqrt((2 + 1 / rate) / n)
    assert (noisy % 5 == 0).all()


def test_shot__many_photons_are_nearly_none():
    noisy = Shot(photons=10_000)(grey(), IDS).astype(float)
    expected = 128 / 255 * 10_000 * (255 / 10_000) ** 2
    assert noisy.mean() == pytest.approx(128, abs=0.01)
    assert noisy.var() == pytest.approx(expected + 1 / 12, rel=0.01)


@pytest.mark.parametrize("photons", PHOTONS)
def test_shot__black_stays_black(photons):
    assert not Shot(photons=photons)(grey(0)[:100], IDS[:100]).any()


def test_shot__more_than_white_is_white():
    noisy = Shot(photons=12)(grey(255), IDS)
    assert (noisy == 255).mean() == pytest.approx(stats.poisson.sf(11, 12), abs=2e-3)


@pytest.mark.parametrize("level", [1, 20, 50, 100])
def test_speckle__deviation_grows_with_the_pixel(level):
    drawn, sigma = added(Speckle(2), level), 0.2 * level
    exact = np.rint(level + sigma * stats.norm.ppf((np.arange(65_536) + 0.5) / 65_536)) - level
    assert abs(drawn.mean() - exact.mean()) < 4 * exact.std() / math.sqrt(drawn.size) + 1e-9
    assert abs(drawn.var() - exact.var()) <= 4 * math.sqrt(3 / drawn.size) * exact.var()
    if level > 10:  # rounded to whole grey levels, which adds a variance of 1/12
        assert drawn.std() == pytest.approx(math.sqrt(sigma**2 + 1 / 12), rel=5e-3)


def test_speckle__its_table_holds_the_quantiles():
    levels = [0, *range(50, 65_536, 100), 65_535]
    quantiles = [NormalDist(mu=1, sigma=0.35).inv_cdf((level + 0.5) / 65_536) for level in levels]
    np.testing.assert_allclose(_speckle_table(0.35)[levels], quantiles, rtol=1e-6, atol=1e-6)


def test_speckle__black_stays_black_and_nothing_wraps():
    assert not Speckle(5)(grey(0), IDS).any()
    noisy = Speckle(sigma=1)(grey(200), IDS)
    # Below black where n < -1 (and what rounds to it), above white where n > 55 / 200.
    assert (noisy == 0).mean() == pytest.approx(stats.norm.cdf(-199.5 / 200), abs=2e-3)
    assert (noisy == 255).mean() == pytest.approx(stats.norm.sf(54.5 / 200), abs=2e-3)


def rectangles(noisy: np.ndarray, erased: np.ndarray) -> np.ndarray:
    """Height, width, top and left of what is erased, int64 (n, 4); everything else must be untouched."""
    found = []
    for mask in erased:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        # All of the rows times columns, and without a gap: one rectangle along the axes.
        assert mask.sum() == len(rows) * len(columns)
        assert np.ptp(rows) == len(rows) - 1
        assert np.ptp(columns) == len(columns) - 1
        found.append((len(rows), len(columns), rows[0], columns[0]))
    assert (noisy[~erased] == 255).all()
    return np.array(found)


def erased_by(noise: RandomErasing, count: int, height: int, width: int) -> np.ndarray:
    noisy = noise(np.full((count, height, width, 1), 255, np.uint8), np.arange(count))
    return rectangles(noisy[..., 0], noisy[..., 0] == 0)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(28, 28), (64, 64), (20, 90)])
def test_random_erasing__area_and_shape_of_the_rectangle(severity, height, width):
    found = erased_by(RandomErasing(severity, fill="zeros"), 400, height, width)
    high, wide = found[:, 0], found[:, 1]
    area = (0.05, 0.1, 0.2, 0.3, 0.4)[severity - 1] * height * width
    # Sides are whole pixels: off by half a line at most.
    assert (abs(high * wide - area) <= np.maximum(high, wide) / 2 + 1e-9).all()
    assert (high * wide).mean() == pytest.approx(area, rel=0.05)
    inside = (high < height) & (wide < width)
    assert inside.sum() > 40
    assert ((high + 1)[inside] / (wide - 1)[inside] >= 0.3).all()
    assert ((high - 1)[inside] / (wide + 1)[inside] <= 1 / 0.3).all()


def test_random_erasing__aspect_is_log_uniform_and_places_are_uniform():
    high, wide, top, left = erased_by(RandomErasing(1, fill="zeros"), 1000, 200, 200).T
    aspect = np.log(high / wide) / np.log(1 / 0.3)
    assert stats.kstest(aspect, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    places = [(top + 0.5) / (200 - high + 1), (left + 0.5) / (200 - wide + 1)]
    for place in places:
        assert stats.kstest(place, "uniform").pvalue > 1e-3
        assert correlation(place, aspect) < 4
    assert correlation(*places) < 4
    for side, start in ((high, top), (wide, left)):
        assert start.min() <= 2
        assert (200 - side - start).min() <= 2


def test_random_erasing__every_place_is_as_likely():
    top, left = erased_by(RandomErasing(area=1 / 42, fill="zeros"), 4000, 6, 7)[:, 2:].T
    assert stats.chisquare(np.bincount(top * 7 + left, minlength=42)).pvalue > 1e-3


def test_random_erasing__what_is_written_is_independent_of_where():
    images, ids = np.zeros((2000, 30, 30, 1), np.uint8), np.arange(2000)
    places = rectangles(np.full((2000, 30, 30), 255), RandomErasing(3, fill="zeros")(images + 255, ids)[..., 0] == 0)
    noisy = RandomErasing(3)(images, ids)
    cut = [
        image[top : top + h, left : left + w].ravel() for image, (h, w, top, left) in zip(noisy, places, strict=True)
    ]
    for byte in np.array([hole[:48] for hole in cut], float).T:
        for place in places.T:
            assert correlation(byte, place.astype(float)) < 4.5


def test_random_erasing__fills():
    rng = np.random.default_rng(0)
    images = rng.integers(100, 200, (300, 30, 34, 3), dtype=np.uint8)
    ids = np.arange(300)
    black = RandomErasing(4, fill="zeros")(images, ids)
    mask = (black == 0).all(axis=-1)
    rectangles(np.where(mask, 0, 255), mask)
    filled = RandomErasing(4)(images, ids)
    averaged = RandomErasing(4, fill="mean")(images, ids)
    for noisy in (black, filled, averaged):  # the same places whatever is written there
        np.testing.assert_array_equal(noisy[~mask], images[~mask])
    for image, noisy, hole in zip(images, averaged, mask, strict=True):
        np.testing.assert_array_equal(noisy[hole], np.rint(image.reshape(-1, 3).mean(0)) * np.ones((hole.sum(), 1)))
    written = filled[mask].astype(float)
    assert stats.chisquare(np.bincount(filled[mask].ravel(), minlength=256)).pvalue > 1e-3
    assert correlation(written[:, 0], written[:, 1]) < 4
    assert correlation(written[:-1], written[1:]) < 4


@pytest.mark.parametrize(("height", "width"), [(28, 28), (2, 100), (100, 2), (1, 1), (7, 5)])
def test_random_erasing__everything(height, width):
    images = np.full((50, height, width, 1), 255, np.uint8)
    assert not RandomErasing(area=1, fill="zeros")(images, np.arange(50)).any()


def test_random_erasing__at_least_one_pixel():
    assert (erased_by(RandomErasing(area=1e-6, fill="zeros"), 200, 9, 7)[:, :2] == 1).all()
    assert (erased_by(RandomErasing(1, fill="zeros"), 5, 1, 1) == (1, 1, 0, 0)).all()
