"""A class-balanced part of a text source, drawn by seed and split so that no test text is seen in training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.sources.files import digest, once, texts_digest
from tasks.sources.samples import Samples, Source, SourceError, checked_positions, slice_positions


def seeded_order(keys: Sequence[bytes], seed: int) -> list[int]:
    """Positions of keys in an order that depends on the keys and the seed alone.

    By hash rather than by a random generator: NumPy does not promise the same permutation in every version, and a
    hash of the content gives the same order wherever the content was found. Equal keys keep their order.
    """
    salt = f"{seed}:".encode()
    hashes = [hashlib.blake2b(salt + key, digest_size=16).digest() for key in keys]
    return sorted(range(len(keys)), key=hashes.__getitem__)


def balanced_rows(
    texts: Sequence[str], codes: np.ndarray, classes: Sequence[str], train: int, test: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose as many rows of every class for training, and for testing, without a text that is in both.

    A text that occurs more than once is never chosen for testing.

    Parameters
    ----------
    texts : sequence of str
    codes : numpy.ndarray
        int64 (n,), the class of each text.
    classes : sequence of str
    train, test : int
        How many rows, multiples of the number of classes.
    seed : int

    Returns
    -------
    tuple of numpy.ndarray
        Rows to train on and rows to test on, int64, each in an order drawn by the seed.
    """
    occurrences = Counter(texts)
    order = seeded_order([text.encode("utf-8", "surrogatepass") for text in texts], seed)
    chosen: dict[str, list[int]] = {"train": [], "test": []}
    for code, name in enumerate(classes):
        of_class = [row for row in order if codes[row] == code]
        once_only = [row for row in of_class if occurrences[texts[row]] == 1]
        tested = once_only[: test // len(classes)]
        seen = set(tested)
        trained = [row for row in of_class if row not in seen][: train // len(classes)]
        if len(tested) * len(classes) < test or len(trained) * len(classes) < train:
            raise SourceError(
                f"expected at least {(train + test) // len(classes)} texts of class {name!r} for {train} to train and "
                f"{test} to test, received {len(of_class)} ({len(once_only)} of them only once); do ask for fewer"
            )
        chosen["train"] += trained
        chosen["test"] += tested
    place = {row: number for number, row in enumerate(order)}
    train_rows, test_rows = (sorted(rows, key=place.__getitem__) for rows in chosen.values())
    return np.array(train_rows, dtype=np.int64), np.array(test_rows, dtype=np.int64)


class Selection:
    """A class-balanced part of a text source, with train and test splits.

    Rows are ordered by a hash of seed and text, training rows first, so the same texts give the same selection
    wherever and in whatever order they were found.

    Parameters
    ----------
    source : Source
        Texts with labels.
    train, test : int
        How many rows, multiples of the number of classes.
    seed : int
        Draws the rows.
    names : mapping, optional
        The source's class names to the names that the selection gives them; other classes are refused.
    name : str
        For logs and reports.

    Notes
    -----
    The source is read on first use, not when the selection is made.
    """

    kind = "texts"
    sample_shape = None

    def __init__(
        self,
        source: Source,
        train: int,
        test: int,
        seed: int = 0,
        names: Mapping[str, str] | None = None,
        *,
        name: str = "selection",
    ) -> None:
        for word, count, least in (("train", train, 1), ("test", test, 0)):
            if not isinstance(count, int) or count < least:
                raise ValueError(f"expected {word} as a whole number of texts from {least}, received {count!r}")
        self.source = source
        self.train, self.test, self.seed = train, test, seed
        self.names = dict(names or {})
        self.name = name

    def __repr__(self) -> str:
        return f"Selection({self.source!r}, train={self.train}, test={self.test}, seed={self.seed})"

    def _renamed(self) -> tuple[np.ndarray, tuple[str, ...]]:
        codes = self.source.labels()
        if codes is None:
            raise SourceError(f"{self.source!r}: expected labels to balance the classes, received none")
        if not self.names:
            return codes, self.source.classes
        unknown = [name for name in self.source.classes if name not in self.names]
        if unknown:
            raise SourceError(f"{self.source!r}: expected labels of {sorted(self.names)}, received {unknown}")
        classes = tuple(sorted(set(self.names.values())))
        new_code = np.array([classes.index(self.names[name]) for name in self.source.classes], dtype=np.int64)
        return new_code[codes], classes

    def _choose(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        codes, classes = self._renamed()
        for word, count in (("train", self.train), ("test", self.test)):
            if count % len(classes):
                raise ValueError(
                    f"expected {word} as a multiple of {len(classes)}, the number of classes, received {count}"
                )
        texts = self.source[:].values
        train, test = balanced_rows(list(texts), codes, classes, self.train, self.test, self.seed)
        rows = np.concatenate([train, test])
        return rows, codes[rows], classes

    def _chosen(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Rows in the source, their codes and the classes."""
        key = ("selection", self.source.fingerprint(), self.train, self.test, self.seed, tuple(self.names.items()))

        def load() -> tuple[tuple[np.ndarray, np.ndarray, tuple[str, ...]], int]:
            chosen = self._choose()
            return chosen, chosen[0].nbytes + chosen[1].nbytes

        return once(key, load)

    def __len__(self) -> int:
        return self.train + self.test

    def __getitem__(self, key: slice) -> Samples:
        return self.take(slice_positions(key, len(self)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self._chosen()[2]

    @property
    def splits(self) -> np.ndarray:
        """uint8 (n,): 0 for the training rows, then 2 for the test rows."""
        return np.repeat(np.array([0, 2], dtype=np.uint8), [self.train, self.test])

    def labels(self) -> np.ndarray:
        """All labels, int64 (n,)."""
        return self._chosen()[1].copy()

    def take(self, indices: Any) -> Samples:
        """Samples at positions; see `Source.take`."""
        positions = checked_positions(indices, len(self))
        rows, codes, _ = self._chosen()
        return Samples(self.source.take(rows[positions]).values, codes[positions])

    def fingerprint(self) -> str:
        """A hex digest of the chosen texts, their labels and splits; not of where they were found."""
        rows, codes, classes = self._chosen()
        key = ("selection digest", self.source.fingerprint(), rows.tobytes())
        texts = once(key, lambda: (texts_digest(self.source.take(rows).values), 0))
        return digest("Selection", texts, codes.tobytes(), self.train, classes)

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON."""
        inner = self.source.describe()
        parameters = {"train": self.train, "test": self.test, "seed": self.seed}
        return {**inner, "source": "Selection", "name": self.name, "parameters": parameters, "of": inner}
