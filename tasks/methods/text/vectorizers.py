"""Counts of words, TF-IDF and hashing of texts: SciPy-sparse rows, block by block."""

from __future__ import annotations

import itertools
import pickle
import uuid
import warnings
from collections.abc import Iterator
from typing import Any, Self

import cloudpickle
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction import text
from sklearn.utils.validation import check_is_fitted

from tasks.methods.execution import step_name
from tasks.methods.text import counting
from tasks.methods.text.documents import Documents, checked_texts, open_documents

NOTHING = object()
"""Where a first text would be."""


class _OnTexts:
    """Lazy rows of texts on Dask; what is in this process goes to scikit-learn's class, which follows in order."""

    dtype: Any

    def fit(self, raw_documents: Any, y: Any = None) -> Self:
        """Learn what `transform` needs.

        Parameters
        ----------
        raw_documents : iterable of str, dask.bag.Bag of str, storage.Dataset or its path
        y : ignored

        Raises
        ------
        ValueError
            If a parameter is not usable, or no term is left, as of no texts.
        TypeError
            If a text is not a str; of a bag by the tasks.
        """
        documents = open_documents(raw_documents)
        if documents is None:
            super().fit(checked_texts(raw_documents, self), y)  # type: ignore[misc]
        else:
            self._learn(documents)
        return self

    def fit_transform(self, raw_documents: Any, y: Any = None) -> Any:
        """Learn, then transform; on Dask the texts are read once to learn, and again when the rows are computed."""
        documents = open_documents(raw_documents)
        if documents is None:
            if not isinstance(self, text.HashingVectorizer):
                return super().fit_transform(checked_texts(raw_documents, self), y)  # type: ignore[misc]
            return self.fit(raw_documents, y).transform(raw_documents)
        self._learn(documents)
        return self._rows(documents)

    def transform(self, raw_documents: Any) -> Any:
        """Turn texts into rows.

        Returns
        -------
        sparse matrix or dask.array.Array of SciPy CSR blocks, shape (texts, terms)
            Of a bag lazily, in its partitions, whose lengths a pass that only reads finds out at once; of a stored
            dataset they are known. Of no texts a matrix without rows.
        """
        documents = open_documents(raw_documents)
        if documents is not None:
            return self._rows(documents)
        texts = checked_texts(raw_documents, self)
        if not isinstance(texts, str) and isinstance(texts, Iterator):
            first = next(texts, NOTHING)
            if first is NOTHING:
                return csr_matrix((0, self._width()), dtype=self.dtype)
            texts = itertools.chain([first], texts)
        return super().transform(texts)  # type: ignore[misc]

    def _learn(self, documents: Documents) -> None:
        raise NotImplementedError

    def _width(self) -> int:
        if not hasattr(self, "vocabulary_"):
            self._validate_vocabulary()  # type: ignore[attr-defined]  # a given one needs no fit
        check_is_fitted(self, "vocabulary_")
        return len(self.vocabulary_)  # type: ignore[attr-defined]

    def _rows(self, documents: Documents) -> Any:
        import dask.array as da
        from dask._task_spec import DataNode, Task, TaskRef
        from dask.highlevelgraph import HighLevelGraph

        name = type(self).__name__
        width, lengths = self._width(), documents.known_lengths(name)
        stem = f"{step_name('transform', name)}-{uuid.uuid4().hex}"
        # One node for all tasks, and as bytes, so that Dask sees how large the vocabulary is.
        model = f"{stem}-model"
        layer: dict[Any, Any] = {model: DataNode(model, np.frombuffer(cloudpickle.dumps(self), np.uint8))}
        for i, key in enumerate(documents.bag.__dask_keys__()):
            layer[stem, i, 0] = Task((stem, i, 0), _transformed, TaskRef(key), TaskRef(model), width)
        graph = HighLevelGraph.from_collections(stem, layer, dependencies=[documents.bag])
        meta = csr_matrix((0, 0), dtype=self.dtype)
        return da.Array(graph, stem, (lengths, (width,)), dtype=self.dtype, meta=meta)


class _Counting(_OnTexts):
    """A vocabulary from one pass."""

    vocabulary_: dict[str, int]
    vocabulary: Any
    max_features: int | None
    binary: bool

    def _learn(self, documents: Documents) -> None:
        self._counted(documents)

    def _counted(self, documents: Documents) -> tuple[np.ndarray, int]:
        """Set the vocabulary and return how many texts hold each term, and how many texts there are."""
        self._validate_params()  # type: ignore[attr-defined]
        low, high = self.ngram_range  # type: ignore[attr-defined]
        if low > high:
            raise ValueError(
                f"expected ngram_range with the lower bound first, received {(low, high)}; give it as (1, 2)"
            )
        plain = type(self)(**self.get_params(deep=False))  # type: ignore[attr-defined]
        fixed = plain.vocabulary is not None
        if fixed:
            plain.fit(["a text, for scikit-learn's own check of the vocabulary"])
        totals = plain.max_features is not None and not plain.binary and not fixed
        limit = counting.TABLE_TERMS
        table = documents.reduce(
            "count", type(self).__name__, counting.count_terms, (plain, totals, limit), combine=counting.Merge(limit)
        )
        documents.lengths = table.lengths
        self.fixed_vocabulary_ = fixed
        if fixed:
            self.vocabulary_ = plain.vocabulary_
            ordered = sorted(self.vocabulary_, key=self.vocabulary_.__getitem__)
            return np.array([table.frequency[term] for term in ordered], np.int64), sum(table.lengths)
        if table.missed:
            told = (
                f"more than {limit} terms: the rarest were dropped on the way, and counts may be too low by "
                f"{table.missed}; choose a shorter ngram_range, stop_words, or HashingVectorizer"
            )
            warnings.warn(told, UserWarning, stacklevel=5)
        terms, frequency = counting.choose_terms(table, self)
        self.vocabulary_ = {term: i for i, term in enumerate(terms)}
        return frequency, sum(table.lengths)


