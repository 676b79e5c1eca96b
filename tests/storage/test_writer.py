from __future__ import annotations

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import StorageError, records, versions
from storage.progress import progress_of, read_plan
from storage.stores import store_of
from storage.stores.local import LocalStore
from storage.writer import Build


def contents(store, prefix="") -> dict[str, bytes]:
    return {key: store.read(key) for key, _ in store.walk(prefix)}


def record_key(build, number) -> str:
    return f"{build.key}/{records.record_name(number)}"


def publish(build) -> None:
    versions.publish(build.dataset, [build.plan.key])


def test_finish__layout_of_the_folder(image_build, text_build, file_build, commit):
    for made in (image_build(), text_build(["a"] * 9), file_build()):
        build, _ = made
        commit(made)
        samples = "values" if build.plan.ragged else "images"
        columns = {"labels": "", "ids": "", "split": "", **({"offsets": ".0"} if build.plan.ragged else {})}
        shards = range(build.plan.layout.shards)
        expected = {"plan.json", "manifest.json", "shards.npy", "data.zarr/zarr.json", f"data.zarr/{samples}/zarr.json"}
        expected |= {f"records/{i:06d}" for i in shards}
        expected |= {f"data.zarr/{name}/{file}" for name in columns for file in ("zarr.json", f"c.0{columns[name]}")}
        expected |= {f"data.zarr/{samples}/c.{i}{'' if build.plan.ragged else '.0.0.0'}" for i in shards}
        found = {
            path.relative_to(build.dataset).as_posix() for path in Path(build.dataset).rglob("*") if path.is_file()
        }
        assert found == {"versions/000001.json", *(f"{build.key}/{name}" for name in expected)}


def test_finish__version_does_not_depend_on_the_order_of_writing(image_build, finished):
    undisturbed, _ = made = image_build()
    version = finished(made)
    build, shards = image_build(folder="other")
    build.begin()
    for number in (2, 0, 1, 0):
        build.write_shard(number, shards[number])
    assert build.finish() == version
    assert build.finish() == build.finish(again=True) == version
    assert contents(build.store) == contents(undisturbed.store)


@pytest.mark.parametrize("field", ["values", "labels", "ids", "split"])
def test_finish__version_changes_with_any_value(image_build, finished, field):
    version = finished(image_build())
    build, shards = image_build(folder="other")
    changed = getattr(shards[1], field).copy()
    changed.flat[0] = (int(changed.flat[0]) + 1) % 3
    shards[1] = dataclasses.replace(shards[1], **{field: changed})
    assert finished((build, shards)) != version


def test_finish__the_same_in_every_store(builds_at, finished, memory_location, tmp_path):
    for kind, options in (("images", []), ("texts", [["a", "", "é" * 20]]), ("files", [])):
        builds = [builds_at[kind](location, *options) for location in (tmp_path / kind, memory_location())]
        assert finished(builds[0]) == finished(builds[1])
        assert contents(builds[0][0].store) == contents(builds[1][0].store)


def test_finish__does_not_publish(image_build, finished):
    build, shards = image_build()
    finished((build, shards))
    assert build.finished
    with pytest.raises(StorageError, match=r"no finished dataset in .* run its pipeline again to resume"):
        storage.open_dataset(build.dataset)


def test_finish__does_nothing_when_finished_and_restores_everything_again(image_build, commit):
    build, shards = image_build()
    version = commit((build, shards)).version
    before = contents(build.store)
    for name in ("shards.npy", "data.zarr/zarr.json", "data.zarr/ids/c.0"):
        build.store.write(f"{build.key}/{name}", b"damaged")
    damaged = contents(build.store)
    assert build.finish() == version
    assert contents(build.store) == damaged
    assert build.finish(again=True) == version
    assert contents(build.store) == before


def test_finish__attachments_are_covered(image_build, commit):
    build, shards = image_build()
    version = commit(image_build(folder="other")).version
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    assert build.finish({"notes.npy": b"attached"}) == version
    publish(build)
    assert storage.verify(build.dataset).ok
    build.store.write(f"{build.key}/notes.npy", b"attacked")
    assert [problem.name for problem in storage.verify(build.dataset).problems] == ["notes.npy"]


