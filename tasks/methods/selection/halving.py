"""Searches that stop bad candidates early: successive halving, and Hyperband."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.utils import check_random_state, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_is_fitted

from tasks.methods.blocks import collect, is_dask
from tasks.methods.inputs import check_least
from tasks.methods.selection.advancing import OnBlocks, is_kind, load_model, open_stream, score_rows
from tasks.methods.selection.brackets import Rung, halving_rungs, hyperband_brackets
from tasks.methods.selection.folds import count_rows, take_rows, train_test_split
from tasks.methods.selection.journal import Journal
from tasks.methods.selection.racing import Race
from tasks.methods.selection.scoring import scoring_marks

PARAMETERS = """

    A share of the rows is held out. The other rows are a ring of blocks, and the resource is calls of `partial_fit`:
    call i sees block i, so that a candidate goes on where its last rung ended and the data is never gathered. The best
    candidates of a rung, by their scores on the rows held out, go on to the next.

    Parameters
    ----------
    estimator : object
        With `partial_fit` and `get_params`, and with `score` unless there is `scoring`: ours, scikit-learn's, or your
        own. It gets NumPy blocks (or SciPy-sparse ones), in the workers.
    param_distributions : dict of lists or distributions, or list of such
        Drawn from as scikit-learn's `ParameterSampler` does.
    {sizes}
    test_size : float or int, default 0.2
        Share or number of rows held out, drawn by row number and `random_state`; of classes their shares.
    scoring : str, callable or None
        None is the estimator's own `score`. Of Dask arrays that is R2 of all rows for a regressor, and for others the
        mean of the blocks' scores weighted by rows, which is exact for accuracy. For another scoring the predictions
        and labels of the rows held out are brought to this process.
    batch_rows : int, optional
        Rows of a block. By default 1024 of NumPy input, and the chunks of a Dask array, on which results then depend.
    random_state : int, RandomState or None
        Of the rows held out and the draw of candidates; the randomness of a candidate is its own parameter.
    error_score : float or "raise", default nan
        What a candidate that fails counts; it goes no further.
    in_flight : int, default 2
        Candidates that train at the same time, each driven by a thread of this process.
    resume : path, optional
        A folder where each finished candidate of each rung is written, its score as a line of JSON and its model as a
        pickle, before the next one begins. The same search with the same folder does only what is missing; who goes on
        depends on all candidates, so other parameters to draw from are another search, which is refused. Pickles can
        run code: name only folders that you trust. Needs an integer `random_state`.

    Attributes
    ----------
    cv_results_ : dict of arrays, one entry per candidate
        ``params``, ``param_*``, ``bracket``, ``partial_fit_calls``, ``test_score`` (the last), ``rank_test_score``,
        ``fit_time`` and ``score_time`` in seconds (the sums).
    history_ : list of dict
        One entry per candidate and rung: ``candidate``, ``bracket``, ``rung``, ``partial_fit_calls``, ``score``.
    best_index_, best_score_, best_params_
        The best of those that reached the last rung of their bracket.
    best_estimator_ : object
        As its last call of `partial_fit` left it; it is not fitted again with the rows held out.
    classes_ : ndarray
        Of the best, if it has them.
    n_features_in_ : int
        Of the best, if it tells.
    n_splits_ : int
        1.

    Raises
    ------
    ValueError
        When fitted: if a parameter is not usable, all candidates of a bracket fail, or `resume` holds another search.

    Notes
    -----
    A task is one call: it holds a block and two copies of the model. This process holds the models of one rung, and
    sends and gets each of them once per rung. Data of up to 30 % of the workers' memory is read once.
    """


def _offers(word: str) -> Callable[[Any], bool]:
    """Whether the best, or the estimator before the fit, has a method; for `available_if`."""

    def check(search: Any) -> bool:
        getattr(search.best_estimator_ if hasattr(search, "best_estimator_") else search.estimator, word)
        return True

    return check


class _Racing(MetaEstimatorMixin, BaseEstimator):
    """Brackets of candidates, one after the other; subclasses say how large they are."""

    estimator: Any
    param_distributions: Any
    factor: int
    max_resources: int
    test_size: Any
    scoring: Any
    batch_rows: int | None
    random_state: Any
    error_score: Any
    in_flight: int
    resume: Any

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Self:
        """Race the candidates.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,), optional
            Held in this process.
        **fit_params
            For every call of `partial_fit`. A classifier gets the ``classes`` that occur in y by itself.
        """
        self._check()
        y = collect(y, "labels", type(self).__name__) if is_dask(y) else y
        X, y = (X, y) if is_dask(X) else indexable(X, y)
        random = check_random_state(self.random_state)
        train, held = self._split(X, y, random)
        brackets = self._brackets()
        # All candidates are drawn before the first is fitted: the same whatever happens to them.
        drawn = [self._draw(rungs[0].candidates, random) for rungs in brackets]
        given = self._given(y, fit_params)
        mark = self._fingerprint(X, y, train, held, drawn, given)
        journal = Journal(Path(self.resume), mark) if self.resume is not None else None
        parts = [(take_rows(X, rows), None if y is None else take_rows(y, rows)) for rows in (train, held)]
        try:
            with open_stream(parts[0], parts[1], self.batch_rows, brackets[0][-1].calls) as stream:
                race = Race(self, stream, journal, given)
                first = 0
                for number, (rungs, candidates) in enumerate(zip(brackets, drawn, strict=True)):
                    race.run(len(brackets) - 1 - number, rungs, dict(enumerate(candidates, first)))
                    first += len(candidates)
        finally:
            if journal is not None:
                journal.close()
        self._tell(race, [candidate for candidates in drawn for candidate in candidates])
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """Score the best by `scoring`, or by its own `score`.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (m, d)
        y : array-like or dask.array.Array, shape (m,), optional
            Held in this process.

        Returns
        -------
        float
            Of a Dask array what the search computes of the rows held out, see `scoring`.
        """
        check_is_fitted(self, "best_estimator_")
        y = collect(y, "labels", type(self).__name__) if is_dask(y) else y
        return score_rows(self.best_estimator_, X, y, self.scoring)

    @available_if(_offers("predict"))
    def predict(self, X: Any) -> Any:
        """Call `predict` of the best; of a Dask array lazily, block by block."""
        return self._best().predict(X)

    @available_if(_offers("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Call `predict_proba` of the best; of a Dask array lazily."""
        return self._best().predict_proba(X)

    @available_if(_offers("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Call `predict_log_proba` of the best; of a Dask array lazily."""
        return self._best().predict_log_proba(X)

    @available_if(_offers("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Call `decision_function` of the best; of a Dask array lazily."""
        return self._best().decision_function(X)

    @available_if(_offers("transform"))
    def transform(self, X: Any) -> Any:
        """Call `transform` of the best; of a Dask array lazily."""
        return self._best().transform(X)

    @available_if(_offers("inverse_transform"))
    def inverse_transform(self, X: Any) -> Any:
        """Call `inverse_transform` of the best; of a Dask array lazily."""
        return self._best().inverse_transform(X)

    @property
    def classes_(self) -> np.ndarray:
        """The classes of the best, if it has any."""
        classes: np.ndarray = self._of_best("classes_")
        return classes

    @property
    def n_features_in_(self) -> int:
        """The number of columns that the best has seen, if it tells."""
        return int(self._of_best("n_features_in_"))

    def _of_best(self, name: str) -> Any:
        if not hasattr(self, "best_estimator_"):  # hasattr is to say False
            raise AttributeError(f"expected a fitted search for {name}, this one is not; call fit first")
        return getattr(self.best_estimator_, name)

    def _best(self) -> OnBlocks:
        check_is_fitted(self, "best_estimator_")
        return OnBlocks(self.best_estimator_)

    def _brackets(self) -> list[list[Rung]]:
        raise NotImplementedError

    def _check(self) -> None:
        check_least("in_flight", self.in_flight, 1)
        check_least("max_resources", self.max_resources, 1)
        check_least("factor", self.factor, 2)
        if self.batch_rows is not None:
            check_least("batch_rows", self.batch_rows, 1)
        for word in ("partial_fit", "score") if self.scoring is None else ("partial_fit",):
            if not hasattr(self.estimator, word):
                raise TypeError(f"expected an estimator with {word}, received {self.estimator!r}")
        if not (self.scoring is None or isinstance(self.scoring, str) or callable(self.scoring)):
            raise ValueError(
                f"expected one score that decides who goes on, as a name, a callable or None, received "
                f"{self.scoring!r}; for several scores use GridSearchCV or RandomizedSearchCV"
            )
        if self.resume is not None and not isinstance(self.random_state, Integral):
            raise ValueError(
                f"expected an integer random_state with resume, received {self.random_state!r}; without one a search "
                "that goes on would draw other candidates"
            )

    def _split(self, X: Any, y: Any, random: Any) -> tuple[np.ndarray, np.ndarray]:
        labelled = y is not None and is_kind(is_classifier, self.estimator)
        rows = count_rows(X)
        if y is not None and _num_samples(y) != rows:
            raise ValueError(f"expected as many labels as rows, received {_num_samples(y)} labels and {rows} rows")
        options = {"test_size": self.test_size, "random_state": random, "stratify": y if labelled else None}
        parts = train_test_split(np.arange(rows), **options)
        train, held = (np.sort(part) for part in parts)
        return train, held

    def _draw(self, count: int, random: Any) -> list[dict]:
        spaces = self.param_distributions
        spaces = [spaces] if isinstance(spaces, dict) else list(spaces)
        if all(not hasattr(values, "rvs") for space in spaces for values in space.values()):
            count = min(count, len(ParameterGrid(spaces)))
        return list(ParameterSampler(spaces, count, random_state=random))

    def _given(self, y: Any, fit_params: dict[str, Any]) -> dict[str, Any]:
        takes = "classes" in inspect.signature(self.estimator.partial_fit).parameters
        if y is not None and takes and "classes" not in fit_params:
            return {"classes": np.unique(y), **fit_params}
        return fit_params

    def _fingerprint(self, X: Any, y: Any, *parts: Any) -> str:
        estimator = (type(self.estimator).__qualname__, self.estimator.get_params(deep=True))
        scoring = scoring_marks(self.scoring)
        data = (X.name, X.chunks) if is_dask(X) else X
        sizes = [(rung.candidates, rung.calls) for rungs in self._brackets() for rung in rungs]
        return str(joblib.hash((estimator, scoring, data, y, parts, sizes, self.batch_rows)))

    def _tell(self, race: Race, candidates: list[dict]) -> None:
        self.history_ = race.history
        self.n_splits_ = 1
        last = {entry["candidate"]: entry for entry in race.history}
        told = [last[i] for i in range(len(candidates))]
        scores = np.array([entry["score"] for entry in told])
        worst = np.where(np.isnan(scores), -np.inf, scores)
        results: dict[str, Any] = {"params": candidates}
        for name in sorted({name for candidate in candidates for name in candidate}):
            column = np.ma.masked_all(len(candidates), object)
            for i, candidate in enumerate(candidates):
                if name in candidate:
                    column[i] = candidate[name]
            results[f"param_{name}"] = column
        for name in ("bracket", "partial_fit_calls"):
            results[name] = np.array([entry[name] for entry in told])
        results |= {"test_score": scores, "rank_test_score": rankdata(-worst, "min").astype(np.int32)}
        for name in ("fit_time", "score_time"):
            sums = np.zeros(len(candidates))
            for entry in race.history:
                sums[entry["candidate"]] += entry[name]
            results[name] = sums
        self.cv_results_ = results
        self.best_index_ = max(race.finals, key=lambda i: (last[i]["score"], -i))
        self.best_score_ = float(scores[self.best_index_])
        self.best_params_ = candidates[self.best_index_]
        self.best_estimator_ = load_model(race.model(self.best_index_))


class HalvingSearchCV(_Racing):
    """Successive halving: a rung keeps one in `factor` candidates, and trains them `factor` times as long."""

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_candidates: int = 27,
        factor: int = 3,
        min_resources: int = 1,
        max_resources: int = 81,
        test_size: Any = 0.2,
        scoring: Any = None,
        batch_rows: int | None = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        in_flight: int = 2,
        resume: Any = None,
    ) -> None:
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.n_candidates = n_candidates
        self.factor = factor
        self.min_resources = min_resources
        self.max_resources = max_resources
        self.test_size = test_size
        self.scoring = scoring
        self.batch_rows = batch_rows
        self.random_state = random_state
        self.error_score = error_score
        self.in_flight = in_flight
        self.resume = resume

    def _check(self) -> None:
        super()._check()
        check_least("n_candidates", self.n_candidates, 1)
        check_least("min_resources", self.min_resources, 1)
        if self.min_resources > self.max_resources:
            raise ValueError(
                f"expected min_resources of at most max_resources, received {self.min_resources} and "
                f"{self.max_resources}"
            )

    def _brackets(self) -> list[list[Rung]]:
        return [halving_rungs(self.n_candidates, self.min_resources, self.max_resources, self.factor)]


class HyperbandSearchCV(_Racing):
    """Hyperband: brackets of successive halving, from many candidates with short training to few with long."""

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        factor: int = 3,
        max_resources: int = 81,
        test_size: Any = 0.2,
        scoring: Any = None,
        batch_rows: int | None = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        in_flight: int = 2,
        resume: Any = None,
    ) -> None:
        self.estimator = estimator
        self.param_distributions = param_distributions
        self.factor = factor
        self.max_resources = max_resources
        self.test_size = test_size
        self.scoring = scoring
        self.batch_rows = batch_rows
        self.random_state = random_state
        self.error_score = error_score
        self.in_flight = in_flight
        self.resume = resume

    def _brackets(self) -> list[list[Rung]]:
        return hyperband_brackets(self.max_resources, self.factor)


_SIZES = "factor : int, default 3\n    max_resources : int, default 81\n        Calls of `partial_fit` at most."
_FIRST = "n_candidates : int, default 27\n    min_resources : int, default 1\n        Calls in the first rung.\n    "
_PAPER = """
    References
    ----------
    {}
"""
HalvingSearchCV.__doc__ = f"{HalvingSearchCV.__doc__}{PARAMETERS.format(sizes=_FIRST + _SIZES)}" + _PAPER.format(
    "K. Jamieson, A. Talwalkar (2016). Non-stochastic Best Arm Identification and Hyperparameter Optimization. AISTATS."
)
HyperbandSearchCV.__doc__ = f"{HyperbandSearchCV.__doc__}{PARAMETERS.format(sizes=_SIZES)}" + _PAPER.format(
    "See `tasks.methods.selection.brackets`."
)
