"""Whom to score: a fitted method or a saved network, as something that predicts the classes of blocks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from distributed import Client, Future

from tasks.evaluation import over_blocks
from tasks.placement import task_key, workers_with
from tasks.robustness.blocks import predict_block
from tasks.robustness.conditions import Condition

PATIENCE = 60.0
"""Seconds without any worker that could do a task, after which it is given up."""


@dataclass(frozen=True)
class Block:
    """Some rows under one condition, in the workers' memory."""

    condition: Condition
    start: int
    stop: int
    values: Future
    """The samples."""
    matrix: Future | None
    """The same as rows of numbers for the methods, if there are any."""


class Subject(Protocol):
    """A classifier that is scored."""

    label: str
    wanted: set[str]
    """Keys of the conditions that it is scored on."""
    needs_matrix: bool

    def predict(self, blocks: Sequence[Block], client: Client) -> np.ndarray:
        """Predicted classes of all rows of the blocks, int64 (n,)."""
        ...


@dataclass
class MethodSubject:
    """A fitted method; it predicts where the blocks lie."""

    label: str
    wanted: set[str]
    fitted: Callable[[], Any]
    """Gives the fitted method; called once, when there is something to predict."""
    columns: int
    """Of the matrix."""
    needs_matrix: bool = field(default=True, init=False)
    _method: Any = field(default=None, init=False, repr=False)

    def predict(self, blocks: Sequence[Block], client: Client) -> np.ndarray:
        from tasks.methods.blocks import collect
        from tasks.methods.execution import label as task_label

        task_label.set(f"robustness {self.label}")  # each call is in a thread of a pool for subjects only
        with client.as_current():
            if self._method is None:
                self._method = over_blocks(self.fitted())
            predicted = self._method.predict(_matrix(blocks, self.columns))
            return np.asarray(collect(predicted), np.int64)


@dataclass
class NetworkSubject:
    """A trained network in its folder; it predicts on workers that declare a GPU."""

    label: str
    wanted: set[str]
    folder: str
    length: int | None = None
    """Tokens per text; None for images."""
    needs_matrix: bool = field(default=False, init=False)

    def predict(self, blocks: Sequence[Block], client: Client) -> np.ndarray:
        return np.concatenate(
            on_gpu(client, f"robustness {self.label}", predict_block, self.folder, self.length, blocks=blocks)
        )


def on_gpu(client: Client, label: str, function: Any, *arguments: Any, blocks: Sequence[Block]) -> list[np.ndarray]:
    """Call a function of the samples of each block on workers that declare a GPU."""
    from tasks.training import wait_result

    futures = submit_gpu(client, label, function, *arguments, values=[block.values for block in blocks])
    try:
        return [wait_result(client, future) for future in futures]
    except BaseException:
        client.cancel(futures)
        raise


def wait_done(client: Client, future: Future, resource: str | None, *, patience: float = PATIENCE) -> None:
    """Wait for a task without fetching what it made; raises what it raised.

    Raises
    ------
    RuntimeError
        If for `patience` seconds there was no worker, or none that declares the resource.
    """
    gone: float | None = None
    while True:
        try:
            error = future.exception(timeout=1.0)
            break
        except TimeoutError:
            there = workers_with(client, resource) if resource else client.scheduler_info(n_workers=-1)["workers"]
            gone = None if there else gone or time.monotonic()
            if gone is not None and time.monotonic() - gone > patience:
                what = f"a worker that declares {resource}" if resource else "a worker"
                raise RuntimeError(
                    f"expected {what} for {future.key}, found none for {patience:g} s; start one and run again"
                ) from None
    if future.cancelled():
        raise CancelledError(str(future.key))
    if error is not None:
        raise error


def submit_gpu(
    client: Client, label: str, function: Any, *arguments: Any, values: Sequence[Future], retries: int = 1
) -> list[Future]:
    """Submit ``function(*arguments, values)`` for each block's values to workers that declare a GPU."""
    token = uuid.uuid4().hex
    return [
        client.submit(
            function,
            *arguments,
            value,
            key=task_key(label, token, number),
            resources={"GPU": 1},
            pure=False,
            retries=retries,
        )
        for number, value in enumerate(values)
    ]


def _matrix(blocks: Sequence[Block], columns: int) -> Any:
    """A Dask matrix of blocks that are in the workers' memory."""
    import dask.array as da

    stem = f"robustness_rows-{uuid.uuid4().hex}"
    graph = {(stem, number, 0): block.matrix for number, block in enumerate(blocks)}
    lengths = tuple(block.stop - block.start for block in blocks)
    return da.Array(graph, stem, (lengths, (columns,)), dtype=np.float32)
