from __future__ import annotations

import hashlib
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.sources import SourceError, places


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_fetch__whole_file_with_its_checksum(server: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    places.fetch(server.offer("/file", content), tmp_path / "new" / "file", "sha256", sha256(content))
    assert (tmp_path / "new" / "file").read_bytes() == content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o644


def test_fetch__wrong_checksum_leaves_nothing(server: Any, tmp_path: Path) -> None:
    url = server.offer("/file", b"something else")
    with pytest.raises(SourceError, match=f"{url}: expected sha256 {sha256(b'this')}, received"):
        places.fetch(url, tmp_path / "file", "sha256", sha256(b"this"))
    assert list(tmp_path.iterdir()) == []


def test_fetch__truncated_body_leaves_nothing(server: Any, tmp_path: Path) -> None:
    content = bytes(1000)
    url = server.offer("/file", content, promised=2000)
    with pytest.raises(SourceError, match="the transfer broke"):
        places.fetch(url, tmp_path / "file", "sha256", sha256(content))
    assert list(tmp_path.iterdir()) == []


def test_fetch__old_file_survives_a_failure(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(OSError, match="cannot be fetched"):
        places.fetch(f"{server.url}/nowhere", tmp_path / "file", "sha256", sha256(b"new"))
    assert (tmp_path / "file").read_bytes() == b"old"


def test_fetch__nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(OSError, match="cannot be fetched"):
            places.fetch(f"http://127.0.0.1:{port}/file", tmp_path / "file", "sha256", "")


def test_fetch__silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError, match="timed out"):
        places.fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/file", tmp_path / "file", "sha256", "")
    assert list(tmp_path.iterdir()) == []


def test_data_folder__named_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.data_folder() is None
    monkeypatch.setenv("DUSKFLOW_DATA", str(tmp_path))
    assert places.data_folder() == tmp_path
    monkeypatch.setenv("DUSKFLOW_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="which DUSKFLOW_DATA names"):
        places.data_folder()


def test_cache_folder__order_of_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DUSKFLOW_CACHE")
    assert places.cache_folder() == tmp_path / ".cache" / "duskflow"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert places.cache_folder() == tmp_path / "xdg" / "duskflow"
    monkeypatch.setenv("DUSKFLOW_CACHE", str(tmp_path / "own"))
    assert places.cache_folder() == tmp_path / "own"


def test_package_folder__found_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_package").mkdir()
    (tmp_path / "heavy_package" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert places.package_folder("heavy_package") == tmp_path / "heavy_package"
    assert "heavy_package" not in sys.modules
    assert places.package_folder("no_such_package") is None
    assert places.package_folder("json.decoder") is None
