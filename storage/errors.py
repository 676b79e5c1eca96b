"""What goes wrong in storage, said so that a user knows which dataset it was and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class StorageError(RuntimeError):
    """A dataset that is unfinished, damaged, not what its plan says, or that cannot be written."""


@contextmanager
def clear_write_errors(what: str) -> Iterator[None]:
    """Turn the operating system's errors into one line that names the dataset.

    Parameters
    ----------
    what : str
        What is being written, such as ``shard 3 of 'clean' in /runs/clean``.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            cure = "free some space and run again (committed shards are kept)"
        elif error.errno in _REFUSED:
            cure = "make the folder writable or choose another root"
        else:
            cure = "run again to continue (committed shards are kept)"
        raise StorageError(f"could not write {what}: {reason}; {cure}") from error
