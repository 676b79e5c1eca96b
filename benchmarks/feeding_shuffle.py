"""How good our shuffle is, for ``benchmarks/feeding.py``: what moves, what meets in a batch, what training makes of it.

The input is Fashion-MNIST sorted by class, the worst there is. What the shuffle costs is told with the speeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import feeding_data

if TYPE_CHECKING:
    from benchmarks.feeding import Job

SEEDS = 3
EPOCHS = 2
EXAMINED = 5
"""Epochs whose orders are examined."""
BEHIND = 0.01
"""How much accuracy small windows may cost against a full shuffle."""


@dataclass(frozen=True)
class Order:
    """One way to go through the samples."""

    title: str
    rows: Callable[[int, int], np.ndarray]
    """Rows of a storage in the order of an epoch, given seed and epoch."""
    ids: np.ndarray
    """int64 (n,): for each row its place in the source, which is sorted by class."""
    trained: bool = True


def shuffle(job: Job) -> None:
    """Examine the orders, then train LeNet-5 on them."""
    images, labels = feeding_data.fashion()
    if job.quick:
        images, labels = images[:6_000], labels[:6_000]
    by_class = np.argsort(labels, kind="stable")
    images, labels = images[by_class], labels[by_class]
    with job.fresh("shuffle") as folder:
        orders = _orders(folder, images, labels)
        job.report.say("", f"### Shuffle: {len(labels):,} images of 28 x 28, the source sorted by class")
        job.report.say(f"Orders of {EXAMINED} epochs in batches of {feeding_data.BATCH}; 1 (or 1/3) is a full shuffle.")
        job.report.measured["shuffle"] = {
            "orders": _examine(job, orders, labels),
            "training": _train(job, orders, images, labels),
        }


def _orders(folder: Path, images: np.ndarray, labels: np.ndarray) -> list[Order]:
    """Ours over a dataset as ingest writes it, and over one that was left sorted; and what to compare with."""
    count = len(labels)
    permuted, codes, ids = feeding_data.ingested(images, labels)
    sorted_ids = np.arange(count)
    for name, values, held, numbers in (("ingested", permuted, codes, ids), ("sorted", images, labels, sorted_ids)):
        rows = _slicer(values, held)
        for _ in feeding_data.write_dataset(folder / name, count, (28, 28, 1), 10, rows, numbers):
            pass

    def ours(name: str, **options: Any) -> Callable[[int, int], np.ndarray]:
        import storage

        dataset = storage.open_dataset(folder / name)
        options = {"columns": ("rows",), **options}

        def rows(seed: int, epoch: int) -> np.ndarray:
            with storage.batches(dataset, feeding_data.BATCH, seed=seed, epoch=epoch, **options) as feed:
                return np.concatenate([batch["rows"] for batch in feed])

        return rows

    def full(seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng((seed, epoch)).permutation(count)

    def none(seed: int, epoch: int) -> np.ndarray:
        return np.arange(count)

    import storage

    shard = storage.open_dataset(folder / "ingested").layout.shard * 784
    windows, one = {"window": 8 * shard}, {"window": shard, "streams": 1}
    shards = f"of {-(-count * 784 // shard)} shards"
    return [
        Order("full shuffle (NumPy)", full, sorted_ids),
        Order("ours, all in one window", ours("ingested"), ids, trained=False),
        Order(f"ours, windows of 8 {shards}", ours("ingested", **windows), ids),
        Order(f"ours, windows of 1 {shards}, one stream", ours("ingested", **one), ids),
        Order("our ingest, no shuffle afterwards", none, ids),
        Order(f"left sorted, windows of 8 {shards}", ours("sorted", **windows), sorted_ids),
        Order(f"left sorted, windows of 1 {shards}, one stream", ours("sorted", **one), sorted_ids),
        Order("left sorted, no shuffle", none, sorted_ids),
    ]


def _slicer(values: np.ndarray, labels: np.ndarray) -> Callable[[int, int], feeding_data.Block]:
    return lambda low, high: (values[low:high], labels[low:high])


# --- orders


def displacement(order: np.ndarray) -> float:
    """Mean distance between the place in the epoch and the place before, by the number of samples; 1/3 at random."""
    return float(np.abs(np.arange(len(order)) - order).mean() / len(order))


def class_mix(labels: np.ndarray, batch: int) -> tuple[float, float]:
    """Of whole batches: chi-square of the classes by its expectation in a full shuffle, and entropy in bits."""
    count, classes = len(labels), int(labels.max()) + 1
    whole = labels[: count // batch * batch].reshape(-1, batch)
    found = np.stack([np.bincount(one, minlength=classes) for one in whole])
    expected = np.bincount(labels, minlength=classes) * (batch / count)
    squares = ((found - expected) ** 2 / expected).sum(axis=1)
    # Drawn without replacement, so that classes vary a little less than the degrees of freedom say.
    mean = (classes - 1) * (count - batch) / (count - 1)
    shares = found / batch
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1)
    return float(squares.mean() / mean), float(entropy.mean())


def again_together(one: np.ndarray, other: np.ndarray, batch: int) -> float:
    """Pairs that share a batch in two epochs, by what chance gives; both are samples in the order of an epoch."""
    count = len(one)
    places = np.empty((2, count), np.int64)
    for number, order in enumerate((one, other)):
        places[number, order] = np.arange(count) // batch
    batches = int(places.max()) + 1
    cells = np.bincount(places[0] * batches + places[1], minlength=batches**2)
    sizes = np.bincount(places[0])
    pairs = (sizes * (sizes - 1)).sum() / 2
    shared = (cells * (cells - 1)).sum() / 2
    return float(shared / (pairs * (pairs / (count * (count - 1) / 2))))


def _examine(job: Job, orders: list[Order], labels: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for order in orders:
        epochs = [order.rows(0, epoch) for epoch in range(EXAMINED)]
        for rows in epochs:
            if not np.array_equal(np.sort(rows), np.arange(len(labels))):
                raise ValueError(f"{order.title}: expected every row once")
        samples = [order.ids[rows] for rows in epochs]
        mixes = [class_mix(labels[ids], feeding_data.BATCH) for ids in samples]
        found.append(
            {
                "title": order.title,
                "from storage": statistics.mean(map(displacement, epochs)),
                "from source": statistics.mean(map(displacement, samples)),
                "chi-square": statistics.mean(mix[0] for mix in mixes),
                "entropy": statistics.mean(mix[1] for mix in mixes),
                "again together": statistics.mean(
                    again_together(*pair, feeding_data.BATCH) for pair in pairwise(samples)
                ),
            }
        )
    columns = ("displaced from storage", "from the source", "chi-square of classes in a batch, by its expectation")
    lines = [
        f"| | {' | '.join(columns)} | entropy of classes, bits | pairs together again, by chance |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        title, *values = one.values()
        lines.append(f"| {title} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    job.report.say("", *lines, "")
    return found


# --- training


def _train(job: Job, orders: list[Order], images: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Accuracy of LeNet-5 on the test images after few epochs; weights and orders from several seeds."""
    from tasks import networks

    test_images, test_labels = feeding_data.fashion(test=True)
    seeds, found = 1 if job.quick else SEEDS, []
    for order in (order for order in orders if order.trained):
        scores = []
        for seed in range(seeds):
            model = networks.lenet5().build((28, 28, 1), 10, seed=seed)
            for epoch in range(EPOCHS):
                ids = order.ids[order.rows(seed, epoch)]
                for low in range(0, len(ids), feeding_data.BATCH):
                    batch = ids[low : low + feeding_data.BATCH]
                    model.train_on_batch(images[batch], labels[batch])
            predicted = model.predict(test_images, batch_size=1000, verbose=0).argmax(axis=1)
            scores.append(float((predicted == test_labels).mean()))
        found.append({"title": order.title, "accuracy": scores})
        job.say(f"{order.title}: {scores}")
    lines = [f"LeNet-5, {EPOCHS} epochs, {seeds} seeds:", "", "| | accuracy on the test images |", "| --- | --- |"]
    for one in found:
        scores = one["accuracy"]
        lines.append(f"| {one['title']} | {statistics.mean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f}) |")
    job.report.say(*lines, "")
    full, windows = (statistics.mean(one["accuracy"]) for one in (found[0], found[1]))
    text = f"accuracy in {found[1]['title']} - in a full shuffle: {windows - full:+.4f}, at least -{BEHIND}"
    job.report.goal(text, windows - full >= -BEHIND)
    return found
