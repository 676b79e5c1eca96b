from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from storage import StorageError, arrays
from storage.documents import seal
from storage.hashing import hash_bytes, hash_file
from storage.manifest import SHARD_TABLE, decode_table, encode_table, read_manifest, version_of
from storage.writer import Build


def test_table__survives_as_a_plain_array(tmp_path):
    table = np.zeros(5, SHARD_TABLE)
    table["bytes"] = np.arange(5) * 2**40
    table["hash"] = np.frombuffer(bytes(range(160)), "V32")
    again = decode_table(encode_table(table))
    np.testing.assert_array_equal(again, table)
    (tmp_path / "shards.npy").write_bytes(encode_table(table))
    np.testing.assert_array_equal(np.load(tmp_path / "shards.npy", mmap_mode="r"), table)
    assert SHARD_TABLE.itemsize == 72


def test_decode_table__of_something_else():
    with pytest.raises(ValueError, match="expected a table of"):
        decode_table(encode_table(np.zeros(5, np.int64)))
    for damage in (b"", b"garbage", encode_table(np.zeros(5, SHARD_TABLE))[:-1]):
        with pytest.raises(ValueError):
            decode_table(damage)


def test_table__holds_what_the_files_are(image_build, commit):
    part = commit(image_build()).parts[0]
    for shard, row in enumerate(part.table):
        path = part.store.path(f"{part.key}/data.zarr/images/c.{shard}.0.0.0")
        assert path.stat().st_size == row["bytes"]
        assert hash_file(path) == hash_bytes(path.read_bytes()) == bytes(row["hash"])


def test_hash_bytes__of_pieces_is_that_of_the_whole():
    values = np.arange(24, dtype=np.int64).reshape(4, 6)
    whole = hash_bytes(b"head" + values.tobytes())
    for pieces in ((b"he", memoryview(b"ad"), values), (b"head", values[:2], b"", np.empty((0, 3)), values[2:])):
        assert hash_bytes(*pieces) == whole
    # The first test vector of BLAKE3.
    assert hash_bytes().hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_version__does_not_depend_on_the_compressors_bytes(text_build, finished, monkeypatch, odd_texts):
    version = finished(text_build(odd_texts))
    encode = arrays.Zstd.encode

    class Other(arrays.Zstd):
        def __init__(self, level, checksum):
            super().__init__(level=19, checksum=checksum)

    monkeypatch.setattr(arrays, "Zstd", Other)
    assert encode(Other(1, True), b"a" * 999 + b"b" * 999) != encode(arrays.Zstd.__base__(1, True), b"ab" * 999)
    other = text_build(odd_texts, folder="other")
    assert finished(other) == version


CHANGES = {
    "classes": ("cat", "dog", "elan"),
    "splits": {"train": (0, 16), "test": (16, 23)},
}


@pytest.mark.parametrize("field", CHANGES)
def test_version__changes_with_what_the_data_means(image_build, finished, field):
    build, shards = image_build()
    version = finished((build, shards))
    changed = dataclasses.replace(build.plan, **{field: CHANGES[field]}, recipe={"other": 1})
    assert finished((Build(build.dataset, changed), shards)) != version


def test_version__does_not_depend_on_name_and_recipe(image_build, finished):
    # A noise of nothing gives the same version as its input: the same content.
    build, shards = image_build()
    version = finished((build, shards))
    other = dataclasses.replace(build.plan, name="noisy", recipe={"other": 1})
    assert finished((Build(build.dataset, other), shards)) == version


def test_version_of__is_what_the_manifest_says(image_build, text_build, file_build, commit):
    for made in (image_build(), text_build(["a", "b"]), file_build()):
        manifest = commit(made).parts[0].manifest
        assert version_of(manifest) == manifest["version"]


def test_version__is_the_same_as_ever(image_build, text_build, finished):
    # Pinned: a change of the layout on disk must be deliberate (and raise storage.plan.FORMAT).
    values = np.arange(23 * 15, dtype=np.uint64).astype(np.uint8).reshape(23, 5, 3, 1)
    build, shards = image_build(values=values)
    shards = [dataclasses.replace(shard, labels=shard.ids % 3) for shard in shards]
    assert finished((build, shards)) == "5edc0783a673189024ce0b6e746ce939c479ab4cff61171f121e8fa6b713fa81"
    assert (
        finished(text_build(["a", "", "é", "d"])) == "91ba892479a8b661df0e9056747ce88329f5f531ed1cb4b56b0c47c41dec8230"
    )


@pytest.mark.parametrize("damage", [b"", b"garbage", b"[]", b"null", b"{}", b'{"name": "clean"}', b"\xff\xfe\x00"])
def test_read_manifest__garbage(image_build, finished, damage):
    build, shards = image_build()
    finished((build, shards))
    build.store.write(f"{build.key}/manifest.json", damage)
    with pytest.raises(StorageError, match=r"damaged manifest .*manifest.json: .*; run `duskflow repair`") as caught:
        read_manifest(build.store, build.key)
    assert "\n" not in str(caught.value)


def test_read_manifest__of_an_unfinished_build(image_build):
    build, _ = image_build()
    build.begin()
    with pytest.raises(FileNotFoundError):
        read_manifest(build.store, build.key)


def test_read_manifest__any_changed_field_is_noticed(image_build, finished):
    build, shards = image_build()
    finished((build, shards))
    key = f"{build.key}/manifest.json"
    manifest = json.loads(build.store.read(key))
    assert seal(manifest) == manifest
    for field in manifest:
        build.store.write(key, json.dumps({**manifest, field: 7}).encode())
        with pytest.raises(StorageError, match="its content is not what was committed"):
            read_manifest(build.store, build.key)
