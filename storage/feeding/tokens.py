"""Texts held in memory as tokens: encoded once, when they are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from storage.dataset import Dataset
from storage.feeding.memory import Buffers
from storage.feeding.ragged import copy_runs, joined, offsets_of
from storage.feeding.reading import read_samples
from storage.feeding.sequences import Ragged, Sequences, pieces_of
from storage.part import Verify
from storage.texts import decode

Change = Callable[[list[str], np.ndarray], list[str]]


def read_tokens(
    dataset: Dataset,
    low: int,
    high: int,
    verify: Verify,
    keep: bool,
    sequences: Sequences,
    change: Change | None = None,
) -> Ragged:
    """Read and encode the texts of some rows, a piece at a time: encoding takes many times the memory of the text."""
    found: list[Ragged] = []
    for first, data, offsets in read_samples(dataset, low, high, verify=verify, keep=keep):
        for begin, end in pieces_of(offsets[:, 1] - offsets[:, 0]):
            texts = [decode(data[a:b]) for a, b in offsets[begin:end].tolist()]
            if change is not None:
                ids = dataset.column("ids", first + begin, first + end, verify=verify is not None)
                texts = change(texts, ids)
            found.append(sequences.tokens(texts))
    return joined(found)


class HeldTokens:
    """Texts as tokens; see `storage.feeding.held.Held`.

    Parameters
    ----------
    dataset : Dataset
        Of texts.
    slots, slot_rows : int
    verify, keep
        See `storage.part.Part.read_images`.
    sequences : Sequences
    change : callable, optional
        Changes texts, given their ids, before they are encoded.
    """

    def __init__(
        self,
        dataset: Dataset,
        slots: int,
        slot_rows: int,
        verify: Verify,
        keep: bool,
        sequences: Sequences,
        change: Change | None = None,
    ) -> None:
        self._dataset, self._slot_rows, self._verify, self._keep = dataset, slot_rows, verify, keep
        self._sequences, self.change = sequences, change
        self._slots: list[Ragged | None] = [None] * slots

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return sum(values.nbytes + offsets.nbytes for values, offsets in filter(None, self._slots))

    def load(self, slot: int, low: int, high: int) -> None:
        """Read and encode the rows `low` to `high` into a slot."""
        self._slots[slot] = None  # before there is more
        self._slots[slot] = read_tokens(
            self._dataset, low, high, self._verify, self._keep, self._sequences, self.change
        )

    def lengths(self) -> np.ndarray:
        """Tokens of every row, slot after slot, once all are there; int64."""
        return np.concatenate([np.diff(offsets) for _, offsets in filter(None, self._slots)])

    def gather(self, places: np.ndarray, buffers: Buffers) -> Any:
        """Tokens of the sequences at some places: values int32 (tokens,) and offsets int64 (n + 1,)."""
        slots, rows = np.divmod(places, self._slot_rows)
        order = np.argsort(slots, kind="stable")
        edges = np.flatnonzero(np.diff(slots[order], prepend=-1, append=-1)).tolist()
        begins, ends = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
        found = []
        for low, high in itertools.pairwise(edges):
            held, places_of_slot = self._slots[int(slots[order[low]])], order[low:high]
            if held is None:
                raise RuntimeError("expected texts that have been read")
            values, offsets = held
            begins[places_of_slot] = offsets[rows[places_of_slot]]
            ends[places_of_slot] = offsets[rows[places_of_slot] + 1]
            found.append((values, places_of_slot))
        out_offsets = offsets_of(ends - begins)
        out = np.empty(int(out_offsets[-1]), np.int32)
        for values, places_of_slot in found:
            copy_runs(values, begins[places_of_slot], ends[places_of_slot], out, out_offsets[places_of_slot])
        return out, out_offsets
