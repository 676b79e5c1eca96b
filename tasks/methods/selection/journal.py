"""What a search has finished, one JSON line per fit, in a folder: a search that was killed goes on from there."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

from storage.durable import fsync_folder, make_folder


class Journal:
    """Results of finished fits by key; safe to use from threads, by one process at a time.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    fingerprint : str
        Of the search. The first line of the file holds it.

    Raises
    ------
    ValueError
        If the folder belongs to another search.
    RuntimeError
        If another process has it open.
    """

    def __init__(self, folder: str | Path, fingerprint: str) -> None:
        folder = Path(folder)
        make_folder(folder)
        self._lock = threading.Lock()
        self._file = open(folder / "fits.jsonl", "a+b", buffering=0)  # noqa: SIM115  (close does it)
        try:
            fsync_folder(folder)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"another search is using {folder}; wait for it or name another folder") from None
            self.done = self._read(folder, fingerprint)
        except BaseException:
            self._file.close()
            raise

    def add(self, key: str, result: dict[str, Any]) -> None:
        """Write a finished fit; it is on the disk when this returns."""
        with self._lock:
            self._append({"key": key, **result})

    def close(self) -> None:
        """Let others use the folder."""
        self._file.close()

    def _read(self, folder: Path, fingerprint: str) -> dict[str, dict[str, Any]]:
        self._file.seek(0)
        content = self._file.read()
        # A line counts when its end is there; what a killed process left of one is cut off.
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)
        lines = [json.loads(line) for line in content[:whole].splitlines()]
        if not lines:
            self._append({"search": fingerprint})
        elif lines[0].get("search") != fingerprint:
            raise ValueError(
                f"expected results of this search in {folder}, found those of another (its data, folds, estimator or "
                "parameters differ); name another folder or remove this one"
            )
        return {line.pop("key"): line for line in lines[1:]}

    def _append(self, line: dict[str, Any]) -> None:
        rest = memoryview(json.dumps(line).encode() + b"\n")
        while len(rest):
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())
