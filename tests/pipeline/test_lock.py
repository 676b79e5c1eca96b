from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.lock import InUseError, RunLock

HOLD = """
import sys
from pathlib import Path
from pipeline.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_run_lock__refuses_a_second_run_and_says_who_holds_it(tmp_path):
    with RunLock(tmp_path / "out"):
        with pytest.raises(InUseError, match=rf"in use by another run \(process {os.getpid()} on ") as caught:
            RunLock(tmp_path / "out").__enter__()
        assert "choose another root" in str(caught.value)
    with RunLock(tmp_path / "out"):
        pass


def test_run_lock__goes_with_a_killed_process(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InUseError, match=str(holder.pid)):
            RunLock(tmp_path).__enter__()
    finally:
        holder.kill()
        holder.communicate(timeout=20)
    with RunLock(tmp_path):
        pass
