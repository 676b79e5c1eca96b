from __future__ import annotations

import builtins
import errno
import json
import os
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import durable


@pytest.fixture
def calls(monkeypatch) -> list[tuple[str, str]]:
    """What is asked of the operating system, in order."""
    made: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    real_open, real_fsync = os.open, os.fsync

    def spy_open(path, *rest):
        descriptor = real_open(path, *rest)
        opened[descriptor] = Path(path).name
        return descriptor

    def spy_fsync(descriptor):
        made.append(("fsync", opened.get(descriptor, "file")))
        real_fsync(descriptor)

    for name in ("replace", "link"):
        real = getattr(os, name)

        def spy(source, target, real=real, name=name):
            made.append((name, Path(target).name))
            real(source, target)

        monkeypatch.setattr(durable.os, name, spy)
    monkeypatch.setattr(durable.os, "open", spy_open)
    monkeypatch.setattr(durable.os, "fsync", spy_fsync)
    return made


def test_replace__syncs_the_file_then_renames_then_syncs_the_folder(tmp_path, calls):
    durable.replace(tmp_path / "a", b"new")
    assert calls == [("fsync", "file"), ("replace", "a"), ("fsync", tmp_path.name)]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_create__syncs_the_file_then_links_then_syncs_the_folder(tmp_path, calls):
    assert durable.create(tmp_path / "a", b"new")
    assert calls == [("fsync", "file"), ("link", "a"), ("fsync", tmp_path.name)]


def test_create__does_not_touch_what_is_there(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    assert not durable.create(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_create__one_of_many_writers_wins(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: durable.create(tmp_path / "a", str(i).encode()), range(64)))
    assert won.count(True) == 1
    assert (tmp_path / "a").read_bytes() == str(won.index(True)).encode()
    assert len(list(tmp_path.iterdir())) == 1


def full_disk(monkeypatch, after: int) -> None:
    """Files take `after` bytes, then the disk is full."""
    real = builtins.open

    class Full:
        def __init__(self, path, mode, buffering):
            self.file = real(path, mode, buffering=0)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(bytes(data)[:after])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable, "open", lambda path, mode, buffering: Full(path, mode, buffering), raising=False)


@pytest.mark.parametrize("write", [durable.replace, durable.create])
def test_write__full_disk_leaves_the_old_content_and_no_partial(tmp_path, monkeypatch, write):
    if write is durable.replace:
        (tmp_path / "a").write_bytes(b"old")
    full_disk(monkeypatch, after=2)
    with pytest.raises(OSError) as caught:
        write(tmp_path / "a", b"new content")
    assert caught.value.errno == errno.ENOSPC
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == (
        [("a", b"old")] if write is durable.replace else []
    )


def test_make_folder__makes_parents_and_bears_repetition(tmp_path, calls):
    durable.make_folder(tmp_path / "a" / "b")
    durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert calls == [("fsync", tmp_path.name), ("fsync", "a")]


def test_make_folder__by_many_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: durable.make_folder(tmp_path / "a" / "b" / "c"), range(32)))
    assert (tmp_path / "a" / "b" / "c").is_dir()


@pytest.fixture
def dead() -> int:
    """Number of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_remove_partials__only_of_the_dead_and_the_forgotten(tmp_path, dead):
    host, now = socket.gethostname(), time.time()
    ages = {
        f"{host}-{dead}-0123456789ab.partial": (0, False),
        f"{host}-{os.getpid()}-0123456789ab.partial": (0, True),
        f"{host}-{os.getpid()}-ba9876543210.partial": (25 * 3600, False),
        f"{host}-1-0123456789ab.partial": (0, True),  # lives, and is perhaps somebody else's
        f"other-{host}-{dead}-0123456789ab.partial": (23 * 3600, True),
        f"other-{host}-{dead}-ba9876543210.partial": (25 * 3600, False),
        "of-nobody.partial": (0, True),
        "x.partial": (25 * 3600, False),
        f"{host}-{dead}-0123456789ab": (25 * 3600, True),
        "keep.json": (25 * 3600, True),
    }
    for name, (age, _) in ages.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now - age, now - age))
    assert durable.remove_partials(tmp_path) == 4
    assert {path.name for path in tmp_path.iterdir()} == {name for name, (_, kept) in ages.items() if kept}
    assert durable.remove_partials(tmp_path / "none") == 0


def test_partials__are_named_after_who_writes_them(tmp_path, monkeypatch):
    names = []
    replace = os.replace
    monkeypatch.setattr(durable.os, "replace", lambda s, t: (names.append(Path(s)), replace(s, t))[1])
    (tmp_path / "tmp").mkdir()
    durable.replace(tmp_path / "a", b"new", partials=tmp_path / "tmp")
    assert names[0].parent == tmp_path / "tmp"
    assert re.fullmatch(rf"{socket.gethostname()}-{os.getpid()}-[0-9a-f]{{12}}\.partial", names[0].name)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(("write", "call"), [(durable.replace, "replace"), (durable.create, "link")])
@pytest.mark.parametrize("times", [1, 4, 5])
def test_write__survives_the_removal_of_its_temporary_file(tmp_path, monkeypatch, write, call, times):
    real, taken = getattr(os, call), []

    def clumsy(source, target):
        if len(taken) < times:
            taken.append(source)
            Path(source).unlink()  # as whoever takes us for dead does
        real(source, target)

    monkeypatch.setattr(durable.os, call, clumsy)
    if times == 5:  # not for ever
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "a", b"new ", b"content")
        assert list(tmp_path.iterdir()) == []
    else:
        write(tmp_path / "a", b"new ", b"content")
        assert (tmp_path / "a").read_bytes() == b"new content"
    assert len(taken) == times


def test_write__takes_as_many_calls_as_the_system_wants(tmp_path, monkeypatch):
    # One write of more than 2 GiB is cut short by Linux.
    real = builtins.open

    class Short:
        def __init__(self, path, mode, buffering):
            self.file = real(path, mode, buffering=0)
            self.fileno = self.file.fileno

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            return self.file.write(data[:7])

    monkeypatch.setattr(durable, "open", Short, raising=False)
    durable.replace(tmp_path / "a", bytes(range(100)), memoryview(b"and more"))
    assert (tmp_path / "a").read_bytes() == bytes(range(100)) + b"and more"


def test_replace_json__any_string_survives(tmp_path):
    value = {"é": ["\udce9", "\\udce9", "日本", "\x00"], "n": 1.5}
    durable.replace_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_bytes()) == value
    assert "日本" in (tmp_path / "a.json").read_text("utf-8")
