"""The steps of a pipeline and their fingerprints: what each depends on, and whether it is done.

A dataset's fingerprint is the key of its build. A method's or network's fingerprint is the digest of its parameters,
its code's version, and the versions of the datasets that it learns from and is scored on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasks
from pipeline.folders import Folders
from pipeline.pipeline import Pipeline
from pipeline.settings import Settings
from storage.fingerprint import code_version, describe, files_version
from storage.plan import build_key, digest
from storage.progress import progress_of
from storage.stores import store_of
from storage.versions import latest
from tasks.appending import append_recipe, continues
from tasks.ingest import ingest_recipe
from tasks.noise.protocol import slug_of
from tasks.noising import noise_code, noise_recipe

CLEAN = "clean"
_TASKS = Path(tasks.__file__).parent
_SHARED_CODE = {
    "method": (_TASKS / "features.py", _TASKS / "evaluation.py", _TASKS / "scores.py"),
    "network": (_TASKS / "training", _TASKS / "scores.py"),
}
"""What a result depends on beside the step's own code: how features are made, how networks train, how both score."""


@dataclass(frozen=True)
class DatasetState:
    """How far a dataset is."""

    key: str
    """The step's fingerprint: keys of the builds that it will be made of."""
    version: str | None
    """The content's digest if it is finished and visible, else None."""
    done: int
    """Committed shards."""
    shards: int | None
    """Planned shards; None if no build was ever begun."""
    parts: tuple[str, ...] = ()
    """Versions of its builds if it is finished."""


def layout_of(settings: Settings) -> dict[str, int]:
    """Keyword arguments of `storage.layout.plan_layout`."""
    storage = settings.storage
    return {
        "shard_bytes": storage.shard_bytes,
        "minimum_shard_bytes": storage.minimum_shard_bytes,
        "minimum_shards": storage.minimum_shards,
    }


def _state(location: str, builds: list[str]) -> DatasetState:
    """How far a dataset of some builds is."""
    document = latest(store_of(location))
    counts = [progress_of(location, build) for build in builds]
    begun = [count for count in counts if count is not None]
    visible = document is not None and [part["build"] for part in document["parts"]] == builds
    return DatasetState(
        key=builds[0] if len(builds) == 1 else digest(builds)[:16],
        version=document["version"] if document and visible else None,
        done=sum(done for done, _ in begun),
        shards=sum(shards for _, shards in begun) if begun else None,
        parts=tuple(part["version"] for part in document["parts"]) if document and visible else (),
    )


def clean_state(pipeline: Pipeline, folders: Folders, settings: Settings) -> DatasetState:
    """How far the ingested dataset is."""
    location = folders.dataset(CLEAN)
    recipe = ingest_recipe(pipeline.source, pipeline.split, pipeline.seed, layout_of(settings))
    if pipeline.grow:
        grown = latest(store_of(location))
        if grown is not None and continues(location, grown, recipe, pipeline.source):
            builds = [part["build"] for part in grown["parts"]]
            if grown["notes"].get("source") != recipe["source"]:
                builds.append(build_key(CLEAN, append_recipe(recipe, builds, pipeline.grow)))
            return _state(location, builds)
    return _state(location, [build_key(CLEAN, recipe)])


def noise_state(pipeline: Pipeline, folders: Folders, noise: Any, clean_versions: Sequence[str]) -> DatasetState:
    """How far a noisy copy is; `clean_versions` are those of the clean dataset's parts."""
    name = slug_of(noise)
    keys = [build_key(name, noise_recipe(version, noise, pipeline.seed)) for version in clean_versions]
    return _state(folders.dataset(name), keys)


def step_fingerprint(pipeline: Pipeline, step: Any, versions: dict[str, str], settings: Settings) -> str:
    """Fingerprint of a method or network.

    Parameters
    ----------
    pipeline : Pipeline
    step : estimator or network
    versions : dict
        Version of every dataset that it is trained or scored on, by name.
    settings : Settings
    """
    parts, is_method = step_parts(step), step in pipeline.methods
    code = [code_version(part) for part in parts]
    if (augment := getattr(step, "augment", None)) is not None:
        code.append(noise_code(augment))
    return digest(
        {
            "step": [describe(part) for part in parts],
            "code": code,
            "shared code": files_version(*_SHARED_CODE["method" if is_method else "network"]),
            "inputs": list(versions.items()),  # the first noise is what a denoiser learns from: order matters
            "seed": pipeline.seed,
            "texts": settings.texts.features if pipeline.source.kind == "texts" and is_method else None,
        }
    )


def step_parts(step: Any) -> list[Any]:
    """An estimator and the estimators inside it (a scikit-learn pipeline's steps), each with code of its own."""
    parts = [step]
    if hasattr(step, "get_params"):
        parts += [value for value in step.get_params(deep=True).values() if hasattr(value, "get_params")]
    return parts


def seeded(method: Any, seed: int) -> Any:
    """Copy an estimator with every unset ``random_state`` set to the pipeline's seed."""
    from sklearn.base import clone

    copy = clone(method)
    unset = {
        name: seed
        for name, value in copy.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return copy.set_params(**unset)
