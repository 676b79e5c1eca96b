"""The disk becomes full, or refuses: one clear line, nothing lost, and the next run goes on."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import storage
from storage import StorageError, durable, versions


def failing_open(code: int, after: int):
    """An `open` whose files take `after` bytes in all and then fail with an error of the operating system."""
    taken = 0

    class Failing:
        def __init__(self, path, mode, buffering):
            self.file = builtins.open(path, mode, buffering=buffering)  # noqa: SIM115
            self.fileno = self.file.fileno

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            nonlocal taken
            taken += len(data)
            if taken > after:
                self.file.write(bytes(data)[: len(data) // 2])
                raise OSError(code, os.strerror(code))
            return self.file.write(data)

    return Failing


def partials(build) -> list[Path]:
    return list(Path(build.dataset).rglob("*.partial"))


def complete(build, shards) -> None:
    for number in build.begin().tolist():
        build.write_shard(number, shards[number])
    build.finish()
    versions.publish(build.dataset, [build.plan.key])
    assert storage.verify(build.dataset).ok


@pytest.mark.parametrize("after", [0, 100, 130, 160, 400, 600])
def test_write_shard__disk_becomes_full(image_build, monkeypatch, after):
    build, shards = image_build()
    build.begin()
    build.write_shard(2, shards[2])
    monkeypatch.setattr(durable, "open", failing_open(errno.ENOSPC, after), raising=False)
    message = r"could not write shard 0 of 'clean' in .*: No space left on device; free some space and run again"
    with pytest.raises(StorageError, match=message):
        build.write_shard(0, shards[0])
    monkeypatch.undo()
    assert not partials(build)
    assert build.missing().tolist() == [0, 1]
    complete(build, shards)


@pytest.mark.parametrize("after", [0, 200, 2000, 4000, 5000])
def test_finish__disk_becomes_full(image_build, monkeypatch, after):
    build, shards = image_build()
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    monkeypatch.setattr(durable, "open", failing_open(errno.ENOSPC, after), raising=False)
    with pytest.raises(StorageError, match=r"could not write dataset 'clean' in .*: No space left"):
        build.finish()
    monkeypatch.undo()
    assert not build.finished
    assert not partials(build)
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(build.dataset)
    complete(build, shards)


def test_publish__disk_becomes_full(image_build, finished, monkeypatch):
    build, shards = image_build()
    finished((build, shards))
    monkeypatch.setattr(durable, "open", failing_open(errno.ENOSPC, 10), raising=False)
    with pytest.raises(StorageError, match=r"could not write version 1 of .*clean: No space left on device"):
        versions.publish(build.dataset, [build.plan.key])
    monkeypatch.undo()
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(build.dataset)
    complete(build, shards)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 384 KiB in memory."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=384k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small disk: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None or os.getuid() != 0, reason="only root can mount a small disk")
def test_write_shard__real_full_disk(image_build, small_disk):
    build, shards = image_build(40, (64, 64, 1), 8, 8, folder="small/clean")
    build.begin()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(250_000))  # somebody else fills the disk after the check
    build.write_shard(0, shards[0])
    with pytest.raises(StorageError, match=r"could not write shard \d of 'clean' in .*: No space left on device"):
        list(map(build.write_shard, range(1, 5), shards[1:]))
    assert 0 not in build.missing()
    assert build.missing().size
    assert not partials(build)
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(build.dataset)
    ballast.unlink()
    complete(build, shards)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_begin__folder_that_cannot_be_written(image_build, monkeypatch, code):
    def refuse(self, *rest, **options):
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"could not write dataset 'clean' in .*: .*; make the folder writable or"):
        image_build()[0].begin()


def test_begin__path_through_a_file(image_build, tmp_path):
    (tmp_path / "clean").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"could not write dataset 'clean' in .*clean: Not a directory"):
        image_build()[0].begin()


def test_write_shard__object_store_that_fails(builds_at, memory_location, monkeypatch):
    import obstore

    build, shards = builds_at["images"](memory_location())
    build.begin()

    def refuse(*rest, **options):
        raise obstore.exceptions.GenericError("the bucket\nis on fire")

    monkeypatch.setattr(obstore, "put", refuse)
    with pytest.raises(StorageError, match=r"could not write shard 0 of 'clean' in memory://.*the bucket is on fire.*"):
        build.write_shard(0, shards[0])
    monkeypatch.undo()
    complete(build, shards)
