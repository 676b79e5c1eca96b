"""Do what is missing of a pipeline: datasets, then methods and networks side by side; go on past failures."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import distributed

from pipeline import config
from pipeline.folders import Folders
from pipeline.lock import RunLock, check_root
from pipeline.pipeline import Pipeline
from pipeline.progress import Progress, Step
from pipeline.robustness import scored_steps
from pipeline.steps import CLEAN, clean_state, layout_of, noise_state, seeded, step_fingerprint
from pipeline.telling import headline, one_line, skipped_note
from storage.dataset import Dataset, open_dataset
from tasks.noise.protocol import slug_of

if TYPE_CHECKING:
    from pipeline.run import Run
    from tasks.features import Features

log = logging.getLogger(__name__)
TOPIC = "duskflow"
"""Topic of the events that training tasks send with `distributed.worker.Worker.log_event`."""


@dataclass
class StepRecord:
    """What became of one step, as it is written to ``run.json``."""

    name: str
    kind: str
    status: str = "failed"
    seconds: float = 0.0
    started: str | None = None
    fingerprint: str | None = None
    folder: str | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass
class Execution:
    """The state of one run while it goes on."""

    pipeline: Pipeline
    folders: Folders
    client: distributed.Client
    progress: Progress
    records: dict[str, StepRecord] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    fitted: dict[str, Any] = field(default_factory=dict)
    """Methods that were fitted in this run and are needed once more."""
    curves: dict[str, Any] | None = None
    """What was found of robustness, if it was asked for."""
    bars: dict[str, Step] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the run was interrupted."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    _features: Features | None = None

    @contextmanager
    def step(self, name: str, kind: str) -> Iterator[StepRecord]:
        """Record a step: its time, and its failure, which does not leave this context."""
        record = StepRecord(name, kind, started=datetime.now(UTC).isoformat())
        self.records[name] = record
        begun = datetime.now(UTC)
        try:
            yield record
        except Exception as error:
            if self.stopping.is_set():  # its tasks were taken away: no failure of its own
                return
            record.status, record.error = "failed", one_line(error)
            record.traceback = "".join(traceback.format_exception(error))
            log.debug("step %s failed", name, exc_info=True)
            if bar := self.bars.get(name):
                bar.fail(record.error)
            else:
                self.progress.message(f"{name:<40} FAILED: {record.error}")
        finally:
            record.seconds = (datetime.now(UTC) - begun).total_seconds()

    def skip(self, name: str, kind: str, why: str) -> None:
        """Record a step that could not be tried."""
        self.records[name] = StepRecord(name, kind, status="skipped", error=why)

    def bar(self, name: str, total: int | None, unit: str, done: int = 0) -> Step:
        """Show a step's progress; `done` units were there before."""
        bar = self.bars[name] = self.progress.step(name, total, unit)
        if done:
            bar.advance(done, "resumed")
        return bar

    def make_dataset(self, name: str, state: Any, make: Callable[..., Dataset]) -> None:
        """Reuse a finished dataset or build what is missing of it."""
        with self.step(name, "dataset") as record:
            record.fingerprint = state.key
            if state.version:
                self.datasets[name] = open_dataset(self.folders.dataset(name))
                record.status = "reused"
                self.progress.reused(name, f"{state.shards} shards, version {state.version[:12]}")
            else:
                dataset = make(
                    folder=self.folders.dataset(name),
                    client=self.client,
                    seed=self.pipeline.seed,
                    start=lambda total, done: self.bar(name, total, "shards", done),
                    advance=lambda count: self.bars[name].advance(count),
                    retries=config.settings().run.retries,
                )
                self.datasets[name] = dataset
                record.status = "done"
                self.bars[name].done(f"{dataset.nbytes / 1e6:,.1f} MB, version {dataset.version[:12]}")
            record.folder = self.folders.relative(self.datasets[name].path)

    def make_datasets(self) -> None:
        """Ingest, then add the noises side by side. Without the clean data there is nothing to go on with."""
        from tasks.appending import append
        from tasks.ingest import ingest

        settings, pipeline = config.settings(), self.pipeline
        state = clean_state(pipeline, self.folders, settings)

        def make_clean(**options: Any) -> Dataset:
            parts: dict[str, Any] = {"split": pipeline.split, "layout": layout_of(settings), "label": "ingest clean"}
            if pipeline.grow:
                return append(pipeline.source, by=pipeline.grow, **parts, **options)
            return ingest(pipeline.source, **parts, **options)

        self.make_dataset(CLEAN, state, make_clean)
        if CLEAN not in self.datasets:
            return
        clean = self.datasets[CLEAN]
        counts = [sum(column) for column in zip(*clean.statistics["class_counts"].values(), strict=True)]
        if empty := [name for name, count in zip(clean.classes, counts, strict=True) if not count]:
            self.progress.message(f"no samples of {len(empty)} of {len(counts)} classes: {', '.join(empty[:5])}")

        if pipeline.noise:
            pool = ThreadPoolExecutor(len(pipeline.noise), "noise")
            self.finish([pool.submit(self.make_noisy, noise) for noise in pipeline.noise], pool)
        self.sort_datasets(pipeline.noise)

    def sort_datasets(self, noises: Iterable[Any]) -> None:
        """Put the datasets in the pipeline's order, not the one in which the noises happened to finish."""
        names = [CLEAN, *map(slug_of, noises)]
        self.datasets = {name: self.datasets[name] for name in names if name in self.datasets}

    def make_noisy(self, noise: Any) -> None:
        """Reuse a noisy copy of the clean data, or make it."""
        from tasks.noising import add_noise

        clean, name = self.datasets[CLEAN], slug_of(noise)
        state = noise_state(self.pipeline, self.folders, noise, [part.version for part in clean.parts])
        self.make_dataset(name, state, lambda **options: add_noise(clean, noise, label=f"noise {name}", **options))

    def features(self) -> Features:
        """How samples become rows of numbers for the methods; learnt once per run."""
        from tasks.features import Features

        if self._features is None:
            self._features = Features(self.datasets[CLEAN], n_features=config.settings().texts.features)
        return self._features

    def make_results(self) -> None:
        """Fit the methods and train the networks, all at the same time as far as workers allow."""
        settings = config.settings()
        versions = {name: dataset.version for name, dataset in self.datasets.items()}
        parallel = settings.run.parallel_steps or 2
        # Networks wait for a GPU worker, not for a turn among the methods.
        methods = ThreadPoolExecutor(parallel, "method")
        networks = ThreadPoolExecutor(max(1, len(self.pipeline.networks)), "network")
        jobs = []
        for label, step in self.pipeline.labels.items():
            is_method = step in self.pipeline.methods
            fingerprint = step_fingerprint(self.pipeline, step, versions, settings)
            pool, make = (methods, self.fit_method) if is_method else (networks, self.train_network)
            jobs.append(pool.submit(self.make_result, label, step, fingerprint, make, self.features()))
        self.finish(jobs, methods, networks)

    def finish(self, jobs: list[Future[None]], *pools: ThreadPoolExecutor) -> None:
        """Wait for jobs; when the user interrupts, stop them and their tasks instead of waiting for them."""
        try:
            wait(jobs)
        except BaseException:
            self.stopping.set()
            self.progress.message("interrupted: stopping; what is committed is kept")
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            held: list[Any] = [distributed.Future(key, self.client) for key in list(self.client.futures)]
            self.client.cancel(held, force=True)
            raise
        for pool in pools:
            pool.shutdown()
        for job in jobs:
            job.result()

    def make_result(
        self, label: str, step: Any, fingerprint: str, make: Callable[..., dict[str, Any]], features: Any
    ) -> None:
        """Reuse the result of a method or network, or make it."""
        with self.step(label, "method" if make == self.fit_method else "network") as record:
            record.fingerprint = fingerprint
            result = self.folders.read_result(label, fingerprint)
            if result is not None:
                record.status = "reused"
                self.progress.reused(label, headline(result))
            else:
                result = {**make(label, step, fingerprint, features), "label": label}
                self.folders.write_result(label, fingerprint, result)
                record.status = "done"
                self.bars[label].done(headline(result))
            record.folder = str(self.folders.step(label, fingerprint).relative_to(self.folders.root))
            self.results[label] = {**result, "folder": record.folder}

    def fit_method(self, label: str, method: Any, fingerprint: str, features: Any) -> dict[str, Any]:
        """Fit a method on the clean training split and score it on every dataset."""
        from tasks.evaluation import evaluate_method
        from tasks.methods.execution import label as task_label

        self.bar(label, 1 + len(self.datasets), "stages")
        # Each step has a thread of its own, and with it a context of its own: nothing to reset.
        task_label.set(label)
        estimator = seeded(method, self.pipeline.seed)
        with self.client.as_current():
            result = evaluate_method(
                estimator,
                self.datasets[CLEAN],
                self.datasets,
                features,
                advance=lambda note: self.bars[label].advance(1, note),
            )
        if self.pipeline.robustness is not None and result["task"] == "classification":
            self.fitted[label] = estimator
        return result

    def train_network(self, label: str, network: Any, fingerprint: str, features: Any) -> dict[str, Any]:
        """Train a network on a GPU worker and score it there."""
        from tasks.training import submit_training, wait_result

        self.bar(label, getattr(network, "epochs", None), "epochs")
        noisy = [dataset.path for name, dataset in self.datasets.items() if name != CLEAN]
        future = submit_training(
            self.client,
            network,
            self.datasets[CLEAN].path,
            noisy_path=noisy[0] if noisy else None,
            tests={name: dataset.path for name, dataset in self.datasets.items()},
            folder=str(self.folders.step(label, fingerprint).resolve()),
            seed=self.pipeline.seed,
            label=label,
        )
        return wait_result(self.client, future)

    def on_event(self, event: Any) -> None:
        """Show a training task's epoch; called by the client for every event of our topic."""
        message = event[1] if isinstance(event, tuple) else event
        if isinstance(message, dict) and "epoch" in message and (bar := self.bars.get(str(message.get("step")))):
            logs = message.get("logs") or {}
            # A training that starts again after its worker died tells of the same epochs again.
            more = max(0, int(message["epoch"]) - bar.count)
            bar.advance(more, ", ".join(f"{name} {value:.4g}" for name, value in logs.items()))


