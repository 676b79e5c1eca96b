"""The feed in PyTorch: the same batches over the same memory, with and without worker processes."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import storage
from storage.adapters.torch import to_torch
from storage.feeding.memory import Buffers

pytestmark = [
    # The point of some of these tests: a feed's threads do not survive a fork, and are not needed.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create .* worker processes"),
]


def load(dataset, workers=0, start="fork", loader=DataLoader, **options):
    if workers:
        options |= {"multiprocessing_context": start, "timeout": 60}
    return loader(dataset, batch_size=None, num_workers=workers, **options)


def numbers(batches) -> list[list[int]]:
    return [batch["ids"].tolist() for batch in batches]


def invert(values, ids, *, seed, epoch):
    return 255 - values


def halve(batch):
    return batch["values"].float() / 2, batch["labels"]


@pytest.fixture
def addresses(monkeypatch):
    """Where the memory of batches begins, as the feed gives it out."""
    seen, take = [], Buffers.take

    def noting(self, shape):
        array = take(self, shape)
        seen.append(array.ctypes.data)
        return array

    monkeypatch.setattr(Buffers, "take", noting)
    return seen


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_to_torch__gives_the_batches_of_the_feed(request, kind):
    data = request.getfixturevalue(kind)
    found, wanted = list(load(to_torch(storage.batches(data, 8)))), list(storage.batches(data, 8))
    assert len(found) == len(wanted) == 5
    for batch, plain in zip(found, wanted, strict=True):
        assert list(batch) == list(plain)
        for name, values in plain.items():
            if isinstance(values, list):
                assert batch[name] == values
            else:
                assert batch[name].dtype == getattr(torch, str(values.dtype))
                np.testing.assert_array_equal(batch[name].numpy(), values)


def test_to_torch__copies_nothing(images, addresses):
    for threads in (0, 2):
        batches = list(load(to_torch(storage.batches(images, 8, threads=threads))))
        assert [batch["values"].data_ptr() for batch in batches] == addresses[-5:]


@pytest.mark.parametrize("noise", [None, invert])
def test_to_torch__memory_in_use_is_not_used_again(images, noise):
    dataset = to_torch(storage.batches(images, 2, noise=noise, depth=1))
    kept, views = [], []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        for number, batch in enumerate(load(dataset)):
            rows = batch["rows"].numpy().copy()
            if number % 2:
                kept.append((batch["values"], rows))
            else:  # of some, only a view of a view is left
                views.append((batch["values"][:1].flatten()[3:].view(-1), rows))
    plain = images.read(0, 50) if noise is None else 255 - images.read(0, 50)
    assert len(kept) + len(views) == 4 * 18
    for values, rows in kept:
        np.testing.assert_array_equal(values.numpy(), plain[rows])
    for values, rows in views:
        np.testing.assert_array_equal(values.numpy(), plain[rows[0]].reshape(-1)[3:])


def test_to_torch__memory_that_was_dropped_is_used_again(images, addresses):
    for _ in load(to_torch(storage.batches(images, 1))):
        pass
    assert len(addresses) == 35 and len(set(addresses)) <= 3


@pytest.mark.parametrize("flaw", ["reversed", "read-only"])
def test_to_torch__takes_arrays_that_torch_cannot_address(images, flaw):
    def noise(values, ids, *, seed, epoch):
        return values[:, ::-1] if flaw == "reversed" else np.broadcast_to(values[:1], values.shape)

    plain = next(storage.batches(images, 8, noise=noise))["values"]
    values = next(iter(to_torch(storage.batches(images, 8, noise=noise))))["values"]
    np.testing.assert_array_equal(values.numpy(), plain)
    values += 1  # its own, all of it


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_to_torch__the_sequence_does_not_depend_on_workers(images, workers):
    dataset = to_torch(storage.batches(images, 4, seed=3))
    assert numbers(load(dataset, workers)) == numbers(storage.batches(images, 4, seed=3))


@pytest.mark.parametrize("workers", [1, 2])
def test_to_torch__texts_come_through_workers(texts, workers):
    found = list(load(to_torch(storage.batches(texts, 8)), workers))
    assert [batch["values"] for batch in found] == [batch["values"] for batch in storage.batches(texts, 8)]


def test_to_torch__more_workers_than_batches(images):
    dataset = to_torch(storage.batches(images, 20))
    assert numbers(load(dataset, 3)) == numbers(storage.batches(images, 20))


@pytest.mark.parametrize("workers", [0, 2])
def test_to_torch__ranks_share_every_batch(images, workers):
    whole = numbers(storage.batches(images, 8, drop_last=True))
    feeds = [storage.batches(images, 8, drop_last=True, rank=rank, ranks=2) for rank in range(2)]
    parts = [numbers(load(to_torch(feed), workers)) for feed in feeds]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_set_epoch__reaches_the_workers(images, workers, persistent):
    dataset = to_torch(storage.batches(images, 8))
    loader = load(dataset, workers, persistent_workers=persistent)
    for epoch in (0, 3, 1):
        dataset.set_epoch(epoch)
        assert numbers(loader) == numbers(storage.batches(images, 8, epoch=epoch))
    assert numbers(loader) == numbers(storage.batches(images, 8, epoch=1)), "until it is called again"


@pytest.mark.parametrize("persistent", [False, True])
def test_set_epoch__while_an_epoch_runs_is_for_the_next(images, persistent):
    dataset = to_torch(storage.batches(images, 4))
    next(iter(load(dataset)))  # this process had an iteration, too
    loader = load(dataset, 2, persistent_workers=persistent)
    epoch = iter(loader)
    dataset.set_epoch(5)  # before either worker has begun, maybe
    assert numbers(epoch) == numbers(storage.batches(images, 4))
    assert numbers(loader) == numbers(storage.batches(images, 4, epoch=5))
    for _ in loader:  # an epoch that is broken off
        break
    dataset.set_epoch(6)
    assert numbers(loader) == numbers(storage.batches(images, 4, epoch=6))


def test_set_epoch__without_workers_moves_no_iteration_that_runs(images):
    dataset = to_torch(storage.batches(images, 8))
    epoch = iter(load(dataset))
    first = next(epoch)["ids"].tolist()
    dataset.set_epoch(1)
    assert [first, *numbers(epoch)] == numbers(storage.batches(images, 8))
    assert numbers(load(dataset)) == numbers(storage.batches(images, 8, epoch=1))


def test_set_epoch__of_where_it_is_keeps_the_place(images):
    dataset = to_torch(storage.batches(images, 8))
    dataset.load_state_dict(storage.batches(images, 8, epoch=2).state_dict(3))
    found = []
    for epoch in (2, 3):
        dataset.set_epoch(epoch)
        found += numbers(load(dataset))
    whole = [numbers(storage.batches(images, 8, epoch=epoch)) for epoch in (2, 3)]
    assert found == whole[0][3:] + whole[1]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_to_torch__after_this_process_has_iterated(images, start):
    feed = storage.batches(images, 4, noise=invert, threads=2)
    assert feed.sizes.threaded
    dataset = to_torch(feed)
    running = iter(load(dataset))
    first = [next(running)["ids"].tolist() for _ in range(3)]  # threads are alive, and batches made ahead
    loader = load(dataset, 2, start, persistent_workers=True)
    found = list(loader)
    assert numbers(found) == numbers(storage.batches(images, 4))
    for batch in found:
        np.testing.assert_array_equal(batch["values"].numpy(), 255 - images.take(batch["rows"].numpy()))
    assert first + numbers(running) == numbers(storage.batches(images, 4)), "it goes on here"
    dataset.load_state_dict(storage.batches(images, 4, epoch=4, noise=invert).state_dict(3))
    assert numbers(loader) == numbers(storage.batches(images, 4, epoch=4))[3:]
    dataset.set_epoch(1)
    assert numbers(loader) == numbers(storage.batches(images, 4, epoch=1))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_load_state_dict__goes_on_at_any_step(images, workers):
    whole = numbers(storage.batches(images, 8, epoch=1))
    for step in range(6):
        state = json.loads(json.dumps(to_torch(storage.batches(images, 8, epoch=1)).state_dict(step)))
        resumed = to_torch(storage.batches(images, 8))
        resumed.load_state_dict(state)
        assert numbers(load(resumed, workers)) == whole[step:]


def test_load_state_dict__reaches_workers_that_live_on(images):
    dataset = to_torch(storage.batches(images, 4))
    loader = load(dataset, 2, persistent_workers=True)
    first, second = (numbers(storage.batches(images, 4, epoch=epoch)) for epoch in (0, 1))
    assert numbers(loader) == first
    for step in (5, 2):
        dataset.load_state_dict(dataset.feed.state_dict(step))
        assert numbers(loader) == first[step:]
    dataset.set_epoch(1)
    assert numbers(loader) == second


def test_to_torch__begins_where_the_feed_is(images):
    feed = storage.batches(images, 8, epoch=1)
    next(feed)
    dataset = to_torch(feed)
    for workers in (0, 2):
        assert numbers(load(dataset, workers)) == numbers(storage.batches(images, 8, epoch=1))[1:]


def test_state_dict__counts_what_training_had(images):
    dataset = to_torch(storage.batches(images, 8))
    dataset.set_epoch(2)
    for step, _ in enumerate(load(dataset, 2), 1):
        if step == 3:  # by now the workers have made more
            break
    resumed = storage.batches(images, 8)
    resumed.load_state_dict(dataset.state_dict(step))
    assert (resumed.epoch, resumed.step) == (2, 3)


def test_state_dict__without_a_step_is_of_this_process(images):
    dataset = to_torch(storage.batches(images, 8))
    with pytest.raises(ValueError, match="expected step=, the batches of the epoch that training has had, received"):
        dataset.state_dict()
    next(iter(load(dataset)))
    assert dataset.state_dict() == dataset.state_dict(1)


def test_state_dict__of_other_data_is_refused(images):
    state = to_torch(storage.batches(images, 8)).state_dict(1)
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        to_torch(storage.batches(images, 9)).load_state_dict(state)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # of torchdata 0.11, by PyTorch 2.13
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_state_dict__of_torchdata(images, workers):
    """What its loader keeps and gives back to each worker goes on at every batch, and in the epochs that follow."""
    from torchdata import stateful_dataloader as loaders

    whole = [numbers(storage.batches(images, 5, epoch=epoch)) for epoch in (2, 3)]
    assert len(whole[0]) == 7

    def make():
        dataset = to_torch(storage.batches(images, 5, epoch=2))
        return dataset, load(dataset, workers, loader=loaders.StatefulDataLoader)

    for taken in range(0, 7, 1 if workers == 0 else 3):
        _, loader = make()
        assert numbers(itertools.islice(loader, taken)) == whole[0][:taken]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        dataset, resumed = make()
        resumed.load_state_dict(state)
        assert numbers(resumed) == whole[0][taken:]
        dataset.set_epoch(3)
        assert numbers(resumed) == whole[1]


def test_len__is_that_of_an_epoch(images):
    dataset = to_torch(storage.batches(images, 8, drop_last=True))
    assert len(dataset) == len(load(dataset, 2)) == 4


def test_to_torch__chosen_columns(images):
    feed = storage.batches(images, 8)
    assert list(next(iter(to_torch(feed, ["labels", "values"])))) == ["labels", "values"]
    assert list(next(iter(to_torch(feed, "rows")))) == ["rows"]


@pytest.mark.parametrize(("columns", "asked"), [(["targets"], None), (["ids"], ("values",)), ([], None)])
def test_to_torch__columns_that_are_not_there(images, columns, asked):
    with pytest.raises(ValueError, match=rf"expected columns of \['values'.*\], .*received {re.escape(str(columns))}"):
        to_torch(storage.batches(images, 8, columns=asked), columns)


@pytest.mark.parametrize("workers", [0, 2])
def test_to_torch__transforms(images, workers):
    dataset = to_torch(storage.batches(images, 8), transform=halve)
    for (values, labels), plain in zip(load(dataset, workers), storage.batches(images, 8), strict=True):
        np.testing.assert_array_equal(values.numpy(), plain["values"] / np.float32(2))
        np.testing.assert_array_equal(labels.numpy(), plain["labels"])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_to_torch__a_bad_shard_ends_training_by_name(image_build, commit, workers, damage):
    data = commit(image_build(50))
    store, key = data.parts[0].store, f"{data.parts[0].key}/data.zarr/images/c.2.0.0.0"
    held = store.read(key)
    store.remove(key)
    if damage == "damaged":
        store.write(key, bytes([held[0] ^ 1]) + held[1:])
    dataset = to_torch(storage.batches(data, 8, verify="first-read", window=100))
    running = iter(load(dataset, workers))
    try:
        message = f"none after {len(list(running))} batches"
    except storage.StorageError as error:
        # PyTorch keeps its workers alive in a cycle through this, and whoever breaks it waits 5 seconds for each.
        error.__traceback__ = None
        message = str(error)
    assert re.search(f"{damage} shard 2 of 'clean' .*c.2.0.0.0", message)
    assert ("Caught StorageError in DataLoader worker" in message) == bool(workers)


def test_to_torch__forked_workers_of_an_object_store_are_refused(images):
    moved = storage.Dataset("s3://bucket/clean", images.document, images.parts)
    running = iter(load(to_torch(storage.batches(moved, 8)), 1))
    try:
        message = f"none after {len(list(running))} batches"
    except RuntimeError as error:
        error.__traceback__ = None
        message = str(error)
    assert "expected workers that were spawned, to read from s3://bucket/clean, received forked ones" in message
    assert numbers(load(to_torch(storage.batches(moved, 8)))) == numbers(storage.batches(images, 8))


def test_to_torch__two_iterations_at_once_are_refused(images):
    dataset = to_torch(storage.batches(images, 8))
    one, other = iter(dataset), iter(dataset)
    next(other)
    with pytest.raises(RuntimeError, match="expected a feed at epoch 0, step 0, found it moved"):
        next(one)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_to_torch__a_copy_has_a_place_of_its_own(images, copied):
    original = to_torch(storage.batches(images, 8))
    next(iter(original))
    dataset = copied(original)
    loader = load(dataset, 1, persistent_workers=True)
    for epoch in (0, 1):
        original.set_epoch(7)
        dataset.set_epoch(epoch)
        assert numbers(loader) == numbers(storage.batches(images, 8, epoch=epoch))
