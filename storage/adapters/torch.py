"""Batches as a dataset of PyTorch: tensors over the feed's own memory, in one process or in a DataLoader's workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from storage.adapters.naming import column_names, pick
from storage.feeding.feed import Batches
from storage.feeding.options import whole_number
from storage.stores import is_url

Tensors = dict[str, Any]
Transform = Callable[[Tensors], Any]


def to_torch(feed: Batches, columns: Sequence[str] | None = None, transform: Transform | None = None) -> TorchBatches:
    """Give the batches of a feed to PyTorch.

    An item is a whole batch, so a loader must not batch again::

        feed = storage.batches("runs/digits/datasets/clean", 256, rank=rank, ranks=ranks)
        dataset = storage.to_torch(feed)
        loader = DataLoader(dataset, batch_size=None, pin_memory=True)
        for epoch in range(epochs):
            dataset.set_epoch(epoch)
            for step, batch in enumerate(loader, 1):
                ...
                checkpoint = dataset.state_dict(step)

    ``rank`` and ``ranks`` are those of `torch.distributed` (``get_rank()``, ``get_world_size()``); no sampler is
    needed.

    Copies: none from the feed's gather to the tensor, whose memory is used again only once neither the tensor nor a
    view of it is alive. Worker processes copy once, into shared memory; ``pin_memory`` copies once more.

    The feed reads and decodes in threads of its own, so ``num_workers=0`` is fastest unless `transform` or a noise
    keeps Python busy. Each of n workers makes every n-th batch, and a loader takes them by turns: the batches and their
    order are the same for any number of workers. Each holds samples for itself, up to `Batches.memory`. Workers may be
    forked or spawned; those of a dataset in an object store must be spawned.

    Parameters
    ----------
    feed : Batches
        Where it is (`Batches.epoch`, `Batches.step`) is where iterations begin. The dataset moves it: do not iterate
        over both.
    columns : sequence of str, optional
        Which of the feed's columns an item holds; by default all.
    transform : callable, optional
        Called with each dict of tensors; an item is what it returns. Runs in the workers, if there are any; those that
        are spawned must be able to unpickle it.

    Returns
    -------
    TorchBatches
    """
    return TorchBatches(feed, columns, transform)


class TorchBatches(IterableDataset):
    """Batches as dicts of tensors; see `to_torch`. Texts are lists of str.

    Every iteration is one epoch, or what is left of it after `load_state_dict`. Like PyTorch's ``DistributedSampler``
    it begins at the same place each time until `set_epoch` is called: the process that trains does not see what workers
    do.

    Attributes
    ----------
    feed : Batches
    """

    def __init__(self, feed: Batches, columns: Sequence[str] | None = None, transform: Transform | None = None) -> None:
        super().__init__()
        self.feed = feed
        self._names, self._transform = column_names(feed, columns), transform
        self._epoch, self._step = feed.epoch, feed.step
        self._changes = 0
        # Of the last change: its number, epoch and step. Workers that live on from one iteration to the next hold a
        # copy of this object, and learn of changes here.
        self._shared = torch.tensor([0, self._epoch, self._step]).share_memory_()
        self._begun_in: int | None = None
        self._own: Batches | None = None
        self._process = os.getpid()

    def __len__(self) -> int:
        """Batches of an epoch, the same on every rank."""
        return len(self.feed)

    def __repr__(self) -> str:
        return f"<TorchBatches from epoch {self._epoch}, step {self._step:,} of {self.feed!r}>"

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the iterations that begin from now on.

        Another epoch begins with its first batch. The epoch where it is already changes nothing, so that a loop over
        epochs does not undo `load_state_dict`.
        """
        epoch = whole_number("epoch", epoch)
        if epoch != self._epoch:
            self._move(epoch, 0)

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Position, as plain values; `Batches.load_state_dict` takes it too.

        Parameters
        ----------
        step : int, optional
            Batches of the epoch that training has had, counted from the epoch's first. Needed with worker processes,
            which make batches ahead. By default those that this process was given.

        Raises
        ------
        ValueError
            If `step` is missing, and this process has not iterated.
        """
        if step is not None:
            return {**self.feed.state_dict(step), "epoch": self._epoch}
        if get_worker_info() is not None:
            # For torchdata's StatefulDataLoader, which also keeps the iterator's state: the worker's share of the
            # batches depends on where all workers began.
            return {**self.feed.state_dict(self._step), "epoch": self._epoch}
        if self._begun_in != os.getpid():
            raise ValueError(
                "expected step=, the batches of the epoch that training has had, received none; this process has given "
                "no batch, and worker processes give more than were used"
            )
        return self.feed.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Begin iterations where `state_dict` was taken, also with other numbers of workers and ranks.

        Raises
        ------
        ValueError
            If the state is of other data or other parameters.
        """
        self.feed.load_state_dict(state)
        self._move(self.feed.epoch, self.feed.step)

    def _move(self, epoch: int, step: int) -> None:
        self._epoch, self._step = epoch, step
        if get_worker_info() is None:
            self._changes += 1
            self._shared.copy_(torch.tensor([self._changes, epoch, step]))

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is None:
            feed = self.feed
            _place(feed, self._epoch, self._step)
        else:
            self._refuse_fork()
            self._learn()
            feed = self._share(worker.id, worker.num_workers)
        self._begun_in = os.getpid()
        return _Iteration(feed, self._convert)

    def _refuse_fork(self) -> None:
        """Say what is wrong where a worker would wait forever: obstore's threads do not survive a fork."""
        place = self.feed.dataset.location
        if is_url(place) and not place.startswith("memory:") and self._process != os.getpid():
            raise RuntimeError(
                f"expected workers that were spawned, to read from {place}, received forked ones; make the loader with "
                'multiprocessing_context="spawn"'
            )

    def _learn(self) -> None:
        """Take over what was changed since a worker's last iteration.

        Not for its first: it was born with the place, and by now the training may have set that of the next iteration.
        """
        changes, epoch, step = self._shared.tolist()
        if self._begun_in == os.getpid() and changes != self._changes:
            self._changes, self._epoch, self._step = changes, epoch, step

    def _share(self, worker: int, workers: int) -> Batches:
        """A worker's part of the feed. One from batch 0 on is kept for other epochs, with the samples in its memory."""
        if self._own is not None and self._step == 0:
            self._own.set_epoch(self._epoch)
            return self._own
        if self._own is not None:
            self._own.close()
        _place(self.feed, self._epoch, self._step)
        part = self.feed.part(worker, workers)
        self._own = part if self._step == 0 else None
        return part

    def _convert(self, batch: dict[str, Any]) -> Any:
        found = {name: _tensor(values) for name, values in pick(batch, self._names).items()}
        return found if self._transform is None else self._transform(found)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_own": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._process = os.getpid()
        if not self._shared.is_shared():  # a copy that is no worker's
            self._shared.share_memory_()