class CountVectorizer(_Counting, text.CountVectorizer):
    """How often each text holds each term of a vocabulary.

    scikit-learn's `CountVectorizer`, with its parameters; a list of texts is its own work. On a bag of str or a stored
    dataset the vocabulary is learned in one pass. Exact, unless there are more terms than one table holds, 2 million
    (`tasks.methods.text.counting`): then the rarest are dropped on the way, and a warning says by how much a count may
    be too low.

    Parameters
    ----------
    input, encoding, decode_error, strip_accents, lowercase, preprocessor, tokenizer, stop_words, token_pattern,
    ngram_range, analyzer, max_df, min_df, max_features, vocabulary, binary, dtype
        As in scikit-learn. `tokenizer` may be `tasks.methods.text.tokens.NltkTokens`.

    Attributes
    ----------
    vocabulary_ : dict of str to int
    fixed_vocabulary_ : bool

    Notes
    -----
    Per task: the texts of a partition and their table, 150 bytes per distinct term; a task that merges holds 8 tables
    and their sum. Each task sends its table, in a tree. This process holds the last one. Python counts one text at a
    time per process: without a cluster that is one core.
    """


class TfidfVectorizer(_Counting, text.TfidfVectorizer):
    """How often each text holds each term, weighted by how few texts hold it.

    scikit-learn's `TfidfVectorizer`, with its parameters and numbers; a list of texts is its own work. On a bag of str
    or a stored dataset vocabulary and weights are learned in one pass. Exact within the limit of `CountVectorizer`.

    Parameters
    ----------
    norm, use_idf, smooth_idf, sublinear_tf
        As in scikit-learn.
    input, encoding, decode_error, strip_accents, lowercase, preprocessor, tokenizer, analyzer, stop_words,
    token_pattern, ngram_range, max_df, min_df, max_features, vocabulary, binary, dtype
        As in scikit-learn. `tokenizer` may be `tasks.methods.text.tokens.NltkTokens`.

    Attributes
    ----------
    vocabulary_ : dict of str to int
    idf_ : ndarray, float (terms,)
    fixed_vocabulary_ : bool

    Notes
    -----
    As `CountVectorizer`.

    References
    ----------
    C. D. Manning, P. Raghavan, H. Schuetze (2008). Introduction to Information Retrieval, section 6.2.
    """

    def _learn(self, documents: Documents) -> None:
        frequency, texts = self._counted(documents)
        weights = text.TfidfTransformer(
            norm=self.norm, use_idf=self.use_idf, smooth_idf=self.smooth_idf, sublinear_tf=self.sublinear_tf
        )
        with np.errstate(divide="ignore"):  # of a matrix that says the number of terms only
            weights.fit(csr_matrix((1, len(frequency)), dtype=self.dtype))
            if self.use_idf:
                weights.idf_ = self._inverse_frequency(frequency, texts)
        self._tfidf = weights

    def _inverse_frequency(self, frequency: np.ndarray, texts: int) -> np.ndarray:
        # In scikit-learn's order of operations, in place, so that the same bits come out.
        dtype = self.dtype if self.dtype in (np.float32, np.float64) else np.float64
        counts = frequency.astype(dtype)
        counts += float(self.smooth_idf)
        weights = np.full_like(counts, texts + int(self.smooth_idf))
        weights /= counts
        np.log(weights, out=weights)
        weights += 1.0
        return weights


class HashingVectorizer(_OnTexts, text.HashingVectorizer):
    """How often each text holds each term, in the column that the term's hash says: nothing to learn or to hold.

    scikit-learn's `HashingVectorizer`, with its parameters and numbers; also for a bag of str or a stored dataset, of
    which each partition is transformed by itself.

    Parameters
    ----------
    n_features, alternate_sign, norm, binary, dtype, input, encoding, decode_error, strip_accents, lowercase,
    preprocessor, tokenizer, stop_words, token_pattern, ngram_range, analyzer
        As in scikit-learn.
    """

    def _learn(self, documents: Documents) -> None:
        super().fit([])

    def _width(self) -> int:
        return int(self.n_features)


def _transformed(texts: Any, model: np.ndarray, width: int) -> csr_matrix:
    vectorizer = pickle.loads(memoryview(model))
    texts = list(checked_texts(texts, vectorizer, " of a part of the bag"))
    if not texts:
        return csr_matrix((0, width), dtype=vectorizer.dtype)
    return csr_matrix(vectorizer.transform(texts))
