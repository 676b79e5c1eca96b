from __future__ import annotations

import fcntl
import io
import os
import shutil
from importlib import metadata
from types import SimpleNamespace

import pytest
from distributed import Client, LocalCluster

from pipeline import doctor as room
from pipeline import machine
from pipeline.doctor import Check, doctor, examine


@pytest.fixture
def quick(monkeypatch):
    """Look at everything but a cluster, on a machine without GPU."""
    monkeypatch.setattr(room, "_cluster", lambda client: Check("cluster", "ok", "not looked at"))
    monkeypatch.setattr(machine, "gpus", list)


def found(checks: list[Check], name: str) -> tuple[str, str]:
    return next((check.status, check.detail) for check in checks if check.name == name)


def pretend(monkeypatch, versions: dict[str, str], needs: list[str]) -> None:
    """Make the installed distributions be these."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda name: needs)


def test_doctor__a_machine_that_is_fine(tmp_path, capsys, monkeypatch):
    # A real cluster, once.
    monkeypatch.setattr(machine, "gpus", list)
    stream = io.StringIO()
    root = tmp_path / "new" / "runs"
    assert doctor(root, stream=stream) == 0
    lines = stream.getvalue().splitlines()
    assert "failed" not in [line.split()[0] for line in lines[:-1]]
    assert any(line.startswith("ok       cluster") and "1 workers with 1 threads" in line for line in lines)
    assert lines[-1].startswith(f"{len(lines) - 1} checks: 0 failed")
    assert not root.parent.exists()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_doctor__prints_to_standard_output(tmp_path, capsys, quick):
    doctor(tmp_path)
    assert "file lock" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_examine__a_root_that_is_a_file(tmp_path, quick):
    file = tmp_path / "file"
    file.write_text("mine")
    status, detail = found(examine(file / "runs"), "root")
    assert status == "failed"
    assert f"expected a folder to write in at {file / 'runs'}" in detail
    assert file.read_text() == "mine"
    assert doctor(file / "runs", stream=io.StringIO()) == 1


@pytest.mark.parametrize(
    ("name", "breaks"),
    [
        ("write and rename", lambda patch: patch.setattr(os, "replace", lambda *_: fail("no rename"))),
        ("write and rename", lambda patch: patch.setattr(os, "replace", lambda *_: None)),
        ("write and rename", lambda patch: patch.setattr(os, "fsync", lambda *_: fail("no flush"))),
        ("exclusive create", lambda patch: patch.setattr(os, "O_EXCL", 0)),
        ("file lock", lambda patch: patch.setattr(fcntl, "flock", lambda *_: None)),
        ("file lock", lambda patch: patch.setattr(fcntl, "flock", lambda *_: fail("no locks available"))),
    ],
)
def test_examine__a_file_system_that_lacks_something(tmp_path, monkeypatch, quick, name, breaks):
    breaks(monkeypatch)
    checks = examine(tmp_path)
    assert found(checks, name)[0] == "failed"
    assert [check.name for check in checks if check.status == "failed"] == [name]


def fail(text: str) -> None:
    raise OSError(text)


@pytest.mark.parametrize(("free", "status"), [(2**29, "failed"), (2 * 2**30, "warning"), (2**40, "ok")])
def test_examine__disk(tmp_path, monkeypatch, quick, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert found(examine(tmp_path), "disk")[0] == status


def test_examine__little_memory(tmp_path, monkeypatch, quick):
    monkeypatch.setattr(machine, "memory", lambda: 2 * 2**30)
    status, detail = found(examine(tmp_path), "machine")
    assert status == "warning"
    assert "2.00 GiB of memory; networks want 4.00 GiB" in detail


@pytest.mark.parametrize(
    ("versions", "status", "text"),
    [
        ({"duskflow": "0.1.0", "dask": "2026.8.0", "zarr": "3.1.6"}, "ok", "duskflow 0.1.0; dask 2026.8.0, zarr 3.1.6"),
        (
            {"duskflow": "0.1.0", "dask": "2024.1.0", "zarr": "3.1.6"},
            "failed",
            "dask 2024.1.0, expected >=2026.1; run pip",
        ),
        ({"duskflow": "0.1.0", "dask": "2026.8.0"}, "failed", "zarr is missing; run pip install --upgrade duskflow"),
        ({"dask": "2026.8.0"}, "warning", "duskflow is not installed here"),
    ],
)
def test_packages(monkeypatch, versions, status, text):
    needs = ["dask[array]>=2026.1", "zarr>=3.1", "keras>=3.9; extra == 'tensorflow'", "tzdata; sys_platform == 'win32'"]
    pretend(monkeypatch, versions, needs)
    check = room._packages()
    assert (check.status, check.detail[: len(text)]) == (status, text)


def test_extras__missing(monkeypatch):
    monkeypatch.setattr(room, "find_spec", lambda module: None if module == "keras" else object())
    checks = list(room._extras())
    assert found(checks, "tensorflow") == (
        "warning",
        "keras missing, so no networks; pip install 'duskflow[tensorflow]'",
    )
    assert found(checks, "samples")[0] == "ok"


def test_gpu__there_but_tensorflow_cannot_use_it(monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: ["GPU-a", "GPU-b"])
    pretend(monkeypatch, {"tensorflow-cpu": "2.21.0"}, [])
    check = room._gpu()
    assert check.status == "warning"
    assert "2 there, but tensorflow-cpu 2.21.0 cannot use them; pip uninstall" in check.detail
    pretend(monkeypatch, {"tensorflow": "2.21.0"}, [])
    assert room._gpu() == Check("gpu", "ok", "2: GPU-a, GPU-b")


def test_python__too_old(monkeypatch):
    assert room._python().status == "ok"
    monkeypatch.setattr(room.sys, "version_info", (3, 10, 0))
    assert room._python().status == "failed"


def test_examine__wrong_configuration_is_found_and_the_cluster_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "gpus", list)
    file = tmp_path / "wrong.yaml"
    file.write_text("duskflow: {cluster: {wrokers: 3}}")
    checks = examine(tmp_path / "runs", config_file=file)
    assert found(checks, "configuration")[0] == "failed"
    assert "did you mean 'duskflow.cluster.workers'" in found(checks, "configuration")[1]
    assert found(checks, "cluster") == ("failed", "not tried: see above")


def test_cluster__given():
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        check = room._cluster(client)
        assert check.status == "ok"
        assert f"{client.scheduler.address}: 1 workers with 2 threads, 0 for networks" in check.detail
        # It was used, not closed.
        assert client.submit(sum, (1, 2)).result() == 3


def test_cluster__that_does_not_work():
    def submit(*args: object, **options: object) -> None:
        raise RuntimeError("no\nworkers")

    assert room._cluster(SimpleNamespace(submit=submit)) == Check("cluster", "failed", "RuntimeError: no workers")
