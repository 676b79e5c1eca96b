"""Successive halving and Hyperband: the paper's arithmetic, what goes on, what is done again after a kill."""

from __future__ import annotations

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.metrics import get_scorer

from tasks import methods
from tasks.methods import selection
from tasks.methods.selection.advancing import Stream
from tasks.methods.selection.brackets import Rung, halving_rungs, hyperband_brackets

X, Y = load_digits(return_X_y=True)
SPACE = {"alpha": loguniform(1e-5, 1e2)}


def test_brackets__are_the_papers_table():
    """Table 1 of Li et al. (2018), R = 81 and eta = 3."""
    assert [[(rung.candidates, rung.calls) for rung in rungs] for rungs in hyperband_brackets(81, 3)] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@settings(max_examples=100, deadline=None)
@given(most=st.integers(1, 3000), factor=st.integers(2, 6))
def test_brackets__as_dask_ml(most, factor):
    from dask_ml.model_selection._hyperband import _get_hyperband_params

    found = {len(rungs) - 1: (rungs[0].candidates, rungs[0].calls) for rungs in hyperband_brackets(most, factor)}
    expected = _get_hyperband_params(most, factor)
    if len(found) == len(expected):  # its logarithm is a float: one bracket is lost at some powers
        assert found == expected
    else:
        assert factor ** (len(found) - 1) == most
    for rungs in hyperband_brackets(most, factor):
        assert rungs[-1].calls == most
        assert rungs[-1].candidates >= 1
    assert hyperband_brackets(243, 3)[0][0] == Rung(243, 1)


def test_rungs__of_halving():
    assert halving_rungs(10, 2, 20, 3) == [Rung(10, 2), Rung(3, 6), Rung(1, 18)]
    assert halving_rungs(100, 5, 20, 2) == [Rung(100, 5), Rung(50, 10), Rung(25, 20)]
    assert halving_rungs(1, 3, 100, 2) == [Rung(1, 3)]


def hyperband(estimator=None, space=SPACE, **options):
    estimator = estimator or SGDClassifier(random_state=0)
    return selection.HyperbandSearchCV(estimator, space, **{"max_resources": 9, "random_state": 0, **options})


def same(one, other):
    assert one.best_params_ == other.best_params_
    assert one.best_score_ == pytest.approx(other.best_score_, abs=1e-12)
    for key in ("bracket", "partial_fit_calls", "rank_test_score"):
        np.testing.assert_array_equal(one.cv_results_[key], other.cv_results_[key])
    np.testing.assert_allclose(one.cv_results_["test_score"], other.cv_results_["test_score"], atol=1e-12)


@pytest.mark.parametrize("kind", ["dask", "sparse", "labels"])
def test_hyperband__dask_as_numpy_whatever_the_chunks(kind):
    # On sparse rows SGD moves its intercept more slowly: another model.
    plain = hyperband(batch_rows=200).fit(sparse.csr_matrix(X) if kind == "sparse" else X, Y)
    labels = da.from_array(Y, 99) if kind == "labels" else Y
    for chunks in (1797, 150):
        lazy = da.from_array(X, (chunks, 30))
        if kind == "sparse":
            lazy = lazy.rechunk((chunks, 64)).map_blocks(
                sparse.csr_matrix, dtype=X.dtype, meta=sparse.csr_matrix((0, 0))
            )
        ours = hyperband(batch_rows=200, in_flight=3).fit(lazy, labels)
        same(ours, plain)
        assert isinstance(ours.predict(lazy), da.Array)
        np.testing.assert_array_equal(ours.predict(lazy).compute(), plain.predict(X))


def test_hyperband__trains_by_the_table_and_chooses_the_best():
    found = hyperband().fit(da.from_array(X, (300, 64)), Y)
    counts = {}
    for entry in found.history_:
        place = (entry["bracket"], entry["partial_fit_calls"])
        counts[place] = counts.get(place, 0) + 1
    assert counts == {(2, 1): 9, (2, 3): 3, (2, 9): 1, (1, 3): 5, (1, 9): 1, (0, 9): 3}
    results = found.cv_results_
    last = results["partial_fit_calls"] == 9
    assert found.best_score_ == results["test_score"][last].max()
    assert results["params"][found.best_index_] == found.best_params_
    assert found.best_estimator_.get_params()["alpha"] == found.best_params_["alpha"]
    assert found.best_score_ > 0.85
    # Who goes on is better than who stays.
    first = [entry for entry in found.history_ if entry["bracket"] == 2 and entry["rung"] == 0]
    on = {entry["candidate"] for entry in found.history_ if entry["bracket"] == 2 and entry["rung"] == 1}
    assert min(e["score"] for e in first if e["candidate"] in on) >= max(
        e["score"] for e in first if e["candidate"] not in on
    )


