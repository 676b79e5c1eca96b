from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main

FILE = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from pipeline import Pipeline
from tasks import noise, sources


class Brighten:
    '''A noise of the user's own, defined in the pipeline's file.'''
    kind = "images"
    def __call__(self, samples, ids, seed=0, epoch=0):
        return np.clip(samples.astype(np.int16) + 40, 0, 255).astype(np.uint8)
    def __repr__(self):
        return "Brighten()"


class Constant(ClassifierMixin, BaseEstimator):
    def __init__(self, fail=False):
        self.fail = fail
    def fit(self, X, y):
        if self.fail:
            raise ValueError("made to fail")
        self.classes_ = np.unique(y)
        return self
    def predict(self, X):
        return np.full(len(X), self.classes_[0])


rng = np.random.default_rng(0)
source = sources.Arrays(images=rng.integers(0, 255, (90, 8, 8), dtype=np.uint8), labels=np.arange(90) % 3)
first = Pipeline(name="first", source=source, noise=[Brighten()], methods=[Constant()])
second = Pipeline(name="second", source=source, methods=[Constant(FAIL)])
"""


@pytest.fixture
def write(tmp_path):
    def write_file(name, fail):
        path = tmp_path / f"{name}.py"
        path.write_text(FILE.replace("FAIL", str(fail)))
        return path

    yield write_file
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def duskflow(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_run__whole_command_line(write, tmp_path):
    path = write("user_pipeline", fail=False)
    root = tmp_path / "out"
    first = duskflow("run", path, "--root", root, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    page = Path(first.stdout.strip().splitlines()[-1].removeprefix("report: "))
    assert page == (root / "report.html").resolve()
    assert "brighten" in page.read_text()
    # The dashboard's address comes before anything else.
    assert first.stderr.splitlines()[0].startswith("dashboard: http://127.0.0.1:")
    assert "Traceback" not in first.stderr

    plan = duskflow("plan", path, "--root", root, cwd=tmp_path)
    assert plan.returncode == 0 and "0 partly done, 0 missing" in plan.stdout

    verified = duskflow("verify", root, cwd=tmp_path)
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (
        0,
        "3 of 3 datasets are what their manifests say",
    )
    shard = next(root.glob("first/datasets/clean/builds/*/data.zarr/images/c.0.0.0.0"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    damaged = duskflow("verify", root, cwd=tmp_path)
    assert damaged.returncode == 1
    assert "damaged shard 0" in damaged.stdout and "images/c.0.0.0.0" in damaged.stdout

    repaired = duskflow("repair", path, "--root", root, cwd=tmp_path)
    assert repaired.returncode == 0, repaired.stderr
    assert "rewrote shards [0] and 0 other files" in repaired.stdout
    assert duskflow("verify", root, "--cluster", "local", cwd=tmp_path).returncode == 0


NAPPING = """
import threading
import numpy as np
from pipeline import Pipeline
from tasks import sources


class Nap:
    kind = "images"
    def __call__(self, samples, ids, seed=0, epoch=0):
        threading.Event().wait(100)
        return samples
    def __repr__(self):
        return "Nap()"


images = np.random.default_rng(0).integers(0, 255, (30, 8, 8), dtype=np.uint8)
napping = Pipeline(name="napping", source=sources.Arrays(images=images, labels=np.arange(30) % 3), noise=[Nap()])
"""


def test_run__interrupted(tmp_path):
    path = tmp_path / "napping_pipeline.py"
    path.write_text(NAPPING)
    command = [sys.executable, "-m", "pipeline.cli", "run", str(path), "--root", str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
        said = []
        try:
            for line in run.stderr:
                said.append(line)
                if line.startswith("nap ") and "started" in line:
                    run.send_signal(signal.SIGINT)
            assert run.wait(60) == 130
        finally:
            run.kill()
    assert "interrupted: stopping; what is committed is kept\n" in said
    assert not any("FAILED" in line or "Traceback" in line for line in said)
    plan = duskflow("plan", path, "--root", tmp_path / "out", cwd=tmp_path)
    assert "1 done, 1 partly done, 0 missing" in plan.stdout


def test_run__failed_step(write, tmp_path, capsys):
    path = write("failing_pipeline", fail=True)
    assert main(["run", str(path), "--only", "second", "--root", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert "second: Constant(fail=True) failed: ValueError: made to fail" in captured.err
    page = Path(captured.out.strip().splitlines()[-1].removeprefix("report: "))
    assert "made to fail" in page.read_text()


def test_report__newest_runs_in_one_page(write, tmp_path, capsys):
    path = write("reported_pipeline", fail=False)
    assert main(["run", str(path), "--root", str(tmp_path / "out")]) == 0
    assert main(["report", "--root", str(tmp_path / "out"), "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "first" in page and "second" in page
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["run", "nowhere.py"], "expected a Python file that defines pipelines, found nothing at nowhere.py"),
        (["plan", "nowhere.py"], "found nothing at nowhere.py"),
        (["report", "--root", "nowhere"], "expected runs below nowhere, found none"),
        (["verify", "nowhere"], "found nothing at nowhere"),
        (["verify", "."], "no finished dataset in"),
    ],
)
def test_main__wrong_use_is_one_line(arguments, error, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("duskflow: ") and captured.err.count("\n") <= 2
    assert error in captured.err


def test_main__debug_shows_the_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        main(["--debug", "run", "nowhere.py"])
