"""Reading what is lost or damaged is refused by name: Zarr itself gives zeros."""

from __future__ import annotations

import numpy as np
import pytest

import storage
from storage import StorageError

READS = {
    "images": lambda dataset: dataset.read(8, 16),
    "labels": lambda dataset: dataset.labels(),
    "ids": lambda dataset: dataset.ids(),
    "split": lambda dataset: dataset.column("split", 8, 9),
    "values": lambda dataset: dataset.take(np.array([4])),
    "offsets": lambda dataset: dataset.read(4, 5),
    "files": lambda dataset: dataset.parts[0].stored(4, 5),
}
#: Only the rows that are asked for are read of these; what is cut off is the last.
LAST = {
    "offsets": lambda dataset: dataset.read(7, 8),
    "split": lambda dataset: dataset.column("split", dataset.count - 1, dataset.count),
}
SHARDS = {"images": "images/c.1.0.0.0", "values": "values/c.1", "files": "values/c.1"}
FILES = {**SHARDS, "offsets": "offsets/c.0.0", **{name: f"{name}/c.0" for name in ("labels", "ids", "split")}}
WHERE = {"local": lambda tmp_path, memory: str(tmp_path / "data"), "memory": lambda tmp_path, memory: memory()}


@pytest.fixture(params=WHERE)
def place(request, tmp_path, memory_location):
    return WHERE[request.param](tmp_path, memory_location)


@pytest.fixture(params=READS)
def name(request):
    return request.param


@pytest.fixture
def dataset(builds_at, commit, place, name):
    kind = {"values": "texts", "offsets": "texts", "files": "files"}.get(name, "images")
    return commit(builds_at[kind](place, *([["a", "b", "c", "d"] * 2] if kind == "texts" else [])))


def key_of(dataset, name) -> str:
    return f"{dataset.parts[0].key}/data.zarr/{FILES[name]}"


def test_read__of_a_lost_file_is_refused(dataset, name):
    dataset.parts[0].store.remove(key_of(dataset, name))
    what = rf"missing shard 1 of '.*' \(.*{FILES[name]}\)" if name in SHARDS else f"missing .*{FILES[name]}"
    with pytest.raises(StorageError, match=f"{what}; run verify"):
        READS[name](dataset)


@pytest.mark.parametrize("cut", [1, 5, None])
def test_read__of_a_truncated_file_is_refused(dataset, name, cut):
    store, key = dataset.parts[0].store, key_of(dataset, name)
    data = store.read(key)
    store.write(key, data[:-cut] if cut else b"")
    what = r"damaged shard 1 of '.*': .*" if name in SHARDS else f"damaged .*{FILES[name]}: it is too short"
    with pytest.raises(StorageError, match=f"{what}; run verify".replace("'.*'", "'.*' .*")):
        LAST.get(name, READS[name])(dataset)


@pytest.mark.parametrize("name", ["values"], indirect=True)
def test_read__every_flipped_bit_of_compressed_texts_is_refused(dataset, name):
    store, key = dataset.parts[0].store, key_of(dataset, name)
    data = store.read(key)
    refused = 0
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        store.write(key, bytes(damaged))
        try:
            found = storage.open_dataset(dataset.location).read(3, 6)
        except (StorageError, MemoryError):
            refused += 1
        else:
            assert found == ["d", "a", "b"]
    assert refused > 7 * len(data)


@pytest.mark.parametrize("name", ["offsets"], indirect=True)
def test_read__offsets_that_were_not_written_are_refused(dataset, name):
    store, key = dataset.parts[0].store, key_of(dataset, name)
    healthy = np.frombuffer(store.read(key), "<i8").reshape(8, 2)
    for damage in (
        [[0, 10**9]] * 3,
        healthy[3:6] + np.eye(3, 2, dtype=np.int64),
        healthy[5:2:-1],
        healthy[3:6] - 10**6,
    ):
        damaged = healthy.copy()
        damaged[3:6] = damage
        store.write(key, damaged.tobytes())
        opened = storage.open_dataset(dataset.location)
        for read in (lambda opened=opened: opened.read(3, 6), lambda opened=opened: opened.take(np.array([4]))):
            with pytest.raises(StorageError, match=r"damaged shard 1 of 'reviews' .*: its offsets are not those that"):
                read()
        assert opened.read(0, 3) == ["a", "b", "c"]  # the others are none the worse


@pytest.mark.parametrize("name", ["images"], indirect=True)
def test_read__a_shard_with_another_index_is_refused(dataset, name):
    store, key = dataset.parts[0].store, key_of(dataset, name)
    data = store.read(key)
    store.write(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StorageError, match=r"damaged shard 1 of 'clean' .*: its index is not the one that was written"):
        READS[name](dataset)
    np.testing.assert_array_equal(dataset.read(0, 8), storage.open_dataset(dataset.location).read(0, 8))
