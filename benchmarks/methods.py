"""Every method on all of Fashion-MNIST: accuracy, seconds and memory, beside scikit-learn and dask-ml.

    DUSKFLOW_DATA=DIR python benchmarks/methods.py [--only SVC PCA] [--kinds ours scikit-learn dask-ml] [--repeats 3]
    DUSKFLOW_DATA=DIR python benchmarks/methods.py --rows 10000                 (a part of the rows to fit)
    DUSKFLOW_DATA=DIR python benchmarks/methods.py --larger-than-memory FOLDER  (two workers, Zarr of four times theirs)

60,000 images to fit, 10,000 to score, pixels / 255 in float32. Each fit is a process of its own that first loads the
data and fits 600 rows, so that imports are over; what is timed is `fit` (and scoring, apart). By turns: one fit of each
kind, then the next turn. Peak memory is what the process took beyond what it held before the fit. `ours` gets a Dask
array of 8 blocks on Dask's threads, and `ours, NumPy` the array itself; scikit-learn is called as a user would, with
`n_jobs=-1` where it has that. scikit-learn-intelex takes part if it is installed; what it does not speed up is
scikit-learn's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
# This folder holds a script that is named like the package `storage`: it must not come first.
sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if Path(entry or ".").resolve() != HOUSE / "benchmarks")]

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import feeding_data, methods_cases  # noqa: E402

BLOCKS = 8


def data(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images to fit and to score, and their labels."""
    found: list[np.ndarray] = []
    for test in (False, True):
        images, labels = feeding_data.fashion(test)
        found += [images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels]
    return found[0][:rows], found[1][:rows], found[2], found[3]


class Peak:
    """The most anonymous memory that the process takes while it is watched, in MB, beyond what it had."""

    def __enter__(self) -> Peak:
        self._before = self.most = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.grown = self.most - self._before

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> float:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def one_fit(name: str, kind: str, rows: int) -> dict[str, Any]:
    """Fit and score; in a process of its own."""
    import dask.array as da

    case = methods_cases.CASES[name]
    X, y, X_test, y_test = data(min(rows, case.rows or rows))
    X, X_test = case.prepared(X), case.prepared(X_test)
    given: Any = X
    if kind in ("ours", "dask-ml"):
        given = da.from_array(X, chunks=(-(-len(X) // BLOCKS), X.shape[1]))
    labels: Any = y if kind != "dask-ml" else da.from_array(y, chunks=given.chunks[0])
    methods_cases.warm(case, kind, given, labels)
    model = case.make(kind)
    with Peak() as peak, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        begun = time.perf_counter()
        model.fit(given, labels)
        fitted = time.perf_counter() - begun
        begun = time.perf_counter()
        value = case.score(model, X_test, y_test, X)
        scored = time.perf_counter() - begun
    unfinished = sorted({one.category.__name__ for one in said if "Convergence" in one.category.__name__})
    return {"fit": fitted, "score": scored, "value": float(value), "peak": peak.grown, "said": unfinished}


def ask(name: str, kind: str, rows: int) -> dict[str, Any]:
    """Run one fit in a process of its own."""
    command = [sys.executable, __file__, "--one", name, kind, "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1:]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def race(options: argparse.Namespace) -> None:
    """Every case, one after the other."""
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{options.rows:,} rows to fit, {load}, {methods_cases.versions()}")
    print("\n| method | | value | fit, s | fit / best other | score, s | peak, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.only or methods_cases.CASES:
        case = methods_cases.CASES[name]
        kinds = [kind for kind in options.kinds if kind in case.kinds]
        found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind in kinds:
                found[kind].append(ask(name, kind, options.rows))
        others = [
            statistics.median(turn["fit"] for turn in turns)
            for kind, turns in found.items()
            if not kind.startswith("ours") and not any("error" in turn for turn in turns)
        ]
        for kind, turns in found.items():
            if errors := [turn["error"] for turn in turns if "error" in turn]:
                print(f"| {name} | {kind} | failed: {errors[0]} | | | | |", flush=True)
                continue
            seconds = [turn["fit"] for turn in turns]
            middle = statistics.median(seconds)
            ratio = f"{middle / min(others):.2f}" if others and kind.startswith("ours") else ""
            fewer = f"; {case.rows:,} rows" if case.rows and case.rows < options.rows else ""
            value = f"{statistics.median(turn['value'] for turn in turns):.4f}"
            mark = f" (published {case.published})" if case.published and kind == "ours" else ""
            said = "; did not converge" if any(turn["said"] for turn in turns) else ""
            score = statistics.median(turn["score"] for turn in turns)
            peak = max(turn["peak"] for turn in turns)
            print(
                f"| {name} | {kind} | {case.measure} {value}{mark}{said}{fewer} | {middle:.2f} ({min(seconds):.2f} to "
                f"{max(seconds):.2f}) | {ratio} | {score:.2f} | {peak:,.0f} |",
                flush=True,
            )


def main() -> None:
    """Race, or be one of those that race."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help=f"these methods of {', '.join(methods_cases.CASES)}")
    parser.add_argument("--kinds", nargs="*", choices=methods_cases.KINDS, default=methods_cases.KINDS)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--larger-than-memory", type=Path, metavar="FOLDER", help="fit data of four times the memory")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_fit(*options.one, options.rows)))
    elif options.larger_than_memory:
        from benchmarks import methods_scale

        methods_scale.run(options.larger_than_memory, options.only)
    else:
        race(options)


if __name__ == "__main__":
    main()
