"""Networks: their parameters counted by hand, their random numbers, what they refuse; and the vocabulary."""

from __future__ import annotations

import importlib.util
import json
import pickle
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import networks
from tasks.networks import Vocabulary
from tasks.networks.protocol import check_network, slug_of
from tasks.networks.vocabulary import count_words, tokenize

# Keras hands NumPy its own variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ALL = (networks.lenet5, networks.denoising_autoencoder, networks.lstm_sentiment)


def conv(side: int, inputs: int, outputs: int) -> int:
    return (side * side * inputs + 1) * outputs


def dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def lstm(inputs: int, units: int) -> int:
    """Four gates, each with input weights, recurrent weights and a bias."""
    return 4 * units * (inputs + units + 1)


def batch_for(network, model):
    """A random input of the right kind."""
    rng = np.random.default_rng(0)
    shape = (4, *model.input_shape[1:])
    high = network.vocabulary if network.kind == "texts" else 256
    return rng.integers(0, high, shape).astype(np.int32 if network.kind == "texts" else np.uint8)


class Hammer:
    """Another thread that draws from Python's global random numbers, as Dask's event loop does."""

    def __enter__(self) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.draw, daemon=True)
        self.thread.start()

    def draw(self) -> None:
        while not self.stop.is_set():
            random.random()
            self.stop.wait(0.0001)

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_lenet5__parameters_as_published(activation):
    # 156 + 2,416 + 48,120 + 10,164 + 850: LeNet-5 with all channels connected and a softmax.
    parts = [conv(5, 1, 6), conv(5, 6, 16), dense(400, 120), dense(120, 84), dense(84, 10)]
    model = networks.lenet5(activation=activation).build((28, 28, 1), 10)
    assert sum(parts) == model.count_params() == 61_706
    assert [layer.count_params() for layer in model.layers if layer.count_params()] == parts
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize(
    ("shape", "classes", "flat", "channels"),
    [((32, 32, 3), 10, 400, 3), ((5, 7, 1), 2, 400, 1), ((64, 40, 3), 4, 13 * 7 * 16, 3)],
)
def test_lenet5__other_shapes(shape, classes, flat, channels):
    model = networks.lenet5().build(shape, classes)
    parts = [conv(5, channels, 6), conv(5, 6, 16), dense(flat, 120), dense(120, 84), dense(84, classes)]
    assert model.count_params() == sum(parts)


@pytest.mark.parametrize("skips", [True, False])
def test_denoising_autoencoder__parameters_as_published(skips):
    model = networks.denoising_autoencoder(skips=skips).build((28, 28, 1))
    parts = [conv(3, 1, 32), *[conv(3, 32, 32)] * 3, conv(3, 32, 1)]
    assert sum(parts) == model.count_params() == 28_353
    assert [layer.count_params() for layer in model.layers if layer.count_params()] == parts
    kinds = [
        type(layer).__name__
        for layer in model.layers
        if "Conv" in type(layer).__name__ or "ling" in type(layer).__name__
    ]
    assert kinds[1:] == ["Conv2D", "MaxPooling2D"] * 2 + ["Conv2D", "UpSampling2D"] * 2 + ["Conv2D"]


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 4, 3), (30, 27, 1)])
def test_denoising_autoencoder__keeps_any_shape(shape):
    network = networks.denoising_autoencoder(filters=4)
    model = network.build(shape)
    output = model.predict_on_batch(batch_for(network, model))
    assert output.shape == (4, *shape)
    assert output.min() >= 0
    assert output.max() <= 1


@pytest.mark.parametrize(("length", "classes"), [(12, 2), (7, 5)])
def test_lstm_sentiment__parameters_by_formula(length, classes):
    network = networks.lstm_sentiment(vocabulary=50, length=length, embedding=6, units=5)
    model = network.build((length,), classes)
    assert model.count_params() == 50 * 6 + lstm(6, 5) + dense(2 * 5, classes)
    # Of the default: 1,280,000 + 12,416 + 130.
    assert networks.lstm_sentiment().build().count_params() == 1_292_546


