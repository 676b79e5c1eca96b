"""Score classifiers on noisy rows that are made a few blocks at a time and never stored.

Blocks of several conditions make a window of bounded size. While the subjects are scored on one window, workers make
the next: CPU workers read and add the noise, GPU workers remove it, and only predicted classes come back.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from distributed import Client, Future, fire_and_forget

from storage.dataset import Dataset
from tasks.features import Features
from tasks.placement import cpu_resources, task_key, workers_with
from tasks.robustness.blocks import denoise_block, forget_models, read_block
from tasks.robustness.conditions import Condition, Variant
from tasks.robustness.subjects import Block, Subject, submit_gpu, wait_done

WINDOW_BYTES = 256 << 20
"""Most bytes of a window as float32; two are in the workers' memory at a time, beside their samples as bytes."""


@dataclass
class Measure:
    """What is scored, on which rows, and whom to tell.

    Parameters
    ----------
    clean : Dataset
    features : Features
    split : str
    rows : int or None
        At most so many rows of the split, the first ones: rows are shuffled, so they are a fair draw.
    seed : int
        Of the noise.
    variants : sequence of (Variant, sequence of Condition)
        What to read, and the conditions that are made of it.
    denoiser : str or None
        Folder of the network that removes the noise.
    on_score : callable
        ``on_score(label, condition, accuracy, rows)``.
    parallel : int
        Methods that are scored at the same time.
    retries : int
        How often a failing block is tried again.
    """

    client: Client
    clean: Dataset
    features: Features
    split: str
    seed: int
    variants: Sequence[tuple[Variant, Sequence[Condition]]]
    on_score: Callable[[str, Condition, float, int], Any]
    denoiser: str | None = None
    rows: int | None = None
    parallel: int = 2
    retries: int = 2
    failed_subjects: dict[str, Exception] = field(default_factory=dict)
    """What ended the scoring of a subject, by label."""
    failed_series: dict[str, Exception] = field(default_factory=dict)
    """What ended a kind of noise, by name."""
    failed_denoiser: Exception | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """How long each subject predicted."""

    @property
    def scored_rows(self) -> slice:
        """The rows that are scored."""
        rows = self.clean.rows(self.split)
        return rows if self.rows is None else slice(rows.start, min(rows.stop, rows.start + self.rows))

    def alive(self, condition: Condition) -> bool:
        """Whether nothing that the condition needs has failed."""
        lost = condition.denoised and self.failed_denoiser is not None
        return condition.series not in self.failed_series and not lost


def measure(plan: Measure, subjects: Sequence[Subject]) -> None:
    """Score the subjects on the conditions that each wants; what fails is noted in the plan, and the rest goes on."""
    labels = plan.clean.labels()
    counted = {subject.label: _Counts() for subject in subjects}
    waiting: deque[list[Block]] = deque()
    pools = {
        True: ThreadPoolExecutor(max(1, plan.parallel), "robustness method"),
        False: ThreadPoolExecutor(max(1, len(subjects)), "robustness network"),
    }

    def score(subject: Subject, blocks: list[Block]) -> None:
        begun = time.perf_counter()
        try:
            counted[subject.label].add(blocks, subject.predict(blocks, plan.client), labels)
            plan.seconds[subject.label] += time.perf_counter() - begun
            for condition, accuracy, rows in counted[subject.label].finished(plan.scored_rows):
                plan.on_score(subject.label, condition, accuracy, rows)
        except CancelledError:
            raise
        except Exception as error:
            plan.failed_subjects[subject.label] = error

    def score_window(blocks: list[Block]) -> None:
        sound = _sound(plan, blocks)
        jobs = []
        for subject in subjects:
            mine = [block for block in sound if block.condition.key in subject.wanted]
            if mine and subject.label not in plan.failed_subjects:
                jobs.append(pools[subject.needs_matrix].submit(score, subject, mine))
        for job in jobs:
            job.result()

    try:
        for window in _windows(plan):
            waiting.append(_prepare(plan, window, subjects))
            if len(waiting) > 1:
                score_window(waiting.popleft())
        while waiting:
            score_window(waiting.popleft())
    finally:
        for pool in pools.values():
            pool.shutdown(cancel_futures=True)
        for address in workers_with(plan.client, "GPU"):
            key = task_key("robustness forget", uuid.uuid4().hex)
            fire_and_forget(plan.client.submit(forget_models, key=key, workers=[address], pure=False))


