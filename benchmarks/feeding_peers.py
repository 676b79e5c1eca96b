"""One way to feed batches, in a process of its own: the other end of ``benchmarks/feeding.py``.

    PYTHON benchmarks/feeding_peers.py KIND SPECIFICATION

Run by the Python that has the library; imports duskflow only for ours. `SPECIFICATION` is the JSON file that
``benchmarks/feeding_data.py`` left beside the samples. Reads a request a line (JSON) and answers each with a line:

- ``{"do": "prepare"}`` writes the samples in the library's own format, if it has one and they are not there;
- ``{"do": "open", ...}`` does everything that comes before the first byte of a sample; further keys are options;
- ``{"do": "epochs", "number": 0, "seconds": 1, "budget": 20, "check": false}`` runs whole epochs from `number` on until
  the seconds are over, and stops within one only when the budget is;
- ``{"do": "forget"}`` drops what was opened.

An answer with ``skip`` says why it does not run.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
# This folder holds a script that is named like the package `storage`: it must not come first.
sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if Path(entry or ".").resolve() != HOUSE / "benchmarks")]

import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterable, Iterator  # noqa: E402
from importlib import metadata  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

Batch = tuple[np.ndarray, np.ndarray]
"""uint8 (n, height, width, channel) and labels int64 (n,)."""
Epochs = Callable[[int], Iterable[Batch]]
"""The batches of an epoch, by its number."""


class Specification:
    """What there is to read, and where."""

    def __init__(self, path: str | Path) -> None:
        found = json.loads(Path(path).read_text("utf-8"))
        self.folder = Path(path).parent
        self.count: int = found["count"]
        self.batch: int = found["batch"]
        self.shape: tuple[int, ...] = tuple(found["shape"])
        self.sample_bytes = int(np.prod(self.shape))
        self.expected: dict[str, str] = found["expected"]
        self.shards: list[tuple[str, int]] = [(file, rows) for file, rows in found["shards"]]
        """Files of our shards, from `folder`, and their samples."""
        self.group = self.folder / found["group"]
        """Our Zarr group."""
        self.raw, self.dataset = self.folder / "raw.bin", self.folder / "ours"

    def labels(self) -> np.ndarray:
        """Labels of all samples in storage order, int64; always held in memory."""
        return np.load(self.folder / "labels.npy")

    def map(self) -> np.ndarray:
        """The samples as one plain file."""
        return np.asarray(np.memmap(self.raw, np.uint8, "r", shape=(self.count, *self.shape)))

    def starts(self) -> range:
        """First places of the batches in the order of an epoch."""
        return range(0, self.count, self.batch)


# --- the answer: every byte is touched, and checked when it was a whole epoch


def touch(values: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """Read every byte: the exclusive or of all 64-bit words, and the sum of the labels."""
    words = np.ascontiguousarray(values).reshape(-1).view(np.uint64)
    return int(np.bitwise_xor.reduce(words)), int(np.sum(labels))


def fingerprint(values: np.ndarray, labels: np.ndarray) -> int:
    """A sum over samples of a hash of (sample, label): the same for the same samples in any order, each once."""
    step = max(1, 2**20 // max(1, values[0].nbytes)) if len(values) else 1
    if len(values) > step:  # a piece after the other: memory is measured while this runs
        starts = range(0, len(values), step)
        return sum(fingerprint(values[low : low + step], labels[low : low + step]) for low in starts) % 2**64
    words = np.ascontiguousarray(values).reshape(len(values), -1).view(np.uint64)
    factors = np.random.default_rng(7).integers(1, 2**63, words.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = (words * factors).sum(axis=1, dtype=np.uint64)
    mixed += np.asarray(labels).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return int((mixed ^ (mixed >> np.uint64(31))).sum(dtype=np.uint64))


class Totals:
    """What all samples add up to; made while they are written, and again from what arrives."""

    def __init__(self, check: bool = True) -> None:
        self.samples = self.xor = self.labels = self.hash = 0
        self.check = check

    def add(self, values: np.ndarray, labels: np.ndarray) -> None:
        """Take a batch."""
        xor, total = touch(values, labels)
        self.xor ^= xor
        self.labels += total
        self.samples += len(values)
        if self.check:
            self.hash = (self.hash + fingerprint(values, labels)) % 2**64

    def result(self) -> dict[str, str]:
        """As JSON keeps them without loss."""
        found = {"samples": str(self.samples), "xor": f"{self.xor:016x}", "labels": str(self.labels)}
        return {**found, "hash": f"{self.hash:016x}"} if self.check else found


def run_epoch(batches: Callable[[], Iterable[Batch]], until: float, check: bool) -> dict[str, Any]:
    """One epoch, from the call that starts it: samples, seconds, seconds to the first batch, totals."""
    totals, first = Totals(check), 0.0
    whole, begun = True, time.perf_counter()
    for values, labels in batches():
        first = first or time.perf_counter() - begun
        totals.add(values, labels)
        if time.perf_counter() > until:
            whole = False
            break
    seconds = time.perf_counter() - begun
    return {"samples": totals.samples, "seconds": seconds, "first": first, "whole": whole, "totals": totals.result()}


def run_epochs(epochs: Epochs, expected: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    """Epochs until the seconds are over; each whole one is held against what was written.

    Gives all samples together, and of each epoch the seconds and those to its first batch.
    """
    number, begun = int(request["number"]), time.perf_counter()
    found: dict[str, Any] = {"samples": 0, "each": [], "first": [], "whole": True, "right": True}
    while True:
        one = run_epoch(lambda: epochs(number), begun + request["budget"], bool(request.get("check")))  # noqa: B023
        found["samples"] += one["samples"]
        found["each"].append(one["seconds"])
        found["first"].append(one["first"])
        # A part of an epoch cannot be right as a whole.
        found["whole"] = one["whole"] or one["samples"] == int(expected["samples"])
        if found["whole"] and any(expected[name] != value for name, value in one["totals"].items()):
            return {**found, "right": False, "totals": one["totals"], "expected": expected}
        number += 1
        if not found["whole"] or time.perf_counter() - begun >= request["seconds"]:
            return found


# --- ours and what needs no more than NumPy and Zarr


def ours(given: Specification, shuffle: bool = True, **options: Any) -> Epochs:
    """`storage.batches`: one feed for all epochs, as `fit` would use it."""
    import storage

    # Looked up here because that imports it.
    dataset, make = storage.open_dataset(given.dataset), storage.batches
    feed = None

    def epochs(number: int) -> Iterator[Batch]:
        nonlocal feed
        if feed is None:
            columns = ("values", "labels")
            feed = make(dataset, given.batch, seed=0, epoch=number, shuffle=shuffle, columns=columns, **options)
        else:
            feed.set_epoch(number)
        for batch in feed:
            yield batch["values"], batch["labels"]

    return epochs


def memory_map(given: Specification, shuffle: bool = True) -> Epochs:
    """A plain file mapped into memory, and `numpy.take`; in sequence the map itself, nothing copied."""
    images, labels = given.map(), given.labels()

    def epochs(number: int) -> Iterator[Batch]:
        if not shuffle:
            for low in given.starts():
                yield images[low : low + given.batch], labels[low : low + given.batch]
            return
        order = np.random.default_rng(number).permutation(given.count)
        for low in given.starts():
            rows = order[low : low + given.batch]
            yield np.take(images, rows, axis=0), np.take(labels, rows)

    return epochs


def plain_read(given: Specification) -> Epochs:
    """The plain file from its beginning to its end by `readinto`: what the disk and the system give at most."""
    labels = given.labels()

    def epochs(number: int) -> Iterator[Batch]:
        with open(given.raw, "rb", buffering=0) as file:
            for low in given.starts():
                held = np.empty((min(given.batch, given.count - low), *given.shape), np.uint8)
                rest = memoryview(held).cast("B")
                while len(rest):
                    rest = rest[file.readinto(rest) :]
                yield held, labels[low : low + given.batch]

    return epochs


def zarr_random(given: Specification) -> Epochs:
    """Zarr's own random indexing: ``array.oindex[rows]`` of our group."""
    import zarr

    images, labels = zarr.open_group(given.group, mode="r")["images"], given.labels()

    def epochs(number: int) -> Iterator[Batch]:
        order = np.random.default_rng(number).permutation(given.count)
        for low in given.starts():
            rows = order[low : low + given.batch]
            yield images.oindex[rows], labels[rows]

    return epochs


