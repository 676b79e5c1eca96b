"""How many texts hold a term, and how often: one pass, tables merged in a tree, cut if they get too large."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from tasks.methods.text.documents import checked_texts

TABLE_TERMS = 2_000_000
"""Terms that one table holds at most, some 300 MB; see `Table`."""


@dataclass
class Table:
    """What some texts hold.

    A table of more than `TABLE_TERMS` terms is cut to those in the most texts: all terms of at most t texts go, for the
    least t that is enough. So counts are too low by at most the sum of all t, which is `missed`.
    """

    lengths: tuple[int, ...]
    """Texts of each partition."""
    frequency: Counter[str] = field(default_factory=Counter)
    """Texts that hold a term."""
    total: Counter[str] = field(default_factory=Counter)
    """Occurrences of a term; empty if nobody asks for them."""
    missed: int = 0
    """What a count may be too low by."""


def count_terms(texts: list[str], vectorizer: Any, totals: bool, terms: int) -> Table:
    """Count the terms of some texts, in the vectorizer's analysis of them."""
    analyze = vectorizer.build_analyzer()
    allowed = vectorizer.vocabulary_ if hasattr(vectorizer, "vocabulary_") else None
    table = Table((len(texts),))
    for text in checked_texts(texts, vectorizer, " of a part of the bag"):
        found = analyze(text)
        if allowed is not None:
            found = [term for term in found if term in allowed]
        table.frequency.update(dict.fromkeys(found, 1))
        if totals:
            table.total.update(found)
        # Twice as many as may stay, so that not each text past the limit sorts the table.
        if len(table.frequency) > 2 * terms:
            _cut(table, terms)
    return _cut(table, terms)


class Merge:
    """Combine two tables; an object that tasks carry, for the limit it knows."""

    def __init__(self, terms: int) -> None:
        self.terms = terms

    def __call__(self, a: Table, b: Table) -> Table:
        """Return a new table: a task's input may be used again if the task is repeated."""
        frequency, total = Counter(a.frequency), Counter(a.total)
        frequency.update(b.frequency)
        total.update(b.total)
        return _cut(Table((*a.lengths, *b.lengths), frequency, total, a.missed + b.missed), self.terms)


def choose_terms(table: Table, options: Any) -> tuple[list[str], np.ndarray]:
    """Return the terms that `min_df`, `max_df` and `max_features` leave, sorted, and the texts that hold each.

    Raises
    ------
    ValueError
        If none is left.
    """
    if not table.frequency:
        raise ValueError("empty vocabulary; perhaps the documents only contain stop words")
    texts = sum(table.lengths)
    most = float(options.max_df) if isinstance(options.max_df, Integral) else options.max_df * texts
    least = float(options.min_df) if isinstance(options.min_df, Integral) else options.min_df * texts
    if most < least:
        raise ValueError("max_df corresponds to < documents than min_df")
    terms = np.array(sorted(table.frequency), dtype=object)
    frequency = np.array([table.frequency[term] for term in terms], np.int64)
    kept = np.flatnonzero((frequency <= most) & (frequency >= least))
    if options.max_features is not None and len(kept) > options.max_features:
        counts = table.frequency if options.binary else table.total
        # scikit-learn's own sort, of the same values in the same order and dtype, which decides between equal counts.
        values = np.array([counts[term] for term in terms[kept]]).astype(options.dtype)
        kept = np.sort(kept[(-values).argsort()[: options.max_features]])
    if not len(kept):
        raise ValueError("After pruning, no terms remain. Try a lower min_df or a higher max_df.")
    return [str(term) for term in terms[kept]], frequency[kept]


def _cut(table: Table, terms: int) -> Table:
    if len(table.frequency) <= terms:
        return table
    counts = np.fromiter(table.frequency.values(), np.int64, len(table.frequency))
    # The largest count among those that must go.
    bar = int(np.partition(counts, len(counts) - terms - 1)[len(counts) - terms - 1])
    table.frequency = Counter({term: n for term, n in table.frequency.items() if n > bar})
    table.total = Counter({term: n for term, n in table.total.items() if term in table.frequency})
    table.missed += bar
    return table
