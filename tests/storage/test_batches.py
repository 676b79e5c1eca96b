from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage


@pytest.fixture(params=["images", "texts"])
def dataset(request):
    return request.getfixturevalue(request.param)


def ids(batches) -> list[list[int]]:
    return [batch["ids"].tolist() for batch in batches]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_batches__hold_every_row_of_the_split_once(dataset, split):
    held = list(storage.batches(dataset, 8, split=split))
    rows = np.concatenate([batch["rows"] for batch in held])
    wanted = dataset.rows(split)
    np.testing.assert_array_equal(np.sort(rows), np.arange(wanted.start, wanted.stop))
    for batch in held:
        np.testing.assert_array_equal(batch["values"], dataset.take(batch["rows"]))
        np.testing.assert_array_equal(batch["labels"], dataset.labels()[batch["rows"]])
        np.testing.assert_array_equal(batch["ids"], dataset.ids()[batch["rows"]])


def test_batches__values_belong_to_their_rows(image_build, commit):
    made = image_build(50)
    everything = np.concatenate([shard.values for shard in made[1]])
    for batch in storage.batches(commit(made), 7, seed=3):
        np.testing.assert_array_equal(batch["values"], everything[batch["rows"]])
        assert batch["values"].dtype == np.uint8


def test_batches__take_a_path(images):
    whole = ids(storage.batches(images, 8))
    for path in (images.path, images.location, Path(images.location)):
        assert ids(storage.batches(path, 8)) == whole


def test_batches__the_order_does_not_depend_on_the_batch_size(images):
    orders = [list(itertools.chain(*ids(storage.batches(images, size, seed=5)))) for size in (1, 3, 8, 35, 1000)]
    assert all(order == orders[0] for order in orders)


def test_batches__the_order_changes_with_seed_and_epoch(images):
    orders = {str(ids(storage.batches(images, 8, seed=s, epoch=e))) for s, e in [(0, 0), (1, 0), (0, 1)]}
    assert len(orders) == 3


def test_batches__numpy_seeds_are_the_same_seeds(images):
    assert ids(storage.batches(images, np.int64(8), seed=np.int64(3))) == ids(storage.batches(images, 8, seed=3))
    state = storage.batches(images, np.int64(8), seed=np.int64(3), epoch=np.int64(1)).state_dict()
    storage.batches(images, 8, seed=3, epoch=1).load_state_dict(json.loads(json.dumps(state)))


def test_batches__unshuffled_in_storage_order(images):
    rows = np.concatenate([batch["rows"] for batch in storage.batches(images, 8, split="test", shuffle=False)])
    np.testing.assert_array_equal(rows, np.arange(40, 50))


@pytest.mark.parametrize(
    ("size", "drop_last", "lengths"),
    [(8, False, [8, 8, 8, 8, 3]), (8, True, [8, 8, 8, 8]), (35, True, [35]), (36, False, [35])],
)
def test_batches__len_and_last_batch(images, size, drop_last, lengths):
    batches = storage.batches(images, size, drop_last=drop_last)
    assert len(batches) == len(lengths)
    assert [len(batch["ids"]) for batch in batches] == lengths
    with pytest.raises(StopIteration):
        next(batches)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    size=st.integers(1, 40),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 2),
    drop_last=st.booleans(),
    taken=st.integers(0, 40),
)
def test_load_state_dict__goes_on_where_it_was(images, size, seed, epoch, drop_last, taken):
    options = {"seed": seed, "epoch": epoch, "drop_last": drop_last and size <= 35}  # of 35: else there is no batch
    uninterrupted = ids(storage.batches(images, size, **options))
    interrupted = storage.batches(images, size, **options)
    before = ids(itertools.islice(interrupted, taken))
    state = json.loads(json.dumps(interrupted.state_dict()))
    resumed = storage.batches(images, size, **options)
    resumed.load_state_dict(state)
    assert before + ids(resumed) == uninterrupted


