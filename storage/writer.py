"""Write a build so that a crash, a retry or a second writer cannot harm it.

A dataset's folder, or prefix of an object store, holds builds and the versions that readers see::

    clean/
      versions/000001.json         the version that readers see: the last one; created exclusively, last of all
      builds/<key>/
        plan.json                  written first
        data.zarr/                 a plain Zarr v3 group
        records/000012             shard 12 is committed: sizes, hashes, statistics, columns
        shards.npy                 bytes and hashes of every shard
        manifest.json              the build is finished; its content digest is the version

A shard is committed by its record, which is created exclusively after its data is on the disk. Running a shard
twice writes the same bytes twice. A build is finished by its manifest, and visible by a version (`storage.versions`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from storage import arrays, manifest, records, statistics
from storage.columns import ColumnWriter
from storage.documents import BUILDS, GROUP, MANIFEST, PLAN, SHARDS, seal
from storage.durable import encode_json, pretty_json
from storage.errors import StorageError, clear_write_errors
from storage.hashing import NAME as HASH
from storage.hashing import hash_bytes
from storage.layout import columns
from storage.plan import Plan, canonical
from storage.shards import Shard, encode_shard
from storage.stores import Store, store_of
from storage.stores.protocol import exists


@dataclass(frozen=True)
class Build:
    """One build of a dataset: where it lies and what it will be. Cheap to send to a worker."""

    dataset: str
    """The dataset's location: a folder or a URL."""
    plan: Plan

    @cached_property
    def store(self) -> Store:
        """Where the dataset lies."""
        return store_of(self.dataset)

    @property
    def key(self) -> str:
        """The build's own folder inside the dataset."""
        return f"{BUILDS}/{self.plan.key}"

    @property
    def finished(self) -> bool:
        """Whether all of it is committed."""
        return exists(self.store, f"{self.key}/{MANIFEST}")

    @property
    def _what(self) -> str:
        return f"{self.plan.name!r} in {self.dataset}"

    def begin(self) -> np.ndarray:
        """Write the plan; leave what an earlier try committed.

        Returns
        -------
        ndarray of int64
            The missing shards, as `missing` gives them.

        Raises
        ------
        StorageError
            If there is not enough free disk space for what is missing, or the folder cannot be written.
        """
        document = encode_json(canonical(self.plan.to_json()) + "\n")
        with clear_write_errors(f"dataset {self._what}"):
            self.store.clean()
            created = self.store.create(f"{self.key}/{PLAN}", document)
        if not created and self.store.read(f"{self.key}/{PLAN}") != document:
            raise StorageError(
                f"the half-built dataset in {self.dataset}/{self.key} was planned from other data (its source changed "
                "without a change of size or time, or another version of duskflow began it); delete that folder and "
                "run again"
            )
        self._forget_lost()
        missing = self.missing()
        needed = int(self.plan.expected_bytes * len(missing) / self.plan.layout.shards)
        free = self.store.free_bytes()
        if free is not None and needed > free:
            raise StorageError(
                f"not enough disk space for dataset {self._what}: expected up to "
                f"{needed / 1e6:,.3g} MB free, found {free / 1e6:,.3g} MB; free some or choose another root"
            )
        return missing

    def missing(self) -> np.ndarray:
        """Shards without a record, int64, in order; none once the build is finished."""
        if self.finished:
            return np.empty(0, np.int64)
        absent = np.ones(self.plan.layout.shards, bool)
        names = self.store.children(f"{self.key}/{records.FOLDER}")
        there = np.array([int(name) for name in names if name.isdigit()], np.int64)
        absent[there[there < len(absent)]] = False
        return np.flatnonzero(absent)

    def _forget_lost(self) -> None:
        """Take away the records of shards whose data is gone: somebody removed it, and it must be written again."""
        if self.finished:
            return
        folder, _, name = arrays.data_key(self.plan, 0).rpartition("/")
        rest = name.removeprefix("c.0")
        # Records first: whoever commits a shard meanwhile has written its data before its record.
        committed = self.store.children(f"{self.key}/{records.FOLDER}")
        data = set(self.store.children(f"{self.key}/{GROUP}/{folder}"))
        for record in committed:
            if record.isdigit() and f"c.{int(record)}{rest}" not in data:
                self.store.remove(f"{self.key}/{records.FOLDER}/{record}")

    def is_committed(self, number: int) -> bool:
        """Whether a shard has its record."""
        return exists(self.store, f"{self.key}/{records.record_name(number)}")

    def write_shard(self, number: int, shard: Shard) -> int:
        """Write and commit one shard: its data, durably; then its record, exclusively.

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
        record, pieces = encode_shard(self.plan, number, shard)
        encoded = records.encode_record(record, columns(self.plan.ragged))
        # Asked before anything is written: the data of a committed shard must not be touched.
        if not self._committed(number, encoded):
            with clear_write_errors(f"shard {number} of {self._what}"):
                self.store.write(f"{self.key}/{GROUP}/{arrays.data_key(self.plan, number)}", *pieces)
                created = self.store.create(f"{self.key}/{records.record_name(number)}", encoded)
            if not created:
                self._yield_to_other(number, encoded)
        return record.bytes

    def _committed(self, number: int, encoded: bytes) -> bool:
        """Whether the shard is committed with this record; refuses if it is with another."""
        try:
            there = self.store.read(f"{self.key}/{records.record_name(number)}")
        except FileNotFoundError:
            return False
        if there != encoded:
            try:
                records.decode_record(there)
            except ValueError as error:
                raise self._damaged_record(number, error) from error
            raise StorageError(
                f"shard {number} of {self.plan.name!r} was committed before with other bytes; a source or noise "
                "must give the same samples for the same ids (no clock, no global random state)"
            )
        return True

    def _yield_to_other(self, number: int, encoded: bytes) -> None:
        """Another writer has committed the shard while we wrote ours."""
        try:
            self._committed(number, encoded)
        except StorageError:
            # Our data may lie under its record: better not committed at all than committed with the wrong hash.
            self.store.remove(f"{self.key}/{records.record_name(number)}")
            raise

    def _damaged_record(self, number: int, error: Exception) -> StorageError:
        return StorageError(
            f"damaged record of shard {number} of {self._what}: {error}; run `duskflow repair`, or delete "
            f"{self.key}/{records.record_name(number)} there and run again"
        )

    def version_of_records(self) -> str:
        """The version that finishing would give, nothing written."""
        return self._content({}, dry=True)[0]

    def finish(self, attachments: Mapping[str, bytes] | None = None, *, again: bool = False) -> str:
        """Gather the records into columns, table and manifest. Memory does not grow with the data.

        Parameters
        ----------
        attachments : dict, optional
            Further files of the build, by name; covered by the manifest, not by the version.
        again : bool
            Also if the build is finished already, as a repair does.

        Returns
        -------
        str
            The version: hexadecimal digest of the content.

        Raises
        ------
        StorageError
            If a shard is missing or a record is damaged.
        """
        if not again and self.finished:
            return str(manifest.read_manifest(self.store, self.key)["version"])
        files: dict[str, Any] = {}
        with clear_write_errors(f"dataset {self._what}"):
            version, document, table, merged = self._content(files)
            attributes = {"name": self.plan.name, "version": version, "classes": list(self.plan.classes)}
            metadata = arrays.metadata_files(self.plan, {"duskflow": attributes})
            small = {f"{GROUP}/{name}": data for name, data in metadata.items()}
            small |= {SHARDS: manifest.encode_table(table), **(attachments or {})}
            for name, data in small.items():
                self.store.write(f"{self.key}/{name}", data)
            small[PLAN] = self.store.read(f"{self.key}/{PLAN}")
            files |= {name: {"bytes": len(data), "hash": hash_bytes(data).hex()} for name, data in small.items()}
            document |= {
                "name": self.plan.name,
                "version": version,
                "plan": self.plan.digest,
                "recipe": self.plan.recipe,
                "hash": HASH,
                "files": files,
                "bytes": int(table["bytes"].sum()) + sum(entry["bytes"] for entry in files.values()),
                "statistics": merged,
            }
            self.store.write(f"{self.key}/{MANIFEST}", pretty_json(seal(document)))
        return version

    def _content(
        self, files: dict[str, Any], *, dry: bool = False
    ) -> tuple[str, dict[str, Any], np.ndarray, dict[str, Any]]:
        """The version, the fields that it is made of, the table of shards and the statistics."""
        table, gathered, merged = self._gather(files, dry)
        fields = self.plan.to_json()
        document: dict[str, Any] = {
            **{name: fields[name] for name in manifest.CONTENT if name in fields},
            "content": {"shards": hash_bytes(np.ascontiguousarray(table["content"])).hex(), **gathered},
        }
        return manifest.version_of(document), document, table, merged

    def _gather(self, files: dict[str, Any], dry: bool) -> tuple[np.ndarray, dict[str, str], dict[str, Any]]:
        """Read every record in order; write the columns; give the table, the columns' hashes and the statistics."""
        shards = self.plan.layout.shards
        table = np.empty(shards, manifest.SHARD_TABLE)
        writers = {
            variable.name: ColumnWriter(self.store, self.key, variable, self.plan.layout.count, dry=dry)
            for variable in columns(self.plan.ragged)
        }
        merger = statistics.Merger()
        names = (f"{self.key}/{records.record_name(number)}" for number in range(shards))
        for number, data in enumerate(self.store.read_many(names)):
            if data is None:
                absent = sum(not self.is_committed(other) for other in range(shards)) if shards < 10_000 else "some"
                raise StorageError(f"{absent} shards of {self.plan.name!r} are missing, first {number}; run again")
            try:
                record = records.decode_record(data)
            except ValueError as error:
                raise self._damaged_record(number, error) from error
            if record.shard != number:
                raise self._damaged_record(number, ValueError(f"it is of shard {record.shard}"))
            table[number] = (record.bytes, bytes.fromhex(record.hash), bytes.fromhex(record.content))
            merger.add(record.statistics)
            for name, writer in writers.items():
                writer.add(record.columns[name])
        gathered = {name: writer.finish() for name, writer in writers.items()}
        for writer in writers.values():
            files.update(writer.files)
        return table, gathered, merger.result()
