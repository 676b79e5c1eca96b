"""The feed in Keras: every epoch in the feed's order, resumed at any batch, errors as they are. On any backend."""

from __future__ import annotations

import gc
import json
import re
import warnings
from itertools import count
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import storage
from storage import StorageError
from storage.adapters import keras as adapter
from storage.adapters.keras import to_keras

BACKEND = keras.backend.backend()
on_tensorflow = pytest.mark.backend("tensorflow")
# Keras hands NumPy its own variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


class Last(keras.metrics.Metric):
    """The sum of the targets of the last batch that the model was trained on."""

    def __init__(self, **options):
        super().__init__(name="last", **options)
        self.value = self.add_weight(name="value", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.value.assign(keras.ops.sum(keras.ops.cast(y_true, "float32")))

    def result(self):
        return self.value * 1


class Trained(keras.callbacks.Callback):
    """Notes what the model was trained on, and where the data says it is after each batch and epoch."""

    def __init__(self, data, stop=None):
        super().__init__()
        self.data, self.stop = data, stop
        self.sums, self.states = {}, []

    def on_epoch_begin(self, epoch, logs=None):
        self.sums[epoch] = []

    def note(self):
        self.states.append(json.loads(json.dumps(self.data.state_dict())))

    def on_train_batch_end(self, batch, logs=None):
        self.sums[max(self.sums)].append(int(logs["last"]))
        self.note()
        if len(self.states) == self.stop:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.note()


def small(shape=(5, 3, 1), **options):
    """A model that learns ids, badly."""
    image = keras.Input(shape, dtype="uint8", name="values")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(1e-4), loss="mse", metrics=[Last()], **options)
    return model


def sums(feed, epoch):
    """What a model is to be trained on in an epoch."""
    feed.set_epoch(epoch)
    return [int(batch["ids"].sum()) for batch in feed]


def parts(values, size):
    return [values[low : low + size] for low in range(0, len(values), size)]


def fit(data, stop=None, callbacks=(), model=None, **options):
    trained = Trained(data, stop)
    (model or small()).fit(data, callbacks=[*callbacks, trained], verbose=0, **options)
    return trained


def test_fit__reads_an_epoch_after_the_other(images):
    feed = storage.batches(images, 8, seed=3)
    found = fit(to_keras(storage.batches(images, 8, seed=3), targets="ids"), epochs=3).sums
    assert found == {epoch: sums(feed, epoch) for epoch in range(3)}
    assert len(found[0]) == 5 and found[0] != found[1]


def test_fit__goes_on_with_the_next_epoch(images):
    data = to_keras(storage.batches(images, 8), targets="ids")
    model, feed = small(), storage.batches(images, 8)
    for epoch in range(3):
        assert fit(data, model=model).sums == {0: sums(feed, epoch)}


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_fit__keeps_the_order_whatever_shuffle_says(images, shuffle):
    feed = storage.batches(images, 8, shuffle=False)
    found = fit(to_keras(storage.batches(images, 8, shuffle=False), targets="ids"), shuffle=shuffle).sums
    assert found == {0: sums(feed, 0)}


def test_callback__reads_the_epoch_of_keras_number(images):
    feed = storage.batches(images, 8)
    data, model = to_keras(storage.batches(images, 8), targets="ids"), small()
    for first in (2, 0, 4):
        found = fit(data, callbacks=[data.callback], model=model, initial_epoch=first, epochs=first + 2).sums
        assert found == {epoch: sums(feed, epoch) for epoch in (first, first + 1)}


@pytest.mark.parametrize(("tied", "execution"), [(True, 1), (False, 1)] + [(True, 3)] * (BACKEND != "torch"))
def test_state_dict__after_each_batch_goes_on_there(images, tied, execution):
    feed, filters = storage.batches(images, 8, epoch=1), list(warnings.filters)

    def run(data, first):
        tie = [data.callback] if tied else []
        return fit(data, callbacks=tie, model=small(steps_per_execution=execution), initial_epoch=first, epochs=3)

    whole = run(to_keras(storage.batches(images, 8, epoch=1), targets="ids"), 1)
    assert [state["step"] for state in whole.states] == ([1, 2, 3, 4, 5, 5] if execution == 1 else [3, 5, 5]) * 2
    resumed = to_keras(storage.batches(images, 8), targets="ids")
    states = whole.states[:-2] if execution == 1 else [feed.state_dict(step) for step in range(6)]
    for state in states:
        resumed.load_state_dict(state)
        first = state["epoch"] + (state["step"] == 5)
        found = run(resumed, first)
        rest = {epoch: sums(feed, epoch) for epoch in range(first, 3)}
        del rest[first][: state["step"] % 5]
        # Of batches that are trained on together, the last is seen.
        ends = {epoch: [part[-1] for part in parts(every, execution)] for epoch, every in rest.items()}
        assert found.sums == ends
        assert [(s["epoch"], s["step"]) for s in found.states if s["step"] == 5][::2] == [(e, 5) for e in rest]
        assert warnings.filters == filters


