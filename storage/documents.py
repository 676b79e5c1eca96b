"""Names of everything inside a dataset, and documents that notice when they are changed."""

from __future__ import annotations

import json
from typing import Any

from storage.errors import StorageError
from storage.plan import canonical, digest
from storage.stores.protocol import Store

BUILDS, VERSIONS, TAGS = "builds", "versions", "tags"
GROUP = "data.zarr"
MANIFEST, PLAN, SHARDS, STAMPS = "manifest.json", "plan.json", "shards.npy", "stamps.npy"


def seal(document: dict[str, Any]) -> dict[str, Any]:
    """Add the digest of all the rest, so that a change of any field is noticed."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    return {**rest, "digest": digest(json.loads(canonical(rest)))}


def read_sealed(store: Store, key: str, what: str, cure: str) -> dict[str, Any]:
    """Read a sealed document.

    Parameters
    ----------
    store : Store
    key : str
    what, cure : str
        What the document is, and what to do if it is damaged, for the error.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    StorageError
        If it is not what was written.
    """
    data = store.read(key)
    try:
        document = json.loads(data)
        if isinstance(document, dict) and seal(document)["digest"] == document.get("digest"):
            return document
        reason = "its content is not what was committed"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise StorageError(f"damaged {what} {store.location}/{key}: {reason}; {cure}")
