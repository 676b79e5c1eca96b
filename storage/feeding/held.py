"""Samples in memory: where runs of rows lie, how they get there, and how batches are gathered from them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Protocol

import numpy as np

from storage.dataset import Dataset
from storage.feeding.memory import Buffers, aligned
from storage.feeding.reading import read_images, read_samples
from storage.images import decode_images
from storage.part import Verify
from storage.texts import decode


class Places:
    """Which rows lie in which slot of memory. A place is a slot's number times the rows of a slot, plus a row in it."""

    def __init__(self, slot_rows: int) -> None:
        self.slot_rows = slot_rows
        self._slots: dict[int, int] = {}
        self._lows = self._bases = np.empty(0, np.int64)
        self._changed = False

    def add(self, low: int, slot: int) -> None:
        """A run that begins at row `low` lies in a slot from now on."""
        self._slots[low] = slot
        self._changed = True

    def remove(self, low: int) -> None:
        """Forget the run that begins at row `low`."""
        del self._slots[low]
        self._changed = True

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Places of rows that all lie in memory, int64 of the same shape."""
        if self._changed:
            runs = np.array(sorted(self._slots.items()), np.int64).reshape(-1, 2)
            self._lows, self._bases = runs[:, 0].copy(), runs[:, 1] * self.slot_rows - runs[:, 0]
            self._changed = False
        if len(self._bases) == 1:
            return rows + self._bases[0]
        return rows + self._bases[np.searchsorted(self._lows, rows, side="right") - 1]


class Held(Protocol):
    """Samples of one dataset in slots of memory. `load` is called by reading threads, each for a slot of its own."""

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        ...

    def load(self, slot: int, low: int, high: int) -> None:
        """Read the rows `low` to `high` into a slot."""
        ...

    def gather(self, places: np.ndarray, buffers: Buffers) -> Any:
        """The samples at some places, in this order."""
        ...


class HeldImages:
    """Plain images, uint8, in one array.

    Parameters
    ----------
    dataset : Dataset
    slots, slot_rows : int
    verify, keep
        See `storage.part.Part.read_images`.
    """

    def __init__(self, dataset: Dataset, slots: int, slot_rows: int, verify: Verify, keep: bool) -> None:
        self._dataset, self._slot_rows, self._verify, self._keep = dataset, slot_rows, verify, keep
        shape = tuple(dataset.sample_shape or ())
        size = int(np.prod(shape))
        self._images = aligned(slots * slot_rows * size).reshape(slots * slot_rows, *shape)

    @property
    def nbytes(self) -> int:
        """Bytes that are held, from the beginning on."""
        return self._images.nbytes

    def load(self, slot: int, low: int, high: int) -> None:
        """Read the rows `low` to `high` into a slot."""
        begin = slot * self._slot_rows
        out = self._images[begin : begin + high - low]
        read_images(self._dataset, low, out, verify=self._verify, keep=self._keep)

    def gather(self, places: np.ndarray, buffers: Buffers) -> np.ndarray:
        """Copy the images at some places, uint8 (n, height, width, channel): the one copy on the way to a batch."""
        out = buffers.take((len(places), *self._images.shape[1:]))
        # Without mode, NumPy copies twice: what is out of range must leave `out` as it was.
        return self._images.take(places, 0, out, "clip")


class HeldSamples:
    """Ragged samples (texts, images kept as files) as the bytes that are stored, and decoded when they are gathered."""

    def __init__(self, dataset: Dataset, slots: int, slot_rows: int, verify: Verify, keep: bool) -> None:
        self._dataset, self._slot_rows, self._verify, self._keep = dataset, slot_rows, verify, keep
        self._slots: list[list[tuple[int, memoryview, np.ndarray]]] = [[] for _ in range(slots)]
        self._memory = [np.empty(0, np.uint8)] * slots
        self._first = np.zeros(slots, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        places = sum(offsets.nbytes for slot in self._slots for _, _, offsets in slot)
        return places + sum(memory.nbytes for memory in self._memory)

    def load(self, slot: int, low: int, high: int) -> None:
        """Read the rows `low` to `high` into a slot."""
        self._first[slot], self._slots[slot] = low, []
        # Copied, because a shard's memory has room for the largest of all; and into the same memory as before, because
        # what one thread allocates and another one frees is not given back.
        read = read_samples(self._dataset, low, high, verify=self._verify, keep=self._keep)
        size = sum(int(offsets[-1, 1] - offsets[0, 0]) for _, _, offsets in read)
        if len(self._memory[slot]) < size:
            self._memory[slot] = np.empty(size, np.uint8)
        rest, found = memoryview(self._memory[slot]), []
        for first, data, offsets in read:
            begin, end = int(offsets[0, 0]), int(offsets[-1, 1])
            rest[: end - begin] = data[begin:end]
            found.append((first, rest[: end - begin], offsets - begin))
            rest = rest[end - begin :]
        self._slots[slot] = found

    def gather(self, places: np.ndarray, buffers: Buffers) -> Any:
        """Decode the samples at some places: n texts, or uint8 (n, height, width, channel)."""
        samples: list[memoryview] = []
        slots, offsets = np.divmod(places, self._slot_rows)
        for slot, row in zip(slots.tolist(), (self._first[slots] + offsets).tolist(), strict=True):
            held = self._slots[slot]
            first, data, bounds = held[0] if len(held) == 1 else held[bisect_right(held, row, key=_first_row) - 1]
            low, high = bounds[row - first]
            samples.append(data[low:high])
        if self._dataset.kind == "texts":
            return [decode(sample) for sample in samples]
        return decode_images(samples, self._dataset.sample_shape or ())


def _first_row(run: tuple[int, memoryview, np.ndarray]) -> int:
    return run[0]
