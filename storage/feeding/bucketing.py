"""Sequences of like lengths in one batch: pure functions of whole numbers, no input or output."""

from __future__ import annotations

import numpy as np

from storage.feeding.ragged import at_least_one, checked_lengths
from storage.keyed import bases, key_of


def bucketed(lengths: np.ndarray, batch_size: int, *, pool: int, seed: int, epoch: int, first: int = 0) -> np.ndarray:
    """Rearrange an epoch so that the sequences of a batch have like lengths.

    The full batches of an epoch are taken in pools. A pool is sorted by length and cut into batches; neighbours mix
    their sequences two by two, paired otherwise in every other epoch; and the batches are put into a random order. So
    not the same sequences meet in every epoch, even where one pool holds the whole split.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        Of the sequences of an epoch, in its order.
    batch_size : int
    pool : int
        Batches that are sorted together: what a reader needs in memory.
    seed, epoch : int
    first : int
        Place of ``lengths[0]`` in the epoch, the beginning of a pool: an epoch may be given a pool at a time.

    Returns
    -------
    ndarray of int64, shape (n,)
        Places into `lengths`, batch after batch; those of a batch ascend. No sequence leaves its pool. A last batch
        that is not full stays the last places of the epoch: leaving it out leaves out nothing because of its length.

    Raises
    ------
    ValueError
        If a length is negative, a size is below 1, or `first` is within a pool.
    """
    batch_size, pool = at_least_one("a batch size", batch_size), at_least_one("a pool", pool)
    lengths, size = checked_lengths(lengths), batch_size * pool
    beginning_of("a pool", first, size)
    whole = len(lengths) // batch_size
    places = np.arange(whole * batch_size)
    pools = places // size
    sorted_places = np.lexsort((lengths[: len(places)], pools))
    pairs = pools * pool + (places % size // batch_size + epoch % 2) // 2
    words = bases(key_of(seed, "bucket pairs", epoch), first + sorted_places)
    batches = np.sort(sorted_places[np.lexsort((words, pairs))].reshape(whole, batch_size), axis=1)
    numbers = np.arange(whole)
    mixed = np.lexsort((bases(key_of(seed, "buckets", epoch), first // batch_size + numbers), numbers // pool))
    return np.concatenate([batches[mixed].reshape(-1), np.arange(len(places), len(lengths))])


def width_of(longest: int, limit: int, *, step: int = 16) -> int:
    """Choose how wide a batch is padded, among few widths: a model is compiled anew for every shape.

    Parameters
    ----------
    longest : int
        Tokens of the longest sequence of the batch.
    limit : int
        The largest width; longer sequences are cut.
    step : int
        The smallest width.

    Returns
    -------
    int
        The smallest that holds `longest`, of `step` times 1 to 16, 18, 20, ... 32, 36, ... (eight for every doubling)
        below `limit`, and `limit`.
    """
    limit, step = at_least_one("a limit", limit), at_least_one("a step", step)
    steps = max(1, -(-int(longest) // step))
    rung = 1 << max(0, (steps - 1).bit_length() - 4)
    return min(-(-steps // rung) * rung * step, limit)


def beginning_of(name: str, first: int, size: int) -> None:
    """Refuse a place of the epoch at which nothing begins."""
    if first < 0 or first % size:
        raise ValueError(f"expected the beginning of {name}, a multiple of {size}, received first={first}")
