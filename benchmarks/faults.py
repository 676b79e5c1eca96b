"""Kill workers, the scheduler and the driver at random; the datasets must come out as if nothing had happened.

    python benchmarks/faults.py --runs 200 [--seed 0] [--jobs 1] [--root FOLDER] [--impure]

A run is a scheduler, two workers and a driver, each a process of its own. The driver ingests a small source and makes
a noisy copy, of images and of texts by turns. Meanwhile one of the four is killed with SIGKILL and started again, 1 to
6 times; a driver that is started again finds what is committed and goes on. At the end both datasets must have the
versions of an undisturbed run, and `storage.verify` must find nothing. A run that fails prints what was killed when,
and keeps its folder with the logs of all processes; the exit code is 1 then.

Who is killed comes from the seed and the number of the run, the moments are fractions of the time that an undisturbed
run takes here. With ``--impure`` the source breaks its word after a restart: of some ten runs one must fail then.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import multiprocessing
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import dask
import numpy as np
from distributed import Client, Scheduler, Worker, get_worker

HERE = Path(__file__).resolve().parent
# This folder holds a script that is named like the package `storage`: it comes last.
sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != HERE), str(HERE)]

import storage  # noqa: E402
from tasks.ingest import ingest  # noqa: E402
from tasks.noise import CharacterSwap, Gaussian  # noqa: E402
from tasks.noising import add_noise  # noqa: E402
from tasks.sources.arrays import Arrays  # noqa: E402
from tasks.split import Split  # noqa: E402

HOST = "127.0.0.1"
NOISES = {"images": Gaussian(severity=3), "texts": CharacterSwap(severity=3)}
KINDS = tuple(NOISES)
GROUPS = {"worker": ("worker-0", "worker-1"), "scheduler": ("scheduler",), "driver": ("driver",)}
SHARDS, ROWS = 40, 3
LAYOUT = {"shard_bytes": 2**20, "minimum_shard_bytes": 1, "minimum_shards": SHARDS, "chunk_bytes": 2**20}
MOST_KILLS = 6
RUN_SECONDS = 120.0
"""A run that takes longer hangs, and has failed."""
REFUSED, LOST = 3, 4
"""Exit codes of a driver: storage refused to go on; anything else, as when the scheduler is gone."""
# So many deaths would be blamed on a task that was only waiting beside them.
SETTINGS = {"distributed.scheduler.allowed-failures": 1000, "distributed.comm.timeouts.connect": "5s"}
# Loaded once, in the server that all processes are forked from, so that a restart costs a tenth of a second.
PRELOAD = ["numpy.random", "zarr", "distributed", "storage", "tasks.ingest", "tasks.noise", "tasks.noising"]


class Forgetful(Arrays):
    """A source that breaks its word: a worker that was started again reads other samples for the same ids."""

    def take(self, indices: Any) -> Any:
        """Samples at positions, shifted by how often the worker was started before."""
        lives = int(str(get_worker().name).rpartition(".")[2])
        return super().take((np.asarray(indices) + lives) % len(self))


def make_source(kind: str, pure: bool) -> Arrays:
    """Make the small source of one kind."""
    count, make = SHARDS * ROWS, Arrays if pure else Forgetful
    labels = np.arange(count) % 3
    if kind == "texts":
        return make(texts=[f"the sample of number {i}, and {'x' * (i % 17)} élan" for i in range(count)], labels=labels)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return make(images=pixels, labels=labels)


def drive(address: str, life: int, folder: Path, kind: str, pure: bool) -> None:
    """Ingest and add the noise, from the start or from where an earlier driver was killed."""

    def mark(shards: int, committed: int) -> None:
        with open(folder / "marks", "a") as marks:
            marks.write(f"{life} {committed}\n")

    client = Client(address, set_as_default=False)
    client.wait_for_workers(1)
    source, split = make_source(kind, pure), Split(validation=0.1, test=0.2)
    clean = ingest(source, str(folder / "clean"), client, split=split, seed=0, layout=LAYOUT, start=mark)
    add_noise(clean, NOISES[kind], str(folder / "noisy"), client, seed=0, start=mark)


async def serve(role: str, life: int, port: int, folder: Path) -> None:
    """Be the scheduler, or a worker, which ends when the scheduler does."""
    shared: dict[str, Any] = {"host": HOST, "dashboard": False, "dashboard_address": f"{HOST}:0"}
    if role == "scheduler":
        server: Any = Scheduler(port=port, **shared)
    else:
        shared |= {"resources": {"CPU": 1}, "local_directory": str(folder / "scratch")}
        server = Worker(f"tcp://{HOST}:{port}", name=f"{role}.{life}", nthreads=1, **shared)
    async with server:
        await server.finished()


def live(role: str, life: int, port: int, folder: Path, kind: str, pure: bool) -> None:
    """Be one of the processes, with a log of its own."""
    log = os.open(folder / f"{role}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(format=f"%(asctime)s life {life} %(message)s")
    threading.Thread(target=leave_with_parent, daemon=True).start()
    code = 0
    try:
        with dask.config.set(SETTINGS):
            if role == "driver":
                drive(f"tcp://{HOST}:{port}", life, folder, kind, pure)
            else:
                asyncio.run(serve(role, life, port, folder))
    except BaseException as error:  # among them asyncio's cancellations, which are no Exception
        logging.exception(role)
        code = REFUSED if isinstance(error, storage.StorageError) else LOST
    os._exit(code)  # at once: closing a client asks a scheduler that may be gone


def leave_with_parent() -> None:
    """End this process when the arena does, even if that is killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


