"""One run at a time in an output folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType


def check_root(root: Path) -> None:
    """Make the output folder, or refuse it before anything is started.

    Raises
    ------
    OSError
        If it cannot be made or written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"expected an output folder that can be written, received {root}: {reason}; choose another"
        ) from error


class InUseError(RuntimeError):
    """The output folder belongs to a run that is still going on."""


class RunLock:
    """Hold an output folder for one run, as a context manager.

    The lock is the operating system's (`flock`): it goes with the process, however that ends, so a killed run leaves
    none behind.

    Parameters
    ----------
    folder : Path
        The pipeline's folder below the root; created if missing.

    Raises
    ------
    InUseError
        On entering, if another run holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None

    def __enter__(self) -> RunLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "lock"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(path)
            os.close(self._file)
            self._file = None
            raise InUseError(
                f"output folder {self.folder} is in use by another run ({holder}); wait for it or choose another root"
            ) from None
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat("T", "seconds")}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(note).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read_holder(path: Path) -> str:
    try:
        note = json.loads(path.read_text())
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (OSError, ValueError, KeyError):
        return "it has not said who it is yet"
