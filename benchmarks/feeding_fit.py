"""`fit` fed from Zarr against `fit` on arrays in memory, for ``benchmarks/feeding.py``.

    python benchmarks/feeding_fit.py arrays|ours|ahead|again NETWORK BATCH FOLDER     (a process of its own)

Four ways to feed take turns, each in a process of its own with one model: arrays in memory, `storage.to_keras` without
and with batches made ahead, and one batch again and again, for which nothing has to be fetched. Turns are three epochs,
of which the first is not counted: it traces the model, and fills what is filled ahead.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
# This folder holds a script that is named like the package `storage`: it must not come first.
sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if Path(entry or ".").resolve() != HOUSE / "benchmarks")]

import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import feeding_data  # noqa: E402
from benchmarks.feeding_peers import Specification, Totals  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.feeding import Job

FIT_GOAL, WAIT_GOAL = 1.05, 0.02
EPOCHS = 3
CONTENDERS = {
    "arrays": "arrays in memory",
    "ours": "**ours**, from Zarr",
    "ahead": "**ours**, `depth=32`",
    "again": "one batch again and again",
}
# Network, batch size, images.
CASES = (("lenet5", 256, 60_000), ("lenet5", 32, 60_000), ("denoising_autoencoder", 256, 60_000))


def fit(job: Job) -> None:
    """Time epochs of the networks, by turns."""
    job.report.measured["fit"] = {}
    for network, batch, count in CASES:
        count = min(count, 1_500) if job.quick else count
        with job.fresh("fit") as folder:
            _write(folder, count, noisy=network == "denoising_autoencoder")
            found = _race(job, network, batch, folder)
        steps = -(-count // batch)
        job.report.say("", f"### Fit: `{network}`, {count:,} images in batches of {batch}, {steps:,} steps")
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        job.report.say(f"{job.repeats} interleaved turns of {EPOCHS - 1} counted epochs, medians (and ranges), {load}.")
        job.report.say("", "| | epoch, s | epoch / arrays' | waited for data |", "| --- | --- | --- | --- |")
        arrays = _means(found["arrays"])
        for kind, title in CONTENDERS.items():
            seconds = _means(found[kind])
            ratio = float(np.median(np.divide(seconds, arrays)))
            waited = [part for turn in found[kind] for part in turn["waited"]]
            cells = f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) | {ratio:.3f}"
            job.report.say(f"| {title} | {cells} | {f'{statistics.median(waited):.2%}' if waited else '-'} |")
            if kind == "ours":
                goals = [
                    (f"epoch of {network} at {batch}: {ratio:.3f} of arrays', at most {FIT_GOAL}", ratio <= FIT_GOAL)
                ]
                share = statistics.median(waited)
                goals.append((f"of it waited for data: {share:.2%}, below {WAIT_GOAL:.0%}", share < WAIT_GOAL))
        job.report.say("")
        for goal in goals:
            job.report.goal(*goal)
        job.report.measured["fit"][f"{network} {batch}"] = found


def _means(turns: list[dict[str, Any]]) -> list[float]:
    """Mean seconds of the counted epochs of every turn."""
    return [statistics.mean(turn["seconds"]) for turn in turns]


def _write(folder: Path, count: int, noisy: bool) -> None:
    """Fashion-MNIST as ingest stores it, and a noisy copy of the same rows."""
    images, labels = feeding_data.fashion()
    images, labels, ids = feeding_data.ingested(images[:count], labels[:count])
    copies = {"clean": images}
    if noisy:
        from tasks import noise

        copies["noisy"] = noise.Gaussian(severity=3)(images, ids, seed=0)
    for name, values in copies.items():

        def rows(low: int, high: int, values: np.ndarray = values) -> feeding_data.Block:
            return values[low:high], labels[low:high]

        feeding_data.write_samples(folder / name, count, (28, 28, 1), 10, rows, ids)


def _race(job: Job, network: str, batch: int, folder: Path) -> dict[str, list[dict[str, Any]]]:
    processes = {}
    for kind in CONTENDERS:
        command = [sys.executable, "-W", "ignore", __file__, kind, network, str(batch), str(folder)]
        processes[kind] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in CONTENDERS}
    try:
        for kind, process in processes.items():  # all are ready before any is timed
            _ask(kind, process)
        for turn in range(job.repeats):
            for kind, process in processes.items():
                found[kind].append(_ask(kind, process))
            job.say(f"{network} at {batch}: turn {turn + 1} of {job.repeats} is over")
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return found


def _ask(kind: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """Let a process have its turn."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"expected an answer of the fit fed by {kind}, its process ended with {process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


# --- the process of one way to feed

Turn = Callable[[], dict[str, Any]]


def made(kind: str, network: str, batch: int, folder: Path) -> Turn:
    """A turn of one way to feed a network."""
    from tasks import networks
    from tasks.networks.backend import load_keras

    keras = load_keras()
    model = getattr(networks, network)().build((28, 28, 1), 10)
    clean = Specification(folder / "clean" / "specification.json")
    noisy = folder / "noisy" / "specification.json"
    given = Specification(noisy) if noisy.exists() else clean
    fed: Any = None
    options: dict[str, Any] = {}
    if kind in ("ours", "ahead"):
        import storage
        from storage.adapters.keras import to_keras

        depth = 32 if kind == "ahead" else None
        _check(storage.batches(given.dataset, batch, depth=depth), given)
        if given is clean:
            fed = to_keras(storage.batches(given.dataset, batch, columns=("values", "labels"), depth=depth))
        else:
            columns = ("values", "targets")
            feed = storage.batches(given.dataset, batch, columns=columns, targets=clean.dataset, depth=depth)
            fed = to_keras(feed, targets="targets", transform=_between_0_and_1)
        data: tuple[Any, ...] = (fed,)
    else:
        images = np.array(given.map())
        wanted = clean.labels() if given is clean else clean.map().astype(np.float32) / np.float32(255)
        data = (images, wanted)
        options = {"batch_size": batch, "shuffle": True}
        if kind == "again":
            data, options = (_again(keras, (images[:batch], wanted[:batch]), -(-given.count // batch)),), {}

    class Clock(keras.callbacks.Callback):
        """Seconds of every epoch, and those that the feed let it wait."""

        def on_train_begin(self, logs: Any = None) -> None:
            self.seconds: list[float] = []
            self.waited: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.before = 0.0 if fed is None else fed.waited
            self.begun = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.begun)
            if fed is not None:
                self.waited.append((fed.waited - self.before) / self.seconds[-1])

    done = 0

    def turn() -> dict[str, Any]:
        nonlocal done
        clock = Clock()
        history = model.fit(
            *data, epochs=done + EPOCHS, initial_epoch=done, verbose=0, callbacks=[clock], **options
        ).history
        done += EPOCHS
        return {"seconds": clock.seconds[1:], "waited": clock.waited[1:], "loss": history["loss"]}

    return turn


def _again(keras: Any, batch: tuple[np.ndarray, np.ndarray], steps: int) -> Any:
    """One batch as many times: by what each backend takes with the least work."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return tensorflow.data.Dataset.from_tensors(batch).repeat(steps)

    class Again(keras.utils.PyDataset):
        def __len__(self) -> int:
            return steps

        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            return batch

    return Again()


def _between_0_and_1(batch: dict[str, Any]) -> dict[str, Any]:
    """What the autoencoder learns to give."""
    return {**batch, "targets": np.multiply(batch["targets"], np.float32(1 / 255), dtype=np.float32)}


def _check(feed: Any, given: Specification) -> None:
    """Hold an epoch against what was written."""
    totals = Totals()
    for batch in feed:
        totals.add(batch["values"], batch["labels"])
    if totals.result() != given.expected:
        raise ValueError(f"expected the samples that were written, received {totals.result()}")


def main() -> None:
    """Make it ready on the first line that is read, and have a turn on every other."""
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    kind, network, batch, folder = sys.argv[1:]
    turn: Turn | None = None
    for _ in sys.stdin:
        answer = {} if turn is None else turn()
        turn = turn or made(kind, network, int(batch), Path(folder))
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
