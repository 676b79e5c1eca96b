"""Search for parameters by cross-validation: each fit goes over Dask's blocks, some fits run at a time, all resume."""

from __future__ import annotations

import contextvars
import time
import warnings
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
from sklearn import model_selection
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _num_samples, indexable

from tasks.methods.blocks import collect, is_dask
from tasks.methods.selection.folds import take_rows
from tasks.methods.selection.journal import Journal
from tasks.methods.selection.scoring import check_refit, check_scorings, score_all, scoring_marks, weighing

PARAMETERS = """

    NumPy and Dask arrays are taken; of a Dask array each fold is a lazy selection of its rows, block by block. Folds,
    scores, ranks and the choice are scikit-learn's, and so are the names in `cv_results_`.

    Parameters
    ----------
    estimator : estimator
        Ours, scikit-learn's, or a pipeline (parameters as ``step__parameter``).
    {grid}
    scoring : str, callable, list, tuple, dict or None
        None is the estimator's own score. Several, by a list of names, a dict of name to score or a callable that
        returns a dict, stand in `cv_results_` as ``mean_test_<name>`` and so on; a fit for which one of them fails
        counts as failed in all. For accuracy and R2 (the default of classifiers and regressors) the predictions of a
        Dask array stay where they are made. For others its predictions, one number per row and class, and the labels
        are brought to this process, once for all scores.
    refit : bool, str or callable, default True
        Whether to fit the best on all rows; a callable gives the index of the best from `cv_results_`. Of several
        scores the name of the one that chooses, a callable, or False for no choice.
    cv : int, splitter or iterable, optional
        Default 5 folds, stratified for classifiers.
    error_score : float or "raise", default nan
        What a fit that fails counts.
    return_train_score : bool, default False
    in_flight : int, default 2
        Fits that run at the same time, each driven by a thread of this process; bounds the memory that all need.
    resume : path, optional
        A folder where each finished fit is written as a line of JSON, on the disk before the next is started in its
        place. The same search with the same folder does only what is missing or failed; one is the same if estimator,
        parameters but the grid, folds, scoring and data are. The grid may change: fits of equal parameters on equal
        folds are used again, others computed, and what is no longer asked for stays in the folder. Of a Dask array the
        name is compared, which depends on what it was made of, not on its values.

    Attributes
    ----------
    cv_results_ : dict of arrays
    best_index_ : int
    best_score_ : float
        Not of a callable `refit`.
    best_params_ : dict
        These three not of several scores with ``refit=False``.
    best_estimator_ : estimator
        If `refit`.
    multimetric_ : bool
        Whether there are several scores.
    scorer_ : scorer or dict of scorers
    n_splits_ : int
    n_features_in_ : int
    classes_ : ndarray
        Of the best, if `refit` and it has them.

    Raises
    ------
    ValueError
        When fitted: if all fits fail, `resume` holds another search, `in_flight` is not positive, or several scores
        have no usable names or no `refit` among them.
    """


