from __future__ import annotations

import builtins
import errno
import json
import os
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


def test_replace__leaves_the_folder_to_the_caller(tmp_path, calls):
    durable.replace(tmp_path / "a", b"new", sync_folder=False)
    assert calls == [("fsync", "file"), ("replace", "a")]


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

    def fake(path, mode="r", *rest, **options):
        file = real(path, mode, *rest, **options)
        if "x" in mode or "w" in mode:

            def write(data, raw=file):
                raw.raw.write(bytes(data)[:after])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            wrapped = _Wrapped(file)
            wrapped.write = write
            return wrapped
        return file

    monkeypatch.setattr(durable, "open", fake, raising=False)


class _Wrapped:
    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


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


def test_remove_partials__and_nothing_else(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a.1-ab.partial", "b/c.partial", "b/keep", "partial"):
        (tmp_path / name).touch()
    assert durable.remove_partials(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["keep", "partial"]


def test_replace_json__any_string_survives(tmp_path):
    value = {"é": ["\udce9", "\\udce9", "日本", "\x00"], "n": 1.5}
    durable.replace_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_bytes()) == value
    assert "日本" in (tmp_path / "a.json").read_text("utf-8")
