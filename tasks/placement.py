"""Where tasks run: preparation on workers that declare CPU, training on workers that declare GPU."""

from __future__ import annotations

import hashlib
from typing import Any

from distributed import Client


def workers_with(client: Client, resource: str) -> list[str]:
    """Addresses of the workers that declare a resource."""
    workers: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, worker in workers.items() if worker.get("resources", {}).get(resource)]


def cpu_resources(client: Client) -> dict[str, float] | None:
    """Resources to ask for so that a task does not occupy a GPU worker.

    None where no worker declares CPU (somebody else's cluster): any worker may take the task then. Always pass the
    result to ``submit``: an annotation on a Dask array is lost when the graph is fused.
    """
    return {"CPU": 1} if workers_with(client, "CPU") else None


def total_threads(client: Client) -> int:
    """Threads of all workers, at least 1."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return max(1, sum(worker["nthreads"] for worker in workers.values()))


def task_key(label: str, token: str, number: int | None = None) -> Any:
    """Key of a task, made so that the dashboard groups it under `label`.

    Dask cuts a key's name at the first part that is no word, so dashes in the label become low lines.
    """
    name = f"{label.replace('-', '_')}-{hashlib.sha256(token.encode()).hexdigest()[:32]}"
    return name if number is None else (name, number)
