from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

from storage.arrays import encode_shard, metadata_files
from storage.layout import VARIABLES

# Zarr v3 core specification, "Array metadata": mandatory names and the optional ones.
MANDATORY = {
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
}
OPTIONAL = {"attributes", "storage_transformers", "dimension_names"}


@pytest.fixture(params=["images", "texts"])
def plan(request, image_build, text_build):
    return (image_build() if request.param == "images" else text_build(["a", "b", "c", "d"]))[0].plan


def documents(plan) -> dict[str, dict]:
    return {name: json.loads(data) for name, data in metadata_files(plan, {"note": "é"}).items()}


def test_metadata__has_what_the_specification_demands(plan):
    for name, document in documents(plan).items():
        assert document["zarr_format"] == 3
        if name == "zarr.json":
            assert document["node_type"] == "group"
            continue
        assert document["node_type"] == "array"
        assert set(document) >= MANDATORY
        assert set(document) <= MANDATORY | OPTIONAL
        assert len(document["dimension_names"]) == len(document["shape"])
        assert document["chunk_grid"]["name"] == "regular"
        assert document["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "."}}
        assert document["fill_value"] == 0


def test_metadata__dimensions_and_types(plan):
    found = documents(plan)
    for variable in VARIABLES[plan.kind]:
        document = found[f"{variable.name}/zarr.json"]
        assert tuple(document["dimension_names"]) == variable.dims
        assert document["data_type"] == variable.dtype


def test_metadata__the_root_comes_last_and_holds_the_others(plan):
    found = documents(plan)
    assert list(found)[-1] == "zarr.json"
    root = found.pop("zarr.json")
    assert root["attributes"] == {"note": "é"}
    held = root["consolidated_metadata"]["metadata"]
    assert {f"{name}/zarr.json": document for name, document in held.items()} == found


def test_metadata__images_are_raw_chunks_in_a_shard_with_a_checked_index(image_build):
    codecs = documents(image_build()[0].plan)["images/zarr.json"]["codecs"]
    assert [codec["name"] for codec in codecs] == ["sharding_indexed"]
    inner = codecs[0]["configuration"]
    assert inner["chunk_shape"] == [4, 5, 3, 1]
    assert [codec["name"] for codec in inner["codecs"]] == ["bytes"]
    assert [codec["name"] for codec in inner["index_codecs"]] == ["bytes", "crc32c"]
    assert inner["index_location"] == "end"


def test_metadata__is_the_same_every_time(plan):
    assert metadata_files(plan, {"a": 1}) == metadata_files(plan, {"a": 1})


def contents(build, shard) -> dict[str, np.ndarray]:
    return build._contents(0, shard)


def test_encode_shard__is_read_by_zarr(image_build):
    build, shards = image_build()
    held = dict(encode_shard(build.plan, 0, contents(build, shards[0])))
    assert set(held) == {"images/c.0.0.0.0", "labels/c.0", "ids/c.0", "split/c.0"}
    store = {
        name: zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(data)
        for name, data in {**metadata_files(build.plan, {}), **held}.items()
    }
    group = zarr.open_group(MemoryStore(store), mode="r")
    np.testing.assert_array_equal(group["images"][:8], shards[0].values)
    np.testing.assert_array_equal(group["labels"][:8], shards[0].labels)


def test_encode_shard__zeros_are_written_too(image_build):
    # Zarr's default leaves empty chunks out; then a lost file could not be told from zeros.
    build, shards = image_build(values=np.zeros((23, 5, 3, 1), np.uint8))
    held = dict(encode_shard(build.plan, 2, build._contents(2, shards[2])))
    assert held["images/c.2.0.0.0"].nbytes == 8 * 15 + 2 * 16 + 4


def test_encode_shard__is_pure(text_build, odd_texts):
    build, shards = text_build(odd_texts)
    once, again = ({k: bytes(v) for k, v in encode_shard(build.plan, 1, build._contents(1, shards[1]))} for _ in "ab")
    assert once == again


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("labels", np.zeros(7, np.int64)),
        ("labels", np.zeros(8, np.int32)),
        ("images", np.zeros((8, 3, 5, 1), np.uint8)),
        ("images", np.zeros((8, 5, 3, 1), np.float32)),
    ],
)
def test_encode_shard__refuses_another_shape_or_type(image_build, name, wrong):
    build, shards = image_build()
    with pytest.raises(ValueError, match=rf"expected {name} of shard 0 as .*, received {wrong.dtype} of shape"):
        dict(encode_shard(build.plan, 0, {**contents(build, shards[0]), name: wrong}))
