"""Methods on a distributed cluster: names, CPU workers only, nothing gathered, nothing left behind, several at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
from dask.sizeof import sizeof
from dask.utils import key_split
from distributed import Client, Scheduler, SpecCluster, Worker
from distributed.diagnostics.plugin import SchedulerPlugin
from sklearn import preprocessing, svm
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from tasks import methods
from tasks.methods import blocks as blocks_module
from tasks.methods.blocks import collect, open_blocks
from tasks.methods.execution import Scheduled, label, scheduled_engine
from tasks.methods.trees.levels import row_bytes

X, Y = (part[:1000] for part in load_digits(return_X_y=True))
X = X.astype(np.float32)

MAKERS = {
    "KNeighborsClassifier": lambda: methods.KNeighborsClassifier(3),
    "LinearSVC": lambda: methods.LinearSVC(C=1e-4, tol=0.01),
    "PCA": lambda: methods.PCA(5),
    "IncrementalPCA": lambda: methods.IncrementalPCA(5),
    "TruncatedSVD": lambda: methods.TruncatedSVD(2, n_iter=12, random_state=0),
    "MDS": lambda: methods.MDS(n_landmarks=40, random_state=0),
    "LocallyLinearEmbedding": lambda: methods.LocallyLinearEmbedding(n_neighbors=15, sample=100, random_state=0),
    "KMeans": lambda: methods.KMeans(10, random_state=0),
    "MiniBatchKMeans": lambda: methods.MiniBatchKMeans(10, batch_size=20, random_state=0),
    "AgglomerativeClustering": lambda: methods.AgglomerativeClustering(5, linkage="single"),
    "GaussianMixture": lambda: methods.GaussianMixture(3, covariance_type="diag", reg_covar=0.1, random_state=0),
    "DBSCAN": lambda: methods.DBSCAN(eps="auto"),
    "HDBSCAN": lambda: methods.HDBSCAN(min_samples=3),
    "SpectralClustering": lambda: methods.SpectralClustering(3, gamma=1e-3, sample=60, random_state=0),
    "StandardScaler": lambda: methods.StandardScaler(),
    "MinMaxScaler": lambda: methods.MinMaxScaler(),
    "MaxAbsScaler": lambda: methods.MaxAbsScaler(),
    "GaussianNB": lambda: methods.GaussianNB(var_smoothing=1e-3),
    "MultinomialNB": lambda: methods.MultinomialNB(),
    "BernoulliNB": lambda: methods.BernoulliNB(),
    "KNeighborsRegressor": lambda: methods.KNeighborsRegressor(3),
    "LinearRegression": lambda: methods.LinearRegression(),
    "Ridge": lambda: methods.Ridge(),
    "Lasso": lambda: methods.Lasso(tol=1e-6),
    "LogisticRegression": lambda: methods.LogisticRegression(C=0.01),
    "SVC": lambda: methods.SVC(tol=1e-4),
    "Nystroem": lambda: methods.Nystroem(gamma=1e-3, n_components=50, random_state=0),
    "RBFSampler": lambda: methods.RBFSampler(gamma="scale", n_components=50, random_state=0),
    "DecisionTreeClassifier": lambda: methods.DecisionTreeClassifier(max_depth=6, random_state=0),
    "DecisionTreeRegressor": lambda: methods.DecisionTreeRegressor(max_depth=6, random_state=0),
    "RandomForestClassifier": lambda: methods.RandomForestClassifier(4, max_depth=6, random_state=0),
    "RandomForestRegressor": lambda: methods.RandomForestRegressor(4, max_depth=6, random_state=0),
}


REPEATED = {"search", "hessian", "assign", "span", "step", "link", "moments", "count", "neighbors", "grow"}
"""Phases that always have more than one task."""


class Log(SchedulerPlugin):
    """Which task ran where, and which are known."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

    def transition(self, key, start, finish, *args, **kwargs):
        if start == "processing" and finish == "memory":
            self.ran.append((key_split(key), kwargs["worker"]))


def spec(**resources):
    # In this process: no start-up time, and the tests can look inside.
    options = {"nthreads": 2, "resources": resources, "memory_limit": "2GB"}
    return {"cls": Worker, "options": options}