OPEN: dict[str, Callable[..., Epochs]] = {
    function.__name__: function for function in (ours, memory_map, plain_read, zarr_random)
}
PACKAGES = {"ours": "duskflow", "memory_map": "numpy", "plain_read": "numpy", "zarr_random": "zarr"}


# --- the conversation


def serve(kind: str, path: str, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer requests until there are no more."""
    given = Specification(path)
    try:
        from benchmarks import feeding_frameworks, feeding_torch

        others = (feeding_frameworks, feeding_torch)
        makers = OPEN | feeding_frameworks.OPEN | feeding_torch.OPEN
        packages = PACKAGES | feeding_frameworks.PACKAGES | feeding_torch.PACKAGES
        version = metadata.version(packages[kind])
    except Exception as error:
        answer({"skip": f"not installed: {_line(error)}"})
        return
    answer({"version": f"{packages[kind]} {version}"})
    epochs: Epochs | None = None
    for line in sys.stdin:
        request = json.loads(line)
        do = request.pop("do")
        try:
            if do == "prepare":
                for module in others:
                    module.PREPARE.get(kind, lambda _: None)(given)
                answer({})
            elif do == "open":
                begun = time.perf_counter()
                epochs = makers[kind](given, **request)
                answer({"seconds": time.perf_counter() - begun})
            elif do == "epochs":
                assert epochs is not None
                answer(run_epochs(epochs, given.expected, request))
            else:
                epochs = None
                gc.collect()
                answer({})
        except Exception as error:
            answer({"skip": _line(error)})


def _line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def main() -> None:
    """Speak on the standard output as it was; what libraries print goes to the standard error."""
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], sys.argv[2], lambda reply: print(json.dumps(reply), file=out, flush=True))


if __name__ == "__main__":
    main()
