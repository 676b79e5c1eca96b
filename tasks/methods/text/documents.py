"""Texts in parts: what a pass over a bag of texts or a stored dataset goes over."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np

from storage import Dataset
from tasks.methods.execution import scheduled_engine, step_name
from tasks.methods.reading import sources_of


class Documents:
    """The partitions of a bag of str.

    Attributes
    ----------
    bag : dask.bag.Bag
    lengths : tuple of int or None
        Texts of each partition; None if that takes a pass to find out.
    """

    def __init__(self, bag: Any, lengths: tuple[int, ...] | None = None) -> None:
        self.bag = bag
        self.lengths = lengths

    def reduce(self, phase: str, name: str, function: Callable, shared: tuple, combine: Callable) -> Any:
        """Call ``function(list of str, *shared)`` for each partition; combine, in order, to one value here."""
        # Where Dask runs, else in threads: a bag's own default would start processes in every pass.
        engine = scheduled_engine()
        try:
            calls = [(source,) for source in sources_of(self.bag, list)]
            found = engine.reduce_each(step_name(phase, name), function, [calls], shared, combine=combine)
            return engine.fetch(found)[0]
        finally:
            engine.close()

    def known_lengths(self, name: str) -> tuple[int, ...]:
        """Return the texts of each partition, by a pass that only reads if they are not known."""
        if self.lengths is None:
            self.lengths = self.reduce("lengths", name, _length, (), combine=_joined)
        return self.lengths


def open_documents(raw: Any) -> Documents | None:
    """Say how texts lie on Dask.

    Parameters
    ----------
    raw : dask.bag.Bag of str, storage.Dataset, path of a stored dataset, or iterable of str
        A str is a path if there is a folder of that name.

    Returns
    -------
    Documents or None
        None for what is in this process.

    Raises
    ------
    TypeError
        For Dask's other collections.
    ValueError
        If the dataset does not hold texts.
    """
    if dask.is_dask_collection(raw):
        if not hasattr(raw, "npartitions") or not hasattr(raw, "map_partitions") or hasattr(raw, "columns"):
            raise TypeError(
                f"expected a dask.bag of str, received a Dask {type(raw).__name__}; make a bag of its texts"
            )
        if type(raw).__name__ != "Bag":
            raise TypeError(f"expected a dask.bag of str, received a Dask {type(raw).__name__}; use its to_bag()")
        return Documents(raw)
    if not (isinstance(raw, (Dataset, Path)) or (isinstance(raw, str) and os.path.isdir(raw))):
        return None
    from storage import open_dataset, to_dask

    opened = raw if isinstance(raw, Dataset) else open_dataset(raw)
    if opened.kind != "texts":
        raise ValueError(f"expected a dataset of texts, received {opened.name!r}, of {opened.kind}")
    parts = to_dask(opened)
    return Documents(parts["values"], tuple(int(n) for n in parts["labels"].chunks[0]))


def checked_texts(texts: Any, vectorizer: Any, where: str = "") -> Any:
    """Go over texts, and refuse what is none; return as it is what is no iterable, a str, or of the user's own kind.

    Parameters
    ----------
    texts : iterable
    vectorizer : CountVectorizer, TfidfVectorizer or HashingVectorizer
        Says by its parameters whether a text may be something else: a file, or what its own functions take.
    where : str
        Follows the number of the text in the message.

    Raises
    ------
    TypeError
        By the iterator.
    """
    own = callable(vectorizer.analyzer) or vectorizer.preprocessor is not None or vectorizer.input != "content"
    bare = vectorizer.tokenizer is not None and not vectorizer.lowercase and not vectorizer.strip_accents
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        return texts
    return iter(texts) if own or bare else _only_texts(texts, where)


def _only_texts(texts: Iterable, where: str) -> Iterator:
    for number, one in enumerate(texts):
        if not isinstance(one, (str, bytes, bytearray)) and one is not np.nan:  # NaN scikit-learn refuses by name
            raise TypeError(
                f"expected texts as str, received {type(one).__name__} as text number {number}{where} (from 0): "
                f"{str(one)[:40]!r}; turn it into a str, or give a preprocessor that does"
            )
        yield one


def _length(texts: list) -> tuple[int, ...]:
    return (len(texts),)


def _joined(a: tuple, b: tuple) -> tuple:
    return tuple(itertools.chain(a, b))
