"""Splits and searches against scikit-learn's; a search that is killed goes on where it was."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn import model_selection as reference
from sklearn.datasets import load_wine
from sklearn.exceptions import FitFailedWarning
from sklearn.metrics import get_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from tasks import methods
from tasks.methods import selection

X, Y = load_wine(return_X_y=True)
GRID = {"var_smoothing": [1e-9, 1e-3, 1e-1, 1.0]}


@pytest.mark.parametrize("name", ["KFold", "StratifiedKFold"])
@pytest.mark.parametrize("chunks", [7, 50, 200])
def test_folds__as_scikit_learn_whatever_the_chunks(name, chunks):
    ours = getattr(selection, name)(4, shuffle=True, random_state=3)
    expected = getattr(reference, name)(4, shuffle=True, random_state=3).split(X, Y)
    lazy, labels = da.from_array(X, (chunks, 5)), da.from_array(Y, 30)
    counts = []
    for (train, test), (train_expected, test_expected) in zip(ours.split(lazy, labels), expected, strict=True):
        np.testing.assert_array_equal(train, train_expected)
        np.testing.assert_array_equal(test, test_expected)
        picked = selection.take_rows(lazy, test)
        assert not np.isnan(picked.shape).any()
        np.testing.assert_array_equal(picked, X[test])
        counts.append(np.bincount(Y[test], minlength=3))
    if name == "StratifiedKFold":
        assert np.ptp(counts, axis=0).max() <= 1


def test_train_test_split__picks_scikit_learns_rows_in_order():
    lazy = da.from_array(X, (40, 13))
    parts = selection.train_test_split(lazy, Y, stratify=da.from_array(Y, 9), random_state=1)
    rows = [np.sort(part) for part in reference.train_test_split(np.arange(len(Y)), stratify=Y, random_state=1)]
    for found, expected in zip(parts, [X[rows[0]], X[rows[1]], Y[rows[0]], Y[rows[1]]], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert isinstance(parts[0], da.Array)
    for found, expected in zip(
        selection.train_test_split(X, Y, random_state=1), reference.train_test_split(X, Y, random_state=1), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"stratify": Y}, {"test_size": 30}], ids=str)
def test_train_test_split__reads_no_block_until_it_is_needed(options):
    read = []

    def block(rows, block_info=None):
        read.append(block_info[0]["chunk-location"][0])
        return rows

    data = da.from_array(X, (40, 13)).map_blocks(block, dtype=X.dtype, meta=np.empty((0, 0)))
    read.clear()
    train, test, *_ = selection.train_test_split(data, da.from_array(Y, 30), random_state=1, **options)
    assert not read, "a block was read"
    assert isinstance(train, da.Array)
    assert isinstance(test, da.Array)
    assert len(train) + len(test) == len(X)
    test.compute()
    assert read


def test_take_rows__refuses():
    lazy = da.from_array(X, (40, 13))
    with pytest.raises(ValueError, match="increasing row numbers"):
        selection.take_rows(lazy, np.array([3, 2]))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        selection.take_rows(lazy[lazy[:, 0] > 12], np.array([1]))
    with pytest.raises(ValueError, match="of one length"):
        selection.train_test_split(lazy, Y[:5])


def agree(ours, theirs):
    """Everything but the times."""
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for key, values in theirs.cv_results_.items():
        if key.endswith(("test_score", "train_score")):
            np.testing.assert_allclose(ours.cv_results_[key], values, rtol=1e-9, err_msg=key)
    assert ours.cv_results_["params"] == theirs.cv_results_["params"]
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_index_ == theirs.best_index_
    assert ours.best_score_ == pytest.approx(theirs.best_score_)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("scoring", [None, "f1_macro"])
def test_grid__as_scikit_learn(lazy, scoring):
    options = {"cv": 3, "return_train_score": True, "scoring": scoring}
    theirs = reference.GridSearchCV(GaussianNB(), GRID, **options).fit(X, Y)
    data = da.from_array(X, (50, 13)) if lazy else X
    ours = selection.GridSearchCV(methods.GaussianNB(), GRID, **options).fit(data, Y)
    agree(ours, theirs)
    np.testing.assert_array_equal(ours.predict(data), theirs.predict(X))
    assert ours.score(data, Y) == pytest.approx(theirs.score(X, Y))


def test_grid__of_a_pipeline_on_a_cluster(workers):
    grid = {"gaussiannb__var_smoothing": [1e-9, 1.0], "standardscaler__with_mean": [True, False]}
    theirs = reference.GridSearchCV(make_pipeline(methods.StandardScaler(), GaussianNB()), grid).fit(X, Y)
    with workers.as_current():
        pipeline = make_pipeline(methods.StandardScaler(), methods.GaussianNB())
        ours = selection.GridSearchCV(pipeline, grid, in_flight=3).fit(da.from_array(X, (50, 13)), Y)
    agree(ours, theirs)


def test_randomized__draws_as_scikit_learn():
    drawn = {"var_smoothing": loguniform(1e-9, 1.0)}
    theirs = reference.RandomizedSearchCV(GaussianNB(), drawn, n_iter=5, random_state=2).fit(X, Y)
    ours = selection.RandomizedSearchCV(methods.GaussianNB(), drawn, n_iter=5, random_state=2)
    agree(ours.fit(da.from_array(X, (50, 13)), Y), theirs)


def test_search__counts_failures():
    grid = {"var_smoothing": [1e-9, -1.0]}
    with pytest.warns(FitFailedWarning, match="5 of 10 fits failed"):
        ours = selection.GridSearchCV(GaussianNB(), grid, error_score=0.0).fit(X, Y)
    assert ours.best_params_ == {"var_smoothing": 1e-9}
    with pytest.raises(ValueError, match="var_smoothing"):
        selection.GridSearchCV(GaussianNB(), grid, error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="all 5 fits failed"):
        selection.GridSearchCV(GaussianNB(), {"var_smoothing": [-1.0]}).fit(X, Y)
    with pytest.raises(ValueError, match="in_flight of at least 1"):
        selection.GridSearchCV(GaussianNB(), GRID, in_flight=0).fit(X, Y)


def test_resume__does_only_what_is_missing(tmp_path):
    first = selection.GridSearchCV(GaussianNB(), GRID, resume=tmp_path / "search").fit(X, Y)
    path = tmp_path / "search" / "fits.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 20
    path.write_bytes(b"".join(lines[:8]) + lines[8][:10])  # killed while it wrote
    again = selection.GridSearchCV(GaussianNB(), GRID, resume=tmp_path / "search").fit(X, Y)
    agree(again, first)
    assert path.read_bytes().splitlines(keepends=True)[:8] == lines[:8]
    assert len(path.read_bytes().splitlines()) == 21
    with pytest.raises(ValueError, match="found those of another"):
        selection.GridSearchCV(GaussianNB(), GRID, cv=3, resume=tmp_path / "search").fit(X, Y)


SEVERAL = {"accuracy": "accuracy", "loss": "neg_log_loss", "own": None, "f1": get_scorer("f1_macro")}


@pytest.mark.parametrize("chunks", [None, 50, 178])
@pytest.mark.parametrize("scoring", [["accuracy", "f1_macro", "roc_auc_ovr"], ("f1_macro",), SEVERAL], ids=str)
def test_grid__several_scores_as_scikit_learn(chunks, scoring):
    refit = list(scoring)[-1]
    options = {"cv": 3, "return_train_score": True, "scoring": scoring, "refit": refit}
    theirs = reference.GridSearchCV(GaussianNB(), GRID, **options).fit(X, Y)
    data = X if chunks is None else da.from_array(X, (chunks, 13))
    ours = selection.GridSearchCV(methods.GaussianNB(), GRID, **options).fit(data, Y)
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for key, values in theirs.cv_results_.items():
        if "_test_" in key or "_train_" in key:
            np.testing.assert_allclose(ours.cv_results_[key], values, rtol=1e-9, err_msg=key)
    assert (ours.best_index_, ours.best_params_) == (theirs.best_index_, theirs.best_params_)
    assert ours.best_score_ == pytest.approx(theirs.best_score_)
    assert ours.multimetric_
    assert set(ours.scorer_) == set(theirs.scorer_)
    assert ours.score(data, Y) == pytest.approx(theirs.score(X, Y))
    unchosen = selection.GridSearchCV(methods.GaussianNB(), GRID, **{**options, "refit": False}).fit(data, Y)
    assert not hasattr(unchosen, "best_index_")
    chosen = selection.GridSearchCV(methods.GaussianNB(), GRID, **{**options, "refit": lambda results: 2}).fit(data, Y)
    assert chosen.best_params_ == GRID_ROWS[2]
    assert not hasattr(chosen, "best_score_")


GRID_ROWS = list(reference.ParameterGrid(GRID))


class Counted(GaussianNB):
    asked: ClassVar[list[str]] = []

    def predict_proba(self, X):
        self.asked.append("predict_proba")
        return super().predict_proba(X)


def test_grid__several_scores_ask_once_weigh_and_count_failures():
    Counted.asked.clear()
    scoring = ["neg_log_loss", "roc_auc_ovr"]
    options = {"cv": 2, "scoring": scoring, "refit": False}
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    ours = selection.GridSearchCV(Counted(), {}, **options).fit(X, Y, sample_weight=weights)
    assert Counted.asked == ["predict_proba"] * 2
    theirs = reference.GridSearchCV(GaussianNB(), {}, **options).fit(X, Y, sample_weight=weights)
    for name in scoring:
        np.testing.assert_allclose(ours.cv_results_[f"mean_test_{name}"], theirs.cv_results_[f"mean_test_{name}"])
    grid = {"var_smoothing": [1e-9, -1.0]}
    with pytest.warns(FitFailedWarning, match="2 of 4 fits failed"):
        ours = selection.GridSearchCV(GaussianNB(), grid, error_score=-7.0, **options).fit(X, Y)
    assert [ours.cv_results_[f"mean_test_{name}"][1] for name in scoring] == [-7.0, -7.0]


def test_grid__a_callable_gives_several_scores():
    def both(model, X, y):
        return {"right": model.score(X, y), "wrong": 1 - model.score(X, y)}

    options = {"cv": 3, "scoring": both, "refit": "wrong"}
    ours = selection.GridSearchCV(methods.GaussianNB(), GRID, **options).fit(X, Y)
    theirs = reference.GridSearchCV(GaussianNB(), GRID, **options).fit(X, Y)
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    assert ours.best_params_ == theirs.best_params_
    assert ours.score(X, Y) == pytest.approx(theirs.score(X, Y))


class NeverFitted(GaussianNB):
    def fit(self, X, y):
        raise AssertionError("it was fitted")


@pytest.mark.parametrize(
    ("scoring", "refit", "message"),
    [
        (["accuracy", "f1_macro"], True, "refit of several scores as one of their names .'accuracy', 'f1_macro'."),
        (["accuracy", "f1_macro"], "roc_auc", "received 'roc_auc'"),
        (["accuracy", "accuracy"], "accuracy", "list of distinct names"),
        ([], False, "list of distinct names"),
        ([get_scorer("accuracy")], False, "list of distinct names"),
        (7, True, "expected scoring as None, a name"),
        ({"a": "no such score"}, "a", "no such score"),
    ],
)
def test_grid__refuses_scores_before_any_fit(scoring, refit, message):
    search = selection.GridSearchCV(NeverFitted(), GRID, scoring=scoring, refit=refit, error_score="raise")
    with pytest.raises(ValueError, match=message):
        search.fit(X, Y)


def test_grid__a_callable_refit_is_checked():
    with pytest.raises(TypeError, match="expected an integer from the callable refit"):
        selection.GridSearchCV(GaussianNB(), GRID, refit=lambda results: "best").fit(X, Y)
    with pytest.raises(IndexError, match="one of 4 candidates"):
        selection.GridSearchCV(GaussianNB(), GRID, refit=lambda results: 4).fit(X, Y)


@pytest.mark.parametrize("scoring", [None, ["accuracy", "f1_macro"]])
def test_resume__another_grid_does_only_its_new_fits(tmp_path, scoring):
    options = {"resume": tmp_path, "scoring": scoring, "refit": "f1_macro" if scoring else True}
    selection.GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1e-3, 1.0]}, **options).fit(X, Y)
    first = (tmp_path / "fits.jsonl").read_bytes()
    grid = {"var_smoothing": [1e-1, 1e-3, 1e-9]}
    again = selection.GridSearchCV(GaussianNB(), grid, **options).fit(X, Y)
    whole = (tmp_path / "fits.jsonl").read_bytes()
    assert whole.startswith(first)
    assert len(whole.splitlines()) == len(first.splitlines()) + 5
    fresh = selection.GridSearchCV(GaussianNB(), grid, **{**options, "resume": None}).fit(X, Y)
    for key, values in fresh.cv_results_.items():
        if "_test_" in key:
            np.testing.assert_array_equal(again.cv_results_[key], values)
    assert again.best_params_ == fresh.best_params_
    with pytest.raises(ValueError, match="found those of another"):
        selection.GridSearchCV(GaussianNB(), grid, scoring="neg_log_loss", resume=tmp_path).fit(X, Y)


@pytest.mark.parametrize("scoring", [get_scorer("f1_macro"), {"score": get_scorer("f1_macro")}], ids=["one", "dict"])
def test_resume__scorers_are_told_apart(tmp_path, scoring):
    options = {"resume": tmp_path, "refit": "score" if isinstance(scoring, dict) else True}
    first = selection.GridSearchCV(GaussianNB(), GRID, scoring=scoring, **options).fit(X, Y)
    again = selection.GridSearchCV(GaussianNB(), GRID, scoring=scoring, **options).fit(X, Y)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], first.cv_results_["mean_test_score"])
    other = get_scorer("accuracy")
    for another in (None, {"score": other} if isinstance(scoring, dict) else other):
        with pytest.raises(ValueError, match="found those of another"):
            selection.GridSearchCV(GaussianNB(), GRID, scoring=another, resume=tmp_path, refit=False).fit(X, Y)


SCRIPT = """
import sys, time
from pathlib import Path
from sklearn.datasets import load_wine
from sklearn.naive_bayes import GaussianNB
from tasks.methods import selection

