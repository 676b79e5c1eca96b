"""The iterator over batches: where it is, what it holds, how it goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from dask.utils import format_bytes

from storage.dataset import Dataset
from storage.feeding.changing import Change, name_of
from storage.feeding.epoch import Epoch
from storage.feeding.footprint import Footprint, footprint_of
from storage.feeding.holding import Holding
from storage.feeding.memory import Buffers
from storage.feeding.options import COLUMNS, Options, check_fit, epoch_number, whole_number
from storage.feeding.order import RULE
from storage.feeding.reading import ragged, shard_edges
from storage.feeding.running import Batch, Making, Run
from storage.feeding.sequences import Sequences
from storage.feeding.sizes import BEYOND, Sizes, sizes_of
from storage.feeding.tokens import read_tokens
from storage.hashing import hash_bytes
from storage.part import Verify
from storage.plan import digest

_NUMBERS = ("labels", "ids", "rows", "edges")


class Batches(Iterator[Batch]):
    """Batches of one epoch after another; see `storage.batches`. Its state counts batches that were consumed.

    Memory of a batch is used again once no array over it is alive any more: keep what you need, drop the rest. A feed
    can be pickled; neither threads nor memory travel.

    Attributes
    ----------
    epoch : int
    step : int
        Number of the batch after the one that was handed out last: of a feed that is no part of another, the batches of
        the epoch that were handed out.
    """

    def __init__(self, dataset: Dataset, options: Options, targets: Dataset | None, epoch: int) -> None:
        check_fit(options, dataset, targets)
        self.dataset, self.targets, self.options = dataset, targets, options
        self.epoch, self.step = epoch, 0
        self._part, self._parts = 0, 1
        self._edges = shard_edges(dataset, options.split)
        self._start = int(self._edges[0])
        self._wanted = frozenset(options.columns or COLUMNS) - (set() if targets is not None else {"targets"})
        self._wanted |= {"edges"} if options.packs else set()
        self.sizes = self._measure()
        self._reset()

    def _reset(self) -> None:
        """Forget threads, memory, and what is being made."""
        self._run: Run | None = None
        self._batches: Iterator[tuple[int, Batch]] | None = None
        self._fault: Exception | None = None
        self._lock = threading.RLock()
        self._holding: Holding | None = None
        self._process = os.getpid()
        self._waited = 0.0

    def _measure(self) -> Sizes:
        options = self.options
        found = [footprint_of(one, options, self._edges) for one in self._sampled]
        footprint = found[0].beside(found[1]) if len(found) > 1 else found[0] if found else self._unsampled()
        if options.noise is not None and not options.packs:  # what goes into it, and what comes out
            footprint = replace(footprint, making=footprint.making + found[0].batch if found else 0)
        if self.targets is not None and self._second is None and "targets" in self._wanted:
            footprint = replace(footprint, batch=2 * footprint.batch)
        coded = ragged(self.dataset) and options.sequences is None
        return sizes_of(options, self._edges, footprint, heavy=options.noise is not None or coded)

    def _unsampled(self) -> Footprint:
        """Of a feed that gives no samples; texts may have to be read once for their lengths."""
        found = footprint_of(self.dataset, self.options, self._edges)
        return replace(found, total=0, largest=None, batch=0, reading=found.reading * self.options.measures, making=0)

    @property
    def _sampled(self) -> list[Dataset]:
        """The datasets whose samples are read for batches."""
        own = "values" in self._wanted or ("targets" in self._wanted and self._second is None)
        return ([self.dataset] if own else []) + ([self._second] if self._second is not None else [])

    @property
    def _second(self) -> Dataset | None:
        """The targets, if they are to be read: the dataset's own samples are there already."""
        if self.targets is None or "targets" not in self._wanted or self.targets.version == self.dataset.version:
            return None
        return self.targets

    def __repr__(self) -> str:
        return (
            f"<Batches of {self.options.batch_size} from {self.options.split} of {self.dataset.name!r}: epoch "
            f"{self.epoch}, {self.step:,} done; holds at most {format_bytes(self.memory)}>"
        )

    # Where it is

    def __len__(self) -> int:
        """Batches of an epoch, the same for every rank."""
        return len(range(self._part, self._epoch.steps, self._parts))

    def set_epoch(self, epoch: int) -> None:
        """Go to the first batch of an epoch. What is held in memory stays."""
        self._go(epoch_number(epoch), 0)

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Position, as plain values.

        Parameters
        ----------
        step : int, optional
            Batches of the epoch that were consumed, for whoever counts for itself because batches are taken ahead of
            their use. By default those that were handed out.
        """
        if step is None:
            step = self.step
        else:  # of packed rows there are no more than of texts
            step = whole_number("step", step, 0, self._epoch.order.steps(self.options.drop_last))
        return {"epoch": self.epoch, "step": step, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, also with another number of ranks.

        Raises
        ------
        TypeError
            If it is no state.
        ValueError
            If the state is of other data or other parameters.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"expected a state, a dict that state_dict gave, received {state!r}")
        fingerprint, step = state.get("fingerprint"), state.get("step")
        if not isinstance(fingerprint, str) or fingerprint != self._fingerprint:
            raise ValueError(
                "expected a state of this dataset and these parameters, received another's; make the batches with the "
                "same dataset, batch size, seed, split, window, noise, sequences (with encode) and drop_last"
            )
        before = self.epoch, self.step
        self._go(epoch_number(state.get("epoch")), 0)
        steps = self._epoch.steps
        try:
            self.step = whole_number("step", step, 0, steps)
        except ValueError:
            self._go(*before)
            raise ValueError(f"expected a state with a step from 0 to {steps}, received {step!r}") from None

    def _go(self, epoch: int, step: int) -> None:
        self._leave_parent()
        with self._lock:
            self._stop_run()
            if epoch != self.epoch:
                self.epoch = epoch
                self.__dict__.pop("_epoch", None)
                if self._reads_anew:
                    self.__dict__.pop("_lengths", None)
                    if self._holding is not None:
                        self._holding.change_texts(self._change())
            self.step = step

    @cached_property
    def _fingerprint(self) -> str:
        options, sequences = self.options, self.options.sequences
        window = None if self.sizes.window is None else [self.sizes.window, options.streams]
        noise = None if options.noise is None else name_of("a noise", options.noise)
        of: list[Any] = [options.batch_size, options.seed, options.split, options.shuffle, options.drop_last]
        of += [window, noise]
        if sequences is not None:
            measured = self.options.measures and not self._reads_anew
            of += [sequences.plain, hash_bytes(self._lengths).hex() if measured else None]
            of += [None if sequences.encode is None else name_of("encode", sequences.encode)]
        return digest([RULE, self.dataset.version, self.targets.version if self.targets else None, *of])

    def part(self, worker: int, workers: int) -> Batches:
        """Another feed over every `workers`-th of the batches from here on, for processes that share an iteration.

        A split that is larger than a window is held as a whole only if it fits `workers` times.
        """
        workers = whole_number("workers", workers, 1)
        worker = whole_number("worker", worker, 0)
        if worker >= workers:
            raise ValueError(f"expected a worker below workers={workers}, received {worker}")
        other = Batches(self.dataset, self.options, self.targets, self.epoch)
        other.sizes = self.sizes.shared(workers)
        other._parts = self._parts * workers
        done = max(0, -(-(self.step - self._part) // self._parts))  # of this feed's own batches
        other._part = self._part + self._parts * ((done + worker) % workers)
        other.step = self._part + self._parts * done
        if "_lengths" in self.__dict__:
            other._lengths = self._lengths  # measured once, for all
        return other

    # What it gives

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what a batch holds."""
        shaped = self.signature
        return (*(["values"] if "values" in self._wanted and "values" not in shaped else []), *shaped)

    @property
    def signature(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Shape and dtype of each column that is an array; the number of samples is None."""
        found: dict[str, tuple[tuple[int | None, ...], str]] = {}
        sequences = self.options.sequences
        if sequences is not None and "values" in self._wanted:
            width = None if sequences.batching == "bucket" else sequences.length
            others = ["segments", "positions"] if self.options.packs else []
            found |= dict.fromkeys(["values", *others], ((None, width), "int32"))
            found |= {} if self.options.packs else {"lengths": ((None,), "int64")}
        elif self.dataset.kind == "images":
            images = [name for name in ("values", "targets") if name in self._wanted]
            found |= dict.fromkeys(images, ((None, *(self.dataset.sample_shape or ())), "uint8"))
        return found | {name: ((None,), "int64") for name in _NUMBERS if name in self._wanted}

    @property
    def memory(self) -> int:
        """Bytes that are held at most in this epoch: samples, batches that are made ahead, columns and order.

        Arithmetic on sizes; of samples that differ in size their places are read, nothing else. Texts count a byte for
        each of their bytes (a string of ASCII with one emoji takes four); what `noise` and `encode` need for themselves
        is not counted, nor what reading a batch by its number leaves in the open dataset (640 MiB at most).
        """
        columns = {"labels", "ids"} & self._wanted | ({"ids"} if self.options.noise is not None else set())
        return self._epoch.nbytes + 8 * int(self._edges[-1] - self._start) * (len(columns) + self.options.measures)

    @property
    def waited(self) -> float:
        """Seconds that whoever took the batches waited for reading, decoding and noise."""
        return self._waited + (self._run.waited if self._run else 0.0)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        self._leave_parent()
        with self._lock:  # a framework's thread may ask for a batch while another moves the feed
            return self._following()

    def _following(self) -> Batch:
        if self._fault is not None:
            raise self._fault  # not a batch from memory that was never filled
        if self._batches is None:
            step = self.step + (self._part - self.step) % self._parts
            if step >= self._epoch.steps:
                raise StopIteration
            self._batches = self._begin(step)
        try:
            self.step, batch = next(self._batches)
        except StopIteration:
            raise
        except Exception as error:
            self._fault = error
            raise
        except BaseException:  # a user's Ctrl-C: what was half done is done again
            self._stop_run()
            raise
        return batch

    def __getitem__(self, number: int) -> Batch:
        """Read one batch by its number; does not move the iterator."""
        if not 0 <= number < len(self):
            raise IndexError(f"expected a batch from 0 to {len(self) - 1}, received {number}")
        columns = {name: column[0] for name, column in self._look_up([self._part + number * self._parts]).items()}
        batch = {name: columns[name] for name in columns if name in self._wanted}
        for name, dataset in (("values", self.dataset), ("targets", self.targets)):
            if name in self._wanted and dataset is not None:
                batch[name] = dataset.take(columns["rows"], verify=self.options.verify)
        change, sequences = self._change(), self.options.sequences
        if change is not None and "values" in batch:
            batch["values"] = change(batch["values"], columns["ids"])
        if sequences is not None and "values" in batch:
            batch |= sequences.rectangle(sequences.tokens(batch["values"]), columns.get("edges"))
        return batch

    # How it is made

    @cached_property
    def _epoch(self) -> Epoch:
        return Epoch(self.dataset, self.options, self.sizes, self._edges, self.epoch, lambda: self._lengths)

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Tokens of the texts of the split: of those that are stored, except where rows are packed after noise."""
        sequences, holding = self.options.sequences, self._hold()
        assert sequences is not None
        if self.sizes.whole and self._sampled and self.options.encodes:
            return holding.lengths(self._epoch.everything)

        # Compared here and, by "first-read", once more: what a batch will hold is read again.
        verify: Verify = "every-read" if self.options.verify is not None else None

        def count(low: int, high: int) -> np.ndarray:
            return np.diff(read_tokens(self.dataset, low, high, verify, holding.keep, sequences)[1])

        return np.concatenate(list(holding.readers.map(count, self._edges[:-1].tolist(), self._edges[1:].tolist())))

    @cached_property
    def _labels(self) -> np.ndarray:
        return self._column("labels")

    @cached_property
    def _ids(self) -> np.ndarray:
        return self._column("ids")

    def _column(self, name: str) -> np.ndarray:
        verify = self.options.verify is not None
        return self.dataset.column(name, self._start, int(self._edges[-1]), verify=verify)

    def _look_up(self, steps: list[int]) -> dict[str, np.ndarray]:
        """Rows, and the columns that are asked for, of some batches; int64 (batches, samples)."""
        found = self._epoch.look_up(steps)
        places = found["rows"] - self._start
        if "labels" in self._wanted:
            found["labels"] = self._labels[places]
        if "ids" in self._wanted or self.options.noise is not None:
            found["ids"] = self._ids[places]
        return found

    @property
    def _reads_anew(self) -> bool:
        """Whether texts are read anew for each epoch: packing depends on the lengths that noise has left."""
        return self.options.packs and self.options.noise is not None

    def _change(self) -> Change | None:
        noise = self.options.noise
        return None if noise is None else Change(noise, self.options.seed, self.epoch)

    def _leave_parent(self) -> None:
        """In a child of the process that began: its threads are not here, and its lock may be held for ever."""
        if self._process != os.getpid():
            self._reset()

    def _hold(self) -> Holding:
        self._leave_parent()
        if self._holding is None:
            change = self._change() if self._reads_anew else None
            self._holding = Holding(self._sampled, self.options, self.sizes, self._edges, change)
        return self._holding

    def _begin(self, step: int) -> Iterator[tuple[int, Batch]]:
        if self._run is not None:
            self._stop_run()
        holding, sequences = self._hold(), self.options.sequences
        loading = holding.loading(lambda: self._epoch.schedule, 0 if self.options.packs else step)
        change = None if self.options.encodes else self._change()
        finish = None if sequences is None else partial(_rectangle, sequences, not self.options.encodes)
        targets = holding.held[-1] if self._second is not None else None
        buffers = Buffers(len(holding.held) * (self.sizes.groups + BEYOND))
        own = holding.held[0] if holding.held else None
        make = Making(own, targets, change, finish, self._wanted, buffers)
        groups = self._epoch.groups(step, self._parts)
        self._run = Run(groups, self._look_up, loading, make, holding.makers, self.sizes.groups)
        return self._run.batches()

    def _stop_run(self) -> None:
        with self._lock:
            self._batches = self._fault = None
            if self._run is not None:
                self._run.stop()  # if a user interrupts this, too, it is done before the next begins
                self._waited += self._run.waited
            self._run = None

    def close(self) -> None:
        """Stop the threads and free the memory; iterating again begins again, where it was."""
        self._leave_parent()
        with self._lock:  # a batch that another thread is taking is finished first
            self._stop_run()
            if self._holding is not None:
                self._holding.close()
            self._holding = None

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = ["dataset", "targets", "options", "epoch", "step", "sizes"]
        kept += ["_part", "_parts", "_start", "_edges", "_wanted", "_lengths"]
        return {name: self.__dict__[name] for name in kept if name in self.__dict__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _rectangle(sequences: Sequences, encode: bool, texts: Any, edges: np.ndarray | None) -> Batch:
    return sequences.rectangle(sequences.tokens(texts) if encode else texts, edges)
