"""The feed as a `tf.data.Dataset`: the same batches over the same memory, an epoch for each iteration."""

from __future__ import annotations

import gc
import itertools
import re

import numpy as np
import pytest

import storage
from tests.storage.tensors import address_of, addresses_given

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
from storage.adapters.tensorflow import tensor, to_tensorflow  # noqa: E402
from storage.feeding.memory import aligned  # noqa: E402


def numbers(batches) -> list[list[int]]:
    return [np.asarray(batch["ids"]).tolist() for batch in batches]


def epoch_of(data, epoch, size=8, **options) -> list[list[int]]:
    return numbers(storage.batches(data, size, epoch=epoch, **options))


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_to_tensorflow__gives_the_batches_of_the_feed(request, kind):
    data = request.getfixturevalue(kind)
    dataset = to_tensorflow(storage.batches(data, 8))
    found, wanted = list(dataset), list(storage.batches(data, 8))
    assert len(found) == len(wanted) == 5
    for batch, plain in zip(found, wanted, strict=True):
        assert batch.keys() == plain.keys() == dataset.element_spec.keys()
        for name, values in plain.items():
            if isinstance(values, list):
                assert batch[name].dtype == tf.string
                assert [text.decode() for text in batch[name].numpy()] == values
            else:
                assert batch[name].dtype.as_numpy_dtype == values.dtype
                np.testing.assert_array_equal(batch[name].numpy(), values)


def test_to_tensorflow__says_shapes_before_it_reads(images, texts):
    found = to_tensorflow(storage.batches(images, 8), ["values", "rows"]).element_spec
    assert found == {"values": tf.TensorSpec((None, 5, 3, 1), tf.uint8), "rows": tf.TensorSpec((None,), tf.int64)}
    found = to_tensorflow(storage.batches(texts, 8), ["values"]).element_spec
    assert found == {"values": tf.TensorSpec((None,), tf.string)}
    for batching, width in (("pad", 6), ("bucket", None)):
        sequences = storage.Sequences(None, 6, batching)
        dataset = to_tensorflow(storage.batches(texts, 8, sequences=sequences), ["values", "lengths"])
        assert dataset.element_spec["values"] == tf.TensorSpec((None, width), tf.int32)
        assert all(batch["values"].shape[0] == batch["lengths"].shape[0] for batch in dataset)


def test_to_tensorflow__texts_that_are_not_unicode(text_build, commit, odd_texts):
    data = commit(text_build(odd_texts, splits={"train": (0, 10)}))
    found = [
        text.decode("utf-8", "surrogatepass")
        for batch in to_tensorflow(storage.batches(data, 4))
        for text in batch["values"].numpy()
    ]
    assert found == [text for batch in storage.batches(data, 4) for text in batch["values"]]
    assert sorted(found) == sorted(odd_texts)


def test_to_tensorflow__copies_nothing(images):
    with addresses_given() as given:
        batches = list(to_tensorflow(storage.batches(images, 8)))
    assert [address_of(batch["values"]) for batch in batches] == given


def test_to_tensorflow__memory_in_use_is_not_used_again(images):
    dataset = to_tensorflow(storage.batches(images, 2)).prefetch(3)
    kept = []
    for _ in range(3):
        kept += [(batch["values"], batch["rows"].numpy().copy()) for batch in dataset]
        gc.collect()
    plain = images.read(0, 50)
    assert len(kept) == 3 * 18
    for values, rows in kept:
        np.testing.assert_array_equal(values.numpy(), plain[rows])


def test_to_tensorflow__memory_that_was_dropped_is_used_again(images):
    with addresses_given() as given:
        for _ in to_tensorflow(storage.batches(images, 1)):
            pass
    # How many are in use at once is up to TensorFlow's threads; without using any again there are 35.
    assert len(given) == 35 and len(set(given)) < 20


def test_to_tensorflow__each_iteration_is_the_next_epoch(images):
    feed = storage.batches(images, 8)
    dataset = to_tensorflow(feed).prefetch(2)
    for epoch in range(3):
        assert numbers(dataset) == epoch_of(images, epoch)
    feed.set_epoch(7)
    assert numbers(dataset) == epoch_of(images, 7)
    assert numbers(dataset) == epoch_of(images, 8)


@pytest.mark.parametrize("step", range(6))
def test_to_tensorflow__goes_on_at_any_step(images, step):
    feed = storage.batches(images, 8)
    dataset = to_tensorflow(feed)
    assert numbers(dataset) == epoch_of(images, 0)
    feed.load_state_dict(storage.batches(images, 8, epoch=3).state_dict(step))
    assert numbers(dataset) == (epoch_of(images, 3)[step:] or epoch_of(images, 4))
    assert numbers(dataset) == epoch_of(images, 4 if step < 5 else 5)


