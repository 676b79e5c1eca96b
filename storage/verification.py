"""Prove that a dataset is what its documents say. Zarr itself does not notice flipped bits or a lost shard.

The documents form a chain: a version holds the digest of each part's manifest, a manifest the hashes of the table of
shards, of the columns and of the metadata, the table the hash of every shard. Each shard's record seals itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import as_completed as threads_completed
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage import records
from storage.arrays import data_key
from storage.dataset import Dataset, open_dataset
from storage.documents import BUILDS, GROUP, MANIFEST, SHARDS, TAGS
from storage.errors import StorageError
from storage.hashing import hash_bytes, hash_file
from storage.layout import columns
from storage.manifest import read_manifest, version_of
from storage.part import Part
from storage.stores import Store, locate, store_of
from storage.versions import describe_parts, find_version, latest, read_version, tags, version_key, version_numbers

if TYPE_CHECKING:
    from distributed import Client

_SHARD_FILE = re.compile(r"(?:images|values)/c\.(\d+)(?:\.0\.0\.0)?")
_RECORD_FILE = re.compile(records.FOLDER + r"/(\d{6,})")
_BLOCK = 64
"""Shards that are checked as one piece of work."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not what was committed."""

    build: str
    """Key of the build; empty for the dataset's own documents."""
    name: str
    """Path of the file inside the build."""
    text: str
    shard: int | None = None
    """Which shard it is of, if it is of one."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    path: str
    version: str
    """Empty if the documents are too damaged to tell."""
    shards: int
    strict: bool
    problems: tuple[Problem, ...]
    """One per damaged, missing or unexpected file; empty if all is well."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    path: str | Path,
    *,
    strict: bool = True,
    version: int | str | None = None,
    client: Client | None = None,
    advance: Callable[[int], Any] | None = None,
) -> Verification:
    """Check every file of a dataset against its documents.

    Parameters
    ----------
    path : str or Path
        The dataset's folder or URL.
    strict : bool
        Hash every byte; otherwise compare sizes, and read the records and documents only.
    version : int or str, optional
        See `storage.open_dataset`; by default the last.
    client : distributed.Client, optional
        Its workers do the work; without one, threads of this process.
    advance : callable, optional
        Called with the number of shards checked since the last call.

    Returns
    -------
    Verification

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StorageError
        If nothing was ever finished there.
    """
    location = locate(path)
    if not version_numbers(store_of(location)):
        location = open_dataset(path, version).location  # a path that names a version, or the error that it deserves
    try:
        dataset = open_dataset(path, version)
    except StorageError as error:
        return Verification(location, "", 0, strict, tuple(_unopened(location, version, error)))
    problems = list(_document_problems(dataset))
    for part in dataset.parts:
        problems += verify_part(part, strict=strict, client=client, advance=advance)
    return Verification(dataset.path, dataset.version, dataset.shards, strict, tuple(problems))


def verify_part(
    part: Part,
    *,
    strict: bool = True,
    client: Client | None = None,
    advance: Callable[[int], Any] | None = None,
) -> list[Problem]:
    """Check one build whose manifest is sound; see `verify`."""
    problems = list(_file_problems(part, strict))
    table = None if any(problem.name == SHARDS for problem in problems) else _table(part)
    if table is None and not any(problem.name == SHARDS for problem in problems):
        problems.append(Problem(part.build, SHARDS, f"damaged {part.key}/{SHARDS}: it is not the one of this version"))
    compare = strict and not problems  # records with columns; damaged columns would blame every record
    blocks = [(low, min(low + _BLOCK, part.layout.shards)) for low in range(0, part.layout.shards, _BLOCK)]

    def arguments(block: tuple[int, int]) -> tuple[Any, ...]:
        return part, *block, None if table is None else table[slice(*block)], strict, compare

    work = _on_threads if client is None else _on_workers(client)
    found: dict[tuple[int, int], list[Problem]] = {}
    for block, result in work(blocks, arguments):
        found[block] = result
        if advance:
            advance(block[1] - block[0])
    problems += [problem for block in blocks for problem in found[block]]
    return problems + sorted(_unexpected(part), key=lambda problem: problem.name)


