"""k-means against scikit-learn's Lloyd iteration."""

from __future__ import annotations

import warnings

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from sklearn.cluster import KMeans as Reference
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning

from tasks import methods
from tasks.methods import blocks, clusters, lloyd, seeding

DIGITS = load_digits().data
IRIS = load_iris().data


def same_clusters(a, b):
    pairs = np.unique(np.stack([a, b]), axis=1)
    return len(pairs.T) == len(np.unique(a)) == len(np.unique(b))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", [None, 1797, 300])
@pytest.mark.parametrize("tol", [1e-4, 0])
def test_fit__same_start_same_end_as_scikit_learn(chunks, dtype, tol):
    X = DIGITS.astype(dtype)
    # Not rows themselves: digits are integers, and a start among them ties with many rows.
    start = (DIGITS[::180][:10] + np.random.default_rng(0).normal(size=(10, 64))).astype(dtype)
    reference = Reference(10, init=start, n_init=1, tol=tol, algorithm="lloyd").fit(X)
    data = da.from_array(X, (chunks, 30)) if chunks else X
    ours = methods.KMeans(10, init=start, tol=tol).fit(data)
    np.testing.assert_allclose(ours.cluster_centers_, reference.cluster_centers_, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(ours.labels_), reference.labels_)
    assert isinstance(ours.labels_, da.Array if chunks else np.ndarray)
    assert ours.inertia_ == pytest.approx(reference.inertia_, rel=1e-6)
    assert ours.n_iter_ == reference.n_iter_
    np.testing.assert_array_equal(np.asarray(ours.predict(data)), reference.predict(X))
    np.testing.assert_allclose(np.asarray(ours.transform(data)), reference.transform(X), rtol=1e-4, atol=1e-3)
    assert ours.score(data) == pytest.approx(reference.score(X), rel=1e-6)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_fit__same_seed_same_clusters_as_scikit_learn(init):
    reference = Reference(3, init=init, n_init=3, random_state=7).fit(IRIS)
    ours = methods.KMeans(3, init=init, n_init=3, random_state=7).fit(da.from_array(IRIS, (40, 4)))
    np.testing.assert_allclose(ours.inertia_, reference.inertia_, rtol=1e-9)
    assert same_clusters(ours.labels_.compute(), reference.labels_)


def test_fit__the_sample_goes_by_position_and_not_by_chunk(monkeypatch):
    monkeypatch.setattr(clusters, "SAMPLE_ROWS", 150)
    runs = [methods.KMeans(10, random_state=3).fit(da.from_array(DIGITS, (c, 64))) for c in (1797, 400, 77)]
    runs.append(methods.KMeans(10, random_state=3).fit(DIGITS))
    for other in runs[1:]:
        np.testing.assert_allclose(other.cluster_centers_, runs[0].cluster_centers_, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(np.asarray(other.labels_), np.asarray(runs[0].labels_))
    assert runs[0].inertia_ < 1.1 * Reference(10, n_init=5, random_state=0).fit(DIGITS).inertia_


def test_fit__an_empty_cluster_takes_the_farthest_row():
    X = np.array([[0.0, 0], [1, 0], [10, 0], [11, 0], [100, 0]])
    start = np.array([[0.0, 0], [10, 0], [1e6, 0]])
    reference = Reference(3, init=start, n_init=1, algorithm="lloyd").fit(X)
    for data in (X, da.from_array(X, (2, 2))):
        ours = methods.KMeans(3, init=start).fit(data)
        np.testing.assert_allclose(ours.cluster_centers_, reference.cluster_centers_)
        np.testing.assert_array_equal(np.asarray(ours.labels_), reference.labels_)


def test_fit__several_empty_clusters_are_all_filled():
    start = np.concatenate([DIGITS[:2], np.full((4, 64), 1e5) + np.arange(4)[:, None]])
    ours = methods.KMeans(6, init=start).fit(da.from_array(DIGITS, (500, 64)))
    assert set(np.unique(ours.labels_.compute())) == set(range(6))


def test_fit__says_that_clusters_coincide():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) found smaller than n_clusters \(3\)"):
        methods.KMeans(3, random_state=0).fit(da.from_array(X, (4, 2)))


