from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
from dask.utils import key_split
from distributed import Client, LocalCluster, get_worker

import storage
from storage import StorageError
from storage.layout import Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.writer import Build
from tasks.building import (
    IN_FLIGHT,
    Reporting,
    Work,
    _shards_per_task,
    build_dataset,
    commit_shards,
    run_shards,
)
from tasks.ingest import ingest
from tasks.placement import cpu_resources, task_key, total_threads, workers_with
from tasks.split import Split


def plan_of(shards: int, rows: int = 2) -> Plan:
    return Plan(
        name="clean",
        kind="images",
        layout=Layout(shards * rows, rows, rows),
        recipe={"shards": shards},
        sample_shape=(4, 4, 1),
        classes=("a",),
        splits={"train": (0, shards * rows)},
    )


def produce(plan: Plan, number: int, *rest) -> Shard:
    low, high = plan.layout.bounds(number)
    ids = np.arange(low, high)
    pixels = np.repeat(ids.astype(np.uint8), 16).reshape(-1, 4, 4, 1)
    return Shard(pixels, np.zeros(high - low, np.int64), ids, np.zeros(high - low, np.uint8))


def build(folder, client, make=produce, shards=12, arguments=lambda number: (), **options):
    options = {"label": "test", "retries": 0, **options}
    retries = options.pop("retries")
    work = Work(Build(str(folder), plan_of(shards)), make, arguments)
    return build_dataset([work], client, Reporting(**options), retries=retries)


def test_build_dataset__every_shard(workers, tmp_path):
    started, advanced = [], []
    dataset = build(tmp_path / "a", workers, start=lambda *both: started.append(both), advance=advanced.append)
    np.testing.assert_array_equal(dataset.read(0, 24)[:, 0, 0, 0], np.arange(24))
    assert started == [(12, 0)]
    assert advanced == [1] * 12


def test_build_dataset__a_bounded_number_in_flight(workers, tmp_path):
    bound, asked, ahead = IN_FLIGHT * total_threads(workers), [], []

    def arguments(number):
        asked.append(number)
        return ()

    shards = 3 * bound
    build(tmp_path / "a", workers, shards=shards, arguments=arguments, advance=lambda _: ahead.append(len(asked)))
    assert asked == list(range(shards))
    # When the n-th result is there, no more than n plus the bound were ever submitted.
    assert all(submitted <= done + bound for done, submitted in enumerate(ahead))


class Seen:
    """What tasks saw. They run in this process and find this module by its name, so they share it with the tests."""

    def __init__(self) -> None:
        self.calls: list = []
        self.tries: Counter[int] = Counter()
        self.lock = threading.Lock()
        self.failed = threading.Event()


seen = Seen()


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.__init__()


def note_argument(plan, number, given):
    seen.calls.append(given)
    return produce(plan, number)


def note_worker(plan, number):
    seen.calls.append(get_worker().name)
    return produce(plan, number)


def fail_first(plan, number):
    if number == 0:
        seen.failed.set()
        raise ZeroDivisionError("shard 0")
    seen.failed.wait(20)
    seen.calls.append(number)
    return produce(plan, number)


def fail_twice(plan, number):
    with seen.lock:
        seen.tries[number] += 1
        if seen.tries[number] <= 2:
            raise OSError("not yet")
    return produce(plan, number)


def test_build_dataset__arguments_may_be_futures(workers, tmp_path):
    shared = workers.submit(int, 7, pure=False)
    build(tmp_path / "a", workers, note_argument, arguments=lambda number: (shared,))
    assert seen.calls == [7] * 12


def test_build_dataset__cancels_the_rest_after_a_failure(workers, tmp_path):
    with pytest.raises(ZeroDivisionError, match="shard 0"):
        build(tmp_path / "a", workers, fail_first, shards=60)
    assert len(seen.calls) < 60
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(tmp_path / "a")
    assert build(tmp_path / "a", workers, shards=60).count == 120


def test_build_dataset__tries_again_as_often_as_told(workers, tmp_path):
    with pytest.raises(OSError, match="not yet"):
        build(tmp_path / "a", workers, fail_twice, retries=1)
    seen.__init__()
    build(tmp_path / "b", workers, fail_twice, retries=2)
    assert set(seen.tries.values()) == {3}
    assert len(seen.tries) == 12


def test_build_dataset__prepares_on_cpu_workers_only(cluster_of, tmp_path):
    with cluster_of({"CPU": 1}, {"GPU": 1}) as client:
        assert len(workers_with(client, "GPU")) == 1
        assert cpu_resources(client) == {"CPU": 1}
        assert total_threads(client) == 2
        build(tmp_path / "a", client, note_worker)
    assert set(seen.calls) == {"worker-0"}
    assert len(seen.calls) == 12


