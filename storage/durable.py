"""Files that survive a crash: whole or absent, never half, and on the disk before anything points at them."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

Piece = bytes | memoryview

PARTIAL = ".partial"
_FORGOTTEN_SECONDS = 24 * 3600
_ATTEMPTS = 5


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable (POSIX: a rename is only safe once its folder is)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents durably."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for child in reversed(missing):
        with suppress(FileExistsError):
            child.mkdir()
        fsync_folder(child.parent)


def _partial_name(folder: Path) -> Path:
    # Who wrote it, so that what a dead process left can be told from what a living one is writing.
    return folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}{PARTIAL}"


@contextmanager
def _partial_file(folder: Path, pieces: tuple[Piece, ...]) -> Iterator[Path]:
    """Write a temporary file, synced; it is removed afterwards if it still has that name."""
    temporary = _partial_name(folder)
    try:
        with open(temporary, "xb", buffering=0) as file:
            for piece in pieces:
                _write_all(file, piece)
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _write_all(file: Any, piece: Piece) -> None:
    rest = memoryview(piece)
    while len(rest):
        rest = rest[file.write(rest) :]  # one write takes at most 2 GiB on Linux


def replace(path: Path, *pieces: Piece, partials: Path | None = None) -> None:
    """Write a file so that readers see the old content or the new, nothing between.

    Parameters
    ----------
    path : Path
    pieces : bytes-like
        The content, one after the other.
    partials : Path, optional
        A folder of the same file system for the temporary file; by default that of `path`.
    """
    for attempt in range(_ATTEMPTS):
        with _partial_file(partials or path.parent, pieces) as temporary:
            try:
                os.replace(temporary, path)
                break
            except FileNotFoundError:
                # Somebody who finished the same dataset took our temporary file for a dead writer's.
                if attempt == _ATTEMPTS - 1 or not path.parent.is_dir():
                    raise
    fsync_folder(path.parent)


def create(path: Path, *pieces: Piece, partials: Path | None = None) -> bool:
    """Write a file unless it is there: of two writers exactly one wins.

    Returns
    -------
    bool
        True if this call created the file, False if it was there.
    """
    for attempt in range(_ATTEMPTS):
        with _partial_file(partials or path.parent, pieces) as temporary:
            try:
                os.link(temporary, path)
                break
            except FileExistsError:
                return False
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1 or not path.parent.is_dir():
                    raise
    fsync_folder(path.parent)
    return True


def encode_json(document: str) -> bytes:
    r"""Encode a JSON document as UTF-8; lone surrogates (from odd file names) become JSON's own escapes, ``\udc80``."""
    return document.encode("utf-8", "backslashreplace")


def pretty_json(value: Any) -> bytes:
    """Encode a value as JSON that a person can read."""
    return encode_json(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def replace_json(path: Path, value: Any) -> None:
    """Write a JSON document with `replace`."""
    replace(path, pretty_json(value))


def remove_partials(folder: Path) -> int:
    """Remove what dead writers left in a folder, and count it.

    A writer is taken for dead if its process is gone from this machine; one of another machine after a day.
    """
    count = 0
    host = socket.gethostname()
    for path in folder.glob("*" + PARTIAL):
        with suppress(FileNotFoundError):
            owner, _, pid = path.name.rpartition("-")[0].rpartition("-")
            forgotten = time.time() - path.stat().st_mtime > _FORGOTTEN_SECONDS
            if forgotten or (owner == host and pid.isdigit() and not _is_alive(int(pid))):
                path.unlink()
                count += 1
    return count


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
