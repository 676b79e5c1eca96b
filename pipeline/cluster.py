"""From a word, an address or a running cluster to a Dask client.

A worker declares what it has: ``CPU`` (as many as it has threads), or ``GPU`` (one). A task that asks for one of them
runs only where it is, so the preparation of data never takes the place of a training.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from dask.utils import format_bytes
from distributed import Client, Scheduler
from distributed.deploy.cluster import Cluster
from distributed.deploy.spec import SpecCluster
from distributed.deploy.utils import nprocesses_nthreads
from distributed.diagnostics.plugin import WorkerPlugin

from pipeline import machine
from pipeline.config import FILE_NAME, cluster_settings
from pipeline.main_guard import refuse_unguarded_script
from pipeline.nanny import SizedNanny
from pipeline.progress import say
from pipeline.settings import ClusterSettings

LOCALHOST = "127.0.0.1"
# TensorFlow, one model and its batches; with less, the nanny would restart the worker again and again.
NETWORK_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class LocalWorker:
    """One worker process of this machine."""

    name: str
    """``cpu-0`` or ``gpu-0``; stays when the process is restarted, while its address changes."""
    threads: int
    """Tasks at the same time."""
    memory: int
    """Bytes; near them it spills, pauses and at last is restarted."""
    resources: Mapping[str, float]
    """What tasks may ask for."""
    environment: Mapping[str, str]
    """Variables of its process beside those of this one."""


def connect(where: str | Client | Cluster | None = None, **options: Any) -> Client:
    """Start a cluster, or connect to one.

    The dashboard's address is printed first.

    Parameters
    ----------
    where : str, distributed.Client or cluster, optional
        ``"local"``: start workers on this machine. An address such as ``"tcp://node7:8786"`` or ``"tls://..."``:
        connect to the scheduler there. A client or a cluster: use it. By default, the setting
        ``duskflow.cluster.kind``.
    **options
        Replace settings of ``duskflow.cluster``, underscores for hyphens: ``workers=4, memory="24 GiB"``.

    Returns
    -------
    distributed.Client
        Close it or use it in ``with``. A cluster that was started here closes with it; all others stay.

    Raises
    ------
    ConnectionError
        If no scheduler answers at the address.
    RuntimeError
        If a script starts a local cluster outside of ``if __name__ == "__main__":``.
    TypeError, ValueError
        If `where` or an option is none of the above.

    Examples
    --------
    >>> with connect("local", workers=2) as client:  # doctest: +SKIP
    ...     run = pipeline.run(root="runs", client=client)
    """
    settings = cluster_settings(**options)
    if where is None:
        where = settings.kind
    if where == "local":
        return _start(settings)
    if useless := sorted(set(options) - {"connect_timeout"}):
        raise TypeError(f"{', '.join(useless)}: expected only with a local cluster; a running one stays as it is")
    if isinstance(where, Client):
        if where.scheduler is None:
            raise ValueError("expected an open client, received one that is closed; connect again")
        # A second client, so that leaving `with` closes that one and not the caller's.
        return Client(where.cluster or where.scheduler.address, security=where.security)
    if isinstance(where, Cluster):
        return Client(where)
    if isinstance(where, str) and "://" in where:
        return _reach(where, settings.connect_timeout)
    raise ValueError(f'expected "local" or a scheduler\'s address such as tcp://node7:8786, received {where!r}')


def resources_of(client: Client) -> dict[str, Any]:
    """What a cluster has, for the record of a run.

    Returns
    -------
    dict
        ``address``, ``dashboard`` (None without one), ``workers`` (all of them), ``threads``, ``gpu_workers`` (those
        that declare the resource GPU), ``memory_bytes``.
    """
    info = client.scheduler_info(n_workers=-1)
    workers = list(info["workers"].values())
    return {
        "address": info["address"],
        "dashboard": _dashboard(client),
        "workers": len(workers),
        "threads": sum(worker["nthreads"] for worker in workers),
        "gpu_workers": sum(worker["resources"].get("GPU", 0) >= 1 for worker in workers),
        "memory_bytes": sum(worker["memory_limit"] or 0 for worker in workers),
    }


def _dashboard(client: Client) -> str | None:
    """The address of the dashboard's first page, if there is a dashboard."""
    # A scheduler that was started without pages calls its other services "dashboard", too.
    options = (getattr(client.cluster, "scheduler_spec", None) or {}).get("options", {})
    services = client.scheduler_info(n_workers=0)["services"]
    return client.dashboard_link if options.get("dashboard", True) and "dashboard" in services else None