class _Searching:
    """The fits of a search; scikit-learn's class, which follows in the order of classes, says of what."""

    estimator: Any
    scoring: Any
    refit: Any
    cv: Any
    error_score: Any
    return_train_score: bool
    in_flight: int
    resume: Any

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, **fit_params: Any) -> Self:
        """Fit and score every candidate on every fold, then the best on all rows.

        Parameters
        ----------
        X : array-like, sparse matrix or dask.array.Array, shape (n, d)
        y : array-like or dask.array.Array, shape (n,), optional
            Held in this process.
        groups : array-like, shape (n,), optional
            For splitters that ask for them.
        **fit_params
            For the estimator's `fit`; what has n entries is cut with the rows. `sample_weight` weighs the scores, too,
            where the scoring can.
        """
        if isinstance(self.in_flight, bool) or not isinstance(self.in_flight, int) or self.in_flight < 1:
            raise ValueError(f"expected in_flight of at least 1 fit, received {self.in_flight!r}")
        y = collect(y) if is_dask(y) else y
        if not is_dask(X):
            X, y = indexable(X, y)
        splitter = model_selection.check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        stand_in = np.empty((_num_samples(X), 1)) if is_dask(X) else X
        self._folds = list(splitter.split(stand_in, y, groups))
        self.scorer_ = check_scorings(self.estimator, self.scoring, self.refit)
        self.multimetric_, self.n_splits_ = isinstance(self.scorer_, dict), len(self._folds)
        self._weighed = weighing(self.scorer_) if fit_params.get("sample_weight") is not None else set()
        journal = Journal(Path(self.resume), self._fingerprint(X, y, fit_params)) if self.resume is not None else None
        try:
            self._search(X, y, fit_params, journal)
        finally:
            del self._folds, self._weighed
            if journal is not None:
                journal.close()
        self._choose()
        if self.refit:
            begun = time.perf_counter()
            best = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
            self.best_estimator_ = best.fit(X, **fit_params) if y is None else best.fit(X, y, **fit_params)
            self.refit_time_ = time.perf_counter() - begun
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        return self

    def _search(self, X: Any, y: Any, fit_params: dict, journal: Journal | None) -> None:
        candidates = list(self._listed())
        if not candidates:
            raise ValueError("expected at least one candidate, received none; check the parameters to search")
        results = self._run_fits(candidates, X, y, fit_params, journal)
        failed = [result["error"] for result in results if result.get("error")]
        if len(failed) == len(results):
            raise ValueError(f"all {len(failed)} fits failed; check the estimator and the data. The first: {failed[0]}")
        self._count_failures(results)
        self.cv_results_ = self._format_results(candidates, self.n_splits_, results)  # type: ignore[attr-defined]
        if failed:
            told = f"{len(failed)} of {len(results)} fits failed and count {self.error_score}; the first: {failed[0]}"
            warnings.warn(told, FitFailedWarning, stacklevel=3)

    def _count_failures(self, results: list[dict]) -> None:
        """Give fits that failed their scores, by the names that the others have."""
        names = list(next(result["test_scores"] for result in results if not result["error"]))
        if callable(self.scoring) and names != ["score"]:
            check_refit(self.refit, names)
            self.multimetric_ = True
        for result in results:
            if result["error"]:
                result["test_scores"] = dict.fromkeys(names, float(self.error_score))
                if self.return_train_score:
                    result["train_scores"] = dict.fromkeys(names, float(self.error_score))

    def _listed(self) -> Any:
        """The candidates."""
        raise NotImplementedError

    def _run_fits(self, candidates: list, X: Any, y: Any, fit_params: dict, journal: Journal | None) -> list[dict]:
        def one(candidate: dict, fold: int) -> dict:
            key = f"{joblib.hash(candidate)}-{fold}"
            if journal is not None and key in journal.done:
                return journal.done[key]
            result = self._fit_one(candidate, fold, X, y, fit_params)
            if journal is not None and not result["error"]:  # what failed is tried again
                journal.add(key, result)
            return result

        with ThreadPoolExecutor(self.in_flight, "search") as pool:
            # A thread starts without the context that names the client.
            futures = [
                pool.submit(contextvars.copy_context().run, one, candidate, fold)
                for candidate in candidates
                for fold in range(self.n_splits_)
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                for future in futures:
                    future.cancel()
            for future in futures:  # the error, if there is one, before those that were not begun
                if future.done() and not future.cancelled():
                    future.result()
            return [future.result() for future in futures]

    def _fit_one(self, candidate: dict, fold: int, X: Any, y: Any, fit_params: dict) -> dict[str, Any]:
        train, test = self._folds[fold]
        estimator = clone(self.estimator)
        result: dict[str, Any] = {"error": None}
        begun = fitted = time.perf_counter()
        try:
            estimator.set_params(**clone(candidate, safe=False))
            X_train, y_train = _part(estimator, X, y, train)
            X_test, y_test = _part(estimator, X, y, test, train)
            given = {name: _aligned(value, train, X) for name, value in fit_params.items()}
            estimator.fit(X_train, **given) if y is None else estimator.fit(X_train, y_train, **given)
            fitted = time.perf_counter()
            weights = _aligned(fit_params["sample_weight"], test, X) if self._weighed else None
            result["test_scores"] = self._score_of(estimator, X_test, y_test, weights)
            scored = time.perf_counter()
            if self.return_train_score:
                weights = given["sample_weight"] if self._weighed else None
                result["train_scores"] = self._score_of(estimator, X_train, y_train, weights)
        except Exception as error:
            if self.error_score == "raise":
                raise
            scored = time.perf_counter()
            result["error"] = f"{type(error).__name__}: {error}"
        return {**result, "fit_time": fitted - begun, "score_time": scored - fitted}

    def _score_of(self, estimator: Any, X: Any, y: Any, weights: Any) -> dict[str, float]:
        return score_all(self.scorer_, self.scoring, estimator, X, y, weights, self._weighed)

    def _choose(self) -> None:
        if self.multimetric_ and not self.refit:
            return  # nobody said which of the scores chooses
        if callable(self.refit):
            found = self.refit(self.cv_results_)
            if not isinstance(found, Integral):
                raise TypeError(f"expected an integer from the callable refit, received {found!r}")
            index = int(found)
            if not 0 <= index < len(self.cv_results_["params"]):
                count = len(self.cv_results_["params"])
                raise IndexError(
                    f"expected an index of one of {count} candidates from the callable refit, received {index}"
                )
            self.best_index_ = index
        else:
            name = self.refit if self.multimetric_ else "score"
            self.best_index_ = int(self.cv_results_[f"rank_test_{name}"].argmin())
            self.best_score_ = self.cv_results_[f"mean_test_{name}"][self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _fingerprint(self, X: Any, y: Any, fit_params: dict) -> str:
        estimator = (type(self.estimator).__qualname__, self.estimator.get_params(deep=True))
        data = X.name if is_dask(X) else X
        scoring = scoring_marks(self.scoring)
        parts = (estimator, data, y, self._folds, scoring, self.return_train_score, str(self.error_score))
        given = {name: value.name if is_dask(value) else value for name, value in fit_params.items()}
        return str(joblib.hash((*parts, given)))


class GridSearchCV(_Searching, model_selection.GridSearchCV):
    """Try every combination of parameters."""

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        in_flight: int = 2,
        resume: Any = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            refit=refit,
            cv=cv,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.in_flight = in_flight
        self.resume = resume

    def _listed(self) -> Any:
        return model_selection.ParameterGrid(self.param_grid)


class RandomizedSearchCV(_Searching, model_selection.RandomizedSearchCV):
    """Try parameters drawn at random; for the same `random_state` those that scikit-learn draws."""

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        in_flight: int = 2,
        resume: Any = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            refit=refit,
            cv=cv,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.in_flight = in_flight
        self.resume = resume

    def _listed(self) -> Any:
        return model_selection.ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state)


def _part(estimator: Any, X: Any, y: Any, rows: np.ndarray, train: np.ndarray | None = None) -> tuple[Any, Any]:
    if not is_dask(X):
        part: tuple[Any, Any] = _safe_split(estimator, X, y, rows, train)
        return part
    order = np.sort(rows)
    return take_rows(X, order), None if y is None else take_rows(y, order)


def _aligned(value: Any, rows: np.ndarray, X: Any) -> Any:
    """Cut what has an entry for each row as `_part` cuts the rows."""
    if not hasattr(value, "__len__") and not hasattr(value, "shape"):
        return value
    if _num_samples(value) != _num_samples(X):
        return value
    return take_rows(collect(value) if is_dask(value) else value, np.sort(rows) if is_dask(X) else rows)


_GRID = "param_grid : dict of lists, or list of such"
_DRAWN = "param_distributions : dict of lists or distributions, or list of such\n    n_iter : int, default 10"
GridSearchCV.__doc__ = f"{GridSearchCV.__doc__}{PARAMETERS.format(grid=_GRID)}"
RandomizedSearchCV.__doc__ = f"{RandomizedSearchCV.__doc__}{PARAMETERS.format(grid=_DRAWN)}"
