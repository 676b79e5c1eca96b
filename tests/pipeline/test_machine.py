from __future__ import annotations

import os
import stat

import psutil
import pytest

from pipeline import machine

TWO = """\
GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA H200 (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
"""
CUT = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-33333333-aaaa-bbbb-cccc-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-44444444-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
"""
FIRST, SECOND = (f"GPU-{digit * 8}-aaaa-bbbb-cccc-000000000000" for digit in "12")
SLICES = [f"MIG-{digit * 8}-aaaa-bbbb-cccc-000000000000" for digit in "34"]


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a stand-in for nvidia-smi first on the path: prints what it is given, or fails."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def install(listing: str | None) -> None:
        file = tmp_path / "nvidia-smi"
        file.write_text("#!/bin/sh\nexit 9\n" if listing is None else f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.mark.parametrize(
    ("listing", "variable", "expected"),
    [
        (TWO, None, [FIRST, SECOND]),
        (CUT, None, [*SLICES, SECOND]),
        (TWO, "1", ["1"]),
        (TWO, "1,0", ["1", "0"]),
        (TWO, "", []),
        (TWO, "-1", []),
        (TWO, "0,-1,1", ["0"]),
        (TWO, "7", []),
        (TWO, f"{SECOND}", [SECOND]),
        (TWO, "GPU-2222", ["GPU-2222"]),
        (CUT, SLICES[1], [SLICES[1]]),
        ("No devices were found\n", None, []),
        (None, None, []),
    ],
)
def test_gpus(nvidia_smi, monkeypatch, listing, variable, expected):
    nvidia_smi(listing)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert machine.gpus() == expected


def test_gpus__without_the_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []


def test_memory__at_most_what_is_built_in():
    assert 2**28 < machine.memory() <= psutil.virtual_memory().total


def test_cores__at_most_those_of_this_process():
    assert 1 <= machine.cores() <= len(os.sched_getaffinity(0))