def test_fit__large_offsets_do_no_harm():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 4)) * 0.01 + np.repeat(np.eye(3, 4), 100, axis=0)
    shifted = (X + 4096).astype(np.float32)  # neighbouring numbers are 0.0005 apart
    ours = methods.KMeans(3, random_state=0).fit(da.from_array(shifted, (40, 4)))
    assert same_clusters(ours.labels_.compute(), np.repeat(np.arange(3), 100))


def test_fit__data_read_again_in_every_pass_gives_the_same(monkeypatch):
    kept = methods.KMeans(3, random_state=0).fit(da.from_array(IRIS, (40, 4)))
    monkeypatch.setattr(blocks, "CACHE_FRACTION", 0.0)
    again = methods.KMeans(3, random_state=0).fit(da.from_array(IRIS, (40, 4)))
    np.testing.assert_array_equal(kept.cluster_centers_, again.cluster_centers_)


def test_farthest__of_parts_is_that_of_the_whole():
    centers, mean = DIGITS[:4], np.zeros(64)
    whole = lloyd._farthest(DIGITS, 0, None, centers, mean, 5)
    found = [lloyd._farthest(DIGITS[low : low + 600], low, None, centers, mean, 5) for low in (0, 600, 1200)]
    merged = lloyd._merge_farthest(lloyd._merge_farthest(*found[:2], 5), found[2], 5)
    np.testing.assert_array_equal(merged.places, whole.places)
    distances = ((DIGITS[:, None] - DIGITS[None, :4]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_array_equal(np.sort(whole.places), np.sort(np.argsort(-distances, kind="stable")[:5]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 0}, "expected n_clusters as an integer of at least 1"),
        ({"n_clusters": 200}, "n_samples=150 should be >= n_clusters=200"),
        ({"max_iter": 0}, "expected max_iter"),
        ({"tol": -1}, "expected tol of at least 0"),
        ({"n_init": 0}, "expected n_init 'auto' or an integer"),
        ({"init": "best"}, "expected init 'k-means"),
        ({"n_clusters": 3, "init": np.ones((2, 4))}, r"expected init of shape \(3, 4\), received \(2, 4\)"),
    ],
)
def test_fit__refuses_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        methods.KMeans(**options).fit(IRIS)


@pytest.mark.parametrize("chunks", [1797, 400, 77])
def test_fit__parallel_seeds_go_by_position_and_not_by_chunk(chunks):
    ours = methods.KMeans(10, init="k-means||", random_state=3).fit(da.from_array(DIGITS, (chunks, 64)))
    again = methods.KMeans(10, init="k-means||", random_state=3).fit(DIGITS)
    np.testing.assert_allclose(ours.cluster_centers_, again.cluster_centers_, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(ours.labels_, again.labels_)
    assert ours.inertia_ < 1.1 * Reference(10, n_init=5, random_state=0).fit(DIGITS).inertia_


def test_parallel_seeds__start_lower_than_random_rows():
    def cost(init):
        runs = [methods.KMeans(10, init=init, n_init=1, max_iter=1, random_state=i).fit(DIGITS) for i in range(5)]
        return np.mean([run.inertia_ for run in runs])

    assert cost("k-means||") < cost("random")


def test_fit__parallel_seeds_of_few_distinct_rows():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\)"):
        ours = methods.KMeans(3, init="k-means||", random_state=0).fit(da.from_array(X, (4, 2)))
    assert ours.inertia_ == 0
    every = methods.KMeans(5, init="k-means||", random_state=0).fit(np.arange(5.0)[:, None])
    assert every.inertia_ == 0


def test_fit__several_starts_end_as_each_would_alone():
    data = da.from_array(DIGITS, (500, 64))
    random = np.random.RandomState(4)
    alone = [methods.KMeans(6, init="k-means||", n_init=1, random_state=random).fit(data) for _ in range(3)]
    ours = methods.KMeans(6, init="k-means||", n_init=3, random_state=np.random.RandomState(4)).fit(data)
    best = min(alone, key=lambda model: model.inertia_)
    assert ours.inertia_ == pytest.approx(best.inertia_, rel=1e-12)
    assert ours.n_iter_ == best.n_iter_
    np.testing.assert_array_equal(ours.labels_, best.labels_)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16])
