"""Workers, the scheduler and the driver are killed at random: the short form of `benchmarks/faults.py`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def faults() -> Iterator[ModuleType]:
    """The fault test, under a name by which the processes that it starts find it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("faults")


def held(faults: ModuleType, runs: int, root: Path, seed: int) -> list:
    """Run with kills, demand that nothing came of them, and give the outcomes."""
    outcomes = list(faults.run_many(runs, root, seed=seed))
    assert not [text for outcome in outcomes if (text := faults.failure(outcome, seed))]
    assert [outcome.kind for outcome in outcomes] == [faults.KINDS[number % 2] for number in range(runs)]
    return outcomes


def test_run_many__a_dozen_kills_leave_no_trace(faults: ModuleType, tmp_path: Path) -> None:
    outcomes = held(faults, 4, tmp_path, seed=11)
    killed = {role.split("-")[0] for outcome in outcomes for _, role in outcome.kills}
    assert killed == {"worker", "scheduler", "driver"}
    assert sum(outcome.resumed for outcome in outcomes) > 0
    assert not list(tmp_path.glob("run-*"))


@pytest.mark.chaos
@pytest.mark.timeout(0)  # as long as the runs that were asked for; each has a limit of its own
def test_run_many__many_kills_leave_no_trace(faults: ModuleType, tmp_path: Path) -> None:
    # DUSKFLOW_TEST_KILLS=200 for the long form: as many runs, about twice as many kills.
    outcomes = held(faults, int(os.environ.get("DUSKFLOW_TEST_KILLS", 2)), tmp_path, seed=1)
    assert any(outcome.kills for outcome in outcomes)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_run_once__a_source_that_breaks_its_word_is_found_out(
    faults: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    calm = {kind: faults.Arena(tmp_path / "calm", kind, pure=False).run()}
    assert not calm[kind].problems
    # Before they have read anything: every sample comes from a worker that was started again.
    monkeypatch.setattr(faults, "draw_kills", lambda *_: [(0.0, "worker-0"), (0.0, "worker-1")])
    number = faults.KINDS.index(kind)
    outcome = faults.run_once(0, number, root=tmp_path, calm=calm, pure=False)
    assert "clean: expected version" in faults.failure(outcome, 0)
    assert "noisy: expected version" in faults.failure(outcome, 0)
    assert (tmp_path / f"run-{number:04d}" / "driver.log").exists()


def test_arena__a_damaged_dataset_is_found_out(faults: ModuleType, tmp_path: Path) -> None:
    arena = faults.Arena(tmp_path / "calm", "images")
    assert not arena.run().problems
    shard = max((tmp_path / "calm" / "noisy").rglob("*.0.0.0"))
    shard.write_bytes(bytes(reversed(shard.read_bytes())))
    arena._read()
    assert any(problem.startswith("noisy: ") for problem in arena.outcome.problems)


def test_arena__a_driver_that_fails_by_itself_is_found_out(faults: ModuleType, tmp_path: Path) -> None:
    # Where a folder should be lies a file: no restart helps.
    arena = faults.Arena(tmp_path / "run", "images")
    (tmp_path / "run" / "clean").touch()
    (problem,) = arena.run().problems
    assert problem.startswith("the driver gave up: ") and str(tmp_path) in problem


@pytest.mark.parametrize("number", range(20))
def test_draw_kills__the_seed_decides(faults: ModuleType, number: int) -> None:
    kills = faults.draw_kills(0, number, 2.0)
    assert kills == faults.draw_kills(0, number, 2.0)
    assert kills != faults.draw_kills(1, number, 2.0)
    assert 1 <= len(kills) <= faults.MOST_KILLS
    assert all(0 <= delay <= 2 for delay, _ in kills)


def test_summary__counts(faults: ModuleType, tmp_path: Path) -> None:
    good = faults.Outcome(tmp_path, "texts", kills=[(0.1, "worker-1"), (0.2, "driver")], restarts=1, resumed=1)
    bad = faults.Outcome(tmp_path, "images", kills=[(0.3, "worker-0")], problems=["clean: damaged"])
    assert faults.summary([good, good], 6.0).splitlines() == [
        "2 runs in 6 s; 4 kills: 2 of worker, 0 of scheduler, 2 of driver",
        "2 restarts of the driver, 2 found committed shards",
        "all versions equal those of undisturbed runs; all verified",
    ]
    assert faults.summary([good, bad], 6.0).endswith("\n1 runs FAILED")
    assert faults.failure(good, 7) == ""
    told = f"FAILED: {tmp_path} (images, seed 7); killed worker-0 at 0.30 s\n  clean: damaged"
    assert faults.failure(bad, 7) == told
