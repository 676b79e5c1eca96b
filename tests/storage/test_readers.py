"""Any reader of Zarr v3 opens a dataset and reads it bit for bit: zarr-python, xarray, TensorStore, zarr-metadata."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from storage import arrays
from storage.documents import GROUP
from storage.layout import variables

KINDS = ("images", "colour", "texts", "files", "appended", "columns of several files")


@pytest.fixture(params=KINDS)
def dataset(request, builds_at, commit, tmp_path, monkeypatch, odd_texts):
    place, images = tmp_path / "data", builds_at["images"]
    if request.param.startswith("columns"):
        monkeypatch.setattr(arrays, "COLUMN_ROWS", 5)
    made = {
        "images": lambda: [images(place)],
        "colour": lambda: [images(place, 21, (7, 11, 3), 10, 5)],
        "texts": lambda: [builds_at["texts"](place, [*odd_texts, "x" * 9999])],
        "files": lambda: [builds_at["files"](place)],
        "appended": lambda: [images(place), images(place, 9, shard=2, chunk=1, seed=1, first_id=23)],
        "columns of several files": lambda: [builds_at["texts"](place, odd_texts)],
    }[request.param]()
    dataset = commit(*made)
    dataset.made = made
    return dataset


def expected(dataset, number) -> dict[str, np.ndarray]:
    """The arrays of a part as they were given; of ragged samples offsets and samples."""
    _, shards = dataset.made[number]
    found = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in ("labels", "ids", "split")}
    samples = [sample for shard in shards for sample in shard.values]
    if not dataset.made[number][0].plan.ragged:
        return {**found, "images": np.array(samples)}
    return {**found, "samples": [s.encode("utf-8", "surrogatepass") if isinstance(s, str) else s for s in samples]}


def check(found, wanted) -> None:
    """`found` gives an array by its name."""
    for name, value in wanted.items():
        if name == "samples":
            values, offsets = np.asarray(found("values")).tobytes(), np.asarray(found("offsets"))
            assert [values[low:high] for low, high in offsets.tolist()] == value
        else:
            array = np.asarray(found(name))
            np.testing.assert_array_equal(array, value)
            assert array.dtype == value.dtype


@pytest.mark.parametrize("consolidated", [True, False])
def test_zarr__reads_every_part(dataset, consolidated):
    for number, part in enumerate(dataset.parts):
        group = zarr.open_group(part.group, mode="r", use_consolidated=consolidated)
        check(lambda name, group=group: group[name][:], expected(dataset, number))
        assert dict(group.attrs)["duskflow"]["version"] == part.version


def test_zarr__reads_from_an_object_store(builds_at, commit, memory_location):
    for kind, options in (("images", []), ("texts", [["a", "", "é" * 30]])):
        made = builds_at[kind](memory_location(), *options)
        dataset = commit(made)
        dataset.made = [made]
        part = dataset.parts[0]
        group = zarr.open_group(part.store.zarr(f"{part.key}/{GROUP}"), mode="r")
        check(lambda name, group=group: group[name][:], expected(dataset, 0))
        opened = dataset.xarray()
        check(lambda name, opened=opened: opened[name].values, expected(dataset, 0))


def test_xarray__reads_every_part(dataset):
    import xarray

    for number, part in enumerate(dataset.parts):
        opened = xarray.open_zarr(part.group, consolidated=True, zarr_format=3, chunks=None)
        check(lambda name, opened=opened: opened[name].values, expected(dataset, number))


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


def test_tensorstore__reads_every_part(dataset):
    tensorstore = pytest.importorskip("tensorstore")

    def read(part, name):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{part.group}/{name}/"}}
        return tensorstore.open(spec, open=True, read=True).result().read().result()

    for number, part in enumerate(dataset.parts):
        check(lambda name, part=part: read(part, name), expected(dataset, number))


def test_zarr_metadata__accepts_every_document(dataset):
    model = pytest.importorskip("zarr_metadata.model")
    for part in dataset.parts:
        root = json.loads(part.store.read(f"{part.key}/{GROUP}/zarr.json"))
        assert set(root) == {"zarr_format", "node_type", "attributes", "consolidated_metadata"}
        model.ZarrV3GroupMetadata.from_json(root)
        members = root["consolidated_metadata"]["metadata"]
        assert set(members) == {variable.name for variable in variables(part.plan.ragged)}
        for name, document in members.items():
            # Consolidated and own metadata are the same, and neither holds a field that no specification knows.
            assert document == json.loads(part.store.read(f"{part.key}/{GROUP}/{name}/zarr.json"))
            read = model.ZarrV3ArrayMetadata.from_json(document)
            assert json.loads(json.dumps(read.to_json()))["shape"] == document["shape"]
            assert set(document) <= {
                *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value"),
                *("codecs", "attributes", "storage_transformers", "dimension_names"),
            }
