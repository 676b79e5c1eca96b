"""Reviews as batches of tokens, for ``benchmarks/feeding.py``: tokens per second, and how much is padding."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import feeding_data
from storage.layout import plan_layout
from storage.plan import Plan
from storage.shards import Shard
from storage.texts import byte_lengths
from storage.versions import publish
from storage.writer import Build

if TYPE_CHECKING:
    from benchmarks.feeding import Job

LENGTH = 512
WORDS = 20_000
SECONDS = 1.0
"""Of later epochs in one turn, at least."""

Epochs = Callable[[int], Iterable[np.ndarray]]
"""The batches of an epoch by its number: int32 (n, width), 0 where nothing is."""


def text(job: Job) -> None:
    """Buckets, packing and padding of ours beside what people write, and tf.data's buckets."""
    import storage
    from tasks import sources
    from tasks.networks.vocabulary import Vocabulary

    source = sources.imdb(download=False)
    count = min(len(source), 2_000 if job.quick else 25_000)
    samples = source[0:count]
    texts, labels = list(samples.values), np.asarray(source.labels())[:count]
    texts, labels = _permuted(texts, labels)
    vocabulary = Vocabulary.fit([texts], WORDS)
    tokens = _cut(*vocabulary.ragged(texts))
    with job.fresh("text") as folder:
        _write(folder, texts, labels)
        dataset = storage.open_dataset(folder)

        def ours(batching: str) -> Callable[[], Epochs]:
            def made() -> Epochs:
                sequences = storage.Sequences(encode=vocabulary.ragged, length=LENGTH, batching=batching)
                feed = storage.batches(dataset, feeding_data.BATCH, columns=("values",), sequences=sequences)

                def epochs(number: int) -> Iterator[np.ndarray]:
                    feed.set_epoch(number)
                    for batch in feed:
                        yield batch["values"]

                return epochs

            return made

        contenders: dict[str, Callable[[], Epochs]] = {
            "**ours**, by length": ours("bucket"),
            "ours, packed": ours("pack"),
            f"ours, padded to {LENGTH}": ours("pad"),
            "NumPy, padded to the longest of each batch": lambda: _longest(*tokens),
            f"NumPy, padded to {LENGTH} beforehand": lambda: _beforehand(*tokens),
            "tf.data, `bucket_by_sequence_length`, full shuffle": lambda: _tensorflow(*tokens),
        }
        found = _race(job, contenders, tokens)
    title = f"### Text: {count:,} film reviews, {len(tokens[0]):,} tokens, at most {LENGTH} of each"
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    job.report.say("", title)
    job.report.say(f"Batches of {feeding_data.BATCH}, {job.repeats} interleaved turns, medians (and ranges), {load}.")
    job.report.say("Ours encodes the texts in its first epoch; to the others they come encoded.", "")
    job.report.say("| | tokens/s | padding | first epoch, s | batches |", "| --- | --- | --- | --- | --- |")
    for name, one in found.items():
        rates = [value / 1e6 for value in one["tokens/s"]]
        spread = f"{statistics.median(rates):.1f} M ({min(rates):.1f} to {max(rates):.1f})"
        padding, first = statistics.median(one["padding"]), statistics.median(one["first"])
        job.report.say(f"| {name} | {spread} | {padding:.1%} | {first:.2f} | {one['batches']} |")
    job.report.measured["text"] = found


def _permuted(texts: list[str], labels: np.ndarray) -> tuple[list[str], np.ndarray]:
    _, labels, ids = feeding_data.ingested(np.empty(len(labels)), labels)
    return [texts[place] for place in ids.tolist()], labels


