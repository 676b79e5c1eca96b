"""Robustness curves in a run: numbers, what is reused, what is never fitted or trained again, and what fails alone."""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier as ReferenceNeighbors

import storage
from pipeline import Pipeline, Robustness
from pipeline.inventory import prune_root
from tasks import methods, networks, noise, sources

# Keras hands NumPy its own variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

KEYS = {"label", "kind", "measure", "clean", "scores", "denoised_clean", "denoised", "ce", "mce", "relative_mce"}


@dataclass(frozen=True)
class Shrink:
    """A user's noise that is none: it loses rows."""

    kind: ClassVar[str] = "images"
    severity: int = 1

    def __call__(self, samples, ids, seed=0, epoch=0):
        return samples[:-1]


class one_layer(networks.lenet5):
    """A user's own network: one dense layer that learns in a second."""

    def build(self, input_shape, classes, *, seed=0):
        import keras

        image = keras.Input(input_shape, dtype="uint8")
        start = keras.initializers.GlorotUniform(seed=seed)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
        model = keras.Model(image, keras.layers.Dense(classes, activation="softmax", kernel_initializer=start)(x))
        model.compile(keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


class no_model(networks.denoising_autoencoder):
    """A denoiser that cannot be built."""

    def build(self, input_shape=(28, 28, 1), classes=0, *, seed=0):
        raise ValueError("no such luck")


CLASSIFIER = one_layer(epochs=2, batch_size=16, patience=None)
DENOISER = networks.denoising_autoencoder(filters=2, epochs=1, batch_size=32, patience=None)
GAUSSIAN = Robustness(noise=[noise.Gaussian], severities=(1, 5))


@pytest.fixture
def spread() -> sources.Arrays:
    """300 images that noise makes harder to tell apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    images = (labels[:, None, None] * 30 + rng.integers(0, 120, (300, 8, 8))).astype(np.uint8)
    return sources.Arrays(images=images, labels=labels, classes=("dark", "grey", "bright"))


def statuses(run) -> dict[str, str]:
    return {step["name"]: step["status"] for step in run.steps}


def test_run__numbers_are_those_of_noise_added_by_hand(spread, client, tmp_path):
    kinds = [noise.Gaussian, noise.SaltAndPepper]
    asked = Robustness(noise=kinds, severities=[5, 1, 3], baseline="KNeighborsClassifier(n_neighbors=1)")
    chosen = [methods.KNeighborsClassifier(7), methods.KNeighborsClassifier(1), methods.KMeans(3), methods.PCA(2)]
    run = Pipeline("hand", spread, methods=chosen, seed=4, robustness=asked).run(tmp_path, client=client)
    assert run.exit_code == 0
    gc.collect()
    assert not [key for key in client.futures if "robustness" in str(key)]  # the workers' memory is free again
    clean = storage.open_dataset(run.dataset_path("clean"))
    values, labels, ids = clean.read(0, 300), clean.labels(), clean.ids()
    train, test = clean.rows("train"), clean.rows("test")

    def rows(samples):
        return samples.reshape(len(samples), -1).astype(np.float32) / np.float32(255)

    errors = {}
    by_label = {entry["label"]: entry for entry in run.record["robustness"]["results"]}
    for method in chosen[:2]:
        reference = ReferenceNeighbors(method.n_neighbors).fit(rows(values[train]), labels[train])
        entry = by_label[" ".join(str(method).split())]
        assert entry.keys() == KEYS
        assert entry["clean"] == pytest.approx(reference.score(rows(values[test]), labels[test]))
        for kind in kinds:
            noisy = [rows(kind(severity=s)(values[test], ids[test], seed=4)) for s in (1, 3, 5)]
            expected = [reference.score(X, labels[test]) for X in noisy]
            assert entry["scores"][kind.__name__] == pytest.approx(expected)
            errors[method.n_neighbors, kind.__name__] = sum(1 - value for value in expected)
        errors[method.n_neighbors, "clean"] = 3 * (1 - entry["clean"])
    ce = {kind.__name__: errors[7, kind.__name__] / errors[1, kind.__name__] for kind in kinds}
    relative = [
        (errors[7, name] - errors[7, "clean"]) / (errors[1, name] - errors[1, "clean"])
        for name in ("Gaussian", "SaltAndPepper")
    ]
    (seven,) = (entry for label, entry in by_label.items() if label != asked.baseline)
    assert seven["ce"] == pytest.approx(ce)
    assert seven["mce"] == pytest.approx(np.mean(list(ce.values())))
    assert seven["relative_mce"] == pytest.approx(np.mean(relative))
    assert by_label[asked.baseline]["mce"] == 1.0
    assert len(by_label) == 2  # clusters and components have no accuracy


def test_run__record_and_tables(spread, client, tmp_path):
    asked = Robustness(noise=[noise.Gaussian], severities=(2, 4), rows=20)
    run = Pipeline("record", spread, methods=[methods.LinearSVC()], robustness=asked).run(tmp_path, client=client)
    record = json.loads((run.folder / "run.json").read_text())["robustness"]
    assert {name: record[name] for name in ("baseline", "denoiser", "split", "rows", "seed", "noises")} == {
        "baseline": "LinearSVC()",
        "denoiser": None,
        "split": "test",
        "rows": 20,
        "seed": 0,
        "noises": [
            {"name": "Gaussian", "severities": [2, 4], "written": ["Gaussian(severity=2)", "Gaussian(severity=4)"]}
        ],
    }
    table = run.robustness()
    assert list(table.columns) == ["label", "kind", "noise", "severity", "accuracy", "denoised"]
    assert table["severity"].tolist() == [0, 2, 4] and not table["denoised"].any()
    (entry,) = record["results"]
    assert table["accuracy"].tolist() == [entry["clean"], *entry["scores"]["Gaussian"]]
    assert run.corruption_errors().to_dict("records") == [
        {"label": "LinearSVC()", "mCE": 1.0, "relative mCE": 1.0, "Gaussian": 1.0}
    ]


def test_run__without_robustness(spread, client, tmp_path):
    run = Pipeline("plain", spread, methods=[methods.LinearSVC()]).run(tmp_path, client=client)
    assert run.record["robustness"] is None
    assert run.robustness().empty and run.corruption_errors().empty


def test_run__fits_once_and_then_reuses(source, client, tmp_path, traces, traced):
    asked = Pipeline("once", source, methods=[traced()], robustness=GAUSSIAN)
    (label,) = asked.labels
    waiting = asked.plan(tmp_path).steps[-1]
    assert (waiting.name, waiting.kind, waiting.state) == (f"robustness {label}", "robustness", "missing")
    run = asked.run(tmp_path, client=client)
    assert statuses(run) == {"clean": "done", label: "done", f"robustness {label}": "done"}
    assert len(list(traces.iterdir())) == 1  # fitted for both
    assert asked.plan(tmp_path).finished and asked.plan(tmp_path).steps[-1].detail == "3 of 3 scores"
    again = asked.run(tmp_path, client=client)
    assert set(statuses(again).values()) == {"reused"}
    assert again.record["robustness"] == run.record["robustness"]
    assert len(list(traces.iterdir())) == 1


def test_run__more_noises_keep_what_is_there(source, client, tmp_path, traces, traced):
    first = Pipeline("more", source, methods=[traced()], robustness=GAUSSIAN)
    first.run(tmp_path, client=client)
    wider = Robustness(noise=[noise.SaltAndPepper, noise.Gaussian], severities=(1, 3, 5))
    second = replace(first, robustness=wider)
    assert [step.state for step in second.plan(tmp_path)] == ["done", "done", "partly done"]
    assert second.plan(tmp_path).steps[-1].detail == "3 of 7 scores"
    run = second.run(tmp_path, client=client)
    assert list(statuses(run).values()) == ["reused", "reused", "done"]
    assert set(statuses(first.run(tmp_path, client=client)).values()) == {"reused"}
    assert len(list(traces.iterdir())) == 2  # once more for the missing scores, and not for those that are there
    prune_root(tmp_path, keep=1, apply=True)
    assert second.plan(tmp_path).finished


def test_run__stored_copies_give_the_same_numbers(spread, client, tmp_path):
    asked = Robustness(noise=[noise.Gaussian, noise.SaltAndPepper], severities=(1, 4))
    fly = Pipeline(
        "stored", spread, [noise.Gaussian(severity=4)], [methods.LinearSVC(), methods.KNeighborsClassifier(3)]
    )
    runs = [
        replace(fly, robustness=replace(asked, store=store)).run(tmp_path / str(store), client=client)
        for store in (False, True)
    ]
    assert runs[0].record["robustness"] == runs[1].record["robustness"]
    assert [entry["name"] for entry in runs[1].record["datasets"]] == [
        "clean",
        "gaussian-4",
        "gaussian-1",
        "salt-and-pepper-1",
        "salt-and-pepper-4",
    ]
    assert len(runs[0].record["datasets"]) == 2
    # The leaderboard's accuracy on the pipeline's own copy of a noise is a point of the curve.
    for result, entry in zip(runs[0].record["results"], runs[0].record["robustness"]["results"], strict=True):
        assert [score["value"] for score in result["scores"]] == [entry["clean"], entry["scores"]["Gaussian"][1]]
    stored = replace(fly, robustness=replace(asked, store=True))
    assert stored.plan(tmp_path / "True").finished
    # Asking for copies of what is scored already makes the copies and scores nothing.
    later = stored.run(tmp_path / "False", client=client)
    assert {status for name, status in statuses(later).items() if name.startswith("robustness")} == {"reused"}
    assert len(stored.repair(tmp_path / "True", client=client)) == 5


def test_run__interrupted_scoring_is_continued(spread, client, tmp_path, monkeypatch):
    from pipeline.execution import Execution

    asked = Robustness(noise=[noise.Gaussian, noise.SaltAndPepper], severities=(1, 3, 5))
    made = Pipeline("half", spread, methods=[methods.LinearSVC()], robustness=asked)
    reference = made.run(tmp_path / "whole", client=client)
    monkeypatch.setattr("tasks.robustness.scoring.WINDOW_BYTES", 1)  # a window for each condition
    plain, told = Execution.bar, []

    def breaks(self, name, total, unit, done=0):
        bar = plain(self, name, total, unit, done)
        advance = bar.advance

        def advance_then_break(count, note=""):
            advance(count, note)
            told.append(name)
            if told.count("robustness LinearSVC()") == 3:
                raise KeyboardInterrupt

        bar.advance = advance_then_break
        return bar

    with monkeypatch.context() as patch:
        patch.setattr(Execution, "bar", breaks)
        with pytest.raises(KeyboardInterrupt):
            made.run(tmp_path / "half", client=client)
    assert made.plan(tmp_path / "half").steps[-1].detail == "3 of 7 scores"
    resumed = made.run(tmp_path / "half", client=client)
    assert resumed.record["robustness"] == reference.record["robustness"]


def test_run__a_failing_noise_is_left_out(source, client, tmp_path):
    asked = Robustness(noise=[Shrink, noise.Gaussian], severities=(1, 2))
    made = Pipeline("shrink", source, methods=[methods.LinearSVC()], robustness=asked)
    run = made.run(tmp_path, client=client)
    assert run.exit_code == 1
    (failure,) = run.failures
    assert failure["name"] == "robustness noise Shrink" and "to keep uint8 and shape" in failure["error"]
    assert statuses(run)["robustness LinearSVC()"] == "done"
    record = run.record["robustness"]
    assert [entry["name"] for entry in record["noises"]] == ["Gaussian"]
    assert list(record["results"][0]["scores"]) == ["Gaussian"] and record["results"][0]["mce"] is not None
    assert record["notes"] == ["Shrink is left out: it failed"]
    stored = replace(made, robustness=replace(asked, store=True)).run(tmp_path, client=client)
    assert sorted(step["name"] for step in stored.failures) == ["shrink-1", "shrink-2"]
    assert set(stored.failures[0]) == set(failure)
    assert [entry["name"] for entry in stored.record["robustness"]["noises"]] == ["Gaussian"]


def test_run__a_failing_method_has_no_curve(source, client, tmp_path, traced):
    chosen = [traced(fail="no such luck"), traced(), methods.LinearSVC()]
    made = Pipeline("fails", source, methods=chosen, robustness=GAUSSIAN)
    run = made.run(tmp_path, client=client)
    first, second, third = made.labels
    assert statuses(run)[f"robustness {first}"] == "skipped"
    assert [entry["label"] for entry in run.record["robustness"]["results"]] == [second, third]
    assert run.record["robustness"]["baseline"] == first
    assert [entry["mce"] for entry in run.record["robustness"]["results"]] == [None, None]
    assert any("no such luck" in step["error"] for step in run.failures if step["name"] == f"robustness {first}")


def test_run__unreadable_source_skips_the_curves(client, tmp_path, traced):
    class Lying(sources.Arrays):
        def take(self, indices):
            raise OSError("the disk is gone")

    lying = Lying(images=np.zeros((9, 4, 4), np.uint8), labels=[0, 1, 2] * 3)
    run = Pipeline("lying", lying, methods=[traced()], robustness=GAUSSIAN).run(tmp_path, client=client)
    assert list(statuses(run).values()) == ["failed", "skipped", "skipped"]
    assert run.record["robustness"] is None


def test_run__networks_are_not_trained_again_and_denoise(spread, client, tmp_path):
    import keras

    plain = Pipeline("nets", spread, [noise.Gaussian(severity=3)], networks=[CLASSIFIER, DENOISER], seed=2)
    before = plain.run(tmp_path, client=client)
    models = sorted((tmp_path / "nets" / "steps").glob("*/model.keras"))
    written = [path.stat().st_mtime_ns for path in models]
    assert len(models) == 2
    asked = replace(plain, methods=(methods.KNeighborsClassifier(3),), robustness=GAUSSIAN)
    run = asked.run(tmp_path, client=client)
    state = statuses(run)
    assert run.exit_code == 0
    assert {state[str(network)] for network in (CLASSIFIER, DENOISER)} == {"reused"}
    assert [path.stat().st_mtime_ns for path in models] == written
    record = run.record["robustness"]
    assert record["denoiser"] == str(DENOISER)
    assert [(entry["kind"], entry["label"]) for entry in record["results"]] == [
        ("method", "KNeighborsClassifier(n_neighbors=3)"),
        ("network", str(CLASSIFIER)),
    ]
    # By hand: noise, the denoiser's model, the classifier.
    clean = storage.open_dataset(run.dataset_path("clean"))
    train, test = clean.rows("train"), clean.rows("test")
    values, labels, ids = clean.read(0, 300), clean.labels(), clean.ids()
    folders = {entry["label"]: tmp_path / "nets" / entry["folder"] for entry in before.record["results"]}
    denoiser, classifier = (
        keras.saving.load_model(folders[str(network)] / "model.keras") for network in (DENOISER, CLASSIFIER)
    )

    def denoised(samples):
        return np.rint(np.clip(denoiser.predict_on_batch(samples), 0, 1) * 255).astype(np.uint8)

    def rows(samples):
        return samples.reshape(len(samples), -1).astype(np.float32) / np.float32(255)

    reference = ReferenceNeighbors(3).fit(rows(values[train]), labels[train])
    method, network = record["results"]
    for severity, place in ((0, None), (1, 0), (5, 1)):
        noisy = noise.Gaussian(severity=severity)(values[test], ids[test], seed=2) if severity else values[test]
        for samples, entry_clean, entry_scores in (
            (noisy, "clean", "scores"),
            (denoised(noisy), "denoised_clean", "denoised"),
        ):
            expected = reference.score(rows(samples), labels[test])
            guessed = np.mean(classifier.predict_on_batch(samples).argmax(axis=1) == labels[test])
            for entry, truth in ((method, expected), (network, guessed)):
                found = entry[entry_clean] if place is None else entry[entry_scores]["Gaussian"][place]
                assert found == pytest.approx(truth, abs=1.5 / len(labels[test]))  # float rounding may turn one image
    assert run.robustness()["denoised"].sum() == 6
    assert set(statuses(asked.run(tmp_path, client=client)).values()) == {"reused"}
    without = replace(asked, robustness=replace(GAUSSIAN, denoise=False)).run(tmp_path, client=client)
    assert set(statuses(without).values()) == {"reused"}
    assert without.record["robustness"]["denoiser"] is None
    assert without.record["robustness"]["results"][0]["denoised"] is None


def test_run__a_denoiser_that_failed_is_left_out(source, client, tmp_path):
    broken = no_model(filters=2, epochs=1, patience=None)
    made = Pipeline(
        "broken", source, [noise.Gaussian(severity=3)], [methods.LinearSVC()], [broken], robustness=GAUSSIAN
    )
    run = made.run(tmp_path, client=client)
    assert [step["name"] for step in run.failures] == [str(broken)]
    record = run.record["robustness"]
    assert record["denoiser"] is None and record["results"][0]["denoised"] is None
    assert record["notes"] == [f"nothing is denoised: {broken} failed"]


def test_run__a_damaged_denoiser_fails_alone(source, client, tmp_path):
    plain = Pipeline("damaged", source, [noise.Gaussian(severity=3)], [methods.LinearSVC()], [DENOISER])
    before = plain.run(tmp_path, client=client)
    (folder,) = (entry["folder"] for entry in before.record["results"] if entry["label"] == str(DENOISER))
    (tmp_path / "damaged" / folder / "model.keras").write_bytes(b"nothing")
    run = replace(plain, robustness=GAUSSIAN).run(tmp_path, client=client)
    (failure,) = run.failures
    assert failure["name"] == f"robustness denoiser {DENOISER}"
    assert "expected a model that Keras can load" in failure["error"]
    assert statuses(run)["robustness LinearSVC()"] == "done"
    assert run.record["robustness"]["denoiser"] is None
    assert len(run.record["robustness"]["results"][0]["scores"]["Gaussian"]) == 2


def test_run__texts(client, tmp_path):
    rng = np.random.default_rng(0)
    words = [["rain", "wind", "cloud"], ["bread", "salt", "apple"]]
    labels = np.arange(200) % 2
    texts = [" ".join([*rng.choice(words[label], 3), *rng.choice(words[1 - label], 2)]) for label in labels]
    (tmp_path / "texts.csv").write_text(
        "text,label\n" + "".join(f"{t},{c}\n" for t, c in zip(texts, labels, strict=True))
    )
    source = sources.Table(tmp_path / "texts.csv", text="text", label="label")
    reader = networks.lstm_sentiment(
        vocabulary=30, length=6, embedding=4, units=4, epochs=1, batch_size=16, learning_rate=0.05, patience=None
    )
    asked = Robustness(noise=[noise.CharacterSwap, noise.WordDrop], severities=(1, 5))
    made = Pipeline("texts", source, methods=[methods.LinearSVC()], networks=[reader], robustness=asked)
    run = made.run(tmp_path / "runs", client=client)
    assert run.exit_code == 0
    method, network = run.record["robustness"]["results"]
    assert method["scores"]["CharacterSwap"][1] < method["clean"]
    assert network["denoised"] is None and network["scores"].keys() == {"CharacterSwap", "WordDrop"}
    boards = {result["label"]: result["scores"][0]["value"] for result in run.record["results"]}
    assert method["clean"] == boards["LinearSVC()"]
    assert network["clean"] == pytest.approx(boards[str(reader)])


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"noise": []}, ValueError, "expected at least one noise for Robustness, received none"),
        ({"noise": noise.Gaussian}, TypeError, "expected noise of Robustness as a list"),
        (
            {"noise": [noise.Gaussian(severity=3)]},
            TypeError,
            r"expected a noise class .* received Gaussian\(severity=3",
        ),
        ({"noise": ["Gaussian"]}, TypeError, "expected a noise class such as noise.Gaussian"),
        ({"noise": [dict]}, TypeError, "to make a noise, received"),
        ({"noise": [noise.Gaussian, noise.Gaussian]}, ValueError, "names of their own .* received Gaussian twice"),
        ({"severities": []}, ValueError, "expected severities of Robustness from 1 to 5, received none"),
        ({"severities": (0, 1)}, ValueError, "expected severities of Robustness from 1 to 5, received 0"),
        ({"severities": (1, 6)}, ValueError, "expected severities of Robustness from 1 to 5, received 6"),
        ({"severities": (True,)}, ValueError, "received True"),
        ({"severities": (2, 2)}, ValueError, "expected different severities"),
        ({"severities": 3}, TypeError, "expected severities of Robustness as a list"),
        ({"baseline": methods.LinearSVC()}, TypeError, "expected baseline as the name"),
        ({"rows": 0}, ValueError, "expected rows of Robustness as a whole number of at least 1, received 0"),
        ({"store": "yes"}, TypeError, "expected store of Robustness as True or False"),
    ],
)
def test_robustness__wrong_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        Robustness(**{"noise": [noise.Gaussian], **parameters})


def test_robustness__names_and_partials():
    def fog(severity):
        return noise.Gaussian(severity=severity)

    made = Robustness(noise=[partial(noise.SaltAndPepper), fog, lambda severity: noise.Gaussian(severity=severity)])
    assert list(made.made) == ["SaltAndPepper", "fog", "Gaussian"]
    assert made.severities == (1, 2, 3, 4, 5) and str(made.made["fog"][2]) == "Gaussian(severity=2)"


def test_pipeline__robustness_that_does_not_fit(source):
    svm = [methods.LinearSVC()]
    with pytest.raises(ValueError, match=r"expected noises for images .* received WordDrop for texts"):
        Pipeline("x", source, methods=svm, robustness=Robustness(noise=[noise.WordDrop]))
    with pytest.raises(ValueError, match=r"expected a baseline of LinearSVC\(\), received 'x'"):
        Pipeline("x", source, methods=svm, robustness=Robustness(noise=[noise.Gaussian], baseline="x"))
    with pytest.raises(ValueError, match="expected at least one classifier"):
        Pipeline("x", source, methods=[methods.PCA(2)], robustness=GAUSSIAN)
    with pytest.raises(TypeError, match="expected robustness=Robustness"):
        Pipeline("x", source, methods=svm, robustness=[noise.Gaussian])
