"""A prefix of an object store (S3 and what speaks like it, memory), through obstore.

A put is atomic and durable when it returns: no temporary files, no syncs, no folders. Exclusive creation is a put with
``If-None-Match: *``.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from storage.stores.protocol import Piece

_AHEAD = 32
_memory: dict[str, Any] = {}
_memory_lock = threading.Lock()


def _connect(location: str) -> tuple[Any, str]:
    """An obstore store, and the prefix inside it."""
    try:
        import obstore.store
    except ImportError as error:
        raise ImportError(f'{location} needs the extra "object-store": pip install "duskflow[object-store]"') from error
    scheme, _, rest = location.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme == "memory":
        with _memory_lock:
            return _memory.setdefault(bucket, obstore.store.MemoryStore()), prefix
    # Settings, such as AWS_ENDPOINT_URL and AWS_ACCESS_KEY_ID, come from the environment.
    options = _http_allowed() if scheme == "s3" else {}
    return obstore.store.from_url(f"{scheme}://{bucket}", **options), prefix


def _http_allowed() -> dict[str, Any]:
    """A plain http endpoint is wanted by whoever names one."""
    import os

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    return {"client_options": {"allow_http": True}} if endpoint.startswith("http://") else {}


@contextmanager
def _plain_errors(what: str) -> Iterator[None]:
    """Turn obstore's errors into those that files have."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(2, "no such object", what) from None  # obstore's own text fills a screen
    except (BaseError, OSError) as error:
        name, text = type(error).__name__, " ".join(str(error).split())[:300]
        if name in ("PermissionDeniedError", "UnauthenticatedError"):
            raise PermissionError(13, f"access refused ({text})", what) from error
        raise OSError(5, f"{name}: {text}", what) from error


class ObjectStore:
    """Objects below a prefix; see `storage.stores.protocol.Store`.

    Parameters
    ----------
    location : str
        ``s3://bucket/prefix``, or ``memory://name/prefix``, which lives as long as the process.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._inner, prefix = _connect(location)
        self._prefix = f"{prefix}/" if prefix else ""

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[str]]:
        return ObjectStore, (self.location,)

    def _name(self, key: str) -> str:
        return self._prefix + key

    def _errors(self, key: str) -> Any:
        return _plain_errors(f"{self.location}/{key}")

    def read(self, key: str) -> bytes:
        """Get an object."""
        import obstore

        with self._errors(key):
            return bytes(obstore.get(self._inner, self._name(key)).bytes())

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Get a part of an object; less than asked for where it ends."""
        import obstore

        if length == 0:
            return b""
        with self._errors(key):
            stop = min(start + length, self.size(key))
            if stop <= start:
                return b""
            return bytes(obstore.get_range(self._inner, self._name(key), start=start, end=stop))

    def read_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """Get objects in order, many at a time: a request is mostly waiting."""

        def get(key: str) -> bytes | None:
            try:
                return self.read(key)
            except FileNotFoundError:
                return None

        with ThreadPoolExecutor(_AHEAD) as pool:
            ahead: deque[Future[bytes | None]] = deque()
            for key in keys:
                ahead.append(pool.submit(get, key))
                if len(ahead) > 2 * _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def size(self, key: str) -> int:
        """Bytes of an object."""
        import obstore

        with self._errors(key):
            return int(obstore.head(self._inner, self._name(key))["size"])

    def children(self, prefix: str) -> list[str]:
        """Names directly below a prefix."""
        import obstore

        below = self._name(prefix).rstrip("/") + "/" if self._name(prefix) else ""
        with self._errors(prefix):
            found = obstore.list_with_delimiter(self._inner, below or None)
        names = [str(name) for name in found["common_prefixes"]] + [str(entry["path"]) for entry in found["objects"]]
        return [name.rstrip("/").rpartition("/")[2] for name in names]

    def walk(self, prefix: str) -> Iterator[tuple[str, int]]:
        """(key, bytes) of every object below a prefix."""
        import obstore

        below = self._name(prefix).rstrip("/") + "/" if self._name(prefix) else ""
        with self._errors(prefix):
            for page in obstore.list(self._inner, below or None):
                for entry in page:
                    yield str(entry["path"]).removeprefix(self._prefix), int(entry["size"])

    def write(self, key: str, *pieces: Piece) -> None:
        """Put an object."""
        import obstore

        with self._errors(key):
            obstore.put(self._inner, self._name(key), b"".join(pieces), use_multipart=False)

    def create(self, key: str, *pieces: Piece) -> bool:
        """Put an object if there is none."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._errors(key):
            try:
                obstore.put(self._inner, self._name(key), b"".join(pieces), mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def remove(self, key: str) -> None:
        """Delete an object."""
        import obstore

        with suppress(FileNotFoundError), self._errors(key):
            obstore.delete(self._inner, self._name(key))

    def remove_tree(self, prefix: str) -> None:
        """Delete every object below a prefix."""
        import obstore

        names = [self._name(key) for key, _ in self.walk(prefix)]
        with self._errors(prefix):
            for start in range(0, len(names), 1000):
                obstore.delete(self._inner, names[start : start + 1000])

    def clean(self) -> None:
        """Nothing is ever left: a put that dies leaves no object."""

    def free_bytes(self) -> None:
        """No limit that could be asked for."""
        return

    def path(self, key: str) -> Path | None:
        """None: objects have no path."""
        return None

    def zarr(self, prefix: str) -> Any:
        """A read-only store of zarr, rooted at a group."""
        from zarr.storage import ObjectStore as ZarrStore
        from zarr.storage import StorePath

        return StorePath(ZarrStore(self._inner, read_only=True), self._name(prefix))
