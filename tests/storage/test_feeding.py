"""Feeds that read ahead, share, hold little memory, are killed: whatever is done, the batches are the same."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage
from storage.feeding import holding, memory

SAMPLE = 15
"""Bytes of an image of the tests."""


@pytest.fixture(scope="module")
def many(tmp_path_factory, builds_at, commit):
    """262 images in two parts, 203 of them in shards of 8, 59 in shards of 3."""
    folder = tmp_path_factory.mktemp("many") / "clean"
    make = builds_at["images"]
    return commit(make(folder, 203), make(folder, 59, (5, 3, 1), 3, 3, seed=1, first_id=203))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, many, builds_at, commit):
    """The same rows, inverted."""
    folder = tmp_path_factory.mktemp("noisy") / "inverted"
    make = builds_at["images"]
    builds = []
    for part, (shard, seed) in zip(many.parts, [(8, 0), (3, 1)], strict=True):
        values = 255 - part.read(0, part.layout.count)
        first = int(part.column("ids", 0, part.layout.count).min())
        builds.append(
            make(folder, part.layout.count, (5, 3, 1), shard, shard, seed=seed, values=values, first_id=first)
        )
    return commit(*builds)


class Shifted:
    """A noise that tells by whom it was made."""

    kind = "images"

    def __call__(self, samples, ids, *, seed=0, epoch=0):
        return samples + (ids + 7 * seed + 31 * epoch).astype(np.uint8).reshape(-1, 1, 1, 1)

    def __str__(self):
        return "Shifted()"


def contents(feed) -> list[dict]:
    """Batches as plain values."""
    return [{name: np.asarray(column).tolist() for name, column in batch.items()} for batch in feed]


def taken(dataset, batch, noise=None, **keys):
    """What a batch must hold, by another way."""
    values = dataset.take(batch["rows"])
    return values if noise is None else noise(values, batch["ids"], **keys)


ways = st.fixed_dictionaries(
    {
        "threads": st.sampled_from([0, 1, 3]),
        "depth": st.sampled_from([None, 1, 5]),
        "memory": st.sampled_from([None, 300 * SAMPLE]),
        "verify": st.sampled_from([None, "first-read", "every-read"]),
    }
)
orders = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([4, 8, 24]),
        "seed": st.integers(0, 2),
        "window": st.sampled_from([1, 40 * SAMPLE, 512 * 2**20]),
        "streams": st.sampled_from([1, 2, 8]),
        "shuffle": st.booleans(),
        "noise": st.sampled_from([None, Shifted()]),
    }
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@quick
@given(orders, ways, st.integers(0, 2))
def test_batches__are_the_same_however_they_are_made(many, order, way, epoch):
    plain = storage.batches(many, **order, epoch=epoch, threads=0)
    with storage.batches(many, **order, **way) as feed:
        next(feed)
        feed.set_epoch(epoch)
        found = list(feed)
        assert len(found) == len(plain)
        for number, batch in enumerate(found):
            expected = plain[number]
            assert batch.keys() == expected.keys()
            for name in batch:
                np.testing.assert_array_equal(batch[name], expected[name])
            values = taken(many, batch, order["noise"], seed=order["seed"], epoch=epoch)
            np.testing.assert_array_equal(batch["values"], values)
            np.testing.assert_array_equal(batch["labels"], many.labels()[batch["rows"]])
        rows = np.concatenate([batch["rows"] for batch in found])
        np.testing.assert_array_equal(np.sort(rows), np.arange(many.rows("train").stop))


@quick
@given(orders, ways, st.sampled_from([2, 4]), st.integers(0, 60), st.data())
def test_load_state_dict__on_other_ranks_goes_on_where_it_was(many, order, way, ranks, step, data):
    order["drop_last"] = True
    whole = contents(storage.batches(many, **order, threads=0))
    step = min(step, len(whole))
    before = data.draw(st.sampled_from([1, 2, 4]))
    feed = storage.batches(many, **order, **way, rank=before - 1, ranks=before)
    for _ in range(step):
        next(feed)
    state = json.loads(json.dumps(feed.state_dict()))
    feed.close()
    parts = []
    for rank in range(ranks):
        with storage.batches(many, **order, **way, rank=rank, ranks=ranks) as feed:
            feed.load_state_dict(state)
            parts.append(contents(feed))
    assert {len(part) for part in parts} == {len(whole) - step}
    for number, expected in enumerate(whole[step:]):
        for name in expected:
            assert [value for part in parts for value in part[number][name]] == expected[name]


def test_load_state_dict__refused_leaves_it_where_it_was(many):
    feed = storage.batches(many, 8)
    whole = contents(storage.batches(many, 8))
    first = contents([next(feed)])
    with pytest.raises(ValueError, match="expected a state with a step from 0 to 23, received 99"):
        feed.load_state_dict({**feed.state_dict(), "epoch": 5, "step": 99})
    with pytest.raises(ValueError, match="expected a state of this dataset"):
        feed.load_state_dict({**feed.state_dict(), "fingerprint": "other"})
    assert first + contents(feed) == whole


def test_load_state_dict__at_every_batch_of_an_epoch(many):
    options = {"batch_size": 12, "window": 40 * SAMPLE, "memory": 300 * SAMPLE}
    whole = contents(storage.batches(many, **options))
    for step in range(len(whole) + 1):
        with storage.batches(many, **options) as feed:
            feed.load_state_dict(feed.state_dict(step=step))
            assert contents(feed) == whole[step:]


@pytest.mark.parametrize("workers", [1, 2, 3, 50])
@pytest.mark.parametrize("taken_before", [0, 3])
def test_part__workers_together_get_each_batch_once_and_in_turn(many, workers, taken_before):
    feed = storage.batches(many, 8, window=40 * SAMPLE, streams=2)
    whole = contents(storage.batches(many, 8, window=40 * SAMPLE, streams=2))
    for _ in range(taken_before):
        next(feed)
    parts = [contents(feed.part(worker, workers)) for worker in range(workers)]
    rest = whole[taken_before:]
    assert [parts[number % workers][number // workers] for number in range(len(rest))] == rest
    assert sum(map(len, parts)) == len(rest)


@pytest.mark.parametrize("workers", [2, 3, 9])
def test_part__of_little_memory_skips_what_others_need(many, workers):
    options = {"window": 1, "streams": 1, "memory": 3 * 8 * SAMPLE, "threads": 1}
    whole = contents(storage.batches(many, 2, **options))
    for worker in range(workers):
        assert contents(storage.batches(many, 2, **options).part(worker, workers)) == whole[worker::workers]


def test_part__never_fills_memory_that_is_still_being_read_into(many, monkeypatch):
    """Runs between two batches of a part are given up: what reads them must be done before others use their slot."""
    read, gate = storage.feeding.held.read_images, threading.Event()

    def slow(dataset, start, out, **options):
        found = np.empty_like(out)
        read(dataset, start, found, **options)
        if start // 8 % 3 == 1:
            gate.wait(0.02)
        out[:] = found

    monkeypatch.setattr("storage.feeding.held.read_images", slow)
    for workers in (2, 3):
        feed = storage.batches(many, 4, window=1, streams=1, memory=6 * 8 * SAMPLE, threads=3).part(1, workers)
        for batch in feed:
            np.testing.assert_array_equal(batch["values"], many.take(batch["rows"]))


def test_part__of_a_part(many):
    feed = storage.batches(many, 8)
    whole = contents(storage.batches(many, 8))
    assert contents(feed.part(1, 2).part(0, 2)) == whole[1::4]
    assert len(feed.part(1, 2).part(0, 2)) == len(whole[1::4])


def test_part__knows_its_place_at_the_end(many):
    feed = storage.batches(many, 8).part(1, 3)
    assert len(list(feed)) == len(feed)
    feed.load_state_dict(feed.state_dict())
    assert not list(feed)


def test_part__of_a_split_that_does_not_fit_as_often_is_not_held(many):
    feed = storage.batches(many, 8, window=40 * SAMPLE, memory=400 * SAMPLE)  # of 183 samples
    assert feed.sizes.whole
    assert feed.part(0, 2).sizes.whole
    assert not feed.part(0, 3).sizes.whole
    assert storage.batches(many, 8, memory=400 * SAMPLE).part(0, 3).sizes.whole  # shuffled as a whole


@pytest.mark.parametrize(("worker", "workers"), [(2, 2), (-1, 2), (0, 0), (0.5, 2)])
def test_part__refuses_what_is_none(many, worker, workers):
    with pytest.raises(ValueError, match="expected a "):
        storage.batches(many, 8).part(worker, workers)


def test_batches__give_targets_of_the_same_rows(many, noisy):
    for window in (512 * 2**20, 40 * SAMPLE):
        for batch in storage.batches(noisy, 8, targets=many, window=window):
            np.testing.assert_array_equal(batch["values"], 255 - batch["targets"])
            np.testing.assert_array_equal(batch["targets"], many.take(batch["rows"]))


def test_batches__give_the_samples_before_noise_as_targets(many):
    feed = storage.batches(many, 8, targets=many, noise=Shifted())
    for batch in feed:
        np.testing.assert_array_equal(batch["targets"], many.take(batch["rows"]))
        np.testing.assert_array_equal(batch["values"], Shifted()(batch["targets"], batch["ids"]))
    np.testing.assert_array_equal(feed[0]["targets"], many.take(feed[0]["rows"]))


def test_batches__refuse_targets_of_other_rows(many, images):
    with pytest.raises(ValueError, match=r"expected the rows of .*, received others; add the noise again"):
        storage.batches(many, 8, targets=images)


@pytest.mark.parametrize("columns", [["labels"], ["values"], ["ids", "rows"], "labels"])
def test_batches__hold_the_columns_that_were_asked_for(many, columns):
    names = [columns] if isinstance(columns, str) else columns
    feed = storage.batches(many, 8, columns=columns, noise=Shifted())
    whole = contents(storage.batches(many, 8, noise=Shifted()))
    assert contents(feed) == [{name: batch[name] for name in names} for batch in whole]
    assert list(feed.signature) == list(feed.columns) == names
    assert contents([feed[3]]) == [{name: whole[3][name] for name in names}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["pixels"]}, "expected columns of .*, received 'pixels'"),
        ({"columns": []}, "expected at least one column of .*, received none"),
        ({"columns": ["targets"]}, "expected targets= for the column 'targets', received none"),
        ({"rank": 2, "ranks": 2}, "expected a rank below ranks=2, received 2"),
        ({"rank": -1, "ranks": 2}, "expected a whole rank of at least 0, received -1"),
        ({"batch_size": 9, "ranks": 2}, "expected a batch size that 2 ranks can share equally, received 9"),
        ({"window": "much"}, "expected window as a number of bytes or a text"),
        ({"window": 0}, "expected window as a number of bytes or a text"),
        ({"memory": -5}, "expected memory as a number of bytes or a text"),
        ({"threads": -1}, "expected a whole threads of at least 0, received -1"),
        ({"depth": 0}, "expected a whole depth of at least 1, received 0"),
        ({"streams": 0}, "expected a whole streams of at least 1, received 0"),
        ({"seed": 0.5}, "expected a whole seed, received 0.5"),
        ({"epoch": "1"}, "expected a whole epoch of at least 0, received '1'"),
        ({"verify": "sometimes"}, "expected verify as one of .*, received 'sometimes'"),
        ({"memory": 100}, "expected memory of at least .* to shuffle 183 samples as a whole, received 100 B"),
        ({"batch_size": 180, "ranks": 4}, "expected a last batch with a sample for each of 4 ranks, received 3"),
        ({"sequences": "bucket"}, "expected sequences as storage.Sequences"),
        ({"sequences": storage.Sequences()}, "expected texts for sequences, received images"),
    ],
)
def test_batches__refuse_what_means_nothing(many, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        storage.batches(many, **{"batch_size": 8, **options})


def test_batches__refuse_less_memory_than_a_batch_needs_before_anything_is_read(many):
    with pytest.raises(ValueError, match=r"expected memory of at least .* runs of up to .*; lower window=, streams="):
        storage.batches(many, 8, window=40 * SAMPLE, memory=2 * 8 * SAMPLE)


def test_batches__need_no_more_memory_than_they_have_by_default(many, monkeypatch):
    monkeypatch.setattr("storage.feeding.sizes.free_memory", lambda: 0)
    for window in (1, 40 * SAMPLE, 90 * SAMPLE):
        for streams in (1, 3, 8):
            for epoch in range(3):
                feed = storage.batches(many, 8, window=window, streams=streams, epoch=epoch)
                assert len(list(feed)) == len(feed)


# Memory


def largest_holding(feed) -> int:
    most = 0
    for _ in feed:
        most = max(most, feed._holding.nbytes)
    return most


@pytest.mark.parametrize("options", [{}, {"window": 40 * SAMPLE, "memory": 120 * SAMPLE, "streams": 2}])
def test_memory__is_not_less_than_what_is_held(many, options):
    for epoch in range(4):
        with storage.batches(many, 8, epoch=epoch, **options) as feed:
            told = feed.memory
            assert 0 < largest_holding(feed) <= told
    if options:
        assert largest_holding(storage.batches(many, 8, **options)) <= 120 * SAMPLE


MEASURE = """
import sys, resource, storage
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
dataset = storage.open_dataset(sys.argv[1])
for batch in storage.batches(dataset, 64, split="test"):  # everything is loaded that is loaded once
    pass
