"""The contenders of ``benchmarks/feeding.py``, each in a process of its own: checked, watched, then timed in turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import feeding_data

MIB = 2**20
PATIENCE = 900.0
"""Seconds for an epoch whose answer is checked; longer ones are checked in part."""


@dataclass(frozen=True)
class Contender:
    """One way to feed."""

    title: str
    kind: str
    """See ``benchmarks/feeding_peers.py``."""
    options: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    """Folder of its virtual environment below the one of all; by default this Python runs it."""
    held: bool = False
    """Whether it holds all samples in memory once it is open: then a cold cache does not concern it."""

    def python(self, peers: Path | None) -> str | None:
        """The interpreter that has its library; None if there is none."""
        if not self.environment:
            return sys.executable
        path = (peers or Path("/nowhere")) / self.environment / "bin" / "python"
        return str(path) if path.exists() else None


OURS = Contender("**ours**", "ours")
MAPPED = Contender("memory map + take", "memory_map")
SEQUENTIAL = Contender("ours, sequential", "ours", {"shuffle": False})
MAPPED_SEQUENTIAL = Contender("memory map, sequential, nothing copied", "memory_map", {"shuffle": False})
PLAIN = Contender("the plain file, read from its beginning to its end", "plain_read")
ALL = (
    OURS,
    MAPPED,
    SEQUENTIAL,
    MAPPED_SEQUENTIAL,
    Contender('ours, `verify="first-read"`', "ours", {"verify": "first-read"}),
    Contender("tf.data, `from_tensor_slices`", "tf_slices", held=True),
    Contender("tf.data, places shuffled, `tf.gather` from memory", "tf_gather", held=True),
    Contender("tf.data, `FixedLengthRecordDataset` on our shards", "tf_fixed"),
    Contender("tf.data, TFRecord", "tf_record"),
    Contender("Grain, arrays in memory", "grain_memory", environment="grain", held=True),
    Contender("Grain, ArrayRecord", "grain_array_record", environment="grain"),
    Contender("DataLoader over a memory map, sample by sample", "torch_samples", environment="torch"),
    Contender("the same, 2 workers", "torch_samples", {"workers": 2}, environment="torch"),
    Contender("DataLoader over a memory map, `__getitems__`", "torch_rows", environment="torch"),
    Contender("the same, 2 workers", "torch_rows", {"workers": 2}, environment="torch"),
    Contender("xbatcher and DataLoader, Zarr", "xbatcher_torch", environment="torch"),
    Contender("xbatcher and DataLoader, in memory", "xbatcher_torch", {"load": True}, environment="torch", held=True),
    Contender(
        "xbatcher and DataLoader, Zarr, runs of 256 neighbours (no full shuffle)",
        "xbatcher_torch",
        {"neighbours": True},
        environment="torch",
    ),
    Contender("webdataset, raw arrays", "webdataset_torch", environment="torch"),
    Contender("the same, 2 workers, each its half", "webdataset_torch", {"workers": 2}, environment="torch"),
    Contender("mosaicml-streaming", "mds_torch", environment="mds"),
    Contender("the same, 2 workers", "mds_torch", {"workers": 2}, environment="mds"),
    Contender("Ray Data, `random_shuffle`", "ray_data", environment="ray"),
    Contender("Ray Data, local shuffle with a buffer for all", "ray_data", {"local": True}, environment="ray"),
    Contender("Zarr random indexing (`oindex`)", "zarr_random"),
)
READS = {
    **dict.fromkeys(("ours", "tf_fixed", "zarr_random", "xbatcher_torch"), "ours"),
    **dict.fromkeys(("memory_map", "plain_read", "torch_samples", "torch_rows"), "raw.bin"),
    **dict.fromkeys(("tf_slices", "tf_gather", "grain_memory"), "raw.bin"),
    "tf_record": "tfrecord",
    "grain_array_record": "array_record",
    "webdataset_torch": "webdataset",
    "mds_torch": "mds",
    "ray_data": "parquet",
}
"""What each kind reads, in the folder of the samples."""


class Refused(Exception):
    """A contender that does not run; says why."""


class Process:
    """A contender's process; its answers are read line by line."""

    def __init__(self, python: str, kind: str, specification: Path, scratch: Path) -> None:
        script = Path(__file__).with_name("feeding_peers.py")
        # Ray's sockets lie there, and their names may not be long.
        environment = {**os.environ, "RAY_TMPDIR": str(scratch), "TMPDIR": str(scratch)}
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(script), kind, str(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.pid = self._process.pid
        try:
            self.version: str = self._answer()["version"]
        except Refused:
            self.close()
            raise

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises
        ------
        Refused
            If the contender cannot.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"skip": f"its process ended with {self._process.wait()}"}
        if "skip" in answer:
            raise Refused(answer["skip"])
        return dict(answer)

    def close(self) -> None:
        """End the process and its children."""
        children = family(self.pid)[1:]
        with suppress(OSError, ValueError):
            self._process.communicate(timeout=60)
        for child in (self._process, *children):
            with suppress(psutil.NoSuchProcess, OSError):
                child.kill()
        self._process.wait()
        psutil.wait_procs(children, timeout=10)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


