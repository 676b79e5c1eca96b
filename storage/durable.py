"""Files that survive a crash: whole or absent, never half, and on the disk before anything points at them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


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


@contextmanager
def _partial_file(path: Path, data: bytes | memoryview) -> Iterator[Path]:
    """Write a temporary neighbour of `path`, synced; it is removed afterwards if it still has that name."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{PARTIAL}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def replace(path: Path, data: bytes | memoryview, *, sync_folder: bool = True) -> None:
    """Write a file so that readers see the old content or the new, nothing between.

    With ``sync_folder=False`` the caller syncs the folder itself, once for many files.
    """
    with _partial_file(path, data) as temporary:
        os.replace(temporary, path)
    if sync_folder:
        fsync_folder(path.parent)


def create(path: Path, data: bytes) -> bool:
    """Write a file unless it is there: of two writers exactly one wins.

    Returns
    -------
    bool
        True if this call created the file, False if it was there.
    """
    with _partial_file(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        fsync_folder(path.parent)
        return True


def encode_json(document: str) -> bytes:
    r"""Encode a JSON document as UTF-8; lone surrogates (from odd file names) become JSON's own escapes, ``\udc80``."""
    return document.encode("utf-8", "backslashreplace")


def replace_json(path: Path, value: Any) -> None:
    """Write a JSON document with `replace`."""
    replace(path, encode_json(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"))


def remove_partials(folder: Path, pattern: str = "**/*") -> int:
    """Remove what killed writers left behind and count it. Only for a folder that nobody writes to now."""
    count = 0
    for path in folder.glob(pattern + PARTIAL):
        with suppress(FileNotFoundError):
            path.unlink()
            count += 1
    return count