def test_finish__statistics_are_those_of_the_training_rows(image_build, commit):
    made = image_build()
    dataset = commit(made)
    train = np.concatenate([shard.values[shard.split == 0] for shard in made[1]])
    np.testing.assert_allclose(dataset.statistics["mean"], train.mean((0, 1, 2)))
    assert dataset.statistics["rows"] == {"train": 16, "validation": 2, "test": 5}


def test_finish__refuses_while_shards_are_missing(image_build):
    build, shards = image_build()
    build.begin()
    build.write_shard(1, shards[1])
    assert build.missing().tolist() == [0, 2]
    assert [build.is_committed(number) for number in range(3)] == [False, True, False]
    with pytest.raises(StorageError, match="2 shards of 'clean' are missing, first 0; run again"):
        build.finish()
    assert not build.finished
    with pytest.raises(StorageError, match=r"no finished dataset in .* run its pipeline again to resume"):
        storage.open_dataset(build.dataset)


def test_expected_bytes__bound_what_is_written(image_build, text_build, file_build, commit, odd_texts):
    noise = "".join(map(chr, np.random.default_rng(0).integers(33, 127, 9000)))
    large = image_build(70, (31, 17, 3), 16, 4, folder="odd")
    for made in (image_build(), large, file_build(), text_build(odd_texts), text_build([noise] * 3, 1, folder="noise")):
        commit(made)
        # Of the metadata only what grows with the data is counted.
        written = sum(size for key, size in made[0].store.walk(made[0].key) if not key.endswith(".json"))
        assert written <= made[0].plan.expected_bytes


def test_write_shard__again_with_the_same_bytes(image_build):
    build, shards = image_build()
    build.begin()
    written = build.write_shard(0, shards[0])
    before = {path: path.stat().st_mtime_ns for path in Path(build.dataset).rglob("*") if path.is_file()}
    assert build.write_shard(0, shards[0]) == written
    assert {path: path.stat().st_mtime_ns for path in Path(build.dataset).rglob("*") if path.is_file()} == before


def test_write_shard__by_many_at_once(image_build, finished):
    build, shards = image_build()
    build.begin()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: build.write_shard(number % 3, shards[number % 3]), range(48)))
    assert build.finish() == finished(image_build(folder="other"))
    publish(build)
    assert storage.verify(build.dataset).ok


def test_write_shard__other_bytes_are_refused_and_change_nothing(image_build):
    build, shards = image_build()
    build.begin()
    build.write_shard(0, shards[0])
    before = contents(build.store)
    for field in ("values", "labels", "ids", "split"):
        other = dataclasses.replace(
            shards[0], **{field: getattr(shards[0], field)[::-1].copy() if field != "split" else shards[0].split + 1}
        )
        with pytest.raises(StorageError, match="shard 0 of 'clean' was committed before with other bytes"):
            build.write_shard(0, other)
    assert contents(build.store) == before


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_write_shard__other_bytes_in_a_race_leave_the_shard_uncommitted(builds_at, tmp_path, monkeypatch, kind):
    build, shards = builds_at[kind](tmp_path / "clean", *([["a", "b", "c", "d"]] if kind == "texts" else []))
    build.begin()
    values = ["d", "b", "c"] if kind == "texts" else 255 - shards[0].values
    other = dataclasses.replace(shards[0], values=values)
    create = LocalStore.create

    def late(self, key, *pieces):
        monkeypatch.setattr(LocalStore, "create", create)
        build.write_shard(0, shards[0])  # the other writer commits just before us
        return create(self, key, *pieces)

    monkeypatch.setattr(LocalStore, "create", late)
    with pytest.raises(StorageError, match="committed before with other bytes"):
        build.write_shard(0, other)
    missing = build.missing().tolist()
    assert missing == list(range(len(shards)))
    for number in missing:
        build.write_shard(number, shards[number])
    build.finish()
    publish(build)
    assert storage.verify(build.dataset).ok


