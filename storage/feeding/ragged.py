"""Ragged sequences: all tokens one after the other, and where each sequence begins; and rectangles of them.

``offsets`` has one entry more than there are sequences: sequence i is ``values[offsets[i] : offsets[i + 1]]``. It need
not begin with 0, so a run of sequences is a slice of the offsets and nothing else.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

_LIMITS = np.iinfo(np.int32)
RUN_TOKENS = 2**16
"""Tokens of short sequences that are copied together."""


def ragged_of(rows: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Lay sequences of whole numbers one after the other.

    Parameters
    ----------
    rows : sequence of sequence of int
        Lists, tuples or arrays, one for each sequence; each may be empty.

    Returns
    -------
    values : ndarray of int32, shape (tokens,)
    offsets : ndarray of int64, shape (len(rows) + 1,)

    Raises
    ------
    ValueError
        If the rows hold anything but whole numbers of 32 bits.
    """
    try:
        parts = [np.asarray(row) for row in rows if len(row)]
    except TypeError:
        raise ValueError(f"expected sequences of whole numbers, received {rows!r:.80}") from None
    if wrong := [part for part in parts if part.ndim != 1 or part.dtype.kind not in "iu"]:
        raise ValueError(f"expected rows of whole numbers, received {wrong[0].dtype} of shape {wrong[0].shape}")
    values = np.concatenate(parts) if parts else np.empty(0, np.int32)
    if len(values) and (values.min() < _LIMITS.min or values.max() > _LIMITS.max):
        raise ValueError(f"expected whole numbers of 32 bits, received {values.min()} to {values.max()}")
    return values.astype(np.int32, copy=False), offsets_of(np.fromiter(map(len, rows), np.int64, len(rows)))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where sequences of these lengths begin, and where the last one ends; int64 (n + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of several, one after the other: values int32 (tokens,) and offsets int64 (n + 1,), from 0 on."""
    if len(parts) == 1:
        return parts[0]
    values = [part[offsets[0] : offsets[-1]] for part, offsets in parts]
    lengths = [np.diff(offsets) for _, offsets in parts]
    return (
        np.concatenate([np.empty(0, np.int32), *values]),
        offsets_of(np.concatenate([np.empty(0, np.int64), *lengths])),
    )


def take(values: np.ndarray, offsets: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gather some sequences.

    Parameters
    ----------
    values : ndarray, shape (tokens,)
    offsets : ndarray of int64, shape (n + 1,)
    places : ndarray of int64, shape (m,)
        Numbers of sequences in any order, with repetitions.

    Returns
    -------
    values : ndarray, shape (tokens of these sequences,)
    offsets : ndarray of int64, shape (m + 1,)

    Raises
    ------
    IndexError
        If there is no sequence of such a number.
    """
    offsets, places = checked_offsets(offsets, len(values)), np.asarray(places, np.int64)
    count = len(offsets) - 1
    if len(places) and not (places.min() >= 0 and places.max() < count):
        raise IndexError(f"expected places within 0 to {count - 1}, received {places.min()} to {places.max()}")
    lengths = np.diff(offsets)[places]
    out = offsets_of(lengths)
    where = np.repeat(offsets[:-1][places] - out[:-1], lengths)
    where += np.arange(len(where))
    return values[where], out


def copy_runs(values: np.ndarray, begins: np.ndarray, ends: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
    """Copy runs of values into another array, some at a time: their indices take several times the memory of both.

    Parameters
    ----------
    values : ndarray, shape (tokens,)
    begins, ends : ndarray of int64, shape (n,)
        First and past-the-last token of each run.
    out : ndarray, shape (m,)
        Written to.
    places : ndarray of int64, shape (n,)
        Where in `out` each run begins.
    """
    lengths = ends - begins
    edges = offsets_of(lengths)
    first = 0
    while first < len(lengths):
        stop = max(first + 1, int(np.searchsorted(edges, edges[first] + RUN_TOKENS, side="right")) - 1)
        if stop == first + 1:
            place, begin, length = int(places[first]), int(begins[first]), int(lengths[first])
            out[place : place + length] = values[begin : begin + length]
        else:
            each, low, high = lengths[first:stop], int(edges[first]), int(edges[stop])
            within = np.arange(low, high)
            source = np.repeat(begins[first:stop] - edges[first:stop], each)
            source += within
            shifts = places[first:stop] - edges[first:stop]
            if (shifts == shifts[0]).all():  # one after the other
                out[low + shifts[0] : high + shifts[0]] = values[source]
            else:
                within += np.repeat(shifts, each)
                out[within] = values[source]
        first = stop


def cut(values: np.ndarray, offsets: np.ndarray, width: int, *, keep: str = "head") -> tuple[np.ndarray, np.ndarray]:
    """Shorten what is longer than `width`.

    Parameters
    ----------
    values : ndarray, shape (tokens,)
    offsets : ndarray of int64, shape (n + 1,)
    width : int
    keep : {"head", "tail"}
        Which tokens of a longer sequence stay.

    Returns
    -------
    values : ndarray, shape (tokens that stay,)
        No copy if every sequence fits.
    offsets : ndarray of int64, shape (n + 1,)
        From 0 on.
    """
    offsets, width = checked_offsets(offsets, len(values)), at_least_one("a width", width)
    chosen(keep, "head", "tail")
    values = values[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    kept = np.minimum(lengths, width)
    if len(values) > kept.sum():
        values = values[_runs(kept, lengths - kept, first=keep == "head")]
    return values, offsets_of(kept)


def pad(
    values: np.ndarray,
    offsets: np.ndarray,
    width: int,
    *,
    fill: int = 0,
    keep: str = "head",
    padding: str = "after",
) -> tuple[np.ndarray, np.ndarray]:
    """Make a rectangle of sequences, a row for each.

    Parameters
    ----------
    values : ndarray, shape (tokens,)
    offsets : ndarray of int64, shape (n + 1,)
    width : int
        Longer sequences are cut, shorter ones are padded.
    fill : int
        The token that pads.
    keep : {"head", "tail"}
        Which tokens of a longer sequence stay.
    padding : {"after", "before"}
        On which side of the tokens padding lies.

    Returns
    -------
    rows : ndarray, shape (n, width)
        Of the values' dtype.
    lengths : ndarray of int64, shape (n,)
        Tokens of each row that are no padding.

    Raises
    ------
    ValueError
        If the width is below 1 or the offsets are not ascending places of the values.
    """
    chosen(padding, "after", "before")
    values, edges = cut(values, offsets, width, keep=keep)
    lengths = np.diff(edges)
    rows = np.full((len(lengths), width), fill, values.dtype)
    # In memory the places that take tokens, and the tokens, have one and the same order: no index is needed.
    rows.reshape(-1)[_runs(lengths, width - lengths, first=padding == "after")] = values
    return rows, lengths


def _runs(yes: np.ndarray, no: np.ndarray, *, first: bool) -> np.ndarray:
    """For each pair that many True and that many False, True first or last; bool (yes.sum() + no.sum(),)."""
    sizes = np.stack([yes, no] if first else [no, yes], axis=1).reshape(-1)
    return np.repeat(np.tile([first, not first], len(yes)), sizes)


def checked_offsets(offsets: np.ndarray, tokens: int) -> np.ndarray:
    """Refuse what are no offsets of that many tokens; give them as int64."""
    offsets = np.asarray(offsets)
    if offsets.ndim != 1 or not len(offsets) or offsets.dtype.kind not in "iu":
        raise ValueError(
            f"expected offsets as whole numbers, one more than sequences, received {offsets.dtype} of shape "
            f"{offsets.shape}"
        )
    offsets = offsets.astype(np.int64, copy=False)
    if (offsets[1:] < offsets[:-1]).any():
        at = int(np.argmax(offsets[1:] < offsets[:-1]))
        raise ValueError(f"expected ascending offsets, received {offsets[at + 1]} after {offsets[at]} at {at + 1}")
    if offsets[0] < 0 or offsets[-1] > tokens:
        raise ValueError(f"expected offsets within {tokens} values, received {offsets[0]} to {offsets[-1]}")
    return offsets


def checked_lengths(lengths: np.ndarray) -> np.ndarray:
    """Refuse what are no lengths of sequences; give them as int64."""
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or (lengths.dtype.kind not in "iu" and len(lengths)):
        raise ValueError(f"expected lengths as whole numbers, received {lengths.dtype} of shape {lengths.shape}")
    lengths = lengths.astype(np.int64, copy=False)
    if len(lengths) and lengths.min() < 0:
        raise ValueError(f"expected lengths of 0 or more, received {lengths.min()} at {lengths.argmin()}")
    return lengths


def at_least_one(name: str, value: int, most: int | None = None) -> int:
    """Refuse what is no whole number of 1 or more, up to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise ValueError(f"expected {name} of at least 1, received {value!r}")
    if most is not None and number > most:
        raise ValueError(f"expected {name} of at most {most:,}, received {value!r}")
    return number


def chosen(value: str, *options: str) -> None:
    """Refuse what is none of the options."""
    if value not in options:
        raise ValueError(f"expected one of {list(options)}, received {value!r}")


def token(name: str, value: int) -> int:
    """Refuse what is no token: a whole number of 32 bits."""
    try:
        number = operator.index(value)
    except TypeError:
        number = _LIMITS.max + 1
    if not _LIMITS.min <= number <= _LIMITS.max or isinstance(value, bool):
        raise ValueError(f"expected {name} as a whole number of 32 bits, received {value!r}")
    return number
