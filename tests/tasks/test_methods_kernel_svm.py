"""Kernel SVC against scikit-learn's (libsvm), on NumPy and Dask arrays in any chunks."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from dask.utils import key_split
from distributed.diagnostics.plugin import SchedulerPlugin
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn import svm
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics.pairwise import rbf_kernel

from tasks import methods
from tasks.methods.kernel_svm import gathering, rounds, svc
from tasks.methods.kernel_svm.gathering import tiles
from tasks.methods.kernel_svm.pairs import Gate, pairs_of


def scaled(load):
    X, y = load(return_X_y=True)
    return X / X.std(), y


DATA = {
    "digits": scaled(lambda **k: tuple(part[:600] for part in load_digits(**k))),
    "wine": scaled(load_wine),
    "cancer": scaled(load_breast_cancer),
}
CASES = [
    {},
    {"C": 10, "kernel": "poly", "coef0": 1.0},
    {"kernel": "linear", "C": 0.1},
    {"kernel": "sigmoid", "gamma": 0.01},
    {"class_weight": "balanced", "gamma": "auto"},
]


@pytest.fixture(autouse=True)
def own_solver(monkeypatch):
    monkeypatch.setattr(svc, "OWN_ROWS", 0)


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.parametrize("data", DATA)
def test_fit__as_scikit_learn(data, options):
    X, y = DATA[data]
    # Both at a tolerance that leaves only rounding between two optima of one problem.
    options = {**options, "tol": 1e-9, "decision_function_shape": "ovo"}
    expected = svm.SVC(**options).fit(X, y)
    lazy = da.from_array(X, (100, 3))
    for ours, rows in ((methods.SVC(**options).fit(X, y), X), (methods.SVC(**options).fit(lazy, y), lazy)):
        assert ours.violation_.max() <= 1e-9
        assert np.abs(ours.dual_gap_).max() < 1e-7
        assert ours.dual_coef_.shape == (len(expected.n_support_) - 1, len(ours.support_))
        np.testing.assert_array_equal(ours.support_vectors_, X[ours.support_])
        np.testing.assert_allclose(ours.decision_function(rows), expected.decision_function(X), rtol=1e-6, atol=5e-7)
        np.testing.assert_array_equal(np.asarray(ours.predict(rows)), expected.predict(X))


@pytest.mark.parametrize("tol", [1e-1, 1e-3, 1e-5])
def test_fit__the_dual_gap_is_that_of_the_solution(tol):
    """Primal less dual objective, from the definition, of two classes."""
    X, y = DATA["cancer"]
    ours = methods.SVC(C=2.0, gamma=0.5, tol=tol).fit(da.from_array(X, (100, 3)), y)
    kernel = rbf_kernel(ours.support_vectors_, gamma=0.5)
    alpha = ours.dual_coef_[0]
    square = alpha @ kernel @ alpha
    hinge = np.maximum(0, 1 - np.where(y == 1, 1, -1) * np.asarray(ours.decision_function(X))).sum()
    primal, dual = square / 2 + 2.0 * hinge, np.abs(alpha).sum() - square / 2
    assert ours.dual_gap_[0] == pytest.approx(primal - dual, abs=1e-6 * primal)
    assert -1e-9 < ours.dual_gap_[0] / primal < tol


@pytest.mark.parametrize("data", DATA)
def test_coef__as_scikit_learn(data):
    X, y = DATA[data]
    options = {"kernel": "linear", "C": 0.1, "tol": 1e-9, "decision_function_shape": "ovo"}
    expected = svm.SVC(**options).fit(X, y)
    for chunks in (None, 100, 37):
        ours = methods.SVC(**options).fit(X if chunks is None else da.from_array(X, (chunks, 3)), y)
        assert ours.coef_.shape == expected.coef_.shape
        np.testing.assert_allclose(ours.coef_, expected.coef_, rtol=1e-6, atol=1e-7)
        decided = X @ ours.coef_.T + ours.intercept_
        np.testing.assert_allclose(ours.decision_function(X), decided.squeeze(), rtol=1e-9, atol=1e-9)
        with pytest.raises(ValueError, match="read-only"):
            ours.coef_[0] = 0
    few = methods.SVC(**options).fit(sparse.csr_matrix(X), y)
    np.testing.assert_allclose(few.coef_, expected.coef_, rtol=1e-6, atol=1e-7)


def test_coef__of_other_kernels_there_is_none():
    X, y = DATA["wine"]
    ours = methods.SVC().fit(X, y)
    assert not hasattr(ours, "coef_")
    with pytest.raises(AttributeError, match="expected kernel 'linear' for coef_, received 'rbf'"):
        _ = ours.coef_
    with pytest.raises(NotFittedError):
        _ = methods.SVC(kernel="linear").coef_


@pytest.mark.parametrize("data", DATA)
def test_decision_function__ranks_classes_as_scikit_learn(data):
    X, y = DATA[data]
    # Fitted by scikit-learn: what is compared is the decision alone.
    svc.OWN_ROWS = 10_000
    ours, expected = methods.SVC(break_ties=True).fit(X, y), svm.SVC(break_ties=True).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X), expected.decision_function(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(ours.predict(X), expected.predict(X))


def test_fit__weights_of_rows():
    X, y = DATA["wine"]
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    expected = svm.SVC(tol=1e-6, decision_function_shape="ovo").fit(X, y, weights)
    ours = methods.SVC(tol=1e-6, decision_function_shape="ovo").fit(da.from_array(X, (20, 13)), y, weights)
    np.testing.assert_allclose(ours.decision_function(X), expected.decision_function(X), atol=1e-4)


def test_fit__by_tiles_when_memory_is_short(monkeypatch):
    X, y = DATA["digits"]
    lazy = da.from_array(X, (100, 64))
    whole = methods.SVC().fit(lazy, y)
    monkeypatch.setattr(svc, "CACHE_FRACTION", 1e-9)
    tiled = methods.SVC().fit(lazy, y)
    np.testing.assert_array_equal(tiled.support_, whole.support_)
    np.testing.assert_array_equal(tiled.dual_coef_, whole.dual_coef_)


@pytest.mark.parametrize("options", [{"C": 1.0}, {"C": 5.0, "kernel": "linear"}], ids=str)
@pytest.mark.parametrize("data", ["cancer", "wine"])
def test_fit__by_rounds_what_no_worker_can_hold(monkeypatch, data, options):
    X, y = DATA[data]
    X = X / X.std(axis=0)
    weights = np.random.default_rng(0).integers(0, 4, len(y)).astype(float)
    options = {**options, "tol": 1e-5}
    whole = methods.SVC(**options).fit(da.from_array(X, (100, 3)), y, weights)
    capacity = int(np.sort(whole.n_support_)[-2:].sum()) + 10
    passes = []
    check = rounds.judge
    monkeypatch.setattr(rounds, "judge", lambda *a: passes.append(1) or check(*a))
    monkeypatch.setattr(gathering, "rows_for", lambda *_: capacity)
    for chunks in (100, 37):
        ours = methods.SVC(**options).fit(da.from_array(X, (chunks, 3)), y, weights)
        assert passes
        assert ours.violation_.max() <= 1e-5
        assert abs(ours.dual_gap_).max() < 1e-3
        np.testing.assert_allclose(ours.decision_function(X), whole.decision_function(X), rtol=1e-4, atol=1e-4)


def test_fit__says_when_support_vectors_do_not_fit_into_a_worker(monkeypatch):
    monkeypatch.setattr(gathering, "rows_for", lambda *_: 20)
    X, y = DATA["cancer"]
    with pytest.raises(MemoryError, match=r"have 569 rows and more than .* has memory for 20 rows.*Nystroem"):
        methods.SVC(C=0.01).fit(da.from_array(X, (100, 30)), y)


def test_fit__says_when_workers_are_too_small(monkeypatch):
    monkeypatch.setattr(svc, "WORKER_FRACTION", 1e-9)
    with pytest.raises(MemoryError, match=r"expected workers with .* the smallest has"):
        methods.SVC().fit(da.ones((600, 30)), np.arange(600) % 2)


def test_gate__lets_in_what_fits_and_one_alone():
    gate, most, lock = Gate(), [], threading.Lock()

    def work(bytes_):
        with gate.held(bytes_, 10):
            with lock:
                most.append(gate.used)
            threading.Event().wait(0.005)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, [4, 4, 4, 25, 3, 9, 4, 30, 2]))
    assert gate.used == 0
    assert all(used <= 10 or used in (25, 30) for used in most)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_fit__any_data(data):
    """Duplicates, also with different labels, constant columns, weights: scikit-learn's decisions."""
    count = data.draw(st.integers(3, 25))
    X = data.draw(arrays(np.float64, (count, data.draw(st.integers(1, 3))), elements=st.integers(-2, 2)))
    y = data.draw(arrays(np.int64, count, elements=st.integers(0, 2)))
    lazy = da.from_array(X, (data.draw(st.integers(1, count)), 1))
    options = {
        "gamma": 0.5,
        "tol": 1e-6,
        "decision_function_shape": "ovo",
        "C": data.draw(st.sampled_from([0.1, 1, 50])),
    }
    if len(set(y)) == 1:
        with pytest.raises(ValueError, match="number of classes has to be greater than one"):
            methods.SVC(**options).fit(lazy, y)
        return
    expected = svm.SVC(**options).fit(X, y)
    ours = methods.SVC(**options).fit(lazy, y)
    assert ours.violation_.max() <= 1e-6
    both = ours.decision_function(X) - expected.decision_function(X)
    free = np.abs(ours.dual_coef_).max() < options["C"]
    # With every coefficient at its bound the offset is any of an interval.
    np.testing.assert_allclose(both if free else both - both.mean(axis=0), 0, atol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_fit__refuses_what_is_not_finite(value):
    X, y = DATA["wine"]
    broken = X.copy()
    broken[150, 3] = value
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        methods.SVC().fit(broken, y)
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        methods.SVC().fit(X, y).predict(broken)


@pytest.mark.parametrize("wrap", [np.asarray, da.asarray])
def test_fit__refuses_one_class(wrap):
    X, _ = DATA["wine"]
    with pytest.raises(ValueError, match="number of classes has to be greater than one; got 1 class"):
        methods.SVC().fit(wrap(X), np.ones(len(X)))


@pytest.mark.parametrize("budget", [0, 2, 3, 4, 6, 100])
@pytest.mark.parametrize("classes", [2, 3, 5, 8])
def test_tiles__every_pair_once(classes, budget):
    found = [pair for tile in tiles(np.ones(classes), budget) for pair in tile]
    assert sorted(found) == pairs_of(classes)


def test_fit__says_when_it_ends_early():
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        methods.SVC(max_iter=2).fit(*DATA["cancer"])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel": "precomputed"}, "expected kernel"), ({"C": 0}, "expected C"), ({"gamma": -1.0}, "expected gamma")],
)
def test_fit__refuses(options, message):
    with pytest.raises(ValueError, match=message):
        methods.SVC(**options).fit(*DATA["wine"])
    with pytest.raises(ValueError, match="greater than one"):
        methods.SVC().fit(da.ones((5, 2)), np.zeros(5))