def test_run_shards__gives_up_without_any_worker(cluster_of, tmp_path):
    with cluster_of({}) as client:
        client.retire_workers()
        work = Work(Build(str(tmp_path / "a"), plan_of(3)), produce, lambda number: ())
        missing = work.build.begin()
        with pytest.raises(StorageError, match=r"test: no worker for 0 seconds; start some and run again"):
            run_shards(work, missing, commit_shards, client, Reporting("test"), patience=0.05)
    assert work.build.missing().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("shards", "threads", "each"), [(1, 2, 1), (48, 2, 3), (10_000, 2, 4), (10**6, 2, 10), (7, 1, 1)]
)
def test_shards_per_task(shards, threads, each):
    assert _shards_per_task(shards, threads) == each


def test_commit_shards__every_one_once_and_the_first_error_counts(tmp_path):
    build = Build(str(tmp_path / "a"), plan_of(6))
    build.begin()
    commit_shards(build, produce, [(number, ()) for number in (4, 1, 2)])
    assert build.missing().tolist() == [0, 3, 5]
    with pytest.raises(ZeroDivisionError):
        commit_shards(build, fail_at_three, [(number, ()) for number in (0, 3, 5)])
    assert build.missing().tolist() == [3, 5]  # what was made before is committed


def fail_at_three(plan, number):
    if number == 3:
        raise ZeroDivisionError
    return produce(plan, number)


def test_cpu_resources__none_where_nobody_declares_them(workers):
    assert cpu_resources(workers) is None
    assert workers_with(workers, "CPU") == []
    assert total_threads(workers) == 3


@pytest.mark.parametrize("label", ["ingest clean", "noise gaussian-3", "KNeighborsClassifier(n_neighbors=5)"])
def test_task_key__the_dashboard_shows_the_label(label):
    for key in (task_key(label, "token"), task_key(label, "token", 5)):
        assert key_split(key) == label.replace("-", "_")
    assert task_key(label, "token", 5) != task_key(label, "token", 6)
    assert task_key(label, "token", 5) != task_key(label, "other", 5)


STEPS = 4
"""Of the commit of a shard: the file, its folder, the record, its folder."""


def die_once(plan: Plan, number: int, folder: str, kills: int) -> Shard:
    """Produce a shard; the first time, the process is killed in the middle of the commit, each at another step."""
    from storage import durable

    try:
        (Path(folder) / f"death-{number}").touch(exist_ok=False)
    except FileExistsError:
        return produce(plan, number)
    left = [number % STEPS if number < kills else 10**9]

    def die_at_step(real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in ("replace", "fsync_folder", "create"):
        setattr(durable, name, die_at_step(getattr(durable, name)))
    return produce(plan, number)


@pytest.fixture(scope="module")
def processes(make_source):
    """A client of two worker processes, which are started again when they die."""
    modules = [sys.modules[name] for name in (__name__, make_source.__module__)]
    for module in modules:  # workers cannot import the tests
        cloudpickle.register_pickle_by_value(module)
    settings = {
        # So many deaths would be blamed on a task that was only waiting beside them.
        "distributed.scheduler.allowed-failures": 1000,
        # So long after a death the cluster looks once, and lets go of a worker that is just being started again.
        "distributed.deploy.lost-worker-timeout": "1 hour",
    }
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
    for module in modules:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.chaos
def test_build_dataset__workers_are_killed_at_every_step_of_the_commit(processes, tmp_path):
    # DUSKFLOW_TEST_KILLS=200 for the long form.
    kills = int(os.environ.get("DUSKFLOW_TEST_KILLS", STEPS))
    undisturbed = Build(str(tmp_path / "undisturbed"), plan_of(kills + 5))
    undisturbed.begin()
    for number in range(kills + 5):
        undisturbed.write_shard(number, produce(undisturbed.plan, number))
    version = undisturbed.finish()
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    dataset = build(
        tmp_path / "disturbed", processes, die_once, kills + 5, arguments=lambda number: (str(deaths), kills)
    )
    assert len(list(deaths.iterdir())) == kills + 5
    assert dataset.version == version
    assert storage.verify(dataset.path).ok
    assert not list(Path(dataset.location).rglob("*.partial"))


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_ingest__workers_are_killed_while_they_read(make_source, processes, workers, tmp_path, kind):
    # Sooner or later also the worker that holds the source for the others.
    layout = {"shard_bytes": 600, "minimum_shard_bytes": 100, "minimum_shards": 7, "chunk_bytes": 200}
    options = {"split": Split(), "seed": 0, "layout": layout, "retries": 0}

    class Deadly(make_source):
        def take(self, indices):
            for sample in {7, 20, 33} & set(indices.tolist()):
                if not (tmp_path / f"death-{sample}").exists():
                    (tmp_path / f"death-{sample}").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().take(indices)

    version = ingest(make_source(kind), str(tmp_path / "undisturbed"), workers, **options).version
    dataset = ingest(Deadly(kind), str(tmp_path / "disturbed"), processes, **options)
    assert len(list(tmp_path.glob("death-*"))) == 3
    assert dataset.version == version
    assert storage.verify(dataset.path).ok
