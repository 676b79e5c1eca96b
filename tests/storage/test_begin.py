from __future__ import annotations

import dataclasses
import shutil
import socket
import subprocess
import time
from collections import namedtuple
from pathlib import Path

import pytest

import storage
from storage import StorageError, versions
from storage.layout import Layout
from storage.writer import Build


def test_begin__gives_what_is_missing_and_continues(image_build):
    build, shards = image_build()
    assert build.begin().tolist() == [0, 1, 2]
    build.write_shard(2, shards[2])
    record = Path(build.dataset, build.key, "records/000002").stat().st_mtime_ns
    assert build.begin().tolist() == build.missing().tolist() == [0, 1]
    assert Path(build.dataset, build.key, "records/000002").stat().st_mtime_ns == record


def test_begin__of_a_finished_build_gives_nothing(image_build, finished):
    build, shards = image_build()
    finished((build, shards))
    assert build.begin().tolist() == []


def test_begin__clears_away_what_killed_writers_left(image_build):
    build, _ = image_build()
    build.begin()
    process = subprocess.Popen(["true"])
    process.wait()
    left = Path(build.dataset, "tmp", f"{socket.gethostname()}-{process.pid}-0123456789ab.partial")
    left.write_bytes(b"half")
    build.begin()
    assert not left.exists()


def test_begin__by_a_second_run_does_not_harm_the_first(image_build, finished):
    build, shards = image_build()
    build.begin()
    build.write_shard(0, shards[0])
    second = Build(build.dataset, build.plan)
    second.begin()
    second.write_shard(1, shards[1])
    build.write_shard(2, shards[2])
    assert build.finish() == second.finish() == finished(image_build(folder="other"))


def test_begin__refuses_a_build_of_another_plan(image_build):
    build, _ = image_build()
    build.begin()
    other = dataclasses.replace(build.plan, layout=Layout(24, 8, 4))
    assert other.key == build.plan.key
    with pytest.raises(StorageError, match=r"the half-built dataset in .* was planned from other data .* delete that"):
        Build(build.dataset, other).begin()
    assert Build(build.dataset, build.plan).begin().tolist() == [0, 1, 2]


def test_begin__too_little_space(image_build, monkeypatch):
    build, shards = image_build(999, (9, 9, 3), 333, 333)
    usage = namedtuple("usage", "total used free")
    needed = build.plan.expected_bytes

    def free(amount):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, amount))

    free(needed - 1)
    with pytest.raises(
        StorageError, match=r"not enough disk space for dataset 'clean' in .*: expected up to .* MB free, found"
    ):
        build.begin()
    free(needed)
    build.begin()
    build.write_shard(0, shards[0])
    # What is committed needs no room any more.
    free(needed * 2 // 3 + 1)
    assert build.begin().tolist() == [1, 2]


def test_begin__in_an_object_store_there_is_always_space(builds_at, memory_location):
    build, _ = builds_at["images"](memory_location())
    assert build.begin().tolist() == [0, 1, 2]


def test_missing__is_quick_for_many_shards(builds_at, tmp_path):
    build, shards = builds_at["images"](tmp_path / "clean", 20_000, (1, 1, 1), 1, 1)
    build.begin()
    build.write_shard(19_999, shards[19_999])
    start = time.perf_counter()
    assert build.missing().tolist() == list(range(19_999))
    assert time.perf_counter() - start < 2


def test_finish__leaves_no_temporary_files(image_build, commit):
    build, shards = image_build()
    commit((build, shards))
    assert list(Path(build.dataset, "tmp").iterdir()) == []
    versions.tag(build.dataset, "a")
    assert storage.verify(build.dataset).ok
    assert list(Path(build.dataset, "tmp").iterdir()) == []