def test_halving__the_model_is_that_of_plain_calls():
    """The winner is what partial_fit over the same blocks in the same order gives."""
    search = selection.HalvingSearchCV(
        SGDClassifier(random_state=0), SPACE, n_candidates=4, max_resources=6, factor=2, batch_rows=100, random_state=1
    ).fit(X, Y)
    train, _ = search._split(X, Y, np.random.RandomState(1))
    model = SGDClassifier(random_state=0, **search.best_params_)
    calls = search.cv_results_["partial_fit_calls"][search.best_index_]
    assert calls == 4
    for call in range(calls):
        rows = train[100 * call : 100 * (call + 1)]
        model.partial_fit(X[rows], Y[rows], classes=np.arange(10))
    np.testing.assert_array_equal(search.best_estimator_.coef_, model.coef_)


class Told(BaseEstimator):
    """An object of a user: it knows its own score, and sometimes fails."""

    def __init__(self, value=0):
        self.value = value

    def partial_fit(self, X, y=None):
        if self.value == 3:
            raise RuntimeError("three")
        self.calls = getattr(self, "calls", 0) + 1
        return self

    def score(self, X, y=None):
        return self.value + 0.001 * self.calls


@pytest.mark.parametrize("lazy", [False, True])
def test_halving__any_object_and_failures(lazy):
    data = da.from_array(X, (300, 64)) if lazy else X
    search = selection.HalvingSearchCV(
        Told(), {"value": list(range(9))}, n_candidates=100, max_resources=9, random_state=0
    )
    with pytest.warns(FitFailedWarning, match="1 of 9 candidates failed.*RuntimeError: three"):
        search.fit(data)
    assert search.best_params_ == {"value": 8}
    assert search.best_score_ == pytest.approx(8.009)
    assert search.best_estimator_.calls == 9
    assert np.isnan(search.cv_results_["test_score"][[c["value"] == 3 for c in search.cv_results_["params"]]]).all()
    with pytest.raises(ValueError, match="all 1 candidates of bracket 0 failed"):
        selection.HalvingSearchCV(Told(), {"value": [3]}, random_state=0).fit(data)
    with pytest.raises(RuntimeError, match="three"):
        selection.HalvingSearchCV(Told(), {"value": [3]}, error_score="raise").fit(data)


@pytest.mark.parametrize(
    ("estimator", "space", "options"),
    [
        (SGDRegressor(random_state=0), {"alpha": [1e-4, 1e-2]}, {}),
        (SGDClassifier(random_state=0), {"alpha": [1e-4, 10.0]}, {"scoring": "f1_macro"}),
        (methods.MultinomialNB(), {"alpha": [0.1, 100.0]}, {}),
        (MiniBatchKMeans(10, random_state=0, n_init=1), {"max_no_improvement": [5, 10]}, {}),
    ],
    ids=["R2", "F1", "ours", "clusters"],
)
def test_halving__scores_of_dask_as_of_numpy(estimator, space, options):
    data, labels = load_diabetes(return_X_y=True) if isinstance(estimator, SGDRegressor) else (X, Y)
    options = {"max_resources": 4, "factor": 2, "random_state": 0, "batch_rows": 100, **options}
    plain = selection.HalvingSearchCV(estimator, space, **options).fit(data, labels)
    ours = selection.HalvingSearchCV(estimator, space, **options).fit(da.from_array(data, (70, 5)), labels)
    assert ours.best_params_ == plain.best_params_
    if not isinstance(estimator, MiniBatchKMeans):  # its score is a sum over the rows
        np.testing.assert_allclose(ours.cv_results_["test_score"], plain.cv_results_["test_score"], rtol=1e-9)


@pytest.mark.parametrize("lazy", [False, True])
def test_resume__goes_on_after_a_kill(tmp_path, monkeypatch, lazy):
    data = da.from_array(X, (300, 64), name="digits") if lazy else X
    whole = hyperband().fit(data, Y)
    advance, calls = Stream.advance, []

    def dying(self, state, begin, end, given):
        if len(calls) == 11:  # in the second rung of the first bracket
            raise KeyboardInterrupt
        calls.append((begin, end))
        return advance(self, state, begin, end, given)

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "advance", dying)
        with pytest.raises(KeyboardInterrupt):
            hyperband(resume=tmp_path, in_flight=1).fit(data, Y)
    with open(tmp_path / "fits.jsonl", "ab") as file:
        file.write(b'{"key": "half a line')
    calls.clear()
    with monkeypatch.context() as patched:
        patched.setattr(Stream, "advance", lambda self, *a: (calls.append((a[1], a[2])), advance(self, *a))[1])
        again = hyperband(resume=tmp_path, in_flight=1).fit(data, Y)
        assert (0, 1) not in calls, "a finished rung was done again"
        assert calls.count((1, 3)) == 1
        same(again, whole)
        calls.clear()
        same(hyperband(resume=tmp_path).fit(data, Y), whole)
        assert not calls
    for path in tmp_path.glob("model-*"):  # lost models are trained again
        path.unlink()
    same(lost := hyperband(resume=tmp_path).fit(data, Y), whole)
    np.testing.assert_array_equal(lost.best_estimator_.coef_, whole.best_estimator_.coef_)
    with pytest.raises(ValueError, match="found those of another"):
        hyperband(resume=tmp_path, random_state=1).fit(data, Y)


