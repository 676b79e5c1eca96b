"""Send a training to a worker that declares a GPU, and wait without hanging when there is none."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import Client, Future

from tasks.networks.protocol import check_network
from tasks.placement import task_key, workers_with
from tasks.training.session import train

_CURE = 'use connect("local", gpu_workers=1), or start a worker with --resources "GPU=1"'


def submit_training(
    client: Client,
    network: Any,
    dataset_path: str | Path,
    noisy_path: str | Path | None = None,
    *,
    tests: Mapping[str, str | Path] | None = None,
    folder: str | Path,
    seed: int = 0,
    label: str | None = None,
    token: str | None = None,
    retries: int = 1,
) -> Future:
    """Submit `train` to a worker that declares the resource GPU.

    Parameters
    ----------
    client : distributed.Client
    network, dataset_path, noisy_path, tests, folder, seed, label
        See `tasks.training.train`. Paths are those that the worker sees.
    token : str, optional
        Two submissions with the same label and token are one task. By default every submission is a new one.
    retries : int
        How often a training that raises is tried again. One whose worker dies is started again in any case.

    Raises
    ------
    RuntimeError
        If no worker declares a GPU: the task would wait for ever.
    """
    check_network(network)
    if not workers_with(client, "GPU"):
        raise RuntimeError(f"expected a worker that declares a GPU for {network}, found none; {_CURE}")
    label = label or str(network)
    return client.submit(
        train,
        network,
        str(dataset_path),
        None if noisy_path is None else str(noisy_path),
        {name: str(path) for name, path in tests.items()} if tests else None,
        folder=str(folder),
        seed=seed,
        label=label,
        resources={"GPU": 1},
        # With the resource alone, dask may still prefer a place by its data; `pure` would need a hash of the network.
        pure=False,
        key=task_key(label, token or uuid.uuid4().hex),
        retries=retries,
    )


def wait_result(client: Client, future: Future, *, patience: float = 60.0, poll: float = 1.0) -> Any:
    """Wait for a submitted training.

    Parameters
    ----------
    client : distributed.Client
    future : distributed.Future
    patience : float
        Seconds without any worker that declares a GPU after which waiting is given up. A nanny brings a worker that
        died back within seconds.
    poll : float
        Seconds between two looks at the workers.

    Returns
    -------
    dict
        What `train` returned; its exception is raised here.

    Raises
    ------
    RuntimeError
        If the workers that declare a GPU are gone and none came back. The task is cancelled then.
    """
    gone: float | None = None
    try:
        # Not `distributed.wait`: it looks for a default client, which a pipeline's is not.
        while not future.done():
            try:
                return future.result(timeout=poll)
            except TimeoutError:
                if future.done():  # the training itself raised it
                    break
                gone = None if workers_with(client, "GPU") else gone or time.monotonic()
                if gone is not None and time.monotonic() - gone >= patience:
                    raise RuntimeError(
                        f"expected a worker that declares a GPU for {future.key}, found none for {patience:g} s; "
                        f"{_CURE}"
                    ) from None
        return future.result()
    except BaseException:
        # Also when the user gives up: nobody will read the result.
        future.cancel()
        raise
