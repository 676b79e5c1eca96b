from __future__ import annotations

import builtins
import dataclasses
import errno
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import storage
from storage import StorageError, durable, writer
from storage.layout import Layout
from storage.writer import Build, progress_of, read_pointer


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_finish__layout_of_the_folder(image_build, commit):
    build, shards = image_build()
    commit((build, shards))
    build_folder = f"builds/{build.plan.key}"
    names = set(files_of(Path(build.dataset)))
    arrays = {"images": ".0.0.0", "labels": "", "ids": "", "split": ""}
    assert names == {
        "latest.json",
        *(f"{build_folder}/{name}" for name in ("plan.json", "manifest.json", "data.zarr/zarr.json")),
        *(f"{build_folder}/records/{i:06d}.json" for i in range(3)),
        *(f"{build_folder}/data.zarr/{name}/zarr.json" for name in arrays),
        *(f"{build_folder}/data.zarr/{name}/c.{i}{rest}" for name, rest in arrays.items() for i in range(3)),
    }


def test_finish__version_does_not_depend_on_the_order_of_writing(image_build, commit):
    version = commit(image_build()).version
    build, shards = image_build(folder="other")
    build.begin()
    for number in (2, 0, 1, 0):
        build.write_shard(number, shards[number])
    assert build.finish() == version
    assert build.finish() == version  # again, as after a crash right before the end
    one, other = (files_of(Path(build.dataset).parent / name) for name in ("clean", "other"))
    assert one == other


@pytest.mark.parametrize("field", ["values", "labels", "ids"])
def test_finish__version_changes_with_any_value(image_build, commit, field):
    version = commit(image_build()).version
    build, shards = image_build(folder="other")
    changed = getattr(shards[1], field).copy()
    changed.flat[0] = (int(changed.flat[0]) + 1) % 3
    shards[1] = dataclasses.replace(shards[1], **{field: changed})
    assert commit((build, shards)).version != version


def test_finish__clears_away_what_killed_writers_left(image_build):
    build, shards = image_build()
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    for folder in (build.group / "images", build.folder / "records"):
        (folder / "c.1.77-ab.partial").write_bytes(b"half")
    build.finish()
    assert not list(build.folder.rglob("*.partial"))


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
    assert build.missing() == [0, 2]
    with pytest.raises(StorageError, match="2 shards of 'clean' are missing, first 0; run again"):
        build.finish()
    with pytest.raises(StorageError, match=r"no finished dataset in .* run its pipeline again to resume"):
        storage.open_dataset(build.dataset)
    assert not build.finished


def test_expected_bytes__bound_what_is_written(image_build, text_build, commit, odd_texts):
    for made in (image_build(), image_build(70, (31, 17, 3), 16, 4, folder="odd"), text_build(odd_texts)):
        commit(made)
        written = sum(map(len, files_of(made[0].group).values()))
        assert written <= made[0].plan.expected_bytes


def test_write_shard__again_with_the_same_bytes(image_build):
    build, shards = image_build()
    build.begin()
    written = build.write_shard(0, shards[0])
    before = {path: path.stat().st_mtime_ns for path in build.folder.rglob("c.*")}
    assert build.write_shard(0, shards[0]) == written
    assert {path: path.stat().st_mtime_ns for path in build.folder.rglob("c.*")} == before


def test_write_shard__by_many_at_once(image_build, commit):
    build, shards = image_build()
    build.begin()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: build.write_shard(number % 3, shards[number % 3]), range(48)))
    assert build.finish() == commit(image_build(folder="other")).version
    assert storage.verify(build.dataset).ok


def test_write_shard__other_bytes_are_refused_and_change_nothing(image_build):
    build, shards = image_build()
    build.begin()
    build.write_shard(0, shards[0])
    before = files_of(build.folder)
    other = dataclasses.replace(shards[0], values=255 - shards[0].values)
    with pytest.raises(StorageError, match="shard 0 of 'clean' was committed before with other bytes"):
        build.write_shard(0, other)
    assert files_of(build.folder) == before


