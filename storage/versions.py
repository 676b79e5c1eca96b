"""The versions of a dataset: a log of documents, each created exclusively, of which readers see the last.

A version is a list of builds: one that was ingested, and one for every append since. So an append copies nothing, an
old version stays readable, and two writers at once cannot overwrite each other's: of two that create the same number
exactly one wins, on a file system (`link`) and on an object store (``If-None-Match``) alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from storage import statistics
from storage.documents import BUILDS, TAGS, VERSIONS, read_sealed, seal
from storage.durable import pretty_json
from storage.errors import StorageError, clear_write_errors
from storage.manifest import read_manifest
from storage.plan import digest
from storage.stores import Store, store_of

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


def version_key(number: int) -> str:
    """Path of a version's document inside the dataset."""
    return f"{VERSIONS}/{number:06d}.json"


def version_numbers(store: Store) -> list[int]:
    """Numbers of the versions that are there, in order."""
    names = [name.removesuffix(".json") for name in store.children(VERSIONS) if name.endswith(".json")]
    return sorted(int(name) for name in names if name.isdigit())


def read_version(store: Store, number: int) -> dict[str, Any]:
    """Read the document of a version.

    Raises
    ------
    FileNotFoundError
        If there is no such version.
    StorageError
        If it is not what was written.
    """
    document = read_sealed(store, version_key(number), "version", "run `duskflow repair`, or restore it from a copy")
    if document.get("number") != number:
        raise StorageError(f"damaged version {store.location}/{version_key(number)}: it is another's document, renamed")
    return document


def latest(store: Store) -> dict[str, Any] | None:
    """The version that readers see; None if nothing was ever finished."""
    numbers = version_numbers(store)
    return read_version(store, numbers[-1]) if numbers else None


def joint_version(versions: Sequence[str]) -> str:
    """Version of a dataset of some builds: that of the build if it is one, else the digest of all."""
    return versions[0] if len(versions) == 1 else digest(list(versions))


def publish(
    dataset: str,
    builds: Sequence[str],
    *,
    notes: dict[str, Any] | None = None,
    after: int | None = None,
) -> dict[str, Any]:
    """Let readers see a list of finished builds.

    Nothing is written if that is what they see already.

    Parameters
    ----------
    dataset : str
        Its location.
    builds : sequence of str
        Keys of finished builds (`storage.plan.Plan.key`), in the order of their rows.
    notes : dict, optional
        What else to remember, as JSON; by default what the last version does.
    after : int, optional
        The version that this one must follow; without it, whatever is the last.

    Returns
    -------
    dict
        The version's document.

    Raises
    ------
    StorageError
        If another version was published after `after`.
    """
    store = store_of(dataset)
    manifests = [read_manifest(store, f"{BUILDS}/{build}") for build in builds]
    content = describe_parts(builds, manifests, notes)
    while True:
        seen = latest(store)
        if seen is not None and all(seen.get(name) == value for name, value in content.items()):
            return seen
        number = seen["number"] if seen else 0
        if after is not None and number != after:
            raise StorageError(
                f"another run changed the dataset in {dataset} meanwhile (expected version {after} to be the last, "
                f"found {number}); run again"
            )
        kept = {"notes": seen["notes"] if seen else {}}
        document = seal(
            {**kept, **content, "number": number + 1, "created": datetime.now(UTC).isoformat(timespec="seconds")}
        )
        with clear_write_errors(f"version {number + 1} of {dataset}"):
            if store.create(version_key(number + 1), pretty_json(document)):
                return document


def restore_version(dataset: str, number: int, builds: Sequence[str]) -> None:
    """Write the damaged document of a version anew, from its builds; what it noted is that of the one before."""
    store = store_of(dataset)
    manifests = [read_manifest(store, f"{BUILDS}/{build}") for build in builds]
    before = [read_version(store, other) for other in version_numbers(store) if other == number - 1]
    notes = before[0]["notes"] if before else {}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    document = seal({**describe_parts(builds, manifests, notes), "number": number, "created": created})
    with clear_write_errors(f"version {number} of {dataset}"):
        store.write(version_key(number), pretty_json(document))


