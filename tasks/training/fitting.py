"""Keras' fit, told what to read and when to stop. Imports Keras: import this where a network is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from storage.adapters.keras import KerasBatches, to_keras
from storage.feeding.feed import Batches
from tasks.training.data import as_pair

Report = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves behind beside the model's weights."""

    history: dict[str, list[float]]
    """``loss`` and the metrics of every epoch, those on the validation split under ``val_...``."""
    best_epoch: int
    """Counted from 1: the epoch that the weights are of."""
    waited: float
    """Share of the time that the fit waited for data."""


def fit(model: keras.Model, network: Any, train: Batches, validation: Batches | None, report: Report) -> Fitted:
    """Fit a compiled model in place.

    Parameters
    ----------
    model : keras.Model
    network : Network
        Gives the number of epochs, patience, learning rate and schedule.
    train, validation : Batches
        Of columns ``values`` and ``labels``, or ``targets``. Without validation all epochs are trained.
    report : callable
        Called after each epoch with ``{"epoch": 1, "epochs": 5, "logs": {"loss": 0.3, ...}}``.

    Raises
    ------
    ArithmeticError
        If the loss is no finite number.
    StorageError
        If a shard is missing or damaged.
    """
    data = _data(train)
    held = _data(validation) if validation else None
    callbacks: list[Any] = [data.callback, EpochEnd(network, report)]
    if getattr(network, "schedule", "constant") == "cosine":
        callbacks.append(CosineDecay(float(network.learning_rate), network.epochs, len(data)))
    patience = getattr(network, "patience", None) if held else None
    if patience is not None:
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True))
    begun = time.perf_counter()
    history = model.fit(data, validation_data=held, epochs=network.epochs, callbacks=callbacks, verbose=0).history
    seconds = time.perf_counter() - begun
    curves = {name: [float(value) for value in values] for name, values in history.items()}
    losses = curves["val_loss"] if patience is not None else []
    waited = (data.waited + (held.waited if held else 0.0)) / seconds
    return Fitted(curves, losses.index(min(losses)) + 1 if losses else len(curves["loss"]), waited)


def _data(feed: Batches) -> KerasBatches:
    targets = "targets" if "targets" in feed.columns else "labels"
    return to_keras(feed, targets=targets, transform=as_pair if targets == "targets" else None)


class EpochEnd(keras.callbacks.Callback):
    """Report each epoch, and give up when the loss is no number any more."""

    def __init__(self, network: Any, report: Report) -> None:
        super().__init__()
        self.network, self.report = network, report

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items()}
        if not all(map(math.isfinite, values.values())):
            raise ArithmeticError(
                f"expected a finite loss in epoch {epoch + 1} of {self.network}, received {values.get('loss')}; "
                "the training diverged: lower learning_rate"
            )
        self.report({"epoch": epoch + 1, "epochs": self.network.epochs, "logs": values})


class CosineDecay(keras.callbacks.Callback):
    """Lower the learning rate from its first value to zero, along half a cosine over all steps.

    A pure function of the step, unlike a schedule inside the optimizer free of the number of rows that the model was
    built for.
    """

    def __init__(self, first: float, epochs: int, steps: int) -> None:
        super().__init__()
        self.first, self.steps, self.total = first, steps, epochs * steps
        self.epoch = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted over all epochs from 0."""
        return self.first * (1 + math.cos(math.pi * step / self.total)) / 2

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.rate(self.epoch * self.steps + batch)