def test_write_shard__other_bytes_in_a_race_leave_the_shard_uncommitted(image_build, monkeypatch):
    build, shards = image_build()
    build.begin()
    other = dataclasses.replace(shards[0], values=255 - shards[0].values)
    create = durable.create

    def late(path, data):
        monkeypatch.setattr(durable, "create", create)
        build.write_shard(0, shards[0])  # the other writer commits just before us
        durable.replace(build.group / "images/c.0.0.0.0", b"ours")
        return create(path, data)

    monkeypatch.setattr(durable, "create", late)
    with pytest.raises(StorageError, match="committed before with other bytes"):
        build.write_shard(0, other)
    assert build.missing() == [0, 1, 2]
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    build.finish()
    assert storage.verify(build.dataset).ok


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
    assert build.missing() == [0, 1, 2]


def test_write_shard__texts_longer_than_planned(text_build):
    build, shards = text_build(["a", "b", "c"])
    build.begin()
    with pytest.raises(StorageError, match=r"holds 300 bytes of text, more than the 3 planned; .* `growth`"):
        build.write_shard(0, dataclasses.replace(shards[0], values=["x" * 100] * 3))


def test_begin__continues_what_is_there(image_build, commit):
    build, shards = image_build()
    build.begin()
    build.write_shard(2, shards[2])
    (build.group / "images" / "c.1.0.0.0.77-ab.partial").write_bytes(b"of a killed writer")
    record = build.record_path(2).stat().st_mtime_ns
    build.begin()
    assert build.missing() == [0, 1]
    assert not list(build.folder.rglob("*.partial"))
    assert build.record_path(2).stat().st_mtime_ns == record


def test_begin__by_a_second_run_does_not_harm_the_first(image_build, commit):
    build, shards = image_build()
    build.begin()
    build.write_shard(0, shards[0])
    version = commit((build, shards)).version  # the second run overtakes
    build.write_shard(1, shards[1])
    assert build.finish() == version
    assert storage.verify(build.dataset).ok


def test_begin__refuses_a_build_that_was_planned_from_other_data(image_build):
    build, _ = image_build()
    build.begin()
    other = Build(build.dataset, dataclasses.replace(build.plan, layout=Layout(22, 8, 4)))
    with pytest.raises(StorageError, match=r"was planned from other data .* delete that folder and run again"):
        other.begin()


def test_begin__refuses_when_the_disk_is_too_small(image_build, monkeypatch):
    build, shards = image_build()
    needed = build.plan.expected_bytes
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage(0, 0, needed - 1))
    with pytest.raises(
        StorageError, match=r"not enough disk space for dataset 'clean' in .*: expected up to .* MB free"
    ):
        build.begin()
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage(0, 0, needed))
    build.begin()
    build.write_shard(0, shards[0])
    # What is committed needs no room any more.
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage(0, 0, needed - 1))
    build.begin()


