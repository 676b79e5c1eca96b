"""Repair a damaged dataset from its plan: rewrite just what is damaged, and prove it by the version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from storage import records
from storage.arrays import data_key
from storage.dataset import Dataset, open_dataset
from storage.documents import BUILDS, GROUP, MANIFEST, PLAN, SHARDS, STAMPS
from storage.durable import encode_json
from storage.errors import StorageError, clear_write_errors
from storage.layout import columns
from storage.part import Part
from storage.plan import canonical
from storage.progress import read_plan
from storage.shards import encode_shard
from storage.stamps import file_stamps
from storage.stores import locate, store_of
from storage.verification import Problem, verify_part
from storage.versions import latest, publish, read_version, restore_version, version_key, version_numbers
from storage.writer import Build
from tasks.appending import new_positions, plan_append
from tasks.building import Produce, Reporting, Work, run_shards
from tasks.ingest import Rows, plan_ingest, read_shard, share
from tasks.sources.stamps import stamps_of
from tasks.split import Split


@dataclass(frozen=True)
class Repair:
    """What was done to one dataset."""

    dataset: str
    version: str
    """That of the sound dataset: before the damage, and now again."""
    shards: tuple[int, ...] = ()
    """Shards that were rewritten."""
    files: tuple[str, ...] = ()
    """Other files that were rewritten or, where nothing knew them, removed."""
    problems: tuple[Problem, ...] = field(default=())
    """What was wrong."""


def repair(works: Iterable[Work], client: Client, *, label: str = "repair", retries: int = 2) -> Repair:
    """Rewrite the damaged and missing files of a dataset, nothing else.

    Parameters
    ----------
    works : iterable of Work
        How the dataset's parts are made, in order; from `remake_source` or `tasks.noising.plan_noise`. Asked for one
        by one: a part may be found again by the sound ones before it.
    client : distributed.Client
    label : str
        What the Dask dashboard calls the tasks.
    retries : int

    Returns
    -------
    Repair

    Raises
    ------
    StorageError
        If the source or noise no longer gives the bytes that were committed; nothing sound is overwritten.
    """
    wanted: _Wanted | None = None
    done: list[str] = []
    found: list[Problem] = []
    shards: list[int] = []
    for work in works:
        wanted = wanted or _Wanted.of(work.build.dataset)
        key = work.build.plan.key
        if wanted.versions and key not in wanted.versions:
            continue  # of a part that this dataset does not have yet: a run will make it
        problems = _problems(work, client)
        found += problems
        shards += _repair_part(work, problems, wanted.versions.get(key), client, Reporting(label), retries)
        if problems and (left := _problems(work, client)):
            raise StorageError(f"{wanted.location}: {len(left)} problems are left after the repair, first: {left[0]}")
        done.append(key)
    if wanted is None or not done or set(wanted.versions) - set(done):
        raise StorageError(
            f"{wanted.location if wanted else 'the dataset'} was made from another state of its source or noise, or "
            "with another seed; restore that, or run the pipeline to make it anew"
        )
    if wanted.damaged is not None:
        restore_version(wanted.location, wanted.damaged, done)
        found.append(Problem("", version_key(wanted.damaged), f"damaged version {wanted.damaged}"))
    elif not wanted.versions:
        publish(wanted.location, done)
    files = [problem.name for problem in found if problem.shard is None]
    version = open_dataset(wanted.location).version
    return Repair(wanted.location, version, tuple(sorted(set(shards))), tuple(files), tuple(found))


@dataclass(frozen=True)
class _Wanted:
    """What a dataset must be again."""

    location: str
    versions: dict[str, str]
    """The version of each of its builds, by key; empty if nothing says so."""
    damaged: int | None = None
    """Number of the last version, if its document is damaged."""

    @classmethod
    def of(cls, location: str) -> _Wanted:
        store = store_of(location)
        try:
            document = latest(store)
        except StorageError:
            return cls(location, {}, version_numbers(store)[-1])
        return cls(location, {part["build"]: part["version"] for part in document["parts"]} if document else {})


def _part(build: Build) -> tuple[Part, Problem | None]:
    """A build as a part to check; by its plan alone if its manifest is damaged or lost."""
    try:
        return Part(build.dataset, build.plan.key), None
    except (StorageError, FileNotFoundError) as error:
        planned = {**build.plan.to_json(), "version": "", "files": {}, "content": {}, "digest": ""}
        text = f"missing {build.key}/{MANIFEST}" if isinstance(error, FileNotFoundError) else str(error)
        return Part(build.dataset, build.plan.key, planned), Problem(build.plan.key, MANIFEST, text)


def _problems(work: Work, client: Client) -> list[Problem]:
    part, fault = _part(work.build)
    if fault is None:
        return verify_part(part, client=client)
    # Without a manifest every shard is held against its own record.
    return [fault, *(problem for problem in verify_part(part, client=client) if problem.shard is not None)]


def _repair_part(
    work: Work, problems: list[Problem], expected: str | None, client: Client, reporting: Reporting, retries: int
) -> list[int]:
    """Rewrite what is damaged of one build; give the numbers of its rewritten shards."""
    build, store = work.build, work.build.store
    damaged = sorted({problem.shard for problem in problems if problem.shard is not None})
    known = {SHARDS, MANIFEST, PLAN, *_part(build)[0].manifest["files"]}
    for problem in problems:
        if problem.shard is None and problem.name not in known:
            store.remove(f"{build.key}/{problem.name}")  # nothing of this build, and it misleads who reads the group
    sound_table = not {problem.name for problem in problems} & {SHARDS, MANIFEST}
    table = Part(build.dataset, build.plan.key).table if sound_table else None
    if any(problem.name in (PLAN, MANIFEST) for problem in problems):  # without a manifest nobody looks at the plan
        with clear_write_errors(f"{build.dataset}/{build.key}"):
            store.write(f"{build.key}/{PLAN}", encode_json(canonical(build.plan.to_json()) + "\n"))
    if damaged:
        mend = _Mend({} if table is None else {n: (int(table["bytes"][n]), bytes(table["hash"][n])) for n in damaged})
        run_shards(work, np.array(damaged), mend, client, reporting, retries=retries)
    sound = Part(build.dataset, build.plan.key).version if _part(build)[1] is None else None
    expected = expected or sound
    # Before the columns and the manifest are touched: the records must be those of this version.
    if problems and expected is not None and (version := build.version_of_records()) != expected:
        raise StorageError(
            f"{build.dataset}/{build.key}: repaired, it has version {version[:12]}, not {expected[:12]}; "
            "its source or noise has changed (labels or splits?); restore it, or a copy of the dataset"
        )
    if any(problem.shard is None for problem in problems):
        attachments = dict(work.attachments)
        if not attachments and not any(problem.name == STAMPS for problem in problems):
            attachments = _kept_stamps(build)
        build.finish(attachments, again=True)
    return damaged


def _kept_stamps(build: Build) -> dict[str, bytes]:
    try:
        return {STAMPS: build.store.read(f"{build.key}/{STAMPS}")}
    except FileNotFoundError:
        return {}


@dataclass(frozen=True)
class _Mend:
    """The task that writes damaged shards again, if they come out as they were."""

    expected: dict[int, tuple[int, bytes]]
    """Bytes and hash of each shard from the manifest's table; empty if that is lost too."""

    def __call__(self, build: Build, produce: Produce, shards: list[tuple[int, tuple[Any, ...]]]) -> None:
        for number, arguments in shards:
            record, pieces = encode_shard(build.plan, number, produce(build.plan, number, *arguments))
            expected = self.expected.get(number) or _recorded(build, number)
            if expected is not None and (record.bytes, bytes.fromhex(record.hash)) != expected:
                raise StorageError(
                    f"shard {number} of {build.plan.name!r} cannot be repaired: its source or noise no longer gives "
                    "the bytes that were committed; restore the source or a copy of the dataset"
                )
            encoded = records.encode_record(record, columns(build.plan.ragged))
            with clear_write_errors(f"shard {number} of {build.plan.name!r} in {build.dataset}"):
                build.store.write(f"{build.key}/{GROUP}/{data_key(build.plan, number)}", *pieces)
                build.store.write(f"{build.key}/{records.record_name(number)}", encoded)


