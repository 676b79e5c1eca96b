"""Small builds, written by hand, that the tests of storage start from."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import distributed  # noqa: F401 - its defaults must be loaded before a test, which puts Dask's configuration back
import numpy as np
import pytest
from PIL import Image

from storage import versions
from storage.dataset import Dataset, open_dataset
from storage.layout import SPLITS, Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.stores import objects
from storage.texts import byte_lengths
from storage.writer import Build

# Of frameworks that .venv lacks; `make test-frameworks` has them.
collect_ignore = [f"test_adapters_{name}.py" for name in ("jax", "torch") if find_spec(name) is None]

Made = tuple[Build, list[Shard]]
Splits = dict[str, tuple[int, int]]


def splits_of(count: int) -> Splits:
    """Seven tenths, one tenth, and the rest; splits without rows are left out, as ingest does."""
    edges = [0, max(1, count * 7 // 10), max(1, count * 8 // 10), count]
    return {
        name: (low, high) for name, (low, high) in zip(SPLITS, itertools.pairwise(edges), strict=True) if high > low
    }


def cut(layout: Layout, values: Any, labels: np.ndarray, splits: Splits, first_id: int = 0) -> list[Shard]:
    """The shards of samples that lie in storage order; ids run backwards so that they differ from rows."""
    codes = np.empty(layout.count, np.uint8)
    for code, name in enumerate(SPLITS):
        low, high = splits.get(name, (0, 0))
        codes[low:high] = code
    ids = first_id + np.arange(layout.count, dtype=np.int64)[::-1].copy()
    bounds = [layout.bounds(shard) for shard in range(layout.shards)]
    return [Shard(values[low:high], labels[low:high], ids[low:high], codes[low:high]) for low, high in bounds]


def make_images(
    location: Path | str,
    count: int = 23,
    shape: tuple[int, int, int] = (5, 3, 1),
    shard: int = 8,
    chunk: int = 4,
    *,
    seed: int = 0,
    values: np.ndarray | None = None,
    splits: Splits | None = None,
    classes: tuple[str, ...] = ("cat", "dog", "élan"),
    first_id: int = 0,
) -> Made:
    """A build of random images and its shards, nothing written yet."""
    rng = np.random.default_rng(seed)
    layout, splits = Layout(count, shard, chunk), splits_of(count) if splits is None else splits
    plan = Plan(
        name="clean",
        kind="images",
        layout=layout,
        recipe={"seed": seed, "first": first_id},
        sample_shape=shape,
        classes=classes,
        splits=splits,
    )
    if values is None:
        values = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(-1, len(classes), count)
    return Build(str(location), plan), cut(layout, values, labels, splits, first_id)


def slots(sizes: np.ndarray, layout: Layout) -> int:
    """Bytes of the largest shard."""
    return max(1, *(int(sizes[slice(*layout.bounds(shard))].sum()) for shard in range(layout.shards)))


def make_texts(
    location: Path | str,
    texts: Sequence[str],
    shard: int = 3,
    *,
    splits: Splits | None = None,
    classes: tuple[str, ...] = ("bad", "good"),
    first_id: int = 0,
) -> Made:
    """A build of the given texts and its shards, nothing written yet."""
    layout = Layout(len(texts), shard, shard)
    splits = splits_of(len(texts)) if splits is None else splits
    plan = Plan(
        name="reviews",
        kind="texts",
        layout=layout,
        recipe={"first": first_id},
        classes=classes,
        splits=splits,
        slot_bytes=slots(byte_lengths(texts), layout),
    )
    return Build(str(location), plan), cut(layout, texts, np.arange(len(texts)) % len(classes), splits, first_id)


def make_files(
    location: Path | str, count: int = 10, shape: tuple[int, int, int] = (6, 5, 3), shard: int = 4, *, first_id: int = 0
) -> Made:
    """A build that keeps PNG and JPEG files as they are, by turns; nothing written yet."""
    rng = np.random.default_rng(first_id)
    files = []
    for number in range(count):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels if shape[2] == 3 else pixels[..., 0]).save(out, ("PNG", "JPEG")[number % 2])
        files.append(out.getvalue())
    layout, splits = Layout(count, shard, shard), splits_of(count)
    plan = Plan(
        name="photos",
        kind="images",
        layout=layout,
        recipe={"keep": "files", "first": first_id},
        sample_shape=shape,
        classes=("cat", "dog"),
        splits=splits,
        slot_bytes=slots(np.array([len(file) for file in files]), layout),
    )
    return Build(str(location), plan), cut(layout, files, np.arange(count) % 2, splits, first_id)


def finish(made: Made) -> str:
    """Write all shards of a build and finish it; nobody sees it yet."""
    build, shards = made
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    return build.finish()


def write(*builds: Made) -> Dataset:
    """Write and finish builds of one dataset, publish them as one version, and open it."""
    for made in builds:
        finish(made)
    location = builds[0][0].dataset
    versions.publish(location, [build.plan.key for build, _ in builds])
    return open_dataset(location)


@pytest.fixture(autouse=True)
def quick_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power fails while tests run; that files are synced, and in which order, test_durable and test_power watch."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def image_build(tmp_path: Path) -> Callable[..., Made]:
    """Makes builds of images in folders of the test."""
    return lambda *sizes, folder="clean", **options: make_images(tmp_path / folder, *sizes, **options)


@pytest.fixture
def text_build(tmp_path: Path) -> Callable[..., Made]:
    """Makes builds of texts in folders of the test."""
    return lambda texts, *sizes, folder="reviews", **options: make_texts(tmp_path / folder, texts, *sizes, **options)


@pytest.fixture
def file_build(tmp_path: Path) -> Callable[..., Made]:
    """Makes builds that keep files of images in folders of the test."""
    return lambda *sizes, folder="photos", **options: make_files(tmp_path / folder, *sizes, **options)


@pytest.fixture(scope="session")
def builds_at() -> dict[str, Callable[..., Made]]:
    """The makers of builds by kind, for locations of any store."""
    return {"images": make_images, "texts": make_texts, "files": make_files}


@pytest.fixture(scope="session")
def commit() -> Callable[..., Dataset]:
    """Writes all shards of builds, finishes and publishes them, and opens the dataset."""
    return write


@pytest.fixture(scope="session")
def finished() -> Callable[[Made], str]:
    """Writes all shards of a build and finishes it, without publishing; gives its version."""
    return finish


@pytest.fixture
def memory_location() -> Iterator[Callable[[], str]]:
    """Gives places in an object store in memory, each empty; forgotten after the test."""
    numbers, given = itertools.count(), []

    def new() -> str:
        given.append(f"test-{id(numbers):x}-{next(numbers)}")
        return f"memory://{given[-1]}/some/prefix"

    yield new
    for name in given:
        objects._memory.pop(name, None)
    from storage import stores

    stores._open.cache_clear()


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
