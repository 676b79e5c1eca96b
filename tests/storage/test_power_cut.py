"""The power fails before every single step of the commit, and names that were not synced are lost."""

from __future__ import annotations

import builtins
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import storage
from storage import StorageError, arrays, durable, records, stores, versions
from storage.hashing import hash_file
from storage.writer import Build


class PowerCut(BaseException):
    """Nothing runs after this, no cleanup either."""


class Disk:
    """A disk whose power fails before a given step, and which then loses names that were not synced."""

    O_RDONLY = os.O_RDONLY
    kill = staticmethod(os.kill)

    def __init__(self, patch, steps_left: float, pid: int) -> None:
        self.steps_left = steps_left
        self.getpid = lambda: pid
        self.synced: set[Path] = set()
        self.unsynced: list[tuple[Path, bytes | None]] = []
        mkdir, unlink = Path.mkdir, Path.unlink

        def make(path, *rest, **options):
            self.step()
            mkdir(path, *rest, **options)
            self.unsynced.append((path, None))

        def remove(path, missing_ok=False):
            self.step()
            unlink(path, missing_ok)

        patch.setattr(durable, "os", self)
        patch.setattr(durable, "open", self.open_file, raising=False)
        patch.setattr(Path, "mkdir", make)
        patch.setattr(Path, "unlink", remove)

    def step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise PowerCut

    def open_file(self, path: Path, mode: str, buffering: int) -> Disk.File:
        assert buffering == 0, "bytes in a buffer are not synced by fsync"
        self.step()
        return Disk.File(self, path, mode)

    class File:
        def __init__(self, disk: Disk, path: Path, mode: str) -> None:
            self.disk, self.path, self.file = disk, path, builtins.open(path, mode, buffering=0)  # noqa: SIM115

        def __enter__(self) -> Disk.File:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def write(self, data: memoryview) -> int:
            half = -(-len(data) // 2)
            self.file.write(data[:half])
            self.disk.step()
            return half + (self.file.write(data[half:]) or 0)

        def fileno(self) -> Disk.File:
            return self

    def open(self, folder: Path, flags: int) -> Path:
        return folder

    def close(self, folder: Path) -> None:
        pass

    def fsync(self, what: Path | Disk.File) -> None:
        self.step()
        if isinstance(what, Disk.File):
            self.synced.add(what.path)
        else:
            self.unsynced = [(path, old) for path, old in self.unsynced if path.parent != what]

    def name(self, source: Path, target: Path) -> None:
        assert source in self.synced, f"{target.name} got its name before its bytes were on the disk"
        self.unsynced.append((target, target.read_bytes() if target.exists() else None))

    def replace(self, source: Path, target: Path) -> None:
        self.step()
        self.name(source, target)
        os.replace(source, target)

    def link(self, source: Path, target: Path) -> None:
        self.step()
        if target.exists():
            raise FileExistsError
        self.name(source, target)
        os.link(source, target)


def lose(names: list[tuple[Path, bytes | None]]) -> None:
    for path, old in reversed(names):
        if path.is_dir():
            shutil.rmtree(path)
        elif old is not None:
            path.write_bytes(old)
        else:
            path.unlink(missing_ok=True)


class Run:
    """One run of a pipeline that makes a build and publishes it after those that are there."""

    def __init__(self, made, before: list[str]) -> None:
        (self.build, self.shards), self.before = made, before
        self.location = self.build.dataset
        self.keys = [*before, self.build.plan.key]
        self.returned: set[int] = set()

    def go(self, *, again: bool = False) -> str:
        """The whole run, as a new process would do it."""
        self.returned = set()
        stores._open.cache_clear()
        build = Build(self.location, self.build.plan)
        for number in build.begin().tolist():
            build.write_shard(number, self.shards[number])
            self.returned.add(number)
        build.finish(again=again)
        return versions.publish(self.location, self.keys)["version"]

    def until(self, steps: float, pid: int, again: bool) -> tuple[list, bool]:
        """Run on a disk whose power fails: names not synced, and whether the run ended."""
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, steps, pid)
            try:
                self.go(again=again)
            except PowerCut:
                return disk.unsynced, False
        return disk.unsynced, True

    def check(self, returned: set[int], old: str | None, new: str) -> None:
        """No unfinished dataset is visible, no committed shard lost, and the next run ends as if nothing had been."""
        stores._open.cache_clear()
        build = Build(self.location, self.build.plan)
        try:
            seen = storage.open_dataset(self.location)
        except (StorageError, FileNotFoundError):
            assert old is None
        else:
            assert seen.version in ({old, new} if old else {new})
            assert storage.verify(self.location).ok
        if old:
            assert storage.open_dataset(self.location, 1).version == old
            assert storage.verify(self.location, version=1).ok
        there = set(range(len(self.shards))) - set(build.missing().tolist())
        assert returned <= there
        for number in there:
            path = build.store.path(f"{build.key}/data.zarr/{arrays.data_key(build.plan, number)}")
            if not build.finished:
                record = records.decode_record(build.store.read(f"{build.key}/{records.record_name(number)}"))
                assert hash_file(path).hex() == record.hash
        assert self.go() == new
        assert storage.verify(self.location).ok
        assert storage.open_dataset(self.location).number == len(self.keys)
        assert not list(Path(self.location).rglob("*.partial"))


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where the machine has one: thousands of small files come and go faster."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def dead() -> int:
    """Number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def held_metadata(monkeypatch):
    """Encoding metadata is pure; done once per plan, the hundreds of runs below take seconds."""
    encode, held = arrays.metadata_files, {}

    def files(plan, attributes):
        if plan.key not in held:
            held[plan.key] = encode(plan, attributes)
        return held[plan.key]

    monkeypatch.setattr(arrays, "metadata_files", files)


@pytest.mark.usefixtures("held_metadata")
@pytest.mark.parametrize("case", ["images", "texts", "append", "repair"])
def test_commit__power_fails_before_any_step(builds_at, commit, memory, dead, case):
    template, folder, state = memory / "template", memory / "clean", memory / "state"
    images = builds_at["images"]
    if case == "texts":
        made, first = builds_at["texts"](folder, ["a", "", "é" * 9], 2), []
    elif case == "append":
        first = [images(folder, 4, (2, 2, 1), 4, 4, seed=1)]
        made = images(folder, 9, (2, 2, 1), 5, 5, first_id=4)
    else:
        made, first = images(folder, 9, (2, 2, 1), 5, 5), []
    old = commit(*first).version if first else None
    if case == "repair":
        old = commit(made).version
    shutil.copytree(folder, template) if folder.exists() else template.mkdir()
    run = Run(made, [build.plan.key for build, _ in first])
    new = run.go()
    cut, finished = 0, False
    while not finished:
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        stores._open.cache_clear()
        unsynced, finished = run.until(cut, dead, again=case == "repair")
        returned = run.returned
        if unsynced:
            shutil.copytree(folder, state)
        # A file system may keep or lose each name that was not synced: none, all, each one alone.
        for lost in [[], *([unsynced] if unsynced else []), *([name] for name in unsynced if len(unsynced) > 1)]:
            if lost:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(state, folder)
                lose(lost)
            run.check(returned, old, new)
        shutil.rmtree(state, ignore_errors=True)
        cut += 1
    assert cut > (60 if case == "repair" else 80)
