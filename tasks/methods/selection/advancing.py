"""Models that learn block by block where the blocks lie: a model travels as its pickle, the data stays."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import cloudpickle
import numpy as np
from scipy.sparse import issparse
from sklearn.base import RegressorMixin, is_regressor
from sklearn.metrics import check_scoring
from sklearn.utils.validation import _num_samples

from tasks.methods.blocks import Blocks, check_dask_matrix, collect, is_dask, map_rows, open_blocks
from tasks.methods.execution import Engine, Serial
from tasks.methods.metrics import r2_score
from tasks.methods.reading import working_dtype

NAME = "search"

WORDS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "inverse_transform")
"""What a fitted model says of rows."""


class Stream:
    """The training rows as a ring of blocks, and the rows that decide the scores; made by `open_stream`."""

    def __init__(self, engine: Engine, blocks: list[Any], labels: list[Any], held: Any, truth: Any, rows: Any) -> None:
        self._engine = engine
        self._blocks = blocks
        self._labels = labels
        self._held = held
        self._truth = truth
        self._rows: tuple[Blocks, list] | None = rows

    def advance(self, state: np.ndarray, begin: int, end: int, given: dict[str, Any]) -> np.ndarray:
        """Give a model its calls number `begin` to `end` of `partial_fit`; call i sees block i, and again from 0.

        Returns
        -------
        ndarray of uint8
            The pickle of the model; the one that was given is left as it was, so that a task can be done again.
        """
        handle: Any = state
        for call in range(begin, end):
            at = call % len(self._blocks)
            arguments = (self._blocks[at], self._labels[at], handle)
            # The engine holds results for as long as somebody holds the handle: one model per chain.
            (handle,) = self._engine.map(f"{NAME}.partial_fit", _advance, [arguments], (given,))
        fetched: np.ndarray = self._engine.fetch([handle])[0]
        return fetched

    def score(self, state: np.ndarray, scoring: Any) -> float:
        """Score a model on the rows that were held out."""
        model = load_model(state)
        if self._rows is None:
            return _score_here(model, self._held, self._truth, scoring)
        found = _score_lazily(model, self._held, self._truth, scoring)
        return _score_blocks(*self._rows, state) if found is None else found


@contextmanager
def open_stream(train: tuple[Any, Any], held: tuple[Any, Any], batch_rows: int | None, calls: int) -> Iterator[Stream]:
    """Open training rows and held-out rows, each with its labels or None, for the models of one search."""
    X, y = train
    if not is_dask(X):
        size = batch_rows or 1024
        lows = range(0, _num_samples(X), size)
        blocks = [_slice(X, low, low + size) for low in lows]
        labels = [None if y is None else y[low : low + size] for low in lows]
        yield Stream(Serial(), blocks, labels, *held, None)
        return
    if batch_rows is not None:
        X = X.rechunk({0: batch_rows})
    with ExitStack() as stack:
        passes = max(2, calls // max(1, X.numblocks[0]))
        rows = stack.enter_context(open_blocks(X, name=NAME, passes=passes, sparse=True))
        tests = stack.enter_context(open_blocks(held[0], name=NAME, passes=passes, sparse=True))
        scored = (tests, _cut(tests, held[1]))
        yield Stream(rows.engine, rows.sources, _cut(rows, y), *held, scored)


def score_rows(model: Any, X: Any, y: Any, scoring: Any) -> float:
    """Score a fitted model, of Dask arrays as a search scores the rows that it held out."""
    if not is_dask(X):
        return _score_here(model, X, y, scoring)
    found = _score_lazily(model, X, y, scoring)
    if found is not None:
        return found
    with open_blocks(X, name=NAME, passes=1, sparse=True) as rows:
        return _score_blocks(rows, _cut(rows, y), dump_model(model))


class OnBlocks:
    """A fitted model's words for Dask arrays: each block where it lies, whatever the model knows of Dask.

    Parameters
    ----------
    model : object
        Works on NumPy arrays.
    here : bool, default False
        Bring what it says to this process, one entry per row and class, for scores that need it.
    """

    def __init__(self, model: Any, here: bool = False) -> None:
        self.model = model
        self.here = here

    def __getattr__(self, word: str) -> Any:
        if word in ("model", "here") or word.startswith("__"):
            raise AttributeError(word)
        found = getattr(self.model, word)
        if word in WORDS:

            def said(X: Any) -> Any:
                return self._each(word, X)

            said.__name__ = word  # scikit-learn's scorers remember predictions by it
            return said
        return found

    def __sklearn_tags__(self) -> Any:
        return self.model.__sklearn_tags__()

    def _each(self, word: str, X: Any) -> Any:
        if not is_dask(X):
            return getattr(self.model, word)(X)
        X = check_dask_matrix(X)
        # What one row of zeros gives tells the shape and type of the result.
        one = np.asarray(getattr(self.model, word)(np.zeros((1, X.shape[1]), working_dtype(X.dtype))))
        columns = None if one.ndim == 1 else one.shape[1]
        apply = partial(_say, model=self.model, word=word)
        found = map_rows(X, apply, name=NAME, phase=word, columns=columns, dtype=one.dtype, sparse=True)
        return collect(found, word, NAME) if self.here else found


def dump_model(model: Any) -> np.ndarray:
    """Pickle a model; by value what only the user's session knows."""
    return np.frombuffer(cloudpickle.dumps(model, protocol=5), np.uint8)


def load_model(state: np.ndarray) -> Any:
    """Return a model of its own from a pickle."""
    return pickle.loads(memoryview(state))


def is_kind(test: Any, model: Any) -> bool:
    """Ask `is_classifier` or `is_regressor`; False for what is not written for scikit-learn."""
    try:
        return bool(test(model))
    except (AttributeError, TypeError, ValueError):
        return False


def _score_here(model: Any, X: Any, y: Any, scoring: Any) -> float:
    score = model.score if scoring is None else partial(check_scoring(model, scoring), model)
    return float(score(X) if y is None else score(X, y))


def _score_lazily(model: Any, X: Any, y: Any, scoring: Any) -> float | None:
    """Score a model on a Dask array, if not block by block."""
    if scoring is not None:
        answers = OnBlocks(model, here=True)
        scorer = check_scoring(model, scoring)
        return float(scorer(answers, X) if y is None else scorer(answers, X, y))
    if is_kind(is_regressor, model) and type(model).score is RegressorMixin.score and y is not None:
        return float(r2_score(y, OnBlocks(model).predict(X)))
    return None


def _score_blocks(rows: Blocks, labels: list, state: np.ndarray) -> float:
    total = rows.reduce("score", _score_block, labels, shared=(state,), combine=np.add)
    return float(total[0] / total[1])


def _cut(rows: Blocks, y: Any) -> list:
    return [None] * len(rows) if y is None else rows.scatter("labels", np.asarray(y))


def _slice(X: Any, low: int, high: int) -> Any:
    return X.iloc[low:high] if hasattr(X, "iloc") else X[low:high]


def _advance(block: Any, labels: Any, state: np.ndarray, given: dict[str, Any]) -> np.ndarray:
    model = load_model(state)
    model.partial_fit(block, **given) if labels is None else model.partial_fit(block, labels, **given)
    return dump_model(model)


def _score_block(block: Any, labels: Any, state: np.ndarray) -> np.ndarray:
    """Return the score times the rows, and the rows."""
    rows = block.shape[0]
    return np.array([rows * _score_here(load_model(state), block, labels, None), rows], np.float64)


def _say(block: Any, model: Any, word: str) -> np.ndarray:
    said = getattr(model, word)(block)
    return said.toarray() if issparse(said) else np.asarray(said)
