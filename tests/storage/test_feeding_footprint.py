"""A feed of texts takes no more memory than it tells, however long they are and however they are encoded."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

import storage
from storage.feeding.order import EpochOrder
from storage.feeding.sequences import PIECE_BYTES, PackedOrder, Sequences, pieces_of
from storage.feeding.sizes import BEYOND

SAMPLE = 15

MEASURE = """
import sys, storage
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
def words(texts):
    return [[1 + len(word) for word in text.split()] for text in texts]
dataset = storage.open_dataset(sys.argv[1])
sequences, rest = eval(sys.argv[2], {"Sequences": storage.Sequences, "words": words})
for _ in storage.batches(dataset, 64, split="test", sequences=sequences):  # what is loaded once
    pass
feed = storage.batches(dataset, 64, sequences=sequences, **rest)
before, told, count = peak(), feed.memory, 0
for _ in range(2):
    for batch in feed:
        count += len(batch["ids"])
    feed.set_epoch(1)
print(max(told, feed.memory), peak() - before, count)
"""


@pytest.fixture(scope="module")
def many_texts(tmp_path_factory, builds_at, commit):
    """24 MB in few large shards, as they are when a shard holds 2,000 texts."""
    words = [f"{number:06x}" for number in np.random.default_rng(0).integers(0, 1 << 24, 3000).tolist()]
    lengths = np.random.default_rng(1).integers(60, 220, 24_000).tolist()
    texts = [" ".join(words[(7 * n) % 2000 :][:length]) for n, length in enumerate(lengths)]
    splits = {"train": (0, 23_990), "test": (23_990, 24_000)}
    return commit(builds_at["texts"](tmp_path_factory.mktemp("texts") / "many", texts, 2000, splits=splits))


@pytest.fixture(scope="module")
def long_texts(tmp_path_factory, builds_at, commit):
    """Short ones, and neighbours of 200 kB: the slot of every shard is as large as the largest."""
    long = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 200_000).tolist()))
    texts = [long[n:] + long[:n] if 1000 <= n < 1128 else f"a b c {n}" for n in range(3000)]
    splits = {"train": (0, 2990), "test": (2990, 3000)}
    return commit(builds_at["texts"](tmp_path_factory.mktemp("texts") / "long", texts, 64, splits=splits))


@pytest.mark.parametrize(
    "options",
    [
        "None, {}",
        "None, {'window': '4 MiB', 'streams': 2, 'memory': '16 MiB'}",
        "Sequences(length=64), {}",
        "Sequences(words, length=256), {}",
        "Sequences(words, length=256, batching='pack'), {}",
        "Sequences(words, length=256), {'window': '4 MiB', 'streams': 2, 'memory': '24 MiB'}",
    ],
)
def test_memory__of_many_texts(many_texts, options):
    holds_what_it_tells(many_texts, options, 60 * 2**20)


@pytest.mark.parametrize(
    "options",
    [
        "Sequences(length=256), {'window': '2 MiB', 'memory': '24 MiB'}",
        "Sequences(length=256, batching='pack'), {}",
        "None, {}",
    ],
)
def test_memory__of_long_texts(long_texts, options):
    holds_what_it_tells(long_texts, options, 140 * 2**20)


def holds_what_it_tells(dataset, options, most):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, dataset.path, options], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told, grown, samples = map(int, done.stdout.split())
    assert samples == 2 * len(range(*dataset.rows("train").indices(dataset.count)))
    assert told < most
    assert grown <= told + 12 * 2**20  # threads' stacks, and what the allocator keeps of what was freed


@pytest.fixture(scope="module")
def pages(tmp_path_factory, builds_at, commit):
    """6 MB in texts of 20 to 40 kB, which fill most of a batch."""
    lengths = np.random.default_rng(0).integers(20_000, 40_000, 200).tolist()
    texts = [f"{number:06d}" + "x" * length for number, length in enumerate(lengths)]
    splits = {"train": (0, 200)}
    return commit(builds_at["texts"](tmp_path_factory.mktemp("pages") / "pages", texts, 20, splits=splits))


@pytest.mark.parametrize("batching", ["pad", "bucket", "pack"])
@pytest.mark.parametrize("threads", [0, 4])
@pytest.mark.parametrize("memory", [None, "96 MiB"])
def test_memory__counts_what_gathering_tokens_takes(pages, batching, threads, memory):
    sequences, size = Sequences(length=32768, batching=batching), 16 if batching == "pack" else 64
    feed = storage.batches(pages, size, sequences=sequences, threads=threads, memory=memory)
    assert memory is None or feed.memory < 97 * 2**20
    assert peak_of(feed) < feed.memory


def peak_of(feed):
    """Bytes that an epoch takes at once."""
    gc.collect()
    tracemalloc.start()
    try:
        for _ in feed:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        feed.close()


def test_memory__counts_the_pool_of_buckets(builds_at, commit, tmp_path):
    texts = ["x" * length for length in np.random.default_rng(0).integers(0, 6, 60_000).tolist()]
    dataset = commit(builds_at["texts"](tmp_path / "short", texts, 20_000, splits={"train": (0, 60_000)}))
    small, large = (
        storage.batches(dataset, 64, sequences=Sequences(length=16, pool=pool), threads=0) for pool in (1, 1000)
    )
    assert large.memory - small.memory > 80 * 60_000
    assert peak_of(large) < large.memory


@pytest.fixture(scope="module", params=["images", "texts"])
def tiny_shards(request, tmp_path_factory, builds_at, commit):
    """4,500 samples in 1,500 shards."""
    arguments = [4500, (4, 4, 1), 3, 3] if request.param == "images" else [[f"text {n}" for n in range(4500)], 3]
    return commit(
        builds_at[request.param](tmp_path_factory.mktemp("tiny") / "tiny", *arguments, splits={"train": (0, 4500)})
    )


@pytest.mark.parametrize("verify", [None, "first-read"])
@pytest.mark.parametrize("options", [{}, {"window": "8 KiB", "streams": 2, "memory": "256 KiB"}])
def test_memory__counts_what_many_tiny_shards_take(tiny_shards, options, verify):
    feed = storage.batches(tiny_shards, 64, verify=verify, **options)
    assert peak_of(feed) < feed.memory + 2**21  # of which much is what the collector has not seen to yet


def test_targets__leave_no_ids_in_memory(builds_at, commit, tmp_path):
    count, shape = 300_000, (1, 1, 1)
    values = np.zeros((count, *shape), np.uint8)
    one, other = (
        commit(
            builds_at["images"](tmp_path / name, count, shape, 2**14, 2**14, values=found, splits={"train": (0, count)})
        )
        for name, found in (("one", values), ("other", values + 1))
    )
    gc.collect()
    tracemalloc.start()
    try:
        feed = storage.batches(one, 64, targets=other, columns=["values", "targets"], window="16 KiB", streams=2)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < count and peak < 8 * count  # ids of one are eight bytes each
    np.testing.assert_array_equal(next(feed)["targets"], 1)


def test_packed_order__takes_no_more_than_its_rows():
    count = 300_000
    lengths = np.random.default_rng(0).integers(1, 300, count)
    order = EpochOrder(np.array([0, count]), 64, seed=0, epoch=0, version="v", shuffle=False)
    tracemalloc.start()
    try:
        PackedOrder(order, lengths, 0, 256, seed=0, epoch=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PackedOrder.ROW_BYTES * count + 16 * 2**20


def test_pieces_of__few_large_many_small():
    sizes = [10, PIECE_BYTES, 5, 5, 3 * PIECE_BYTES, 0, 1]
    assert pieces_of(sizes) == [(0, 1), (1, 2), (2, 4), (4, 5), (5, 7)]
    assert pieces_of([]) == []


def test_sequences__encode_large_texts_a_piece_at_a_time():
    seen = []

    def encode(texts):
        seen.append(len(texts))
        return [[len(text)] for text in texts]

    texts = ["a" * (PIECE_BYTES // 2 + 1)] * 3 + ["b"] * 5
    values, offsets = Sequences(encode).tokens(texts)
    assert values.tolist() == [len(text) for text in texts] and offsets.tolist() == list(range(9))
    assert seen == [1, 1, 6]


# Depth


@pytest.mark.parametrize("depth", [1, 10, 10**9])
def test_depth__takes_no_more_than_an_epoch_or_the_memory(images, depth):
    feed = storage.batches(images, 4, depth=depth, noise=same, threads=2)
    steps = len(feed)
    assert feed.sizes.groups * feed.sizes.group <= max(2, steps + BEYOND)
    limited = storage.batches(images, 4, depth=depth, noise=same, threads=2, memory=80 * SAMPLE)
    assert limited.sizes.ahead + limited.sizes.footprint.total <= 80 * SAMPLE
    assert [batch["rows"].tolist() for batch in limited] == [batch["rows"].tolist() for batch in feed]


def same(samples, ids, *, seed, epoch):
    return samples


# What is not asked for


@pytest.mark.parametrize("columns", ["labels", "ids", ("rows", "labels")])
def test_columns__without_samples_read_none(builds_at, commit, tmp_path, columns):
    dataset = commit(builds_at["images"](tmp_path / "images", 50, (5, 3, 1), 8))
    expected = [batch["rows"].tolist() for batch in storage.batches(dataset, 8, seed=3, columns=("rows",))]
    for file in (tmp_path / "images").rglob("images/c*"):
        file.unlink()
    feed = storage.batches(dataset, 8, seed=3, columns=columns)
    found = list(feed)
    assert feed.memory < 50 * 15 + 50 * 100 and not feed._holding.nbytes
    assert [set(batch) for batch in found] == [set([columns] if isinstance(columns, str) else columns)] * len(expected)
    if "rows" in columns:
        assert [batch["rows"].tolist() for batch in found] == expected


def test_columns__of_sequences_without_samples(texts):
    sequences = Sequences(length=8, batching="bucket", pool=2)
    whole = storage.batches(texts, 4, sequences=sequences)
    rows = storage.batches(texts, 4, sequences=sequences, columns=("rows",))
    assert [batch["rows"].tolist() for batch in rows] == [batch["rows"].tolist() for batch in whole]
