"""Metrics of Dask arrays against scikit-learn's of the same values in NumPy arrays."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import dask
import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.datasets import load_digits, load_wine

from tasks.methods import metrics

RANDOM = np.random.default_rng(0)
TRUE = RANDOM.integers(0, 5, 400)
PRED = np.where(RANDOM.random(400) < 0.7, TRUE, RANDOM.integers(0, 5, 400))
WEIGHTS = RANDOM.random(400)
NAMES = np.array(["a", "bb", "ccc", "d", "e", "f"])
CLASS_SCORES = [
    ("accuracy_score", {}),
    ("accuracy_score", {"normalize": False}),
    ("balanced_accuracy_score", {"adjusted": True}),
    ("confusion_matrix", {}),
    ("confusion_matrix", {"labels": [4, 0, 1], "normalize": "true"}),
    ("precision_score", {"average": "macro", "zero_division": 0}),
    ("precision_score", {"average": None, "zero_division": 0}),
    ("recall_score", {"average": "weighted", "zero_division": 0}),
    ("recall_score", {"average": "micro", "labels": [0, 2]}),
    ("f1_score", {"average": "macro", "zero_division": 0}),
    ("f1_score", {"average": "weighted"}),
    ("precision_recall_fscore_support", {"beta": 0.5, "zero_division": 0}),
    ("precision_recall_fscore_support", {"labels": [3, 1, 9], "zero_division": 0}),
    ("precision_recall_fscore_support", {"average": "macro", "zero_division": 0}),
    ("matthews_corrcoef", {}),
]


def lazy(array, chunks):
    return da.from_array(array, (chunks, *array.shape[1:]))


def same(name, *arrays, weights=None, chunks=(37, 50, 400), **options):
    """Compare, with unlike chunks for each array."""
    expected = getattr(reference, name)(*arrays, **options, **({} if weights is None else {"sample_weight": weights}))
    cut = [lazy(array, n) for array, n in zip(arrays, chunks, strict=False)]
    mixtures = [cut, [cut[0], arrays[1]], [arrays[0], cut[1]]]
    for mixture in mixtures:
        given = {} if weights is None else {"sample_weight": lazy(weights, 90)}
        found = getattr(metrics, name)(*mixture, **options, **given)
        expected_here = expected
        if name == "precision_recall_fscore_support" and expected[3] is None:  # of an average
            assert found[3] is None
            found, expected_here = found[:3], expected[:3]
        np.testing.assert_allclose(found, expected_here, rtol=1e-9, atol=1e-12, err_msg=name)
    assert isinstance(getattr(metrics, name)(*arrays, **options), type(getattr(reference, name)(*arrays, **options)))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize(("name", "options"), CLASS_SCORES)
def test_classification__as_scikit_learn(name, options, weights):
    same(name, TRUE, PRED, weights=weights, **options)


@pytest.mark.parametrize("name", ["precision_score", "recall_score", "f1_score"])
def test_classification__binary_with_names(name):
    same(name, NAMES[TRUE % 2], NAMES[PRED % 2], pos_label="bb")
    with pytest.raises(ValueError, match="choose another average"):
        getattr(metrics, name)(lazy(TRUE, 50), PRED)


def test_confusion_matrix__counts_are_whole_numbers():
    found = metrics.confusion_matrix(lazy(TRUE, 50), PRED)
    assert found.dtype == np.int64


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("decimals", [1, 17])
def test_roc_auc__binary(weights, decimals):
    score = np.round(RANDOM.standard_normal(400) + TRUE % 2, decimals)
    same("roc_auc_score", TRUE % 2, score, weights=weights)
    same("roc_auc_score", NAMES[TRUE % 2], score, weights=weights, max_fpr=0.3)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted", None])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_roc_auc__of_each_class(average, weights):
    scores = RANDOM.random((400, 5))
    scores[np.arange(400), TRUE] += 0.3
    scores /= scores.sum(axis=1, keepdims=True)
    same("roc_auc_score", TRUE, scores, weights=weights, multi_class="ovr", average=average)


@pytest.mark.parametrize("average", ["macro", "weighted"])
@pytest.mark.parametrize("decimals", [1, 17])
@pytest.mark.parametrize("true", [TRUE, NAMES[TRUE]], ids=["numbers", "names"])
def test_roc_auc__of_each_pair(average, decimals, true):
    scores = np.round(RANDOM.random((400, 5)), decimals) + 1e-3
    scores[np.arange(400), TRUE] += 0.3
    scores /= scores.sum(axis=1, keepdims=True)
    same("roc_auc_score", true, scores, multi_class="ovo", average=average)
    few = np.isin(TRUE, [0, 2, 3])
    same("roc_auc_score", true[few], scores[few], multi_class="ovo", average=average, labels=np.unique(true))


def test_roc_auc__of_many_classes_brings_no_table_here(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("scores were brought here")

    scores = np.full((400, 5), 0.1)
    scores[np.arange(400), PRED] = 0.6
    expected = reference.roc_auc_score(TRUE, scores, multi_class="ovo")
    given = lazy(TRUE, 50), lazy(scores, 37)
    monkeypatch.setattr(da.Array, "__array__", refuse)
    assert metrics.roc_auc_score(*given, multi_class="ovo") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"multi_class": "ovo", "average": "micro"},
            ValueError,
            "'macro', 'weighted' with multi_class='ovo'",
        ),
        ({"multi_class": "ovo", "average": None}, NotImplementedError, "average=None is not implemented"),
        ({"multi_class": "ovo", "sample_weight": np.ones(400)}, ValueError, "expected no sample_weight"),
        ({"multi_class": "ovo", "max_fpr": 0.5}, ValueError, "expected no max_fpr"),
        ({"multi_class": "ovr", "average": "samples"}, ValueError, "'micro', 'macro', 'weighted', None with"),
        ({"multi_class": "ovr", "labels": [0, 1, 2, 4, 3]}, ValueError, "expected labels in order"),
        ({"multi_class": "ovr", "labels": [0, 1, 2, 3, 9]}, ValueError, "received none of .4."),
    ],
)
def test_roc_auc__refuses_as_scikit_learn(options, error, message):
    scores = np.full((400, 5), 0.2)
    with pytest.raises(error):
        reference.roc_auc_score(TRUE, scores, **options)
    with pytest.raises(error, match=message):
        metrics.roc_auc_score(lazy(TRUE, 50), scores, **options)


def test_roc_auc__refuses():
    scores = np.full((400, 5), 0.2)
    with pytest.raises(ValueError, match="expected multi_class='ovr' or 'ovo'"):
        metrics.roc_auc_score(lazy(TRUE, 50), scores)
    with pytest.raises(ValueError, match="should sum up to 1"):
        metrics.roc_auc_score(lazy(TRUE, 50), scores * 2, multi_class="ovr")
    with pytest.raises(ValueError, match="received 4 columns and 5 classes"):
        metrics.roc_auc_score(lazy(TRUE, 50), scores[:, :4], multi_class="ovr")
    with pytest.raises(ValueError, match="y_score contains NaN"):
        metrics.roc_auc_score(lazy(TRUE % 2, 50), np.full(400, np.nan))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("normalize", [True, False])
def test_log_loss(weights, normalize):
    scores = RANDOM.random((400, 5))
    scores[::7, 0] = 0  # a probability of nothing for what may be true
    scores /= scores.sum(axis=1, keepdims=True)
    same("log_loss", TRUE, scores, weights=weights, normalize=normalize)
    same("log_loss", TRUE % 2, scores[:, 0], weights=weights, normalize=normalize)
    same("log_loss", TRUE, scores, labels=[0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="at least two classes"):
        metrics.log_loss(lazy(np.zeros(400), 50), scores[:, 0])


@pytest.mark.parametrize("name", ["mean_squared_error", "root_mean_squared_error", "mean_absolute_error", "r2_score"])
@pytest.mark.parametrize("multioutput", ["raw_values", "uniform_average", [0.2, 0.5, 0.3]])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
def test_regression(name, multioutput, weights):
    true = RANDOM.standard_normal((400, 3)) + np.array([0, 1e6, 0])
    if weights is None:  # weighted, scikit-learn divides by the rounding error of the mean of a constant
        true[:, 2] = 4.0
    same(name, true, true + 0.1 * RANDOM.standard_normal((400, 3)), weights=weights, multioutput=multioutput)
    same(name, true[:, 0], np.roll(true[:, 0], 1), weights=weights)


def test_r2__a_constant_column_has_no_spread_with_weights_either():
    ones = lazy(np.full(400, 0.1), 37)
    assert metrics.r2_score(ones, ones, sample_weight=WEIGHTS) == 1.0
    assert metrics.r2_score(ones, ones + 1, sample_weight=WEIGHTS) == 0.0


def test_r2__special_values():
    true, pred = RANDOM.standard_normal((2, 400, 3))
    same("r2_score", true, pred, multioutput="variance_weighted")
    same("r2_score", np.ones(400), np.ones(400))
    same("r2_score", np.ones(400), np.zeros(400))
    with pytest.raises(ValueError, match="y_true contains NaN"):
        metrics.r2_score(lazy(np.full(9, np.nan), 3), np.zeros(9))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(2, 60),
    classes=st.integers(1, 5),
    clusters=st.integers(1, 8),
    chunks=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_clustering__any_labels(rows, classes, clusters, chunks, seed):
    random = np.random.default_rng(seed)
    true, found = random.integers(0, classes, rows), random.integers(-1, clusters, rows)
    with dask.config.set(scheduler="sync"):
        for name in ("adjusted_rand_score", "normalized_mutual_info_score", "homogeneity_completeness_v_measure"):
            expected = getattr(reference, name)(true, found)
            ours = getattr(metrics, name)(lazy(true, chunks), lazy(NAMES[found % 6] if clusters < 5 else found, 7))
            np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
        for average in ("min", "max", "geometric"):
            if len(set(true)) > 1 and len(set(found)) > 1:
                expected = reference.normalized_mutual_info_score(true, found, average_method=average)
                ours = metrics.normalized_mutual_info_score(lazy(true, chunks), found, average_method=average)
                np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_adjusted_rand__does_not_overflow(monkeypatch):
    """Squares of thousands of millions of rows pass 64 bits; by counts, because the rows would take hours."""
    from tasks.methods.metrics import clustering
    from tasks.methods.metrics.tally import Pairs

    small = Pairs(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([5, 2, 1, 8]) * 10**9)
    # The formula of Hubert and Arabie, from numbers of pairs of rows, as a fraction.
    monkeypatch.setattr(clustering, "count_pairs", lambda *_: small)
    table = [[5 * 10**9, 2 * 10**9], [10**9, 8 * 10**9]]
    margins = [[sum(row) for row in table], [sum(column) for column in zip(*table, strict=True)]]
    together = sum(comb(n, 2) for row in table for n in row)
    first, second = (sum(comb(n, 2) for n in counts) for counts in margins)
    chance = Fraction(first * second, comb(sum(margins[0]), 2))
    expected = (together - chance) / (Fraction(first + second, 2) - chance)
    assert metrics.adjusted_rand_score(lazy(TRUE, 50), TRUE) == pytest.approx(float(expected), rel=1e-12)
    assert (small.weights**2).sum() != sum(int(n) ** 2 for n in small.weights)
    rows, columns = clustering._margins(small)
    assert rows.tolist() == [7 * 10**9, 9 * 10**9]
    assert columns.tolist() == [6 * 10**9, 10**10]
    information, *entropies = clustering._information(small)
    assert 0 < information < min(entropies)


@pytest.mark.parametrize("chunks", [50, 60, 178])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "cosine"])
def test_silhouette(chunks, metric):
    X, labels = load_wine(return_X_y=True)
    labels = labels.copy()
    labels[3] = 9  # a cluster of one
    for rows in (X, X.astype(np.float32)):
        expected = reference.silhouette_samples(rows.astype(float), labels, metric=metric)
        found = metrics.silhouette_samples(lazy(rows, chunks), labels, metric=metric)
        assert isinstance(found, da.Array)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        score = metrics.silhouette_score(lazy(rows, chunks), lazy(labels, 20), metric=metric)
        assert score == pytest.approx(reference.silhouette_score(rows.astype(float), labels, metric=metric), abs=1e-5)


def test_silhouette__draws_scikit_learns_sample():
    X, labels = load_digits(return_X_y=True)
    expected = reference.silhouette_score(X, labels, sample_size=300, random_state=4)
    found = metrics.silhouette_score(lazy(X, 500), lazy(labels, 99), sample_size=300, random_state=4)
    assert found == pytest.approx(expected, rel=1e-9)


def test_silhouette__refuses():
    X = lazy(np.arange(12.0).reshape(6, 2), 2)
    with pytest.raises(ValueError, match="Number of labels is 1"):
        metrics.silhouette_score(X, np.zeros(6))
    with pytest.raises(ValueError, match="a label for each of 6 rows"):
        metrics.silhouette_samples(X, np.zeros(5))
    with pytest.raises(ValueError, match="sample_size of 2 to 6"):
        metrics.silhouette_score(X, [0, 1] * 3, sample_size=7)


@pytest.mark.parametrize("name", ["accuracy_score", "adjusted_rand_score", "r2_score", "log_loss", "roc_auc_score"])
def test_open_aligned__refuses(name):
    metric = getattr(metrics, name)
    y = lazy(TRUE % 2, 50)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metric(y, y[:-1])
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        metric(y[y > 0], y[y > 0])
    with pytest.raises(ValueError, match="at least one row"):
        metric(y[:0], y[:0])


def test_open_aligned__skips_empty_blocks():
    y = da.concatenate([lazy(TRUE, 100)[:0], lazy(TRUE, 100), lazy(TRUE, 100)[:0]])
    assert metrics.accuracy_score(y, TRUE) == 1.0


def test_metrics__on_a_cluster_name_their_tasks(workers):
    with workers.as_current():
        assert metrics.f1_score(lazy(TRUE, 50), lazy(PRED, 70), average="macro") == pytest.approx(
            reference.f1_score(TRUE, PRED, average="macro")
        )
        assert metrics.silhouette_score(lazy(TRUE[:, None] * 1.0 + WEIGHTS[:, None], 90), TRUE) > 0


def test_log_loss__a_block_in_which_nothing_counts():
    true, said = np.array([0, 1, 0, 1, 1, 0]), np.array([0.2, 0.7, 0.4, 0.6, 0.9, 0.1])
    weights = np.array([0.0, 0, 1, 1, 1, 2])
    expected = reference.log_loss(true, said, sample_weight=weights)
    for chunks in (6, 2, 1):
        found = metrics.log_loss(da.from_array(true, chunks), said, sample_weight=weights)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError):
        metrics.log_loss(da.from_array(true, 2), np.where(said < 0.5, 7.0, said), sample_weight=weights)


def test_precision_recall_fscore_support__support_is_the_rows_of_each_class():
    for weights in (None, WEIGHTS):
        support = metrics.precision_recall_fscore_support(lazy(TRUE, 50), PRED, sample_weight=weights)[3]
        expected = reference.precision_recall_fscore_support(TRUE, PRED, sample_weight=weights)[3]
        np.testing.assert_allclose(support, np.bincount(TRUE, weights), rtol=1e-12)
        assert support.dtype == expected.dtype
