"""What a feed is given that means nothing is refused, with what was expected and what came."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass

import numpy as np
import pytest

import storage
from storage.adapters.arrays import to_dask, to_xarray


class Shift:
    """A noise that prints as a place in memory."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, samples, ids, *, seed, epoch):
        return samples + np.uint8(self.by)


@dataclass
class Repeated:
    """A noise that holds another."""

    noise: object

    def __call__(self, samples, ids, *, seed, epoch):
        return self.noise(self.noise(samples, ids, seed=seed, epoch=epoch), ids, seed=seed, epoch=epoch)


def shift(samples, ids, *, seed, epoch, by):
    return samples + np.uint8(by)


def lengths_of(texts, one):
    return [[one] * len(text) for text in texts]


# States


@pytest.mark.parametrize("make", [Shift, lambda by: functools.partial(shift, by=by)], ids=["object", "partial"])
def test_load_state_dict__refuses_another_noise_that_prints_as_an_address(images, make):
    state = storage.batches(images, 8, noise=make(1)).state_dict()
    storage.batches(images, 8, noise=make(1)).load_state_dict(state)
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        storage.batches(images, 8, noise=make(2)).load_state_dict(state)


@dataclass
class Table:
    """A noise that prints shortened, as long arrays do."""

    table: np.ndarray

    def __call__(self, samples, ids, *, seed, epoch):
        return samples + self.table[ids].reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("wrap", [lambda noise: noise, lambda noise: functools.partial(noise), Repeated])
def test_load_state_dict__refuses_another_noise_that_prints_alike(images, wrap):
    one, other = np.zeros(2000, np.uint8), np.zeros(2000, np.uint8)
    other[500:1500] = 77
    assert str(Table(one)) == str(Table(other))
    state = storage.batches(images, 8, noise=wrap(Table(one))).state_dict()
    storage.batches(images, 8, noise=wrap(Table(one.copy()))).load_state_dict(state)
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        storage.batches(images, 8, noise=wrap(Table(other))).load_state_dict(state)


@pytest.mark.parametrize("wrap", [lambda noise: noise, lambda noise: functools.partial(noise), Repeated])
def test_load_state_dict__refuses_another_version_of_a_noise(images, monkeypatch, wrap):
    from tasks.noise import Gaussian

    state = storage.batches(images, 8, noise=wrap(Gaussian(severity=3))).state_dict()
    storage.batches(images, 8, noise=wrap(Gaussian(severity=3))).load_state_dict(state)
    monkeypatch.setattr(Gaussian, "version", Gaussian.version + 1)
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        storage.batches(images, 8, noise=wrap(Gaussian(severity=3))).load_state_dict(state)


def test_load_state_dict__knows_what_cannot_be_described_by_how_it_prints(images):
    class Locked(Shift):
        def __init__(self, by):
            super().__init__(by)
            self.lock = threading.Lock()

        def __str__(self):
            return f"Locked({self.by})"

    state = storage.batches(images, 8, noise=Locked(1)).state_dict()
    storage.batches(images, 8, noise=Locked(1)).load_state_dict(state)
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        storage.batches(images, 8, noise=Locked(2)).load_state_dict(state)


def test_load_state_dict__refuses_another_encode_with_equal_lengths(texts):
    def feed(one):
        return storage.batches(texts, 4, sequences=storage.Sequences(functools.partial(lengths_of, one=one)))

    state = feed(1).state_dict()
    feed(1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"sequences \(with encode\)"):
        feed(2).load_state_dict(state)


def test_state_dict__of_a_noise_that_cannot_be_described(images):
    class Locked(Shift):
        def __init__(self):
            super().__init__(0)
            self.lock = threading.Lock()

    feed = storage.batches(images, 8, noise=Locked())
    next(feed)
    with pytest.raises(TypeError, match="expected a noise that can be told from another by a state"):
        feed.state_dict()


@pytest.mark.parametrize("state", [None, [], "x", 5])
def test_load_state_dict__refuses_what_is_no_dict(images, state):
    with pytest.raises(TypeError, match="expected a state, a dict that state_dict gave, received"):
        storage.batches(images, 8).load_state_dict(state)


def test_load_state_dict__refuses_a_fingerprint_that_is_an_array(images):
    with pytest.raises(ValueError, match="expected a state of this dataset"):
        storage.batches(images, 8).load_state_dict({"epoch": 0, "step": 0, "fingerprint": np.zeros(3)})


def test_state_dict__of_numpys_truths_is_json(images):
    feed = storage.batches(images, 8, drop_last=np.True_, shuffle=np.False_)
    state = json.loads(json.dumps(feed.state_dict()))
    storage.batches(images, 8, drop_last=True, shuffle=False).load_state_dict(state)