class _Iteration(Iterator[Any]):
    """One pass; its state is what torchdata's StatefulDataLoader keeps of each worker."""

    def __init__(self, feed: Batches, convert: Callable[[dict[str, Any]], Any]) -> None:
        self._feed, self._convert = feed, convert
        self._place = feed.epoch, feed.step

    def __next__(self) -> Any:
        if (self._feed.epoch, self._feed.step) != self._place:
            raise RuntimeError(
                f"expected a feed at epoch {self._place[0]}, step {self._place[1]}, found it moved; end one iteration "
                "before the next begins, or make a feed for each"
            )
        batch = next(self._feed)
        self._place = self._feed.epoch, self._feed.step
        return self._convert(batch)

    def state_dict(self) -> dict[str, Any]:
        return self._feed.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._feed.load_state_dict(state)
        self._place = self._feed.epoch, self._feed.step


def _place(feed: Batches, epoch: int, step: int) -> None:
    if step:
        feed.load_state_dict({**feed.state_dict(step), "epoch": epoch})
    else:
        feed.set_epoch(epoch)


def _tensor(values: Any) -> Any:
    """A tensor over an array's memory; only what PyTorch cannot address (read-only, reversed) is copied."""
    if not isinstance(values, np.ndarray):
        return values
    plain = values.flags.c_contiguous and values.flags.writeable
    return torch.from_numpy(values if plain else np.array(values, order="C"))
