"""Where the files of a dataset lie: a folder, or a prefix of an object store. The same protocol on both."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from storage.stores.protocol import Store

__all__ = ["Store", "is_url", "join", "locate", "store_of"]


def is_url(location: str | Path) -> bool:
    """Whether a location is one of an object store: ``s3://bucket/prefix``, ``memory://name``."""
    return "://" in str(location)


def locate(location: str | Path) -> str:
    """Spell a location so that it means the same on a worker with another working directory."""
    if not isinstance(location, (str, os.PathLike)):
        raise TypeError(f"expected a path or a URL, received {location!r}")
    location = os.fspath(location).removeprefix("file://")
    if is_url(location):
        scheme, _, rest = location.partition("://")
        if not rest.strip("/") or rest.startswith("/"):
            raise ValueError(f"expected a location as {scheme}://bucket/prefix, received {location!r}")
        return f"{scheme}://{rest.rstrip('/')}"
    return str(Path(location).expanduser().absolute())


def join(location: str | Path, *names: str) -> str:
    """A location below another."""
    return "/".join([locate(location).rstrip("/"), *names])


def store_of(location: str | Path) -> Store:
    """Open the store at a location.

    Parameters
    ----------
    location : str or Path
        A folder, ``file://``, ``s3://bucket/prefix`` (and what else `obstore` speaks, such as ``gs://`` and ``az://``;
        settings come from the environment: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` ...), or ``memory://name``,
        which lives as long as the process.
    """
    return _open(locate(location))


@lru_cache(maxsize=256)
def _open(location: str) -> Store:
    from storage.stores.local import LocalStore

    if is_url(location):
        from storage.stores.objects import ObjectStore

        return ObjectStore(location)
    return LocalStore(location)
