"""Datasets as lazy arrays: nothing is computed before it is asked for, and nothing is made up."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import dask
import dask.array
import numpy as np
import pytest
import xarray

import storage
from storage import StorageError
from storage.adapters.arrays import to_dask, to_xarray

SPLITS = [None, "train", "validation", "test"]


@contextmanager
def nothing_computed():
    """Computing anything is an error."""

    def refuse(*arguments, **options):
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def appended(builds_at, commit, tmp_path):
    """Makes a dataset of two parts with shards of different sizes."""

    def make(kind):
        if kind == "texts":
            first, second = [f"text {i}" for i in range(20)], [f"later {i} é" for i in range(11)]
            one = builds_at[kind](tmp_path / kind, first, 6)
            return commit(one, builds_at[kind](tmp_path / kind, second, 4, first_id=20))
        sizes = {"shard": 3, "chunk": 3} if kind == "images" else {"shard": 3}
        return commit(builds_at[kind](tmp_path / kind, 23), builds_at[kind](tmp_path / kind, 9, **sizes, first_id=23))

    return make


@pytest.mark.parametrize("split", SPLITS)
def test_to_dask__images_by_shards(images, split):
    with nothing_computed():
        found = to_dask(images, split)
    rows = slice(0, 50) if split is None else images.rows(split)
    for name, wanted in (
        ("values", images.read(rows.start, rows.stop)),
        ("labels", images.labels()[rows]),
        ("ids", images.ids()[rows]),
    ):
        assert isinstance(found[name], dask.array.Array)
        assert found[name].dtype == wanted.dtype and found[name].shape == wanted.shape
        np.testing.assert_array_equal(found[name].compute(), wanted)
    # 35 rows of training, 5, 10, in shards of 8.
    chunks = {"train": (8, 8, 8, 8, 3), "validation": (5,), "test": (8, 2), None: (8, 8, 8, 8, 3, 5, 8, 2)}[split]
    assert found["values"].chunks == (chunks, (5,), (3,), (1,))
    assert found["labels"].chunks == found["ids"].chunks == (chunks,)


@pytest.mark.parametrize("split", SPLITS)
def test_to_dask__texts_as_a_bag(texts, split):
    with nothing_computed():
        found = to_dask(texts, split)
    rows = slice(0, 50) if split is None else texts.rows(split)
    assert found["values"].compute(scheduler="threads") == texts.read(rows.start, rows.stop)
    assert found["values"].npartitions == found["labels"].numblocks[0]
    lengths = found["values"].map(len).compute(scheduler="threads")
    assert lengths == [len(text) for text in texts.read(rows.start, rows.stop)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["images", "texts", "files"])
def test_to_dask__of_appended_parts(appended, kind, split):
    data = appended(kind)
    rows = slice(0, data.count) if split is None else data.rows(split)
    found = to_dask(data.path, split)
    values = found["values"].compute(scheduler="threads")
    np.testing.assert_array_equal(values, data.read(rows.start, rows.stop))
    np.testing.assert_array_equal(found["labels"].compute(), data.labels()[rows])
    np.testing.assert_array_equal(found["ids"].compute(), data.ids()[rows])


def test_to_dask__computes_only_what_is_asked_for(image_build, commit):
    data = commit(image_build(50))
    store, key = data.parts[0].store, f"{data.parts[0].key}/data.zarr/images"
    for shard in (0, 1, 3, 4, 5, 6):
        store.remove(f"{key}/c.{shard}.0.0.0")
    np.testing.assert_array_equal(to_dask(data)["values"][16:24].compute(), data.read(16, 24))


@pytest.mark.parametrize("damage", ["missing", "damaged"])
@pytest.mark.parametrize("kind", ["images", "texts", "files"])
def test_to_dask__a_bad_shard_is_named(builds_at, commit, tmp_path, kind, damage):
    data = commit(builds_at[kind](tmp_path / kind, *([list("abcdefgh" * 3), 6] if kind == "texts" else [20])))
    name = "images/c.1.0.0.0" if kind == "images" else "values/c.1"
    store, key = data.parts[0].store, f"{data.parts[0].key}/data.zarr/{name}"
    held = store.read(key)
    store.remove(key)
    if damage == "damaged":
        store.write(key, held[:-1] + bytes([held[-1] ^ 1]))
    with pytest.raises(StorageError, match=rf"{damage} shard 1 of '.*' \(.*{name}\)"):
        to_dask(data, verify=True)["values"].compute(scheduler="threads")


def test_to_dask__the_same_data_has_the_same_keys(images, texts):
    assert to_dask(images)["values"].name == to_dask(images.path)["values"].name
    names = {
        to_dask(data, split)[name].name for data in (images, texts) for split in SPLITS for name in ("values", "ids")
    }
    assert len(names) == 16
    assert to_dask(images, verify=True)["values"].name not in names


def test_nothing_computed__sees_a_computation(images):
    with nothing_computed(), pytest.raises(AssertionError, match="something was computed"):
        to_dask(images)["ids"].compute()


def test_to_dask__travels_without_data(images):
    found = pickle.loads(pickle.dumps(to_dask(images, "test")["values"]))
    np.testing.assert_array_equal(found.compute(), images.read(40, 50))


@pytest.mark.parametrize("make", [to_dask, to_xarray])
def test_arrays__of_a_split_that_is_not_there(images, make):
    with pytest.raises(ValueError, match=r"expected a split of \['train', 'validation', 'test'\], received 'holdout'"):
        make(images, "holdout")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("parts", [1, 2])
def test_to_xarray__is_what_zarr_gives(images, appended, split, parts):
    data = images if parts == 1 else appended("images")
    with nothing_computed():
        found = to_xarray(data.path, split)
    whole = data.xarray().load()
    wanted = whole if split is None else whole.isel(sample=data.rows(split))
    assert not found.images._in_memory and found.images.chunks == to_dask(data, split)["values"].chunks
    xarray.testing.assert_identical(found.compute(), wanted)


def test_to_xarray__of_texts(texts):
    with nothing_computed():
        opened = to_xarray(texts, "test")
    values, offsets = opened["values"].values.tobytes(), opened.offsets.values
    assert [values[low:high].decode() for low, high in offsets] == texts.read(40, 50)
    np.testing.assert_array_equal(opened.ids.values, texts.ids()[40:])
    assert (opened["split"] == 2).all() and len(opened["split"]) == 10


@pytest.mark.parametrize("split", SPLITS)
def test_to_xarray__of_texts_is_what_zarr_gives(texts, split):
    with nothing_computed():
        found = to_xarray(texts.path, split, verify=True)
    wanted = texts.xarray().load()
    wanted = wanted if split is None else wanted.isel(sample=texts.rows(split))
    xarray.testing.assert_identical(found.compute(), wanted)


@pytest.mark.parametrize("verify", [True, False])
def test_to_xarray__a_missing_shard_of_texts_is_not_zeros(text_build, commit, verify):
    data = commit(text_build([f"text {i}" for i in range(20)], 4))
    data.parts[0].store.remove(data.parts[0]._data_key(2))
    with pytest.raises(StorageError, match="missing shard 2 of 'reviews'"):
        to_xarray(data, verify=verify)["values"].compute(scheduler="sync")


def test_to_xarray__verified_refuses_damaged_texts_and_offsets(text_build, commit):
    data = commit(text_build([f"text {i}" for i in range(20)], 4))
    part = data.parts[0]
    for key, name, message in (
        (part._data_key(2), "values", "damaged shard 2 of 'reviews'"),
        (f"{part.key}/data.zarr/offsets/c.0.0", "offsets", r"damaged .*offsets/c\.0\.0"),
    ):
        held = bytearray(part.store.read(key))
        held[9] ^= 1
        part.store.write(key, bytes(held))
        with pytest.raises(StorageError, match=message):
            to_xarray(data, verify=True)[name].compute(scheduler="sync")


def test_to_xarray__decodes_files(file_build, commit):
    data = commit(file_build())
    found = to_xarray(data, "train")
    assert set(found) == {"images", "labels", "ids", "split"} and found.attrs == data.xarray().attrs
    np.testing.assert_array_equal(found.images.values, data.read(0, 7))


def test_to_xarray__a_missing_shard_is_not_zeros(image_build, commit):
    data = commit(image_build(20))
    data.parts[0].store.remove(f"{data.parts[0].key}/data.zarr/images/c.1.0.0.0")
    assert not data.xarray().images[8:16].values.any(), "what Zarr makes of it"
    with pytest.raises(storage.StorageError, match="missing shard 1"):
        to_xarray(data).images.values  # noqa: B018


def test_to_dask__texts_become_rows_of_words(builds_at, commit, tmp_path):
    from sklearn.feature_extraction import text

    from tasks.methods.text.vectorizers import TfidfVectorizer

    texts = [f"text number {i} of {i % 5} é" for i in range(30)]
    dataset = commit(builds_at["texts"](tmp_path / "texts", texts, 8))
    expected = text.TfidfVectorizer(token_pattern=r"\w+").fit_transform(list(dataset.read(0, 30)))
    for given in (dataset, tmp_path / "texts", to_dask(dataset)["values"]):
        found = TfidfVectorizer(token_pattern=r"\w+").fit_transform(given)
        assert found.chunks[0] == to_dask(dataset)["labels"].chunks[0]
        np.testing.assert_allclose(found.compute(scheduler="threads").toarray(), expected.toarray(), rtol=1e-13)