class _OwnClient(Client):
    """A client that takes the cluster along which was started for it."""

    def close(self, *args: Any, **kwargs: Any) -> None:
        cluster, name = self.cluster, self.id
        if cluster is not None and self.status == "running":
            self._hush_workers()
        super().close(*args, **kwargs)
        if cluster is None:
            return
        # The scheduler hears of the client's end a moment later. Until then it would take the workers that stop for
        # the loss of results that someone still wants, and warn.
        patience = time.monotonic() + 1
        while name in getattr(cluster.scheduler, "clients", ()) and time.monotonic() < patience:
            time.sleep(0.005)
        # That a worker stops, or is slow to stop on a busy machine and is killed, is no news now.
        with _quiet("distributed.nanny"), _quiet("distributed.scheduler"):
            cluster.close()

    def _hush_workers(self) -> None:
        """Let workers stop in silence: one that is just sending its heartbeat would log that nobody listens."""
        with suppress(Exception):  # a worker that does not answer now cannot be asked; closing goes on
            self.sync(self._run, _hush, on_error="ignore", callback_timeout=2)


def _close_forgotten(reference: weakref.ref[Client]) -> None:
    client = reference()
    if client is not None and client.status == "running":
        client.close()


class _QuietFailures(WorkerPlugin):
    """Keep a failed task's traceback out of the terminal: the step's line says why, the report has the traceback."""

    def setup(self, worker: Any) -> None:
        logging.getLogger("distributed.worker").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Compute Failed")


