"""From `clean` to a noisy copy: the same rows, ids, labels and splits, other values."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from storage.dataset import Dataset, open_dataset
from storage.plan import Plan
from storage.writer import Build, Shard
from tasks.building import build_dataset, wrong_texts
from tasks.fingerprint import code_version, describe
from tasks.noise.protocol import printed, slug_of

VERSION = 1
"""Raised when noising gives other bytes for the same input, noise and seed."""


def noise_recipe(clean_version: str, noise: Any, seed: int) -> dict[str, Any]:
    """Everything that the bytes of a noisy copy depend on."""
    return {
        "step": "noise",
        "version": VERSION,
        "input": clean_version,
        "noise": describe(noise),
        "written": printed(noise),
        "code": code_version(noise),
        "seed": seed,
    }


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
        The new dataset's folder.
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
    slot = clean.manifest["slot_bytes"]
    plan = Plan(
        name=slug_of(noise),
        kind=clean.kind,
        layout=clean.layout,
        recipe=noise_recipe(clean.version, noise, seed),
        sample_shape=clean.sample_shape,  # type: ignore[arg-type]
        classes=clean.classes,
        splits={name: ranges[0] for name, ranges in clean.splits.items()},
        slot_bytes=None if slot is None else math.ceil(slot * float(getattr(noise, "growth", 1.0))),
    )
    return build_dataset(
        Build(str(Path(folder).absolute()), plan),
        noisy_shard,
        lambda number: (str(clean.path), noise, seed),
        client,
        label=label,
        start=start,
        advance=advance,
        retries=retries,
    )


def noisy_shard(plan: Plan, number: int, clean_path: str, noise: Any, seed: int) -> Shard:
    """Read one shard of the clean data and add the noise."""
    clean = open_dataset(clean_path)
    start, stop = plan.layout.bounds(number)
    values = clean.read(start, stop)
    labels, ids, split = (clean.column(name, start, stop) for name in ("labels", "ids", "split"))
    noisy = noise(values, ids, seed=seed)
    if isinstance(values, np.ndarray):
        if not isinstance(noisy, np.ndarray) or noisy.shape != values.shape or noisy.dtype != values.dtype:
            raise ValueError(
                f"expected {noise} to keep uint8 and shape {values.shape}, received {describe_array(noisy)}"
            )
    elif wrong := wrong_texts(noisy, len(values)):
        raise ValueError(f"expected {noise} to give a list of {len(values)} strings, received {wrong}")
    return Shard(noisy, labels, ids, split)


def describe_array(value: Any) -> str:
    """Say what a value is, for an error message."""
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