class Slow(GaussianNB):
    def fit(self, X, y):
        time.sleep(0.1)
        with open(sys.argv[2], "a") as file:
            file.write(".")
        return super().fit(X, y)

grid = {"var_smoothing": [10.0**-i for i in range(8)]}
search = selection.GridSearchCV(Slow(), grid, in_flight=1, resume=sys.argv[1]).fit(*load_wine(return_X_y=True))
print(search.best_params_)
"""


def test_resume__after_a_kill(tmp_path):
    """Nothing that was finished is done again."""
    script, fits, log = tmp_path / "search.py", tmp_path / "folder", tmp_path / "log"
    script.write_text(SCRIPT)
    root = str(Path(selection.__file__).parents[3])
    command = [sys.executable, str(script), str(fits), str(log)]
    process = subprocess.Popen(command, env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"})
    path = fits / "fits.jsonl"
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_bytes().splitlines()) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    finished = len([line for line in path.read_bytes().split(b"\n")[:-1] if "key" in json.loads(line)])
    before = len(log.read_text())
    subprocess.run(command, env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"}, check=True, capture_output=True)
    assert 5 <= finished < 40
    # One fit may have been under way; the last is the refit.
    assert len(log.read_text()) - before == 40 - finished + 1


@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_search__accuracy_of_dask_brings_no_predictions_here(monkeypatch, scoring):
    def refuse(*args, **kwargs):
        raise AssertionError("predictions were brought here")

    model = make_pipeline(methods.StandardScaler(), methods.GaussianNB())
    search = selection.GridSearchCV(model, {"gaussiannb__var_smoothing": [1e-9, 1.0]}, cv=3, scoring=scoring)
    monkeypatch.setattr(da.Array, "__array__", refuse)
    search.fit(da.from_array(X, (40, 13)), Y)
    monkeypatch.undo()
    assert search.best_score_ == pytest.approx(search.fit(X, Y).best_score_, abs=1e-12)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_grid__weights_count_in_the_scores(lazy, scoring):
    """As from scikit-learn 1.9 on; folds that are not in order, too."""
    random = np.random.default_rng(0)
    weights = random.integers(0, 4, len(X)).astype(float)
    folds = list(reference.ShuffleSplit(3, random_state=0).split(X))
    ours = methods.GridSearchCV(methods.GaussianNB(), {"var_smoothing": [1e-9, 1e-1]}, scoring=scoring, cv=folds)
    data = da.from_array(X, (100, X.shape[1])) if lazy else X
    ours.set_params(return_train_score=True).fit(data, Y, sample_weight=weights)
    score = get_scorer(scoring or "accuracy")
    for word, rows in (("test", 1), ("train", 0)):
        for number, fold in enumerate(folds):
            model = GaussianNB(var_smoothing=1e-1).fit(X[fold[0]], Y[fold[0]], weights[fold[0]])
            expected = score(model, X[fold[rows]], Y[fold[rows]], sample_weight=weights[fold[rows]])
            np.testing.assert_allclose(ours.cv_results_[f"split{number}_{word}_score"][1], expected, rtol=1e-9)


def test_grid__says_that_a_score_has_no_weights():
    search = methods.GridSearchCV(methods.GaussianNB(), {}, scoring=lambda model, X, y: 0.0)
    with pytest.warns(UserWarning, match="does not support sample_weight"):
        search.fit(X, Y, sample_weight=np.ones(len(X)))