@dataclass
class Outcome:
    """What happened in one run; times are seconds after its start."""

    folder: Path
    kind: str
    seconds: float = 0.0
    kills: list[tuple[float, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    restarts: int = 0  # of the driver
    resumed: int = 0  # restarts of the driver that found committed shards


class Arena:
    """The processes of one run of a kind, in a new folder, with a source that is pure or not."""

    def __init__(self, folder: Path, kind: str, pure: bool = True) -> None:
        folder.mkdir()
        self.outcome = Outcome(folder, kind)
        self._context = multiprocessing.get_context("forkserver")
        # When the tests run this, every child looks into pytest's main module.
        self._context.set_forkserver_preload([*PRELOAD, *({"pytest"} & set(sys.modules))])
        self._arguments = (free_port(), folder, kind, pure)
        self._processes: dict[str, Any] = {}
        self._lives: Counter[str] = Counter()
        self._driver_began = self._scheduler_died = 0.0

    def run(self, kills: Sequence[tuple[float, str]] = ()) -> Outcome:
        """Run to the end; each kill is the seconds after the one before, and who."""
        begun = time.monotonic()
        try:
            for role in ("scheduler", *GROUPS["worker"], "driver"):
                self._start(role)
            begun = time.monotonic()  # the very first start of a process loads its server
            self._fight(begun, list(kills))
        finally:
            self.outcome.seconds = time.monotonic() - begun
            for process in self._processes.values():
                process.kill()
                process.join()
                process.close()
        if not self.outcome.problems:
            self._read()
        return self.outcome

    def _start(self, role: str) -> None:
        arguments = (role, self._lives[role], *self._arguments)
        self._processes[role] = self._context.Process(target=live, args=arguments, daemon=True)
        self._processes[role].start()
        self._lives[role] += 1
        if role == "driver":
            self._driver_began = time.monotonic()

    def _fight(self, begun: float, kills: list[tuple[float, str]]) -> None:
        due = begun + kills[0][0] if kills else float("inf")
        while not self.outcome.problems:
            sentinels = [process.sentinel for process in self._processes.values()]
            wait(sentinels, timeout=max(0.0, min(due, begun + RUN_SECONDS) - time.monotonic()))
            if self._replace_dead():
                return
            if (now := time.monotonic()) >= due:
                _, role = kills.pop(0)
                due = now + kills[0][0] if kills else float("inf")
                self.outcome.kills.append((now - begun, role))
                self._scheduler_died = now if role == "scheduler" else self._scheduler_died
                self._processes[role].kill()
            if now > begun + RUN_SECONDS:
                self.outcome.problems.append(f"not finished after {RUN_SECONDS:.0f} s")

    def _replace_dead(self) -> bool:
        """Start again who has ended; True when the driver has done its work."""
        for role, process in list(self._processes.items()):
            if (code := process.exitcode) is None:
                continue
            if role == "driver" and code == 0:
                return True
            # It may only give up when its scheduler died, and never because storage refuses.
            if role == "driver" and (code == REFUSED or (code > 0 and self._scheduler_died < self._driver_began)):
                last = (self.outcome.folder / "driver.log").read_text().rstrip().rpartition("\n")[2]
                self.outcome.problems.append(f"the driver gave up: {last}")
            process.close()
            self._start(role)
        return False

    def _read(self) -> None:
        marks = [map(int, line.split()) for line in (self.outcome.folder / "marks").read_text().splitlines()]
        self.outcome.restarts = self._lives["driver"] - 1
        self.outcome.resumed = len({life for life, committed in marks if life and committed})
        for name in ("clean", "noisy"):
            path = self.outcome.folder / name
            try:
                found = storage.verify(path, strict=True)
                self.outcome.versions[name] = storage.open_dataset(path).version
            except Exception as error:  # one run has failed; the others go on
                self.outcome.problems.append(f"{name}: {type(error).__name__}: {error}")
                continue
            self.outcome.problems += [f"{name}: {problem}" for problem in found.problems]
            if not found.ok or found.version != self.outcome.versions[name]:
                self.outcome.problems.append(f"{name}: verified as version {found.version}")


def free_port() -> int:
    """Find a port below those that the system gives to connections: none may take it while the scheduler is dead."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port := random.SystemRandom().randrange(10_000, 32_000)))
            return port


def draw_kills(seed: int, number: int, seconds: float) -> list[tuple[float, str]]:
    """Draw the kills of a run, given its number and the seconds that it takes undisturbed."""
    rng = random.Random(f"{seed} {number}")
    # The first falls anywhere; the others sooner, as less and less is left to do.
    latest = [seconds] + [seconds / 2] * rng.randrange(MOST_KILLS)
    return [(rng.uniform(0, limit), rng.choice(GROUPS[rng.choice(list(GROUPS))])) for limit in latest]


def run_once(seed: int, number: int, *, root: Path, calm: dict[str, Outcome], pure: bool) -> Outcome:
    """Run with kills and compare with the undisturbed runs; the folder stays if anything differs."""
    kind = KINDS[number % len(KINDS)]
    outcome = Arena(root / f"run-{number:04d}", kind, pure).run(draw_kills(seed, number, calm[kind].seconds))
    for name, version in outcome.versions.items():
        if version != (expected := calm[kind].versions[name]):
            outcome.problems.append(f"{name}: expected version {expected[:8]}, as undisturbed, found {version[:8]}")
    if not outcome.problems:
        shutil.rmtree(outcome.folder)
    return outcome


def run_many(runs: int, root: Path, *, seed: int = 0, jobs: int = 1, pure: bool = True) -> Iterator[Outcome]:
    """Run each kind undisturbed, then `runs` times with kills; gives the latter's outcomes one by one."""
    calm = {kind: Arena(root / f"undisturbed-{kind}", kind, pure).run() for kind in KINDS}
    if any(outcome.problems for outcome in calm.values()):
        raise RuntimeError(f"expected undisturbed runs to succeed, received {calm}")
    once = partial(run_once, root=root, calm=calm, pure=pure)
    if jobs == 1:
        yield from map(once, [seed] * runs, range(runs))
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("forkserver")) as pool:
        yield from pool.map(once, [seed] * runs, range(runs))


def failure(outcome: Outcome, seed: int) -> str:
    """Say what is wrong with a run; nothing if all is well."""
    killed = ", ".join(f"{role} at {at:.2f} s" for at, role in outcome.kills) or "nobody"
    head = f"FAILED: {outcome.folder} ({outcome.kind}, seed {seed}); killed {killed}"
    return "\n  ".join([head, *outcome.problems]) if outcome.problems else ""


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Count what was killed and what came of it."""
    killed = Counter(role.split("-")[0] for outcome in outcomes for _, role in outcome.kills)
    kills = ", ".join(f"{killed[group]} of {group}" for group in GROUPS)
    restarts, resumed = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("restarts", "resumed"))
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    end = f"{failed} runs FAILED" if failed else "all versions equal those of undisturbed runs; all verified"
    return (
        f"{len(outcomes)} runs in {seconds:.0f} s; {killed.total()} kills: {kills}\n"
        f"{restarts} restarts of the driver, {resumed} found committed shards\n{end}"
    )


def main() -> int:
    """Run, print what fails and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("--runs", 20), ("--seed", 0), ("--jobs", 1)):
        parser.add_argument(name, type=int, default=value)
    parser.add_argument("--root", help="a folder on the disk to test; by default the one for temporary files")
    parser.add_argument("--impure", action="store_true", help="with a source that breaks its word: must fail")
    given = parser.parse_args()
    root, begun = Path(tempfile.mkdtemp(prefix="duskflow-faults-", dir=given.root)), time.monotonic()
    outcomes = []
    for outcome in run_many(given.runs, root, seed=given.seed, jobs=given.jobs, pure=not given.impure):
        outcomes.append(outcome)
        if text := failure(outcome, given.seed):
            print(text, flush=True)
    print(summary(outcomes, time.monotonic() - begun))
    if any(outcome.problems for outcome in outcomes):
        return 1
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    # By its name, so that other processes find the functions under it.
    sys.exit(importlib.import_module("faults").main())