def _table(part: Part) -> np.ndarray | None:
    """The table of shards, if it is the one that the version was made of."""
    try:
        table = part.table
    except StorageError:
        return None
    sound = hash_bytes(np.ascontiguousarray(table["content"])).hex() == part.manifest["content"].get("shards")
    return table if sound and table.shape == (part.layout.shards,) else None


Blocks = Iterator[tuple[tuple[int, int], list[Problem]]]


def _on_threads(blocks: list[tuple[int, int]], arguments: Callable[..., tuple[Any, ...]]) -> Blocks:
    # Hashing and reading release the interpreter lock.
    with ThreadPoolExecutor() as pool:
        futures = {pool.submit(check_shards, *arguments(block)): block for block in blocks}
        for future in threads_completed(futures):
            yield futures[future], future.result()


def _on_workers(client: Client) -> Callable[..., Blocks]:
    from distributed import as_completed

    def work(blocks: list[tuple[int, int]], arguments: Callable[..., tuple[Any, ...]]) -> Blocks:
        todo = iter(blocks)
        held: dict[str, tuple[int, int]] = {}

        def submit(block: tuple[int, int]) -> Any:
            future = client.submit(check_shards, *arguments(block), pure=False)
            held[str(future.key)] = block
            return future

        # As many at once as keep the workers busy: a million shards do not fill the scheduler.
        running = as_completed([submit(block) for block in islice(todo, 256)], loop=client.loop)
        for future in running:
            yield held.pop(str(future.key)), future.result()
            for block in islice(todo, 1):
                running.add(submit(block))

    return work


def check_shards(
    part: Part, low: int, high: int, table: np.ndarray | None, strict: bool, compare: bool
) -> list[Problem]:
    """Check the shards ``low`` to ``high`` against their rows of the table (None: against their records)."""
    problems = []
    for shard in range(low, high):
        expected = None if table is None else (int(table["bytes"][shard - low]), bytes(table["hash"][shard - low]))
        record, fault = _read_record(part, shard)
        if fault:
            problems.append(fault)
        if record is not None:
            said = (record.bytes, bytes.fromhex(record.hash))
            if expected is not None and said != expected:
                name = records.record_name(shard)
                problems.append(_of_shard(part, shard, name, "damaged", "it is not the one of this version"))
            if compare and (wrong := _other_columns(part, shard, record)):
                why = f"its {wrong} are not those of this version"
                problems.append(_of_shard(part, shard, records.record_name(shard), "damaged record of", why))
            expected = expected or said
        if expected is not None and (fault := _data_problem(part, shard, *expected, strict)):
            problems.append(fault)
    return problems


def _of_shard(part: Part, shard: int, name: str, verb: str, why: str = "") -> Problem:
    return Problem(part.build, name, f"{verb} shard {shard} ({part.key}/{name}){': ' if why else ''}{why}", shard)


def _other_columns(part: Part, shard: int, record: records.Record) -> str:
    """Which column of a record differs from the dataset's; nothing if none does."""
    for name, rows in record.columns.items():
        if not np.array_equal(part.column(name, *part.layout.bounds(shard)), rows):
            return name
    return ""


def _read_record(part: Part, shard: int) -> tuple[records.Record | None, Problem | None]:
    name = records.record_name(shard)
    try:
        record = records.decode_record(part.store.read(f"{part.key}/{name}"))
        if record.shard != shard:
            raise ValueError(f"it is of shard {record.shard}")
        return record, None
    except FileNotFoundError:
        return None, _of_shard(part, shard, name, "missing record of")
    except (ValueError, KeyError, OSError) as error:
        return None, _of_shard(part, shard, name, "damaged record of", str(error))


def _data_problem(part: Part, shard: int, size: int, digest: bytes, strict: bool) -> Problem | None:
    name = f"{GROUP}/{data_key(part.plan, shard)}"
    verb, why = _compare(part.store, f"{part.key}/{name}", size, digest, strict)
    return _of_shard(part, shard, name, verb, why) if verb else None