def describe_parts(
    builds: Sequence[str], manifests: Sequence[dict[str, Any]], notes: dict[str, Any] | None
) -> dict[str, Any]:
    """What a version's document says of the builds it is made of; without notes, those that are there stay."""
    last = manifests[-1]
    return {
        "name": last["name"],
        "kind": last["kind"],
        "version": joint_version([manifest["version"] for manifest in manifests]),
        "count": sum(manifest["layout"]["count"] for manifest in manifests),
        "bytes": sum(manifest["bytes"] for manifest in manifests),
        "parts": [
            {"build": build, "version": manifest["version"], "manifest": manifest["digest"]}
            for build, manifest in zip(builds, manifests, strict=True)
        ],
        "statistics": statistics.merge(manifest["statistics"] for manifest in manifests),
        **({} if notes is None else {"notes": notes}),
    }


def find_version(store: Store, wanted: int | str) -> dict[str, Any]:
    """Find a version by its number, its tag, or the beginning of its digest (at least 6 digits).

    Raises
    ------
    StorageError
        If there is none, or more than one.
    """
    numbers = version_numbers(store)
    if isinstance(wanted, int):
        if wanted in numbers:
            return read_version(store, wanted)
    elif wanted in tags(store):
        return _tagged(store, wanted)
    elif wanted in map(str, numbers):
        return read_version(store, int(wanted))
    elif len(wanted) >= 6:
        found = [read_version(store, number) for number in numbers]
        matching = {entry["version"]: entry for entry in found if entry["version"].startswith(wanted)}
        if len(matching) == 1:
            return next(iter(matching.values()))
    raise StorageError(
        f"expected a version of {store.location}: a number of {numbers}, a tag of {sorted(tags(store))}, or the first "
        f"6 or more digits of a version, received {wanted!r}"
    )


def _tagged(store: Store, name: str) -> dict[str, Any]:
    """The version that a tag names, if it is still the one that was tagged."""
    entry = _read_tag(store, name)
    try:
        document = read_version(store, entry["number"])
    except FileNotFoundError:
        document = {}
    if document.get("version") != entry["version"]:
        raise StorageError(
            f"tag {name!r} of {store.location} names version {entry['number']} with digest {entry['version'][:12]}, "
            "which is not there any more; restore it from a copy, or remove the tag"
        )
    return document


def _read_tag(store: Store, name: str) -> dict[str, Any]:
    return read_sealed(store, f"{TAGS}/{name}.json", "tag", "set it again with `duskflow tag`")


def tag(dataset: str, name: str, version: int | str | None = None) -> int:
    """Name a version, so that it is kept and found again.

    Parameters
    ----------
    dataset : str
        Its location.
    name : str
        Letters, digits, ``.``, ``_`` and ``-``, beginning with a letter. A name that is taken moves.
    version : int or str, optional
        See `find_version`; by default the one that readers see.

    Returns
    -------
    int
        The version's number.
    """
    if not _TAG.fullmatch(name):
        raise ValueError(
            f"expected a tag of letters, digits, '.', '_' and '-' that begins with a letter, received {name!r}"
        )
    store = store_of(dataset)
    document = latest(store) if version is None else find_version(store, version)
    if document is None:
        raise StorageError(f"expected a finished dataset in {dataset} to tag, found none; run its pipeline first")
    entry = seal({"tag": name, "number": document["number"], "version": document["version"]})
    with clear_write_errors(f"tag {name!r} of {dataset}"):
        store.write(f"{TAGS}/{name}.json", pretty_json(entry))
    return int(document["number"])


def untag(dataset: str, name: str) -> None:
    """Remove a tag; the version stays until `prune`."""
    store_of(dataset).remove(f"{TAGS}/{name}.json")


def tags(store: Store) -> dict[str, int]:
    """Every tag and the number of its version."""
    names = sorted(name.removesuffix(".json") for name in store.children(TAGS) if name.endswith(".json"))
    return {name: int(_read_tag(store, name)["number"]) for name in names}
