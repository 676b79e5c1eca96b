"""What a feed is asked for, checked when it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

import numpy as np
from dask.utils import parse_bytes

from storage.dataset import Dataset
from storage.feeding.sequences import Sequences
from storage.part import Verify

COLUMNS = ("values", "targets", "labels", "ids", "rows")
"""Of every batch."""
VERIFY = (None, *get_args(get_args(Verify)[0]))
MOST = 2**31 - 1
"""Of samples in a batch and the like; more is a slip, and would overflow."""
LAST_EPOCH = 2**63 - 1
_IDS = 65_536
"""Rows whose ids are compared together."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Parameters of `storage.batches`; see there."""

    batch_size: int
    seed: int
    split: str
    columns: tuple[str, ...] | None
    shuffle: bool
    window: int
    streams: int
    rank: int
    ranks: int
    drop_last: bool
    noise: Callable[..., Any] | None
    sequences: Sequences | None
    threads: int
    depth: int | None
    memory: int | None
    verify: Verify

    def __post_init__(self) -> None:
        """Turn NumPy's numbers and texts of sizes into plain numbers; refuse what means nothing."""
        for name, least in (("batch_size", 1), ("streams", 1), ("ranks", 1), ("rank", 0), ("threads", 0)):
            self._set(name, whole_number(name, getattr(self, name), least, MOST))
        for name in ("shuffle", "drop_last"):
            if not isinstance(value := getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"expected {name} as True or False, received {value!r}")
            self._set(name, bool(value))
        self._set("seed", whole_number("seed", self.seed))
        self._set("window", size_of("window", self.window))
        if self.memory is not None:
            self._set("memory", size_of("memory", self.memory))
        if self.depth is not None:
            self._set("depth", whole_number("depth", self.depth, 1, MOST))
        if self.rank >= self.ranks:
            raise ValueError(f"expected a rank below ranks={self.ranks}, received {self.rank}; ranks count from 0")
        if self.batch_size % self.ranks:
            raise ValueError(
                f"expected a batch size that {self.ranks} ranks can share equally, received {self.batch_size}; "
                "batch_size counts the samples of all ranks together"
            )
        if not isinstance(self.split, str):
            raise TypeError(f"expected split as a name such as 'train', received {self.split!r}")
        if not isinstance(self.verify, (str, NoneType)) or self.verify not in VERIFY:
            raise ValueError(f"expected verify as one of {VERIFY}, received {self.verify!r}")
        if self.columns is not None:
            if not isinstance(self.columns, Iterable):
                raise TypeError(f"expected columns as names of {COLUMNS}, received {self.columns!r}")
            self._set("columns", (self.columns,) if isinstance(self.columns, str) else tuple(self.columns))
            if unknown := [name for name in self.columns if name not in COLUMNS]:
                raise ValueError(f"expected columns of {COLUMNS}, received {unknown[0]!r}")
            if not self.columns:
                raise ValueError(f"expected at least one column of {COLUMNS}, received none")
        if self.noise is not None and (not callable(self.noise) or isinstance(self.noise, type)):
            raise TypeError(f"expected a noise, such as tasks.noise.Gaussian(severity=3), received {self.noise!r}")
        if self.sequences is not None and not isinstance(self.sequences, Sequences):
            raise TypeError(f"expected sequences as storage.Sequences(...), received {self.sequences!r}")

    @property
    def packs(self) -> bool:
        """Whether several texts share a row."""
        return self.sequences is not None and self.sequences.batching == "pack"

    @property
    def measures(self) -> bool:
        """Whether the order depends on the lengths of texts."""
        return self.sequences is not None and self.sequences.batching != "pad"

    @property
    def encodes(self) -> bool:
        """Whether texts are encoded as they are read, and not for every batch anew."""
        return self.sequences is not None and (self.noise is None or self.packs)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """A whole number from `least` to `most`, as Python's own: NumPy's would not fit into a state of JSON."""
    words = name.replace("_", " ")
    limit = "" if least is None else f" of at least {least}"
    try:
        number = value.__index__() if not isinstance(value, bool) else None
    except (AttributeError, TypeError):  # TypeError: of an array of several
        number = None
    if number is not None and most is not None and number > most:
        raise ValueError(f"expected a whole {words} of at most {most:,}, received {value!r}")
    if number is None or (least is not None and number < least):
        raise ValueError(f"expected a whole {words}{limit}, received {value!r}")
    return int(number)


def size_of(name: str, value: Any) -> int:
    """Bytes, from a number or from a text such as "512 MiB"."""
    try:
        if not isinstance(value, str):
            number = whole_number(name, value, 1)
        else:  # Dask takes a unit alone for one of it, and nothing for a byte
            number = parse_bytes(value) if any(map(str.isdigit, value)) else 0
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise ValueError(f'expected {name} as a number of bytes or a text such as "512 MiB", received {value!r}')
    return number


def epoch_number(value: Any) -> int:
    """Check the number of an epoch."""
    return whole_number("epoch", value, 0, LAST_EPOCH)


def check_fit(options: Options, dataset: Dataset, targets: Dataset | None) -> None:
    """Refuse options that mean nothing for a dataset."""
    noise, sequences, rows = options.noise, options.sequences, dataset.rows(options.split)
    if noise is not None and (kind := getattr(noise, "kind", dataset.kind)) != dataset.kind:
        raise ValueError(f"expected a noise for {dataset.kind}, received {noise} for {kind}")
    if sequences is not None and dataset.kind != "texts":
        raise ValueError(f"expected texts for sequences, received {dataset.kind} in {dataset.path}")
    if sequences is not None and sequences.batching != "pad" and not options.shuffle:
        raise ValueError(
            f"expected batching='pad' for texts in storage order, received {sequences.batching!r}; it arranges texts "
            "by their lengths"
        )
    if options.columns and "targets" in options.columns and targets is None:
        raise ValueError("expected targets= for the column 'targets', received none")
    if targets is not None:
        if sequences is not None:
            raise ValueError("expected sequences without targets, received both; make two feeds with the same seed")
        if targets.kind != dataset.kind or not _same_rows(dataset, targets, verify=options.verify is not None):
            raise ValueError(
                f"expected the rows of {dataset.path} in {targets.path}, received others; add the noise again"
            )
    count = rows.stop - rows.start
    if options.drop_last and 0 < count < options.batch_size:
        raise ValueError(
            f"expected at least batch_size={options.batch_size:,} samples in {options.split} for drop_last=True, "
            f"received {count:,}: there would be no batch; use drop_last=False or a smaller batch_size"
        )
    if options.packs:
        if options.ranks > 1 and not options.drop_last:
            raise ValueError("expected drop_last=True for packed rows on several ranks, received drop_last=False")
        return
    rest = count % options.batch_size
    if 0 < rest < options.ranks and not options.drop_last:
        raise ValueError(
            f"expected a last batch with a sample for each of {options.ranks} ranks, received {rest} samples; use "
            "drop_last=True or another batch_size"
        )


def _same_rows(one: Dataset, other: Dataset, *, verify: bool) -> bool:
    """Whether two datasets have the same ids in the same order; some at a time, and nothing of them is kept."""
    if one.version == other.version or one.count != other.count:
        return one.count == other.count
    for low in range(0, one.count, _IDS):
        high = min(low + _IDS, one.count)
        ids, others = (found.column("ids", low, high, verify=verify) for found in (one, other))
        if not np.array_equal(ids, others):
            return False
    return True
