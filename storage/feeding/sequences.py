"""Texts as sequences of tokens: what is asked for, and the order of batches that follows from their lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.feeding.bucketing import bucketed, width_of
from storage.feeding.order import EpochOrder, share
from storage.feeding.packing import WINDOW, lay, packed
from storage.feeding.ragged import at_least_one, chosen, cut, joined, offsets_of, pad, ragged_of, token

Ragged = tuple[np.ndarray, np.ndarray]
PIECE_BYTES = 256 * 1024
"""Of texts that are encoded together."""
_MOST = 2**31 - 1
"""Of tokens and batches; more is a slip, and would overflow."""
Encode = Callable[[Sequence[str]], Any]


@dataclass(frozen=True)
class Sequences:
    """How texts become batches of tokens.

    Parameters
    ----------
    encode : callable
        Turns a list of n texts into tokens: values int32 (tokens,) and offsets int64 (n + 1,), such as
        ``Vocabulary.ragged`` gives; or a list of n lists of whole numbers. Called in threads, with texts in any
        division: each text's tokens must not depend on the others. ``None``: the bytes of the text, plus one.
    length : int
        Tokens of a sequence at most; longer ones are cut. With ``batching="pack"`` the width of a row.
    batching : {"bucket", "pad", "pack"}
        ``bucket``: texts of like lengths share a batch, which is padded to one of few widths; every batch but the last
        has as many texts. ``pad``: every batch is padded to `length`. ``pack``: a row holds several texts, and
        ``batch_size`` counts rows.
    keep : {"head", "tail"}
        Which tokens of a longer text stay.
    padding : {"after", "before"}
        On which side padding lies; packed rows are padded after.
    fill : int
        The token that pads.
    pool : int
        Batches among which texts are sorted by length.
    step : int
        The smallest width of a padded batch; see `storage.feeding.bucketing.width_of`.
    """

    encode: Encode | None = None
    length: int = 256
    batching: str = "bucket"
    keep: str = "head"
    padding: str = "after"
    fill: int = 0
    pool: int = 50
    step: int = 16

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.encode is not None and not callable(self.encode):
            raise TypeError(f"expected encode as a function of a list of texts, received {self.encode!r}")
        for name in ("length", "pool", "step"):
            object.__setattr__(self, name, at_least_one(name, getattr(self, name), _MOST))
        object.__setattr__(self, "fill", token("fill", self.fill))
        chosen(self.batching, "bucket", "pad", "pack")
        chosen(self.keep, "head", "tail")
        chosen(self.padding, "after", "before")

    @property
    def plain(self) -> list[Any]:
        """What the order and the shapes depend on, beside the lengths."""
        return [self.length, self.batching, self.keep, self.padding, self.fill, self.pool, self.step]

    def tokens(self, texts: Sequence[str]) -> Ragged:
        """Tokens of some texts, cut.

        Raises
        ------
        ValueError
            If `encode` gave anything but tokens for each text.
        """
        found = [self._tokens(texts[a:b]) for a, b in pieces_of([len(text) for text in texts])]
        return joined(found)

    def _tokens(self, texts: Sequence[str]) -> Ragged:
        try:
            found = bytes_plus_one(texts) if self.encode is None else self.encode(texts)
        except StopIteration as error:  # would end the epoch of whoever iterates, and nobody would know
            raise RuntimeError("expected encode to give tokens, received StopIteration from it") from error
        if isinstance(found, Iterator):
            found = list(found)
        pair = isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, np.ndarray) for part in found)
        values, offsets = found if pair else ragged_of(found)
        if len(offsets) != len(texts) + 1 or values.ndim != 1 or not np.can_cast(values.dtype, np.int32, "safe"):
            raise ValueError(
                f"expected encode to give tokens as int32 and {len(texts) + 1} offsets for {len(texts)} texts, "
                f"received {values.dtype} of shape {values.shape} and {len(offsets)} offsets"
            )
        return cut(values.astype(np.int32, copy=False), offsets, self.length, keep=self.keep)

    def rectangle(self, ragged: Ragged, edges: np.ndarray | None) -> dict[str, np.ndarray]:
        """The arrays of a batch of sequences."""
        values, offsets = ragged
        if edges is not None:
            tokens, segments, positions = lay(values, offsets, edges, self.length, fill=self.fill)
            return {"values": tokens, "segments": segments, "positions": positions}
        width = self.length
        if self.batching == "bucket":
            width = width_of(int(np.diff(offsets).max(initial=0)), self.length, step=self.step)
        rows, lengths = pad(values, offsets, width, fill=self.fill, padding=self.padding)
        return {"values": rows, "lengths": lengths}


def pieces_of(sizes: Any) -> list[tuple[int, int]]:
    """First and past-the-last of texts of these sizes that are encoded together: few large ones, many small ones."""
    ends = np.cumsum(np.asarray(sizes, np.int64))
    found, begin = [], 0
    while begin < len(ends):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + PIECE_BYTES, side="right")))
        found.append((begin, end))
        begin = end
    return found


def bytes_plus_one(texts: Sequence[str]) -> Ragged:
    """UTF-8 bytes as tokens 1 to 256; 0 is left for padding."""
    found = [text.encode("utf-8", "surrogatepass") for text in texts]
    values = np.add(np.frombuffer(b"".join(found), np.uint8), 1, dtype=np.int32)
    return values, offsets_of(np.fromiter(map(len, found), np.int64, len(found)))


class BucketedOrder:
    """An epoch's order with sequences of like lengths in one batch; the same batches and windows otherwise.

    Parameters
    ----------
    order : EpochOrder
    lengths : ndarray of int, shape (rows,)
        Of the sequences of the split, in its order.
    start : int
        First row of the split.
    pool : int
        See `storage.feeding.bucketing.bucketed`.
    seed, epoch : int
    """

    ROW_BYTES = 96
    """Of memory for each sequence of a pool, while it is sorted."""

    def __init__(self, order: EpochOrder, lengths: np.ndarray, start: int, pool: int, *, seed: int, epoch: int) -> None:
        self._order, self._lengths, self._start, self._pool = order, lengths, start, pool
        self._key = {"seed": seed, "epoch": epoch}
        self._held: tuple[int, np.ndarray] | None = None

    def rows(self, first: int, stop: int, part: int = 0, parts: int = 1) -> np.ndarray:
        """See `EpochOrder.rows`."""
        if first >= self._order.whole:
            return self._order.rows(first, stop, part, parts)
        low, high = share(self._order.batch_size, part, parts)
        pools = range(first // self._pool, (stop - 1) // self._pool + 1)
        rows = np.concatenate([self._pool_rows(pool) for pool in pools])
        skipped = first - pools[0] * self._pool
        return rows[skipped : skipped + stop - first, low:high]

    def _pool_rows(self, pool: int) -> np.ndarray:
        """Rows of a pool's full batches, int64 (batches, batch_size)."""
        if self._held is None or self._held[0] != pool:
            size, first = self._order.batch_size, pool * self._pool
            rows = self._order.rows(first, min(first + self._pool, self._order.whole)).reshape(-1)
            lengths = self._lengths[rows - self._start]
            places = bucketed(lengths, size, pool=self._pool, first=first * size, **self._key)
            self._held = pool, rows[places].reshape(-1, size)
        return self._held[1]


