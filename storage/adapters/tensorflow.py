"""Batches as a `tf.data.Dataset`, and arrays as tensors over the feed's own memory. Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from storage.adapters.naming import column_names, pick
from storage.feeding.feed import Batches
from storage.feeding.memory import ALIGNMENT, aligned
from storage.feeding.running import Batch


def to_tensorflow(feed: Batches, columns: Sequence[str] | None = None) -> tf.data.Dataset:
    """Give the batches of a feed to `tf.data`.

    An element is a whole batch. An iteration begins where the feed is, and ends with its epoch; where nothing is left
    of that, it reads the next one::

        feed = storage.batches("runs/digits/datasets/clean", 256)
        dataset = to_tensorflow(feed).map(lambda batch: (batch["values"], batch["labels"])).prefetch(2)
        for epoch in range(feed.epoch, epochs):
            if epoch != feed.epoch:
                feed.set_epoch(epoch)
            for step, (values, labels) in enumerate(dataset, feed.step + 1):
                ...
                checkpoint = feed.state_dict(step)

    `tf.data` takes batches ahead of their use, so count those that were used, as above: what `Batches.state_dict` says
    by itself is too much. For the same reason, after an iteration that was given up, say by `Batches.set_epoch` or
    `Batches.load_state_dict` where the next begins.

    Copies: none of batches that begin on 64 bytes, as all do that are not made ahead by threads; tensors lie in the
    feed's memory, which is used again only when they are gone. One of others, into the tensor.

    The number of elements is unknown to `tf.data`, because a first epoch may be shorter. Where it must be known, and
    the feed stands at the beginning of an epoch, ``dataset.apply(tf.data.experimental.assert_cardinality(len(feed)))``.
    `tf.distribute` splits each batch over the devices of a process; processes read what is theirs by ``rank=`` and
    ``ranks=`` of `storage.batches`, and nothing is sharded again.

    Parameters
    ----------
    feed : Batches
        Where it is (`Batches.epoch`, `Batches.step`) is where iterating begins. It is moved.
    columns : sequence of str, optional
        Which of the feed's columns an element holds; by default all.

    Returns
    -------
    tf.data.Dataset
        Of dicts of tensors, their first dimension unknown; texts are UTF-8, ``tf.string`` (n,).

    Raises
    ------
    ValueError
        If the feed lacks a column.
    tf.errors.OpError
        While iterating: if a batch could not be read; its text tells what the feed raised.
    """
    names = column_names(feed, columns) or feed.columns

    def batches() -> Iterator[dict[str, Any]]:
        for batch in _epoch(feed):
            yield {name: _as_array(values) for name, values in pick(batch, names).items()}
            del batch  # its memory is TensorFlow's alone

    dataset = tf.data.Dataset.from_generator(batches, output_signature=_specs(feed, names))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def _epoch(feed: Batches) -> Iterator[Batch]:
    """What is left of the feed's epoch, or the next epoch if nothing is."""
    batch = next(feed, None)
    if batch is None and feed.step:
        feed.set_epoch(feed.epoch + 1)
        batch = next(feed, None)
    while batch is not None:
        place = feed.epoch, feed.step
        yield batch
        del batch
        if (feed.epoch, feed.step) != place:
            raise RuntimeError(
                f"expected a feed at epoch {place[0]}, step {place[1]}, found it moved; end one iteration before the "
                "next begins, or make a feed for each"
            )
        batch = next(feed, None)


def tensor(values: Any) -> tf.Tensor:
    """An array as a tensor, without a copy if it begins on 64 bytes and can be written to; texts as ``tf.string``.

    What is copied is copied once, where `tf.convert_to_tensor` does it twice.
    """
    values = _as_array(values)
    if values.dtype.kind not in "biuf":
        return tf.constant(values)
    flags = values.flags
    # TensorFlow takes any address, but its kernels rely on this one.
    if values.ctypes.data % ALIGNMENT or not flags.c_contiguous or not flags.writeable:
        held = aligned(max(1, values.nbytes))[: values.nbytes].view(values.dtype).reshape(values.shape)
        np.copyto(held, values)
        values = held
    return tf.experimental.dlpack.from_dlpack(values.__dlpack__())


def _as_array(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    return np.array([text.encode("utf-8", "surrogatepass") for text in values], object)


def _specs(feed: Batches, names: Sequence[str]) -> dict[str, tf.TensorSpec]:
    texts: tuple[tuple[int | None, ...], str] = ((None,), "string")
    found = {name: feed.signature.get(name, texts) for name in names}
    return {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in found.items()}