def _recorded(build: Build, number: int) -> tuple[int, bytes] | None:
    """What a shard's own record says, if that is sound."""
    try:
        record = records.decode_record(build.store.read(f"{build.key}/{records.record_name(number)}"))
    except (FileNotFoundError, ValueError):
        return None
    return record.bytes, bytes.fromhex(record.hash)


def remake_source(
    source: Any, folder: str | Path, client: Client, *, split: Split, seed: int, layout: dict[str, int], name: str
) -> Iterator[Work]:
    """How each part of an ingested dataset was made, from its source as it is today.

    A part whose source has not changed since is planned as it was. Of one whose source has grown, the samples are
    found by name, size and time of their files; without files, where they would be if the source has only grown at
    its end. That they are the right ones is proved by the hashes.

    Raises
    ------
    StorageError
        If the samples of a part cannot be found.
    """
    folder = locate(folder)
    options: dict[str, Any] = {"split": split, "seed": seed, "layout": layout, "name": name, "label": "repair"}
    builds = _builds_of(folder) or [""]
    for number, key in enumerate(builds):
        if number == 0:
            work: Work | None = plan_ingest(source, folder, client, **options)
        else:
            work = plan_append(source, _earlier(folder, builds, number), client, by=_by(folder, key), **options)
        if work is None or key not in ("", work.build.plan.key):
            work = _found_again(source, folder, builds, number, client)
        yield work


