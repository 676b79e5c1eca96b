from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from numcodecs.zstd import Zstd

from storage import arrays
from storage.arrays import metadata_files
from storage.layout import variables
from storage.shards import encode_shard

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


@pytest.fixture(params=["images", "texts", "files"])
def plan(request, image_build, text_build, file_build):
    made = {"images": image_build, "texts": lambda: text_build(["a", "b", "c", "d"]), "files": file_build}
    return made[request.param]()[0].plan


def documents(plan) -> dict[str, dict]:
    return {name: json.loads(data) for name, data in metadata_files(plan, {"note": "é"}).items()}


def test_metadata__has_what_the_specification_demands(plan):
    for name, document in documents(plan).items():
        assert document["zarr_format"] == 3
        if name == "zarr.json":
            assert document["node_type"] == "group"
            assert set(document) <= {"zarr_format", "node_type", "attributes", "consolidated_metadata"}
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
    assert set(found) == {"zarr.json", *(f"{variable.name}/zarr.json" for variable in variables(plan.ragged))}
    for variable in variables(plan.ragged):
        document = found[f"{variable.name}/zarr.json"]
        assert tuple(document["dimension_names"]) == variable.dims
        assert document["data_type"] == variable.dtype
        assert document["attributes"] == {"long_name": variable.meaning}


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


def test_metadata__texts_are_compressed_and_kept_files_are_not(text_build, file_build):
    names = {}
    for made in (text_build(["a", "b"]), file_build()):
        codecs = documents(made[0].plan)["values/zarr.json"]["codecs"]
        names[made[0].plan.kind] = [codec["name"] for codec in codecs]
    assert names == {"texts": ["bytes", "zstd"], "images": ["bytes"]}


def test_metadata__columns_have_files_of_many_rows(image_build, monkeypatch):
    plan = image_build()[0].plan
    assert documents(plan)["labels/zarr.json"]["chunk_grid"]["configuration"] == {"chunk_shape": [23]}
    monkeypatch.setattr(arrays, "COLUMN_ROWS", 10)
    assert documents(plan)["labels/zarr.json"]["chunk_grid"]["configuration"] == {"chunk_shape": [10]}


def test_metadata__is_the_same_every_time(plan):
    assert metadata_files(plan, {"a": 1}) == metadata_files(plan, {"a": 1})


def test_encode_images__zeros_are_written_too(image_build):
    # Zarr's default leaves empty chunks out; then a lost file could not be told from zeros.
    build, shards = image_build(values=np.zeros((23, 5, 3, 1), np.uint8))
    data = b"".join(arrays.encode_images(build.plan, shards[2].values))
    assert len(data) == 8 * 15 + 2 * 16 + 4


def test_encode_images__any_layout_in_memory_gives_the_same_bytes(image_build):
    build, shards = image_build(shape=(4, 4, 3))
    values = shards[0].values
    strided = np.repeat(values, 2, axis=0)[::2]
    for other in (strided, np.asfortranarray(values)):
        assert not other.flags.c_contiguous
        assert b"".join(arrays.encode_images(build.plan, other)) == b"".join(arrays.encode_images(build.plan, values))


def test_encode_values__fill_the_slot_with_zeros(text_build):
    plan = text_build(["abc", "de", "f"], 1)[0].plan
    data = b"".join(arrays.encode_values(plan, [b"d", b"e"]))
    assert Zstd().decode(data) == b"de\0" == arrays.decode_values(plan, data)


def test_encode_values__is_pure(text_build, odd_texts):
    build, shards = text_build(odd_texts)
    once, again = (encode_shard(build.plan, 1, shards[1]) for _ in "ab")
    assert b"".join(once[1]) == b"".join(again[1])
    assert once[0].hash == again[0].hash


def test_decode_values__every_flipped_bit_is_refused(text_build):
    # Zstandard's own checksum, without any document of ours.
    plan = text_build(["some text that compresses, some text that compresses", "and more"])[0].plan
    data = b"".join(arrays.encode_values(plan, [b"some text that compresses, some text that compresses"]))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = arrays.decode_values(plan, bytes(damaged))
        except (ValueError, MemoryError):
            continue
        assert found == arrays.decode_values(plan, data), bit  # unused bits of the frame's header


@pytest.mark.parametrize("damage", [b"", b"short", bytes(10_000)])
def test_decode_values__of_another_size_is_refused(file_build, text_build, damage):
    for plan in (file_build()[0].plan, text_build(["abc"])[0].plan):
        with pytest.raises(ValueError):
            arrays.decode_values(plan, damage)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("labels", np.zeros(7, np.int64)),
        ("labels", np.zeros(8, np.int32)),
        ("ids", np.zeros((8, 1), np.int64)),
        ("split", np.zeros(8, np.int8)),
        ("values", np.zeros((8, 3, 5, 1), np.uint8)),
        ("values", np.zeros((7, 5, 3, 1), np.uint8)),
        ("values", np.zeros((8, 5, 3, 1), np.float32)),
    ],
)
def test_encode_shard__refuses_another_shape_or_type(image_build, name, wrong):
    build, shards = image_build()
    what = "images" if name == "values" else name
    with pytest.raises(ValueError, match=rf"expected {what} of shard 0 as .*, received {wrong.dtype} of shape"):
        encode_shard(build.plan, 0, dataclasses.replace(shards[0], **{name: wrong}))


def test_encode_shard__refuses_another_number_of_texts(text_build):
    build, shards = text_build(["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="expected offsets of shard 0 as int64 of shape"):
        encode_shard(build.plan, 0, dataclasses.replace(shards[0], values=["a", "b"]))
