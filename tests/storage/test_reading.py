from __future__ import annotations

import os

import numpy as np
import pytest

import storage
from storage import StorageError
from storage.feeding.reading import read_images, read_samples, shard_edges


@pytest.fixture
def appended(image_build, commit):
    return commit(image_build(23), image_build(9, shard=3, chunk=3, seed=1, first_id=23))


def owner(dataset, row) -> tuple[int, int]:
    """Part and shard of a row."""
    ((_, part, low, _),) = dataset.pieces(row, row + 1)
    return part, low // dataset.parts[part].layout.shard


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_shard_edges__where_another_shard_begins(appended, split):
    rows = appended.rows(split)
    owners = [owner(appended, row) for row in range(rows.start, rows.stop)]
    changes = [rows.start + place for place in range(1, len(owners)) if owners[place] != owners[place - 1]]
    assert shard_edges(appended, split).tolist() == [rows.start, *changes, rows.stop]


def test_read_images__any_rows(appended):
    everything = appended.read(0, appended.count)
    for start in range(0, appended.count, 3):
        for stop in range(start, appended.count, 5):
            out = np.full((stop - start, 5, 3, 1), 99, np.uint8)
            read_images(appended, start, out, verify="every-read")
            np.testing.assert_array_equal(out, everything[start:stop])


def test_read_images__of_an_object_store(image_build, builds_at, commit, memory_location):
    dataset = commit(builds_at["images"](memory_location()))
    for verify in (None, "first-read", "every-read"):
        out = np.empty((9, 5, 3, 1), np.uint8)
        read_images(dataset, 5, out, verify=verify)
        np.testing.assert_array_equal(out, dataset.read(5, 14))


@pytest.mark.parametrize("kind", ["texts", "files"])
def test_read_samples__any_rows(builds_at, commit, tmp_path, kind):
    arguments = [["", "é", "\ud83d", "plain", "a", "b", "c"]] if kind == "texts" else []
    dataset = commit(builds_at[kind](tmp_path / "data", *arguments))
    for start in range(dataset.count):
        for stop in range(start, dataset.count + 1):
            found = []
            for first, data, offsets in read_samples(dataset, start, stop, verify="first-read"):
                assert first == start + len(found)
                found += [bytes(data[low:high]) for low, high in offsets]
            assert found == [bytes(sample) for sample in dataset.parts[0].stored(start, stop)]


def flip(dataset, place: int, shard: int = 1) -> str:
    """Turn one bit of a shard's file."""
    part = dataset.parts[0]
    path = part.store.path(part._data_key(shard))
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    return path.name


def reads(dataset, low, high, verify):
    read_images(dataset, low, np.empty((high - low, 5, 3, 1), np.uint8), verify=verify)


@pytest.mark.parametrize("place", [0, 60, 119, 130, -1])
@pytest.mark.parametrize("rows", [(8, 16), (11, 13), (15, 17)])
@pytest.mark.parametrize("verify", ["first-read", "every-read"])
def test_read_images__verified_refuses_any_flipped_bit_of_the_shard(image_build, commit, place, rows, verify):
    dataset = commit(image_build(23))
    name = flip(dataset, place)
    with pytest.raises(StorageError, match=rf"damaged shard 1 of 'clean' \(.*{name}\): .*; run verify"):
        reads(dataset, *rows, verify)
    reads(dataset, 0, 8, verify)


def test_read_images__not_verified_takes_flipped_pixels(image_build, commit):
    dataset = commit(image_build(23))
    before = dataset.read(8, 16)
    flip(dataset, 60)
    out = np.empty((8, 5, 3, 1), np.uint8)
    read_images(dataset, 8, out)
    assert (out != before).sum() == 1


def test_first_read__looks_once_and_every_read_always(image_build, commit):
    dataset = commit(image_build(23))
    for verify in ("first-read", "every-read"):
        reads(dataset, 8, 16, verify)
    flip(dataset, 60)
    reads(dataset, 8, 16, "first-read")
    with pytest.raises(StorageError, match="damaged shard 1"):
        reads(dataset, 8, 16, "every-read")
    with pytest.raises(StorageError, match="damaged shard 1"):
        reads(storage.open_dataset(dataset.path), 8, 16, "first-read")


@pytest.mark.parametrize("kind", ["texts", "files"])
def test_read_samples__verified_refuses_a_flipped_bit(builds_at, commit, tmp_path, kind):
    arguments = [["text"] * 7] if kind == "texts" else []
    dataset = commit(builds_at[kind](tmp_path / "data", *arguments))
    flip(dataset, 5)
    with pytest.raises(StorageError, match="damaged shard 1 of "):
        read_samples(dataset, 3, 6, verify="first-read")


def test_take__verified_refuses_a_flipped_bit(image_build, commit):
    dataset = commit(image_build(23))
    flip(dataset, 60)
    dataset.take(np.array([0, 20]), verify="first-read")
    with pytest.raises(StorageError, match="damaged shard 1"):
        dataset.take(np.array([0, 9]), verify="first-read")


@pytest.mark.parametrize("keep", [True, False])
def test_read_images__lets_go_of_the_pages_of_data_larger_than_memory(image_build, commit, monkeypatch, keep):
    given = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, advice: given.append(advice), raising=False)
    dataset = commit(image_build(23))
    read_images(dataset, 0, np.empty((23, 5, 3, 1), np.uint8), keep=keep)
    assert given.count(os.POSIX_FADV_DONTNEED) == (0 if keep else 3)
    assert given.count(os.POSIX_FADV_SEQUENTIAL) == 3


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", ["texts", "files"])
def test_read_samples__lets_go_of_the_pages_of_data_larger_than_memory(
    builds_at, commit, tmp_path, monkeypatch, kind, keep
):
    given = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, advice: given.append(advice), raising=False)
    dataset = commit(builds_at[kind](tmp_path / "data", *([["text"] * 9] if kind == "texts" else [12])))
    for verify in (None, "every-read"):
        read_samples(dataset, 0, dataset.count, verify=verify, keep=keep)
    assert given.count(os.POSIX_FADV_DONTNEED) == (0 if keep else 6)
