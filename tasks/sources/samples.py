"""What every source gives and how its rows are named: samples, positions, label codes and split codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

#: The names of the splits; a split's code is its place here.
SPLITS = ("train", "validation", "test")


class SourceError(ValueError):
    """The content of a source is not what it must be: truncated, empty, mixed, mislabelled or unreadable."""


class Samples(NamedTuple):
    """A run of samples.

    Attributes
    ----------
    values : numpy.ndarray or list of str
        Images as uint8 (n, height, width, channel), or n texts.
    labels : numpy.ndarray or None
        int64 (n,) codes into the source's `classes`; None when the source has no labels.
    """

    values: np.ndarray | list[str]
    labels: np.ndarray | None


@runtime_checkable
class Source(Protocol):
    """What anything must have to be a source; no base class and no registration are needed.

    A sample's id is its position, 0 to ``len(source) - 1``. A source is deterministic and can be pickled.
    """

    @property
    def name(self) -> str:
        """A short name for logs and reports."""
        ...

    @property
    def kind(self) -> str:
        """ "images" or "texts"."""
        ...

    @property
    def sample_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channel) of images, None for texts."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, () without labels."""
        ...

    @property
    def splits(self) -> np.ndarray | None:
        """uint8 (n,) codes into `SPLITS`; None when the source has no split of its own."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice) -> Samples: ...

    def take(self, indices: Any) -> Samples:
        """Samples at int64 positions, in any order, repeats allowed."""
        ...

    def labels(self) -> np.ndarray | None:
        """All labels, int64 (n,), without reading the values."""
        ...

    def fingerprint(self) -> str:
        """A hex digest that changes when the content or the parameters do."""
        ...

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON."""
        ...


def slice_positions(key: slice, count: int) -> np.ndarray:
    """Positions that a slice names, as Python counts them.

    Parameters
    ----------
    key : slice
        With step 1 or none.
    count : int
        Length of the source.

    Returns
    -------
    numpy.ndarray
        int64, ascending, empty for an empty or far slice.
    """
    if not isinstance(key, slice):
        raise TypeError(f"expected a slice such as source[0:10], received {key!r}; do source.take([...]) for positions")
    if key.step not in (None, 1):
        raise ValueError(f"expected a slice with step 1, received step {key.step}; do source.take(numpy.arange(...))")
    start, stop, _ = key.indices(count)
    return np.arange(start, max(start, stop), dtype=np.int64)


def checked_positions(indices: Any, count: int) -> np.ndarray:
    """Positions as int64 (n,), refused when they are not whole numbers from 0 to ``count - 1``."""
    positions = np.asarray(indices)
    if positions.size == 0:
        return np.empty(0, dtype=np.int64)
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise TypeError(
            f"expected positions as integers of one dimension, received {positions.dtype} of shape {positions.shape}"
        )
    low, high = int(positions.min()), int(positions.max())
    if low < 0 or high >= count:
        raise IndexError(f"expected positions from 0 to {count - 1}, received {low if low < 0 else high}")
    return positions.astype(np.int64, copy=False)


def checked_classes(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Class names as a tuple, refused when empty, repeated or not strings."""
    if classes is None:
        return None
    names = (classes,) if isinstance(classes, str) else tuple(classes)
    if isinstance(classes, str) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f'expected classes as a list of names such as ["cat", "dog"], received {classes!r}')
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"expected every class once, received {twice!r} twice; do name the classes apart")
    return names


def sorted_names(names: set[str]) -> tuple[str, ...]:
    """Names in order: as numbers where all are whole numbers ("2" before "10"), else as strings."""
    if all(name.lstrip("-").isdecimal() and str(int(name)) == name for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def codes_of_names(
    names: Sequence[str], classes: tuple[str, ...] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes of labels that are names; without `classes`, those are the names that occur, sorted.

    Returns
    -------
    tuple
        int64 (n,) codes and the classes.
    """
    known = sorted_names(set(names)) if classes is None else classes
    code = {name: number for number, name in enumerate(known)}
    for row, name in enumerate(names):
        if name not in code:
            raise SourceError(f"{where}: expected a label of {list(known)}, received {name!r} in row {row}")
    return np.fromiter((code[name] for name in names), dtype=np.int64, count=len(names)), known


def codes_of_numbers(
    numbers: np.ndarray, classes: tuple[str, ...] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes of labels that are whole numbers: codes already when `classes` are given, else names for themselves.

    Returns
    -------
    tuple
        int64 (n,) codes and the classes; without `classes` those are the numbers that occur, as strings.
    """
    if classes is None:
        found, codes = np.unique(numbers, return_inverse=True)
        return codes.astype(np.int64, copy=False), tuple(str(int(number)) for number in found)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= len(classes)))
    if wrong.size:
        row = int(wrong[0])
        raise SourceError(
            f"{where}: expected labels from 0 to {len(classes) - 1} for {len(classes)} classes, "
            f"received {int(numbers[row])} in row {row}; do check the labels or name every class"
        )
    return numbers.astype(np.int64), classes


def codes_of_splits(values: Any, count: int, where: str) -> np.ndarray:
    """Split codes, uint8 (n,), from codes or from the names train, validation (or val) and test."""
    given = np.asarray(values)
    if given.shape != (count,):
        raise SourceError(f"{where}: expected {count} splits, one per sample, received shape {given.shape}")
    if given.dtype.kind in "iu":
        if given.size and (given.min() < 0 or given.max() >= len(SPLITS)):
            raise SourceError(f"{where}: expected split codes 0, 1 or 2 ({', '.join(SPLITS)}), received {given.max()}")
        return given.astype(np.uint8)
    code: Mapping[str, int] = {**{name: number for number, name in enumerate(SPLITS)}, "val": 1}
    names = [str(name) for name in given.tolist()]
    for row, name in enumerate(names):
        if name not in code:
            raise SourceError(f"{where}: expected a split of {list(SPLITS)}, received {name!r} in row {row}")
    return np.fromiter((code[name] for name in names), dtype=np.uint8, count=count)
