"""Shuffled batches from a dataset, resumable to the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from storage.dataset import Dataset, open_dataset
from storage.layout import MIB
from storage.order import epoch_order
from storage.plan import digest

WINDOW_BYTES = 512 * MIB


def batches(
    dataset: Dataset | str | Path,
    batch_size: int = 256,
    *,
    seed: int = 0,
    epoch: int = 0,
    split: str = "train",
    shuffle: bool = True,
    drop_last: bool = False,
    noise: Callable[..., Any] | None = None,
) -> Batches:
    """Iterate over one epoch of a split.

    Parameters
    ----------
    dataset : Dataset or path
    batch_size : int
        Samples per batch.
    seed, epoch : int
        Choose the order; every epoch has its own.
    split : str
        ``train``, ``validation`` or ``test``.
    shuffle : bool
        False gives the rows in storage order.
    drop_last : bool
        Leave out a last batch that is not full.
    noise : Noise, optional
        Applied to every batch with its ids, `seed` and `epoch`: a noise of `tasks.noise`, or anything called like one.
        In epoch 0 samples are, byte for byte, those of a copy that was stored with the same seed.

    Returns
    -------
    Batches
        Yields dicts with ``values`` (uint8 (n, height, width, channel) or list of str), ``labels`` (int64),
        ``ids`` (int64) and ``rows`` (int64). It has a length, and ``state_dict`` / ``load_state_dict``.
    """
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    return Batches(opened, batch_size, seed, epoch, split, shuffle, drop_last, noise)


class Batches(Iterator[dict[str, Any]]):
    """One epoch of batches; see `batches`. Its state counts batches that were consumed."""

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        epoch: int,
        split: str,
        shuffle: bool,
        drop_last: bool,
        noise: Callable[..., Any] | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"expected a whole batch size of at least 1, received {batch_size!r}")
        seed, epoch, batch_size = int(seed), int(epoch), int(batch_size)  # NumPy's would not fit into a state of JSON
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        if noise is not None and (kind := getattr(noise, "kind", dataset.kind)) != dataset.kind:
            raise ValueError(f"expected a noise for {dataset.kind}, received {noise} for {kind}")
        self._noise, self._seed = noise, seed
        rows = dataset.rows(split)
        if shuffle:
            sample = dataset.statistics.get("mean_bytes") or np.prod(dataset.sample_shape or (1,))
            window = max(2, int(WINDOW_BYTES // max(1, dataset.layout.shard * sample)))
            self._order = epoch_order(
                rows.start, rows.stop, dataset.layout.shard, window, seed=seed, epoch=epoch, version=dataset.version
            )
        else:
            self._order = np.arange(rows.start, rows.stop)
        parameters = [dataset.version, batch_size, seed, split, shuffle, drop_last]
        self._fingerprint = digest(parameters if noise is None else [*parameters, str(noise)])
        self._epoch = epoch
        self._step = 0

    def __len__(self) -> int:
        whole, rest = divmod(len(self._order), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> dict[str, Any]:
        if self._step >= len(self):
            raise StopIteration
        batch = self[self._step]
        self._step += 1
        return batch

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Read one batch by its number; does not move the iterator."""
        if not 0 <= step < len(self):
            raise IndexError(f"expected a batch from 0 to {len(self) - 1}, received {step}")
        rows = self._order[step * self.batch_size : (step + 1) * self.batch_size]
        values, ids = self.dataset.take(rows), self.dataset.ids()[rows]
        if self._noise is not None:
            values = self._noise(values, ids, seed=self._seed, epoch=self._epoch)
        return {"values": values, "labels": self.dataset.labels()[rows], "ids": ids, "rows": rows}

    def state_dict(self) -> dict[str, Any]:
        """Position in the epoch, as plain values."""
        return {"epoch": self._epoch, "step": self._step, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises
        ------
        ValueError
            If the state is of other data, another epoch or other parameters.
        """
        epoch, step = state.get("epoch"), state.get("step")
        if (epoch, state.get("fingerprint")) != (self._epoch, self._fingerprint):
            raise ValueError(
                f"expected a state of epoch {self._epoch} of this dataset and these parameters, received one of epoch "
                f"{epoch}; make the batches with the same dataset, batch size, seed, epoch and split"
            )
        if not isinstance(step, int) or not 0 <= step <= len(self):
            raise ValueError(f"expected a state with a step from 0 to {len(self)}, received {step!r}")
        self._step = step
