"""Robustness curves as steps of a run: which scores are there, which are missing, and how they come into the record.

Each classifier has a step of its own with a result of its own. The result's fingerprint is that of the fitted method
or trained network and of the code that scores, so asking for curves never fits or trains anything for another reason.
In the result every score has a key of its own: a further noise, severity or denoiser adds scores and keeps the others.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tasks
from pipeline.robustness import asked_of, denoiser_of, scored_steps, stored_noises
from pipeline.steps import step_fingerprint
from storage.fingerprint import files_version
from storage.plan import digest
from tasks.noise.protocol import printed, slug_of

if TYPE_CHECKING:
    from pipeline.folders import Folders
    from pipeline.outlook import StepOutlook
    from pipeline.pipeline import Pipeline
    from pipeline.robustness import Robustness
    from pipeline.settings import Settings
    from storage.dataset import Dataset
    from tasks.robustness import Condition, Variant

_TASKS = Path(tasks.__file__).parent
_CODE = (_TASKS / "robustness", _TASKS / "noising.py", _TASKS / "features.py")
KIND = "robustness"


@dataclass
class Curve:
    """The step of one classifier."""

    label: str
    step: Any
    kind: str
    """``method`` or ``network``."""
    fitted: str
    """Fingerprint of the step that fits it."""
    fingerprint: str
    scores: dict[str, dict[str, Any]]
    """What is there, by the key of the condition."""
    seconds: float = 0.0
    """How long it was scored in this run."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """What the step is called."""
        return f"{KIND} {self.label}"

    def missing(self, conditions: list[Condition]) -> set[str]:
        """Keys of the conditions that are not scored yet."""
        return {condition.key for condition in conditions} - self.scores.keys()


@dataclass
class Curves:
    """All that a pipeline asks for."""

    pipeline: Pipeline
    asked: Robustness
    folders: Folders
    variants: list[tuple[Variant, list[Condition]]]
    curves: list[Curve]
    denoiser: str | None
    """Label of the network that removes noise."""
    denoiser_folder: Path | None
    notes: list[str] = field(default_factory=list)

    @property
    def conditions(self) -> list[Condition]:
        """All conditions, clean ones first."""
        return [condition for _, conditions in self.variants for condition in conditions]

    def keep(self, label: str, condition: Condition, accuracy: float, rows: int) -> None:
        """Commit one more score of a classifier."""
        curve = next(curve for curve in self.curves if curve.label == label)
        with curve.lock:
            curve.scores[condition.key] = {"condition": str(condition), "accuracy": accuracy, "rows": rows}
            self.folders.write_result(curve.name, curve.fingerprint, {"label": label, "scores": curve.scores})

    def drop(self, *, series: Mapping[str, Any] | None = None, denoiser: bool = False) -> None:
        """Leave out kinds of noise that failed, or all that needs the denoiser."""
        self.variants = [
            (variant, [condition for condition in conditions if not (denoiser and condition.denoised)])
            for variant, conditions in self.variants
            if variant.series not in (series or {})
        ]
        self.denoiser = None if denoiser else self.denoiser


def plan_curves(
    pipeline: Pipeline, folders: Folders, settings: Settings, versions: dict[str, str], *, denoiser: str | None
) -> Curves:
    """Say what a pipeline asks for and what of it is there.

    Parameters
    ----------
    pipeline : Pipeline
        One that asks for robustness.
    folders : Folders
    settings : Settings
    versions : dict
        Version of every dataset that methods and networks are trained or scored on, by name.
    denoiser : str or None
        Label of the network that removes noise; None to leave that part out.
    """
    from tasks.robustness.conditions import CLEAN, Variant, condition_of

    asked = asked_of(pipeline)
    steps = pipeline.labels
    prints = {label: step_fingerprint(pipeline, step, versions, settings) for label, step in steps.items()}
    found = [Variant(CLEAN, 0)]
    for name, made in asked.made.items():
        for severity, noise in made.items():
            path = folders.dataset(slug_of(noise)) if asked.store else None
            found.append(Variant(name, severity, noise, path))
    ways = [None, prints[denoiser]] if denoiser else [None]
    variants = [(v, [condition_of(v, rows=asked.rows, denoiser=way) for way in ways]) for v in found]
    code = files_version(*_CODE)
    curves = []
    for label, (step, kind) in scored_steps(pipeline).items():
        fingerprint = digest({"fitted": prints[label], "code": code})
        kept = folders.read_result(f"{KIND} {label}", fingerprint) or {}
        curves.append(Curve(label, step, kind, prints[label], fingerprint, dict(kept.get("scores", {}))))
    folder = folders.step(denoiser, prints[denoiser]) if denoiser else None
    return Curves(pipeline, asked, folders, variants, curves, denoiser, folder)


def outlook_of_curves(
    pipeline: Pipeline, folders: Folders, settings: Settings, versions: dict[str, str] | None
) -> Iterator[StepOutlook]:
    """Say how far the steps are; `versions` is None as long as datasets are missing."""
    from pipeline.outlook import DONE, MISSING, PARTLY, StepOutlook

    if versions is None:
        for label in scored_steps(pipeline):
            yield StepOutlook(f"{KIND} {label}", KIND, MISSING, "waits for its data")
        return
    found = plan_curves(pipeline, folders, settings, versions, denoiser=denoiser_of(pipeline))
    for curve in found.curves:
        conditions = found.conditions
        done = len(conditions) - len(curve.missing(conditions))
        state = DONE if done == len(conditions) else PARTLY if done else MISSING
        yield StepOutlook(curve.name, KIND, state, f"{done:,} of {len(conditions):,} scores")


def copies_to_store(pipeline: Pipeline) -> list[Any]:
    """Noises whose copies `Robustness` stores beside the pipeline's own."""
    return list(stored_noises(pipeline)[len(pipeline.noise) :])


def document_of(found: Curves, clean: Dataset, failed: Collection[str]) -> dict[str, Any]:
    """What stands in ``run.json``.

    Parameters
    ----------
    found : Curves
    clean : Dataset
    failed : collection of str
        Labels of the classifiers that have no whole result.
    """
    from pipeline.corruption import add_errors, curve_entry
    from tasks.training.scoring import scored_split

    asked = found.asked
    conditions, split = found.conditions, scored_split(clean)
    whole = [curve for curve in found.curves if curve.label not in failed and not curve.missing(conditions)]
    entries = [curve_entry(curve.label, curve.kind, conditions, curve.scores) for curve in whole]
    rows = clean.rows(split)
    there = {variant.series for variant, _ in found.variants}
    baseline = asked.baseline or next(iter(scored_steps(found.pipeline)))
    return {
        "baseline": baseline,
        "denoiser": found.denoiser,
        "split": split,
        "rows": min(rows.stop - rows.start, asked.rows or rows.stop),
        "seed": found.pipeline.seed,
        "noises": [
            {"name": name, "severities": list(made), "written": [printed(noise) for noise in made.values()]}
            for name, made in asked.made.items()
            if name in there
        ],
        "results": add_errors(entries, baseline),
        "notes": found.notes,
    }
