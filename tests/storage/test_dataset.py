from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import storage


def joined(shards, field="values"):
    parts = [getattr(shard, field) for shard in shards]
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else [text for part in parts for text in part]


@pytest.mark.parametrize(
    ("count", "shape", "shard", "chunk"),
    [
        (1, (1, 1, 1), 1, 1),
        (23, (5, 3, 1), 8, 4),
        (23, (7, 11, 3), 10, 5),
        (16, (2, 2, 3), 8, 8),
        (5, (3, 3, 1), 8, 2),
        (13, (1, 9, 4), 3, 1),
    ],
)
def test_read__images_come_back(image_build, commit, count, shape, shard, chunk):
    made = image_build(count, shape, shard, chunk)
    dataset = commit(made)
    values = joined(made[1])
    assert (dataset.count, dataset.sample_shape, dataset.kind) == (count, shape, "images")
    np.testing.assert_array_equal(dataset.read(0, count), values)
    np.testing.assert_array_equal(dataset.labels(), joined(made[1], "labels"))
    np.testing.assert_array_equal(dataset.ids(), joined(made[1], "ids"))
    assert dataset.read(0, count).dtype == np.uint8
    assert dataset.labels().dtype == dataset.ids().dtype == np.int64


@pytest.fixture(scope="module")
def pixels(images):
    """What zarr-python reads from `images`."""
    return zarr.open_group(images.parts[0].group, mode="r")["images"][:]


@given(st.integers(0, 50), st.integers(0, 50))
def test_read__any_rows(images, texts, pixels, one, other):
    start, stop = sorted((one, other))
    np.testing.assert_array_equal(images.read(start, stop), pixels[start:stop])
    assert texts.read(start, stop) == [f"text {i}" for i in range(start, stop)]


@given(st.lists(st.integers(0, 49), max_size=30))
def test_take__any_rows_in_any_order_and_twice(images, texts, rows):
    np.testing.assert_array_equal(images.take(np.array(rows, np.int64)), images.read(0, 50)[rows])
    assert texts.take(np.array(rows, np.int64)) == [f"text {i}" for i in rows]


def test_take__does_not_give_the_files_memory_away(images):
    taken = images.take(np.arange(8))
    taken[:] = 0  # must neither fail nor reach the file
    assert images.read(0, 8).any()
    read = images.read(0, 8)
    read[:] = 0
    assert images.read(0, 8).any()


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (0, 51), (6, 5)])
def test_read__outside(images, texts, start, stop):
    for dataset in (images, texts):
        with pytest.raises(IndexError, match=f"expected rows within 0 to 50, received {start} to {stop}"):
            dataset.read(start, stop)


@pytest.mark.parametrize("row", [-1, 50])
def test_take__outside(images, row):
    with pytest.raises(IndexError, match="expected rows within 0 to 49"):
        images.take(np.array([0, row]))


def test_splits__rows_of_each(images):
    assert images.splits == {"train": [(0, 35)], "validation": [(35, 40)], "test": [(40, 50)]}
    assert images.rows("test") == slice(40, 50)
    np.testing.assert_array_equal(images.column("split", 33, 42), [0, 0, 1, 1, 1, 1, 1, 2, 2])
    with pytest.raises(ValueError, match=r"expected a split of \['train', 'validation', 'test'\], received 'holdout'"):
        images.rows("holdout")


def test_dataset__survives_pickling_after_use(images, texts):
    for dataset in (images, texts):
        dataset.take(np.arange(20))
        dataset.labels()
        again = pickle.loads(pickle.dumps(dataset))
        assert (again.version, again.count, again.path) == (dataset.version, dataset.count, dataset.path)
        np.testing.assert_array_equal(again.read(3, 9), dataset.read(3, 9))
    assert len(pickle.dumps(images)) < 20_000  # no maps, no arrays