def test_halving__on_a_cluster():
    from distributed import Client

    lazy = da.from_array(X, (300, 64))
    plain = hyperband(max_resources=4, factor=2).fit(lazy, Y)
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0"):
        same(hyperband(max_resources=4, factor=2).fit(lazy, Y), plain)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"in_flight": 0}, ValueError, "expected in_flight as an integer of at least 1"),
        ({"factor": 1}, ValueError, "expected factor as an integer of at least 2"),
        ({"max_resources": 0}, ValueError, "expected max_resources"),
        ({"batch_rows": 0}, ValueError, "expected batch_rows"),
        ({"resume": "nowhere", "random_state": None}, ValueError, "expected an integer random_state with resume"),
        ({"estimator": methods.PCA()}, TypeError, "expected an estimator with partial_fit"),
        ({"scoring": ["accuracy", "f1_macro"]}, ValueError, "one score that decides who goes on"),
    ],
)
def test_fit__refuses(options, error, message):
    with pytest.raises(error, match=message):
        hyperband(**options).fit(X, Y)
    with pytest.raises(ValueError, match="as many labels as rows"):
        hyperband().fit(da.from_array(X), Y[:5])
    with pytest.raises(ValueError, match="min_resources of at most"):
        selection.HalvingSearchCV(Told(), {"value": [1]}, min_resources=9, max_resources=3).fit(X)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_search__has_what_the_best_offers(scoring):
    estimator = SGDClassifier(loss="log_loss", random_state=0)
    search = hyperband(estimator, scoring=scoring, batch_rows=200, max_resources=3)
    assert hasattr(search, "predict_log_proba")
    assert not hasattr(search, "transform")
    assert not hasattr(search, "classes_")
    assert not hasattr(search, "n_features_in_")
    with pytest.raises(NotFittedError):
        search.score(X, Y)
    search.fit(X, Y)
    best = search.best_estimator_
    assert search.n_features_in_ == 64
    np.testing.assert_array_equal(search.classes_, np.arange(10))
    expected = get_scorer(scoring)(best, X, Y) if scoring else best.score(X, Y)
    assert search.score(X, Y) == pytest.approx(expected)
    for chunks in (1797, 150):
        lazy = da.from_array(X, (chunks, 30))
        assert search.score(lazy, da.from_array(Y, 99)) == pytest.approx(expected, rel=1e-9)
        for word in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            found = getattr(search, word)(lazy)
            assert isinstance(found, da.Array)
            np.testing.assert_allclose(found, getattr(best, word)(X), rtol=1e-9, atol=1e-9)
    assert not hasattr(hyperband(), "predict_proba")  # of hinge loss


def test_search__of_regressors_and_of_transformers():
    data, target = load_diabetes(return_X_y=True)
    options = {"max_resources": 2, "random_state": 0, "batch_rows": 100}
    search = selection.HalvingSearchCV(SGDRegressor(random_state=0), {"alpha": [1e-4, 1e-2]}, **options)
    search.fit(data, target)
    expected = search.best_estimator_.score(data, target)
    assert search.score(da.from_array(data, (70, 5)), target) == pytest.approx(expected, rel=1e-9)
    space = {"max_no_improvement": [5, 10]}
    search = selection.HalvingSearchCV(MiniBatchKMeans(10, random_state=0, n_init=1), space, **options).fit(X)
    np.testing.assert_allclose(search.transform(da.from_array(X, (300, 64))), search.best_estimator_.transform(X))
    assert search.score(X) == pytest.approx(search.best_estimator_.score(X))
    assert not hasattr(search, "decision_function")
    assert not hasattr(search, "classes_")


def test_resume__scorers_are_told_apart(tmp_path):
    options = {"resume": tmp_path, "max_resources": 3}
    hyperband(scoring=get_scorer("f1_macro"), **options).fit(X, Y)
    hyperband(scoring=get_scorer("f1_macro"), **options).fit(X, Y)
    for another in (None, get_scorer("accuracy")):
        with pytest.raises(ValueError, match="found those of another"):
            hyperband(scoring=another, **options).fit(X, Y)


def test_resume__refuses_other_parameters_to_draw_from(tmp_path):
    hyperband(resume=tmp_path, max_resources=3).fit(X, Y)
    with pytest.raises(ValueError, match="found those of another"):
        hyperband(space={"alpha": loguniform(1e-5, 1e1)}, resume=tmp_path, max_resources=3).fit(X, Y)
