"""With `verify`, what comes out of a feed was compared, whenever the damage came."""

from __future__ import annotations

import numpy as np
import pytest

import storage
from storage.adapters.arrays import read_column

TEXTS = [f"text number {i:04d} with words" for i in range(400)]
STREAMED = {"window": "2 KiB", "streams": 2, "memory": "64 KiB", "threads": 0}


@pytest.fixture
def reviews(text_build, commit):
    return commit(text_build(TEXTS, 20))


def damage(dataset, column: str) -> None:
    """Change a column so that nothing but its hash tells."""
    part = dataset.parts[0]
    (path,) = (part.store.path(part.key) / "data.zarr" / column).glob("c.0*")
    rows = np.frombuffer(path.read_bytes(), "<i8").copy()
    if column == "offsets":
        rows = rows.reshape(-1, 2)
        inner = np.flatnonzero(np.arange(len(rows)) % 20 != 19)
        rows[inner, 1] -= 5
        rows[inner + 1, 0] -= 5
    else:
        rows ^= 1
    path.write_bytes(rows.tobytes())


def texts_of(batch):
    if isinstance(batch["values"], list):
        return batch["values"]
    pairs = zip(batch["values"], batch["lengths"], strict=True)
    return [bytes((row[:length] - 1).astype(np.uint8)).decode() for row, length in pairs]


@pytest.mark.parametrize("verify", ["first-read", "every-read"])
@pytest.mark.parametrize("batching", [None, "pad", "bucket"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_offsets__that_are_damaged_after_they_were_compared_are_refused(reviews, verify, batching, epochs):
    sequences = storage.Sequences(length=64, batching=batching, pool=2) if batching else None
    options = {**STREAMED, "memory": "1 MiB" if batching else "64 KiB", "sequences": sequences}
    feed = storage.batches(reviews, 8, verify=verify, **options)
    feed.sizes = feed.sizes.shared(1000)  # not held as a whole
    assert not feed.sizes.whole
    for epoch in range(epochs):
        feed.set_epoch(epoch)
        assert set(TEXTS[:280]) == {text for batch in feed for text in texts_of(batch)}
    damage(reviews, "offsets")
    feed.set_epoch(epochs)
    with pytest.raises(storage.StorageError, match=r"damaged .*offsets/c\.0\.0: its bytes are not those"):
        [texts_of(batch) for batch in feed]


@pytest.mark.parametrize("verify", ["first-read", "every-read"])
@pytest.mark.parametrize("column", ["labels", "ids"])
def test_columns__that_are_damaged_between_two_feeds_are_refused(image_build, commit, verify, column):
    dataset = commit(image_build(50))
    list(storage.batches(dataset, 4, verify=verify))
    damage(dataset, column)
    with pytest.raises(storage.StorageError, match=rf"damaged .*{column}/c\.0: its bytes are not those"):
        next(storage.batches(dataset, 4, verify=verify))


def test_columns__of_a_split_are_compared_where_it_has_rows(image_build, commit):
    dataset = commit(image_build(50))
    np.testing.assert_array_equal(read_column(dataset.path, 3, 9, name="ids", verify=True), dataset.ids()[3:9])
    np.testing.assert_array_equal(dataset.column("ids", 5, 50, verify=True), dataset.ids()[5:])


def test_bucketed_texts__are_compared_when_they_are_used_and_not_only_when_they_are_measured(reviews):
    feed = storage.batches(
        reviews, 8, verify="first-read", **{**STREAMED, "memory": "1 MiB"}, sequences=storage.Sequences(pool=2)
    )
    feed.sizes = feed.sizes.shared(1000)
    feed.state_dict()  # measures
    part = reviews.parts[0]
    keys = [part._data_key(shard) for shard in range(part.layout.shards)]
    for key, data in zip(keys, [part.store.read(key) for key in keys[1:] + keys[:1]], strict=True):
        part.store.write(key, data)  # a sound shard, but another one
    with pytest.raises(storage.StorageError, match="damaged shard"):
        list(feed)


@pytest.mark.parametrize("verify", ["first-read", "every-read"])
def test_take__verified_gives_nothing_that_was_kept_without_comparing(reviews, verify):
    rows = np.array([3, 25])
    part = reviews.parts[0]
    key = part._data_key(0)
    sound = part.store.read(key)
    part.store.write(key, part.store.read(part._data_key(1)))
    damage_kept = reviews.take(rows)
    part.store.write(key, sound)
    assert damage_kept != [TEXTS[3], TEXTS[25]]
    assert reviews.take(rows, verify=verify) == [TEXTS[3], TEXTS[25]]


@pytest.mark.parametrize("verify", ["first-read", "every-read"])
def test_take__verified_refuses_offsets_that_were_kept_without_comparing(reviews, verify):
    damage(reviews, "offsets")
    reviews.take(np.array([3]))
    with pytest.raises(storage.StorageError, match=r"damaged .*offsets/c\.0\.0"):
        reviews.take(np.array([3]), verify=verify)
