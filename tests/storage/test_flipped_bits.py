"""Not a single bit of a dataset may change unnoticed: a thousand of them, over every file."""

from __future__ import annotations

import random
import re

import pytest

import storage
from storage import verification
from storage.documents import MANIFEST
from storage.stores import store_of

#: A file that belongs to one shard, and to which.
OF_SHARD = re.compile(r"builds/\w+/(?:records/0*|data\.zarr/(?:images|values)/c\.)(\d+)")


@pytest.fixture(params=["images", "texts"])
def dataset(request, image_build, text_build, commit):
    """A dataset of two builds, with attached files, to be damaged."""
    if request.param == "images":
        made = [image_build(), image_build(9, seed=1, first_id=23)]
    else:
        made = [text_build(["a", "b", "", "dé"] * 3), text_build(["more", "text"], first_id=12)]
    dataset = commit(*made)
    made[0][0].finish({"stamps.npy": bytes(range(100))}, again=True)
    storage.versions.publish(dataset.location, [build.plan.key for build, _ in made])
    store_of(dataset.location).remove("versions/000001.json")  # the one before: not what is verified here
    return storage.open_dataset(dataset.location)


def flip(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_verify__500_flipped_bits_of_every_file(dataset):
    store, rng = store_of(dataset.location), random.Random(0)
    keys = sorted(key for key, _ in store.walk(""))
    kinds = {re.sub(r"[0-9a-f]{16}|\d+", "#", key) for key in keys}
    assert {f"builds/#/{name}" for name in ("records/#", "shards.npy", "manifest.json", "plan.json")} <= kinds
    assert {"versions/#.json", "builds/#/data.zarr/zarr.json", "builds/#/data.zarr/labels/c.#"} <= kinds
    for turn in range(500):
        key = keys[turn % len(keys)]
        healthy = store.read(key)
        bit = rng.randrange(8 * len(healthy))
        store.path(key).write_bytes(flip(healthy, bit))
        problems = storage.verify(dataset.location).problems
        store.path(key).write_bytes(healthy)
        assert problems, f"bit {bit} of {key}"
        if key.startswith("versions/") or key.endswith(MANIFEST):
            assert key.rpartition("/")[2] in problems[0].text
            continue
        build, _, name = key.removeprefix("builds/").partition("/")
        assert [(problem.build, problem.name) for problem in problems] == [(build, name)]
        of = OF_SHARD.fullmatch(re.sub(r"(\.0\.0\.0)$", "", key))
        assert problems[0].shard == (int(of[1]) if of else None)
        assert (f"shard {problems[0].shard} " in problems[0].text) == bool(of)
    assert storage.verify(dataset.location).ok


def test_verify__every_flipped_bit_of_the_smallest_files(dataset):
    # Of a text's shard, of a column: none is spared.
    store, part = store_of(dataset.location), dataset.parts[1]
    for name in ("data.zarr/split/c.0", f"data.zarr/{'images/c.0.0.0.0' if part.plan.sample_shape else 'values/c.0'}"):
        key = f"{part.key}/{name}"
        healthy = store.read(key)
        for bit in range(0, 8 * len(healthy), 1 if len(healthy) < 20 else 97):
            store.path(key).write_bytes(flip(healthy, bit))
            assert [problem.name for problem in verification.verify_part(part)] == [name], f"bit {bit} of {key}"
        store.path(key).write_bytes(healthy)


def test_verify__fast_mode_reports_and_never_breaks_on_a_damaged_table(dataset):
    # BUG (reported): the table's size is right, so `verify_part` reads it, and what that raises is not a problem among
    # others but the end of the check: StorageError of a damaged header, IndexError of a changed shape.
    store, part = store_of(dataset.location), dataset.parts[0]
    key = f"{part.key}/shards.npy"
    healthy = store.read(key)
    for bit in range(0, 8 * len(healthy), 5):
        store.path(key).write_bytes(flip(healthy, bit))
        result = storage.verify(dataset.location, strict=False)
        assert result.path
    store.path(key).write_bytes(healthy)
    assert storage.verify(dataset.location, strict=False).ok