def test_build__scales_bytes_to_one_inside_the_model():
    scale = networks.lenet5().build().get_layer("scale")
    np.testing.assert_allclose(scale(np.array([0, 51, 255], np.uint8)), [0, 0.2, 1], rtol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_build__gives_probabilities_or_images(make):
    network = make()
    model = network.build()
    output = model.predict_on_batch(batch_for(network, model))
    assert model.compiled
    assert output.dtype == np.float32
    if network.task == "classification":
        np.testing.assert_allclose(output.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("make", ALL)
def test_build__weights_and_dropout_depend_on_the_seed_alone(make):
    network = make(length=20, vocabulary=100) if make is networks.lstm_sentiment else make()
    first = network.build(seed=3)
    x = batch_for(network, first)
    expected = [np.asarray(first(x, training=True)) for _ in range(2)]
    with Hammer():
        again = network.build(seed=3)
        found = [np.asarray(again(x, training=True)) for _ in range(2)]
    other = network.build(seed=4)
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(expected, found)
    matrices = [(a, b) for a, b in zip(first.get_weights(), other.get_weights(), strict=True) if a.ndim > 1]
    assert matrices
    assert all((a != b).any() for a, b in matrices)


@pytest.mark.parametrize("make", ALL)
def test_build__no_seed_is_left_to_keras(make, monkeypatch):
    from keras.src.random import seed_generator

    def drawn() -> int:
        raise AssertionError("Keras drew a seed of its own")

    monkeypatch.setattr(seed_generator, "make_default_seed", drawn)
    monkeypatch.setattr("keras.src.initializers.random_initializers.random.make_default_seed", drawn)
    make().build()


@pytest.mark.parametrize("make", ALL)
def test_build__saved_model_predicts_the_same(make, tmp_path):
    import keras

    network = make()
    model = network.build()
    keras.Model(model.inputs, model.outputs).save(tmp_path / "model.keras")
    x = batch_for(network, model)
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").predict_on_batch(x), model.predict_on_batch(x)
    )


@pytest.mark.parametrize(
    ("network", "text", "slug"),
    [
        (networks.lenet5(), "lenet5()", "lenet5"),
        (networks.lenet5(epochs=3), "lenet5(epochs=3)", "lenet5-epochs-3"),
        (networks.lenet5(patience=None, pooling="average"), "lenet5(patience=None, pooling='average')", None),
        (networks.denoising_autoencoder(learning_rate=0.01), "denoising_autoencoder(learning_rate=0.01)", None),
        (networks.lstm_sentiment(length=100), "lstm_sentiment(length=100)", "lstm-sentiment-length-100"),
    ],
)
def test_networks__print_as_written_and_travel(network, text, slug):
    assert str(network) == repr(network) == text
    assert eval(text, vars(networks)) == network
    copy = pickle.loads(pickle.dumps(network))
    assert (copy, hash(copy), str(copy)) == (network, hash(network), text)
    assert slug is None or network.slug == slug_of(network) == slug
    with pytest.raises(FrozenInstanceError):
        network.epochs = 1


def test_slug__of_a_long_name_is_cut_and_still_its_own():
    many = {"vocabulary": 12_345, "length": 321, "embedding": 65, "units": 33, "dropout": 0.25, "epochs": 7}
    one, two = (networks.lstm_sentiment(**many, learning_rate=rate) for rate in (0.00123, 0.00124))
    assert len(one.slug) <= 80
    assert one.slug != two.slug


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, r"expected epochs of \w+ as a whole number, 1 or more, received 0"),
        ({"epochs": 2.0}, "received 2.0"),
        ({"batch_size": True}, "expected batch_size .* received True"),
        ({"learning_rate": 0}, r"expected learning_rate of \w+ as a number above 0, received 0"),
        ({"learning_rate": float("nan")}, "received nan"),
        ({"learning_rate": float("inf")}, "received inf"),
        ({"patience": -1}, r"expected patience of \w+ as a whole number, 0 or more, received -1"),
        ({"schedule": "step"}, r"expected schedule of \w+ to be one of cosine, constant, received 'step'"),
    ],
)
def test_networks__settings_are_checked_at_birth(make, setting, message):
    with pytest.raises(ValueError, match=message):
        make(**setting)


