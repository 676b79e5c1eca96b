"""The order of samples in an epoch: pure functions, no input or output.

A full shuffle of data on disk reads a page per sample. Here shards are permuted, neighbours in that order form
windows, and rows are permuted inside a window: with samples already permuted at ingest this is a near-random order
(Corgi-squared, Livne et al. 2023, arXiv:2309.01640) that reads each shard once.
"""

from __future__ import annotations

import numpy as np

from storage.keyed import key_of, order


def epoch_order(start: int, stop: int, shard: int, window: int, *, seed: int, epoch: int, version: str) -> np.ndarray:
    """Rows of a split in the order of one epoch.

    Parameters
    ----------
    start, stop : int
        First and past-the-last row of the split.
    shard : int
        Samples per shard.
    window : int
        Shards that are shuffled together; as many as the split has gives a full shuffle.
    seed, epoch : int
    version : str
        The dataset's version: other data has another order.

    Returns
    -------
    ndarray of int64, shape (stop - start,)
        A permutation of ``range(start, stop)``; independent of workers, threads and batch size.
    """
    shards = np.arange(start // shard, -(-stop // shard))
    shards = shards[order(key_of(seed, "shards", epoch, version), shards)]
    pieces = []
    for low in range(0, len(shards), max(window, 1)):
        held = shards[low : low + max(window, 1)]
        rows = np.concatenate([np.arange(max(start, s * shard), min(stop, (s + 1) * shard)) for s in held])
        pieces.append(rows[order(key_of(seed, "rows", epoch, version), rows)])
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)
