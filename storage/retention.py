"""Which versions a dataset has, what they weigh, and which of them to keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.documents import BUILDS, MANIFEST
from storage.errors import StorageError, clear_write_errors
from storage.stores import Store, is_url, join, locate, store_of
from storage.versions import read_version, tags, version_key, version_numbers


@dataclass(frozen=True)
class VersionEntry:
    """One version of a dataset."""

    dataset: str
    name: str
    number: int
    version: str
    created: str
    """UTC."""
    count: int
    """Samples."""
    bytes: int
    """Of all its shards, also those that it shares with others."""
    own_bytes: int
    """Of what no other version uses: what removing it would free."""
    tags: tuple[str, ...]
    builds: tuple[str, ...]
    """Keys of the builds that it is made of."""


def find_datasets(root: str | Path) -> list[str]:
    """Locations of all datasets below a folder or URL (or of the one that lies there), sorted.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `root`.
    """
    location = locate(root)
    if not is_url(location):
        if not Path(location).is_dir():
            raise FileNotFoundError(f"expected a dataset or a folder that holds some, found nothing at {root}")
        found = {str(path.parent.parent) for path in Path(location).rglob("versions/*.json")}
        return sorted(found)
    keys = (key for key, _ in store_of(location).walk(""))
    inside = {key.split("/versions/")[0] for key in keys if "/versions/" in f"/{key}" and key.endswith(".json")}
    return sorted({location if name.startswith("versions/") else join(location, name) for name in inside})


def catalog(dataset: str | Path) -> list[VersionEntry]:
    """List the versions of a dataset, oldest first.

    Raises
    ------
    StorageError
        If a version's document is damaged.
    """
    location = locate(dataset)
    store = store_of(location)
    documents = [read_version(store, number) for number in version_numbers(store)]
    named = tags(store)
    users = Counter(build for document in documents for build in builds_of(document))
    sizes = {build: _bytes_of(store, build) for build in users}
    return [
        VersionEntry(
            dataset=location,
            name=document["name"],
            number=document["number"],
            version=document["version"],
            created=document["created"],
            count=document["count"],
            bytes=sum(sizes[build] for build in builds_of(document)),
            own_bytes=sum(sizes[build] for build in builds_of(document) if users[build] == 1),
            tags=tuple(name for name, number in named.items() if number == document["number"]),
            builds=builds_of(document),
        )
        for document in documents
    ]


def builds_of(document: dict[str, Any]) -> tuple[str, ...]:
    """Keys of the builds that a version is made of."""
    return tuple(part["build"] for part in document["parts"])


def _bytes_of(store: Store, build: str) -> int:
    return sum(size for _, size in store.walk(f"{BUILDS}/{build}"))


@dataclass(frozen=True)
class Pruning:
    """What `prune` removed, or would remove."""

    dataset: str
    versions: tuple[int, ...]
    """Numbers of the versions."""
    builds: tuple[str, ...]
    """Keys of the builds that no kept version uses."""
    bytes: int
    """What that frees."""


def prune(
    dataset: str | Path,
    *,
    keep: int = 3,
    also: Collection[int | str] = (),
    unfinished: bool = False,
    apply: bool = False,
) -> Pruning:
    """Remove old versions of a dataset, and the shards that only they use.

    The last `keep` versions of different content, tagged ones and those in `also` are kept, with every build that they
    use. A version's document goes before its shards, so a crash in between leaves no version without its data. Nobody
    may write to the dataset meanwhile.

    Parameters
    ----------
    dataset : str or Path
    keep : int
        At least 1: what readers see is never removed.
    also : collection
        Numbers or digests of further versions to keep.
    unfinished : bool
        Also remove builds that no version names: begun and never finished, or never published.
    apply : bool
        Without it nothing is removed: the result says what would be.

    Returns
    -------
    Pruning
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ValueError(f"expected to keep 1 version or more, received keep={keep!r}")
    location = locate(dataset)
    store = store_of(location)
    entries = catalog(location)
    if not entries:
        raise StorageError(f"expected a finished dataset in {location}, found none; nothing to prune")
    # A night that found nothing new leaves a version of the same content: these count as one.
    last = list(dict.fromkeys(entry.version for entry in reversed(entries)))[:keep]
    kept = {entry.number for entry in entries if entry.version in last}
    kept |= {entry.number for entry in entries if entry.tags or entry.number in also or entry.version in also}
    used = {build for entry in entries if entry.number in kept for build in entry.builds}
    named = {build for entry in entries for build in entry.builds}
    spare = [build for build in sorted(store.children(BUILDS)) if build not in used]
    spare = [build for build in spare if build in named or unfinished]
    versions = tuple(entry.number for entry in entries if entry.number not in kept)
    result = Pruning(location, versions, tuple(spare), sum(_bytes_of(store, build) for build in spare))
    if apply:
        with clear_write_errors(f"removals of {location}"):
            for number in versions:
                store.remove(version_key(number))
            for build in spare:
                store.remove(f"{BUILDS}/{build}/{MANIFEST}")  # from here on it is not finished, whatever happens
                store.remove_tree(f"{BUILDS}/{build}")
    return result