@contextmanager
def running(**workers):
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "protocol": "inproc://"}}
    with (
        SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(len(workers))
        yield client, cluster


@contextmanager
def logged(client, cluster):
    plugin = Log()
    cluster.scheduler.add_plugin(plugin, name="test log")
    with client.as_current():
        yield plugin
    cluster.scheduler.remove_plugin("test log")


@pytest.fixture(scope="module")
def cluster():
    """One worker for CPU tasks, one for GPU tasks only."""
    with running(a=spec(CPU=2), b=spec(GPU=1)) as both:
        yield both


@pytest.fixture
def log(cluster):
    with logged(*cluster) as plugin:
        yield plugin


SQUARE = {"HDBSCAN", "PCA", "LinearSVC", "LinearRegression", "Ridge", "Lasso", "LogisticRegression"}
"""These send d x d matrices, or several neighbours of each row."""


def use(method, X=X, y=Y):
    """Fit on Dask and use what comes of it; return that in this process."""
    method.fit(X, y)
    for word in ("predict", "transform"):
        if hasattr(method, word):
            return collect(getattr(method, word)(X), word, type(method).__name__)
    return collect(method.labels_, "labels", type(method).__name__)


@pytest.mark.parametrize("name", MAKERS)
def test_methods__named_tasks_on_cpu_workers_give_the_result_of_numpy(cluster, log, name):
    found = use(MAKERS[name](), da.from_array(X, (200, 40)))
    # Of an array in memory mini-batches are scikit-learn's, which are others.
    expected = MAKERS[name]().fit(da.from_array(X, (500, 64)) if name == "MiniBatchKMeans" else X, Y)
    expected = getattr(expected, "predict", getattr(expected, "transform", lambda X: expected.labels_))(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    tasks, workers = (set(column) for column in zip(*log.ran, strict=True))
    assert workers == {cluster[1].workers["a"].address}, "a task ran on the GPU-only worker"
    assert f"{name}.{PHASES[name]}" in tasks
    # The data's own tasks apart, everything is named after the method.
    assert {task for task in tasks if "." in task} <= {f"{name}.{task.partition('.')[2]}" for task in tasks} | {
        "data.load"
    }


PHASES = {
    "KNeighborsClassifier": "search",
    "LinearSVC": "hessian",
    "PCA": "covariance",
    "IncrementalPCA": "update",
    "TruncatedSVD": "power",
    "MDS": "place",
    "LocallyLinearEmbedding": "place",
    "KMeans": "assign",
    "MiniBatchKMeans": "update",
    "AgglomerativeClustering": "span",
    "GaussianMixture": "step",
    "DBSCAN": "link",
    "HDBSCAN": "neighbors",
    "SpectralClustering": "label",
    "StandardScaler": "moments",
    "MinMaxScaler": "extremes",
    "MaxAbsScaler": "extremes",
    "GaussianNB": "moments",
    "MultinomialNB": "count",
    "BernoulliNB": "count",
    "KNeighborsRegressor": "search",
    "LinearRegression": "root",
    "Ridge": "root",
    "Lasso": "root",
    "LogisticRegression": "loss",
    "SVC": "solve",
    "Nystroem": "sample",
    "RBFSampler": "moments",
    "DecisionTreeClassifier": "gather",
    "DecisionTreeRegressor": "bin",
    "RandomForestClassifier": "grow",
    "RandomForestRegressor": "grow",
}


def test_methods__without_declared_cpus_every_worker_takes_part():
    with running(a=spec(), b=spec()) as both, logged(*both) as log:
        use(methods.KMeans(10, random_state=0), da.from_array(X, (100, 64)))
    assert len({worker for _, worker in log.ran}) == 2


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_methods__nothing_is_left_in_the_cluster(cluster, log, name, outcome):
    inside = cluster[1]
    rows = X.copy()
    if outcome == "failed":
        rows[-1, 3] = np.nan
    data = da.from_array(rows, (300, 64))
    method = MAKERS[name]()
    if outcome == "failed":
        with pytest.raises(ValueError, match="contains NaN"):
            method.fit(data, Y)
    else:
        method.fit(data, Y)
    del method
    wait_until(lambda: not inside.scheduler.tasks)
    assert not blocks_module._LEDGER._held


def wait_until(condition, seconds=20):
    """Releasing is asynchronous: give the event loop the time that it needs."""
    done = threading.Event()
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        done.wait(0.01)
    assert condition()


@pytest.mark.parametrize("name", sorted(set(MAKERS) - SQUARE - {"SVC"}))  # it sends support vectors
def test_methods__data_is_never_gathered(cluster, log, name, monkeypatch):
    sizes = []
    fetch = Scheduled.fetch
    monkeypatch.setattr(Scheduled, "fetch", lambda self, handles: measured(fetch(self, handles), sizes))
    monkeypatch.setattr("tasks.methods.clusters.SAMPLE_ROWS", 50)
    monkeypatch.setattr("tasks.methods.density.CURVE_ROWS", 50)
    wide = np.tile(X, (1, 8))  # wide enough for sums and labels to be small beside it
    MAKERS[name]().fit(da.from_array(wide, (200, wide.shape[1])), Y)
    assert 0 < max(sizes) < wide.nbytes / 4


def test_task_memory__of_the_smallest_worker_in_question():
    small, large = spec(CPU=1), spec(CPU=1)
    large["options"]["memory_limit"] = "3GB"
    other = spec(GPU=1)
    other["options"]["memory_limit"] = "1GB"
    with running(a=large, b=small, c=other) as (client, _), client.as_current():
        engine = scheduled_engine()
        assert engine.task_memory() == 2_000_000_000
        assert engine.memory() == 5_000_000_000


class Killer(SchedulerPlugin):
    """Takes a worker away, with all that it holds, when a task of a phase is done there: the first, or a later one."""

    def __init__(self, scheduler, phase, number=1):
        self.scheduler, self.phase, self.struck, self.left = scheduler, phase, None, number

    def transition(self, key, start, finish, *args, **kwargs):
        if self.struck is None and finish == "memory" and key_split(key).endswith(f".{self.phase}"):
            self.left -= 1
        if self.struck is None and self.left == 0:
            self.struck = kwargs["worker"]
            self.scheduler.loop.add_callback(
                self.scheduler.remove_worker, self.struck, close=True, stimulus_id="a kill", expected=False
            )


@pytest.mark.parametrize("name", MAKERS)
def test_fit__a_worker_that_dies_changes_nothing(name):
    """It dies in the middle of the phase that most of the work goes into."""
    data = da.from_array(X, (200, 40))
    expected = use(MAKERS[name](), data)
    with running(a=spec(CPU=1), b=spec(CPU=1)) as (client, cluster), client.as_current():
        killer = Killer(cluster.scheduler, PHASES[name], 2 if PHASES[name] in REPEATED else 1)
        cluster.scheduler.add_plugin(killer, name="killer")
        found = use(MAKERS[name](), data)
        assert killer.struck
        assert killer.struck not in cluster.scheduler.workers, "no worker died"
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("phase", "by_levels", "on_disk"),
    [
        ("bin", 0, 0),
        ("gather", 0, 0),
        ("grow", 0, 0),
        ("histograms", 1, 0),
        ("extract", 1, 0),
        ("grow", 1, 0),
        ("histograms", 1, 1),
        ("extract", 1, 1),
    ],
)
def test_trees__a_worker_that_dies_costs_only_its_blocks(phase, by_levels, on_disk, monkeypatch):
    if on_disk:
        monkeypatch.setattr("tasks.methods.trees.levels.BINS_FRACTION", 0)
    if by_levels:
        monkeypatch.setattr("tasks.methods.trees.forest.MEMORY_FRACTION", 0)
        monkeypatch.setattr("tasks.methods.trees.levels.CODE_BYTES", 0)
        monkeypatch.setattr("tasks.methods.trees.levels.NODE_FRACTION", 200 * row_bytes(40) / 2e9)
        monkeypatch.setattr("tasks.methods.trees.levels.EXTRACT_FRACTION", 400 * row_bytes(40) / 4e9)
    method = methods.RandomForestClassifier(6, max_depth=4, random_state=0)
    expected = clone(method).fit(X, Y).predict_proba(X)
    with running(a=spec(CPU=1), b=spec(CPU=1)) as (client, cluster), client.as_current():
        killer = Killer(cluster.scheduler, phase)
        cluster.scheduler.add_plugin(killer, name="killer")
        found = method.fit(da.from_array(X, (200, 40)), Y).predict_proba(X)
        assert killer.struck
        assert killer.struck not in cluster.scheduler.workers, "no worker died"
    np.testing.assert_array_equal(found, expected)


def measured(values, sizes):
    sizes.append(sizeof(values))
    return values


def test_open_blocks__fits_at_the_same_time_share_what_is_kept(cluster, log):
    READS.clear()
    data = da.from_array(X, (300, 64)).map_blocks(read, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    with open_blocks(data, name="One") as one, open_blocks(data, name="Two") as two:
        totals = [rows.reduce("sum", column_sum, combine=np.add) for rows in (one, two)]
    np.testing.assert_array_equal(*totals)
    assert sorted(READS) == [(i, 0) for i in range(4)]


READS: list[tuple[int, int]] = []


def read(block, block_info=None):
    READS.append(block_info[0]["chunk-location"])
    return block


def column_sum(block):
    return block.sum(axis=0, dtype=np.float64)


def test_methods__several_fits_at_once_from_threads(cluster, log):
    client, _ = cluster
    data = da.from_array(X, (300, 64))
    barrier = threading.Barrier(3)

    def fit(number):
        label.set(f"step-{number} of 3")
        with client.as_current():
            barrier.wait(30)
            return methods.KMeans(10, random_state=number, max_iter=5, tol=0).fit(data).inertia_

    with ThreadPoolExecutor(3) as pool:
        inertias = list(pool.map(fit, range(3)))
    expected = [methods.KMeans(10, random_state=i, max_iter=5, tol=0).fit(X).inertia_ for i in range(3)]
    np.testing.assert_allclose(inertias, expected, rtol=1e-5)
    assert {f"step_{i} of 3.assign" for i in range(3)} <= {task for task, _ in log.ran}


def test_methods__the_default_client_is_found_from_a_thread(cluster):
    _, inside = cluster
    plugin = Log()
    inside.scheduler.add_plugin(plugin, name="default log")
    with Client(inside, set_as_default=True), ThreadPoolExecutor(1) as pool:
        pool.submit(methods.PCA(2).fit, da.from_array(X, (300, 64))).result()
    inside.scheduler.remove_plugin("default log")
    assert "PCA.covariance" in {task for task, _ in plugin.ran}


def test_methods__a_configured_scheduler_comes_before_the_client(cluster, log):
    with dask.config.set(scheduler="synchronous"):
        methods.PCA(2).fit(da.from_array(X, (300, 64)))
    assert log.ran == []


def test_methods__data_in_the_workers_memory_and_shared_work(cluster, log):
    data = da.from_array(X, (300, 20)).persist()
    centred = (data - data.mean(axis=0)).rechunk((500, 64))
    ours = methods.PCA(4).fit(centred)
    np.testing.assert_allclose(ours.singular_values_, methods.PCA(4).fit(X).singular_values_, rtol=1e-5)


def test_put__large_values_in_messages_that_dask_does_not_warn_about(cluster, log):
    engine = scheduled_engine()
    value = np.random.default_rng(0).random((2000, 300))  # 4.8 MB
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1MB"}):
        small, large = engine.put("put", [value[:10], value])
        (shared,) = engine.map("shared", np.subtract, [(1.0,)], (value,))
        back = engine.fetch([small, large, shared])
    np.testing.assert_array_equal(back[0], value[:10])
    np.testing.assert_array_equal(back[1], value)
    np.testing.assert_array_equal(back[2], 1 - value)
    engine.close()


def test_pipeline__scaler_and_svm_on_blocks(cluster, log):
    ours = make_pipeline(methods.StandardScaler(), methods.LinearSVC(C=0.01))
    data = da.from_array(X, (300, 64))
    with label_of("scaled svm"):
        predicted = collect(ours.fit(data, Y).predict(data), "predict")
    reference = make_pipeline(preprocessing.StandardScaler(), svm.LinearSVC(C=0.01, tol=1e-6, max_iter=20_000))
    assert np.mean(predicted == reference.fit(X, Y).predict(X)) > 0.999
    assert {"scaled svm.moments", "scaled svm.hessian", "scaled svm.predict"} <= {task for task, _ in log.ran}


@contextmanager
def label_of(name):
    token = label.set(name)
    yield
    label.reset(token)
