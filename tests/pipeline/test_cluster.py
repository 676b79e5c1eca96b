from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import dask.config
import psutil
import pytest
from distributed import LocalCluster

from pipeline import config, machine, nanny
from pipeline.cluster import _free, connect, local_workers, resources_of

ROOT = Path(__file__).parents[2]
GIB = 2**30


@pytest.fixture(scope="module")
def spill(tmp_path_factory):
    return tmp_path_factory.mktemp("spill")


@pytest.fixture(scope="module")
def local(spill):
    """Two CPU workers and one for networks, as processes; their memory a part of the machine's."""
    options = {"workers": 2, "threads_per_worker": 1, "gpu_workers": 1, "memory": "3 GiB"}
    with connect("local", dashboard_address=":0", local_directory=str(spill), **options) as client:
        yield client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def described() -> dict:
    """What a task finds around it."""
    from distributed import get_worker

    worker = get_worker()
    names = ("CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_NUM_INTRAOP_THREADS")
    return {
        "pid": os.getpid(),
        "name": worker.name,
        "resources": dict(worker.state.total_resources),
        "memory": worker.memory_manager.memory_limit,
        "environment": {name: os.environ.get(name) for name in names},
        "directory": worker.local_directory,
        "address": worker.address,
    }


def plan(cores=2, memory=24 * GIB, gpus=(), **options):
    return local_workers(config.cluster_settings(**options), cores, memory, list(gpus))


def shape(workers):
    return [(worker.name, worker.threads, dict(worker.resources)) for worker in workers]


def test_local_workers__two_cores_without_gpu():
    workers = plan()
    assert shape(workers) == [("cpu-0", 1, {"CPU": 1}), ("cpu-1", 1, {"CPU": 1}), ("gpu-0", 1, {"GPU": 1})]
    assert "CUDA_VISIBLE_DEVICES" not in workers[0].environment
    assert workers[2].environment == {"TF_NUM_INTRAOP_THREADS": "2"}


def test_local_workers__a_large_machine_with_gpus():
    workers = plan(cores=64, memory=512 * GIB, gpus=["GPU-a", "GPU-b"], gpu_threads=2)
    cpu, gpu = workers[:-2], workers[-2:]
    assert sum(worker.threads for worker in cpu) == 64
    assert all(worker.environment["CUDA_VISIBLE_DEVICES"] == "-1" for worker in cpu)
    assert [worker.environment["CUDA_VISIBLE_DEVICES"] for worker in gpu] == ["GPU-a", "GPU-b"]
    assert [worker.threads for worker in gpu] == [2, 2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workers": 3}, (3, 2)),
        ({"workers": 12}, (12, 1)),
        ({"threads_per_worker": 4}, (2, 4)),
        ({"threads_per_worker": 16}, (1, 16)),
        ({"workers": 2, "threads_per_worker": 3}, (2, 3)),
    ],
)
def test_local_workers__counts_asked_for(options, expected):
    workers = plan(cores=8, gpu_workers=0, **options)
    assert (len(workers), workers[0].threads) == expected


@pytest.mark.parametrize("memory", [GIB, 4 * GIB, 8 * GIB, 24 * GIB, 1024 * GIB])
@pytest.mark.parametrize("cores", [1, 2, 4, 16])
@pytest.mark.parametrize("networks", [0, 1, 3])
def test_local_workers__memory_together_is_below_the_machine(memory, cores, networks):
    workers = plan(cores, memory, gpu_workers=networks)
    limits = [worker.memory for worker in workers]
    assert 0.85 * memory < sum(limits) <= 0.9 * memory
    # A network gets 4 GiB if that leaves half to the others, and never less than they do.
    for worker in workers[len(workers) - networks :]:
        assert worker.memory >= max(limits[0], min(4 * GIB, 0.44 * memory / networks))


def test_local_workers__memory_asked_for():
    workers = local_workers(config.cluster_settings(memory="6 GiB", workers=2), 2, 24 * GIB, [])
    assert 6 * GIB - 8 <= sum(worker.memory for worker in workers) <= 6 * GIB


def test_local_workers__more_than_there_is():
    with pytest.raises(ValueError, match=r"memory: expected at most 2\.00 GiB.*received 3\.00 GiB"):
        local_workers(config.cluster_settings(memory="3 GiB"), 2, 2 * GIB, [])
    with pytest.raises(ValueError, match="gpu-workers: expected at most 1, the GPUs there are, received 2"):
        plan(gpus=["GPU-a"], gpu_workers=2)


