"""What a feed keeps between epochs: memory, threads, and which pieces have been read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil

from storage.dataset import Dataset
from storage.feeding.held import Held, HeldImages, HeldSamples, Places
from storage.feeding.loading import Loaded, Loading, RingLoading, WholeLoading
from storage.feeding.options import Options
from storage.feeding.reading import ragged
from storage.feeding.running import Here
from storage.feeding.schedule import Schedule
from storage.feeding.sizes import Sizes, slots_of
from storage.feeding.tokens import HeldTokens


class Holding:
    """Memory and threads of one process.

    Parameters
    ----------
    datasets : sequence of Dataset
        Whose samples are held: of the same rows, or none at all.
    options : Options
    sizes : Sizes
    edges : ndarray of int64, shape (pieces + 1,)
        See `storage.feeding.order.EpochOrder`.
    change : callable, optional
        Changes texts, given their ids, as they are read; see `storage.feeding.tokens.HeldTokens`.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        options: Options,
        sizes: Sizes,
        edges: np.ndarray,
        change: Callable[..., Any] | None = None,
    ) -> None:
        self._datasets = datasets
        self._options, self._sizes, self._edges, self._change = options, sizes, edges, change
        # Whether the files stay in the system's cache: what is larger would push out everything else.
        stored = sizes.footprint.rows * sizes.footprint.stored * max(1, len(datasets))
        self.keep = stored < psutil.virtual_memory().total // 2
        self.held: list[Held] = []
        self._places = Places(1)
        self._slots = 0
        self._loaded: set[int] = set()
        self.readers: Executor = ThreadPoolExecutor(sizes.readers, "duskflow-read") if sizes.readers else Here()
        self.makers: Executor | None = ThreadPoolExecutor(sizes.makers, "duskflow-make") if sizes.threaded else None

    def loading(self, needed: Callable[[], Schedule], step: int) -> Loading:
        """Begin to read what the batches from one on need."""
        submit = self.readers.submit
        if not self._datasets:
            self._places.add(0, 0)
            return Loaded(self._places)
        if len(self._loaded) == len(self._edges) - 1:
            return Loaded(self._places)
        schedule = needed()
        if self._sizes.whole:
            if not self.held:
                self._hold_whole()
            return WholeLoading(self._edges, schedule, step, self._places, self.held, self._loaded, submit)
        slots, largest = slots_of(self._sizes, schedule), schedule.largest
        if slots > self._slots or largest > self._places.slot_rows:
            self._hold(slots, largest)
        return RingLoading(schedule, step, self.held, self._slots, self._places.slot_rows, submit)

    def _hold_whole(self) -> None:
        if any(map(ragged, self._datasets)):
            self._hold(len(self._edges) - 1, int(np.diff(self._edges).max()))
            for slot, low in enumerate(self._edges[:-1].tolist()):
                self._places.add(low, slot)
        else:
            # Of plain images each row is a slot of its own, so that the memory is as large as the split.
            self._hold(int(self._edges[-1] - self._edges[0]), 1)
            self._places.add(int(self._edges[0]), 0)

    def _hold(self, slots: int, slot_rows: int) -> None:
        self.held.clear()  # before there is more
        self._slots, self._places = slots, Places(slot_rows)
        options, keep = self._options, self.keep
        for dataset in self._datasets:
            held: Held
            if options.encodes:
                assert options.sequences is not None
                held = HeldTokens(dataset, slots, slot_rows, options.verify, keep, options.sequences, self._change)
            elif ragged(dataset):
                held = HeldSamples(dataset, slots, slot_rows, options.verify, keep)
            else:
                held = HeldImages(dataset, slots, slot_rows, options.verify, keep)
            self.held.append(held)

    def change_texts(self, change: Callable[..., Any] | None) -> None:
        """Read texts anew, and change them in this way."""
        self._change = change
        self._loaded.clear()
        for held in self.held:
            if isinstance(held, HeldTokens):
                held.change = change

    def lengths(self, schedule: Schedule) -> np.ndarray:
        """Tokens of all texts of a split that is held as a whole, int64 (rows,)."""
        loading = self.loading(lambda: schedule, 0)
        try:
            for read in loading.reads(int(schedule.first.max(initial=0)) + 1):
                read.result()
        except BaseException:
            loading.stop()  # or they would be counted as read for another epoch
            raise
        tokens = self.held[0]
        assert isinstance(tokens, HeldTokens)
        return tokens.lengths()

    @property
    def nbytes(self) -> int:
        """Bytes of samples that are held now."""
        return sum(held.nbytes for held in self.held)

    def close(self) -> None:
        """End the threads."""
        for executor in (self.readers, self.makers):
            if executor is not None:
                executor.shutdown(cancel_futures=True)
