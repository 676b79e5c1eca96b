"""One training: a network, its datasets, a worker."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from storage.dataset import Dataset, open_dataset
from storage.feeding.feed import Batches
from tasks.networks.protocol import Network, check_network
from tasks.networks.vocabulary import Vocabulary
from tasks.training import artifacts, scoring
from tasks.training.data import PREDICT_BATCH, image_feed, pairs, text_blocks, text_feed

log = logging.getLogger("duskflow.training")
TOPIC = "duskflow"
"""Topic under which a worker reports the epochs."""

Progress = Callable[[dict[str, Any]], Any]


def train(
    network: Network,
    dataset_path: str | Path,
    noisy_path: str | Path | None = None,
    tests: Mapping[str, str | Path] | None = None,
    *,
    folder: str | Path,
    seed: int = 0,
    progress: Progress | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """Train a network on one dataset and score it on several; made to be one Dask task.

    Parameters
    ----------
    network : Network
    dataset_path : path
        The clean dataset. Its training split is fitted, its validation split decides when to stop.
    noisy_path : path, optional
        What a reconstruction learns from: noisy copies of the same rows. Other networks do not read it.
    tests : mapping of str to path, optional
        Datasets whose test splits are scored, by the names they have in the result. By default the clean one.
    folder : path
        Where the model, the predictions and the examples are written.
    seed : int
        Of the initial weights, of dropout and of the order of samples.
    progress : callable, optional
        Called after each epoch with ``{"step": label, "epoch": 1, "epochs": 5, "logs": {...}}``. By default the worker
        logs this as an event of the topic ``duskflow``; outside a worker nothing is reported.
    label : str, optional
        What the step is called; by default as the network prints.

    Returns
    -------
    dict
        JSON-able: times, parameters, device, scores, learning curves and the names of the files in `folder`.

    Raises
    ------
    TypeError, ValueError
        If network and data do not fit together.
    ModuleNotFoundError
        If Keras or its backend is not installed.
    ArithmeticError
        If the training diverges.
    """
    check_network(network)
    material = Material(network, open_dataset(dataset_path), _noisy(network, noisy_path), seed)
    material.check()
    label = label or str(network)
    tested = {name: open_dataset(path) for name, path in (tests or {material.clean.name: dataset_path}).items()}
    where = artifacts.open_folder(folder)
    device = _prepare_device(network)
    from tasks.training.fitting import fit

    model = _build(network, material, seed)
    begun = time.perf_counter()
    with ExitStack() as open_feeds:
        feeds = [open_feeds.enter_context(material.feed(split)) for split in material.fitted_splits]
        fitted = fit(model, network, feeds[0], feeds[1] if len(feeds) > 1 else None, _reporter(progress, label))
    seconds = time.perf_counter() - begun
    artifacts.save_model(where, model)
    files = {"model": artifacts.MODEL}
    if network.kind == "texts":
        artifacts.save_text(where, artifacts.VOCABULARY, material.vocabulary.to_json())
        files["vocabulary"] = artifacts.VOCABULARY
    score = _score_classes if network.task == "classification" else _score_reconstruction
    scores = score(model, material, tested, where, files)
    rows = material.clean.rows("train")
    result = {
        "label": label,
        "name": type(network).__name__,
        "kind": "network",
        "task": network.task,
        "trained_on": material.trained_on,
        "fit_seconds": seconds,
        "waited_for_data": fitted.waited,
        "fit_rows": rows.stop - rows.start,
        "parameters": int(model.count_params()),
        "device": device,
        "scores": scores,
        "history": fitted.history,
        "best_epoch": fitted.best_epoch,
        "artifacts": files,
    }
    del model
    gc.collect()  # a model is full of cycles, and its arrays are large
    return result


@dataclass
class Material:
    """What a network is trained from."""

    network: Any
    clean: Dataset
    noisy: Dataset | None
    seed: int

    @property
    def inputs(self) -> Dataset:
        """The dataset that the network sees."""
        return self.noisy or self.clean

    @property
    def trained_on(self) -> str:
        """What the network learns from, for the report."""
        augment = getattr(self.network, "augment", None)
        return self.inputs.name if augment is None else f"{self.inputs.name}, {augment} in each epoch"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the training split."""
        return Vocabulary.fit(text_blocks(self.clean, "train"), self.network.vocabulary)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample as the model takes it."""
        return (self.network.length,) if self.network.kind == "texts" else tuple(self.clean.sample_shape or ())

    def check(self) -> None:
        """Refuse data that the network cannot be trained from."""
        network, clean = self.network, self.clean
        if clean.kind != network.kind:
            raise ValueError(f"expected {network.kind} for {network}, received {clean.kind} in {clean.path}")
        if "train" not in clean.splits:
            raise ValueError(f"expected training rows for {network}, received none in {clean.path}; split it otherwise")
        if getattr(network, "patience", None) is not None and "validation" not in clean.splits:
            raise ValueError(
                f"expected validation rows for {network} to know when to stop, received none in {clean.path}; "
                "split some off, or set patience=None"
            )
        if self.noisy is not None and not np.array_equal(self.noisy.ids(), clean.ids()):
            raise ValueError(
                f"expected the rows of {clean.path} in {self.noisy.path}, received others; add the noise again"
            )
        if network.task == "classification":
            self._check_labels()

    def _check_labels(self) -> None:
        labels = self.clean.labels()[self.clean.rows("train")]
        if without := int((labels < 0).sum()):
            raise ValueError(f"expected labels for {self.network}, received {without} rows without; add labels")
        if (found := len(np.unique(labels))) < 2:
            raise ValueError(f"expected at least two classes for {self.network}, received {found} in {self.clean.path}")

    @property
    def fitted_splits(self) -> list[str]:
        """The training split and, if there is one, the validation split."""
        return [split for split in ("train", "validation") if split in self.clean.splits]

    def feed(self, split: str) -> Batches:
        """Batches of one split: shuffled and augmented for training, in storage order otherwise.

        A reconstruction's validation is augmented too, always as in epoch 0: it has to undo what is done to images.
        """
        training = split == "train"
        size = int(self.network.batch_size) if training else PREDICT_BATCH
        augmented = training or self.network.task == "reconstruction"
        augment = getattr(self.network, "augment", None) if augmented else None
        return self.feed_of(self.inputs, split, size, shuffle=training, augment=augment)

    def feed_of(self, dataset: Dataset, split: str, batch_size: int, *, shuffle: bool, augment: Any = None) -> Batches:
        """Batches of one split of any copy of the data."""
        if self.network.kind == "texts":
            length = self.network.length
            return text_feed(dataset, self.vocabulary, length, batch_size, self.seed, split, shuffle, augment)
        targets = self.clean if self.network.task == "reconstruction" else None
        return image_feed(dataset, targets, batch_size, self.seed, split, shuffle, augment)


def _noisy(network: Any, path: str | Path | None) -> Dataset | None:
    """The stored noisy copy that a reconstruction learns from, unless it makes its own by `augment`."""
    wanted = network.task == "reconstruction" and getattr(network, "augment", None) is None
    return open_dataset(path) if path is not None and wanted else None


def _prepare_device(network: Any) -> str:
    from tasks.training.device import declares_gpu, prepare_device

    device = prepare_device()
    if device == "CPU" and declares_gpu():
        log.warning("no GPU found on this worker: %s trains on CPU", network)
    return device


def _build(network: Any, material: Material, seed: int) -> Any:
    """Build the model, and refuse what cannot be fitted."""
    import keras

    model = network.build(material.input_shape, len(material.clean.classes), seed=seed)
    if not isinstance(model, keras.Model) or not model.compiled:
        what = "one that is not compiled" if isinstance(model, keras.Model) else type(model).__name__
        raise TypeError(
            f"expected a compiled keras.Model from build of {network}, received {what}; compile it in build"
        )
    return model


def _reporter(progress: Progress | None, label: str) -> Callable[[dict[str, Any]], Any]:
    """What to call after each epoch."""
    send = progress
    if send is None:
        from distributed import get_worker

        try:
            send = partial(get_worker().log_event, TOPIC)
        except ValueError:  # not on a worker
            return lambda event: None
    report = send
    return lambda event: report({"step": label, **event})


def _score_classes(
    model: Any, material: Material, tests: Mapping[str, Dataset], folder: Path, files: dict[str, str]
) -> list[dict[str, Any]]:
    scores: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for name, dataset in tests.items():
        split = scoring.scored_split(dataset)
        with material.feed_of(dataset, split, PREDICT_BATCH, shuffle=False) as feed:
            score, predicted = scoring.score_classes(model, pairs(feed), len(material.clean.classes))
        scores.append({"data": name, "split": split, **score})
        rows = dataset.rows(split)
        arrays |= {f"{name}/predicted": predicted, f"{name}/labels": dataset.labels()[rows]}
        arrays[f"{name}/ids"] = dataset.ids()[rows]
    artifacts.save_arrays(folder, artifacts.PREDICTIONS, arrays)
    files["predictions"] = artifacts.PREDICTIONS
    return scores


def _score_reconstruction(
    model: Any, material: Material, tests: Mapping[str, Dataset], folder: Path, files: dict[str, str]
) -> list[dict[str, Any]]:
    scores: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    untouched: dict[str, float] = {}
    noisy = any(dataset.version != material.clean.version for dataset in tests.values())
    for name, dataset in tests.items():
        split = scoring.scored_split(dataset)
        score, examples = scoring.score_images(model, dataset, material.clean, split)
        if noisy and dataset.version == material.clean.version:
            # A gain has no meaning where there is no noise; how much is lost of clean images is told beside the others.
            untouched[f"psnr_{name}"] = score["value"]
            continue
        scores.append({"data": name, "split": split, **score})
        arrays |= {f"{name}/{part}": images for part, images in examples.items()}
    for score in scores:
        score["extra"] |= untouched
    artifacts.save_arrays(folder, artifacts.EXAMPLES, arrays)
    files["examples"] = artifacts.EXAMPLES
    return scores