def test_dataset__says_what_it_is(images, texts):
    assert repr(images) == f"<Dataset 'clean': 50 images, 7 shards, version {images.version[:12]}>"
    assert (len(texts), texts.classes, texts.sample_shape, texts.kind) == (50, ("bad", "good"), None, "texts")
    # All that the versions' parts hold, but for plan, manifest and records.
    part = images.parts[0]
    sizes = {key.removeprefix(f"{part.key}/"): size for key, size in part.store.walk(part.key)}
    counted = {name: size for name, size in sizes.items() if not name.startswith(("records/", "manifest.json"))}
    assert images.nbytes == sum(counted.values())


def test_column__of_no_such_name(images):
    for name in ("offsets", "images", "nonsense"):
        with pytest.raises(ValueError, match=rf"expected a column of \['labels', 'ids', 'split'\], received '{name}'"):
            images.column(name, 0, 1)


@pytest.mark.parametrize("name", ["labels", "ids", "split"])
def test_column__any_rows(images, name):
    whole = images.column(name, 0, 50)
    for start, stop in ((0, 0), (3, 4), (49, 50), (7, 43), (50, 50)):
        found = images.column(name, start, stop)
        np.testing.assert_array_equal(found, whole[start:stop])
        assert found.dtype == whole.dtype
    with pytest.raises(IndexError, match="expected rows within 0 to 50, received 40 to 51"):
        images.column(name, 40, 51)


@pytest.mark.parametrize("limit", [0, 60, 10**9])
def test_take__texts_that_are_kept_stay_within_their_limit(text_build, commit, monkeypatch, limit):
    monkeypatch.setattr("storage.kept.HELD_BYTES", limit)
    texts = [f"text number {i}" for i in range(40)]
    dataset = commit(text_build(texts, 3))
    most = 0
    for _ in range(2):
        for rows in np.random.default_rng(0).permutation(40).reshape(8, 5):
            assert dataset.take(rows) == [texts[row] for row in rows]
            held = sum(size for _, size in dataset.parts[0]._held._items.values())
            assert held <= max(limit, 3 * 14)  # one shard always stays
            most = max(most, held)
    assert most == (sum(map(len, texts)) if limit == 10**9 else most)


def test_take__memory_maps_that_are_kept_stay_within_their_limit(image_build, commit, monkeypatch):
    monkeypatch.setattr("storage.kept.HELD_MAPS", 3)
    dataset = commit(image_build(40, (2, 2, 1), 4, 4))
    whole = dataset.read(0, 40)
    for row in np.random.default_rng(0).permutation(40):
        np.testing.assert_array_equal(dataset.take(np.array([row])), whole[[row]])
        assert len(dataset.parts[0]._held._items) <= 3


def test_read__by_many_threads_at_once(images, texts):
    whole = images.read(0, 50)
    again = storage.open_dataset(images.path), storage.open_dataset(texts.path)

    def ask(seed):
        rows = np.random.default_rng(seed).permutation(50)[:20]
        return (again[0].take(rows) == whole[rows]).all() and again[1].take(rows) == [f"text {row}" for row in rows]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))


@pytest.mark.parametrize("kind", ["images", "texts", "files"])
def test_read__from_an_object_store_gives_the_same(builds_at, commit, memory_location, tmp_path, kind):
    options = [["a", "", "é" * 20, "d"]] if kind == "texts" else []
    local, remote = (commit(builds_at[kind](place, *options)) for place in (tmp_path / "local", memory_location()))
    assert local.version == remote.version
    rows = np.array([2, 0, 3, 3])
    np.testing.assert_array_equal(remote.take(rows), local.take(rows))
    np.testing.assert_array_equal(remote.read(0, remote.count), local.read(0, local.count))
    np.testing.assert_array_equal(remote.ids(), local.ids())
    again = pickle.loads(pickle.dumps(remote))
    np.testing.assert_array_equal(again.read(1, 4), local.read(1, 4))