def test_connect__workers_are_as_described(local, spill):
    found = resources_of(local)
    assert found["address"] == local.scheduler.address
    assert found["address"].startswith("tcp://127.0.0.1:")
    assert (found["workers"], found["threads"], found["gpu_workers"]) == (3, 3, 1)
    assert 3 * GIB - 8 <= found["memory_bytes"] <= 3 * GIB
    assert json.loads(json.dumps(found)) == found
    network = local.submit(described, resources={"GPU": 1}, pure=False).result()
    assert (network["name"], network["resources"]) == ("gpu-0", {"GPU": 1})
    assert network["environment"]["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert network["environment"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert network["environment"]["TF_NUM_INTRAOP_THREADS"] == str(machine.cores())
    assert Path(network["directory"]).is_relative_to(spill)
    on_cpu = [local.submit(described, resources={"CPU": 1}, pure=False) for _ in range(6)]
    assert {one["name"] for one in local.gather(on_cpu)} <= {"cpu-0", "cpu-1"}


def allocator() -> dict:
    return {name: os.environ.get(name) for name in nanny.USUAL}


@pytest.mark.parametrize(
    ("memory", "outside", "expected"),
    [
        ("512 MiB", None, nanny.SMALL),
        ("2 GiB", None, nanny.USUAL),
        ("512 MiB", "1048576", nanny.SMALL | {"MALLOC_TRIM_THRESHOLD_": "1048576"}),
        ("2 GiB", nanny.SMALL["MALLOC_TRIM_THRESHOLD_"], nanny.USUAL),
    ],
)
def test_connect__small_workers_keep_nothing_that_they_freed(memory, outside, expected, monkeypatch):
    """Whatever clusters were started before: each leaves its settings in this process."""
    if outside is None:
        monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    else:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", outside)
    options = {"workers": 1, "gpu_workers": 0, "memory": memory, "dashboard_address": None}
    with connect("local", **options) as client:
        assert list(client.run(allocator).values()) == [expected]


def test_allocator__usual_is_that_of_the_configuration():
    config.load()
    configured = dask.config.get("distributed.nanny.pre-spawn-environ")
    assert {name: str(configured[name]) for name in nanny.USUAL} == nanny.USUAL


def test_connect__dashboard_answers(local):
    with urlopen(resources_of(local)["dashboard"], timeout=20) as answer:
        assert answer.status == 200


def test_connect__a_worker_that_dies_comes_back_as_it_was(local):
    before = local.submit(described, resources={"GPU": 1}, pure=False).result()
    os.kill(before["pid"], signal.SIGKILL)
    # Lost with the process or sent to the next: in either case it is answered.
    after = local.submit(described, resources={"GPU": 1}, pure=False, retries=2).result(timeout=60)
    assert after["pid"] != before["pid"]
    assert after["address"] != before["address"]
    for kept in ("name", "resources", "memory", "environment"):
        assert after[kept] == before[kept]
    local.wait_for_workers(3, timeout=60)


def test_connect__to_a_client_uses_and_leaves_it(local):
    with connect(local) as second:
        assert second is not local
        assert second.submit(sum, (1, 2)).result() == 3
    assert local.submit(sum, (2, 3)).result() == 5


def test_connect__to_a_cluster_uses_and_leaves_it():
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        for number in range(2):
            with connect(cluster) as client:
                assert client.submit(sum, (number, 1)).result() == number + 1
                assert resources_of(client)["gpu_workers"] == 0


def test_connect__to_an_address(local, capsys):
    with connect(local.scheduler.address, connect_timeout="20 s") as client:
        assert client.submit(sum, (3, 4)).result() == 7
        assert capsys.readouterr().err == f"dashboard: {client.dashboard_link}\n"
    with dask.config.set({"duskflow.cluster.kind": local.scheduler.address}), connect() as client:
        assert client.scheduler.address == local.scheduler.address
    assert local.submit(sum, (5, 4)).result() == 9


def test_connect__nobody_at_the_address():
    port = free_port()
    message = rf"expected a scheduler at tcp://127\.0\.0\.1:{port}, none answered within 0\.2 s; start one with"
    with pytest.raises(ConnectionError, match=message) as caught:
        connect(f"tcp://127.0.0.1:{port}", connect_timeout="200 ms")
    assert "\n" not in str(caught.value)


def test_connect__tls_without_certificates():
    with pytest.raises(ConnectionError, match=r"expected certificates for tls:.*distributed\.comm\.tls"):
        connect("tls://127.0.0.1:9", connect_timeout="200 ms")


@pytest.mark.parametrize("where", ["slurm", "kubernetes", "", "127.0.0.1:8786", 8786])
def test_connect__to_what_there_is_not(where):
    with pytest.raises(ValueError, match='expected "local" or a scheduler\'s address'):
        connect(where)


def test_connect__options_that_mean_nothing(local):
    with pytest.raises(TypeError, match="gpu_workers, workers: expected only with a local cluster"):
        connect("tcp://127.0.0.1:1", workers=2, gpu_workers=1)
    with pytest.raises(TypeError, match="unknown cluster option 'wokers'; did you mean 'workers'"):
        connect("local", wokers=2)


def test_connect__to_a_closed_client(local):
    second = connect(local)
    second.close()
    with pytest.raises(ValueError, match="expected an open client"):
        connect(second)


def test_connect__prints_first_and_leaves_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "gpus", list)
    # 8787 is taken, by us if by nobody else: no warning, another port.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = {"workers": 1, "gpu_workers": 1, "memory": "2 GiB", "local_directory": str(tmp_path)}
        with connect("local", dashboard_address=address, **options) as client:
            cluster, processes = client.cluster, psutil.Process().children(recursive=True)
            workers = [process for process in processes if process.pid in set(client.run(os.getpid).values())]
            assert len(workers) == 2
            lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("dashboard: http://127.0.0.1:")
    assert address not in lines[0]
    assert lines[1:] == [
        "workers: 1 CPU, 1 GPU; 2.00 GiB of memory together",
        "no GPU found: networks train on a CPU worker",
    ]
    assert cluster.status.name == "closed"
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    assert [path for path in tmp_path.rglob("worker-*") if path.is_dir()] == []