def test_state_dict__refuses_a_step_that_no_epoch_has(images):
    feed = storage.batches(images, 8)
    assert feed.state_dict(np.int64(5))["step"] == len(feed)
    with pytest.raises(ValueError, match="expected a whole step of at most 5, received 1000000000"):
        feed.state_dict(10**9)


def test_load_state_dict__takes_numpys_numbers(images):
    feed = storage.batches(images, 8)
    feed.load_state_dict({**feed.state_dict(), "epoch": np.int64(2), "step": np.int64(3)})
    assert json.dumps([feed.epoch, feed.step]) == "[2, 3]"
    for step in (np.int64(6), True, 1.0, None):
        with pytest.raises(ValueError, match="expected a state with a step from 0 to 5, received"):
            feed.load_state_dict({**feed.state_dict(), "step": step})
    assert (feed.epoch, feed.step) == (2, 3)


# Options


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"shuffle": "no"}, ValueError, "expected shuffle as True or False, received 'no'"),
        ({"drop_last": 1}, ValueError, "expected drop_last as True or False, received 1"),
        ({"epoch": -1}, ValueError, "expected a whole epoch of at least 0, received -1"),
        ({"epoch": 2**70}, ValueError, "expected a whole epoch of at most"),
        ({"columns": 3}, TypeError, "expected columns as names"),
        ({"noise": "gauss"}, TypeError, "expected a noise, such as .* received 'gauss'"),
        ({"noise": 3}, TypeError, "expected a noise, such as .* received 3"),
        ({"batch_size": 10**30}, ValueError, "expected a whole batch size of at most"),
        ({"batch_size": np.array([4, 8])}, ValueError, "expected a whole batch size of at least 1, received array"),
        ({"batch_size": [4]}, ValueError, r"expected a whole batch size of at least 1, received \[4\]"),
        ({"window": ""}, ValueError, "expected window as a number of bytes or a text .* received ''"),
        ({"window": "MiB"}, ValueError, "expected window as a number of bytes or a text .* received 'MiB'"),
        ({"window": "1e400"}, ValueError, "expected window as a number of bytes or a text .* received '1e400'"),
        ({"memory": "1e400 MiB"}, ValueError, "expected memory as a number of bytes or a text .* received"),
        ({"split": ["train"]}, TypeError, "expected split as a name such as 'train', received"),
        ({"verify": np.array(["a", "b"])}, ValueError, "expected verify as one of .* received array"),
        ({"verify": ["first-read"]}, ValueError, "expected verify as one of .* received"),
        ({"noise": Shift}, TypeError, "expected a noise, such as .* received <class .*Shift'>"),
        ({"targets": 5}, TypeError, "expected a path or a URL, received 5"),
        ({"dataset": None}, TypeError, "expected a path or a URL, received None"),
    ],
)
def test_batches__refuse(images, options, kind, message):
    with pytest.raises(kind, match=message):
        storage.batches(**{"dataset": images, **options})


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("batching", [None, "pad", "pack"])
def test_batches__refuse_to_drop_the_only_batch(texts, ranks, batching):
    sequences = storage.Sequences(batching=batching) if batching else None
    with pytest.raises(ValueError, match="at least batch_size=36 samples in train for drop_last=True, received 35"):
        storage.batches(texts, 36, drop_last=True, ranks=ranks, sequences=sequences)
    assert len(storage.batches(texts, 36)) == 1


def test_batches__refuse_to_drop_the_only_batch_of_packed_rows(texts):
    feed = storage.batches(texts, 35, drop_last=True, sequences=storage.Sequences(batching="pack"))
    for use in (next, len, lambda feed: feed[0]):
        with pytest.raises(ValueError, match=r"at least batch_size=35 packed rows for drop_last=True, received \d"):
            use(feed)


@pytest.mark.parametrize("fill", ["a", None, 2**40, 1.5, True])
def test_sequences__refuse_a_fill_that_is_no_token(fill):
    with pytest.raises(ValueError, match="expected fill as a whole number of 32 bits"):
        storage.Sequences(fill=fill)


@pytest.mark.parametrize("name", ["pool", "length", "step"])
def test_sequences__refuse_sizes_that_overflow(name):
    with pytest.raises(ValueError, match=f"expected {name} of at most 2,147,483,647, received 4611686018427387904"):
        storage.Sequences(**{name: 2**62})


def test_sequences__take_tokens_from_a_generator(texts):
    listed = storage.Sequences(lambda found: [[len(text)] for text in found])
    lazy = storage.Sequences(lambda found: ([len(text)] for text in found))
    one, other = (next(storage.batches(texts, 4, sequences=sequences)) for sequences in (listed, lazy))
    np.testing.assert_array_equal(one["values"], other["values"])


