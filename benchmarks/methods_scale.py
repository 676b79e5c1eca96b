"""Fits on data of four times the workers' memory, for ``benchmarks/methods.py``.

Two workers of one thread and 512 MiB each, and 4 GiB of float32 in Zarr: Fashion-MNIST again and again, each time with
other noise. Quadratic methods get fewer rows. Seconds, the largest memory of a worker's process, and whether one was
lost.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import feeding_data

WORKER_BYTES = 512 * 2**20
DATA_BYTES = 8 * WORKER_BYTES  # four times that of both
COLUMNS = 784
ROWS = DATA_BYTES // (4 * COLUMNS)
BLOCK = 10_000
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 65536, "MALLOC_MMAP_THRESHOLD_": 131072}
"""Freed memory goes back to the system at once, as workers so small need it; see docs/methods.md."""
FEW = 20_000
"""Rows for methods whose work grows with the square."""

# Method, parameters, rows, what else is asked of it.
FITS: list[tuple[str, dict[str, Any], int]] = [
    ("StandardScaler", {}, ROWS),
    ("GaussianNB", {}, ROWS),
    ("MultinomialNB", {}, ROWS),
    ("BernoulliNB", {"binarize": 0.3}, ROWS),
    ("LinearRegression", {}, ROWS),
    ("Ridge", {}, ROWS),
    ("Lasso", {"alpha": 0.001}, ROWS),
    ("PCA", {"n_components": 50}, ROWS),
    ("IncrementalPCA", {"n_components": 50}, ROWS),
    ("TruncatedSVD", {"n_components": 50, "random_state": 0}, ROWS),
    ("KMeans", {"n_clusters": 10, "max_iter": 5, "random_state": 0}, ROWS),
    ("GaussianMixture", {"n_components": 10, "covariance_type": "diag", "max_iter": 3, "random_state": 0}, ROWS),
    ("MDS", {"n_landmarks": 300, "random_state": 0}, ROWS),
    ("LogisticRegression", {"max_iter": 10}, ROWS),
    ("LinearSVC", {"C": 1e-6, "tol": 0.1}, ROWS),
    ("KNeighborsClassifier", {"n_neighbors": 5}, ROWS),
    ("KNeighborsRegressor", {"n_neighbors": 5}, ROWS),
    ("Nystroem", {"n_components": 300, "gamma": 0.0102, "random_state": 0}, ROWS),
    ("MiniBatchKMeans", {"n_clusters": 10, "random_state": 0}, ROWS),
    ("DecisionTreeClassifier", {"random_state": 0}, ROWS),
    ("DecisionTreeRegressor", {"max_depth": 12, "random_state": 0}, ROWS),
    ("RandomForestClassifier", {"n_estimators": 5, "random_state": 0}, ROWS),
    ("RandomForestRegressor", {"n_estimators": 5, "max_features": "sqrt", "random_state": 0}, ROWS),
    ("AgglomerativeClustering", {"n_clusters": 10}, ROWS),
    ("SVC", {"C": 1.0}, FEW),
    ("DBSCAN", {"eps": 6.0}, FEW),
    ("LocallyLinearEmbedding", {"n_neighbors": 10, "random_state": 0}, FEW),
    ("AgglomerativeClustering", {"n_clusters": 10, "linkage": "single"}, FEW),
    ("SpectralClustering", {"n_clusters": 10, "random_state": 0}, FEW),
]


def write(folder: Path) -> Path:
    """Make the data, once."""
    import zarr

    place = folder / "rows.zarr"
    if (folder / "whole").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    images, _ = feeding_data.fashion()
    flat = images.reshape(len(images), -1)
    array = zarr.create_array(place, shape=(ROWS, COLUMNS), chunks=(BLOCK, COLUMNS), dtype="f4", compressors=None)
    generator = np.random.default_rng(0)
    for low in range(0, ROWS, BLOCK):
        high = min(low + BLOCK, ROWS)
        rows = flat[np.arange(low, high) % len(flat)].astype(np.float32) / np.float32(255)
        array[low:high] = np.abs(rows + generator.normal(0, 0.02, rows.shape).astype(np.float32))
    (folder / "whole").touch()
    return place


def labels() -> np.ndarray:
    """Of the rows."""
    found = feeding_data.fashion()[1]
    return found[np.arange(ROWS) % len(found)]


class Workers:
    """The largest memory of the workers' processes while they are watched, in MB."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self.most = 0.0
        self._done = threading.Event()

    def __enter__(self) -> Workers:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            for process in self._processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.most = max(self.most, process.memory_info().rss / 2**20)


def run(folder: Path, only: list[str] | None) -> None:
    """Fit them, one after the other, each on workers of its own."""
    place, y = write(folder), labels()
    size = f"{ROWS:,} rows of {COLUMNS} float32 ({ROWS * COLUMNS * 4 / 2**30:.1f} GiB) in Zarr"
    print(f"2 workers of {WORKER_BYTES >> 20} MiB, {size}")
    print("\n| method | rows | s | largest worker, MB | workers lost |\n| --- | --- | --- | --- | --- |")
    for name, options, rows in FITS:
        if only and name not in only:
            continue
        try:
            seconds, most, lost = one(place, y, name, options, rows)
            print(f"| {name} {options or ''} | {rows:,} | {seconds:.0f} | {most:,.0f} | {lost} |", flush=True)
        except Exception as error:
            print(
                f"| {name} {options or ''} | {rows:,} | failed: {type(error).__name__}: {error!s:.150} | | |",
                flush=True,
            )


def one(place: Path, y: np.ndarray, name: str, options: dict[str, Any], rows: int) -> tuple[float, float, int]:
    """Seconds of a fit, the largest memory of a worker, and how many workers were lost."""
    import dask
    import dask.array as da
    from distributed import Client, LocalCluster

    import pipeline  # noqa: F401  (its settings: how workers allocate memory)
    from tasks import methods

    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": ALLOCATOR}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=WORKER_BYTES,
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        pids = list(client.run(lambda: __import__("os").getpid()).values())
        X = da.from_zarr(str(place))[:rows]
        with Workers(pids) as workers:
            begun = time.perf_counter()
            model = getattr(methods, name)(**options).fit(X, y[:rows])
            if name.startswith("KNeighbors"):
                model.predict(np.asarray(X[:1000]))
            seconds = time.perf_counter() - begun
        after = list(client.run(lambda: __import__("os").getpid()).values())
        return seconds, workers.most, len(set(pids) - set(after))