def test_state_dict__is_the_feed_s(images):
    data = to_keras(storage.batches(images, 8), targets="ids")
    state = fit(data, stop=3, callbacks=[data.callback]).states[2]
    feed = storage.batches(images, 8)
    feed.load_state_dict(state)
    assert (feed.epoch, feed.step) == (0, 3)
    data.load_state_dict(feed.state_dict(2))
    assert data.state_dict() == feed.state_dict(2)
    with pytest.raises(ValueError, match="expected a state of this dataset"):
        data.load_state_dict(storage.batches(images, 9).state_dict())


def test_state_dict__where_batches_are_taken_ahead(images):
    """As Keras does on GPUs with JAX."""
    data = to_keras(storage.batches(images, 8), targets="ids")
    data.callback.set_model(SimpleNamespace(steps_per_execution=1))
    for epoch in range(2):
        batches = iter(data.get_jax_iterator())
        for number in range(5):
            if number == 0:
                next(batches)
            next(batches, None)
            data.callback.on_train_batch_end(number)
            assert data.state_dict() == data.feed.state_dict(number + 1)
        assert data.feed.epoch == epoch


def test_state_dict__follows_the_feed(images):
    data = to_keras(storage.batches(images, 8), targets="ids")
    fit(data, callbacks=[data.callback])
    data.feed.set_epoch(7)
    assert data.state_dict() == storage.batches(images, 8, epoch=7).state_dict()
    assert fit(data).sums == {0: sums(storage.batches(images, 8), 7)}


def test_fit__in_the_middle_of_another_epoch_is_refused(images):
    data = to_keras(storage.batches(images, 8), targets="ids")
    data.load_state_dict(storage.batches(images, 8, epoch=3).state_dict(2))
    with pytest.raises(
        ValueError, match="expected fit with initial_epoch=3, where the feed stands at batch 2, received"
    ):
        fit(data, callbacks=[data.callback], epochs=5)


@pytest.mark.parametrize("tied", [True, False])
def test_fit__parts_of_epochs_follow_each_other(images, tied):
    data = to_keras(storage.batches(images, 8), targets="ids")
    tie = [data.callback] if tied else []
    found = fit(data, callbacks=tie, steps_per_epoch=2, epochs=2)
    feed = storage.batches(images, 8)
    assert found.sums == {0: sums(feed, 0)[:2], 1: sums(feed, 0)[2:4]}
    assert [state["step"] for state in found.states] == [1, 2, 2, 3, 4, 4]


def test_fit__an_epoch_that_was_stopped_is_begun_again(images):
    data, model = to_keras(storage.batches(images, 8), targets="ids"), small()
    feed = storage.batches(images, 8)
    assert fit(data, stop=2, model=model, epochs=3).sums == {0: sums(feed, 0)[:2]}
    assert fit(data, model=model).sums == {0: sums(feed, 0)}


