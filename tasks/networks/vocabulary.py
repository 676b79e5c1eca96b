"""Words and their codes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import numpy as np

from storage.feeding.ragged import offsets_of, pad

PADDING, UNKNOWN = 0, 1
_RESERVED = 2
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# A word may hold apostrophes ("don't"); single quotes around a word are not part of it.
_WORD = re.compile(r"\w+(?:['’]\w+)*")


def tokenize(text: str) -> list[str]:
    """Split a text into lower-case words; line breaks in HTML (``<br />``) are spaces."""
    return _WORD.findall(_BREAK.sub(" ", text).lower())


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count the words of some texts; the sum of the counts of two blocks is the count of both together."""
    return Counter(chain.from_iterable(map(tokenize, texts)))


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows, most frequent first, with the codes 2, 3, ...

    Code 0 is padding and 1 stands for every other word. Picklable; a JSON document and back is the same vocabulary.
    """

    words: tuple[str, ...]
    """All different, at least one."""
    _codes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "_codes", {word: code for code, word in enumerate(self.words, _RESERVED)})
        if not self.words:
            raise ValueError("expected at least one word in a vocabulary, received none; is the training split empty?")
        if len(self._codes) != len(self.words):
            raise ValueError("expected different words in a vocabulary, received repeated ones")

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self):,} codes>"

    def __len__(self) -> int:
        """Number of codes: the words, padding and unknown."""
        return len(self.words) + _RESERVED

    @classmethod
    def fit(cls, blocks: Iterable[Iterable[str]], size: int) -> Vocabulary:
        """Count words over blocks of texts and keep the most frequent.

        Parameters
        ----------
        blocks : iterable of iterable of str
            The training split, in any partition: the result does not depend on it.
        size : int
            Codes at most, with padding and unknown.
        """
        counts: Counter[str] = Counter()
        for block in blocks:
            counts.update(count_words(block))
        return cls.from_counts(counts, size)

    @classmethod
    def from_counts(cls, counts: Counter[str], size: int) -> Vocabulary:
        """Keep the most frequent words; of equally frequent ones those that come first in the order of code points."""
        if size <= _RESERVED:
            raise ValueError(f"expected a vocabulary of at least {_RESERVED + 1} codes, received {size}")
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(tuple(word for word, _ in ordered[: size - _RESERVED]))

    def encode(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Turn texts into rows of codes.

        Parameters
        ----------
        texts : sequence of str
        length : int
            Tokens per row. Of longer texts the last are kept, where a review says what it thinks; shorter ones are
            padded in front, so that the last state is that of a word.

        Returns
        -------
        ndarray of int32, shape (len(texts), length)
        """
        # Words that would be cut are not looked up.
        values, offsets = self._codes_of(tokenize(text)[-length:] for text in texts)
        return pad(values, offsets, length, fill=PADDING, padding="before")[0]

    def ragged(self, texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """Turn texts into codes, with nothing padded and nothing cut.

        Parameters
        ----------
        texts : iterable of str

        Returns
        -------
        values : ndarray of int32, shape (words of all texts,)
            Text after text.
        offsets : ndarray of int64, shape (number of texts + 1,)
            Text i is ``values[offsets[i] : offsets[i + 1]]``.
        """
        return self._codes_of(map(tokenize, texts))

    def _codes_of(self, texts: Iterable[list[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Look up words: never more than one text's at a time, and without a Python list of codes."""
        lengths: list[int] = []

        def counted() -> Iterator[list[str]]:
            for words in texts:
                lengths.append(len(words))
                yield words

        found = map(self._codes.get, chain.from_iterable(counted()), repeat(UNKNOWN))
        values = np.fromiter(found, np.int32)
        return values, offsets_of(np.array(lengths, np.int64))

    def to_json(self) -> str:
        """A JSON document; code points beyond ASCII as they are."""
        return json.dumps({"version": 1, "words": self.words}, ensure_ascii=False)

    @classmethod
    def from_json(cls, document: str) -> Vocabulary:
        """Read what `to_json` wrote.

        Raises
        ------
        ValueError
            If the document is something else.
        """
        content = json.loads(document)
        if not isinstance(content, dict) or content.get("version") != 1 or not isinstance(content.get("words"), list):
            raise ValueError("expected a vocabulary document of version 1; fit the vocabulary again")
        return cls(tuple(content["words"]))
