"""Training: tiny data made here, learned on a worker or in this process; what is refused, and what stays on disk."""

from __future__ import annotations

import json
import logging
import math
import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import Event

from storage.dataset import open_dataset
from storage.feeding.batches import batches
from storage.feeding.order import EpochOrder
from storage.layout import Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.versions import publish
from storage.writer import Build, StorageError
from tasks import networks, noise
from tasks.networks.vocabulary import Vocabulary
from tasks.training import submit_training, train, wait_result
from tasks.training.artifacts import open_folder, save_arrays, save_model
from tasks.training.data import image_feed, pairs, text_feed
from tasks.training.device import prepare_device
from tasks.training.scoring import PREDICT_BATCH, predict

# Keras hands NumPy its own variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

COUNT, SPLITS = 160, {"train": (0, 96), "validation": (96, 128), "test": (128, 160)}


class small_classifier(networks.lenet5):
    """A user's own network, by the protocol: one dense layer that learns in a second."""

    def build(self, input_shape, classes, *, seed=0):
        import keras

        image = keras.Input(input_shape, dtype="uint8")
        start = keras.initializers.GlorotUniform(seed=seed)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        model = keras.Model(image, keras.layers.Dense(classes, activation="softmax", kernel_initializer=start)(x))
        rate = float(self.learning_rate)
        model.compile(keras.optimizers.SGD(rate), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


FAST = small_classifier(epochs=3, batch_size=16, learning_rate=0.5)
DENOISER = networks.denoising_autoencoder(filters=8, epochs=6, batch_size=8, learning_rate=0.01)
READER = networks.lstm_sentiment(
    vocabulary=30, length=6, embedding=4, units=4, epochs=4, batch_size=8, learning_rate=0.05
)


def write(folder: Path, values, labels, *, name="clean", classes=("a", "b"), splits=SPLITS) -> str:
    """Write a dataset of three shards as ingest would."""
    texts = isinstance(values, list)
    layout = Layout(len(values), chunk=10, shard=60)
    plan = Plan(
        name=name,
        kind="texts" if texts else "images",
        layout=layout,
        recipe={"test": name},
        sample_shape=None if texts else values.shape[1:],
        classes=classes,
        splits=splits,
        slot_bytes=10_000 if texts else None,
    )
    build = Build(str(folder / name), plan)
    build.begin()
    ids = np.random.default_rng(1).permutation(len(values)).astype(np.int64)
    codes = np.zeros(len(values), np.uint8)
    for code, split in enumerate(("train", "validation", "test")):
        codes[slice(*splits.get(split, (0, 0)))] = code
    for number in range(layout.shards):
        rows = slice(*layout.bounds(number))
        build.write_shard(number, Shard(values[rows], labels[rows], ids[rows], codes[rows]))
    build.finish()
    publish(build.dataset, [build.plan.key])
    return str(folder / name)


def make_images(side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Smooth images, bright on the left (class 0) or on the right (class 1)."""
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    ramp = np.linspace(220, 20, side)
    columns = np.where(labels[:, None] == 0, ramp, ramp[::-1])[:, None, :, None]
    return np.clip(columns + rng.normal(0, 15, (COUNT, 1, 1, 1)), 0, 255).astype(np.uint8).repeat(side, 1), labels


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, str]:
    """A clean dataset and a noisy copy."""
    folder = tmp_path_factory.mktemp("images")
    values, labels = make_images()
    clean = write(folder, values, labels)
    noisy = noise.Gaussian(severity=4)(values, open_dataset(clean).ids())
    return {"clean": clean, "gaussian-4": write(folder, noisy, labels, name="gaussian-4")}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> str:
    """Short reviews with one telling word each."""
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 2
    words = [["it", "was", "a", ("bad", "good")[label], "film"] for label in labels]
    return write(tmp_path_factory.mktemp("texts"), [" ".join(rng.permutation(text)) for text in words], labels)


@pytest.fixture(scope="module")
def classified(images, tmp_path_factory):
    """The result of a small training, its folder, and what it reported on the way."""
    folder, seen = tmp_path_factory.mktemp("classified"), []
    return train(FAST, images["clean"], tests=images, folder=folder, label="mine", progress=seen.append), folder, seen


def test_train__classification_learns(classified):
    result, *_ = classified
    assert json.loads(json.dumps(result)) == result
    assert {
        name: result[name] for name in ("label", "name", "kind", "task", "trained_on", "fit_rows", "parameters")
    } == {
        "label": "mine",
        "name": "small_classifier",
        "kind": "network",
        "task": "classification",
        "trained_on": "clean",
        "fit_rows": 96,
        "parameters": (8 * 8 + 1) * 2,
    }
    assert [(score["data"], score["split"], score["rows"]) for score in result["scores"]] == [
        ("clean", "test", 32),
        ("gaussian-4", "test", 32),
    ]
    assert result["scores"][0]["measure"] == "accuracy"
    assert result["scores"][0]["value"] > 0.9
    assert np.sum(result["scores"][0]["confusion"]) == 32
    assert set(result["history"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert len(result["history"]["loss"]) == 3


def test_train__saved_model_gives_the_saved_predictions(classified, images):
    import keras

    result, folder, _ = classified
    assert sorted(path.name for path in folder.iterdir()) == sorted(result["artifacts"].values())
    model = keras.models.load_model(folder / result["artifacts"]["model"])
    with np.load(folder / result["artifacts"]["predictions"]) as saved:
        for score in result["scores"]:
            name = score["data"]
            dataset = open_dataset(images[name])
            found = model.predict_on_batch(dataset.read(128, 160)).argmax(axis=1)
            np.testing.assert_array_equal(saved[f"{name}/predicted"], found)
            np.testing.assert_array_equal(saved[f"{name}/ids"], dataset.ids()[128:])
            assert np.mean(found == saved[f"{name}/labels"]) == score["value"]
            assert np.trace(score["confusion"]) == np.sum(found == saved[f"{name}/labels"])


def test_train__reconstruction_raises_the_psnr(images, tmp_path):
    result = train(DENOISER, images["clean"], images["gaussian-4"], images, folder=tmp_path)
    assert json.loads(json.dumps(result)) == result
    assert (result["task"], result["trained_on"]) == ("reconstruction", "gaussian-4")
    (score,) = result["scores"]  # a gain has no meaning on the clean data
    assert (score["data"], score["measure"], score["rows"]) == ("gaussian-4", "PSNR gain (dB)", 32)
    assert score["value"] > 3
    assert score["value"] == pytest.approx(score["extra"]["psnr_denoised"] - score["extra"]["psnr_noisy"])
    assert score["extra"]["psnr_clean"] > score["extra"]["psnr_noisy"]
    clean, noisy = (open_dataset(images[name]).read(128, 160).astype(float) for name in images)
    errors = ((clean - noisy) ** 2).mean(axis=(1, 2, 3))
    assert score["extra"]["psnr_noisy"] == pytest.approx(np.mean(10 * np.log10(255**2 / errors)), rel=1e-5)
    with np.load(tmp_path / result["artifacts"]["examples"]) as saved:
        assert set(saved) == {f"gaussian-4/{part}" for part in ("clean", "noisy", "denoised")}
        np.testing.assert_array_equal(saved["gaussian-4/clean"], clean[:12])
        np.testing.assert_array_equal(saved["gaussian-4/noisy"], noisy[:12])
        assert saved["gaussian-4/denoised"].dtype == np.uint8


def test_train__reconstruction_without_noise_reports_its_psnr(images, tmp_path):
    result = train(DENOISER, images["clean"], folder=tmp_path)
    (score,) = result["scores"]
    assert (score["data"], score["measure"], score["extra"].keys()) == ("clean", "PSNR (dB)", {"mse"})
    assert score["value"] > 10


@pytest.fixture(scope="module")
def read(texts, tmp_path_factory):
    """The result of a small training on texts, and its folder."""
    folder = tmp_path_factory.mktemp("read")
    return train(READER, texts, folder=folder, seed=5), folder


def test_train__texts(read):
    result, folder = read
    assert result["scores"][0]["value"] > 0.9
    vocabulary = networks.Vocabulary.from_json((folder / result["artifacts"]["vocabulary"]).read_text("utf-8"))
    assert sorted(vocabulary.words) == ["a", "bad", "film", "good", "it", "was"]
    assert result["parameters"] == 30 * 4 + 4 * 4 * (4 + 4 + 1) + 9 * 2


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


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_train__same_seed_same_result(kind, classified, read, images, texts, tmp_path):
    first = classified[0] if kind == "images" else read[0]
    network, path, seed = (FAST, images["clean"], 0) if kind == "images" else (READER, texts, 5)
    with Hammer():
        again = train(network, path, folder=tmp_path, seed=seed)
    # Threads may take the sums of floats in another order; random numbers that differ change far more than that.
    np.testing.assert_allclose(first["history"]["loss"], again["history"]["loss"], rtol=1e-5)


def test_train__stops_early_and_returns_to_the_best_epoch(images, tmp_path):
    import keras

    # So fast that the loss goes up and down; the best epoch is not the last one.
    network = small_classifier(epochs=40, batch_size=8, learning_rate=40.0, schedule="constant", patience=3)
    result = train(network, images["clean"], folder=tmp_path)
    losses = result["history"]["val_loss"]
    assert result["best_epoch"] == int(np.argmin(losses)) + 1 == len(losses) - 3 < 37
    model = keras.models.load_model(tmp_path / "model.keras")
    dataset = open_dataset(images["clean"])
    true = model.predict_on_batch(dataset.read(96, 128))[np.arange(32), dataset.labels()[96:128]]
    assert -np.log(np.clip(true, 1e-7, 1)).mean() == pytest.approx(min(losses), rel=1e-3, abs=1e-6)


def test_train__without_patience_needs_no_validation(tmp_path):
    values, labels = make_images()
    path = write(tmp_path, values, labels, splits={"train": (0, 120), "test": (120, 160)})
    with pytest.raises(ValueError, match=r"expected validation rows .* split some off, or set patience=None"):
        train(FAST, path, folder=tmp_path / "out")
    result = train(small_classifier(epochs=1, patience=None), path, folder=tmp_path / "out")
    assert set(result["history"]) == {"loss", "accuracy"}
    assert (result["best_epoch"], result["fit_rows"]) == (1, 120)


def test_train__progress_of_every_epoch(classified):
    result, _, seen = classified
    assert [(event["step"], event["epoch"], event["epochs"]) for event in seen] == [("mine", i, 3) for i in (1, 2, 3)]
    assert [event["logs"]["loss"] for event in seen] == result["history"]["loss"]


def test_train__refuses_other_data(images, texts, tmp_path):
    values, labels = make_images()
    one_class = write(tmp_path, values, labels * 0, name="one-class")
    unlabelled = write(tmp_path, values, labels * 0 - 1, name="unlabelled", classes=())
    fewer = write(
        tmp_path, values[:100], labels[:100], name="fewer", splits={"train": (0, 80), "validation": (80, 100)}
    )
    for network, clean, noisy, message in [
        (FAST, texts, None, "expected images for .* received texts in"),
        (READER, images["clean"], None, "expected texts for .* received images in"),
        (FAST, one_class, None, "expected at least two classes for .* received 1"),
        (FAST, unlabelled, None, "expected labels for .* received 96 rows without; add labels"),
        (DENOISER, images["clean"], fewer, "expected the rows of .* received others"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(network, clean, noisy, folder=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        train(FAST, tmp_path / "absent", folder=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_train__refuses_a_model_that_is_not_compiled(images, tmp_path):
    class Uncompiled(small_classifier):
        def build(self, input_shape, classes, *, seed=0):
            import keras

            return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(classes)])

    with pytest.raises(TypeError, match=r"expected a compiled keras\.Model .* received one that is not compiled"):
        train(Uncompiled(), images["clean"], folder=tmp_path)


def test_train__diverged(images, tmp_path):
    network = small_classifier(epochs=2, learning_rate=1e39)  # infinite in float32
    with pytest.raises(ArithmeticError, match=r"expected a finite loss in epoch 1 of .*: lower learning_rate"):
        train(network, images["clean"], folder=tmp_path)


def test_train__lost_shard_is_named_and_leaves_no_model(images, tmp_path):
    shutil.copytree(images["clean"], tmp_path / "copy")
    next((tmp_path / "copy").rglob("images/c.1.0.0.0")).unlink()
    with pytest.raises(StorageError, match="missing shard 1"):
        train(FAST, tmp_path / "copy", folder=tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.fixture(scope="module")
def gpu_client(cluster_of):
    """One worker that declares CPU and one that declares GPU."""
    with cluster_of({"CPU": 1}, {"GPU": 1}) as client:
        yield client


def test_submit_training__on_the_worker_that_declares_a_gpu(gpu_client, images, tmp_path, caplog):
    seen: list[dict] = []
    gpu_client.subscribe_topic("duskflow", lambda event: seen.append(event[1]))
    with caplog.at_level(logging.WARNING, "duskflow.training"):
        future = submit_training(gpu_client, FAST, images["clean"], folder=tmp_path, label="my-step")
        result = wait_result(gpu_client, future)
    assert result["scores"][0]["value"] > 0.9
    assert future.key.startswith("my_step-")
    has = gpu_client.who_has([future])[future.key]
    workers = gpu_client.scheduler_info()["workers"]
    assert [workers[address]["resources"] for address in has] == [{"GPU": 1}]
    said = [record.getMessage() for record in caplog.records if record.name == "duskflow.training"]
    assert said == ([f"no GPU found on this worker: {FAST} trains on CPU"] if result["device"] == "CPU" else [])
    events = [event for _, event in gpu_client.get_events("duskflow")]
    assert [(event["step"], event["epoch"]) for event in events] == [("my-step", i) for i in (1, 2, 3)]


def test_submit_training__error_reaches_the_caller(gpu_client, texts, tmp_path):
    with pytest.raises(ValueError, match="expected images for"):
        wait_result(gpu_client, submit_training(gpu_client, FAST, texts, folder=tmp_path, retries=0))


def test_submit_training__without_a_gpu_worker(cluster_of, images, tmp_path):
    with cluster_of({"CPU": 1}) as client:
        with pytest.raises(
            RuntimeError, match=r'expected a worker that declares a GPU .* connect\("local", gpu_workers=1\)'
        ):
            submit_training(client, FAST, images["clean"], folder=tmp_path)
        with pytest.raises(TypeError, match="expected a network such as"):
            submit_training(client, "lenet5", images["clean"], folder=tmp_path)
        assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0


def wait_for(event: str) -> bool:
    return Event(event).wait(timeout=30)


def time_out() -> None:
    raise TimeoutError("its own")


def test_wait_result__gives_up_without_workers(cluster_of):
    with cluster_of({"CPU": 1}) as client:
        future = client.submit(sum, [1, 2], resources={"GPU": 1}, key="training-1")
        with pytest.raises(
            RuntimeError, match="expected a worker that declares a GPU for training-1, found none for 0 s"
        ):
            wait_result(client, future, patience=0, poll=0.01)
        assert future.cancelled()


def test_wait_result__waits_for_a_busy_worker(gpu_client):
    release = Event("release", client=gpu_client)
    held = gpu_client.submit(wait_for, "release", resources={"GPU": 1}, pure=False)
    future = gpu_client.submit(sum, [1, 2], resources={"GPU": 1}, pure=False)
    threading.Timer(0.1, release.set).start()
    assert wait_result(gpu_client, future, patience=0, poll=0.01) == 3
    assert held.result()


def test_wait_result__error_of_the_training_that_is_a_timeout(gpu_client):
    future = gpu_client.submit(time_out, resources={"GPU": 1}, pure=False)
    with pytest.raises(TimeoutError, match="its own"):
        wait_result(gpu_client, future, poll=0.01)


def test_prepare_device__twice():
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    found = prepare_device()
    assert found == prepare_device()
    assert found.startswith("GPU ") if gpus else found == "CPU"


def test_image_feed__targets_are_the_same_rows(images):
    clean, noisy = (open_dataset(path) for path in images.values())
    feed = image_feed(noisy, clean, 10, 3, "train", True)
    feed.set_epoch(1)
    assert len(feed) == 10
    order = {array.tobytes(): row for row, array in enumerate(noisy.read(0, 96))}
    seen = []
    for values, target in pairs(feed):
        rows = [order[value.tobytes()] for value in values]
        np.testing.assert_allclose(target * 255, clean.take(np.array(rows)), rtol=1e-6)
        assert (values.dtype, target.dtype) == (np.uint8, np.float32)
        seen += rows
    assert sorted(seen) == list(range(96))
    assert seen != sorted(seen)


def test_image_feed__augmented_anew_in_every_epoch(images):
    clean = open_dataset(images["clean"])
    augment = noise.Sequence([noise.Shift(severity=2, vary=True), noise.Gaussian(severity=1)])
    feed = image_feed(clean, clean, 10, 3, "train", True, augment)
    seen = []
    for epoch in (0, 1):
        feed.set_epoch(epoch)
        found = list(pairs(feed))
        for (values, target), plain in zip(found, batches(clean, 10, seed=3, epoch=epoch), strict=True):
            np.testing.assert_array_equal(values, augment(plain["values"], plain["ids"], seed=3, epoch=epoch))
            np.testing.assert_allclose(target * 255, plain["values"], rtol=1e-6)
        seen.append({value.tobytes() for values, _ in found for value in values})
    assert not seen[0] & seen[1]
    validation = image_feed(clean, clean, 10, 3, "validation", False, augment)
    one = list(pairs(validation))
    validation.set_epoch(1)
    for (values, _), (other, _) in zip(one, pairs(validation), strict=True):
        np.testing.assert_array_equal(values, other)


def test_text_feed__gives_what_the_vocabulary_gives(texts):
    dataset = open_dataset(texts)
    rows = dataset.rows("train")
    written = dataset.read(rows.start, rows.stop)
    vocabulary = Vocabulary.fit([written], 50)
    for augment in (None, noise.WordDrop(rate=0.3)):
        feed = text_feed(dataset, vocabulary, 6, 7, 3, "train", True, augment)
        feed.set_epoch(2)
        order = EpochOrder(np.array([rows.start, rows.stop]), 7, seed=3, epoch=2, version=dataset.version)
        for step, (tokens, labels) in enumerate(pairs(feed)):
            places = order.rows(step, step + 1)[0]
            wanted = dataset.take(places)
            if augment is not None:
                wanted = augment(wanted, dataset.ids()[places], seed=3, epoch=2)
            np.testing.assert_array_equal(tokens, vocabulary.encode(wanted, 6))
            np.testing.assert_array_equal(labels, dataset.labels()[places])


def test_train__augmented_images_and_texts(images, texts, tmp_path):
    jitter = noise.Sometimes(0.5, noise.Brightness(amount=0.05))
    seen = train(replace(FAST, augment=jitter), images["clean"], folder=tmp_path / "images")
    assert seen["trained_on"] == f"clean, {jitter} in each epoch"
    assert seen["scores"][0]["value"] > 0.9
    plain = train(FAST, images["clean"], folder=tmp_path / "plain")
    assert plain["history"] != seen["history"]
    read = train(replace(READER, augment=noise.WordDrop(rate=0.1)), texts, folder=tmp_path / "texts")
    assert read["scores"][0]["value"] > 0.8


def test_train__a_denoiser_that_makes_its_own_noise(images, tmp_path):
    tests = {name: path for name, path in images.items() if name != "clean"}
    own = replace(DENOISER, augment=noise.Gaussian(severity=4))
    result = train(own, images["clean"], images["gaussian-4"], tests, folder=tmp_path)
    assert result["trained_on"] == "clean, Gaussian(severity=4) in each epoch"
    assert result["scores"][0]["value"] > 3  # dB won


@pytest.mark.parametrize(
    ("augment", "error", "match"),
    [
        (noise.Gaussian, TypeError, "expected augment of lenet5 as a noise such as"),
        ("noise", TypeError, "expected augment of lenet5 as a noise such as"),
        (noise.WordDrop(severity=1), ValueError, "expected augment of lenet5 for images, received WordDrop"),
    ],
)
def test_networks__refuse_what_is_no_augmentation(augment, error, match):
    with pytest.raises(error, match=match):
        networks.lenet5(augment=augment)


def test_cosine_decay__from_the_first_rate_to_zero():
    from tasks.training.fitting import CosineDecay

    decay = CosineDecay(0.2, epochs=5, steps=20)
    assert decay.rate(0) == 0.2
    assert decay.rate(50) == pytest.approx(0.1)
    assert decay.rate(25) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert 0 < decay.rate(99) < 1e-4


@pytest.mark.parametrize("count", [1, PREDICT_BATCH, PREDICT_BATCH + 3])
def test_predict__pads_the_last_batch_only(count):
    shapes = []

    class Doubling:
        def predict_on_batch(self, values):
            shapes.append(len(values))
            return values * 2.0

    values = np.arange(count, dtype=np.float32)[:, None]
    batches = (values[low : low + PREDICT_BATCH] for low in range(0, count, PREDICT_BATCH))
    np.testing.assert_array_equal(np.concatenate(list(predict(Doubling(), batches))), values * 2)
    assert set(shapes) == {PREDICT_BATCH}


def test_artifacts__failure_leaves_nothing(tmp_path):
    class Broken:
        def save(self, path):
            Path(path).write_bytes(b"half")
            raise OSError("disk full")

    folder = open_folder(tmp_path / "new" / "folder")
    with pytest.raises(OSError, match="disk full"):
        save_model(folder, Broken())
    assert not list(folder.iterdir())


def test_artifacts__remains_of_a_killed_training_are_removed(tmp_path):
    save_arrays(tmp_path, "kept.npz", {"a/b": np.arange(3)})
    for left in ("model-1-ab.partial.keras", "examples.npz.1-ab.partial"):
        (tmp_path / left).touch()
    assert [path.name for path in open_folder(tmp_path).iterdir()] == ["kept.npz"]
    with np.load(tmp_path / "kept.npz") as saved:
        np.testing.assert_array_equal(saved["a/b"], np.arange(3))
