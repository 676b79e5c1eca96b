"""A million shards on paper: planning, committing and finishing 25 TB with a writer that writes only the records.

Part of ``benchmarks/storage.py``. Everything is real but the samples: the plan, the tasks on Dask, a record per
shard on the disk, the finished manifest. Syncs are left out, because they measure the disk.
"""

from __future__ import annotations

import os
import resource
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

from storage import records, statistics
from storage.layout import columns
from storage.records import Record
from storage.writer import Build
from tasks.building import Produce, Reporting, run_shards
from tasks.ingest import plan_ingest
from tasks.split import Split

MIB = 2**20
ROWS = 8
"""Samples in a shard; each is 1024 x 1024 x 3 bytes, so a shard is 25 MB."""


class Imagined:
    """A source of images that nobody ever takes."""

    kind = "images"
    sample_shape = (1024, 1024, 3)
    classes = ("cat", "dog")
    splits = None

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def labels(self) -> np.ndarray:
        """Every other one a dog."""
        return np.arange(self.count) % 2

    def fingerprint(self) -> str:
        """Its size is all there is."""
        return f"imagined {self.count}"


def fake_commit(build: Build, produce: Produce, shards: list[tuple[int, tuple[Any, ...]]]) -> None:
    """Commit shards without any data: their records only."""
    os.fsync = lambda descriptor: None
    digest, nothing = "00" * 32, np.empty(0, np.int64)
    counted = statistics.shard_statistics(np.empty((0, 1, 1, 3), np.uint8), nothing, nothing, 2)
    for number, (_, _, ids, labels, split) in shards:
        record = Record(number, 25_165_856, digest, digest, counted, {"labels": labels, "ids": ids, "split": split})
        encoded = records.encode_record(record, columns(build.plan.ragged))
        build.store.create(f"{build.key}/{records.record_name(number)}", encoded)


def scale(folder: Path, repeats: int) -> None:
    """Ten thousand, a hundred thousand and a million shards: seconds, memory of driver and scheduler, tasks."""
    os.fsync = lambda descriptor: None
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
        ) as cluster,
        Client(cluster) as client,
    ):
        for shards in (10_000, 100_000, 1_000_000):
            place = folder / "scale"
            shutil.rmtree(place, ignore_errors=True)
            line = _one_size(place, shards, client, cluster)
            print(f"scale, {shards:>9,} shards ({shards * ROWS * 3 / 2**20:.2f} TiB): {line}", flush=True)
            shutil.rmtree(place)


def _one_size(place: Path, shards: int, client: Client, cluster: LocalCluster) -> str:
    marks = [time.perf_counter()]

    def lap() -> float:
        marks.append(time.perf_counter())
        return marks[-1] - marks[-2]

    layout = {"shard_bytes": ROWS * 3 * MIB, "minimum_shard_bytes": MIB, "minimum_shards": 1}
    source = Imagined(shards * ROWS)
    work = plan_ingest(source, place, client, split=Split(), seed=0, layout=layout)
    assert work.build.plan.layout.shards == shards
    _without_disk(work.build)
    missing = work.build.begin()
    assert len(missing) == shards
    planned = lap()
    most, done, stop = [0], [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            most[0] = max(most[0], len(cluster.scheduler.tasks))

    def advance(count: int) -> None:
        done[0] += count

    thread = threading.Thread(target=watch)
    thread.start()
    run_shards(work, missing, fake_commit, client, Reporting("scale", advance=advance))
    stop.set()
    thread.join()
    assert done[0] == shards
    ran = lap()
    assert len(work.build.missing()) == 0
    listed = lap()
    version = work.build.finish()
    finished = lap()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert len(version) == 64 and work.build.finished
    return (
        f"plan {planned:.1f} s, tasks {ran:.1f} s ({most[0]} on the scheduler at most), reopen {listed:.2f} s, finish "
        f"{finished:.1f} s; peak of driver and scheduler together {peak:,.0f} MiB"
    )


def _without_disk(build: Build) -> None:
    """25 TB do not fit on this disk, and need not: the question for free space is left out."""
    build.store.free_bytes = lambda: None  # type: ignore[method-assign]
