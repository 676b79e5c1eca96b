from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import storage
from storage import StorageError


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


@pytest.mark.parametrize(
    "texts",
    [
        ["one"],
        [""],
        ["", "", "", ""],
        ["", "a", "", "", "", "", "b"],
        ["x" * 1_000_000, "é", ""],
        ["\x00", "\x00\x00"],
    ],
    ids=["one", "one empty", "all empty", "empty shards", "a megabyte", "null bytes"],
)
def test_read__texts_come_back(text_build, commit, texts):
    dataset = commit(text_build(texts))
    assert dataset.read(0, len(texts)) == texts
    assert [dataset.read(i, i + 1) for i in range(len(texts))] == [[text] for text in texts]
    assert storage.verify(dataset.path).ok


def test_read__any_unicode_comes_back(text_build, commit, odd_texts):
    assert commit(text_build(odd_texts)).read(0, len(odd_texts)) == odd_texts


@pytest.fixture(scope="module")
def pixels(images):
    """What zarr-python reads from `images`."""
    return zarr.open_group(images.path / "data.zarr", mode="r")["images"][:]


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


def test_zarr__reads_the_same(images, texts):
    group = zarr.open_group(images.path / "data.zarr", mode="r")
    np.testing.assert_array_equal(group["images"][:], images.read(0, 50))
    np.testing.assert_array_equal(group["labels"][:], images.labels())
    np.testing.assert_array_equal(group["ids"][:], images.ids())
    group = zarr.open_group(texts.path / "data.zarr", mode="r")
    values, offsets = group["values"][:].tobytes(), group["offsets"][:]
    assert [values[low:high].decode() for low, high in offsets] == texts.read(0, 50)


def test_zarr__reads_the_same_without_consolidated_metadata(images):
    group = zarr.open_group(images.path / "data.zarr", mode="r", use_consolidated=False)
    np.testing.assert_array_equal(group["images"][7:21], images.read(7, 21))


def test_xarray__is_lazy_and_reads_the_same(images):
    opened = images.xarray()
    assert dict(opened.sizes) == {"sample": 50, "height": 5, "width": 3, "channel": 1}
    assert opened.images.chunks[0] == (8, 8, 8, 8, 8, 8, 2)
    assert not opened.images._in_memory
    np.testing.assert_array_equal(opened.images.values, images.read(0, 50))
    np.testing.assert_array_equal(opened.labels.values, images.labels())
    np.testing.assert_array_equal(opened.images[(opened.split == 2).values].values, images.read(40, 50))
    assert opened.attrs["duskflow"]["version"] == images.version


def test_xarray__of_texts(texts):
    opened = texts.xarray()
    values, offsets = opened["values"].values.tobytes(), opened.offsets.values
    assert [values[low:high].decode() for low, high in offsets] == texts.read(0, 50)


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
    assert images.nbytes == sum(
        path.stat().st_size for path in (images.path / "data.zarr").rglob("*") if path.is_file()
    )


def test_open_dataset__by_dataset_or_build(images):
    folder = images.path.parent.parent
    for path in (folder, str(folder), images.path):
        assert storage.open_dataset(path).version == images.version


def test_open_dataset__relative_paths_become_absolute(images, monkeypatch):
    folder = images.path.parent.parent
    monkeypatch.chdir(folder.parent)
    opened = storage.open_dataset(folder.name)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(opened.read(0, 3), images.read(0, 3))


def test_open_dataset__nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a dataset's folder, found nothing at .*none; run the pipe"):
        storage.open_dataset(tmp_path / "none")


