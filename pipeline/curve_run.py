"""Score robustness curves in a run, after the methods are fitted and the networks trained."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pipeline import config
from pipeline.curves import KIND, Curve, Curves, copies_to_store, document_of, plan_curves
from pipeline.robustness import asked_of, denoiser_of, stored_noises
from pipeline.steps import CLEAN, seeded
from tasks.noise.protocol import slug_of

if TYPE_CHECKING:
    from pipeline.execution import Execution
    from tasks.robustness import Measure, Subject

COPIES = 4
"""Noisy copies that are made side by side."""


def make_curves(execution: Execution) -> None:
    """Score what is missing, record a step for each classifier, and keep what the report needs."""
    pipeline = execution.pipeline
    names = [CLEAN, *(slug_of(noise) for noise in pipeline.noise)]
    versions = {name: execution.datasets[name].version for name in names if name in execution.datasets}
    lost = _store_copies(execution)
    denoiser = denoiser_of(pipeline)
    there = denoiser if denoiser in execution.results else None
    found = plan_curves(pipeline, execution.folders, config.settings(), versions, denoiser=there)
    if denoiser and not there:
        _note(execution, found, f"nothing is denoised: {denoiser} failed")
    for name, why in lost.items():
        _note(execution, found, f"{name} is left out: {why}")
    found.drop(series=lost)
    missing = {curve.label: curve.missing(found.conditions) for curve in found.curves}
    errors = _score(execution, found, missing)
    for curve in found.curves:
        if curve.label in execution.results:
            _record(execution, found, curve, bool(missing[curve.label]), errors.get(curve.label))
        else:
            execution.skip(curve.name, KIND, f"{curve.label} failed: {execution.records[curve.label].error}")
    failed = {curve.label for curve in found.curves if execution.records[curve.name].status in ("failed", "skipped")}
    execution.curves = document_of(found, execution.datasets[CLEAN], failed)


def _note(execution: Execution, found: Curves, text: str) -> None:
    found.notes.append(text)
    execution.progress.message(f"{KIND}: {text}")


def _store_copies(execution: Execution) -> dict[str, str]:
    """Make the copies that are to be kept; return why a kind of noise has to be left out, by name."""
    pipeline = execution.pipeline
    if copies := copies_to_store(pipeline):
        pool = ThreadPoolExecutor(COPIES, "noise")
        execution.finish([pool.submit(execution.make_noisy, noise) for noise in copies], pool)
        execution.sort_datasets(stored_noises(pipeline))
    asked = asked_of(pipeline)
    return {
        name: f"{slug} failed: {execution.records[slug].error}"
        for name, made in asked.made.items()
        for slug in map(slug_of, made.values())
        if asked.store and slug not in execution.datasets
    }


def _score(execution: Execution, found: Curves, missing: dict[str, set[str]]) -> dict[str, Exception]:
    """Score what is missing; return what failed, by the label of the classifier."""
    from tasks.robustness import measure

    todo = [curve for curve in found.curves if curve.label in execution.results and missing[curve.label]]
    if not todo:
        return {}
    for curve in todo:
        execution.bar(curve.name, len(missing[curve.label]), "scores")
    subjects = [_subject(execution, curve, missing[curve.label]) for curve in todo]
    plan = _measure(execution, found, set().union(*missing.values()))
    pool = ThreadPoolExecutor(1, KIND)
    try:
        execution.finish([pool.submit(measure, plan, subjects)], pool)
    except Exception as error:  # what all of them need: the clean rows, the cluster
        if execution.stopping.is_set():
            raise
        return {curve.label: error for curve in todo}
    for curve in todo:
        curve.seconds = plan.seconds[curve.label]
    for name, cause in plan.failed_series.items():
        _fail(execution, f"{KIND} noise {name}", cause)
        _note(execution, found, f"{name} is left out: it failed")
    found.drop(series=plan.failed_series)
    if plan.failed_denoiser is not None:
        _fail(execution, f"{KIND} denoiser {found.denoiser}", plan.failed_denoiser)
        _note(execution, found, f"nothing is denoised: {found.denoiser} failed")
        found.drop(denoiser=True)
    return plan.failed_subjects


def _fail(execution: Execution, name: str, error: Exception) -> None:
    with execution.step(name, KIND):
        raise error


def _measure(execution: Execution, found: Curves, wanted: set[str]) -> Measure:
    from tasks.robustness import Measure
    from tasks.training.scoring import scored_split

    settings, pipeline = config.settings(), execution.pipeline
    clean = execution.datasets[CLEAN]

    def on_score(label: str, condition: Any, accuracy: float, rows: int) -> None:
        found.keep(label, condition, accuracy, rows)
        execution.bars[f"{KIND} {label}"].advance(1, f"{accuracy:.4g} on {condition}")

    return Measure(
        client=execution.client,
        clean=clean,
        features=execution.features(),
        split=scored_split(clean),
        seed=pipeline.seed,
        variants=[(variant, [c for c in conditions if c.key in wanted]) for variant, conditions in found.variants],
        on_score=on_score,
        denoiser=str(found.denoiser_folder.resolve()) if found.denoiser_folder else None,
        rows=found.asked.rows,
        parallel=settings.run.parallel_steps or 2,
        retries=settings.run.retries,
    )


def _subject(execution: Execution, curve: Curve, wanted: set[str]) -> Subject:
    from tasks.robustness import MethodSubject, NetworkSubject

    if curve.kind == "network":
        folder = str(execution.folders.step(curve.label, curve.fitted).resolve())
        length = curve.step.length if curve.step.kind == "texts" else None
        return NetworkSubject(curve.label, wanted, folder, length)
    return MethodSubject(curve.label, wanted, _fitted(execution, curve), execution.features().columns)


def _fitted(execution: Execution, curve: Curve) -> Callable[[], Any]:
    """Give the method as it was fitted in this run, or fit it again: from the same rows and seed it is the same."""

    def fitted() -> Any:
        from tasks.evaluation import fit_classifier

        if (method := execution.fitted.pop(curve.label, None)) is None:
            method = seeded(curve.step, execution.pipeline.seed)
            fit_classifier(method, execution.datasets[CLEAN], execution.features())
        return method

    return fitted


def _record(execution: Execution, found: Curves, curve: Curve, scored: bool, error: Exception | None) -> None:
    """Record a classifier's step."""
    with execution.step(curve.name, KIND) as record:
        record.fingerprint = curve.fingerprint
        folder = execution.folders.step(curve.name, curve.fingerprint)
        record.folder = str(folder.relative_to(execution.folders.root)) if folder.exists() else None
        if error is not None:
            raise error
        values = [curve.scores[c.key]["accuracy"] for c in found.conditions if c.severity and not c.denoised]
        told = f"mean accuracy {sum(values) / len(values):.4g} under noise" if values else ""
        record.status = "done" if scored else "reused"
        if scored:
            execution.bars[curve.name].done(told)
        else:
            execution.progress.reused(curve.name, told)
    record.seconds += curve.seconds
