"""Shuffled batches from a dataset, resumable to the batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from storage.dataset import Dataset, open_dataset
from storage.feeding.held import Held, HeldImages, HeldSamples, Places
from storage.feeding.loading import Loading, RingLoading, WholeLoading
from storage.feeding.memory import Buffers
from storage.feeding.options import COLUMNS, Options, whole_number
from storage.feeding.order import RULE, EpochOrder
from storage.feeding.reading import shard_edges
from storage.feeding.running import Batch, Here, Making, Run
from storage.feeding.schedule import Schedule, schedule
from storage.feeding.sizes import Sizes, sizes_of, slots_of
from storage.layout import MIB
from storage.part import Verify
from storage.plan import digest

WINDOW = 512 * MIB


def batches(
    dataset: Dataset | str | Path,
    batch_size: int = 256,
    *,
    seed: int = 0,
    epoch: int = 0,
    split: str = "train",
    columns: Sequence[str] | None = None,
    shuffle: bool = True,
    window: int | str = WINDOW,
    streams: int = 8,
    rank: int = 0,
    ranks: int = 1,
    drop_last: bool = False,
    noise: Callable[..., Any] | None = None,
    targets: Dataset | str | Path | None = None,
    threads: int | None = None,
    depth: int | None = None,
    memory: int | str | None = None,
    verify: Verify = None,
) -> Batches:
    """Iterate over one epoch of a split.

    Parameters
    ----------
    dataset : Dataset or path
    batch_size : int
        Samples per batch, over all ranks.
    seed, epoch : int
        Choose the order; every epoch has its own.
    split : str
        ``train``, ``validation`` or ``test``.
    columns : sequence of str, optional
        Which of ``values``, ``targets``, ``labels``, ``ids`` and ``rows`` a batch holds; by default all there are.
    shuffle : bool
        False gives the rows in storage order.
    window : int or str
        Bytes whose samples are shuffled together, such as ``"1 GiB"``. A split that is smaller is shuffled as a whole.
        A larger one is shuffled shard by shard, and by rows inside windows; see `storage.feeding.order`.
    streams : int
        How many parts of a split that is larger than a window every batch takes its samples from. Ranks that divide it
        read nothing twice.
    rank, ranks : int
        Give one of several equal parts of every batch. Every rank has the same number of batches; a last batch that is
        not full is shared as equally as it can be.
    drop_last : bool
        Leave out a last batch that is not full.
    noise : Noise, optional
        Applied to every batch with its ids, `seed` and `epoch`: a noise of `tasks.noise`, or anything called like one.
        In epoch 0 samples are, byte for byte, those of a copy that was stored with the same seed.
    targets : Dataset or path, optional
        Another copy of the same rows, whose samples are given as ``targets``. The dataset itself gives its samples
        before `noise`.
    threads : int, optional
        Threads that read shards, and as many that decode and add noise; by default as many as there are cores, at most
        four. 0: no threads, everything is done when a batch is asked for.
    depth : int, optional
        Batches that are made ahead by threads; by default some 8 MiB of them. Small plain batches are not made ahead:
        gathering one takes less time than waking a thread.
    memory : int or str, optional
        Bytes of samples that may be held. A split that fits is read once and kept. By default a quarter of the memory
        that is free, and at least the window.
    verify : {None, "first-read", "every-read"}
        Compare shards with their hashes as they are read: not at all, each once, or always.

    Returns
    -------
    Batches
        Yields dicts with ``values`` (uint8 (n, height, width, channel) or list of str), ``targets`` (the same),
        ``labels`` (int64), ``ids`` (int64) and ``rows`` (int64).

    Raises
    ------
    ValueError, TypeError
        If an option means nothing for this dataset.
    StorageError
        While iterating: if a shard is missing or, with `verify`, damaged. Names it.
    """
    options = Options(
        batch_size=batch_size,
        seed=seed,
        split=split,
        columns=columns if columns is None or isinstance(columns, str) else tuple(columns),
        shuffle=shuffle,
        window=window,  # type: ignore[arg-type]  # made a number when checked, as is memory
        streams=streams,
        rank=rank,
        ranks=ranks,
        drop_last=drop_last,
        noise=noise,
        threads=_default_threads() if threads is None else threads,
        depth=depth,
        memory=memory,  # type: ignore[arg-type]
        verify=verify,
    )
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if targets is not None and not isinstance(targets, Dataset):
        targets = open_dataset(targets)
    return Batches(opened, options, targets, whole_number("epoch", epoch))


def _default_threads() -> int:
    return max(1, min(4, len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 2))


class Batches(Iterator[Batch]):
    """Batches of one epoch after another; see `batches`. Its state counts batches that were consumed.

    Memory of a batch is used again once no array over it is alive any more: keep what you need, drop the rest. An open
    feed can be pickled; neither threads nor memory travel.

    Attributes
    ----------
    epoch : int
    step : int
        Batches of the epoch that were handed out, over all parts.
    """

    def __init__(self, dataset: Dataset, options: Options, targets: Dataset | None, epoch: int) -> None:
        self.dataset, self.targets, self.options = dataset, targets, options
        _check(dataset, options, targets)
        self.epoch, self.step = epoch, 0
        self._part, self._parts = 0, 1
        rows = dataset.rows(options.split)
        self._start, self._stop = rows.start, rows.stop
        self._edges = shard_edges(dataset, options.split)
        self._wanted = frozenset(options.columns or self._available())
        copies = 2 if self._separate_targets else 1
        self.sizes: Sizes = sizes_of(
            options, self._edges, _sample_bytes(dataset), copies, heavy=options.noise is not None or _ragged(dataset)
        )
        self._reset()

    def _reset(self) -> None:
        """Forget threads, memory, and what is being made."""
        self._run: Run | None = None
        self._held: list[Held] = []
        self._loaded: set[int] = set()
        self._places: Places | None = None
        self._slots = 0
        self._readers: Executor | None = None
        self._makers: Executor | None = None
        self._process = 0
        self._waited = 0.0

    def _available(self) -> list[str]:
        return [name for name in COLUMNS if name != "targets" or self.targets is not None]

    @property
    def _separate_targets(self) -> bool:
        """Whether targets are read from another dataset than the samples."""
        same = self.targets is not None and self.targets.version == self.dataset.version
        return self.targets is not None and not same and "targets" in self._wanted

    def __repr__(self) -> str:
        return (
            f"<Batches of {self.options.batch_size} from {self.options.split} of {self.dataset.name!r}: {len(self):,} "
            f"in epoch {self.epoch}, {self.step:,} done; at most {self.memory / MIB:,.0f} MiB>"
        )

    # Where it is

    def __len__(self) -> int:
        """Batches of an epoch, the same for every rank."""
        return len(range(self._part, self._order.steps(self.options.drop_last), self._parts))

    def set_epoch(self, epoch: int) -> None:
        """Go to the first batch of an epoch. What is held in memory stays."""
        self._go(whole_number("epoch", epoch), 0)

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Position, as plain values.

        Parameters
        ----------
        step : int, optional
            Batches of the epoch that were consumed, for whoever counts for itself because batches are taken ahead of
            their use. By default those that were handed out.
        """
        step = self.step if step is None else whole_number("step", step, 0)
        return {"epoch": self.epoch, "step": step, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, also with another number of ranks.

        Raises
        ------
        ValueError
            If the state is of other data or other parameters.
        """
        epoch, step = state.get("epoch"), state.get("step")
        if state.get("fingerprint") != self._fingerprint or isinstance(epoch, bool) or not isinstance(epoch, int):
            raise ValueError(
                "expected a state of this dataset and these parameters, received another's; make the batches with the "
                "same dataset, batch size, seed, split, window, noise and drop_last"
            )
        steps = self._order.steps(self.options.drop_last)
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= steps:
            raise ValueError(f"expected a state with a step from 0 to {steps}, received {step!r}")
        self._go(epoch, step)

    def _go(self, epoch: int, step: int) -> None:
        self._stop_run()
        if epoch != self.epoch:
            self.epoch = epoch
            self.__dict__.pop("_order", None)
            self.__dict__.pop("_schedule", None)
        self.step = step

    @cached_property
    def _fingerprint(self) -> str:
        options = self.options
        window = None if self.sizes.window is None else [self.sizes.window, options.streams]
        noise = None if options.noise is None else str(options.noise)
        of = [options.batch_size, options.seed, options.split, options.shuffle, options.drop_last, window, noise]
        return digest([RULE, self.dataset.version, self.targets.version if self.targets else None, *of])

    def part(self, worker: int, workers: int) -> Batches:
        """Another feed over every `workers`-th of the batches from here on, for processes that share an iteration."""
        workers = whole_number("workers", workers, 1)
        worker = whole_number("worker", worker, 0)
        if worker >= workers:
            raise ValueError(f"expected a worker below workers={workers}, received {worker}")
        other = Batches(self.dataset, self.options, self.targets, self.epoch)
        other._parts = self._parts * workers
        done = max(0, -(-(self.step - self._part) // self._parts))  # of this feed's own batches
        other._part = self._part + self._parts * ((done + worker) % workers)
        other.step = self._part + self._parts * done
        return other

    # What it gives

    @property
    def signature(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Shape and dtype of each column that is an array; the number of samples is None."""
        found: dict[str, tuple[tuple[int | None, ...], str]] = {}
        for name in self._available():
            if name in self._wanted:
                if name in ("labels", "ids", "rows"):
                    found[name] = ((None,), "int64")
                elif self.dataset.kind == "images":
                    found[name] = ((None, *(self.dataset.sample_shape or ())), "uint8")
        return found

    @property
    def memory(self) -> int:
        """Bytes that are held at most in this epoch: samples, batches that are made ahead, columns and order."""
        sizes = self.sizes
        low, high = self._order.part_of(0, self.options.rank, self.options.ranks)
        batches_bytes = int((high - low) * sizes.sample_bytes) * sizes.group * (sizes.groups + 2 if sizes.threaded else 2)
        samples = sizes.held_bytes
        if not sizes.whole:
            slots = slots_of(sizes, self._schedule, self.options.threads)
            samples = int(slots * self._schedule.largest * sizes.sample_bytes)
        columns = 8 * sizes.rows * len(self._wanted & {"labels", "ids"})
        return samples + batches_bytes + columns + self._order.nbytes

    @property
    def waited(self) -> float:
        """Seconds that whoever took the batches waited for reading, decoding and noise."""
        return self._waited + (self._run.waited if self._run else 0.0)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        step = self.step + (self._part - self.step) % self._parts
        if step >= self._order.steps(self.options.drop_last):
            raise StopIteration
        if self._run is None or self._process != os.getpid():
            self._run = self._begin(step)
        batch = self._run.batch(step)
        self.step = step + self._parts
        return batch

    def __getitem__(self, number: int) -> Batch:
        """Read one batch by its number; does not move the iterator."""
        if not 0 <= number < len(self):
            raise IndexError(f"expected a batch from 0 to {len(self) - 1}, received {number}")
        step = self._part + number * self._parts
        columns = {name: column[0] for name, column in self._look_up([step]).items()}
        rows = columns["rows"]
        batch: Batch = {name: column for name, column in columns.items() if name in self._wanted}
        for name, dataset in (("values", self.dataset), ("targets", self.targets)):
            if name in self._wanted and dataset is not None:
                batch[name] = dataset.take(rows, verify=self.options.verify)
        change = self._change()
        if change is not None and "values" in batch:
            batch["values"] = change(batch["values"], columns["ids"])
        return batch

    # How it is made

    @cached_property
    def _order(self) -> EpochOrder:
        options = self.options
        return EpochOrder(
            self._edges,
            options.batch_size,
            seed=options.seed,
            epoch=self.epoch,
            version=self.dataset.version,
            window=self.sizes.window,
            streams=options.streams,
            shuffle=options.shuffle,
        )

    @cached_property
    def _schedule(self) -> Schedule:
        options = self.options
        return schedule(self._order, self._order.steps(options.drop_last), rank=options.rank, ranks=options.ranks)

    @cached_property
    def _labels(self) -> np.ndarray:
        return self.dataset.column("labels", self._start, self._stop)

    @cached_property
    def _ids(self) -> np.ndarray:
        return self.dataset.column("ids", self._start, self._stop)

    def _look_up(self, steps: list[int]) -> dict[str, np.ndarray]:
        """Rows, and the columns that are asked for, of some batches; int64 (batches, samples)."""
        rank, ranks = self.options.rank, self.options.ranks
        if len(steps) == steps[-1] + 1 - steps[0]:
            rows = self._order.rows(steps[0], steps[-1] + 1, rank, ranks)
        else:
            rows = np.concatenate([self._order.rows(step, step + 1, rank, ranks) for step in steps])
        found = {"rows": rows}
        places = rows - self._start
        if "labels" in self._wanted:
            found["labels"] = self._labels[places]
        if "ids" in self._wanted or self.options.noise is not None:
            found["ids"] = self._ids[places]
        return found

    def _groups(self, step: int) -> Iterator[list[int]]:
        """Numbers of the batches from one on, in groups; a last batch that is not full is a group of its own."""
        steps = range(step, self._order.steps(self.options.drop_last), self._parts)
        size = max(1, self.sizes.group // self._parts)
        full = len(range(step, self._order.whole, self._parts))
        for low in range(0, full, size):
            yield list(steps[low : min(low + size, full)])
        if len(steps) > full:
            yield [steps[full]]

    def _change(self) -> Callable[[Any, np.ndarray], Any] | None:
        noise = self.options.noise
        return None if noise is None else partial(noise, seed=self.options.seed, epoch=self.epoch)

    def _begin(self, step: int) -> Run:
        if self._process != os.getpid():  # the first time, or in a child of the process that began
            self._reset()
            self._process = os.getpid()
        if self._readers is None:
            threads = self.options.threads
            self._readers = ThreadPoolExecutor(threads, "duskflow-read") if threads else Here()
            self._makers = ThreadPoolExecutor(threads, "duskflow-make") if self.sizes.threaded else None
        loading = self._whole(step) if self.sizes.whole else self._ring(step)
        targets = self._held[1] if self._separate_targets else None
        # As many as are made ahead, the one in hand, and the one before it.
        buffers = Buffers((1 + self._separate_targets) * (self.sizes.groups + 2))
        make = Making(self._held[0], targets, self._change(), self._wanted, buffers)
        return Run(self._groups(step), self._look_up, loading, make, self._makers, self.sizes.groups)

    def _whole(self, step: int) -> Loading:
        assert self._readers is not None
        if not self._held:
            largest = int(np.diff(self._edges).max())
            plain = not _ragged(self.dataset) and not (self._separate_targets and _ragged(self.targets))
            # Of plain images each row is a slot of its own, so that the memory is as large as the split.
            slots, slot_rows = (self.sizes.rows, 1) if plain else (len(self._edges) - 1, largest)
            self._places = Places(slot_rows)
            if plain:
                self._places.add(self._start, 0)
            else:
                for slot, low in enumerate(self._edges[:-1].tolist()):
                    self._places.add(low, slot)
            self._hold(slots, slot_rows)
        assert self._places is not None
        submit = self._readers.submit
        return WholeLoading(self._edges, self._schedule, step, self._places, self._held, self._loaded, submit)

    def _ring(self, step: int) -> Loading:
        assert self._readers is not None
        slots, largest = slots_of(self.sizes, self._schedule, self.options.threads), self._schedule.largest
        if slots > self._slots or largest > (self._places.slot_rows if self._places else 0):
            self._hold(slots, largest)
            self._slots, self._places = slots, Places(largest)
        assert self._places is not None
        return RingLoading(
            self._schedule, step, self._held, self._slots, self._places.slot_rows, self._readers.submit
        )

    def _hold(self, slots: int, slot_rows: int) -> None:
        self._held.clear()
        verify, keep = self.options.verify, self.sizes.held_bytes < psutil.virtual_memory().total // 2
        for dataset in [self.dataset, *([self.targets] if self._separate_targets and self.targets else [])]:
            held: Held = (
                HeldSamples(dataset, slots, slot_rows, verify)
                if _ragged(dataset)
                else HeldImages(dataset, slots, slot_rows, verify, keep)
            )
            self._held.append(held)

    def _stop_run(self) -> None:
        if self._run is not None and self._process == os.getpid():
            self._waited += self._run.waited
            self._run.stop()
        self._run = None

    def close(self) -> None:
        """Stop the threads and free the memory; iterating again starts them again, where it was."""
        self._stop_run()
        if self._process == os.getpid():
            for executor in (self._readers, self._makers):
                if executor is not None:
                    executor.shutdown()
        waited = self._waited
        self._reset()
        self._waited = waited

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("dataset", "targets", "options", "epoch", "step", "_part", "_parts", "sizes")
        return {name: self.__dict__[name] for name in (*kept, "_start", "_stop", "_edges", "_wanted")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _ragged(dataset: Dataset | None) -> bool:
    return dataset is not None and dataset.parts[0].plan.ragged


def _sample_bytes(dataset: Dataset) -> float:
    if not _ragged(dataset):
        return float(np.prod(dataset.sample_shape or (1,)))
    return max(1.0, dataset.statistics.get("mean_bytes") or dataset.nbytes / dataset.count)


def _check(dataset: Dataset, options: Options, targets: Dataset | None) -> None:
    """Refuse options that do not fit the dataset."""
    noise, rows = options.noise, dataset.rows(options.split)
    if noise is not None and (kind := getattr(noise, "kind", dataset.kind)) != dataset.kind:
        raise ValueError(f"expected a noise for {dataset.kind}, received {noise} for {kind}")
    if options.columns and "targets" in options.columns and targets is None:
        raise ValueError("expected targets= for the column 'targets', received none")
    if targets is not None:
        same = targets.count == dataset.count and np.array_equal(targets.ids(), dataset.ids())
        if targets.kind != dataset.kind or not same:
            raise ValueError(
                f"expected the rows of {dataset.path} in {targets.path}, received others; add the noise again"
            )
    rest = (rows.stop - rows.start) % options.batch_size
    if 0 < rest < options.ranks and not options.drop_last:
        raise ValueError(
            f"expected a last batch with a sample for each of {options.ranks} ranks, received {rest} samples; use "
            "drop_last=True or another batch_size"
        )
