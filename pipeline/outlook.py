"""What a run would do: which steps are done, partly done and missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.noise.protocol import slug_of

if TYPE_CHECKING:
    from pipeline.pipeline import Pipeline

DONE, PARTLY, MISSING = "done", "partly done", "missing"


@dataclass(frozen=True)
class StepOutlook:
    """One step of the pipeline."""

    name: str
    kind: str
    """``dataset``, ``method``, ``network`` or ``robustness``."""
    state: str
    """``done``, ``partly done`` or ``missing``."""
    detail: str = ""


@dataclass(frozen=True)
class Outlook:
    """All steps of a pipeline, in the order of a run; prints as a table."""

    pipeline: str
    steps: tuple[StepOutlook, ...]

    def __iter__(self) -> Iterator[StepOutlook]:
        return iter(self.steps)

    def __str__(self) -> str:
        width, kinds = (max(len(getattr(step, part)) for step in self.steps) for part in ("name", "kind"))
        counts = {state: sum(step.state == state for step in self.steps) for state in (DONE, PARTLY, MISSING)}
        head = f"{self.pipeline}: " + ", ".join(f"{count} {state}" for state, count in counts.items())
        rows = [f"  {s.name:<{width}}  {s.kind:<{max(8, kinds)}} {s.state:<12} {s.detail}".rstrip() for s in self.steps]
        return "\n".join([head, *rows])

    @property
    def finished(self) -> bool:
        """Whether a run would reuse everything."""
        return all(step.state == DONE for step in self.steps)


def look_ahead(pipeline: Pipeline, root: Path) -> Outlook:
    """Look at what is under the root; computes nothing and writes nothing."""
    from pipeline import config
    from pipeline.curves import outlook_of_curves
    from pipeline.folders import Folders
    from pipeline.robustness import stored_noises
    from pipeline.steps import CLEAN, DatasetState, clean_state, noise_state, step_fingerprint

    settings = config.load()
    folders = Folders.of(pipeline.name, root, settings.storage.datasets)

    def dataset(name: str, state: DatasetState) -> StepOutlook:
        if state.version:
            return StepOutlook(name, "dataset", DONE, f"{state.shards} shards, version {state.version[:12]}")
        if state.shards:
            if state.done == state.shards:  # a source that has grown: how many shards that makes, a run will find out
                return StepOutlook(name, "dataset", PARTLY, f"{state.shards:,} shards there, new samples to append")
            return StepOutlook(name, "dataset", PARTLY, f"{state.done:,} of {state.shards:,} shards done")
        return StepOutlook(name, "dataset", MISSING)

    clean = clean_state(pipeline, folders, settings)
    steps = [dataset(CLEAN, clean)]
    versions: dict[str, str] = {}
    if clean.version:
        versions[CLEAN] = clean.version
    for noise in stored_noises(pipeline):
        name = slug_of(noise)
        if not clean.version:
            steps.append(StepOutlook(name, "dataset", MISSING, "waits for clean"))
            continue
        state = noise_state(pipeline, folders, noise, clean.parts)
        steps.append(dataset(name, state))
        if state.version and noise in pipeline.noise:
            versions[name] = state.version
    waiting = len(versions) <= len(pipeline.noise)
    for label, step in pipeline.labels.items():
        kind = "method" if step in pipeline.methods else "network"
        if waiting:
            steps.append(StepOutlook(label, kind, MISSING, "waits for its data"))
            continue
        fingerprint = step_fingerprint(pipeline, step, versions, settings)
        there = folders.read_result(label, fingerprint) is not None
        steps.append(StepOutlook(label, kind, DONE if there else MISSING))
    if pipeline.robustness is not None:
        steps += outlook_of_curves(pipeline, folders, settings, None if waiting else versions)
    return Outlook(pipeline.name, tuple(steps))
