"""Shuffled batches from a dataset, resumable to the batch."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listed
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT

from storage.dataset import Dataset, open_dataset
from storage.feeding.feed import Batches
from storage.feeding.options import Options, epoch_number
from storage.feeding.sequences import Sequences
from storage.layout import MIB
from storage.part import Verify

WINDOW = 512 * MIB


def batches(
    dataset: Dataset | str | Path,
    batch_size: int = 256,
    *,
    seed: int = 0,
    epoch: int = 0,
    split: str = "train",
    columns: Listed[str] | None = None,
    shuffle: bool = True,
    window: int | str = WINDOW,
    streams: int = 8,
    rank: int = 0,
    ranks: int = 1,
    drop_last: bool = False,
    noise: Callable[..., Any] | None = None,
    targets: Dataset | str | Path | None = None,
    sequences: Sequences | None = None,
    threads: int | None = None,
    depth: int | None = None,
    memory: int | str | None = None,
    verify: Verify = None,
) -> Batches:
    """Iterate over one epoch of a split.

    Parameters
    ----------
    dataset : Dataset or path
    batch_size : int
        Samples per batch, over all ranks.
    seed, epoch : int
        Choose the order; every epoch has its own.
    split : str
        ``train``, ``validation`` or ``test``.
    columns : sequence of str, optional
        Which of ``values``, ``targets``, ``labels``, ``ids`` and ``rows`` a batch holds; by default all there are.
    shuffle : bool
        False gives the rows in storage order.
    window : int or str
        Bytes whose samples are shuffled together, such as ``"1 GiB"``. A split that is smaller is shuffled as a whole.
        A larger one is shuffled shard by shard, and by rows inside windows; see `storage.feeding.order`.
    streams : int
        How many parts of a split that is larger than a window every batch takes its samples from. Ranks that divide it
        read nothing twice.
    rank, ranks : int
        Give one of several equal parts of every batch. Every rank has the same number of batches; a last batch that is
        not full is shared as equally as it can be.
    drop_last : bool
        Leave out a last batch that is not full.
    noise : Noise, optional
        Changes the samples, given their ids, `seed` and `epoch`: a noise of `tasks.noise`, or anything called like one.
        It gets samples in any division, batches or several at once, so each sample's result must depend on that sample
        and its id alone; it must not write into what it gets, and gives as many of the same form. States know it by
        what it holds, its `version` and, of a function, its code. In epoch 0 samples are, byte for
        byte, those of a copy that was stored with the same seed.
    targets : Dataset or path, optional
        Another copy of the same rows, whose samples are given as ``targets``. The dataset itself gives its samples
        before `noise`.
    sequences : storage.Sequences, optional
        Makes texts arrays of tokens, in batches of like lengths, padded, or packed.
    threads : int, optional
        Threads that read shards, and as many that decode and add noise; by default as many as there are cores, at most
        four. 0: no threads, everything is done when a batch is asked for.
    depth : int, optional
        Batches that are made ahead by threads, no more than an epoch has or memory allows; by default some 8 MiB of
        them, but of small plain batches none: gathering one takes less time than waking a thread. Beside a GPU that
        takes a batch in a millisecond, 32 take off a part of the waiting.
    memory : int or str, optional
        Bytes that may be held: samples, batches made ahead, shards that are being read; order and columns come on top,
        see `Batches.memory`. A split that fits is read once and kept. By default samples may take an eighth of the
        memory that is free, and at least two windows.
    verify : {None, "first-read", "every-read"}
        Compare shards with their hashes as they are read: not at all, each once, or always.

    Returns
    -------
    Batches
        Yields dicts with ``values`` (uint8 (n, height, width, channel) or list of str), ``targets`` (the same),
        ``labels`` (int64), ``ids`` (int64) and ``rows`` (int64). With `sequences`, ``values`` is int32 (n, width), and
        ``lengths`` int64 (n,); packed rows have ``segments`` and ``positions`` (int32, as ``values``) and ``edges``
        (int64 (n + 1,)): labels, ids and rows ``edges[j]`` to ``edges[j + 1]`` are of the texts in row j.

    Raises
    ------
    ValueError, TypeError
        If an option means nothing for this dataset.
    StorageError
        While iterating: if a shard is missing or, with `verify`, damaged. Names it.
    """
    options = Options(
        batch_size=batch_size,
        seed=seed,
        split=split,
        columns=columns,  # type: ignore[arg-type]  # made what it is declared as when checked, like window and memory
        shuffle=shuffle,
        window=window,  # type: ignore[arg-type]
        streams=streams,
        rank=rank,
        ranks=ranks,
        drop_last=drop_last,
        noise=noise,
        sequences=sequences,
        threads=min(4, CPU_COUNT) if threads is None else threads,
        depth=depth,
        memory=memory,  # type: ignore[arg-type]
        verify=verify,
    )
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if targets is not None and not isinstance(targets, Dataset):
        targets = open_dataset(targets)
    feed = Batches(opened, options, targets, epoch_number(epoch))
    _ = feed.memory  # too little is refused here
    return feed