def failing_open(code: int, after: int):
    """An `open` whose files take `after` bytes and then fail with an error of the operating system."""
    taken = 0

    def fake(path, mode="r"):
        file = builtins.open(path, mode, buffering=0)  # noqa: SIM115
        real = file.write

        class Failing:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                file.close()

            def write(self, data):
                nonlocal taken
                taken += len(data)
                if taken > after:
                    real(bytes(data)[: len(data) // 2])
                    raise OSError(code, os.strerror(code))
                real(data)

            def flush(self):
                pass

            def fileno(self):
                return file.fileno()

        return Failing()

    return fake


@pytest.mark.parametrize("after", [0, 100, 300, 350])
def test_write_shard__disk_becomes_full(image_build, monkeypatch, after):
    build, shards = image_build()
    build.begin()
    build.write_shard(2, shards[2])
    monkeypatch.setattr(durable, "open", failing_open(errno.ENOSPC, after), raising=False)
    message = r"could not write shard 0 of 'clean' in .*: No space left on device; free some space and run again"
    with pytest.raises(StorageError, match=message):
        build.write_shard(0, shards[0])
    monkeypatch.undo()
    assert not list(build.folder.rglob("*.partial"))
    assert build.missing() == [0, 1]
    for number in (0, 1):
        build.write_shard(number, shards[number])
    build.finish()
    assert storage.verify(build.dataset).ok


def test_finish__disk_becomes_full(image_build, monkeypatch):
    build, shards = image_build()
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    monkeypatch.setattr(durable, "open", failing_open(errno.ENOSPC, 2000), raising=False)
    with pytest.raises(StorageError, match=r"could not write dataset 'clean' in .*: No space left"):
        build.finish()
    monkeypatch.undo()
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(build.dataset)
    build.finish()
    assert storage.verify(build.dataset).ok


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
    assert build.missing()
    assert not list(build.folder.rglob("*.partial"))
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(build.dataset)
    ballast.unlink()
    build.begin()
    for number in build.missing():
        build.write_shard(number, shards[number])
    build.finish()
    assert storage.verify(build.dataset).ok


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


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"shard": 1}', b"\xff\xfe"])
def test_finish__damaged_record(image_build, damage):
    build, shards = image_build()
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    build.record_path(1).write_bytes(damage)
    with pytest.raises(StorageError, match=r"damaged record .*000001.json; delete it and run again"):
        build.finish()
    build.record_path(1).unlink()
    build.write_shard(1, shards[1])
    build.finish()
    assert storage.verify(build.dataset).ok


def test_progress_of__counts_records(image_build):
    build, shards = image_build()
    folder = Path(build.dataset)
    assert progress_of(folder, build.plan.key) is None
    build.begin()
    assert progress_of(folder, build.plan.key) == (0, 3)
    build.write_shard(1, shards[1])
    assert progress_of(folder, build.plan.key) == (1, 3)


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"format": 1}', b'{"format": 0}', b"\xff"])
def test_progress_of__damaged_plan(image_build, damage):
    build, _ = image_build()
    build.begin()
    (build.folder / "plan.json").write_bytes(damage)
    with pytest.raises(StorageError, match=r"damaged plan .*plan.json: .*delete .* and run again"):
        progress_of(Path(build.dataset), build.plan.key)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"build": 1, "version": "a"}', b"\xff", b"nonsense"])
def test_read_pointer__damaged(image_build, commit, damage):
    build, shards = image_build()
    commit((build, shards))
    (Path(build.dataset) / "latest.json").write_bytes(damage)
    for ask in (lambda: build.finished, lambda: storage.open_dataset(build.dataset)):
        with pytest.raises(StorageError, match=r"damaged pointer .*latest.json.*; delete it and run again"):
            ask()
    (Path(build.dataset) / "latest.json").unlink()
    assert read_pointer(Path(build.dataset)) is None
    build.finish()
    assert build.finished


def test_class_names__that_are_no_utf8(image_build, commit):
    # Folders of classes may have names in Latin-1; Python hands them over as lone surrogates.
    build, shards = image_build()
    plan = dataclasses.replace(build.plan, classes=("caf\udce9", "café", "日本"))
    dataset = commit((Build(build.dataset, plan), shards))
    assert dataset.classes == plan.classes
    assert storage.verify(build.dataset).ok


class PowerCut(BaseException):
    """Nothing runs after this, no cleanup either."""