def test_fit__small_numbers_are_taken_alike_from_numpy_and_dask(dtype):
    """Among few distinct rows many are as far from two centres, but for rounding."""
    X = (DIGITS > 7).astype(dtype)[:, ::4]
    here = methods.KMeans(6, random_state=0).fit(X)
    lazy = methods.KMeans(6, random_state=0).fit(da.from_array(X, (400, 16)))
    assert here.cluster_centers_.dtype == lazy.cluster_centers_.dtype == np.float32
    np.testing.assert_array_equal(here.labels_, lazy.labels_.compute())
    assert here.transform(X).dtype == lazy.transform(da.from_array(X)).dtype == np.float32


def test_best_run__the_first_of_starts_that_end_in_the_same_place(monkeypatch):
    from tasks.methods import clusters

    made = clusters.lloyd
    monkeypatch.setattr(
        clusters,
        "lloyd",
        lambda *args: [run._replace(inertia=run.inertia * (1 - 1e-15 * i)) for i, run in enumerate(made(*args))],
    )
    centers = np.array([[0.0], [10.0]])
    starts = [centers, centers[::-1]]
    monkeypatch.setattr(
        methods.KMeans, "_starts", lambda self, rows, mean, weights, masses: [start - mean for start in starts]
    )
    ours = methods.KMeans(2, n_init=2, random_state=0).fit(np.array([[0.0], [1.0], [10.0], [11.0]]))
    np.testing.assert_allclose(ours.cluster_centers_, [[0.5], [10.5]])


