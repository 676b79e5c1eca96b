from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import storage
from storage import StorageError
from storage.retention import catalog, find_datasets, prune
from storage.stores import store_of
from storage.versions import publish, version_key
from storage.writer import Build


@pytest.fixture(params=["folder", "memory"])
def grown(request, image_build, tmp_path):
    """A dataset of four builds a, b, c, d and the versions a; a b; c; c d."""
    location = str(tmp_path / "clean") if request.param == "folder" else f"memory://{tmp_path.name}/clean"
    keys, contents = [], {}
    for seed in range(4):
        build, shards = image_build(seed=seed)
        build = Build(location, build.plan)
        build.begin()
        for number, shard in enumerate(shards):
            build.write_shard(number, shard)
        build.finish()
        keys.append(build.plan.key)
        contents[build.plan.key] = np.concatenate([shard.values for shard in shards])
    a, b, c, d = keys
    for builds in ([a], [a, b], [c], [c, d]):
        publish(location, builds)
    return location, keys, contents


def check(location, contents):
    """Every version that is there reads as it was written."""
    for entry in catalog(location):
        dataset = storage.open_dataset(location, entry.number)
        assert storage.verify(location, version=entry.number).ok
        for part in dataset.parts:
            np.testing.assert_array_equal(part.read(0, part.layout.count), contents[part.build])


def test_catalog__lists_versions_with_what_is_their_own(grown):
    location, keys, _ = grown
    entries = catalog(location)
    assert [entry.number for entry in entries] == [1, 2, 3, 4]
    assert [entry.builds for entry in entries] == [(keys[0],), tuple(keys[:2]), (keys[2],), tuple(keys[2:])]
    assert [entry.count for entry in entries] == [23, 46, 23, 46]
    # Version 1 shares all it has with version 2, so removing it would free nothing.
    assert entries[0].own_bytes == 0 and entries[1].own_bytes == entries[1].bytes - entries[0].bytes
    assert all(entry.version == storage.open_dataset(location, entry.number).version for entry in entries)
    assert find_datasets(location) == [location]


def test_prune__says_what_it_would_do_and_does_nothing(grown):
    location, keys, contents = grown
    result = prune(location, keep=1)
    assert (result.versions, result.builds) == ((1, 2, 3), tuple(sorted(keys[:2])))
    assert result.bytes > 0
    assert len(catalog(location)) == 4
    check(location, contents)


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 9])
def test_prune__never_what_a_kept_version_uses(grown, keep):
    location, _, contents = grown
    said, done = prune(location, keep=keep), prune(location, keep=keep, apply=True)
    assert said == done
    assert [entry.number for entry in catalog(location)] == list(range(max(1, 5 - keep), 5))
    check(location, contents)
    assert not prune(location, keep=keep).versions


def test_prune__keeps_what_is_tagged_or_asked_for(grown):
    location, keys, contents = grown
    storage.tag(location, "paper", 2)
    third = storage.open_dataset(location, 3).version
    result = prune(location, keep=1, also=[third], apply=True)
    assert (result.versions, result.builds) == ((1,), ())
    check(location, contents)
    storage.untag(location, "paper")
    assert prune(location, keep=1, also=[third], apply=True).builds == tuple(sorted(keys[:2]))
    check(location, contents)


def test_prune__unfinished_only_when_told(grown, image_build):
    location, _, _ = grown
    build, shards = image_build(seed=9)
    build = Build(location, dataclasses.replace(build.plan, name="half"))
    build.begin()
    build.write_shard(0, shards[0])
    assert prune(location, keep=9, apply=True).builds == ()
    assert len(build.missing()) == 2
    assert prune(location, keep=9, unfinished=True, apply=True).builds == (build.plan.key,)
    assert len(build.missing()) == 3


def test_prune__wrong_use(grown, tmp_path):
    location, _, _ = grown
    for keep in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="expected to keep 1 version or more"):
            prune(location, keep=keep)
    with pytest.raises(StorageError, match="expected a finished dataset in"):
        prune(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        find_datasets(tmp_path / "nothing")


def test_prune__versions_of_the_same_content_count_once(grown):
    location, keys, contents = grown
    for night in range(5):
        publish(location, keys[2:], notes={"source": str(night)})
    assert len({entry.version for entry in catalog(location)}) == 4
    assert prune(location, keep=3, apply=True).versions == (1,)
    check(location, contents)


def test_tag__holds_to_the_content(grown):
    location, keys, _ = grown
    storage.tag(location, "paper", 4)
    store_of(location).remove(version_key(4))
    publish(location, keys[:1])  # takes the number
    with pytest.raises(StorageError, match=r"tag 'paper' of .* names version 4 .* not there any more"):
        storage.open_dataset(location, "paper")


def test_begin__data_that_is_gone_is_written_again(image_build):
    build, shards = image_build()
    build.begin()
    for number in (0, 1):
        build.write_shard(number, shards[number])
    build.store.remove(f"{build.key}/data.zarr/images/c.1.0.0.0")
    assert build.begin().tolist() == [1, 2]
