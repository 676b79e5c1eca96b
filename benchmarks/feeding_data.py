"""The samples that ``benchmarks/feeding.py`` feeds: a dataset of ours, a plain file of the same bytes, their totals."""

from __future__ import annotations

import ctypes
import gzip
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.feeding_peers import Totals
from storage.arrays import data_key
from storage.documents import GROUP
from storage.layout import plan_layout
from storage.plan import Plan
from storage.shards import Shard
from storage.versions import publish
from storage.writer import Build
from tasks.split import arrange

BATCH = 256
Block = tuple[np.ndarray, np.ndarray]
"""uint8 (n, height, width, channel) and labels int64 (n,)."""


def fashion(test: bool = False) -> Block:
    """Fashion-MNIST in the order of its files: 60,000 images to train on, or 10,000 to test."""
    base, name = Path(os.environ.get("DUSKFLOW_DATA", "/usr/share/datasets")), "t10k" if test else "train"
    for folder in (base / "fashion-mnist", base):
        if (folder / f"{name}-images-idx3-ubyte.gz").is_file():
            images, labels = (
                np.frombuffer(gzip.decompress((folder / f"{name}-{what}-ubyte.gz").read_bytes()), np.uint8)
                for what in ("images-idx3", "labels-idx1")
            )
            return images[16:].reshape(-1, 28, 28, 1), labels[8:].astype(np.int64)
    raise FileNotFoundError(f"expected Fashion-MNIST below {base}; name its folder in DUSKFLOW_DATA")


def ingested(images: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples as our ingest stores them, permuted by the seed: images, labels, ids."""
    ids, _ = arrange(np.zeros(len(labels), np.uint8), seed)
    return images[ids], labels[ids], ids


def write_dataset(
    location: Path,
    count: int,
    shape: tuple[int, ...],
    classes: int,
    rows: Callable[[int, int], Block],
    ids: np.ndarray | None = None,
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Write a dataset of one split, ``train``, with our own writer in its usual layout; gives each shard written.

    Parameters
    ----------
    location : Path
    count, shape, classes : int, (height, width, channels), int
    rows : callable
        The samples of rows low to high in the order of storage.
    ids : ndarray of int64, optional
        By default rows are numbered.

    Yields
    ------
    file, rows, images, labels
        The shard's file, from `location`, and its content.
    """
    layout = plan_layout(count, math.prod(shape))
    height, width, channels = shape
    plan = Plan(
        name="clean",
        kind="images",
        layout=layout,
        recipe={"benchmark": location.name, "count": count, "shape": list(shape)},
        sample_shape=(height, width, channels),
        classes=tuple(map(str, range(classes))),
        splits={"train": (0, count)},
    )
    build = Build(str(location), plan)
    build.begin()
    for number in range(layout.shards):
        low, high = layout.bounds(number)
        images, labels = rows(low, high)
        held = np.arange(low, high) if ids is None else ids[low:high]
        build.write_shard(number, Shard(images, labels, held, np.zeros(high - low, np.uint8)))
        yield f"{build.key}/{GROUP}/{data_key(plan, number)}", high - low, images, labels
    build.finish()
    publish(str(location), [plan.key])


def write_samples(
    folder: Path,
    count: int,
    shape: tuple[int, ...],
    classes: int,
    rows: Callable[[int, int], Block],
    ids: np.ndarray | None = None,
) -> Path:
    """Write a dataset, the same bytes as one plain file, and what they add up to; gives the specification's file."""
    folder.mkdir(parents=True)
    totals, shards, labels = Totals(), [], []
    with open(folder / "raw.bin", "wb") as raw:
        for file, held, images, codes in write_dataset(folder / "ours", count, shape, classes, rows, ids):
            raw.write(np.ascontiguousarray(images).data)
            totals.add(images, codes)
            shards.append((f"ours/{file}", held))
            labels.append(codes)
        raw.flush()
        os.fsync(raw.fileno())
    np.save(folder / "labels.npy", np.concatenate(labels))
    path = folder / "specification.json"
    document = {
        "count": count,
        "shape": shape,
        "batch": BATCH,
        "expected": totals.result(),
        "shards": shards,
        "group": shards[0][0].partition(f"/{GROUP}/")[0] + f"/{GROUP}",
    }
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_fashion(folder: Path, count: int) -> Path:
    """The first images of Fashion-MNIST, as ingest stores them."""
    images, labels = fashion()
    images, labels, ids = ingested(images[:count], labels[:count])
    return write_samples(folder, count, (28, 28, 1), 10, lambda low, high: (images[low:high], labels[low:high]), ids)


def write_random(folder: Path, count: int, shape: tuple[int, ...]) -> Path:
    """Random bytes: nothing compresses them, and no two samples are alike."""

    def rows(low: int, high: int) -> Block:
        rng = np.random.default_rng(low)
        images = np.frombuffer(rng.bytes((high - low) * math.prod(shape)), np.uint8).reshape(-1, *shape)
        return images, rng.integers(0, 10, high - low)

    return write_samples(folder, count, shape, 10, rows)


# --- the page cache


def files(path: Path) -> Iterator[Path]:
    """A file itself, or all files of a folder that have content."""
    yield from (one for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file() and one.stat().st_size)


def evict(path: Path) -> float:
    """Take a file or the files of a folder out of the page cache; gives the share that stayed there.

    Pages that a process has mapped and read stay, so whoever read them must have let go.
    """
    os.sync()  # pages that are not on the disk yet stay, too
    for one in files(path):
        with open(one, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return resident(path)


def warm(path: Path) -> None:
    """Read a file or the files of a folder, so that they lie in the page cache."""
    for one in files(path):
        with open(one, "rb", buffering=0) as file:
            while file.read(2**22):
                pass


def resident(path: Path) -> float:
    """The share of a file or of the files of a folder that lies in the page cache."""
    there = total = 0
    library = ctypes.CDLL(None, use_errno=True)
    for one in files(path):
        size = one.stat().st_size
        pages = -(-size // mmap.PAGESIZE)
        found = (ctypes.c_ubyte * pages)()
        with open(one, "rb") as file, mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            status = library.mincore(ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(size), found)
            del view
        if status:
            raise OSError(ctypes.get_errno(), "mincore")
        there += int(np.count_nonzero(np.frombuffer(found, np.uint8) & 1))
        total += pages
    return there / max(total, 1)
