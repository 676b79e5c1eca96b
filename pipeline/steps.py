"""The steps of a pipeline and their fingerprints: what each depends on, and whether it is done.

A dataset's fingerprint is the key of its build. A method's or network's fingerprint is the digest of its parameters,
its code's version, and the versions of the datasets that it learns from and is scored on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tasks
from pipeline.folders import Folders
from pipeline.pipeline import Pipeline
from pipeline.settings import Settings
from storage.documents import MANIFEST, read_pointer
from storage.plan import build_key, digest
from storage.writer import progress_of
from tasks.fingerprint import code_version, describe, files_version
from tasks.ingest import ingest_recipe
from tasks.noise.protocol import slug_of
from tasks.noising import noise_recipe

CLEAN = "clean"
_TASKS = Path(tasks.__file__).parent
_SHARED_CODE = {
    "method": (_TASKS / "features.py", _TASKS / "evaluation.py"),
    "network": (_TASKS / "training", _TASKS / "evaluation.py"),
}
"""What a result depends on beside the step's own code: how features are made, how networks train, how both score."""


@dataclass(frozen=True)
class DatasetState:
    """How far a dataset is."""

    key: str
    """Name of the build; the step's fingerprint."""
    version: str | None
    """The content's digest if it is finished and visible, else None."""
    done: int
    """Committed shards."""
    shards: int | None
    """Planned shards; None if the build was never begun."""


def layout_of(settings: Settings) -> dict[str, int]:
    """Keyword arguments of `storage.layout.plan_layout`."""
    storage = settings.storage
    return {
        "shard_bytes": storage.shard_bytes,
        "minimum_shard_bytes": storage.minimum_shard_bytes,
        "minimum_shards": storage.minimum_shards,
    }


def _state(folders: Folders, name: str, recipe: dict[str, Any]) -> DatasetState:
    folder, key = folders.dataset(name), build_key(name, recipe)
    pointer = read_pointer(folder)
    done, shards = progress_of(folder, key) or (0, None)
    visible = (
        pointer is not None and pointer["build"] == f"builds/{key}" and (folder / pointer["build"] / MANIFEST).exists()
    )
    return DatasetState(key, pointer["version"] if pointer and visible else None, done, shards)


def clean_state(pipeline: Pipeline, folders: Folders, settings: Settings) -> DatasetState:
    """How far the ingested dataset is."""
    recipe = ingest_recipe(pipeline.source, pipeline.split, pipeline.seed, layout_of(settings))
    return _state(folders, CLEAN, recipe)


def noise_state(pipeline: Pipeline, folders: Folders, noise: Any, clean_version: str) -> DatasetState:
    """How far a noisy copy is."""
    return _state(folders, slug_of(noise), noise_recipe(clean_version, noise, pipeline.seed))


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
    return digest(
        {
            "step": [describe(part) for part in parts],
            "code": [code_version(part) for part in parts],
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
