"""Several sequences in one row: pure functions of whole numbers, no input or output.

Rows of a fixed width hold hardly any padding when short sequences are put beside long ones. A window of an epoch is
packed by best fit decreasing: longest first, each into the fullest row that has room (Johnson 1974, "Fast algorithms
for bin packing", Journal of Computer and System Sciences 8). Sequences of one length are alike, and so are rows with
the same room; moving whole groups makes it a matter of different lengths instead of sequences (Krell et al. 2021,
"Efficient sequence packing without cross-contamination", arXiv:2107.02027).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from storage.feeding.bucketing import beginning_of
from storage.feeding.ragged import at_least_one, checked_lengths, cut, offsets_of, take
from storage.keyed import bases, key_of

WINDOW = 8192
"""Sequences that are packed together. Of 1,024 rows are as full to half a percent; more gain next to nothing."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Which sequences share a row; ``len`` is the number of rows."""

    order: np.ndarray
    """int64 (n,): places of all sequences, row after row; those of a row ascend."""
    edges: np.ndarray
    """int64 (rows + 1,): row j holds the sequences ``order[edges[j] : edges[j + 1]]``, at least one."""

    def __len__(self) -> int:
        return len(self.edges) - 1


def packed(lengths: np.ndarray, width: int, *, seed: int, epoch: int, window: int = WINDOW, first: int = 0) -> Packing:
    """Put the sequences of an epoch into as few rows as possible.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        Of the sequences of an epoch, in its order. Longer ones than `width` count as cut. An empty one takes the room
        of one token: so no row holds more than `width` sequences.
    width : int
        Tokens per row.
    seed, epoch : int
        Choose the order of the rows of a window, which would otherwise begin with those of long sequences.
    window : int
        Sequences that are packed together: what a reader needs in memory. No sequence leaves its window.
    first : int
        Place of ``lengths[0]`` in the epoch, the beginning of a window: an epoch may be given a window at a time.

    Returns
    -------
    Packing
        The number of rows depends on which lengths meet in a window: it differs a little from epoch to epoch.

    Raises
    ------
    ValueError
        If a length is negative, a size is below 1, or `first` is within a window.
    """
    width, window = at_least_one("a width", width), at_least_one("a window", window)
    needed = np.clip(checked_lengths(lengths), 1, width)
    beginning_of("a window", first, window)
    rows = _rows(needed, np.arange(len(needed)) // window, width)
    by_row = np.argsort(rows, kind="stable")
    edges = offsets_of(np.bincount(rows))
    # A row is known by its first sequence, whatever was packed before.
    known = by_row[edges[:-1]]
    mixed = np.lexsort((bases(key_of(seed, "packed rows", epoch), first + known), known // window))
    return Packing(*take(by_row, edges, mixed))


def _rows(needed: np.ndarray, windows: np.ndarray, width: int) -> np.ndarray:
    """The number of every sequence's row, int64 (n,)."""
    by_length = np.lexsort((-needed, windows))
    sizes = needed[by_length]
    new = np.append(True, (np.diff(sizes) != 0) | (np.diff(windows) != 0))[: len(sizes)]
    begins = np.flatnonzero(new)
    counts = np.diff(np.append(begins, len(sizes)))
    stops = np.searchsorted(windows[begins], np.arange(windows[-1] + 1) if len(windows) else [], side="right")
    placements: list[tuple[int, int, int]] = []
    count = start = 0
    for stop in stops.tolist():
        count = _best_fit(sizes[begins[start:stop]].tolist(), counts[start:stop].tolist(), width, count, placements)
        start = stop
    firsts, numbers, each = np.array(placements, np.int64).reshape(-1, 3).T
    placed = numbers * each
    within = np.arange(len(sizes)) - np.repeat(np.cumsum(placed) - placed, placed)
    rows = np.empty(len(sizes), np.int64)
    rows[by_length] = np.repeat(firsts, placed) + within // np.repeat(each, placed)
    return rows


def _best_fit(
    lengths: list[int], counts: list[int], width: int, row: int, placements: list[tuple[int, int, int]]
) -> int:
    """Pack one window, from row number `row` on.

    Parameters
    ----------
    lengths, counts : list of int
        Different lengths, descending, and how many sequences have each.
    width, row : int
    placements : list
        Gets (first row, number of rows, sequences for each of them), in the order of the sequences.

    Returns
    -------
    int
        The number of the next row.
    """
    rooms: list[int] = []  # all different, ascending
    groups: dict[int, list[tuple[int, int]]] = {}  # by room: first row and number of rows

    def keep(room: int, first: int, number: int) -> None:
        if room and number:
            if room not in groups:
                insort(rooms, room)
                groups[room] = []
            groups[room].append((first, number))

    for length, count in zip(lengths, counts, strict=True):
        while count:
            at = bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms[at]
                first, number = groups[room].pop()
                if not groups[room]:
                    del groups[room], rooms[at]
            else:
                room, first, number = width, row, -(-count // (width // length))
                row += number
            # A row that got one of them is, while it has room for another, the fullest that has.
            each = room // length
            full = min(number, count // each)
            rest = count - full * each if full < number else 0
            used = full + bool(rest)
            placements.append((first, full, each))
            if rest:
                placements.append((first + full, 1, rest))
            keep(room - each * length, first, full)
            keep(room - rest * length, first + full, used - full)
            keep(room, first + used, number - used)
            count -= full * each + rest
    return row


def lay(
    values: np.ndarray,
    offsets: np.ndarray,
    edges: np.ndarray,
    width: int,
    *,
    fill: int = 0,
    keep: str = "head",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write sequences into the rows that were planned for them.

    Parameters
    ----------
    values : ndarray, shape (tokens,)
    offsets : ndarray of int64, shape (n + 1,)
        Sequences in the order of the packing: those of the first row, those of the second, ...
    edges : ndarray of int64, shape (rows + 1,)
        Of the packing, or a slice of them for some of its rows.
    width : int
        Tokens per row; longer sequences are cut.
    fill : int
        The token that pads.
    keep : {"head", "tail"}
        Which tokens of a longer sequence stay.

    Returns
    -------
    tokens : ndarray, shape (rows, width)
        Of the values' dtype.
    segments : ndarray of int32, shape (rows, width)
        Which sequence of its row a token belongs to, from 1 on; 0 is padding. The number of an empty sequence is left
        out.
    positions : ndarray of int32, shape (rows, width)
        Place of a token in its sequence, from 0 on; 0 in padding.

    Raises
    ------
    ValueError
        If edges and offsets do not belong together, or the sequences of a row are longer than it.
    """
    values, offsets = cut(values, offsets, width, keep=keep)
    lengths = np.diff(offsets)
    edges = np.asarray(edges, np.int64)
    if not len(edges) or edges[-1] - edges[0] != len(lengths) or (np.diff(edges) < 0).any():
        raise ValueError(f"expected ascending edges of {len(lengths)} sequences, received {edges}")
    edges = edges - edges[:1]
    filled = np.diff(offsets[edges])
    if (filled > width).any():
        raise ValueError(
            f"expected rows of at most {width} tokens, received {filled.max()} in row {filled.argmax()}; "
            "pack for this width"
        )
    # Padding is one more sequence, the last of each row.
    sizes = np.insert(lengths, edges[1:], width - filled)
    counts = np.diff(edges)
    numbers = np.arange(1, len(lengths) + 1, dtype=np.int32) - np.repeat(edges[:-1], counts).astype(np.int32)
    segments = np.repeat(np.insert(numbers, edges[1:], 0), sizes)
    used = segments > 0
    tokens = np.full(len(segments), fill, values.dtype)
    tokens[used] = values
    columns = ((np.cumsum(sizes) - sizes) % width).astype(np.int32)
    positions = np.arange(width, dtype=np.int32) - np.repeat(columns, sizes).reshape(-1, width)
    positions *= used.reshape(-1, width)
    return tokens.reshape(-1, width), segments.reshape(-1, width), positions