@pytest.mark.parametrize("result", [5, None, [1, 2]])
def test_sequences__refuse_what_encode_gives(texts, result):
    feed = storage.batches(texts, 4, sequences=storage.Sequences(lambda found: result, batching="pad"))
    with pytest.raises(ValueError, match="expected sequences of whole numbers, received"):
        next(feed)


@pytest.mark.parametrize("adapter", ["to_keras", "to_tensorflow"])
@pytest.mark.parametrize("feed", [5, None, "clean"])
def test_adapters__refuse_what_is_no_feed(adapter, feed):
    with pytest.raises(TypeError, match=r"expected a feed, which storage\.batches"):
        getattr(storage, adapter)(feed)


# Noise


@pytest.mark.parametrize(
    ("noise", "received"),
    [
        (lambda x, ids, **_: x[1:], r"uint8 of shape \(\d, 5, 3, 1\)"),
        (lambda x, ids, **_: x.astype(float), "float64 of shape"),
        (lambda x, ids, **_: x[:, :3], r"uint8 of shape \(8, 3, 3, 1\)"),
        (lambda x, ids, **_: None, "a NoneType"),
    ],
    ids=["fewer", "floats", "smaller", "none"],
)
@pytest.mark.parametrize("threads", [0, 2])
def test_noise__that_gives_something_else_is_refused(images, noise, received, threads):
    feed = storage.batches(images, 8, noise=noise, threads=threads, depth=1)
    with pytest.raises(ValueError, match=rf"to give uint8 of shape \(8, 5, 3, 1\), as it got, received {received}"):
        next(feed)
    with pytest.raises(ValueError, match="as it got"):
        _ = feed[0]


@pytest.mark.parametrize("noise", [lambda x, ids, **_: x[1:], lambda x, ids, **_: [None for _ in x]])
def test_noise__of_texts_that_gives_something_else_is_refused(texts, noise):
    with pytest.raises(ValueError, match="to give a list of 4 str, as it got, received a list of"):
        next(storage.batches(texts, 4, noise=noise, threads=0))


@pytest.mark.parametrize("batching", ["bucket", "pad", "pack"])
@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("who", ["noise", "encode"])
def test_batches__stop_iteration_of_a_users_function_does_not_end_the_epoch(texts, batching, threads, who):
    def stop(*arguments, **options):
        return next(iter([]))

    sequences = storage.Sequences(stop if who == "encode" else None, batching=batching)
    feed = storage.batches(texts, 4, sequences=sequences, noise=stop if who == "noise" else None, threads=threads)
    with pytest.raises(RuntimeError, match="received StopIteration"):
        list(feed)
    with pytest.raises(RuntimeError, match="received StopIteration"):
        _ = feed[0]


# Columns


@pytest.mark.parametrize("name", ["labels", "ids"])
def test_to_dask__verified_refuses_a_damaged_column(builds_at, commit, tmp_path, name):
    dataset = commit(builds_at["images"](tmp_path / "images", 50, (5, 3, 1), 8))
    (file,) = (tmp_path / "images").rglob(f"{name}/c.0")
    data = bytearray(file.read_bytes())
    data[80] ^= 1
    file.write_bytes(data)
    to_dask(dataset)[name].compute(scheduler="sync")  # not looked at
    with pytest.raises(storage.StorageError, match=rf"damaged .*{name}/c\.0"):
        to_dask(dataset, verify=True)[name].compute(scheduler="sync")
    with pytest.raises(storage.StorageError, match=rf"damaged .*{name}/c\.0"):
        to_xarray(dataset, verify=True)[name].compute(scheduler="sync")


@pytest.mark.parametrize("verify", [None, "first-read"])
@pytest.mark.parametrize("name", ["images/c.1.0.0.0", "labels/c.0"])
def test_batches__a_folder_in_place_of_a_file_is_damage(image_build, commit, verify, name):
    dataset = commit(image_build(50))
    path = dataset.parts[0].store.path(f"{dataset.parts[0].key}/data.zarr/{name}")
    path.unlink()
    path.mkdir()
    with pytest.raises(storage.StorageError, match=rf"damaged .*{name}.*: expected a file, found a folder; run verify"):
        list(storage.batches(dataset, 4, verify=verify))


# Closing


def test_close__from_another_thread_is_no_fault(images):
    """Whoever iterates goes on where the feed stood: nothing is lost, nothing comes twice."""
    expected = [batch["rows"].tolist() for batch in storage.batches(images, 2, threads=0)]
    for _ in range(20):
        feed = storage.batches(images, 2, threads=2, noise=Shift(0), depth=4)
        begun = threading.Event()

        def close(feed=feed, begun=begun):
            begun.wait(10)
            feed.close()

        closer = threading.Thread(target=close)
        closer.start()
        found = []
        for batch in feed:
            begun.set()
            found.append(batch["rows"].tolist())
        closer.join()
        feed.close()
        assert found == expected
