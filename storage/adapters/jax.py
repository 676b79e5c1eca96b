"""Batches as arrays of JAX, over the feed's own memory where JAX can take it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from storage.adapters.naming import column_names, pick
from storage.feeding.feed import Batches
from storage.feeding.options import whole_number

_INT32 = np.iinfo(np.int32)


def to_jax(feed: Batches, columns: Sequence[str] | None = None, device: Any = None, ahead: int = 0) -> JaxBatches:
    """Give the batches of a feed to JAX.

    Used like the feed itself::

        batches = storage.to_jax(storage.batches("runs/digits/datasets/clean", 256), ["values", "labels"])
        for epoch in range(epochs):
            batches.set_epoch(epoch)
            for batch in batches:
                ...
                checkpoint = batches.state_dict()

    Copies: on a CPU none of a batch that begins on 64 bytes, as all do that are not made ahead by threads: the array
    lies in the feed's memory, which is used again only once neither the array, nor what is computed from it, needs it.
    Of others one, by JAX. To a GPU or TPU one, by the transfer.

    JAX keeps whole numbers as int32 unless ``jax_enable_x64`` is set, so ``labels``, ``ids`` and ``rows`` become int32.

    Parameters
    ----------
    feed : Batches
        Where it is (`Batches.epoch`, `Batches.step`) is where iterating begins. It is moved.
    columns : sequence of str, optional
        Which of the feed's columns a batch holds; by default all. Texts are lists of str.
    device : jax.Device or jax.sharding.Sharding, optional
        Where the arrays go; by default to JAX's default device. A sharding over the devices of several processes joins
        the parts of a batch that each process has as a rank (``rank=jax.process_index(), ranks=jax.process_count()``).
    ahead : int
        Batches that are on their way to the device before they are asked for. JAX does not wait for its computations,
        so 0 is enough unless each step's result is looked at before the next batch is asked for.

    Returns
    -------
    JaxBatches
    """
    return JaxBatches(feed, columns, device, ahead)


class JaxBatches(Iterator[dict[str, Any]]):
    """Batches as dicts of JAX arrays; see `to_jax`. Its state counts batches that were handed out, not those ahead.

    Attributes
    ----------
    feed : Batches
    """

    def __init__(self, feed: Batches, columns: Sequence[str] | None = None, device: Any = None, ahead: int = 0) -> None:
        self.feed = feed
        self._names, self._device = column_names(feed, columns), device
        self._spread = isinstance(device, jax.sharding.Sharding) and not device.is_fully_addressable
        self._most = whole_number("ahead", ahead, 0)
        self._ahead: deque[tuple[tuple[int, int], dict[str, Any]]] = deque()
        self._restart()

    def _restart(self) -> None:
        """Forget what is ahead, and go on where the feed is."""
        self._ahead.clear()
        self._given = self._made = self.feed.epoch, self.feed.step

    def _follow(self) -> tuple[int, int]:
        """The place of what is handed out next; what is ahead is of another if somebody else moved the feed."""
        if (self.feed.epoch, self.feed.step) != self._made:
            self._restart()
        return self._given

    def __len__(self) -> int:
        """Batches of an epoch, the same for every rank."""
        return len(self.feed)

    def __repr__(self) -> str:
        return f"<JaxBatches, {len(self._ahead)} ahead, of {self.feed!r}>"

    @property
    def epoch(self) -> int:
        """The epoch of the batches that are handed out."""
        return self._follow()[0]

    @property
    def step(self) -> int:
        """Batches of the epoch that were handed out."""
        return self._follow()[1]

    def set_epoch(self, epoch: int) -> None:
        """Go to the first batch of an epoch."""
        self.feed.set_epoch(epoch)
        self._restart()

    def state_dict(self) -> dict[str, Any]:
        """Position, as plain values; `Batches.load_state_dict` takes it too."""
        epoch, step = self._follow()
        return {**self.feed.state_dict(step), "epoch": epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, also with another number of ranks.

        Raises
        ------
        ValueError
            If the state is of other data or other parameters.
        """
        self.feed.load_state_dict(state)
        self._restart()

    def __iter__(self) -> JaxBatches:
        return self

    def __next__(self) -> dict[str, Any]:
        self._follow()
        while len(self._ahead) <= self._most and (batch := next(self.feed, None)) is not None:
            self._made = self.feed.epoch, self.feed.step
            self._ahead.append((self._made, self._put(batch)))
            del batch  # its memory is JAX's alone
        if not self._ahead:
            raise StopIteration
        self._given, found = self._ahead.popleft()
        return found

    def _put(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = pick(batch, self._names)
        arrays = {name: values for name, values in found.items() if isinstance(values, np.ndarray)}
        if not jax.config.jax_enable_x64:
            for name, values in arrays.items():
                _refuse_large(name, values)
        if self._spread:
            place = jax.make_array_from_process_local_data
            return {**found, **{name: place(self._device, values) for name, values in arrays.items()}}
        # Not jax.numpy.asarray: on a CPU it copies always.
        return {**found, **jax.device_put(arrays, self._device)}


def _refuse_large(name: str, values: np.ndarray) -> None:
    """JAX would cut off the upper half of a number without a word."""
    if values.dtype == np.int64 and values.size and (values.max() > _INT32.max or values.min() < _INT32.min):
        raise ValueError(
            f"expected {name} that fit into int32, received {values.max():,}; set jax_enable_x64, or leave {name} out "
            "of columns"
        )