@pytest.mark.chaos
@pytest.mark.timeout(400)  # processes that load every library, on a machine that may be busy
@pytest.mark.parametrize("capacity", [None, 60])
def test_fit__a_worker_is_killed_between_its_pairs(monkeypatch, capacity):
    """What it held, rows of classes and solved pairs, is made again; the result is the same to the last bit."""
    X, y = DATA["digits"]
    lazy = da.from_array(X, (100, 64))
    few = y < 3 if capacity else y < 10
    if capacity:
        monkeypatch.setattr(gathering, "rows_for", lambda *_: capacity)
        X, y = X[few], y[few]
        lazy = da.from_array(X, (40, 64))
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    undisturbed = methods.SVC().fit(lazy, y)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 10}),
        distributed.LocalCluster(**options, memory_limit="1GB") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        client.as_current(),
    ):
        killer = Killer(client.run(os.getpid), "SVC.solve")
        cluster.scheduler.add_plugin(killer, name="killer")
        ours = methods.SVC().fit(lazy, y)
        assert killer.killed
    np.testing.assert_array_equal(ours.support_, undisturbed.support_)
    np.testing.assert_array_equal(ours.dual_coef_, undisturbed.dual_coef_)
    np.testing.assert_array_equal(ours.intercept_, undisturbed.intercept_)


class Killer(SchedulerPlugin):
    """Kills the worker that is the first to end a task of some name."""

    def __init__(self, processes: dict[str, int], task: str) -> None:
        self.processes, self.task, self.killed = processes, task, False

    def transition(self, key, start, finish, *args, **kwargs):
        if not self.killed and start == "processing" and finish == "memory" and key_split(key) == self.task:
            self.killed = True
            os.kill(self.processes[kwargs["worker"]], signal.SIGKILL)
