"""Robustness: blocks that equal stored copies, scores that equal scikit-learn's, errors that equal a hand's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier as ReferenceNeighbors

import storage
from storage.layout import Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.versions import publish
from storage.writer import Build
from tasks import methods, noise
from tasks.evaluation import evaluate_method, fit_classifier
from tasks.features import Features
from tasks.noising import add_noise
from tasks.robustness import Measure, MethodSubject, Variant, corruption_errors, measure, scoring
from tasks.robustness.blocks import read_block
from tasks.robustness.conditions import condition_of

COUNT, TRAIN = 400, 280


@dataclass(frozen=True)
class Shrink:
    """A user's noise that is none: it loses rows."""

    kind: ClassVar[str] = "images"
    severity: int = 1

    def __call__(self, samples, ids, seed=0, epoch=0):
        return samples[:-1]


def write(folder, values, labels):
    """A dataset of unequal shards whose ids are not its rows."""
    texts = isinstance(values, list)
    layout = Layout(len(values), shard=60, chunk=10)
    splits = {"train": (0, TRAIN), "test": (TRAIN, len(values))}
    shape, slot = (None, 10_000) if texts else (values.shape[1:], None)
    plan = Plan("clean", "texts" if texts else "images", layout, {}, shape, ("a", "b", "c"), splits, slot)
    build = Build(str(folder), plan)
    build.begin()
    ids = np.random.default_rng(1).permutation(len(values))
    codes = np.where(np.arange(len(values)) < TRAIN, 0, 2).astype(np.uint8)
    for number in range(layout.shards):
        rows = slice(*layout.bounds(number))
        build.write_shard(number, Shard(values[rows], labels[rows], ids[rows], codes[rows]))
    build.finish()
    publish(build.dataset, [build.plan.key])
    return storage.open_dataset(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    values = (labels[:, None, None, None] * 40 + rng.integers(0, 90, (COUNT, 6, 5, 1))).astype(np.uint8)
    return write(tmp_path_factory.mktemp("images") / "clean", values, labels)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    words = [["rain", "wind", "cloud"], ["bread", "salt", "apple"], ["piano", "violin", "drum"]]
    values = [
        " ".join([*rng.choice(words[label], 3), *rng.choice(words[rng.integers(3)], 2)]) + " caf\u00e9"
        for label in labels
    ]
    return write(tmp_path_factory.mktemp("texts") / "clean", values, labels)


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks, and windows that cut through the rows of one condition."""
    monkeypatch.setattr("tasks.features.LEAST_BYTES", 4_000)
    monkeypatch.setattr(scoring, "WINDOW_BYTES", 10_000)


def scores_of(client, dataset, method, variants, *, seed=3, rows=None, labels=("it",)):
    """Scores by subject, name and severity; and what was planned."""
    features, found = Features(dataset, n_features=64), {}
    pairs = [(variant, [condition_of(variant, rows=rows, denoiser=None)]) for variant in variants]

    def fitted():
        fit_classifier(method, dataset, features)
        return method

    plan = Measure(
        client=client,
        clean=dataset,
        features=features,
        split="test",
        seed=seed,
        variants=pairs,
        on_score=lambda label, c, accuracy, count: found.__setitem__((label, c.series, c.severity), (accuracy, count)),
        rows=rows,
        retries=0,
    )
    keys = {condition.key for _, conditions in pairs for condition in conditions}
    measure(plan, [MethodSubject(label, keys, fitted, features.columns) for label in labels])
    return found, plan


def variants_of(*kinds, severities=(1, 4)):
    return [Variant("clean", 0), *(Variant(k.__name__, s, k(severity=s)) for k in kinds for s in severities)]


def test_read_block__equals_a_stored_copy_bit_for_bit(images, workers, tmp_path):
    for made in (noise.Gaussian(severity=3), noise.SaltAndPepper(severity=5)):
        copy = add_noise(images, made, str(tmp_path / noise.slug_of(made)), workers, seed=11)
        for start, stop in [(0, COUNT), (TRAIN, COUNT), (55, 131), (399, 400)]:
            np.testing.assert_array_equal(read_block(images.path, start, stop, made, 11), copy.read(start, stop))
        assert not np.array_equal(read_block(images.path, 0, COUNT, made, 12), copy.read(0, COUNT))


def test_read_block__of_texts_equals_a_stored_copy(texts, workers, tmp_path):
    made = noise.CharacterSwap(severity=4)
    copy = add_noise(texts, made, str(tmp_path / "swapped"), workers, seed=5)
    assert read_block(texts.path, 290, 400, made, 5) == copy.read(290, 400)
    assert read_block(texts.path, 290, 400, made, 5) != texts.read(290, 400)


@pytest.mark.parametrize(
    ("method", "reference"),
    [
        (methods.KNeighborsClassifier(5), ReferenceNeighbors(5)),
        (LogisticRegression(max_iter=300), LogisticRegression(max_iter=300)),
    ],
    ids=["ours", "scikit-learn's"],
)
def test_measure__accuracies_are_those_of_scikit_learn(images, workers, small_blocks, method, reference):
    found, _ = scores_of(workers, images, method, variants_of(noise.Gaussian, noise.SaltAndPepper))
    values, labels, ids = images.read(0, COUNT), images.labels(), images.ids()

    def rows(samples):
        return samples.reshape(len(samples), -1).astype(np.float32) / np.float32(255)

    reference.fit(rows(values[:TRAIN]), labels[:TRAIN])
    expected = {("it", "clean", 0): reference.score(rows(values[TRAIN:]), labels[TRAIN:])}
    for kind in (noise.Gaussian, noise.SaltAndPepper):
        for severity in (1, 4):
            noisy = kind(severity=severity)(values, ids, seed=3)[TRAIN:]
            expected["it", kind.__name__, severity] = reference.score(rows(noisy), labels[TRAIN:])
    assert {name: value for name, (value, _) in found.items()} == pytest.approx(expected, abs=1e-12)
    assert {count for _, count in found.values()} == {COUNT - TRAIN}
    assert len(set(expected.values())) > 3


def test_measure__equals_the_evaluation_of_stored_copies(images, workers, small_blocks, tmp_path):
    made = noise.Gaussian(severity=4)
    copy = add_noise(images, made, str(tmp_path / "noisy"), workers, seed=3)
    variants = [Variant("clean", 0), Variant("Gaussian", 4, made), Variant("Stored", 4, made, copy.path)]
    # Both have the same key, because their scores are the same: so each is asked for apart.
    fly, _ = scores_of(workers, images, methods.LinearSVC(), variants[:2])
    stored, _ = scores_of(workers, images, methods.LinearSVC(), variants[2:])
    with workers.as_current():
        result = evaluate_method(methods.LinearSVC(), images, {"clean": images, "noisy": copy}, Features(images))
    clean, noisy = (score["value"] for score in result["scores"])
    assert fly["it", "clean", 0][0] == clean
    assert fly["it", "Gaussian", 4][0] == stored["it", "Stored", 4][0] == noisy


def test_measure__texts(texts, workers, small_blocks):
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    found, _ = scores_of(workers, texts, LogisticRegression(), variants_of(noise.CharacterSwap, noise.WordDrop))
    values, labels, ids = texts.read(0, COUNT), texts.labels(), texts.ids()
    hashed = HashingVectorizer(n_features=64, alternate_sign=False, norm=None)
    weights = TfidfTransformer().fit(hashed.transform(values[:TRAIN]))

    def rows(samples):
        return weights.transform(hashed.transform(samples)).toarray().astype(np.float32)

    reference = LogisticRegression().fit(rows(values[:TRAIN]), labels[:TRAIN])
    for (_, name, severity), (value, _) in found.items():
        made = getattr(noise, name, None)
        noisy = made(severity=severity)(values, ids, seed=3) if made else values
        assert value == pytest.approx(reference.score(rows(noisy[TRAIN:]), labels[TRAIN:]), abs=0.01)
    assert found["it", "CharacterSwap", 4][0] < found["it", "clean", 0][0]


def test_measure__first_rows_only(images, workers, small_blocks):
    found, _ = scores_of(workers, images, methods.KNeighborsClassifier(3), variants_of(noise.Gaussian), rows=50)
    values, labels, ids = images.read(0, COUNT), images.labels(), images.ids()
    X = values.reshape(COUNT, -1).astype(np.float32) / np.float32(255)
    reference = ReferenceNeighbors(3).fit(X[:TRAIN], labels[:TRAIN])
    noisy = noise.Gaussian(severity=4)(values, ids, seed=3).reshape(COUNT, -1) / np.float32(255)
    few = slice(TRAIN, TRAIN + 50)
    assert found["it", "Gaussian", 4] == (pytest.approx(reference.score(noisy[few], labels[few])), 50)


def test_measure__a_noise_that_fails_leaves_the_others(images, workers, small_blocks):
    method = methods.KNeighborsClassifier(3)
    found, plan = scores_of(workers, images, method, variants_of(Shrink, noise.Gaussian))
    assert {name for _, name, _ in found} == {"clean", "Gaussian"} and len(found) == 3
    assert list(plan.failed_series) == ["Shrink"] and not plan.failed_subjects
    assert "to keep uint8 and shape" in str(plan.failed_series["Shrink"])


def test_measure__a_subject_that_fails_leaves_the_others(images, workers):
    class Broken(LogisticRegression):
        def predict(self, X):
            raise OSError("no such luck")

    features, found = Features(images), []
    variants = [(v, [condition_of(v, rows=None, denoiser=None)]) for v in variants_of(noise.Gaussian)]
    keys = {condition.key for _, conditions in variants for condition in conditions}

    def fitted(method):
        fit_classifier(method, images, features)
        return method

    plan = Measure(
        client=workers,
        clean=images,
        features=features,
        split="test",
        seed=0,
        variants=variants,
        on_score=lambda label, *_: found.append(label),
        retries=0,
    )
    subjects = [
        MethodSubject("broken", keys, partial(fitted, Broken()), features.columns),
        MethodSubject("sound", keys, partial(fitted, LogisticRegression()), features.columns),
    ]
    measure(plan, subjects)
    assert found == ["sound"] * 3
    assert list(plan.failed_subjects) == ["broken"] and "no such luck" in str(plan.failed_subjects["broken"])


def test_condition_of__key_follows_what_the_score_depends_on():
    def key(made, rows=None, denoiser=None, path=None):
        return condition_of(Variant("X", 1, made, path), rows=rows, denoiser=denoiser).key

    keys = [
        key(noise.Gaussian(severity=1)),
        key(noise.Gaussian(severity=2)),
        key(noise.SaltAndPepper(severity=1)),
        key(noise.Gaussian(severity=1), rows=10),
        key(noise.Gaussian(severity=1), denoiser="abc"),
        key(noise.Gaussian(severity=1), denoiser="abd"),
        key(None),
    ]
    assert len(set(keys)) == len(keys)
    assert key(noise.Gaussian(severity=1), path="stored") == keys[0]


def test_corruption_errors__by_hand():
    scores = {"Fog": [0.8, 0.6], "Snow": [0.7, 0.5]}
    base = {"Fog": [0.6, 0.2], "Snow": [0.5, 0.3]}
    errors = corruption_errors(0.9, scores, 0.8, base)
    # Fog: (0.2 + 0.4) / (0.4 + 0.8); Snow: (0.3 + 0.5) / (0.5 + 0.7)
    assert errors.ce == pytest.approx({"Fog": 0.6 / 1.2, "Snow": 0.8 / 1.2})
    assert errors.mce == pytest.approx((0.6 / 1.2 + 0.8 / 1.2) / 2)
    # Less the clean errors 0.1 and 0.2. Fog: (0.1 + 0.3) / (0.2 + 0.6); Snow: (0.2 + 0.4) / (0.3 + 0.5)
    assert errors.relative_mce == pytest.approx((0.4 / 0.8 + 0.6 / 0.8) / 2)
    same = corruption_errors(0.8, base, 0.8, base)
    assert (same.mce, same.relative_mce) == (1.0, 1.0)


def test_corruption_errors__a_baseline_without_errors_has_no_ratio():
    errors = corruption_errors(0.9, {"Fog": [0.8], "Snow": [0.5]}, 1.0, {"Fog": [1.0], "Snow": [0.5]})
    assert errors.ce == {"Fog": None, "Snow": 1.0} and errors.mce is None and errors.relative_mce is None
    flat = corruption_errors(0.9, {"Fog": [0.8]}, 0.7, {"Fog": [0.7]})
    assert flat.mce == pytest.approx(0.2 / 0.3) and flat.relative_mce is None