def test_getitem__does_not_move_the_iterator(images):
    batches = storage.batches(images, 8)
    third = batches[2]["ids"].tolist()
    assert ids(batches)[2] == third
    for step in (-1, 5):
        with pytest.raises(IndexError, match=f"expected a batch from 0 to 4, received {step}"):
            batches[step]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 9},
        {"seed": 1},
        {"split": "test"},
        {"shuffle": False},
        {"drop_last": True},
        {"window": 100},
        {"noise": lambda values, ids, *, seed, epoch: values},
    ],
)
def test_load_state_dict__refuses_a_state_of_other_batches(images, options):
    state = storage.batches(images, **{"batch_size": 8, **options}).state_dict()
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters, received another's"):
        storage.batches(images, 8).load_state_dict(state)


def test_load_state_dict__refuses_a_state_of_other_data(images, image_build, commit):
    other = commit(image_build(50, seed=1, folder="other"))
    with pytest.raises(ValueError, match="expected a state of this dataset"):
        storage.batches(images, 8).load_state_dict(storage.batches(other, 8).state_dict())


def test_load_state_dict__goes_to_the_epoch_of_the_state(images):
    third = storage.batches(images, 8, epoch=3)
    next(third)
    feed = storage.batches(images, 8)
    feed.load_state_dict(third.state_dict())
    assert (feed.epoch, feed.step) == (3, 1)
    assert ids(feed) == ids(third)


@pytest.mark.parametrize("step", [-1, 99, None, "1", True])
def test_load_state_dict__refuses_a_step_that_is_not_there(images, step):
    batches = storage.batches(images, 8)
    with pytest.raises(ValueError, match=f"expected a state with a step from 0 to 5, received {step!r}"):
        batches.load_state_dict({**batches.state_dict(), "step": step})


@pytest.mark.parametrize("state", [{}, {"epoch": 0, "step": 0, "fingerprint": "no"}])
def test_load_state_dict__refuses_what_is_no_state(images, state):
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        storage.batches(images, 8).load_state_dict(state)


def test_load_state_dict__refuses_an_epoch_that_is_none(images):
    batches = storage.batches(images, 8)
    for epoch in ("1", -1, 2**70, None, 1.0, True):
        with pytest.raises(ValueError, match="expected a whole epoch of at"):
            batches.load_state_dict({**batches.state_dict(), "epoch": epoch})


def test_state_dict__of_a_consumer_that_counts_for_itself(images):
    feed = storage.batches(images, 8)
    next(feed), next(feed), next(feed)
    again = storage.batches(images, 8)
    again.load_state_dict(feed.state_dict(step=1))
    assert ids(again) == ids(storage.batches(images, 8))[1:]


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "8"])
def test_batches__refuse_a_batch_size(images, size):
    with pytest.raises(ValueError, match=f"expected a whole batch size of at least 1, received {size!r}"):
        storage.batches(images, size)


def test_batches__refuse_an_unknown_split(images):
    with pytest.raises(ValueError, match=r"expected a split of \['train', 'validation', 'test'\], received 'holdout'"):
        storage.batches(images, split="holdout")


def test_batches__split_into_windows_still_hold_every_row(images):
    small = list(itertools.chain(*ids(storage.batches(images, 8, window=2 * 8 * 15, streams=2))))
    assert sorted(small) == sorted(images.ids()[:35].tolist())
    assert small != list(itertools.chain(*ids(storage.batches(images, 8))))


@pytest.mark.parametrize("split", ["train", "test"])
def test_batches__of_appended_builds_hold_every_row_once(image_build, commit, split):
    first, second = image_build(23), image_build(9, shard=3, chunk=3, seed=1, first_id=23)
    dataset = commit(first, second)
    held = list(storage.batches(dataset, 4, split=split))
    rows = np.concatenate([batch["rows"] for batch in held])
    wanted = dataset.rows(split)
    np.testing.assert_array_equal(np.sort(rows), np.arange(wanted.start, wanted.stop))
    by_id = {i: v for _, shards in (first, second) for s in shards for i, v in zip(s.ids, s.values, strict=True)}
    for batch in held:
        for value, number in zip(batch["values"], batch["ids"], strict=True):
            np.testing.assert_array_equal(value, by_id[number])
