from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tasks.sources import files


def test_once__loads_once_per_key() -> None:
    loads: list[str] = []

    def load(key: str) -> Any:
        return files.once(key, lambda: (loads.append(key) or f"value of {key}", 1))

    assert [load(key) for key in "aba"] == ["value of a", "value of b", "value of a"]
    assert loads == ["a", "b"]


def test_once__least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_cache", files._Cache(limit_bytes=10, limit_entries=64))
    loads: list[str] = []
    for key in "abacab":
        files.once(key, lambda key=key: (loads.append(key), 4))
        assert files._cache.held_bytes() <= 10
    # a and b are held, a is used, so c drives b out; b comes back.
    assert loads == ["a", "b", "c", "b"]


def test_once__too_large_a_value_is_held_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_cache", files._Cache(limit_bytes=10, limit_entries=64))
    loads: list[str] = []
    for key in ("a", "large", "large", "a"):
        files.once(key, lambda key=key: (loads.append(key), 50 if key == "large" else 1))
    assert loads == ["a", "large", "a"]


def test_once__entries_without_weight_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_cache", files._Cache(limit_bytes=10, limit_entries=3))
    for key in range(10):
        files.once(key, lambda: (None, 0))
    assert list(files._cache._entries) == [7, 8, 9]


def test_once__failure_is_not_kept() -> None:
    def fail() -> Any:
        raise ValueError("not now")

    with pytest.raises(ValueError, match="not now"):
        files.once("key", fail)
    assert files.once("key", lambda: ("value", 1)) == "value"


def test_once__threads_share_one_load() -> None:
    loads: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(10)
        files.once("key", lambda: (loads.append(1), 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert loads == [1]


def test_digest__parts_do_not_run_together() -> None:
    assert files.digest(b"ab", b"c") != files.digest(b"a", b"bc")
    assert files.texts_digest(["ab", "c"]) != files.texts_digest(["a", "bc"])
    assert files.texts_digest(["\ud800"]) != files.texts_digest(["\ud801"])


def test_file_digest__content_below_the_bound_and_time_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one" / "file", tmp_path / "two" / "file"
    for path in (one, two):
        path.parent.mkdir()
        path.write_bytes(b"same content")
    os.utime(two, ns=(0, 0))
    assert files.file_digest(str(one)) == files.file_digest(str(two))
    monkeypatch.setattr(files, "DIGEST_BYTES", 3)
    assert files.file_digest(str(one)) != files.file_digest(str(two))


def test_stamp__folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found a folder"):
        files.stamp(str(tmp_path))