@pytest.mark.parametrize(
    ("make", "setting", "message"),
    [
        (networks.lenet5, {"activation": "gelu"}, "to be one of relu, tanh, received 'gelu'"),
        (networks.lenet5, {"pooling": None}, "to be one of max, average, received None"),
        (networks.denoising_autoencoder, {"filters": 0}, "expected filters"),
        (networks.denoising_autoencoder, {"skips": 1}, "expected skips .* as True or False, received 1"),
        (networks.lstm_sentiment, {"vocabulary": 2}, "expected vocabulary .* 3 or more, received 2"),
        (networks.lstm_sentiment, {"length": 0}, "expected length"),
        (networks.lstm_sentiment, {"dropout": 1.0}, "expected dropout .* 0 or more and at most 0.99, received 1.0"),
    ],
)
def test_network__own_settings_are_checked_at_birth(make, setting, message):
    with pytest.raises(ValueError, match=message):
        make(**setting)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (networks.lenet5(), ((28, 28), 10), r"expected an input_shape of \(height, width, channels\)"),
        (networks.lenet5(), ((28, 28, 0), 10), "expected an input_shape"),
        (networks.lenet5(), ((28, 28, 1), 1), r"expected at least two classes for lenet5\(\), received 1"),
        (networks.denoising_autoencoder(), ((3, 28, 1),), "with sides of at least 4"),
        (networks.lstm_sentiment(), ((100,), 2), r"expected an input_shape of \(256,\)"),
    ],
)
def test_build__refuses_what_does_not_fit(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network.build(*arguments)


@pytest.mark.parametrize(
    ("backend", "missing", "cure"),
    [
        ("tensorflow", "tensorflow", r"duskflow\[tensorflow\]"),
        ("torch", "torch", "torch"),
        ("tensorflow", "keras", r"duskflow\[tensorflow\]"),
    ],
)
def test_build__without_keras_says_what_to_install(backend, missing, cure, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr("tasks.networks.backend.find_spec", lambda name: None if name == missing else find("json"))
    with pytest.raises(ModuleNotFoundError, match=f"networks need {missing} .* not installed; pip install '{cure}'"):
        networks.lenet5().build()


def test_import__needs_no_keras():
    code = "import sys, tasks.networks as n; n.lenet5(); n.lstm_sentiment(); print('keras' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "False\n"


class Mine:
    """By protocol alone: what a user might write."""

    kind, task, epochs, batch_size = "images", "classification", 2, 16

    def build(self, input_shape, classes, *, seed=0):
        raise NotImplementedError


class Reader(Mine):
    kind, vocabulary, length = "texts", 100, 10


def test_documentation__example_is_a_network():
    page = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(from dataclasses.*?)```", page, re.DOTALL)
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(example, "networks.md", "exec", dont_inherit=True), scope)
    network = scope["Perceptron"]()  # type: ignore[operator]
    check_network(network)
    assert network.build((5, 4, 3), 6, seed=1).count_params() == dense(5 * 4 * 3, 6)


@pytest.mark.parametrize("network", [Mine(), Reader(), *[make() for make in ALL]])
def test_check_network__accepts_the_protocol(network):
    check_network(network)
    assert isinstance(network, networks.Network)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (networks.lenet5, TypeError, "received a class; call it"),
        ("lenet5", TypeError, "received 'lenet5' without kind, task, epochs, batch_size, build; add them"),
        (type("Wrong", (Mine,), {"kind": "sounds"})(), ValueError, "with a kind of .* received 'sounds'"),
        (type("Wrong", (Mine,), {"task": "captioning"})(), ValueError, "with a task of .* received 'captioning'"),
        (type("Wrong", (Reader,), {"length": None})(), TypeError, "an integer 'length'; add it"),
        (type("Wrong", (Reader,), {"task": "reconstruction"})(), ValueError, "for texts to be a classification"),
    ],
)
def test_check_network__refuses(network, error, message):
    with pytest.raises(error, match=message):
        check_network(network)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Great!<br /><br />Not THAT bad...", ["great", "not", "that", "bad"]),
        ("It's 'fine', isn't it?<BR>ok", ["it's", "fine", "isn't", "it", "ok"]),
        ("Élan à 10/10", ["élan", "à", "10", "10"]),
        ("<br /> ... !", []),
    ],
)
def test_tokenize__words(text, words):
    assert tokenize(text) == words


TEXT = st.text(st.sampled_from("ab c'É1<br />."), max_size=20)


@given(st.lists(TEXT, max_size=12), st.integers(0, 12), st.integers(3, 9))
def test_vocabulary__does_not_depend_on_the_blocks(texts, cut, size):
    if not count_words(texts):
        with pytest.raises(ValueError, match="expected at least one word"):
            Vocabulary.fit([texts], size)
        return
    whole = Vocabulary.fit([texts], size)
    assert whole == Vocabulary.fit([texts[cut:], texts[:cut]], size)
    assert whole == Vocabulary.from_counts(count_words(texts[:cut]) + count_words(texts[cut:]), size)
    assert len(whole) <= size
    assert Vocabulary.from_json(whole.to_json()) == whole == pickle.loads(pickle.dumps(whole))


def test_vocabulary__most_frequent_first_and_ties_in_order():
    counts = Counter({"b": 2, "a": 2, "z": 5, "é": 2, "rare": 1})
    assert Vocabulary.from_counts(counts, 6).words == ("z", "a", "b", "é")
    with pytest.raises(ValueError, match="expected a vocabulary of at least 3 codes, received 2"):
        Vocabulary.from_counts(counts, 2)


def test_vocabulary__encodes_the_last_words_behind_padding():
    vocabulary = Vocabulary(("the", "film", "good"))
    rows = vocabulary.encode(["Good film", "the the the FILM was<br />good", "", "!?"], 4)
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, [[0, 0, 4, 3], [2, 3, 1, 4], [0] * 4, [0] * 4])
    assert rows.max() < len(vocabulary) == 5


def test_vocabulary__pickled_one_encodes_alike():
    vocabulary = Vocabulary(("a", "b"))
    copy = pickle.loads(pickle.dumps(vocabulary))
    np.testing.assert_array_equal(copy.encode(["b a c"], 5), vocabulary.encode(["b a c"], 5))


@pytest.mark.parametrize(
    "document", ["[]", "{}", json.dumps({"version": 2, "words": ["a"]}), json.dumps({"version": 1})]
)
def test_vocabulary__other_documents_are_refused(document):
    with pytest.raises(ValueError, match="expected a vocabulary document of version 1"):
        Vocabulary.from_json(document)


@pytest.mark.parametrize(("words", "message"), [((), "at least one word"), (("a", "a"), "different words")])
def test_vocabulary__refuses_words(words, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)
