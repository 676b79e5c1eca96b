"""Batches as what Keras' `fit`, `evaluate` and `predict` take, whatever its backend. Imports Keras."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from storage.adapters.naming import check_feed, column_names
from storage.adapters.passes import Pass, Passes
from storage.feeding.feed import Batches
from storage.feeding.running import Batch

Transform = Callable[[Batch], Batch]
Convert = Callable[[Any], Any]
End = Callable[[], Exception]


def to_keras(
    feed: Batches,
    inputs: str | Sequence[str] = "values",
    targets: str | None = "labels",
    weights: str | None = None,
    transform: Transform | None = None,
) -> KerasBatches:
    """Give the batches of a feed to Keras, on TensorFlow, PyTorch or JAX.

    Used as the `x` of ``fit``, ``evaluate`` and ``predict``::

        feed = storage.batches("runs/digits/datasets/clean", 256)
        data = to_keras(feed)
        model.fit(data, epochs=5, callbacks=[data.callback, ...])

    Each epoch of ``fit`` reads the next epoch of the feed, the first what is left of the one where the feed stands.
    With `KerasBatches.callback`, Keras' number of the epoch counts: ``fit(initial_epoch=3)`` reads epoch 3. Whatever
    ``fit(shuffle=)`` says, the order is the feed's. Every ``evaluate`` and ``predict`` reads an epoch, too; they need a
    feed of their own.

    A batch is taken from the feed when Keras asks for it, in Keras' own thread. So what the feed raises, such as a
    `StorageError` that names a damaged shard, comes out of ``fit`` as it is; `KerasBatches.waited` is all the time that
    training waits for data; and what was taken is what was trained on. Reading, decoding and noise still run ahead, in
    the feed's threads. On TensorFlow, a `keras.utils.PyDataset` or a generator would go through threads of `tf.data`,
    which copy, hide errors in long texts, and are ahead of the training.

    Copies: none on TensorFlow, if a batch begins on 64 bytes, as all do that are not made ahead by threads, and none on
    PyTorch without a GPU; tensors lie in the feed's memory, which is used again only when they are gone. Else one: into
    a tensor, to the GPU, or by JAX.

    Epochs of packed rows differ in their number of batches, and Keras takes as many from each epoch of a ``fit`` as the
    first has: an epoch that has more loses its last ones, which is said by a warning. To lose none call ``fit`` for one
    epoch at a time, ``fit(initial_epoch=3, epochs=4)``.

    Keras keeps ``fit(class_weight=)`` from an object like this, and says nothing: let `transform` make a column of
    weights, and name it as `weights`.

    Parameters
    ----------
    feed : Batches
        Where it is (`Batches.epoch`, `Batches.step`) is where training begins. It is moved.
    inputs : str or sequence of str
        The column that is the model's input; of several, it gets a dict by their names.
    targets : str or None
        The column that is to be learned; None: there is none, as for ``predict``.
    weights : str, optional
        The column with the weight of each sample.
    transform : callable, optional
        Changes each batch, a dict of NumPy arrays, before columns are chosen: to scale targets, or to add columns. Runs
        in Keras' thread.

    Returns
    -------
    KerasBatches

    Raises
    ------
    ValueError
        If the feed, or what `transform` returns, lacks a column.
    """
    return KerasBatches(feed, inputs, targets, weights, transform)


class KerasBatches(DataAdapter):
    """Batches as Keras takes them; see `to_keras`. Its state counts batches that the model was trained on.

    Attributes
    ----------
    feed : Batches
    waited : float
        Seconds that Keras waited for batches: for `feed` and `transform`, and for copies on TensorFlow and PyTorch.
        Divided by the time of the epochs, the share that training waits for data.
    callback : keras.callbacks.Callback
        Ties the feed's epochs to Keras' numbers, and counts; see `to_keras`. Before callbacks that save the state.
    """

    def __init__(
        self,
        feed: Batches,
        inputs: str | Sequence[str] = "values",
        targets: str | None = "labels",
        weights: str | None = None,
        transform: Transform | None = None,
    ) -> None:
        check_feed(feed)
        self.feed = feed
        self.waited = 0.0
        if weights is not None and targets is None:
            raise ValueError(f"expected targets for weights={weights!r}, received None; name the column of targets")
        self._inputs = inputs if isinstance(inputs, str) else tuple(inputs)
        self._others = tuple(name for name in (targets, weights) if name is not None)
        self._transform = transform
        if transform is None:
            column_names(feed, self._names)
        # Keras asks once per fit, and stops every epoch there, so it cannot be what is left of the first epoch.
        self._passes = Passes(feed, len(feed))
        self._filter: Any = None
        self.callback = _Callback(self)

    def __len__(self) -> int:
        """Batches of an epoch, the same for every rank."""
        return self._passes.most

    def __repr__(self) -> str:
        return f"<KerasBatches of {self.feed!r}>"

    @property
    def _names(self) -> tuple[str, ...]:
        return (*([self._inputs] if isinstance(self._inputs, str) else self._inputs), *self._others)

    # Where it is

    def state_dict(self) -> dict[str, Any]:
        """Position at the end of a batch or an epoch, as plain values; `Batches.load_state_dict` takes it too.

        Without `callback`, JAX on a GPU is one batch ahead of it.
        """
        current = self._passes.current
        trained = self.callback.trained(current)
        if current is None or trained is None:
            return self.feed.state_dict()
        return self.feed.state_dict(self.feed.step - current.given + trained)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken: ``fit(initial_epoch=state["epoch"])``.

        Raises
        ------
        ValueError
            If the state is of other data or other parameters.
        """
        self.feed.load_state_dict(state)
        self._passes.move(self.feed.epoch, self.feed.step)

    # What Keras asks for

    @property
    def num_batches(self) -> int:
        """Batches of the epoch that comes next."""
        if self.feed.options.packs:  # else all epochs have as many
            self._passes.measure()
        return len(self)

    @property
    def batch_size(self) -> None:
        """Unknown: the last batch may be smaller."""
        return None

    has_partial_batch = partial_batch_size = batch_size

    def get_numpy_iterator(self) -> Iterator[Any]:
        """One epoch of NumPy arrays."""
        return _Iteration(self, None)

    get_jax_iterator = get_numpy_iterator

    def get_torch_dataloader(self) -> Any:
        """Epochs of tensors, one for each time it is iterated over."""
        import torch

        def convert(values: Any) -> Any:
            return keras.ops.convert_to_tensor(torch.from_numpy(np.require(values, requirements=["C", "W"])))

        return _Iterable(self, convert)

    def get_tf_dataset(self) -> Any:
        """Epochs of tensors, one for each time it is iterated over."""
        import tensorflow as tf

        from storage.adapters.tensorflow import tensor

        def end() -> Exception:
            return tf.errors.OutOfRangeError(None, None, "the end of the epoch")

        return _Iterable(self, tensor, end)

    def on_epoch_begin(self) -> None:
        """Keep Keras quiet about an epoch that is shorter than others: it takes that for a mistake."""
        self._quiet(self._passes.start[1] > 0 or self.feed.options.packs)

    def on_epoch_end(self) -> None:
        """See `on_epoch_begin`."""
        self._quiet(False)

    def _quiet(self, quiet: bool) -> None:
        if self._filter in warnings.filters:
            warnings.filters.remove(self._filter)  # type: ignore[attr-defined]
        self._filter = None
        if quiet:
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            self._filter = warnings.filters[0]

    # What it gives

    def _take(self, iteration: Iterator[Batch], convert: Convert | None) -> Any:
        """The next batch as Keras' tuple of inputs, targets and weights."""
        begun = time.perf_counter()
        try:
            batch = next(iteration)
            self._warn_of_more()
            if self._transform is not None:
                batch = self._transform(batch)
            if missing := [name for name in self._names if name not in batch]:
                raise ValueError(
                    f"expected columns {list(self._names)}, received {list(batch)}; name others than {missing}"
                )
            found = {name: batch[name] if convert is None else convert(batch[name]) for name in self._names}
        finally:
            self.waited += time.perf_counter() - begun
        inputs = found[self._inputs] if isinstance(self._inputs, str) else {name: found[name] for name in self._inputs}
        others = [found[name] for name in self._others]
        return (inputs, *others)

    def _warn_of_more(self) -> None:
        """Say so, if Keras asks for no batch after this one, and there are more."""
        current, most = self._passes.current, self._passes.most
        if current is not None and current.given == most and self.feed.step < len(self.feed):
            warnings.warn(
                f"expected epoch {self.feed.epoch} to have {most:,} batches, as the first of this fit, received "
                f"{len(self.feed):,}: Keras leaves the last ones out; call fit for one epoch at a time",
                stacklevel=2,
            )

    def _begin_epoch(self, epoch: int) -> None:
        """Read Keras' epoch next."""
        at, step = self._passes.start
        if step == len(self.feed):
            at, step = at + 1, 0
        if at != epoch and step:
            raise ValueError(
                f"expected fit with initial_epoch={at}, where the feed stands at batch {step}, received epoch {epoch}; "
                f"or call set_epoch({epoch}) of the feed to begin there"
            )
        # Also back to where it was before Keras looked at the first batch, to build a model.
        self._passes.move(epoch, step)


