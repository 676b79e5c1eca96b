from __future__ import annotations

import dask
import numpy as np
import pytest
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

import storage
from storage.layout import Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.texts import byte_lengths
from storage.versions import publish
from storage.writer import Build
from tasks import features as module
from tasks.features import Features

TEXTS = [f"the film number {i} was {'great' if i % 2 else 'awful'}<br />{'indeed ' * (i % 5)}" for i in range(60)]
TEXTS.append("")
TRAIN = 40


def write(folder, values, *, shard, kind="texts", shape=None):
    count = len(values)
    layout = Layout(count=count, shard=shard, chunk=shard)
    slot = int(byte_lengths(values).sum()) if kind == "texts" else None
    splits = {"train": (0, TRAIN), "test": (TRAIN, count)}
    plan = Plan("clean", kind, layout, {"shard": shard}, shape, ("a", "b"), splits, slot)
    build = Build(str(folder), plan)
    build.begin()
    for number in range(layout.shards):
        rows = slice(*layout.bounds(number))
        ids = np.arange(rows.start, rows.stop)
        build.write_shard(number, Shard(values[rows], ids % 2, ids, np.where(ids < TRAIN, 0, 2).astype(np.uint8)))
    build.finish()
    publish(build.dataset, [build.plan.key])
    return storage.open_dataset(folder)


@pytest.fixture
def texts(tmp_path):
    return write(tmp_path / "texts", TEXTS, shard=7)


@pytest.fixture
def images(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (61, 5, 4, 3), dtype=np.uint8)
    return values, write(tmp_path / "images", values, shard=8, kind="images", shape=(5, 4, 3))


def refuse(*_args, **_kwargs):
    raise AssertionError("computed while the graph was built")


def test_matrix__pixels(images):
    values, dataset = images
    X, y = Features(dataset).matrix(dataset, "test")
    assert X.dtype == np.float32 and X.shape == (21, 60)
    np.testing.assert_allclose(X.compute(), values[TRAIN:].reshape(21, 60) / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, np.arange(TRAIN, 61) % 2)


def test_matrix__is_lazy(images):
    _, dataset = images
    with dask.config.set(scheduler=refuse):
        X, _ = Features(dataset).matrix(dataset, "train")
        assert X.sum().shape == ()


@pytest.mark.parametrize("block_rows", [1, 5, 7, 20, 1000])
def test_matrix__blocks_change_nothing(images, monkeypatch, block_rows):
    values, dataset = images
    monkeypatch.setattr(module, "LEAST_BYTES", block_rows * 60 * 4)
    monkeypatch.setattr(module, "BLOCK_BYTES", block_rows * 60 * 4)
    X, _ = Features(dataset).matrix(dataset, "test")
    assert max(X.chunks[0]) <= block_rows
    np.testing.assert_allclose(X.compute(), values[TRAIN:].reshape(21, 60) / 255, rtol=1e-6)


def test_matrix__tfidf_is_scikit_learns(texts):
    features = Features(texts, n_features=64)
    hasher = HashingVectorizer(n_features=64, alternate_sign=False, norm=None)
    plain = [text.replace("<br />", " ") for text in TEXTS]
    weights = TfidfTransformer().fit(hasher.transform(plain[:TRAIN]))
    for split, rows in {"train": slice(0, TRAIN), "test": slice(TRAIN, None)}.items():
        X, _ = features.matrix(texts, split)
        expected = weights.transform(hasher.transform(plain[rows])).toarray()
        np.testing.assert_allclose(X.compute(), expected, atol=1e-6)
    assert not X.compute()[-1].any()  # the empty text


def test_matrix__tfidf_does_not_depend_on_shards(texts, tmp_path):
    other = write(tmp_path / "other", TEXTS, shard=25)
    ours = [Features(dataset, 64).matrix(dataset, "test")[0].compute() for dataset in (texts, other)]
    np.testing.assert_array_equal(*ours)


def test_matrix__other_kind_or_split(texts, images):
    with pytest.raises(ValueError, match="expected texts of shape None like 'clean', received images"):
        Features(texts).matrix(images[1], "train")
    with pytest.raises(ValueError, match="expected a split of"):
        Features(texts).matrix(texts, "validation")