WEIGHTS = np.random.default_rng(5).integers(0, 4, len(DIGITS)).astype(float)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("chunks", [None, 1797, 300])
@pytest.mark.parametrize("tol", [1e-4, 0])
def test_weights__same_start_same_end_as_scikit_learn(chunks, tol, bounded, monkeypatch):
    monkeypatch.setattr(lloyd, "pays", lambda rows, clusters: bounded)
    start = DIGITS[::180][:10] + np.random.default_rng(0).normal(size=(10, 64))
    weights = WEIGHTS * np.random.default_rng(1).random(len(DIGITS))
    theirs = Reference(10, init=start, n_init=1, tol=tol, algorithm="lloyd").fit(DIGITS, sample_weight=weights)
    data = da.from_array(DIGITS, (chunks, 30)) if chunks else DIGITS
    ours = methods.KMeans(10, init=start, tol=tol)
    labels = ours.fit_predict(data, sample_weight=da.from_array(weights, 500) if chunks else weights)
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(np.asarray(labels), theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.score(data, sample_weight=weights) == pytest.approx(theirs.score(DIGITS, sample_weight=weights))
    assert ours.score(data, sample_weight=2) == pytest.approx(2 * theirs.score(DIGITS))


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("chunks", [None, 170])
def test_weights__whole_ones_are_repeated_rows(chunks, bounded, monkeypatch):
    monkeypatch.setattr(lloyd, "pays", lambda rows, clusters: bounded)
    # One start is far from all rows: its cluster is empty, and takes the farthest row that has weight.
    start = np.concatenate([DIGITS[:9] + 0.01, np.full((1, 64), 1e4)])
    repeated = np.repeat(DIGITS, WEIGHTS.astype(int), axis=0)
    weights = WEIGHTS.copy()
    weights[WEIGHTS > 1] = 1  # a repeated far row would be the next one, too
    once = np.repeat(DIGITS, weights.astype(int), axis=0)
    for values, rows, centers in ((WEIGHTS, repeated, start[:9]), (weights, once, start)):
        data = da.from_array(DIGITS, (chunks, 64)) if chunks else DIGITS
        model = methods.KMeans(len(centers), init=centers, tol=0)
        ours = model.fit(data, sample_weight=values)
        inertia, found = ours.inertia_, ours.cluster_centers_
        expected = model.fit(rows)
        np.testing.assert_allclose(found, expected.cluster_centers_, rtol=1e-9, atol=1e-9)
        assert inertia == pytest.approx(expected.inertia_, rel=1e-9)
        assert len(np.unique(found, axis=0)) == len(centers)


def test_weights__a_cluster_that_gave_all_its_rows_is_empty():
    """0.1 + 0.2 - 0.1 - 0.2 is not zero in binary; divided by it, a sum would be a centre anywhere."""
    rows = np.array([[0.0], [0.5], [9.0], [8.0]])
    weights = np.array([1.0, 1.0, 0.1, 0.2])
    start = np.array([[0.25], [7.0], [1e3], [2e3]])
    for data in (rows, da.from_array(rows, (1, 1))):
        with pytest.warns(ConvergenceWarning, match="clusters .3. found smaller"):
            ours = methods.KMeans(4, init=start, max_iter=1).fit(data, sample_weight=weights)
        np.testing.assert_allclose(np.sort(ours.cluster_centers_, axis=0), [[0.25], [7.0], [8.0], [9.0]])


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("weights", [None, WEIGHTS[:150]], ids=["none", "some"])
def test_weights__same_seed_same_start_as_scikit_learn(init, weights):
    options = {"n_clusters": 3, "init": init, "n_init": 1, "max_iter": 1, "random_state": 7}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = Reference(algorithm="lloyd", **options).fit(IRIS, sample_weight=weights)
    for data in (IRIS, da.from_array(IRIS, (40, 4))):
        ours = methods.KMeans(**options).fit(data, sample_weight=weights)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9)


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_weights__the_start_goes_by_weight_and_not_by_chunk(init, monkeypatch):
    """Two thirds of the digits have no weight, a sample is taken, and one far row weighs as much as the others."""
    monkeypatch.setattr(clusters, "SAMPLE_ROWS", 150)
    data, weights = DIGITS.copy(), np.where(np.arange(len(DIGITS)) % 3, 0.0, 1.0)
    data[600] += 300
    weights[600] = 600.0
    options = {"n_clusters": 6, "init": init, "random_state": 3, "n_init": 2}
    first = methods.KMeans(**options).fit(data, sample_weight=weights)
    for chunks in (1797, 400, 77):
        ours = methods.KMeans(**options).fit(da.from_array(data, (chunks, 64)), sample_weight=weights)
        np.testing.assert_allclose(ours.cluster_centers_, first.cluster_centers_, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(np.asarray(ours.labels_), first.labels_)
    assert np.isclose(first.cluster_centers_, data[600]).all(axis=1).any()
    others = Reference(5, n_init=10, random_state=0).fit(DIGITS[(np.arange(len(DIGITS)) % 3 == 0)]).inertia_
    assert first.inertia_ < 1.15 * others


def test_weighted_sample__sums_are_kept_on_average():
    weights = np.random.default_rng(0).pareto(1.0, 400)
    weights[::3] = 0
    with blocks.open_blocks(np.arange(400.0)[:, None], name="test") as rows:
        sums = []
        for seed in range(300):
            sample, shares = seeding.weighted_sample_of(rows, 50, np.random.RandomState(seed), weights)
            assert (weights[sample[:, 0].astype(int)] > 0).all()
            assert len(sample) == 50
            sums.append([shares.sum(), shares[sample[:, 0] < 200].sum()])
    error = np.std(sums, axis=0) / np.sqrt(len(sums))
    assert (np.abs(np.mean(sums, axis=0) - [weights.sum(), weights[:200].sum()]) < 4 * error + 1e-9).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (-np.ones(150), "expected sample_weight of at least 0, received -1"),
        (np.ones(149), r"expected sample_weight of shape \(150,\)"),
        (np.full(150, np.nan), "sample_weight contains NaN"),
        (np.arange(150) < 2, "at least n_clusters=3 rows whose sample_weight is above zero, received 2"),
    ],
)
def test_weights__refused(weights, message):
    for data in (IRIS, da.from_array(IRIS, (40, 4))):
        with pytest.raises(ValueError, match=message):
            methods.KMeans(3).fit(data, sample_weight=weights)
