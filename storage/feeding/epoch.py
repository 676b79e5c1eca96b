"""One epoch of a feed: which rows each batch takes, and what must be read for it. Reads nothing but lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np

from storage.dataset import Dataset
from storage.feeding.options import Options
from storage.feeding.order import EpochOrder
from storage.feeding.schedule import Schedule, schedule
from storage.feeding.sequences import BucketedOrder, PackedOrder
from storage.feeding.sizes import Sizes, slots_of


class Epoch:
    """The arrangement of one epoch.

    Parameters
    ----------
    dataset : Dataset
    options : Options
    sizes : Sizes
    edges : ndarray of int64, shape (pieces + 1,)
        See `storage.feeding.order.EpochOrder`.
    number : int
        Of the epoch.
    lengths : callable
        Gives the tokens of each text of the split, int64 (rows,); asked only where the order depends on them.
    """

    def __init__(
        self,
        dataset: Dataset,
        options: Options,
        sizes: Sizes,
        edges: np.ndarray,
        number: int,
        lengths: Callable[[], np.ndarray],
    ) -> None:
        self._options, self._sizes, self._start, self._lengths = options, sizes, int(edges[0]), lengths
        self.number = number
        self.order = EpochOrder(
            edges,
            options.batch_size,
            seed=options.seed,
            epoch=number,
            version=dataset.version,
            window=sizes.window,
            streams=options.streams,
            shuffle=options.shuffle,
        )

    @cached_property
    def _arranged(self) -> EpochOrder | BucketedOrder | PackedOrder:
        """The order after texts of like lengths have been brought together, or packed."""
        sequences = self._options.sequences
        if sequences is None or sequences.batching == "pad":
            return self.order
        keys = {"seed": self._options.seed, "epoch": self.number}
        if sequences.batching == "bucket":
            return BucketedOrder(self.order, self._lengths(), self._start, sequences.pool, **keys)
        return PackedOrder(self.order, self._lengths(), self._start, sequences.length, **keys)

    @cached_property
    def _counted(self) -> EpochOrder | PackedOrder:
        """What knows how many batches there are."""
        return self._arranged if self._options.packs and isinstance(self._arranged, PackedOrder) else self.order

    @cached_property
    def steps(self) -> int:
        """Batches of the epoch."""
        whole, rest = self._counted.whole, self._counted.rest
        if self._options.packs and self._options.drop_last and not whole and rest:
            raise ValueError(
                f"expected at least batch_size={self._options.batch_size:,} packed rows for drop_last=True, received "
                f"{rest:,} in epoch {self.number}: there would be no batch; use drop_last=False or a smaller batch_size"
            )
        return whole + bool(rest and not self._options.drop_last)

    @cached_property
    def schedule(self) -> Schedule:
        """What has to be in memory from when to when."""
        options, sequences = self._options, self._options.sequences
        if options.packs:
            return self.everything  # in memory before the order is known
        steps = self.order.steps(options.drop_last)
        if sequences is not None and sequences.batching != "pad":
            # A text can come to any place of its pool, so to any rank.
            return schedule(self.order, steps, pool=sequences.pool)
        return schedule(self.order, steps, rank=options.rank, ranks=options.ranks)

    @property
    def everything(self) -> Schedule:
        """All rows of the split."""
        return schedule(self.order, self.order.steps())

    @cached_property
    def nbytes(self) -> int:
        """Bytes of samples and of the order; see `Batches.memory`."""
        sizes, samples = self._sizes, self._sizes.footprint.total
        if not sizes.whole:
            samples = slots_of(sizes, self.schedule) * sizes.footprint.run(self.schedule.largest)
        return samples + sizes.ahead + self.order.nbytes + sizes.per_shard * len(self.order.cuts) + self._arranging

    @property
    def _arranging(self) -> int:
        """Bytes that it takes to bring texts of like lengths together, or to pack them."""
        sequences, count = self._options.sequences, self.order.count
        if sequences is None or sequences.batching == "pad":
            return 0
        if sequences.batching == "pack":
            return PackedOrder.ROW_BYTES * count
        return BucketedOrder.ROW_BYTES * min(count, sequences.pool * self._options.batch_size)

    def look_up(self, steps: list[int]) -> dict[str, np.ndarray]:
        """Rows of some batches, int64 (batches, samples), and where the rows of packed texts begin, as ``edges``."""
        rank, ranks, arranged = self._options.rank, self._options.ranks, self._arranged
        if isinstance(arranged, PackedOrder):
            rows, edges = arranged.batch(steps[0], rank, ranks)
            return {"rows": rows[None], "edges": edges[None]}
        if len(steps) == steps[-1] + 1 - steps[0]:
            return {"rows": arranged.rows(steps[0], steps[-1] + 1, rank, ranks)}
        return {"rows": np.concatenate([arranged.rows(step, step + 1, rank, ranks) for step in steps])}

    def groups(self, first: int, stride: int) -> Iterator[list[int]]:
        """Numbers of every `stride`-th batch, in groups; a last batch that is not full is a group of its own."""
        steps = range(first, self.steps, stride)
        size = max(1, self._sizes.group // stride)
        full = len(range(first, min(self._counted.whole, self.steps), stride))
        for low in range(0, full, size):
            yield list(steps[low : min(low + size, full)])
        if len(steps) > full:
            yield [steps[full]]
