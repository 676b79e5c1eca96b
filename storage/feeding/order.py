"""The order of samples in an epoch: pure functions of whole numbers, no input or output.

A full shuffle of data on disk reads a page per sample. So what does not fit into a window is shuffled in two steps:
pieces (runs of rows that lie in one shard) are permuted and dealt out to streams, neighbours in a stream form windows,
and rows are permuted inside a window. Every batch takes its rows from all streams. With samples already permuted at
ingest this is a near-random order (Corgi-squared, Livne et al. 2023, arXiv:2309.01640) that reads each shard once, and
a rank that takes its part of every batch reads only the streams that this part comes from.

Nothing here knows of ranks, threads, processes or memory: they cannot change the order.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from storage.keyed import key_of, sorting_words

RULE = 2
"""Version of the rule below, part of every state: a training is not continued in another order."""


def permutation(key: int, rows: np.ndarray) -> np.ndarray:
    """Shuffle distinct rows: places that sort them by their own random word.

    Words of distinct rows differ (each step of the hash can be undone), so the result does not depend on how it is
    sorted. The lowest bits of a word give way to the place, which makes one fast sort of plain numbers do.

    Parameters
    ----------
    key : int
        From `storage.keyed.key_of`.
    rows : ndarray of int64, shape (n,)

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    bits = np.uint64(max(1, (len(rows) - 1).bit_length()))
    words = sorting_words(key, rows)
    words >>= bits
    words <<= bits
    words |= np.arange(len(rows), dtype=np.uint64)
    words.sort()
    words &= (np.uint64(1) << bits) - np.uint64(1)
    return words.view(np.int64)


def share(size: int, part: int, parts: int) -> tuple[int, int]:
    """First and past-the-last place of one of several nearly equal parts of `size` places."""
    return size * part // parts, size * (part + 1) // parts