def _earlier(folder: str, builds: list[str], number: int) -> Dataset:
    """The dataset as it was before a part was appended."""
    return Dataset.of_parts(folder, tuple(Part(folder, build) for build in builds[:number]))


def _builds_of(folder: str) -> list[str]:
    """Keys of the builds of the version that readers see; if its document is damaged, of what it must have been."""
    store = store_of(folder)
    try:
        document = latest(store)
    except StorageError:
        return _lost_builds(folder)
    return [part["build"] for part in document["parts"]] if document else []


def _lost_builds(folder: str) -> list[str]:
    """The builds of a version whose document is lost: those that are finished and that no other version names.

    An appended build knows the builds that it was appended to.
    """
    store, named, chains = store_of(folder), [], []
    for number in version_numbers(store)[:-1]:
        with suppress(StorageError):
            named.append([part["build"] for part in read_version(store, number)["parts"]])
    for build in store.children(BUILDS):
        with suppress(StorageError, FileNotFoundError):
            chains.append([*Part(folder, build).plan.recipe.get("after", []), build])
    lost = [chain for chain in chains if chain not in named]
    # Of an append after an append the shorter chain may be one that prune took the version of.
    lost = [chain for chain in lost if not any(other[: len(chain)] == chain and other != chain for other in lost)]
    if len(lost) != 1:
        raise StorageError(
            f"the last version of {folder} is damaged, and {len(lost)} lists of builds could be it; restore "
            f"{version_key(version_numbers(store)[-1])} there from a copy, or remove it to go back to the one before"
        )
    return lost[0]


def _by(folder: str, key: str) -> str:
    return str(_planned(folder, key).plan.recipe.get("by", "content"))


def _planned(folder: str, key: str) -> Part:
    """A part by its manifest or, if that is damaged, its plan."""
    try:
        return Part(folder, key)
    except (StorageError, FileNotFoundError):
        plan = read_plan(store_of(folder), f"builds/{key}")
        if plan is None:
            raise
        return _part(Build(folder, plan))[0]


def _found_again(source: Any, folder: str, builds: list[str], number: int, client: Client) -> Work:
    """How a part is made whose source has changed since."""
    part = _planned(folder, builds[number])
    count = part.layout.count
    ids, labels, codes = (part.column(column, 0, count) for column in ("ids", "labels", "split"))
    positions = _by_files(source, part)
    if positions is None:
        positions = _by_place(source, folder, builds, number, client, ids)
    rows = Rows(positions, ids, labels, codes)
    shared = share(source, client, "repair")

    def arguments(shard: int) -> tuple[Any, ...]:
        low, high = part.layout.bounds(shard)
        if (lost := ids[low:high][positions[low:high] < 0]).size:
            raise StorageError(
                f"shard {shard} of {folder}/{part.key} cannot be repaired: {lost.size} of its samples (first: id "
                f"{lost[0]}) are gone from {source!r} or changed; restore them, or a copy of the dataset"
            )
        return (shared, *rows.cut(low, high))

    return Work(Build(folder, part.plan), read_shard, arguments)


def _by_files(source: Any, part: Part) -> np.ndarray | None:
    """Where the samples of a part are in a source, -1 for those that are not; None without files to tell by."""
    now = stamps_of(source)
    if now is None:
        return None
    part.manifest["files"].setdefault(STAMPS, {})  # a part known by its plan alone may have them all the same
    try:
        then = file_stamps(part)
    except StorageError:
        return None
    if then is None:
        return None
    places = {stamp.tobytes(): place for place, stamp in enumerate(now)}
    return np.array([places.get(stamp.tobytes(), -1) for stamp in then], np.int64)


def _by_place(source: Any, folder: str, builds: list[str], number: int, client: Client, ids: np.ndarray) -> np.ndarray:
    """Where the samples of a part are if the source has only grown at its end, -1 for those beyond it."""
    if number == 0:
        return np.where(ids < len(source), ids, -1)
    earlier = _earlier(folder, builds, number)
    new = new_positions(source, earlier, client, _by(folder, builds[number]), "repair")
    nth = ids - earlier.count
    return np.where(nth < len(new), np.append(new, -1)[np.minimum(nth, len(new))], -1)
