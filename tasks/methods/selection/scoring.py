"""What a search scores by: one score or several, each estimator asked once for its predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import check_scoring

from tasks.methods.blocks import collect, is_dask
from tasks.methods.metrics import accuracy_score, r2_score

RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")
"""What scores ask of an estimator."""


def check_scorings(estimator: Any, scoring: Any, refit: Any) -> Any:
    """Return the scorer of an estimator, or a dict of them by name if `scoring` is a list, tuple, set or dict.

    Raises
    ------
    ValueError
        If the names are none or not distinct strings, or `refit` does not say which of several scores chooses.
    """
    if scoring is None or isinstance(scoring, str) or callable(scoring):
        return check_scoring(estimator, scoring=scoring)
    given = list(scoring) if isinstance(scoring, list | tuple | set | frozenset | Mapping) else []
    if not given or not all(isinstance(name, str) for name in given) or len(set(given)) < len(given):
        raise ValueError(
            "expected scoring as None, a name, a callable, a list of distinct names, or a dict of name to score, "
            f"received {scoring!r}"
        )
    named = scoring if isinstance(scoring, Mapping) else {name: name for name in given}
    scorers = {name: check_scoring(estimator, scoring=score) for name, score in named.items()}
    check_refit(refit, scorers)
    return scorers


def check_refit(refit: Any, names: Any) -> None:
    """Refuse a `refit` that does not say which of several scores chooses.

    Raises
    ------
    ValueError
    """
    if refit is False or callable(refit) or (isinstance(refit, str) and refit in names):
        return
    raise ValueError(
        f"expected refit of several scores as one of their names ({', '.join(map(repr, names))}), a callable or False, "
        f"received {refit!r}; name the score that chooses, for example refit={next(iter(names))!r}"
    )


def scoring_marks(scoring: Any) -> Any:
    """Return what tells one scoring from another, for the fingerprint of a search."""
    if isinstance(scoring, Mapping):
        return sorted((name, scoring_marks(score)) for name, score in scoring.items())
    if isinstance(scoring, list | tuple | set | frozenset):
        return sorted((name, name) for name in scoring)
    if hasattr(scoring, "_score_func"):  # one of `make_scorer`, which has no name but says what it is made of
        return repr(scoring)
    return scoring if isinstance(scoring, str) else getattr(scoring, "__qualname__", None)


def weighing(scorers: Any) -> set[str | None]:
    """Return the names of the scores that weigh rows, None for a single one; warns of the others, as scikit-learn."""
    named = scorers if isinstance(scorers, dict) else {None: scorers}
    found = set()
    for name, scorer in named.items():
        asked = getattr(scorer, "_accept_sample_weight", None)
        if bool(asked()) if asked else "sample_weight" in signature(scorer).parameters:
            found.add(name)
            continue
        told = f"the scoring {scorer if name is None else name} does not support sample_weight: the fits are weighted, "
        warnings.warn(told + "the scores are not", UserWarning, stacklevel=4)
    return found


def score_all(
    scorers: Any, scoring: Any, estimator: Any, X: Any, y: Any, weights: Any, weighted: set[str | None]
) -> dict[str, float]:
    """Score a fitted estimator; the key of a single score is "score".

    Parameters
    ----------
    scorers : scorer or dict
        As `check_scorings` returns it.
    scoring : object
        As the user gave it.
    weights : ndarray or None
        Of the rows, for the scores that `weighted` names.
    """
    given = {} if weights is None else {"sample_weight": weights}
    if not isinstance(scorers, dict):
        found = _score(scorers, scoring, estimator, estimator, X, y, given if None in weighted else {})
        if isinstance(found, Mapping):  # what a callable may return
            return {name: float(value) for name, value in found.items()}
        return {"score": float(found)}
    answers = Answers(estimator)
    named = scoring if isinstance(scoring, Mapping) else {name: name for name in scorers}
    return {
        name: float(_score(scorer, named[name], estimator, answers, X, y, given if name in weighted else {}))
        for name, scorer in scorers.items()
    }


class Answers:
    """An estimator that keeps what it said of its last rows, for several scores; of Dask arrays in this process.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    """

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self._said: dict[str, tuple[Any, Any]] = {}

    def __getattr__(self, word: str) -> Any:
        if word.startswith("__"):
            raise AttributeError(word)
        found = getattr(self._estimator, word)
        if word not in RESPONSES:
            return found

        def answer(X: Any) -> Any:
            rows, said = self._said.get(word, (None, None))
            if rows is not X:
                said = found(X)
                said = collect(said, word, type(self._estimator).__name__) if is_dask(said) else said
                self._said[word] = X, said
            return said

        answer.__name__ = word  # scikit-learn's scorers look at it
        return answer

    def __sklearn_tags__(self) -> Any:
        return self._estimator.__sklearn_tags__()


def _score(scorer: Callable, scoring: Any, estimator: Any, answers: Any, X: Any, y: Any, given: dict[str, Any]) -> Any:
    metric = _metric_of(scoring, estimator) if is_dask(X) and y is not None else None
    if metric is not None:
        return metric(y, estimator.predict(X), **given)
    # Another callable may look at the estimator itself.
    asked = answers if hasattr(scorer, "_response_method") else estimator
    return scorer(asked, X, **given) if y is None else scorer(asked, X, y, **given)


def _metric_of(scoring: Any, estimator: Any) -> Any:
    """Return the score that takes predictions of Dask arrays where they lie, if it is the one that is asked for."""
    if scoring is not None:
        return {"accuracy": accuracy_score, "r2": r2_score}.get(scoring) if isinstance(scoring, str) else None
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[-1][1]
    own = getattr(type(estimator), "score", None)
    return {ClassifierMixin.score: accuracy_score, RegressorMixin.score: r2_score}.get(own)
