"""Write a dataset so that a crash, a retry or a second writer cannot harm it.

A dataset's folder holds builds and one pointer::

    clean/
      latest.json                  the pointer: which build readers see; written last
      builds/<plan digest>/
        plan.json                  written first
        data.zarr/                 a plain Zarr v3 group
        records/000012.json        shard 12 is committed: sizes, hashes and statistics
        manifest.json              all shards; its content digest is the version

A shard is committed by its record, which is created exclusively after its data is on the disk. Running a shard
twice writes the same bytes twice. The dataset is finished by the manifest and visible by the pointer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage import arrays, durable, statistics
from storage.documents import GROUP, MANIFEST, PLAN, POINTER, RECORDS, read_pointer, read_record, seal
from storage.errors import StorageError, clear_write_errors
from storage.layout import SPLITS, VARIABLES
from storage.plan import Plan, canonical, digest
from storage.texts import pack


@dataclass(frozen=True)
class Shard:
    """The content of one shard."""

    values: np.ndarray | Sequence[str]
    """uint8 (n, height, width, channel), or n texts."""
    labels: np.ndarray
    """int64 (n,), -1 where there is no label."""
    ids: np.ndarray
    """int64 (n,)."""
    split: np.ndarray
    """uint8 (n,), see `storage.layout.SPLITS`."""


@dataclass(frozen=True)
class Build:
    """One build of a dataset: where it lies and what it will be. Cheap to send to a worker."""

    dataset: str
    """The dataset's folder."""
    plan: Plan

    @property
    def folder(self) -> Path:
        """Folder of this build."""
        return Path(self.dataset) / "builds" / self.plan.key

    @property
    def group(self) -> Path:
        """Folder of the Zarr group."""
        return self.folder / GROUP

    @property
    def finished(self) -> bool:
        """Whether readers of the dataset see this build."""
        pointer = read_pointer(Path(self.dataset))
        return pointer is not None and pointer["build"] == f"builds/{self.folder.name}"

    def begin(self) -> None:
        """Create the folders and write the plan; leaves what an earlier try committed.

        Raises
        ------
        StorageError
            If there is not enough free disk space for what is missing, or the folder cannot be written.
        """
        document = durable.encode_json(canonical(self.plan.to_json()) + "\n")
        with clear_write_errors(f"dataset {self.plan.name!r} in {self.dataset}"):
            for variable in VARIABLES[self.plan.kind]:
                durable.make_folder(self.group / variable.name)
            durable.make_folder(self.folder / RECORDS)
            durable.remove_partials(self.folder)
            created = durable.create(self.folder / PLAN, document)
        if not created and (self.folder / PLAN).read_bytes() != document:
            raise StorageError(
                f"the half-built dataset in {self.folder} was planned from other data (its source changed without a "
                "change of size or time, or another version of duskflow began it); delete that folder and run again"
            )
        missing = len(self.missing()) / self.plan.layout.shards
        needed, free = int(self.plan.expected_bytes * missing), shutil.disk_usage(self.folder).free
        if needed > free:
            raise StorageError(
                f"not enough disk space for dataset {self.plan.name!r} in {self.dataset}: expected up to "
                f"{needed / 1e6:,.3g} MB free, found {free / 1e6:,.3g} MB; free some or choose another root"
            )

    def record_path(self, shard: int) -> Path:
        """Where the record of a shard lies."""
        return self.folder / RECORDS / f"{shard:06d}.json"

    def missing(self) -> list[int]:
        """Shards without a record, in order."""
        try:
            there = {entry.name for entry in os.scandir(self.folder / RECORDS)}
        except FileNotFoundError:
            there = set()
        return [i for i in range(self.plan.layout.shards) if self.record_path(i).name not in there]

    def write_shard(self, number: int, shard: Shard) -> int:
        """Write and commit one shard: data, sync, rename, sync of the folders, then the record.

        Parameters
        ----------
        number : int
            Which shard of the plan.
        shard : Shard

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        StorageError
            If the shard was committed before with other bytes: its producer is not a pure function.
        """
        encoded = list(arrays.encode_shard(self.plan, number, self._contents(number, shard)))
        files = {key: {"bytes": data.nbytes, "sha256": hashlib.sha256(data).hexdigest()} for key, data in encoded}
        counted = statistics.shard_statistics(shard.values, shard.labels, shard.split, len(self.plan.classes))
        record = {"shard": number, "files": files, "statistics": counted}
        # Asked before anything is written: the data of a committed shard must not be touched.
        if not self._committed(number, record):
            with clear_write_errors(f"shard {number} of {self.plan.name!r} in {self.dataset}"):
                for key, data in encoded:
                    # The folders are synced once below, before the record; the name is durable only then.
                    durable.replace(self.group / key, data, sync_folder=False)
                for folder in {(self.group / key).parent for key in files}:
                    durable.fsync_folder(folder)
                created = durable.create(self.record_path(number), durable.encode_json(canonical(record)))
            if not created:
                self._yield_to_other(number, record)
        return sum(data.nbytes for _, data in encoded)

    def _committed(self, number: int, record: dict[str, Any]) -> bool:
        """Whether the shard is committed with this record; refuses if it is with another."""
        try:
            there = read_record(self.record_path(number))
        except FileNotFoundError:
            return False
        if there != record:
            raise StorageError(
                f"shard {number} of {self.plan.name!r} was committed before with other bytes; a source or noise "
                "must give the same samples for the same ids (no clock, no global random state)"
            )
        return True

    def _yield_to_other(self, number: int, record: dict[str, Any]) -> None:
        """Another writer has committed the shard while we wrote ours."""
        try:
            self._committed(number, record)
        except StorageError:
            # Our data may lie under its record: better not committed at all than committed with the wrong hash.
            self.record_path(number).unlink(missing_ok=True)
            raise

    def _contents(self, number: int, shard: Shard) -> dict[str, np.ndarray]:
        contents = {"labels": shard.labels, "ids": shard.ids, "split": shard.split}
        for name, low, high in (("labels", -1, len(self.plan.classes)), ("split", 0, len(SPLITS))):
            found = contents[name]
            if found.size and not (low <= found.min() and found.max() < high):
                raise ValueError(
                    f"expected {name} of {self.plan.name!r} from {low} to {high - 1}, received {found.min()} to "
                    f"{found.max()} in shard {number}"
                )
        if self.plan.kind == "images":
            return {**contents, "images": np.ascontiguousarray(shard.values)}
        slot = int(self.plan.slot_bytes or 0)
        values, offsets = pack(shard.values, start=number * slot)  # type: ignore[arg-type]
        if len(values) > slot:
            raise StorageError(
                f"shard {number} of {self.plan.name!r} holds {len(values):,} bytes of text, more than the {slot:,} "
                "planned; a noise that lengthens texts must say so by its attribute `growth`"
            )
        return {**contents, "values": values, "offsets": offsets}

    def finish(self) -> str:
        """Merge the records into the manifest, write the Zarr metadata, and let readers see the dataset.

        Returns
        -------
        str
            The version: hexadecimal digest of the content.

        Raises
        ------
        StorageError
            If a shard is missing or a record is damaged.
        """
        if missing := self.missing():
            raise StorageError(
                f"{len(missing)} shards of {self.plan.name!r} are missing, first {missing[0]}; run again"
            )
        records = [read_record(self.record_path(i)) for i in range(self.plan.layout.shards)]
        content = {
            "kind": self.plan.kind,
            "classes": list(self.plan.classes),
            "splits": {name: list(self.plan.splits[name]) for name in SPLITS if name in self.plan.splits},
            "layout": self.plan.to_json()["layout"],
            "sample_shape": list(self.plan.sample_shape) if self.plan.sample_shape else None,
            "slot_bytes": self.plan.slot_bytes,
            "files": {key: entry for record in records for key, entry in record["files"].items()},
        }
        version = digest(content)
        merged = statistics.merge([record["statistics"] for record in records])
        attributes: dict[str, object] = {
            "duskflow": {"name": self.plan.name, "version": version, "classes": list(self.plan.classes)}
        }
        metadata = arrays.metadata_files(self.plan, attributes)
        for name, data in metadata.items():
            content["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = {
            **content,
            "name": self.plan.name,
            "version": version,
            "plan": self.plan.digest,
            "recipe": self.plan.recipe,
            "statistics": merged,
        }
        with clear_write_errors(f"dataset {self.plan.name!r} in {self.dataset}"):
            for name, data in metadata.items():
                durable.replace(self.group / name, data)
            durable.replace_json(self.folder / MANIFEST, seal(manifest))
            pointer = {"build": f"builds/{self.folder.name}", "version": version}
            durable.replace_json(Path(self.dataset) / POINTER, pointer)
            durable.remove_partials(self.folder)  # of workers that were killed
        return version


def progress_of(dataset: Path, key: str) -> tuple[int, int] | None:
    """How far a build is, without touching it.

    Parameters
    ----------
    dataset : Path
        The dataset's folder.
    key : str
        Name of the build, from `storage.plan.build_key`.

    Returns
    -------
    (done, all) : tuple of int, or None
        Committed and planned shards; None if the build was never begun.

    Raises
    ------
    StorageError
        If its plan is damaged or of another version of duskflow.
    """
    path = dataset / "builds" / key / PLAN
    try:
        plan = Plan.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"damaged plan {path}: {error}; delete {path.parent} and run again") from error
    shards = plan.layout.shards
    return shards - len(Build(str(dataset), plan).missing()), shards