class EpochOrder:
    """The rows of one epoch, batch by batch.

    Parameters
    ----------
    edges : ndarray of int64, shape (pieces + 1,)
        Ascending rows: piece i holds the rows ``edges[i]`` to ``edges[i + 1]``. Together they are the split.
    batch_size : int
        Samples per batch, over all ranks.
    seed, epoch : int
    version : str
        The dataset's version: other data has another order.
    window : int or None
        Pieces of a stream that are shuffled together; None shuffles all rows of the split together.
    streams : int
        How many streams every batch takes its rows from; one where `window` is None.
    shuffle : bool
        False: rows ascend.

    Attributes
    ----------
    count : int
        Rows of the split.
    whole, rest : int
        Full batches, and rows of the last batch that is not full.
    cuts : ndarray of int64, shape (n, 3)
        Runs of rows that a window takes from one piece: piece, first row, past-the-last row.
    windows : ndarray of int64, shape (m, 5)
        Stream, first and past-the-last place in the stream, first and past-the-last of `cuts`.
    """

    def __init__(
        self,
        edges: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        version: str,
        window: int | None = None,
        streams: int = 8,
        shuffle: bool = True,
    ) -> None:
        self.count = int(edges[-1] - edges[0])
        self.batch_size = batch_size
        self.whole, self.rest = divmod(self.count, batch_size)
        self.streams = streams if shuffle and window is not None else 1
        self._shuffle = shuffle
        self._rows_key = key_of(seed, "rows", epoch, version)
        # Places of a batch, and of the last batch, at which the rows of the next stream begin.
        self.full_places = np.arange(self.streams + 1) * batch_size // self.streams
        self.last_places = np.arange(self.streams + 1) * self.rest // self.streams
        pieces = np.arange(len(edges) - 1)
        if shuffle and window is not None:
            pieces = permutation(key_of(seed, "shards", epoch, version), pieces)
        size = (1 if not shuffle else len(pieces)) if window is None else window
        self.cuts, self.windows = self._cut(edges, pieces, max(1, size))
        self._held: OrderedDict[int, np.ndarray] = OrderedDict()

    def _cut(self, edges: np.ndarray, pieces: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Lay the pieces one after the other, cut them into streams, and the streams into windows."""
        if self.streams == 1:  # the same without cutting: an epoch of a small split can be a matter of milliseconds
            cuts = np.stack([pieces, edges[pieces], edges[pieces + 1]], axis=1)
            begins = np.arange(0, len(pieces), window)
            ends = np.minimum(begins + window, len(pieces))
            places = np.append(0, np.cumsum(cuts[:, 2] - cuts[:, 1]))
            return cuts, np.stack([begins * 0, places[begins], places[ends], begins, ends], axis=1)
        sizes = np.diff(edges)[pieces]
        ends = np.cumsum(sizes)
        quotas = self.whole * np.diff(self.full_places) + np.diff(self.last_places)
        stream_ends = np.cumsum(quotas)
        stops = np.union1d(ends, stream_ends)
        stops = stops[stops > 0]
        starts = np.append(0, stops[:-1])
        where = np.searchsorted(ends, starts, side="right")
        low = edges[pieces[where]] + starts - (ends - sizes)[where]
        cuts = np.stack([pieces[where], low, low + stops - starts], axis=1)
        stream = np.searchsorted(stream_ends, starts, side="right")
        number = np.arange(len(cuts)) - np.searchsorted(stream, stream)  # of the cut in its stream
        # The first windows of the streams differ in size, so that not all streams need new shards at the same time.
        first = window if self.streams == 1 else 1 + stream * (window - 1) // max(1, self.streams - 1)
        of = np.where(number < first, 0, 1 + (number - first) // window)
        new = np.flatnonzero(np.append(True, (np.diff(stream) != 0) | (np.diff(of) != 0)))[: len(cuts)]
        end = np.append(new[1:], len(cuts))[: len(new)]
        base = (stream_ends - quotas)[stream[new]]
        windows = np.stack([stream[new], starts[new] - base, stops[end - 1] - base, new, end], axis=1)
        return cuts, windows

    def steps(self, drop_last: bool = False) -> int:
        """Batches of the epoch."""
        return self.whole + bool(self.rest and not drop_last)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that are kept, and of what is needed to shuffle those of a window."""
        largest = int((self.windows[:, 2] - self.windows[:, 1]).max(initial=0))
        held = 8 * min(self.count, largest * (2 * self.streams + 1))
        return held + 3 * 8 * largest + self.cuts.nbytes + self.windows.nbytes

    def part_of(self, step: int, part: int, parts: int) -> tuple[int, int]:
        """Places of a batch that one of several parts gets."""
        return share(self.batch_size if step < self.whole else self.rest, part, parts)

    def rows(self, first: int, stop: int, part: int = 0, parts: int = 1) -> np.ndarray:
        """Rows of some batches, of which the last of an epoch, if it is not full, is asked for alone.

        Parameters
        ----------
        first, stop : int
            Numbers of batches.
        part, parts : int
            Only this part of every batch, see `share`.

        Returns
        -------
        ndarray of int64, shape (stop - first, rows per batch)
        """
        low, high = self.part_of(first, part, parts)
        out = np.empty((stop - first, high - low), np.int64)
        begins = self.full_places if first < self.whole else self.last_places
        for stream in range(self.streams):
            begin, end = max(low, int(begins[stream])), min(high, int(begins[stream + 1]))
            if begin >= end:
                continue
            quota, skipped = int(begins[stream + 1] - begins[stream]), begin - int(begins[stream])
            if first < self.whole:
                start, end_place = first * quota, stop * quota
            else:
                start = self.whole * int(self.full_places[stream + 1] - self.full_places[stream])
                end_place = start + quota
            found = self._stream_rows(stream, start, end_place).reshape(stop - first, quota)
            out[:, begin - low : end - low] = found[:, skipped : skipped + end - begin]
        return out

    def _stream_rows(self, stream: int, start: int, stop: int) -> np.ndarray:
        """Rows at some places of a stream."""
        low, high = np.searchsorted(self.windows[:, 0], [stream, stream + 1])
        windows = self.windows[low:high]
        one = int(np.searchsorted(windows[:, 2], start, side="right"))
        other = int(np.searchsorted(windows[:, 1], stop, side="left"))
        found = []
        for number in range(one, other):
            first, last = windows[number, 1:3].tolist()
            found.append(self._window_rows(int(low) + number)[max(0, start - first) : min(stop, last) - first])
        return found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.int64), *found])

    def _window_rows(self, number: int) -> np.ndarray:
        """Rows of a window in their order; those of the windows in use are kept."""
        rows = self._held.pop(number, None)
        if rows is None:
            first, stop = self.windows[number, 3:5].tolist()
            runs = [np.arange(low, high) for _, low, high in self.cuts[first:stop].tolist()]
            rows = runs[0] if len(runs) == 1 else np.concatenate(runs)
            if self._shuffle:
                rows = rows[permutation(self._rows_key, rows)]
            while len(self._held) > 2 * self.streams:
                self._held.popitem(last=False)
        self._held[number] = rows
        return rows