class _Counts:
    """Rows and hits of each condition."""

    def __init__(self) -> None:
        self.rows: Counter[Condition] = Counter()
        self.hits: Counter[Condition] = Counter()

    def add(self, blocks: Sequence[Block], predicted: np.ndarray, labels: np.ndarray) -> None:
        expected = sum(block.stop - block.start for block in blocks)
        if predicted.shape != (expected,):
            raise ValueError(f"expected {expected} predicted classes, received an array of shape {predicted.shape}")
        low = 0
        for block in blocks:
            high = low + block.stop - block.start
            self.rows[block.condition] += high - low
            self.hits[block.condition] += int(np.sum(predicted[low:high] == labels[block.start : block.stop]))
            low = high

    def finished(self, rows: slice) -> Iterator[tuple[Condition, float, int]]:
        """Give, once, the accuracy of every condition whose rows are all there."""
        for condition in [name for name, count in self.rows.items() if count == rows.stop - rows.start]:
            count = self.rows.pop(condition)
            yield condition, self.hits.pop(condition) / count, count


Window = list[tuple[Variant, Sequence[Condition], int, int]]


def _windows(plan: Measure) -> Iterator[Window]:
    """Cut all that is to be scored into windows, a block at a time."""
    window: Window = []
    size = 0
    for variant, conditions in plan.variants:
        for start, stop in plan.features.bounds(plan.clean, plan.scored_rows):
            live = [condition for condition in conditions if plan.alive(condition)]
            bytes_ = (stop - start) * plan.features.columns * 4 * len(live)
            if window and size + bytes_ > WINDOW_BYTES:
                yield window
                window, size = [], 0
            if live:
                window.append((variant, live, start, stop))
                size += bytes_
    if window:
        yield window


def _prepare(plan: Measure, window: Window, subjects: Sequence[Subject]) -> list[Block]:
    """Send the making of a window's blocks to the workers."""
    client, token, resources = plan.client, uuid.uuid4().hex, cpu_resources(plan.client)
    transform = plan.features.transformer() if any(subject.needs_matrix for subject in subjects) else None

    def submit(name: str, number: int, function: Callable[..., Any], *arguments: Any) -> Future:
        key = task_key(name, f"{name} {token}", number)
        return client.submit(function, *arguments, key=key, resources=resources, pure=False, retries=plan.retries)

    values = []
    for number, (variant, _, start, stop) in enumerate(window):
        path, noise = variant.path or plan.clean.path, None if variant.path else variant.noise
        values.append(submit("robustness noise", number, read_block, path, start, stop, noise, plan.seed))
    wanted = [any(condition.denoised for condition in conditions) for _, conditions, _, _ in window]
    noisy = [value for value, want in zip(values, wanted, strict=True) if want]
    cleaned = iter(submit_gpu(client, "robustness denoise", denoise_block, plan.denoiser, values=noisy))
    blocks: list[Block] = []
    for (_, conditions, start, stop), value in zip(window, values, strict=True):
        for condition in conditions:
            samples = next(cleaned) if condition.denoised else value
            matrix = submit("robustness features", len(blocks), transform, samples) if transform else None
            blocks.append(Block(condition, start, stop, samples, matrix))
    return blocks


def _sound(plan: Measure, blocks: Sequence[Block]) -> list[Block]:
    """Wait until the blocks are made; note what failed, and leave out what depends on it."""
    for block in sorted(blocks, key=lambda block: block.condition.denoised):  # a noise that fails is not the denoiser's
        if not plan.alive(block.condition):
            continue
        error = _error_of(plan.client, block)
        if error is not None and block.condition.denoised:
            plan.failed_denoiser = error
        elif error is not None:
            plan.failed_series[block.condition.series] = error
    return [block for block in blocks if plan.alive(block.condition)]


def _error_of(client: Client, block: Block) -> Exception | None:
    """Wait for a block without fetching it."""
    for future in filter(None, (block.values, block.matrix)):
        try:
            wait_done(client, future, "GPU" if block.condition.denoised else None)
        except CancelledError:
            raise
        except Exception as error:
            return error
    return None
