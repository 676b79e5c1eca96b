"""What the samples of a split take up in memory: sums over what is stored, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from storage.arrays import compressed
from storage.dataset import Dataset
from storage.feeding.options import Options
from storage.feeding.order import share
from storage.feeding.ragged import RUN_TOKENS
from storage.feeding.reading import ragged
from storage.feeding.sequences import PIECE_BYTES

_ROWS = 65_536
"""Offsets that are looked at together."""
_STR_BYTES = 57
"""Of a Python string, beside its characters, and of its place in a list."""
_OFFSET_BYTES = 16
_ENCODING = 16
"""Bytes that encoding takes for each byte of text that is encoded at once: the text, its words, lists of tokens."""


_GATHERING = 32
"""Bytes of indices for each token of those that are copied together."""
_PADDING, _LAYING = 1, 5
"""Bytes for each token of a batch, while it is padded, or laid into rows: which are tokens, and their columns."""


@dataclass(frozen=True)
class Footprint:
    """Bytes. The samples of a split, and their targets where there are any."""

    rows: int
    stored: float
    """Of one sample as it is stored, in the mean: the order follows from it, so it depends on nothing else."""
    total: int
    """Of all samples in memory."""
    largest: int | None
    """Of the largest run in memory, where samples differ; else they are `total` / `rows` each."""
    batch: int
    """Of the samples of the largest batch that can be made, of this rank."""
    reading: int
    """What a thread needs beside the result while it reads a run."""
    making: int
    """What a thread needs beside the result while it makes a batch."""

    @property
    def held(self) -> float:
        """Of one sample in memory, in the mean."""
        return self.total / max(1, self.rows)

    def run(self, rows: int) -> int:
        """Of a run of at most so many rows in memory."""
        return int(rows * self.held) if self.largest is None else self.largest

    def beside(self, other: Footprint) -> Footprint:
        """Of two datasets of the same rows, read one after the other."""
        both = None if self.largest is None or other.largest is None else self.largest + other.largest
        if both is None and (self.largest is not None or other.largest is not None):
            rows = max(1, self.rows)  # one of them is plain: nothing larger than all of it
            both = (self.largest or self.total // rows * rows) + (other.largest or other.total // rows * rows)
        return Footprint(
            self.rows,
            self.stored,
            self.total + other.total,
            both,
            self.batch + other.batch,
            max(self.reading, other.reading),
            self.making + other.making,
        )


def footprint_of(dataset: Dataset, options: Options, edges: np.ndarray) -> Footprint:
    """Measure one dataset.

    Parameters
    ----------
    dataset : Dataset
    options : Options
    edges : ndarray of int64, shape (pieces + 1,)
        See `storage.feeding.order.EpochOrder`.

    Raises
    ------
    StorageError
        If offsets are missing or, with `verify`, damaged.
    """
    low, high = share(options.batch_size, options.rank, options.ranks)
    rows, size = int(edges[-1] - edges[0]), min(high - low, int(edges[-1] - edges[0]))
    if not ragged(dataset):
        sample = int(np.prod(dataset.sample_shape or (1,)))
        reading = _plain_reading(dataset, sample)
        return Footprint(rows, float(sample), rows * sample, None, size * sample, reading, 0)
    stored = max(1.0, dataset.statistics.get("mean_bytes") or dataset.nbytes / dataset.count)
    sequences = options.sequences
    pieces, tokens, longest = _sums(dataset, options, edges, sequences.length if sequences else 1, size)
    largest_text = int(longest.max(initial=0))
    encoding = (
        _ENCODING * min(max(PIECE_BYTES, largest_text), int(pieces.max(initial=0))) if sequences is not None else 0
    )
    slots = [_slot_bytes(part) for part in dataset.parts]
    counts = np.diff(edges)
    if options.encodes:
        held = 4 * tokens + 8 * (counts + 1)
        reading = max(slots) + encoding + int(4 * tokens.max(initial=0))
    else:
        held = pieces + _OFFSET_BYTES * counts
        reading = max(slots)
    texts = int(longest.sum()) + _STR_BYTES * size
    if sequences is not None:
        cells, arrays = size * sequences.length, 3 if options.packs else 1
        batch = 4 * arrays * cells
        # Tokens before they are laid out: the sum of the longest texts', as far as it is known which texts there are.
        most = cells if options.packs else int(np.minimum(longest + 2, sequences.length).sum())
        making = _GATHERING * min(RUN_TOKENS, most) + 4 * most + (_LAYING if options.packs else _PADDING) * cells
        if not options.encodes:
            making += 2 * texts + encoding + 4 * most
    elif dataset.kind == "texts":
        batch, making = texts, texts if options.noise is not None else 0
    else:
        batch, making = size * int(np.prod(dataset.sample_shape or (1,))), int(longest.sum())
    return Footprint(rows, stored, int(held.sum()), int(held.max(initial=0)), batch, reading, making)


NOTHING = Footprint(0, 1.0, 0, None, 0, 0, 0)
"""Of a feed that gives no samples."""


def _plain_reading(dataset: Dataset, sample: int) -> int:
    """Plain images are read into their place; only objects of a store are whole in memory first."""
    if all(part.store.path(part.group) is not None for part in dataset.parts):
        return 0
    return max(part.layout.shard for part in dataset.parts) * sample


def _slot_bytes(part: object) -> int:
    """A shard's bytes, as they are stored and decoded."""
    plan = part.plan  # type: ignore[attr-defined]
    slot = int(plan.slot_bytes or 0)
    return slot + (int(part.table["bytes"].max(initial=0)) if compressed(plan) else 0)  # type: ignore[attr-defined]


def _sums(
    dataset: Dataset, options: Options, edges: np.ndarray, length: int, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bytes, and tokens at most, of each piece, int64 (pieces,); and the bytes of the `size` longest samples."""
    sums = np.zeros((2, len(edges) - 1), np.int64)
    longest = np.empty(0, np.int64)
    for first in range(int(edges[0]), int(edges[-1]), _ROWS):
        stop = min(first + _ROWS, int(edges[-1]))
        lengths = np.concatenate(
            [
                np.diff(dataset.parts[part].column("offsets", low, high, verify=options.verify is not None))[:, 0]
                for _, part, low, high in dataset.pieces(first, stop)
            ]
        )
        lengths = np.maximum(lengths, 0)  # of damaged offsets: whoever reads them says so
        # A token takes at least a byte; some tokenisers put one before a text and one after it.
        tokens = np.minimum(lengths + 2, length)
        piece = np.searchsorted(edges, np.arange(first, stop), side="right") - 1
        sums[0] += np.bincount(piece, lengths, len(edges) - 1).astype(np.int64)
        sums[1] += np.bincount(piece, tokens, len(edges) - 1).astype(np.int64)
        longest = np.sort(np.concatenate([longest, lengths]))[-size:] if size else longest
    return sums[0], sums[1], longest