class _Iterable:
    """Iterates over one epoch after another."""

    def __init__(self, owner: KerasBatches, convert: Convert, end: End | None = None) -> None:
        self._owner, self._convert, self._end = owner, convert, end

    @property
    def element_spec(self) -> Any:
        """What `tf.distribute` asks a dataset for."""
        raise ValueError(
            "expected a model without a strategy of tf.distribute, received one with; give fit the dataset that "
            "to_tensorflow makes"
        )

    _variant_tensor = element_spec

    def __iter__(self) -> Iterator[Any]:
        return _Iteration(self._owner, self._convert, self._end)


class _Iteration(Iterator[Any]):
    """One epoch.

    On TensorFlow, Keras knows by `end` only that there is less than it expects, unless it has had batches already that
    it trains on in one execution.
    """

    def __init__(self, owner: KerasBatches, convert: Convert | None, end: End | None = None) -> None:
        self._owner, self._convert, self._end = owner, convert, end
        self._batches = iter(owner._passes)
        self._ended = False

    def __next__(self) -> Any:
        try:
            return self._owner._take(self._batches, self._convert)
        except StopIteration:
            given, again, self._ended = self._batches.given, self._ended, True
            whole = given == len(self._owner) or given % self._owner.callback.execution
            if self._end is None or (whole and not again):
                raise
            raise self._end() from None


class _Callback(keras.callbacks.Callback):
    """Tells the feed what Keras tells callbacks.

    Attributes
    ----------
    execution : int
        Batches that the model is trained on at a time.
    """

    def __init__(self, data: KerasBatches) -> None:
        super().__init__()
        self._data = data
        self._counted: Pass | None = None
        self._count = 0
        self.execution = 1

    def on_train_begin(self, logs: Any = None) -> None:
        """See `execution`."""
        self.execution = self.model.steps_per_execution

    def on_train_end(self, logs: Any = None) -> None:
        """See `execution`."""
        self.execution = 1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Go to the epoch, unless Keras' epochs are parts of the feed's, by ``fit(steps_per_epoch=)``."""
        if self.params["steps"] == len(self._data):
            self._data._begin_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count. Not by `batch`: that is the first or the last of an execution, as Keras' version will have it."""
        current = self._data._passes.current
        if current is not self._counted:
            self._counted, self._count = current, 0
        self._count += self.execution

    def trained(self, current: Pass | None) -> int | None:
        """Batches of an iteration that the model was trained on; None if it was not seen."""
        if current is None or current is not self._counted:
            return None
        return min(self._count, current.given)