def _compare(store: Store, key: str, size: int, digest: bytes, strict: bool) -> tuple[str, str]:
    """What is wrong with a file: ("", "") if nothing is."""
    try:
        found = store.size(key)
        if found != size:
            return "damaged", f"expected {size:,} bytes, found {found:,}"
        if strict:
            path = store.path(key)
            if (hash_file(path) if path is not None else hash_bytes(store.read(key))) != digest:
                return "damaged", "its bytes are not those that were committed"
    except (FileNotFoundError, NotADirectoryError):
        return "missing", ""
    except OSError as error:
        return "unreadable", error.strerror or str(error)
    return "", ""


def _file_problems(part: Part, strict: bool) -> Iterator[Problem]:
    """Everything that the manifest names one by one: metadata, columns, plan, table."""
    if version_of(part.manifest) != part.version:
        yield Problem(part.build, MANIFEST, "damaged manifest: its content is not that of its version")
    for name, entry in part.manifest["files"].items():
        verb, why = _compare(part.store, f"{part.key}/{name}", entry["bytes"], bytes.fromhex(entry["hash"]), strict)
        if verb:
            rows = _rows_of(part, name)
            what = f"{verb} {part.key}/{name}{rows}{': ' if why else ''}{why}"
            yield Problem(part.build, name, what)


def _rows_of(part: Part, name: str) -> str:
    """Which shards the rows of a column's file are of, in words."""
    column, _, chunk = name.removeprefix(f"{GROUP}/").partition("/c.")
    if not chunk or column not in [variable.name for variable in columns(part.plan.ragged)]:
        return ""
    from storage.arrays import column_rows

    rows = column_rows(part.layout.count)
    first = int(chunk.split(".")[0]) * rows
    last = min(first + rows, part.layout.count) - 1
    return f" ({column} of shards {first // part.layout.shard} to {last // part.layout.shard})"


def _unexpected(part: Part) -> Iterator[Problem]:
    """Files inside the build that nothing names: at the least they mislead whoever reads the Zarr group."""
    known = {*part.manifest["files"], MANIFEST}
    for key, _ in part.store.walk(part.key):
        name = key.removeprefix(f"{part.key}/")
        if name in known:
            continue
        found = _RECORD_FILE.fullmatch(name) or _SHARD_FILE.fullmatch(name.removeprefix(f"{GROUP}/"))
        if found and int(found[1]) < part.layout.shards:
            shard = int(found[1])
            if name in (records.record_name(shard), f"{GROUP}/{data_key(part.plan, shard)}"):
                continue
        yield Problem(part.build, name, f"unexpected {key}: nothing of this build")


def _document_problems(dataset: Dataset) -> Iterator[Problem]:
    """Whether the version's document and the manifests say the same."""
    for part, entry in zip(dataset.parts, dataset.document["parts"], strict=True):
        if part.manifest["digest"] != entry["manifest"]:
            yield Problem(part.build, MANIFEST, f"damaged manifest of {part.key}: it is not the one of this version")
    builds, manifests = [part.build for part in dataset.parts], [part.manifest for part in dataset.parts]
    for name, value in describe_parts(builds, manifests, None).items():
        if dataset.document.get(name) != value and name != "parts":
            yield Problem("", dataset.path, f"damaged version {dataset.number}: its {name} is not that of its parts")
    store = store_of(dataset.location)
    for number in version_numbers(store):
        try:
            read_version(store, number)
        except StorageError as error:
            yield Problem("", version_key(number), str(error))
    try:
        tags(store)
    except StorageError as error:
        yield Problem("", TAGS, str(error))


def _unopened(location: str, version: int | str | None, error: StorageError) -> Iterator[Problem]:
    """Why a dataset does not open: its version's document, or manifests, each named."""
    store = store_of(location)
    try:
        document = latest(store) if version is None else find_version(store, version)
    except StorageError:
        document = None
    faults = []
    for entry in (document or {}).get("parts", []):
        key = f"{BUILDS}/{entry['build']}"
        try:
            read_manifest(store, key)
        except (StorageError, FileNotFoundError) as fault:
            missing = isinstance(fault, FileNotFoundError)
            text = f"missing manifest {location}/{key}/{MANIFEST}" if missing else str(fault)
            faults.append(Problem(entry["build"], MANIFEST, text))
    yield from faults or [Problem("", "", str(error))]
