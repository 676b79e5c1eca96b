from __future__ import annotations

import csv
import json
import threading

import numpy as np
import pytest

import storage
from pipeline import Pipeline, Run
from pipeline.lock import InUseError, RunLock
from tasks import noise, sources


class Scribble:
    """A user's noise that is none: it returns floats."""

    kind = "images"

    def __call__(self, samples, ids, seed=0, epoch=0):
        return samples.astype(np.float32)

    def __repr__(self):
        return "Scribble()"


def statuses(run: Run) -> dict[str, str]:
    return {step["name"]: step["status"] for step in run.steps}


def test_run__datasets_results_and_record(pipeline, source, client, tmp_path, traces, traced):
    full = Pipeline(name="tiny", source=source, noise=pipeline.noise, methods=[traced()], seed=7)
    run = full.run(tmp_path / "runs", client=client)
    label = next(iter(full.labels))
    assert run.exit_code == 0
    assert statuses(run) == {"clean": "done", "gaussian-2": "done", label: "done"}
    assert len(list(traces.glob("fit-7-*"))) == 1  # the pipeline's seed became its random_state
    clean, noisy = (run.dataset(name) for name in ("clean", "gaussian-2"))
    ids = clean.ids.values
    assert sorted(ids) == list(range(120))
    np.testing.assert_array_equal(clean.images.values, source.take(ids).values)
    np.testing.assert_array_equal(noisy.images.values, pipeline.noise[0](source.take(ids).values, ids, seed=7))
    np.testing.assert_array_equal(noisy.ids.values, ids)
    scores = run.record["results"][0]["scores"]
    assert [score["data"] for score in scores] == ["clean", "gaussian-2"]
    assert scores[0]["value"] == pytest.approx(1 / 3)
    board = run.leaderboard()
    assert len(board) == 2 and set(board["data"]) == {"clean", "gaussian-2"}
    with open(run.folder / "leaderboard.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    assert "gaussian-2" in run.report.read_text()
    assert Run(run.folder).record == json.loads((run.folder / "run.json").read_text())


def test_run__second_time_reuses_everything(pipeline, source, client, tmp_path, traces, traced):
    full = Pipeline(name="tiny", source=source, noise=pipeline.noise, methods=[traced()])
    full.run(tmp_path, client=client)
    assert full.plan(tmp_path).finished
    again = full.run(tmp_path, client=client)
    assert set(statuses(again).values()) == {"reused"}
    assert len(list(traces.iterdir())) == 1
    assert again.record["results"]


def test_run__a_changed_part_redoes_what_depends_on_it_only(pipeline, source, client, tmp_path, traces, traced):
    methods = [traced(), traced(random_state=1)]
    Pipeline(name="tiny", source=source, noise=pipeline.noise, methods=methods).run(tmp_path, client=client)
    methods[1] = traced(random_state=2)
    changed = Pipeline(name="tiny", source=source, noise=pipeline.noise, methods=methods)
    assert [step.state for step in changed.plan(tmp_path)] == ["done", "done", "done", "missing"]
    assert list(statuses(changed.run(tmp_path, client=client)).values()) == ["reused", "reused", "reused", "done"]
    other_noise = Pipeline(name="tiny", source=source, noise=[noise.Gaussian(severity=4)], methods=methods)
    assert list(statuses(other_noise.run(tmp_path, client=client)).values()) == ["reused", "done", "done", "done"]
    # Going back finds the old results, though the folders hold newer ones too.
    assert set(statuses(changed.run(tmp_path, client=client)).values()) == {"reused"}


def test_run__a_failing_method_does_not_lose_the_others(pipeline, source, client, tmp_path, traces, traced):
    methods = [traced(fail="no such luck"), traced()]
    run = Pipeline(name="tiny", source=source, methods=methods).run(tmp_path, client=client)
    assert list(statuses(run).values()) == ["done", "failed", "done"]
    assert run.exit_code == 1
    (failure,) = run.failures
    assert failure["error"] == "ValueError: no such luck"
    assert "conftest.py" in failure["traceback"]
    assert len(run.record["results"]) == 1
    page = run.report.read_text()
    assert "no such luck" in page
    # What failed is tried again, what was done is not.
    assert list(
        statuses(Pipeline(name="tiny", source=source, methods=methods).run(tmp_path, client=client)).values()
    ) == [
        "reused",
        "failed",
        "reused",
    ]


def test_run__a_failing_noise_does_not_lose_the_others(source, client, tmp_path, traces, traced):
    made = Pipeline(name="tiny", source=source, noise=[Scribble(), noise.Gaussian(severity=1)], methods=[traced()])
    run = made.run(tmp_path, client=client)
    assert list(statuses(run).values())[:3] == ["done", "failed", "done"] or statuses(run)["scribble"] == "failed"
    assert "expected Scribble() to keep uint8" in run.failures[0]["error"]
    assert [score["data"] for score in run.record["results"][0]["scores"]] == ["clean", "gaussian-1"]


def test_run__unreadable_source_fails_every_step_with_the_cause(client, tmp_path, traces, traced):
    class Lying(sources.Arrays):
        def take(self, indices):
            raise OSError("the disk is gone")

    lying = Lying(images=np.zeros((9, 4, 4), np.uint8), labels=[0, 1, 2] * 3)
    made = Pipeline(name="tiny", source=lying, noise=[noise.Gaussian(severity=1)], methods=[traced()])
    run = made.run(tmp_path, client=client)
    assert list(statuses(run).values()) == ["failed", "skipped", "skipped"]
    assert all("the disk is gone" in step["error"] for step in run.failures)
    assert not list(traces.iterdir())


def test_run__folder_in_use(pipeline, client, tmp_path):
    with RunLock(tmp_path / "tiny"), pytest.raises(InUseError, match="in use by another run"):
        pipeline.run(tmp_path, client=client)


def test_run__half_built_dataset_is_continued(pipeline, source, client, tmp_path, monkeypatch):
    import dask

    with dask.config.set({"duskflow.storage.minimum-shard-bytes": 512}):
        reference = pipeline.run(tmp_path / "whole", client=client)
        from pipeline.execution import Execution

        stop = threading.Event()

        def breaks(self, name, total, unit, done=0):
            bar = plain(self, name, total, unit, done)
            advance = bar.advance

            def advance_then_break(count, note=""):
                advance(count, note)
                if name == "clean" and not stop.is_set():
                    stop.set()
                    raise KeyboardInterrupt

            bar.advance = advance_then_break
            return bar

        plain = Execution.bar
        with monkeypatch.context() as patch:
            patch.setattr(Execution, "bar", breaks)
            with pytest.raises(KeyboardInterrupt):
                pipeline.run(tmp_path / "half", client=client)
        first = next(iter(pipeline.plan(tmp_path / "half")))
        assert first.state == "partly done" and first.detail.endswith("shards done")
        resumed = pipeline.run(tmp_path / "half", client=client)
    versions = [[entry["version"] for entry in run.record["datasets"]] for run in (reference, resumed)]
    assert versions[0] == versions[1]
    assert storage.verify(resumed.dataset_path("clean")).ok
    assert reference.record["datasets"][0]["shards"] > 4


def test_run__network_without_a_gpu_worker_is_refused_at_once(source, tmp_path):
    from distributed import Client, LocalCluster

    from tasks import networks

    made = Pipeline(name="tiny", source=source, networks=[networks.lenet5()])
    with (
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
        pytest.raises(RuntimeError, match="expected a worker that declares a GPU for 1 networks, found none"),
    ):
        made.run(tmp_path, client=client)
    assert not (tmp_path / "tiny" / "datasets").exists()


def test_run__missing_dataset_name(pipeline, client, tmp_path):
    run = pipeline.run(tmp_path, client=client)
    with pytest.raises(ValueError, match=r"expected a dataset of \['clean', 'gaussian-2'\], received 'x'"):
        run.dataset("x")


def test_run__folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no run\.json in"):
        Run(tmp_path)