def shorten(texts, ids, *, seed, epoch):
    """A noise that cuts off more in some epochs."""
    return [text[: len(text) * (3 - epoch % 3) // 3] for text in texts]


def test_fit__epochs_of_packed_rows_differ_in_length(texts):
    def feed(epoch=0):
        sequences = storage.Sequences(None, 12, "pack")
        return storage.batches(texts, 4, epoch=epoch, sequences=sequences, noise=shorten)

    lengths = [len(feed(epoch)) for epoch in range(3)]
    assert lengths[0] > lengths[1] > lengths[2]
    for first, tied in ((0, True), (0, False), (1, True)):
        tokens = keras.Input((12,), dtype="int32")
        model = keras.Model(tokens, keras.layers.Dense(1)(keras.layers.Rescaling(1.0)(tokens)))
        model.compile(loss="mse", metrics=[Last()])
        data = to_keras(feed(first), targets="sum", transform=lambda batch: batch | {"sum": batch["values"].sum(1)})
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Keras leaves the last ones out")
            found = fit(
                data, callbacks=[data.callback] if tied else [], model=model, initial_epoch=first, epochs=5
            ).sums
        for epoch, seen in found.items():
            assert seen == [int(batch["values"].sum()) for batch in feed(epoch)][: lengths[first]]


def packed(texts, first):
    """Packed rows of which epochs 0, 1 and 2 have fewer and fewer batches, as Keras takes them, and a model."""
    feed = storage.batches(texts, 4, epoch=first, sequences=storage.Sequences(None, 12, "pack"), noise=shorten)
    tokens = keras.Input((12,), dtype="int32")
    model = keras.Model(tokens, keras.layers.Dense(1)(keras.layers.Rescaling(1.0)(tokens)))
    model.compile(loss="mse", metrics=[Last()])
    return to_keras(feed, targets="sum", transform=lambda batch: batch | {"sum": batch["values"].sum(1)}), model


@pytest.mark.parametrize("tied", [True, False])
def test_fit__says_which_epoch_of_packed_rows_loses_batches(texts, tied):
    data, model = packed(texts, 1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit(data, callbacks=[data.callback] if tied else [], model=model, initial_epoch=1, epochs=5)
    found = [str(warning.message) for warning in said if "Keras leaves" in str(warning.message)]
    lengths = {epoch: len(packed(texts, epoch)[0].feed) for epoch in (1, 3, 4)}
    assert [re.match(r"expected epoch (\d) to have (\d+) batches.* received (\d+)", one).groups() for one in found] == [
        ("3", str(lengths[1]), str(lengths[3]))
    ]


@pytest.mark.parametrize("tied", [True, False])
def test_fit__for_one_epoch_at_a_time_takes_all_packed_rows(texts, tied):
    data, model = packed(texts, 1)
    for epoch in range(1, 5):
        callbacks = [data.callback] if tied else []
        found = fit(data, callbacks=callbacks, model=model, initial_epoch=epoch, epochs=epoch + 1).sums
        feed = packed(texts, epoch)[0].feed
        assert found == {epoch: [int(batch["values"].sum()) for batch in feed]}


@pytest.fixture
def damaged(image_build, commit):
    data = commit(image_build(50))
    store, key = data.parts[0].store, f"{data.parts[0].key}/data.zarr/images/c.2.0.0.0"
    held = store.read(key)
    store.remove(key)
    store.write(key, bytes([held[0] ^ 1]) + held[1:])
    return data


@pytest.mark.parametrize("use", ["fit", "evaluate", "predict", "validation"])
def test_fit__a_damaged_shard_ends_training_as_it_is(damaged, images, use):
    model = small()
    data = to_keras(storage.batches(damaged, 8, verify="first-read", window=100), targets="ids")
    uses = {
        "fit": lambda: model.fit(data, verbose=0),
        "evaluate": lambda: model.evaluate(data, verbose=0),
        "predict": lambda: model.predict(data, verbose=0),
        "validation": lambda: model.fit(
            to_keras(storage.batches(images, 8), targets="ids"), validation_data=data, verbose=0
        ),
    }
    with pytest.raises(StorageError, match=r"damaged shard 2 of 'clean' .*c\.2\.0\.0\.0") as caught:
        uses[use]()
    assert type(caught.value) is StorageError


def test_fit__what_transform_raises_comes_out_as_it_is(images):
    error = KeyError("mine")

    def transform(batch):
        raise error

    with pytest.raises(KeyError) as caught:
        fit(to_keras(storage.batches(images, 8), targets="ids", transform=transform))
    assert caught.value is error


def test_evaluate__and_predict_read_an_epoch_each(images):
    feed = storage.batches(images, 8, shuffle=False, split="test")
    model, values = small(), images.take(np.arange(40, 50))
    data = to_keras(storage.batches(images, 8, shuffle=False, split="test"), targets="ids")
    for _ in range(2):
        found = model.predict(data, verbose=0)
        np.testing.assert_allclose(found, model.predict(values, verbose=0), rtol=1e-5)
    ids = np.concatenate([batch["ids"] for batch in feed])
    loss = model.evaluate(data, verbose=0)[0]
    assert loss == pytest.approx(float(((found[:, 0] - ids) ** 2).mean()), rel=1e-4)


def test_fit__validates_on_whole_epochs(images):
    train, held = (to_keras(storage.batches(images, 8, split=split), targets="ids") for split in ("train", "test"))
    history = small().fit(train, validation_data=held, epochs=3, verbose=0).history
    feed = storage.batches(images, 8, split="test")
    assert history["val_last"] == [sums(feed, epoch)[-1] for epoch in range(3)]


def test_to_keras__several_inputs_by_name(texts):
    feed = storage.batches(texts, 8, sequences=storage.Sequences(None, 8, "pad"))
    tokens, lengths = keras.Input((8,), dtype="int32", name="values"), keras.Input((), dtype="int32", name="lengths")
    doubled = keras.layers.Lambda(lambda x: keras.ops.sum(x[0], 1) * 0 + x[1] * 2)([tokens, lengths])
    model = keras.Model({"values": tokens, "lengths": lengths}, doubled)
    found = model.predict(to_keras(feed, inputs=("values", "lengths"), targets=None), verbose=0)
    feed.set_epoch(0)
    np.testing.assert_array_equal(found, 2 * np.concatenate([batch["lengths"] for batch in feed]))


def test_to_keras__weights(images):
    def transform(batch):
        return batch | {"weight": (batch["labels"] < 0).astype(np.float32) * 2, "zero": batch["ids"] * 0.0}

    data = to_keras(storage.batches(images, 8, shuffle=False), "values", "ids", "weight", transform)
    batch = next(storage.batches(images, 8, shuffle=False))
    x, y, weights = next(iter(data.get_numpy_iterator()))
    np.testing.assert_array_equal(x, batch["values"])
    np.testing.assert_array_equal(y, batch["ids"])
    np.testing.assert_array_equal(weights, np.where(batch["labels"] < 0, 2, 0))
    model = small()
    assert model.evaluate(to_keras(storage.batches(images, 8), "values", "ids", "zero", transform), verbose=0)[0] == 0
    with pytest.raises(ValueError, match="expected targets for weights='weight', received None"):
        to_keras(storage.batches(images, 8), targets=None, weights="weight")


def test_to_keras__columns_that_are_not_there(images):
    with pytest.raises(ValueError, match=r"expected columns of \['values', .*received \['values', 'tokens'\]"):
        to_keras(storage.batches(images, 8), targets="tokens")
    data = to_keras(storage.batches(images, 8, columns=["values"]), transform=lambda batch: batch)
    with pytest.raises(ValueError, match=r"expected columns \['values', 'labels'\], received \['values'\]"):
        fit(data)


def test_waited__is_all_the_time_for_batches(images, monkeypatch):
    data = to_keras(storage.batches(images, 8), targets="ids")
    ticks = count()
    monkeypatch.setattr(adapter, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    list(data.get_numpy_iterator())
    assert data.waited == 6  # five batches, and the answer that there are no more


def test_len__is_that_of_a_whole_epoch(images):
    feed = storage.batches(images, 8)
    next(feed)
    data = to_keras(feed)
    assert len(data) == data.num_batches == 5
    assert re.match("<KerasBatches of <Batches of 8 ", repr(data))


@on_tensorflow
def test_to_keras__copies_nothing(images):
    from tests.storage.tensors import address_of, addresses_given

    with addresses_given() as given:
        batches = list(to_keras(storage.batches(images, 8)).get_tf_dataset())
    assert [address_of(values) for values, _ in batches] == given


@pytest.mark.backend("torch")
def test_to_keras__copies_nothing_on_torch(images):
    from tests.storage.tensors import addresses_given

    with addresses_given() as given:
        batches = list(to_keras(storage.batches(images, 8)).get_torch_dataloader())
    assert [values.data_ptr() for values, _ in batches] == given


def test_to_keras__memory_in_use_is_not_used_again(images):
    data = to_keras(storage.batches(images, 2, shuffle=False), targets="rows")
    source = {"tensorflow": data.get_tf_dataset, "torch": data.get_torch_dataloader}.get(BACKEND, data.get_jax_iterator)
    kept = []
    for _ in range(3):
        for values, rows in source():
            kept.append((values, np.asarray(rows).copy()))
        gc.collect()
    assert len(kept) == 3 * 18
    plain = images.read(0, 50)
    for values, rows in kept:
        np.testing.assert_array_equal(np.asarray(values), plain[rows])


@on_tensorflow
def test_to_keras__under_a_strategy_says_what_to_do(images):
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = small()
    with pytest.raises(ValueError, match=r"expected a model without a strategy of tf\.distribute, received one"):
        fit(to_keras(storage.batches(images, 8), targets="ids"), model=model)


@on_tensorflow
def test_to_keras__texts_for_layers_that_take_them(texts):
    values, _ = next(iter(to_keras(storage.batches(texts, 8)).get_tf_dataset()))
    assert [text.decode() for text in values.numpy()] == next(storage.batches(texts, 8))["values"]