def test_write_shard__the_same_bytes_in_a_race_are_committed_once(image_build, monkeypatch):
    build, shards = image_build()
    build.begin()
    create, won = LocalStore.create, []

    def late(self, key, *pieces):
        monkeypatch.setattr(LocalStore, "create", lambda *rest: won.append(create(*rest)) or won[-1])
        build.write_shard(0, shards[0])
        return create(self, key, *pieces)

    monkeypatch.setattr(LocalStore, "create", late)
    build.write_shard(0, shards[0])
    assert won == [True]
    assert build.missing().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("labels", 3, "expected labels of 'clean' from -1 to 2, received .* to 3 in shard 0"),
        ("labels", -2, "expected labels of 'clean' from -1 to 2, received -2"),
        ("split", 3, "expected split of 'clean' from 0 to 2"),
    ],
)
def test_write_shard__refuses_codes_out_of_range(image_build, field, value, message):
    build, shards = image_build()
    build.begin()
    wrong = getattr(shards[0], field).copy()
    wrong[1] = value
    with pytest.raises(ValueError, match=message):
        build.write_shard(0, dataclasses.replace(shards[0], **{field: wrong}))
    assert build.missing().tolist() == [0, 1, 2]


def test_write_shard__texts_longer_than_planned(text_build):
    build, shards = text_build(["a", "b", "c"])
    build.begin()
    with pytest.raises(StorageError, match=r"holds 300 bytes of texts, more than the 3 planned; .* `growth`"):
        build.write_shard(0, dataclasses.replace(shards[0], values=["x" * 100] * 3))
    assert build.missing().tolist() == [0]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"shard": 1}', b"\xff\xfe", bytes(100)])
def test_finish__damaged_record(image_build, damage):
    build, shards = image_build()
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    build.store.write(record_key(build, 1), damage)
    message = r"damaged record of shard 1 of 'clean' in .*: .*; run `duskflow repair`, or delete .*records/000001 there"
    with pytest.raises(StorageError, match=message):
        build.finish()
    with pytest.raises(StorageError, match=message):
        build.write_shard(1, shards[1])
    assert not build.finished
    build.store.remove(record_key(build, 1))
    build.write_shard(1, shards[1])
    build.finish()
    publish(build)
    assert storage.verify(build.dataset).ok


def test_finish__record_of_another_shard(image_build):
    build, shards = image_build()
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    build.store.write(record_key(build, 1), build.store.read(record_key(build, 0)))
    with pytest.raises(StorageError, match=r"damaged record of shard 1 .*: it is of shard 0"):
        build.finish()


def test_progress_of__counts_records(image_build):
    build, shards = image_build()
    assert progress_of(build.dataset, build.plan.key) is None
    build.begin()
    assert progress_of(build.dataset, build.plan.key) == (0, 3)
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
        assert progress_of(build.dataset, build.plan.key) == (number + 1, 3)
    build.finish()
    assert progress_of(build.dataset, build.plan.key) == (3, 3)
    assert read_plan(build.store, build.key) == build.plan


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"format": 2}', b'{"format": 0}', b"\xff", b'{"format": 2, "a": 1}'])
def test_progress_of__damaged_plan(image_build, damage):
    build, _ = image_build()
    build.begin()
    build.store.write(f"{build.key}/plan.json", damage)
    with pytest.raises(StorageError, match=r"damaged plan .*plan.json: .*delete .* and run again"):
        progress_of(build.dataset, build.plan.key)


def test_class_names__that_are_no_utf8(image_build, commit):
    # Folders of classes may have names in Latin-1; Python hands them over as lone surrogates.
    build, shards = image_build()
    plan = dataclasses.replace(build.plan, classes=("caf\udce9", "café", "日本"))
    dataset = commit((Build(build.dataset, plan), shards))
    assert dataset.classes == plan.classes
    assert storage.verify(build.dataset).ok


def test_seeded_chaos__many_runs_of_one_build(image_build, finished):
    # Runs that stop anywhere, in any order of shards, two of them interleaved.
    version = finished(image_build(40, (3, 3, 1), 4, 2, folder="undisturbed"))
    build, shards = image_build(40, (3, 3, 1), 4, 2)
    rng = random.Random(0)
    while True:
        runs = []
        for _ in range(2):
            missing = build.begin().tolist()
            rng.shuffle(missing)
            runs.append(missing[: rng.randint(0, 3)])
        for number in [number for pair in zip(*runs, strict=False) for number in pair]:
            build.write_shard(number, shards[number])
        if not build.missing().size:
            break
    assert build.finish() == version
    assert store_of(build.dataset) is build.store