def test_to_tensorflow__parts_of_a_feed(images):
    feed = storage.batches(images, 8)
    next(feed)
    parts = [to_tensorflow(feed.part(worker, 2)) for worker in range(2)]
    for epoch in range(2):
        wanted = epoch_of(images, epoch)[0 if epoch else 1 :]
        mixed = list(itertools.chain(*itertools.zip_longest(*map(numbers, parts))))
        assert sorted(filter(None, mixed)) == sorted(wanted)


def test_to_tensorflow__after_an_iteration_given_up(images):
    feed = storage.batches(images, 8)
    dataset = to_tensorflow(feed).prefetch(3)
    whole = epoch_of(images, 0)
    for taken in (1, 3):
        assert numbers(dataset.take(taken)) == whole[:taken]
        feed.set_epoch(0)
    assert numbers(dataset.take(5)) == whole  # all there are: not given up
    assert numbers(dataset) == epoch_of(images, 1)


def test_to_tensorflow__goes_on_where_an_iteration_was_given_up(images):
    feed = storage.batches(images, 2)
    dataset = to_tensorflow(feed)
    for step, _ in enumerate(dataset, 1):
        if step == 3:
            break
    feed.load_state_dict(feed.state_dict(step))
    assert numbers(dataset) == epoch_of(images, 0, 2)[3:]


@pytest.mark.parametrize("second", [True, False])
def test_to_tensorflow__moved_while_iterating_is_refused(images, second):
    feed = storage.batches(images, 2)
    dataset = to_tensorflow(feed)
    running = iter(dataset)
    next(running)
    if second:
        next(iter(dataset))
    else:
        feed.set_epoch(3)
    with pytest.raises(tf.errors.OpError, match=r"expected a feed at epoch 0, step \d+, found it moved"):
        list(running)


def test_to_tensorflow__state_by_count(images):
    feed = storage.batches(images, 8)
    for step, _ in enumerate(to_tensorflow(feed).prefetch(4), 1):
        if step == 2:
            break
    resumed = storage.batches(images, 8)
    resumed.load_state_dict(feed.state_dict(step))
    assert numbers(to_tensorflow(resumed)) == epoch_of(images, 0)[2:]


def test_to_tensorflow__known_length_if_it_is_asserted(images):
    feed = storage.batches(images, 8)
    dataset = to_tensorflow(feed)
    assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(feed)))
    assert len(dataset) == 5 and len(numbers(dataset)) == 5


def test_to_tensorflow__distributed_batches_are_split_but_none_is_left_out(images):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    dataset = strategy.experimental_distribute_dataset(to_tensorflow(storage.batches(images, 8), ["ids"]))
    for epoch in range(2):
        assert numbers(dataset) == epoch_of(images, epoch)


@pytest.mark.parametrize(("columns", "asked"), [(["targets"], None), (["ids"], ("values",)), ([], None)])
def test_to_tensorflow__columns_that_are_not_there(images, columns, asked):
    with pytest.raises(ValueError, match=rf"expected columns of \['values'.*\], .*received {re.escape(str(columns))}"):
        to_tensorflow(storage.batches(images, 8, columns=asked), columns)


def test_to_tensorflow__a_damaged_shard_ends_training_by_name(image_build, commit):
    data = commit(image_build(50))
    store, key = data.parts[0].store, f"{data.parts[0].key}/data.zarr/images/c.2.0.0.0"
    held = store.read(key)
    store.remove(key)
    store.write(key, bytes([held[0] ^ 1]) + held[1:])
    dataset = to_tensorflow(storage.batches(data, 8, verify="first-read", window=100)).prefetch(2)
    with pytest.raises(tf.errors.OpError, match=r"StorageError: .*damaged shard 2 of 'clean' .*c\.2\.0\.0\.0"):
        list(dataset)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("flaw", [None, "address", "read-only", "reversed", "strided"])
def test_tensor__is_the_array(dtype, flaw):
    values = aligned(8 * 60 + 8)[8 if flaw == "address" else 0 :]
    values = values[: 60 * np.dtype(dtype).itemsize].view(dtype).reshape(6, 5, 2)
    values[...] = np.arange(60).reshape(6, 5, 2) % 2 if dtype == "bool" else np.arange(60).reshape(6, 5, 2)
    if flaw == "read-only":
        values.flags.writeable = False
    values = {"reversed": values[::-1], "strided": values[:, ::2]}.get(flaw, values)
    made = tensor(values)
    assert made.dtype == dtype and made.shape == values.shape
    np.testing.assert_array_equal(made.numpy(), values)
    where = address_of(made) if dtype != "bool" else None
    if where is not None:
        assert where % 64 == 0
        assert (where == values.ctypes.data) == (flaw is None)


@pytest.mark.parametrize("shape", [(0, 5, 3, 1), (0,), ()])
def test_tensor__of_nothing(shape):
    assert tensor(np.zeros(shape, np.uint8)).shape == shape


def test_tensor__texts():
    assert [text.decode() for text in tensor(["a", "é"]).numpy()] == ["a", "é"]