def _hush() -> None:
    for name in ("distributed", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name in ("distributed.worker", "distributed.core", "distributed.nanny", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _start(settings: ClusterSettings) -> Client:
    refuse_unguarded_script()
    gpus = machine.gpus()
    workers = local_workers(settings, machine.cores(), machine.memory(), gpus)
    cluster = SpecCluster(
        name="duskflow",
        scheduler={"cls": Scheduler, "options": _scheduler_options(settings.dashboard_address)},
        workers={worker.name: _nanny(worker, settings.local_directory) for worker in workers},
        silence_logs=logging.WARNING,
    )
    client = _OwnClient(cluster)
    # A client that is never closed ends with the program as if it had been; before Dask's own clean-up, which warns.
    atexit.register(_close_forgotten, weakref.ref(client))
    client.register_plugin(_QuietFailures(), name="duskflow-quiet-failures")
    if link := _dashboard(client):
        say(f"dashboard: {link}")
    networks = sum("GPU" in worker.resources for worker in workers)
    total = format_bytes(sum(worker.memory for worker in workers))
    say(f"workers: {len(workers) - networks} CPU, {networks} GPU; {total} of memory together")
    if networks and not gpus:
        say("no GPU found: networks train on a CPU worker")
    return client


def local_workers(settings: ClusterSettings, cores: int, memory: int, gpus: list[str]) -> list[LocalWorker]:
    """Divide a machine among workers.

    Parameters
    ----------
    settings : ClusterSettings
        What was asked for.
    cores : int
        Cores there are.
    memory : int
        Bytes there are. The workers' limits together stay below.
    gpus : list of str
        Values for ``CUDA_VISIBLE_DEVICES``, one per GPU.

    Raises
    ------
    ValueError
        If more memory or more GPUs were asked for than there are.
    """
    count, threads = _processes(settings, cores)
    networks = (len(gpus) or 1) if settings.gpu_workers is None else settings.gpu_workers
    if gpus and networks > len(gpus):
        raise ValueError(f"gpu-workers: expected at most {len(gpus)}, the GPUs there are, received {networks}")
    budget = memory * 9 // 10 if settings.memory is None else settings.memory
    if budget > memory:
        raise ValueError(
            f"memory: expected at most {format_bytes(memory)}, what this machine or its control group has, "
            f"received {format_bytes(budget)}"
        )
    share = budget // (count + networks)
    network_share = max(share, min(NETWORK_BYTES, budget // (2 * networks))) if networks else 0
    cpu_share = min(share, (budget - networks * network_share) // count)
    # A CPU worker that loaded TensorFlow would otherwise take memory on a GPU that belongs to another.
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"} if gpus else {}
    workers = [
        LocalWorker(
            name=f"cpu-{number}", threads=threads, memory=cpu_share, resources={"CPU": threads}, environment=hidden
        )
        for number in range(count)
    ]
    for number in range(networks):
        # TensorFlow counts the cores of the machine, not those of the control group.
        environment = {"TF_NUM_INTRAOP_THREADS": str(max(1, cores // networks))}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number]
        workers.append(
            LocalWorker(
                name=f"gpu-{number}",
                threads=settings.gpu_threads,
                memory=network_share,
                resources={"GPU": 1},
                environment=environment,
            )
        )
    return workers


def _processes(settings: ClusterSettings, cores: int) -> tuple[int, int]:
    """How many CPU workers, with how many threads each."""
    count, threads = settings.workers, settings.threads_per_worker
    if count is None and threads is None:
        return nprocesses_nthreads(cores)
    if count is None:
        count = max(1, cores // (threads or 1))
    return count, threads or max(1, cores // count)


def _nanny(worker: LocalWorker, local_directory: str | None) -> dict[str, Any]:
    """A worker as Dask's cluster wants it described. Its nanny keeps all of it for the next process."""
    return {
        "cls": SizedNanny,
        "options": {
            "name": worker.name,
            "nthreads": worker.threads,
            "memory_limit": worker.memory,
            "resources": dict(worker.resources),
            # As everywhere in Dask, what is set outside wins; except which GPU, which is ours to divide.
            "env": {
                name: value if name == "CUDA_VISIBLE_DEVICES" else os.environ.get(name, value)
                for name, value in worker.environment.items()
            },
            "local_directory": local_directory,
            "host": LOCALHOST,
            "protocol": "tcp://",
            "dashboard": False,
            "silence_logs": logging.WARNING,
        },
    }


def _scheduler_options(dashboard_address: str | None) -> dict[str, Any]:
    return {
        "host": LOCALHOST,
        "protocol": "tcp://",
        "port": 0,
        "dashboard": dashboard_address is not None,
        # Without an address Dask would serve the rest (metrics, health) on port 8787 of all interfaces.
        "dashboard_address": f"{LOCALHOST}:0" if dashboard_address is None else _free(dashboard_address),
    }


def _free(address: str) -> str:
    """The address if its port is free, else any port there. Asked before Dask does, which would warn at length."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError:
            return f"{host}:0"
    return address


def _reach(address: str, timeout: float) -> Client:
    try:
        client = Client(address, timeout=timeout)
    except TypeError as error:
        # The only sign of it: without certificates there is no TLS context.
        if not address.startswith("tls://"):
            raise
        raise ConnectionError(
            f"expected certificates for {address}; name them in {FILE_NAME} under distributed.comm.tls ({error})"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConnectionError(
            f"expected a scheduler at {address}, none answered within {timeout:g} s; "
            f"start one with `dask scheduler`, or check the address ({reason})"
        ) from None
    if link := _dashboard(client):
        say(f"dashboard: {link}")
    return client