def test_connect__without_dashboard(capsys):
    with connect("local", workers=1, gpu_workers=0, memory="1 GiB", dashboard_address=None) as client:
        assert resources_of(client)["dashboard"] is None
    assert capsys.readouterr().err.splitlines() == ["workers: 1 CPU, 0 GPU; 1.00 GiB of memory together"]


def test_free__port(monkeypatch):
    port = free_port()
    assert _free(f"127.0.0.1:{port}") == f"127.0.0.1:{port}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert _free(f"127.0.0.1:{port}") == "127.0.0.1:0"


def script(tmp_path, text: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "script.py"
    file.write_text(text)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment, cwd=tmp_path)


START = 'connect("local", workers=1, gpu_workers=0, memory="1 GiB", dashboard_address=":0")'


def test_connect__a_script_without_guard_is_told_at_once(tmp_path):
    done = script(tmp_path, f"from pipeline import connect\nwith {START} as client:\n    print(1)\n")
    assert done.returncode == 1
    assert "RuntimeError" in done.stderr.splitlines()[-1]
    assert "script.py, line 2, starts a cluster at the top level" in done.stderr.splitlines()[-1]
    assert "dashboard:" not in done.stderr


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_connect__workers_do_not_outlive_a_killed_driver(tmp_path):
    text = f"""
import os, signal
from pipeline import connect
if __name__ == "__main__":
    client = {START}
    print(*client.run(os.getpid).values(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = script(tmp_path, text)
    assert done.returncode == -signal.SIGKILL
    (worker,) = map(int, done.stdout.split())
    deadline = time.monotonic() + 30
    while running(worker) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert not running(worker)


def test_connect__forgotten_client_ends_with_the_program(tmp_path):
    text = f"""
from pipeline import connect
if __name__ == "__main__":
    client = {START}
    print(client.submit(sum, (1, 2)).result())
"""
    done = script(tmp_path, text)
    assert (done.returncode, done.stdout) == (0, "3\n")
    # On a machine under load the nanny may say that it had to press a worker; nothing else may be said.
    left = [line for line in done.stderr.splitlines() if not line.startswith(("dashboard", "workers"))]
    assert [line for line in left if "still alive after" not in line] == []
