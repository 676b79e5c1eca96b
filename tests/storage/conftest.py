"""Small builds, written by hand, that the tests of storage start from."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import distributed  # noqa: F401 - its defaults must be loaded before a test, which puts Dask's configuration back
import numpy as np
import pytest

from storage.dataset import Dataset, open_dataset
from storage.layout import Layout
from storage.plan import Plan
from storage.texts import byte_lengths
from storage.writer import Build, Shard

Made = tuple[Build, list[Shard]]


def splits_of(count: int) -> dict[str, tuple[int, int]]:
    """Seven tenths, one tenth, and the rest; splits without rows are left out, as ingest does."""
    edges = [0, max(1, count * 7 // 10), max(1, count * 8 // 10), count]
    names = ("train", "validation", "test")
    return {name: (low, high) for name, low, high in zip(names, edges[:-1], edges[1:], strict=True) if high > low}


def cut(layout: Layout, values: np.ndarray | Sequence[str], labels: np.ndarray, splits: dict) -> list[Shard]:
    """The shards of samples that lie in storage order; ids run backwards so that they differ from rows."""
    codes = np.empty(layout.count, np.uint8)
    for code, name in enumerate(("train", "validation", "test")):
        low, high = splits.get(name, (0, 0))
        codes[low:high] = code
    ids = np.arange(layout.count, dtype=np.int64)[::-1].copy()
    bounds = [layout.bounds(shard) for shard in range(layout.shards)]
    return [Shard(values[low:high], labels[low:high], ids[low:high], codes[low:high]) for low, high in bounds]


def make_images(
    folder: Path,
    count: int = 23,
    shape: tuple[int, int, int] = (5, 3, 1),
    shard: int = 8,
    chunk: int = 4,
    *,
    seed: int = 0,
    values: np.ndarray | None = None,
) -> Made:
    """A build of random images and its shards, nothing written yet."""
    rng = np.random.default_rng(seed)
    layout, splits = Layout(count, shard, chunk), splits_of(count)
    plan = Plan(
        name="clean",
        kind="images",
        layout=layout,
        recipe={"seed": seed},
        sample_shape=shape,
        classes=("cat", "dog", "élan"),
        splits=splits,
    )
    if values is None:
        values = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(-1, 3, count)
    return Build(str(folder), plan), cut(layout, values, labels, splits)


def make_texts(folder: Path, texts: Sequence[str], shard: int = 3) -> Made:
    """A build of the given texts and its shards, nothing written yet."""
    layout, splits = Layout(len(texts), shard, shard), splits_of(len(texts))
    lengths = byte_lengths(texts)
    slot = max(int(lengths[slice(*layout.bounds(i))].sum()) for i in range(layout.shards))
    plan = Plan(
        name="reviews",
        kind="texts",
        layout=layout,
        recipe={},
        classes=("bad", "good"),
        splits=splits,
        slot_bytes=max(1, slot),
    )
    return Build(str(folder), plan), cut(layout, texts, np.arange(len(texts)) % 2, splits)


def write(made: Made) -> Dataset:
    """Write all shards of a build, finish it, and open it."""
    build, shards = made
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    build.finish()
    return open_dataset(build.dataset)


@pytest.fixture(autouse=True)
def quick_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power fails while tests run; that files are synced, and in which order, test_durable and test_writer watch."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def image_build(tmp_path: Path) -> Callable[..., Made]:
    """Makes builds of images in folders of the test."""
    return lambda *sizes, folder="clean", **options: make_images(tmp_path / folder, *sizes, **options)


@pytest.fixture
def text_build(tmp_path: Path) -> Callable[..., Made]:
    """Makes builds of texts in folders of the test."""
    return lambda texts, *sizes, folder="reviews", **options: make_texts(tmp_path / folder, texts, *sizes, **options)


@pytest.fixture(scope="session")
def commit() -> Callable[[Made], Dataset]:
    """Writes all shards of a build, finishes it, and opens it."""
    return write


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """50 images in 7 shards, to be read only."""
    return write(make_images(tmp_path_factory.mktemp("images"), 50))


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """50 texts in 8 shards, to be read only."""
    return write(make_texts(tmp_path_factory.mktemp("texts"), [f"text {i}" for i in range(50)], 7))


TEXTS = [
    "",
    "plain",
    "two\r\nlines",
    "e\u0301 and é",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\x00 null",
    "\ud83d alone",
    "مرحبا",
    "日本語",
    "",
]


@pytest.fixture
def odd_texts() -> list[str]:
    """Texts that trip encoders: empty, combining marks, joined emoji, a null, a lone surrogate, other scripts."""
    return list(TEXTS)