def test_open_dataset__something_else_there(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(StorageError, match="no finished dataset in"):
        storage.open_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*holiday.jpg"):
        storage.open_dataset(tmp_path / "holiday.jpg")


def test_open_dataset__pointer_to_a_build_that_is_gone(image_build, commit):
    dataset = commit(image_build())
    dataset.path.rename(dataset.path.with_name("moved"))
    with pytest.raises(StorageError, match="no finished dataset in"):
        storage.open_dataset(dataset.path.parent.parent)


@pytest.mark.parametrize(
    "damage",
    [b"", b"garbage", b"[]", b"null", b"{}", b'{"name": "clean"}', b"\xff\xfe\x00", b'{"layout": {"count": -1}}'],
)
def test_open_dataset__garbage_instead_of_a_manifest(image_build, commit, damage):
    dataset = commit(image_build())
    (dataset.path / "manifest.json").write_bytes(damage)
    with pytest.raises(StorageError, match=r"damaged manifest .*manifest.json: .*restore it, or delete the build") as e:
        storage.open_dataset(dataset.path.parent.parent)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("field", ["layout", "classes", "sample_shape", "version", "kind"])
def test_open_dataset__manifest_with_a_wrong_field(image_build, commit, field):
    dataset = commit(image_build())
    (dataset.path / "manifest.json").write_text(json.dumps({**dataset.manifest, field: 7}))
    if field == "kind":
        assert not storage.verify(dataset.path).ok
        return
    with pytest.raises(StorageError, match="damaged manifest"):
        storage.open_dataset(dataset.path)


READS = {
    "images": lambda dataset: dataset.read(8, 16),
    "labels": lambda dataset: dataset.labels(),
    "ids": lambda dataset: dataset.ids(),
    "split": lambda dataset: dataset.column("split", 8, 9),
    "values": lambda dataset: dataset.take(np.array([4])),
    "offsets": lambda dataset: dataset.read(4, 5),
}


def shard_file(dataset, name: str, shard: int) -> Path:
    return next((dataset.path / "data.zarr" / name).glob(f"c.{shard}*"))


@pytest.mark.parametrize("name", READS)
def test_read__of_a_lost_file_is_refused(image_build, text_build, commit, name):
    # Zarr itself reads a lost file as zeros.
    made = text_build(["a", "b", "c", "d"] * 2) if name in ("values", "offsets") else image_build()
    dataset = commit(made)
    shard_file(dataset, name, 1).unlink()
    with pytest.raises(StorageError, match=r"missing shard 1 of '.*' \(.*\); run verify"):
        READS[name](dataset)


@pytest.mark.parametrize("name", READS)
def test_read__of_a_truncated_file_fails(image_build, text_build, commit, name):
    made = text_build(["a", "b", "c", "d"] * 2) if name in ("values", "offsets") else image_build()
    dataset = commit(made)
    path = shard_file(dataset, name, 1)
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises((StorageError, ValueError, RuntimeError, OSError)):
        READS[name](dataset)


def test_read__offsets_of_another_shard_are_refused(text_build, commit):
    dataset = commit(text_build(["a", "b", "c", "d"] * 2))
    path = shard_file(dataset, "offsets", 1)
    healthy = np.fromfile(path, "<i8").reshape(3, 2)
    for damage in ([[0, 10**9]] * 3, healthy + np.eye(3, 2, dtype=np.int64), healthy[::-1], healthy - 10**6):
        path.write_bytes(np.array(damage, "<i8").tobytes())
        for read in (lambda opened: opened.read(3, 6), lambda opened: opened.take(np.array([4]))):
            with pytest.raises(StorageError, match="damaged offsets in shard 1 of 'reviews'; run verify"):
                read(storage.open_dataset(dataset.path))


@pytest.mark.parametrize("limit", [0, 60, 10**9])
def test_take__texts_that_are_kept_stay_within_their_limit(text_build, commit, monkeypatch, limit):
    monkeypatch.setattr("storage.dataset.HELD_BYTES", limit)
    texts = [f"text number {i}" for i in range(40)]
    dataset = commit(text_build(texts, 3))
    for _ in range(2):
        for rows in np.random.default_rng(0).permutation(40).reshape(8, 5):
            assert dataset.take(rows) == [texts[row] for row in rows]
            held = sum(len(data) for data, _ in dataset._texts.values())
            assert held <= max(limit, 3 * 14)  # one shard always stays


def test_read__shards_in_another_layout_are_decoded_by_zarr(images, monkeypatch):
    expected = images.read(0, 50)
    monkeypatch.setattr("storage.dataset.map_shard", lambda *arguments: None)
    again = storage.open_dataset(images.path)
    np.testing.assert_array_equal(again.read(0, 50), expected)
    np.testing.assert_array_equal(again.take(np.array([49, 3, 3])), expected[[49, 3, 3]])
