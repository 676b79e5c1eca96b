"""Files that sources read, written by hand here so that the tests do not trust the code that reads them."""

from __future__ import annotations

import gzip
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tasks.sources import files


def _idx_bytes(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def write_idx() -> Callable[..., Path]:
    """Writes uint8 arrays as IDX, gzipped if the name ends so."""

    def write(path: Path, array: np.ndarray, kind: int = 8) -> Path:
        content = _idx_bytes(array, kind)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return write


@pytest.fixture
def pictures() -> np.ndarray:
    """Nine 4 x 5 pictures in which every pixel is different."""
    return np.arange(9 * 4 * 5, dtype=np.uint8).reshape(9, 4, 5)


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Every test starts without cached files and cannot see this machine's data sets."""
    for variable in ("DUSKFLOW_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DUSKFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tasks.sources.fashion.DEBIAN_FOLDER", str(tmp_path / "not-installed"))
    files.forget()
    yield
    files.forget()


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        server.asked.append(self.path)
        content, promised = server.contents.get(self.path, (None, 0))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.contents: dict[str, tuple[bytes, int]] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def offer(self, path: str, content: bytes, promised: int | None = None) -> str:
        """Answer with `content`; `promised` is what the header claims its length to be."""
        self.contents[path] = (content, len(content) if promised is None else promised)
        return self.url + path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """A server on this machine that hands out what a test gives it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with _Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join(10)