class Disk:
    """A disk whose power fails before a given step, and which then loses names that were not synced."""

    O_RDONLY = os.O_RDONLY
    getpid = staticmethod(os.getpid)

    def __init__(self, monkeypatch, steps_left: float) -> None:
        self.steps_left = steps_left
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

        monkeypatch.setattr(durable, "os", self)
        monkeypatch.setattr(durable, "open", self.open_file, raising=False)
        monkeypatch.setattr(Path, "mkdir", make)
        monkeypatch.setattr(Path, "unlink", remove)

    def step(self) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            raise PowerCut

    def open_file(self, path: Path, mode: str) -> Disk.File:
        self.step()
        return Disk.File(self, path, mode)

    class File:
        def __init__(self, disk: Disk, path: Path, mode: str) -> None:
            self.disk, self.path, self.file = disk, path, builtins.open(path, mode)  # noqa: SIM115

        def __enter__(self) -> Disk.File:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.disk.step()
            self.file.write(data[len(data) // 2 :])

        def flush(self) -> None:
            self.file.flush()

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


def check_after_power_cut(build: Build, shards, returned: set[int], version: str) -> None:
    """No half dataset is visible, no committed shard is lost, and the next run ends as if nothing had happened."""
    try:
        assert storage.open_dataset(build.dataset).version == version
        assert storage.verify(build.dataset).ok
    except (StorageError, FileNotFoundError):
        assert not build.finished
    if build.folder.exists():
        there = set(range(len(shards))) - set(build.missing())
        assert returned <= there
        for number in there:
            for name, entry in json.loads(build.record_path(number).read_bytes())["files"].items():
                assert (build.group / name).stat().st_size == entry["bytes"]
    build.begin()
    for number in build.missing():
        build.write_shard(number, shards[number])
    assert build.finish() == version
    assert storage.verify(build.dataset).ok
    assert not list(build.folder.rglob("*.partial"))


def run_until(disk_steps: float, build: Build, shards) -> tuple[set[int], list, bool]:
    """Run a build on a disk whose power fails: shards that were committed, names not synced, whether it finished."""
    returned: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, disk_steps)
        try:
            build.begin()
            for number, shard in enumerate(shards):
                build.write_shard(number, shard)
                returned.add(number)
            build.finish()
        except PowerCut:
            return returned, disk.unsynced, False
    return returned, disk.unsynced, True


def held_metadata():
    """`metadata_files` that encodes once."""
    encode, held = writer.arrays.metadata_files, []

    def files(plan, attributes):
        if not held:
            held.append(encode(plan, attributes))
        return held[0]

    return files


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where the machine has one: thousands of small files come and go faster."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_commit__power_fails_before_any_step(image_build, commit, monkeypatch, memory):
    version = commit(image_build(9, (2, 2, 1), 5, 5, folder="undisturbed")).version
    # Encoding is pure; done once, the hundreds of runs below take seconds. The Disk watches over syncs.
    build, shards = image_build(9, (2, 2, 1), 5, 5, folder=memory / "clean")
    encoded = [list(writer.arrays.encode_shard(build.plan, n, build._contents(n, s))) for n, s in enumerate(shards)]
    monkeypatch.setattr(writer.arrays, "encode_shard", lambda plan, number, contents: encoded[number])
    monkeypatch.setattr(writer.arrays, "metadata_files", held_metadata())
    folder, state, cut, finished = Path(build.dataset), memory / "state", 0, False
    while not finished:
        returned, unsynced, finished = run_until(cut, build, shards)
        if unsynced:
            shutil.copytree(folder, state)
        # A file system may keep or lose each name that was not synced: none, all, each one alone.
        for lost in [[], *([unsynced] if unsynced else []), *([name] for name in unsynced if len(unsynced) > 1)]:
            if lost:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(state, folder)
                lose(lost)
            check_after_power_cut(build, shards, returned, version)
        shutil.rmtree(folder)
        shutil.rmtree(state, ignore_errors=True)
        cut += 1
    assert cut > 80


def test_version__is_the_same_as_ever(image_build, commit):
    # Pinned: a change of the layout on disk must be deliberate (and raise storage.plan.FORMAT).
    values = np.arange(23 * 15, dtype=np.uint64).astype(np.uint8).reshape(23, 5, 3, 1)
    build, shards = image_build(values=values)
    shards = [dataclasses.replace(shard, labels=shard.ids % 3) for shard in shards]
    assert commit((build, shards)).version == "dc522297fdce13b88a619659112e5bf02e88735b955e860b8a419a722d913527"


def test_seeded_chaos__many_runs_of_one_build(image_build, commit):
    # Runs that stop anywhere, in any order of shards, two of them interleaved.
    version = commit(image_build(40, (3, 3, 1), 4, 2, folder="undisturbed")).version
    build, shards = image_build(40, (3, 3, 1), 4, 2)
    rng = random.Random(0)
    while True:
        runs = []
        for _ in range(2):
            build.begin()
            missing = build.missing()
            rng.shuffle(missing)
            runs.append(missing[: rng.randint(0, 3)])
        for number in [number for pair in zip(*runs, strict=False) for number in pair]:
            build.write_shard(number, shards[number])
        if not build.missing():
            break
    assert build.finish() == version