before = peak()
feed = storage.batches(dataset, 64, window="8 MiB", memory="24 MiB", streams=2)
told, count = feed.memory, 0
for batch in feed:
    count += len(batch["ids"])
print(told, peak() - before, count)
"""


def test_memory__of_a_process_stays_below_what_was_told(tmp_path, image_build, commit):
    count, shape = 3000, (128, 256, 1)  # 98 MB
    splits = {"train": (0, 2990), "test": (2990, 3000)}
    values = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    dataset = commit(image_build(count, shape, 32, 32, values=values, splits=splits))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, dataset.path], capture_output=True, text=True, check=True, timeout=120
    )
    told, grown, samples = map(int, done.stdout.split())
    assert samples == 2990
    assert told < 25 * 2**20
    assert grown <= told + 8 * 2**20  # threads' stacks, and the allocator's own


def test_batches__of_dropped_batches_use_their_memory_again(many, monkeypatch):
    made = []
    allocate = memory._allocate
    monkeypatch.setattr(memory, "_allocate", lambda size: made.append(size) or allocate(size))
    for _ in storage.batches(many, 4, threads=0):
        pass
    assert len(made) <= 5  # of 46 batches


def test_batches__that_are_kept_stay_as_they_were(many):
    kept = list(storage.batches(many, 4))
    for batch in kept:
        np.testing.assert_array_equal(batch["values"], many.take(batch["rows"]))
    assert len({batch["values"].ctypes.data for batch in kept}) == len(kept)


def test_set_epoch__reads_nothing_again_of_a_split_that_is_held(many, monkeypatch):
    feed = storage.batches(many, 8)
    list(feed)
    monkeypatch.setattr("storage.feeding.held.read_images", None)
    feed.set_epoch(1)
    assert len(list(feed)) == len(feed)


@pytest.mark.parametrize(("share", "keep"), [(1.0, False), (4.0, True)])
def test_batches__of_data_larger_than_half_the_memory_do_not_fill_it_with_pages(many, monkeypatch, share, keep):
    class Memory:
        total = int(182 * SAMPLE * share)

    given = set()
    monkeypatch.setattr(holding.psutil, "virtual_memory", lambda: Memory)
    read = storage.feeding.held.read_images
    monkeypatch.setattr(
        "storage.feeding.held.read_images", lambda *a, keep, **k: given.add(keep) or read(*a, keep=keep, **k)
    )
    list(storage.batches(many, 8, window=40 * SAMPLE, memory=120 * SAMPLE))
    assert given == {keep}


@pytest.mark.parametrize(
    "sequences", [None, storage.Sequences(length=16), storage.Sequences(length=16, batching="pad")]
)
@pytest.mark.parametrize("keep", [True, False])
def test_batches__of_texts_larger_than_half_the_memory_do_not_fill_it_with_pages(texts, monkeypatch, sequences, keep):
    class Memory:
        available, total = 2**30, 4 * texts.nbytes if keep else 50

    given = set()
    monkeypatch.setattr(holding.psutil, "virtual_memory", lambda: Memory)
    read = storage.part.Part.read_slot
    monkeypatch.setattr(
        storage.part.Part, "read_slot", lambda *a, keep, **k: given.add(keep) or read(*a, keep=keep, **k)
    )
    list(storage.batches(texts, 4, sequences=sequences))
    assert given == {keep}


# Damage


def flip(dataset, shard: int) -> None:
    part = dataset.parts[0]
    path = part.store.path(part._data_key(shard))
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("verify", ["first-read", "every-read"])
@pytest.mark.parametrize("options", [{}, {"window": 40 * SAMPLE, "memory": 120 * SAMPLE}, {"noise": Shifted()}])
def test_verify__a_damaged_shard_stops_the_feed_and_none_of_it_comes_out(image_build, commit, verify, options):
    dataset = commit(image_build(203))
    flip(dataset, 9)
    feed, rows = storage.batches(dataset, 4, verify=verify, **options), []
    with pytest.raises(storage.StorageError, match=r"damaged shard 9 of 'clean' \(.*c\.9\.0\.0\.0\)"):
        rows.extend(row for batch in feed for row in batch["rows"].tolist())
    assert not set(rows) & set(range(72, 80))
    with pytest.raises(storage.StorageError, match="damaged shard 9"):
        next(feed)  # not the batch from memory that was never filled
    with pytest.raises(storage.StorageError, match="damaged shard 9"):
        [feed[step] for step in range(len(feed))]


@pytest.mark.parametrize("column", ["labels", "ids"])
def test_verify__damaged_columns_stop_the_feed(image_build, commit, column):
    dataset = commit(image_build(50))
    part = dataset.parts[0]
    path = part.store.path(f"{part.key}/data.zarr/{column}/c.0")
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(storage.StorageError, match=rf"damaged .*{column}/c\.0: its bytes are not those"):
        list(storage.batches(dataset, 4, verify="first-read"))
    assert list(storage.batches(dataset, 4))


def test_verify__kept_files_are_in_memory_once_they_were_compared(file_build, commit):
    dataset = commit(file_build(40))
    whole = contents(storage.batches(dataset, 4))
    feed = storage.batches(dataset, 4, verify="every-read", threads=0)
    first = contents([next(feed)])
    for shard in range(dataset.shards):
        flip(dataset, shard)
    assert first + contents(feed) == whole


def test_verify__of_texts(text_build, commit):
    dataset = commit(text_build([f"text {i}" for i in range(50)], 7))
    flip(dataset, 2)
    with pytest.raises(storage.StorageError, match="damaged shard 2"):
        list(storage.batches(dataset, 4, verify="first-read"))


def test_batches__a_lost_shard_stops_the_feed(image_build, commit):
    dataset = commit(image_build(203))
    dataset.parts[0].store.remove(dataset.parts[0]._data_key(3))
    with pytest.raises(storage.StorageError, match="missing shard 3 of 'clean'"):
        list(storage.batches(dataset, 4))


def test_batches__go_on_after_the_damage_was_mended(image_build, commit):
    dataset = commit(image_build(203))
    flip(dataset, 9)
    feed = storage.batches(dataset, 4, verify="first-read")
    with pytest.raises(storage.StorageError):
        list(feed)
    flip(dataset, 9)
    feed.set_epoch(0)
    assert contents(feed) == contents(storage.batches(dataset, 4))


def test_batches__a_noise_that_fails_stops_the_feed_with_its_own_error(many):
    class Failing(Shifted):
        def __call__(self, samples, ids, *, seed=0, epoch=0):
            raise ArithmeticError("no noise today")

    with pytest.raises(ArithmeticError, match="no noise today"):
        list(storage.batches(many, 4, noise=Failing()))


def test_batches__go_on_after_an_interruption(many, monkeypatch):
    feed = storage.batches(many, 8, threads=0)
    first = contents([next(feed)])
    with monkeypatch.context() as context:
        context.setattr("storage.feeding.memory.Buffers.take", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(feed)
    assert first + contents(feed) == contents(storage.batches(many, 8))


def test_batches__go_on_after_an_interruption_was_interrupted(many, monkeypatch):
    feed = storage.batches(many, 8, threads=0)
    first = contents([next(feed)])
    interrupt = lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    with monkeypatch.context() as context:
        context.setattr("storage.feeding.memory.Buffers.take", interrupt)
        context.setattr("storage.feeding.running.Run.stop", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(feed)
    assert first + contents(feed) == contents(storage.batches(many, 8))


def test_state_dict__of_a_noise_that_prints_as_a_place_in_memory(many):
    class Silent:
        kind = "images"

        def __call__(self, samples, ids, *, seed=0, epoch=0):
            return samples

    def plain(samples, ids, *, seed=0, epoch=0):
        return samples

    for one, other in ((Silent(), Silent()), (plain, plain)):
        storage.batches(many, 8, noise=one).load_state_dict(storage.batches(many, 8, noise=other).state_dict())
        assert " at 0x" in str(one)
    with pytest.raises(ValueError, match="expected a state of this dataset"):
        storage.batches(many, 8, noise=plain).load_state_dict(storage.batches(many, 8, noise=Silent()).state_dict())


@pytest.mark.parametrize("noise", [None, lambda samples, ids, **_: samples, lambda samples, ids, **_: samples[:]])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches__values_and_targets_are_never_one_array(many, noise, threads):
    batch = next(storage.batches(many, 8, targets=many, noise=noise, threads=threads))
    assert not np.shares_memory(batch["values"], batch["targets"])
    batch["values"][:] = 0
    np.testing.assert_array_equal(batch["targets"], many.take(batch["rows"]))


def test_memory__of_kept_files_counts_decoded_batches(file_build, commit):
    dataset = commit(file_build(40, (64, 64, 3)))
    feed = storage.batches(dataset, 8, depth=8)
    assert feed.memory > 8 * 8 * 64 * 64 * 3


# Processes and threads


def test_close__ends_the_threads_and_iterating_goes_on_where_it_was(many):
    before = set(threading.enumerate())
    feed = storage.batches(many, 8, threads=2, window=40 * SAMPLE, memory=120 * SAMPLE)
    first = contents([next(feed)])
    started = set(threading.enumerate()) - before
    assert started
    feed.close()
    assert not any(thread.is_alive() for thread in started)
    assert first + contents(feed) == contents(storage.batches(many, 8, window=40 * SAMPLE))


def test_batches__that_are_dropped_leave_no_threads(many):
    before = set(threading.enumerate())
    feed = storage.batches(many, 8, threads=2)
    next(feed)
    started = set(threading.enumerate()) - before
    assert started
    del feed
    gc.collect()
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_batches__can_be_pickled_in_the_middle(many):
    feed = storage.batches(many, 8, window=40 * SAMPLE, noise=Shifted())
    next(feed)
    copy = pickle.loads(pickle.dumps(feed))
    assert contents(copy) == contents(feed)


def send(feed, pipe) -> None:
    pipe.send(contents(feed))
    pipe.close()


@pytest.mark.parametrize("options", [{"noise": Shifted()}, {"window": 40 * SAMPLE, "memory": 120 * SAMPLE}])
# Python warns of threads in a process that forks, from 3.12 on; that it works here is what is tested.
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_batches__go_on_in_a_child_of_a_process_that_began(many, options):
    feed = storage.batches(many, 8, threads=2, **options)
    next(feed)
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=send, args=(feed, there))
    child.start()
    assert here.poll(60)
    found = here.recv()
    child.join(60)
    assert found == contents(feed)


def test_batches__from_an_object_store(builds_at, commit, memory_location):
    dataset = commit(builds_at["images"](memory_location(), 50))
    for batch in storage.batches(dataset, 8, window=20 * SAMPLE, verify="first-read"):
        np.testing.assert_array_equal(batch["values"], dataset.take(batch["rows"]))


def test_waited__counts_what_the_consumer_waited_for(many):
    feed = storage.batches(many, 8)
    assert feed.waited == 0
    list(feed)
    waited = feed.waited
    assert waited > 0
    feed.set_epoch(1)
    list(feed)
    assert feed.waited == waited  # all is in memory


def test_gather__is_one_copy_into_memory_that_is_used_again(many):
    feed = storage.batches(many, 8, threads=0)
    batch = next(feed)
    where = batch["values"].ctypes.data
    assert where % 64 == 0 and batch["values"].flags.c_contiguous and batch["values"].flags.writeable
    del batch
    assert next(feed)["values"].ctypes.data == where


TRAIN = """
import json, os, sys, storage
folder = sys.argv[1]
feed = storage.batches(sys.argv[2], 8, window=600, memory=1800, noise=None)
for epoch in range(1000):
    for batch in feed:
        with open(f"{folder}/log", "a") as log:
            print(json.dumps([feed.epoch, batch["ids"].tolist()]), file=log, flush=True)
        if feed.step % 3 == 0:
            with open(f"{folder}/state.new", "w") as file:
                json.dump(feed.state_dict(), file)
            os.replace(f"{folder}/state.new", f"{folder}/state")
    feed.set_epoch(epoch + 1)
