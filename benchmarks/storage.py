"""What storage costs: throughput against plain scripts, memory, resume, and a million shards.

    DUSKFLOW_DATA=DIR python benchmarks/storage.py --folder DISK [--only throughput] [--repeats 5]

`DIR` holds Fashion-MNIST's IDX files in ``fashion-mnist/`` or itself (or Debian's package is installed); `DISK` is an
empty folder on the disk to measure. Every part verifies its answer before anything is timed. The fault test is a
command of its own, ``benchmarks/faults.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
# A script's folder comes first on the path, and this script is named like the package that it measures.
sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if Path(entry or ".").resolve() != HOUSE / "benchmarks")]

import argparse  # noqa: E402
import gzip  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import struct  # noqa: E402
import subprocess  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager, suppress  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from distributed import Client, LocalCluster  # noqa: E402

from pipeline import config  # noqa: E402
from storage.dataset import open_dataset  # noqa: E402
from storage.verification import verify  # noqa: E402
from tasks import noise, sources  # noqa: E402
from tasks.ingest import ingest  # noqa: E402
from tasks.noising import add_noise  # noqa: E402
from tasks.split import Split  # noqa: E402

MIB = 2**20
LAYOUT = {"shard_bytes": 32 * MIB, "minimum_shard_bytes": MIB, "minimum_shards": 48}
SIGMA = 0.12 * 255
OPTIONS: dict[str, Any] = {"split": Split(), "seed": 0, "layout": LAYOUT}


def fashion_images() -> np.ndarray:
    """The 60,000 training images, uint8 (60000, 28, 28)."""
    base = Path(os.environ.get("DUSKFLOW_DATA", "/usr/share/datasets"))
    for folder in (base / "fashion-mnist", base):
        for path in (folder / "train-images-idx3-ubyte.gz", folder / "train-images-idx3-ubyte"):
            if path.is_file():
                data = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
                return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)
    raise FileNotFoundError(f"expected Fashion-MNIST below {base}; name its folder in DUSKFLOW_DATA")


def write_idx(path: Path, times: int) -> None:
    """Fashion-MNIST some times over as one IDX file."""
    images = fashion_images()
    with open(path, "wb") as file:
        file.write(struct.pack(">IIII", 0x803, len(images) * times, 28, 28))
        for _ in range(times):
            file.write(images.data)


@contextmanager
def workers(count: int = 2) -> Iterator[Client]:
    """Some worker processes of one thread, with the settings of ``dask-config.yaml``, and their client."""
    config.load()
    with (
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(_warm_up)
        yield client


def _warm_up() -> None:
    """Import what tasks need, as the first task of a run would."""
    import storage.images  # noqa: F401
    import tasks.ingest
    import tasks.noising  # noqa: F401


class Peak:
    """Highest memory of some processes together while it is open, in bytes; maps of files count apart."""

    def __init__(self, pids: list[int]) -> None:
        self.anonymous = self.resident = 0
        self._pids, self._stop = pids, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            anonymous = resident = 0
            for pid in self._pids:
                fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                anonymous = max(anonymous, int(fields["RssAnon"].split()[0]) * 1024)
                resident = max(resident, int(fields["VmRSS"].split()[0]) * 1024)
            self.anonymous, self.resident = max(self.anonymous, anonymous), max(self.resident, resident)


# --- throughput: ours, a plain script, and Dask's own writer

PLAIN = """
import hashlib, os, sys
import numpy as np
from blake3 import blake3
source, out, noisy, sigma = sys.argv[1], sys.argv[2], sys.argv[3] == "noise", float(sys.argv[4])
images = np.fromfile(source, np.uint8, offset=16).reshape(-1, 28, 28, 1)
rng = np.random.default_rng(0)
def save(name, array):
    with open(f"{out}/{name}.npy", "wb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    with open(f"{out}/{name}.digest", "w") as file:
        file.write(blake3(array).hexdigest())
        file.flush()
        os.fsync(file.fileno())
images = images[rng.permutation(len(images))]
save("clean", images)
if noisy:
    for low in range(0, len(images), 10_000):
        block = images[low : low + 10_000]
        drawn = rng.standard_normal(block.shape, dtype=np.float32)
        images[low : low + 10_000] = np.clip(np.rint(block + np.float32(sigma) * drawn), 0, 255).astype(np.uint8)
    save("noisy", images)
"""
"""What a user would write otherwise, in one process: read, permute, save, hash, sync; add noise, save, hash, sync."""


def run_plain(source: Path, folder: Path, noisy: bool) -> None:
    """The plain script, in a process of its own; its start counts, as ours has none."""
    script = folder / "plain.py"
    script.write_text(PLAIN)
    kind = "noise" if noisy else "clean"
    subprocess.run([sys.executable, script, source, folder, kind, str(SIGMA)], check=True)


class Mapped:
    """The file as an array that each task opens for itself: otherwise Dask would send its content to the scheduler."""

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape = ((path.stat().st_size - 16) // 784, 28, 28, 1)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(np.memmap(self.path, np.uint8, "r", offset=16).reshape(self.shape)[key])


def run_dask(client: Client, source: Path, folder: Path, noisy: bool) -> None:
    """``dask.array.to_zarr`` with its defaults on the same workers: no permutation, no hash, no sync."""
    import dask.array as da

    array = da.from_array(Mapped(source), chunks=(12_500, 28, 28, 1))
    array.to_zarr(str(folder / "clean.zarr"))
    if noisy:
        stored = da.from_zarr(str(folder / "clean.zarr"))
        drawn = da.random.default_rng(0).standard_normal(stored.shape, dtype=np.float32, chunks=stored.chunks)
        noised = da.clip(da.rint(stored + np.float32(SIGMA) * drawn), 0, 255).astype(np.uint8)
        noised.to_zarr(str(folder / "noisy.zarr"))


def run_ours(client: Client, source: Path, folder: Path, noisy: bool) -> None:
    """Ingest, and a noisy copy."""
    clean = ingest(sources.Idx(source), str(folder / "clean"), client, **OPTIONS)
    if noisy:
        add_noise(clean, noise.Gaussian(sigma=SIGMA / 255), str(folder / "gaussian"), client, seed=0)


def check_ours(client: Client, source: Path, folder: Path) -> None:
    """Hold what we wrote against the file itself and the noise itself."""
    run_ours(client, source, folder, noisy=True)
    images = np.memmap(source, np.uint8, "r", offset=16).reshape(-1, 28, 28, 1)
    clean, noisy = open_dataset(folder / "clean"), open_dataset(folder / "gaussian")
    assert np.array_equal(np.sort(clean.ids()), np.arange(len(images)))
    for low in range(0, clean.count, 20_000):
        rows = slice(low, min(low + 20_000, clean.count))
        ids, values = clean.ids()[rows], clean.read(rows.start, rows.stop)
        assert np.array_equal(values, images[ids])
        assert np.array_equal(noisy.read(rows.start, rows.stop), noise.Gaussian(sigma=SIGMA / 255)(values, ids, seed=0))
    assert verify(folder / "clean").ok and verify(folder / "gaussian").ok


def throughput(folder: Path, repeats: int) -> None:
    """600,000 images: seconds of each, interleaved, and the ratio of the medians."""
    source = folder / "images-idx3-ubyte"
    write_idx(source, 10)
    contenders: dict[str, Callable[[Client, Path, Path, bool], None]] = {
        "ours": run_ours,
        "plain": lambda client, *rest: run_plain(*rest),
        "dask": run_dask,
    }
    with workers() as client:
        pids = [os.getpid(), *client.run(os.getpid).values()]
        with fresh(folder / "check") as place:
            check_ours(client, source, place)
        for noisy in (False, True):
            seconds: dict[str, list[float]] = {name: [] for name in contenders}
            peaks: dict[str, int] = {}
            for _ in range(repeats):
                for name, contender in contenders.items():
                    with fresh(folder / "out") as place, Peak(pids) as peak:
                        os.sync()
                        begun = time.perf_counter()
                        contender(client, source, place, noisy)
                        seconds[name].append(time.perf_counter() - begun)
                    peaks[name] = max(peaks.get(name, 0), peak.anonymous)
            ours = statistics.median(seconds["ours"])
            print(f"{'ingest + Gaussian noise' if noisy else 'clean ingest'}, 600,000 images, 2 workers:")
            for name, values in seconds.items():
                median = statistics.median(values)
                spread = f"{min(values):.2f} to {max(values):.2f}"
                own = "" if name == "plain" else f", peak of a process {peaks[name] / MIB:,.0f} MiB"
                print(f"  {name:<6} median {median:6.2f} s ({spread}); ours / {name} = {ours / median:.2f}{own}")


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """An empty folder that is removed afterwards."""
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        while folder.exists():  # tasks that were under way when their client left still write for a moment
            shutil.rmtree(folder, ignore_errors=True)


# --- memory: the same shards, ever more data


def memory(folder: Path, repeats: int) -> None:
    """Peak memory of a worker at 1, 4 and 16 times Fashion-MNIST, with shards of 4 MiB."""
    layout = {"shard_bytes": 4 * MIB, "minimum_shard_bytes": MIB, "minimum_shards": 1}
    for times in (1, 4, 16):
        source = folder / f"images-{times}-idx3-ubyte"
        write_idx(source, times)
        with fresh(folder / "out") as place, workers() as client:
            pids = list(client.run(os.getpid).values())
            before = max(psutil.Process(pid).memory_info().rss for pid in pids)
            with Peak(pids) as peak:
                clean = ingest(sources.Idx(source), str(place / "clean"), client, split=Split(), seed=0, layout=layout)
                copy = add_noise(clean, noise.Gaussian(severity=3), str(place / "noisy"), client, seed=0)
            assert verify(place / "clean").ok and verify(place / "noisy").ok
            print(
                f"memory, {times:>2} x 60,000 images ({clean.shards} shards of 4 MiB): a worker {before / MIB:,.0f} "
                f"MiB before, peak {peak.anonymous / MIB:,.0f} MiB of its own, {peak.resident / MIB:,.0f} MiB with "
                f"mapped files; {copy.count:,} images"
            )
        source.unlink()


# --- resume: how long until a half-done dataset goes on


class Enough(Exception):
    """Raised to leave a build half done."""


def resume(folder: Path, repeats: int) -> None:
    """Reopen a dataset of 10,000 shards of which 5,000 are committed: seconds to the first new shard."""
    images = np.random.default_rng(0).integers(0, 256, (40_000, 28, 28, 1), dtype=np.uint8)
    source = sources.Arrays(images=images, labels=np.arange(40_000) % 10)
    layout = {"shard_bytes": 4 * 784, "minimum_shard_bytes": 784, "minimum_shards": 1}
    options: dict[str, Any] = {"split": Split(), "seed": 0, "layout": layout}
    seconds = []
    with workers() as client:
        for _ in range(repeats):
            with fresh(folder / "out") as place:
                done = [0]

                def stop(count: int, done: list[int] = done) -> None:
                    done[0] += count
                    if done[0] >= 5_000:
                        raise Enough

                with suppress(Enough):
                    ingest(source, str(place / "clean"), client, **options, advance=stop)
                begun, first, counts = time.perf_counter(), [], []

                def note(count: int, first: list[float] = first) -> None:
                    first.append(time.perf_counter())
                    if len(first) > 20:
                        raise Enough

                def start(shards: int, there: int, counts: list[Any] = counts) -> None:
                    counts.append((shards, there))

                with suppress(Enough):
                    ingest(source, str(place / "clean"), client, **options, start=start, advance=note)
                seconds.append(first[0] - begun)
                assert counts[0][0] == 10_000 and counts[0][1] >= 5_000, counts
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    median = statistics.median(seconds)
    print(f"resume, 10,000 shards, 5,000 of them done: first new shard after {median:.2f} s ({spread})")


def main() -> None:
    """Run the parts that are asked for."""
    from benchmarks.scale import scale

    parts: dict[str, Callable[[Path, int], None]] = {
        "throughput": throughput,
        "memory": memory,
        "resume": resume,
        "scale": scale,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder on the disk to measure")
    parser.add_argument("--only", choices=parts, action="append", help="this part (can be given again)")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.iterdir()):
        parser.error(f"expected an empty folder, {options.folder} is not")
    for name in options.only or parts:
        parts[name](options.folder, options.repeats)


if __name__ == "__main__":
    main()