def _cut(values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first `LENGTH` tokens of each text."""
    lengths = np.minimum(np.diff(offsets), LENGTH)
    places = np.arange(len(values)) - np.repeat(offsets[:-1], np.diff(offsets))
    return values[places < LENGTH].astype(np.int32), np.append(0, np.cumsum(lengths))


def _write(folder: Path, texts: list[str], labels: np.ndarray) -> None:
    """A dataset of one split, as ingest would lay it out."""
    sizes = byte_lengths(texts)
    layout = plan_layout(len(texts), float(sizes.mean()))
    bounds = [layout.bounds(number) for number in range(layout.shards)]
    plan = Plan(
        name="reviews",
        kind="texts",
        layout=layout,
        recipe={"benchmark": "text", "count": len(texts)},
        classes=("negative", "positive"),
        splits={"train": (0, len(texts))},
        slot_bytes=max(int(sizes[low:high].sum()) for low, high in bounds),
    )
    build = Build(str(folder), plan)
    build.begin()
    for number, (low, high) in enumerate(bounds):
        shard = Shard(texts[low:high], labels[low:high], np.arange(low, high), np.zeros(high - low, np.uint8))
        build.write_shard(number, shard)
    build.finish()
    publish(str(folder), [plan.key])


# --- others


def _longest(values: np.ndarray, offsets: np.ndarray) -> Epochs:
    def epochs(number: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng(number).permutation(len(offsets) - 1)
        for low in range(0, len(order), feeding_data.BATCH):
            rows = order[low : low + feeding_data.BATCH]
            batch = np.zeros((len(rows), int((offsets[rows + 1] - offsets[rows]).max())), np.int32)
            for place, row in enumerate(rows.tolist()):
                found = values[offsets[row] : offsets[row + 1]]
                batch[place, : len(found)] = found
            yield batch

    return epochs


def _beforehand(values: np.ndarray, offsets: np.ndarray) -> Epochs:
    padded = np.zeros((len(offsets) - 1, LENGTH), np.int32)
    lengths = np.diff(offsets)
    padded[np.arange(LENGTH) < lengths[:, None]] = values

    def epochs(number: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng(number).permutation(len(padded))
        for low in range(0, len(order), feeding_data.BATCH):
            yield np.take(padded, order[low : low + feeding_data.BATCH], axis=0)

    return epochs


def _tensorflow(values: np.ndarray, offsets: np.ndarray) -> Epochs:
    from tasks.networks.backend import load_keras

    load_keras()  # it silences what TensorFlow prints when it is loaded
    import tensorflow as tf

    ragged = tf.RaggedTensor.from_row_splits(values, offsets)
    boundaries = list(range(16 + 1, LENGTH + 1, 16))
    dataset = tf.data.Dataset.from_tensor_slices(ragged).shuffle(len(offsets) - 1)
    dataset = dataset.map(lambda row: row, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.bucket_by_sequence_length(
        tf.size, boundaries, [feeding_data.BATCH] * (len(boundaries) + 1), pad_to_bucket_boundary=False
    ).prefetch(tf.data.AUTOTUNE)
    return lambda number: dataset.as_numpy_iterator()


# --- race


def _epoch(batches: Iterable[np.ndarray]) -> dict[str, int]:
    """Touch every token."""
    found = {"tokens": 0, "sum": 0, "places": 0, "batches": 0}
    for batch in batches:
        found["tokens"] += int(np.count_nonzero(batch))
        found["sum"] += int(batch.sum(dtype=np.int64))
        found["places"] += batch.size
        found["batches"] += 1
    return found


def _race(
    job: Job, contenders: dict[str, Callable[[], Epochs]], tokens: tuple[np.ndarray, np.ndarray]
) -> dict[str, dict[str, Any]]:
    expected = {"tokens": len(tokens[0]), "sum": int(tokens[0].sum(dtype=np.int64))}
    found: dict[str, dict[str, Any]] = {name: {"tokens/s": [], "first": [], "padding": []} for name in contenders}
    for turn in range(job.repeats):
        for name, make in contenders.items():
            begun = time.perf_counter()
            epochs = make()
            first = _epoch(epochs(0))
            found[name]["first"].append(time.perf_counter() - begun)
            begun, count, number = time.perf_counter(), 0, 0
            while time.perf_counter() - begun < (0.1 if job.quick else SECONDS):
                number += 1
                one = _epoch(epochs(number))
                count += one["tokens"]
                for what, value in expected.items():
                    if one[what] != value or first[what] != value:
                        raise ValueError(f"{name}: expected {what} {value:,}, received {one[what]:,}")
            found[name]["tokens/s"].append(count / (time.perf_counter() - begun))
            found[name]["padding"].append(1 - one["tokens"] / one["places"])
            found[name]["batches"] = one["batches"]
        job.say(f"turn {turn + 1} of {job.repeats} is over")
    return found