"""


def test_kill__what_remains_is_exactly_what_was_not_consumed(many, tmp_path):
    """Killed in the middle of an epoch and started again from the last checkpoint: no sample twice, none left out."""
    child = subprocess.Popen([sys.executable, "-c", TRAIN, str(tmp_path), many.path])
    try:
        log = tmp_path / "log"
        while not (log.exists() and len(log.read_text().splitlines()) > 80):  # in its fourth epoch
            assert child.poll() is None
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        child.wait(30)
    state = json.loads((tmp_path / "state").read_text())
    consumed = [json.loads(line) for line in log.read_text().splitlines()[: _batches_before(state)]]
    resumed = storage.batches(many, 8, window=600, memory=1800)
    resumed.load_state_dict(state)
    rest = [batch["ids"].tolist() for batch in resumed]
    this_epoch = [numbers for epoch, numbers in consumed if epoch == state["epoch"]]
    uninterrupted = [batch["ids"].tolist() for batch in storage.batches(many, 8, window=600, epoch=state["epoch"])]
    assert state["step"] and this_epoch + rest == uninterrupted
    everything = sorted(number for batch in this_epoch + rest for number in batch)
    assert everything == sorted(many.ids()[many.rows("train")].tolist())


def _batches_before(state: dict) -> int:
    return state["epoch"] * 23 + state["step"]