def execute(pipeline: Pipeline, root: Path, client: distributed.Client | None) -> Run:
    """Run a pipeline; see `Pipeline.run`."""
    from pipeline.cluster import connect
    from pipeline.curve_run import make_curves
    from pipeline.record import write_run
    from pipeline.run import Run

    settings = config.load()
    check_root(root)
    folders = Folders.of(pipeline.name, root, settings.storage.datasets)
    with ExitStack() as stack:
        stack.enter_context(RunLock(folders.root))
        if client is None:
            client = stack.enter_context(connect())
        progress = stack.enter_context(Progress())
        execution = Execution(pipeline, folders, client, progress)
        check_placement(execution)
        client.subscribe_topic(TOPIC, execution.on_event)
        stack.callback(client.unsubscribe_topic, TOPIC)
        progress.message(
            f"pipeline {pipeline.name}: {len(pipeline.source):,} {pipeline.source.kind}{skipped_note(pipeline)}"
        )
        execution.make_datasets()
        if CLEAN in execution.datasets:
            execution.make_results()
            if pipeline.robustness is not None:
                make_curves(execution)
        else:
            skip_rest(execution)
        return Run(write_run(execution))


def skip_rest(execution: Execution) -> None:
    """Record every step that could not be tried because there is no clean data."""
    pipeline = execution.pipeline
    rest = [(slug_of(noise), "dataset") for noise in pipeline.noise]
    rest += [(label, "method" if step in pipeline.methods else "network") for label, step in pipeline.labels.items()]
    if pipeline.robustness is not None:
        rest += [(f"robustness {label}", "robustness") for label in scored_steps(pipeline)]
    for name, kind in rest:
        execution.skip(name, kind, f"{CLEAN} failed: {execution.records[CLEAN].error}")


def check_placement(execution: Execution) -> None:
    """Refuse at once what would otherwise wait for ever."""
    from tasks.placement import workers_with

    if execution.pipeline.networks and not workers_with(execution.client, "GPU"):
        raise RuntimeError(
            f"expected a worker that declares a GPU for {len(execution.pipeline.networks)} networks, found none; "
            'use connect("local", gpu_workers=1), or start a worker with --resources "GPU=1"'
        )