_PACKED = 8 * WINDOW
"""Sequences that are packed in one go: several windows."""


class PackedOrder:
    """An epoch of rows that hold several sequences each.

    Parameters
    ----------
    order : EpochOrder
    lengths : ndarray of int, shape (rows,)
        Of the sequences of the split, in its order.
    start : int
        First row of the split.
    width : int
        Tokens of a packed row.
    seed, epoch : int
    """

    ROW_BYTES = 40
    """Of memory for each sequence, while it is made: rows twice, and edges, which are no more, twice."""

    def __init__(
        self, order: EpochOrder, lengths: np.ndarray, start: int, width: int, *, seed: int, epoch: int
    ) -> None:
        found = [order.rows(0, order.whole).reshape(-1)] if order.whole else []
        found += [order.rows(order.whole, order.whole + 1).reshape(-1)] if order.rest else []
        rows = np.concatenate(found) if len(found) > 1 else found[0].copy()
        edges = [np.zeros(1, np.int64)]
        for first in range(0, len(rows), _PACKED):
            part = rows[first : first + _PACKED]
            packing = packed(lengths[part - start], width, seed=seed, epoch=epoch, first=first)
            part[:] = part[packing.order]
            edges.append(first + packing.edges[1:])
        self._rows, self._edges = rows, np.concatenate(edges)
        self.whole, self.rest = divmod(len(self._edges) - 1, order.batch_size)
        self.batch_size = order.batch_size

    def batch(self, step: int, part: int = 0, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the dataset, int64 (sequences,), and where those of each packed row begin, int64 (rows + 1,)."""
        low, high = share(self.batch_size if step < self.whole else self.rest, part, parts)
        edges = self._edges[step * self.batch_size + low : step * self.batch_size + high + 1]
        return self._rows[edges[0] : edges[-1]], edges - edges[0]