class Peak:
    """Highest memory of a process and its children together while it is open, in MiB, shared pages counted once."""

    def __init__(self, pid: int) -> None:
        self.own = self.mapped = 0.0
        self._pid, self._stop = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self._look()

    def _look(self) -> None:
        own = mapped = 0
        for process in family(self._pid):
            with suppress(OSError):
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                sizes = {line.partition(":")[0]: int(line.split()[-2]) for line in text.splitlines()[1:]}
                own += sizes["Pss_Anon"] + sizes["Pss_Shmem"]
                mapped += sizes["Pss_File"]
        if own + mapped > self.own + self.mapped:
            self.own, self.mapped = own / 1024, mapped / 1024


@dataclass
class Row:
    """What came out for one contender; a turn is a dict of measurements, see `turn`."""

    contender: Contender
    version: str = ""
    skip: str = ""
    """Why it does not run."""
    checked: str = ""
    """How much of an epoch was held against what was written."""
    memory: dict[str, float] = field(default_factory=dict)
    """MiB: peak of its ``own``, libraries included, and pages of files ``mapped`` at that moment."""
    turns: list[dict[str, Any]] = field(default_factory=list)

    def rates(self, when: str) -> list[float]:
        """Samples per second of every turn: ``later``, ``first`` or ``cold``."""
        found = [turn[when] for turn in self.turns if when in turn]
        # Of several first epochs the median, because what a process does for the first time is done once.
        return [one["samples"] / len(one["each"]) / float(np.median(one["each"])) for one in found]

    def first(self, when: str) -> list[float]:
        """Seconds to the first batch of every turn: ``first`` or ``cold``."""
        return [float(np.median(turn[when]["first"])) for turn in self.turns if when in turn]

    def share(self, when: str, count: int) -> float:
        """How much of an epoch was measured, 1 for all of it."""
        found = [turn[when] for turn in self.turns if when in turn]
        return min((1.0 if one["whole"] else one["samples"] / count for one in found), default=1.0)

    def ratio(self, other: Row, when: str) -> float | None:
        """Its speed to another's, the median over the turns; None if one of them has not run."""
        mine, theirs = self.rates(when), other.rates(when)
        if self.skip or other.skip or not mine or len(mine) != len(theirs):
            return None
        return float(np.median(np.divide(mine, theirs)))

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured."""
        contender = self.contender
        told = {"title": contender.title, "kind": contender.kind, "options": contender.options}
        found = {"version": self.version, "skip": self.skip, "checked": self.checked, "memory": self.memory}
        return {**told, **found, "turns": self.turns}


@dataclass
class Race:
    """Contenders on the same samples."""

    specification: Path
    peers: Path | None
    repeats: int = 5
    budget: float = 20.0
    """Seconds after which an epoch is not measured any further."""
    seconds: float = 1.0
    """Of later epochs in one turn, at least."""
    warm: bool = True
    cold: bool = True
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="feeding-")))

    def run(self, contenders: Sequence[Contender], say: Callable[[str], None]) -> list[Row]:
        """Check every contender, then let those that run take turns."""
        rows = [Row(contender) for contender in contenders]
        try:
            for row in rows:
                if READS[row.contender.kind] not in ("ours", "raw.bin"):
                    # In a process that ends with it: what it needs is no memory for feeding.
                    self._attempt(row, lambda _, process: process.ask("prepare"))
                self._attempt(row, self._check)
                say(f"{row.contender.title}: {row.skip or row.checked}")
            for repeat in range(self.repeats):
                for row in rows:
                    self._attempt(row, self._turn)
                say(f"turn {repeat + 1} of {self.repeats} is over, load {os.getloadavg()[0]:.1f}")
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return rows

    def _attempt(self, row: Row, part: Callable[[Row, Process], Any]) -> None:
        """Do something in a new process of a contender, unless it has failed before."""
        if row.skip:
            return
        python = row.contender.python(self.peers)
        if python is None:
            row.skip = f"no environment `{row.contender.environment}` was given by --peers"
            return
        process = None
        try:
            process = Process(python, row.contender.kind, self.specification, self.scratch)
            row.version = process.version
            part(row, process)
        except Refused as error:
            row.skip = str(error)
        finally:
            if process is not None:
                process.close()

    def _files(self, row: Row) -> Path:
        return self.specification.parent / READS[row.contender.kind]

    def _check(self, row: Row, process: Process) -> None:
        """An epoch, every sample held against what was written; memory is watched here, where nothing is timed."""
        with Peak(process.pid) as peak:
            process.ask("open", **row.contender.options)
            found = process.ask("epochs", number=0, seconds=0, budget=PATIENCE, check=True)
        if not found["right"]:
            raise Refused(f"gives other samples than were written: {found['totals']} instead of {found['expected']}")
        row.checked = "checked" if found["whole"] else f"checked {found['samples']:,} samples only, no whole epoch"
        row.memory = {"own": peak.own, "mapped": peak.mapped}

    def _turn(self, row: Row, process: Process) -> None:
        """First epochs of newly opened samples and later ones from a warm page cache, then a first one from a cold."""
        turn: dict[str, Any] = {}
        if self.warm:
            feeding_data.warm(self._files(row))
            turn["first"] = first = self._first(row, process, number=1)
            while first["whole"] and sum(first["each"]) < self.seconds / 2 and len(first["each"]) < 5:
                more = self._first(row, process, number=1 + len(first["each"]))
                for name in ("samples", "each", "first"):
                    first[name] += more[name]
            # Who does not finish one epoch in time is not asked for another.
            again = {"number": 100, "seconds": self.seconds, "budget": self.budget}
            turn["later"] = self._epochs(process, **again) if first["whole"] else first
        if self.cold and not row.contender.held:
            process.ask("forget")
            process.ask("open", **row.contender.options)
            stayed = feeding_data.evict(self._files(row))
            turn["cold"] = self._epochs(process, number=200, seconds=0, budget=self.budget)
            turn["cold"] |= {"stayed": stayed, "left": feeding_data.resident(self._files(row))}
        row.turns.append(turn)

    def _first(self, row: Row, process: Process, number: int) -> dict[str, Any]:
        process.ask("forget")
        process.ask("open", **row.contender.options)
        return self._epochs(process, number=number, seconds=0, budget=self.budget)

    def _epochs(self, process: Process, **request: Any) -> dict[str, Any]:
        found = process.ask("epochs", **request)
        if not found["right"]:
            raise Refused(f"gave other samples than were written in a timed epoch: {found['totals']}")
        return found
