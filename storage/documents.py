"""The JSON documents beside the data: where they lie, and how they are read with suspicion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from storage.errors import StorageError
from storage.plan import canonical, digest

GROUP = "data.zarr"
RECORDS = "records"
POINTER = "latest.json"
MANIFEST = "manifest.json"
PLAN = "plan.json"


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """Add the digest of all the rest, so that `verify` notices a change of any field."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    return {**rest, "digest": digest(json.loads(canonical(rest)))}


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a shard.

    Raises
    ------
    FileNotFoundError
        If the shard is not committed.
    StorageError
        If the record is damaged.
    """
    try:
        record = json.loads(path.read_bytes())
        if {"shard", "files", "statistics"} <= set(record):
            return record
    except ValueError:
        pass
    raise StorageError(f"damaged record {path}; delete it and run again to write its shard anew")


def read_pointer(dataset: Path) -> dict[str, Any] | None:
    """Read which build readers of a dataset see; None if none is finished.

    Raises
    ------
    StorageError
        If the pointer is damaged.
    """
    path = dataset / POINTER
    try:
        pointer = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StorageError(f"damaged pointer {path}: {error}; delete it and run again") from error
    if not isinstance(pointer, dict) or not all(isinstance(pointer.get(name), str) for name in ("build", "version")):
        raise StorageError(f"damaged pointer {path}: it names no build and version; delete it and run again")
    return pointer
