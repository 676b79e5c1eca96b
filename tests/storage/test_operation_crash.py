"""A process dies before or after any operation on an object store, where there is nothing to sync."""

from __future__ import annotations

import pytest

import storage
from storage import StorageError, arrays, records, versions
from storage.hashing import hash_bytes
from storage.stores import store_of
from storage.stores.objects import ObjectStore
from storage.writer import Build


class Died(BaseException):
    """Nothing runs after this."""


def dying(patch, steps: int) -> None:
    """Let the process die at a point: before or after each writing operation."""
    left = steps

    def step() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died

    for name in ("write", "create", "remove"):
        real = getattr(ObjectStore, name)

        def fake(self, *rest, real=real):
            step()
            result = real(self, *rest)
            step()
            return result

        patch.setattr(ObjectStore, name, fake)


def run(build, shards, before) -> tuple[str, set[int]]:
    returned = set()
    for number in build.begin().tolist():
        build.write_shard(number, shards[number])
        returned.add(number)
    build.finish()
    return versions.publish(build.dataset, [*before, build.plan.key])["version"], returned


@pytest.fixture
def held_metadata(monkeypatch):
    """Encoding metadata is pure; done once per plan, the runs below are quick."""
    encode, held = arrays.metadata_files, {}

    def files(plan, attributes):
        if plan.key not in held:
            held[plan.key] = encode(plan, attributes)
        return held[plan.key]

    monkeypatch.setattr(arrays, "metadata_files", files)


@pytest.mark.usefixtures("held_metadata")
@pytest.mark.parametrize("case", ["images", "texts", "append"])
def test_commit__process_dies_between_any_two_operations(builds_at, commit, memory_location, case):
    undisturbed, version, cut, finished = None, None, 0, False
    while not finished:
        location = memory_location()
        first = []
        if case == "texts":
            made = builds_at["texts"](location, ["a", "", "é" * 9], 2)
        else:
            made = builds_at["images"](location, 9, (2, 2, 1), 5, 5)
        old = None
        if case == "append":
            base = builds_at["images"](location, 4, (2, 2, 1), 4, 4, seed=1)
            old, first = commit(base).version, [base[0].plan.key]
        build, shards = made
        if undisturbed is None:
            undisturbed, _ = run(build, shards, first)
            continue
        version = undisturbed
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, cut)
            try:
                run(build, shards, first)
                finished = True
            except Died:
                pass
        try:
            assert storage.open_dataset(location).version in ({old, version} if old else {version})
            assert storage.verify(location).ok
        except (StorageError, FileNotFoundError):
            assert old is None
            assert cut < 2 or not finished
        if old:
            assert storage.open_dataset(location, 1).version == old
            assert storage.verify(location, version=1).ok
        store, again = store_of(location), Build(location, build.plan)
        if not again.finished:
            for number in set(range(len(shards))) - set(again.missing().tolist()):
                record = records.decode_record(store.read(f"{build.key}/{records.record_name(number)}"))
                data = store.read(f"{build.key}/data.zarr/{arrays.data_key(build.plan, number)}")
                assert hash_bytes(data).hex() == record.hash
        assert run(again, shards, first)[0] == version
        assert storage.verify(location).ok
        assert storage.open_dataset(location).number == len(first) + 1
        cut += 1
    assert cut > 25
