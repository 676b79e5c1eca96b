"""From `clean` to a noisy copy: the same rows, ids, labels and splits, other values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from storage.dataset import Dataset
from storage.fingerprint import code_version, describe
from storage.part import Part
from storage.plan import Plan
from storage.shards import Shard
from storage.stores import locate
from storage.writer import Build
from tasks.building import Reporting, Work, build_dataset, wrong_texts
from tasks.noise.protocol import printed, slug_of

VERSION = 1
"""Raised when noising gives other bytes for the same input, noise and seed."""


def noise_recipe(version: str, noise: Any, seed: int) -> dict[str, Any]:
    """Everything that the bytes of a noisy copy depend on; `version` is that of the clean part."""
    return {
        "step": "noise",
        "version": VERSION,
        "input": version,
        "noise": describe(noise),
        "written": printed(noise),
        "code": noise_code(noise),
        "seed": seed,
    }


def noise_code(noise: Any) -> Any:
    """Version of a noise's code, and of the noises that it is made of."""
    members = getattr(noise, "members", None)
    return [code_version(noise), *map(noise_code, members)] if members else code_version(noise)


def add_noise(
    clean: Dataset,
    noise: Any,
    folder: str,
    client: Client,
    *,
    seed: int,
    label: str = "noise",
    start: Callable[[int, int], Any] | None = None,
    advance: Callable[[int], Any] | None = None,
    retries: int = 2,
) -> Dataset:
    """Write a noisy copy of a dataset; resumes what an earlier call committed.

    Parameters
    ----------
    clean : Dataset
    noise : Noise
        Of the same kind as the dataset.
    folder : str
        The new dataset's folder or URL.
    client : distributed.Client
    seed : int
    label : str
        Of its tasks on the dashboard.
    start, advance : callable, optional
        Called once with the number of shards and how many are committed already, and with 1 for each that follows.
    retries : int

    Returns
    -------
    Dataset
    """
    if noise.kind != clean.kind:
        raise ValueError(
            f"expected a noise for {clean.kind}, received {noise} for {noise.kind}; choose one of tasks.noise"
        )
    works = plan_noise(clean, noise, folder, seed)
    return build_dataset(works, client, Reporting(label, start, advance), retries=retries)


def plan_noise(clean: Dataset, noise: Any, folder: str | Path, seed: int) -> list[Work]:
    """How the shards of a noisy copy are made: a build for each part of the clean data, with the same shards.

    So after an append only the new part is made noisy, and the noisy copy shares the old ones as the clean data does.
    """
    works = []
    for part in clean.parts:
        slot = part.plan.slot_bytes if clean.kind == "texts" else None
        plan = Plan(
            name=slug_of(noise),
            kind=clean.kind,
            layout=part.layout,
            recipe=noise_recipe(part.version, noise, seed),
            sample_shape=part.plan.sample_shape,
            classes=part.plan.classes,
            splits=part.plan.splits,
            slot_bytes=None if slot is None else math.ceil(slot * float(getattr(noise, "growth", 1.0))),
        )
        works.append(Work(Build(locate(folder), plan), noisy_shard, _Arguments(part, noise, seed)))
    return works


@dataclass(frozen=True)
class _Arguments:
    """What every shard of a part needs, in a form that is the same for all."""

    part: Part
    noise: Any
    seed: int

    def __call__(self, number: int) -> tuple[Any, ...]:
        return self.part.dataset, self.part.build, self.noise, self.seed


@lru_cache(maxsize=16)
def _part(dataset: str, build: str) -> Part:
    """Opened once per process, not once per shard."""
    return Part(dataset, build)


def noisy_shard(plan: Plan, number: int, dataset: str, build: str, noise: Any, seed: int) -> Shard:
    """Read one shard of the clean data and add the noise."""
    clean = _part(dataset, build)
    start, stop = plan.layout.bounds(number)
    values = clean.read(start, stop)
    labels, ids, split = (clean.column(name, start, stop) for name in ("labels", "ids", "split"))
    return Shard(apply_noise(noise, values, ids, seed), labels, ids, split)


def apply_noise(noise: Any, values: Any, ids: np.ndarray, seed: int) -> Any:
    """Add the noise to some samples, and refuse what does not keep their number, shape and type.

    Parameters
    ----------
    noise : Noise
    values : ndarray of uint8, shape (n, height, width, channel), or list of str
    ids : ndarray of int64, shape (n,)
    seed : int
    """
    noisy = noise(values, ids, seed=seed)
    if isinstance(values, np.ndarray):
        if not isinstance(noisy, np.ndarray) or noisy.shape != values.shape or noisy.dtype != values.dtype:
            raise ValueError(
                f"expected {noise} to keep uint8 and shape {values.shape}, received {describe_array(noisy)}"
            )
    elif wrong := wrong_texts(noisy, len(values)):
        raise ValueError(f"expected {noise} to give a list of {len(values)} strings, received {wrong}")
    return noisy


def describe_array(value: Any) -> str:
    """Say what a value is, for an error message."""
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
