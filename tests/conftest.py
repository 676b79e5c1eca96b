"""What every test gets: its own configuration, no colours of the terminal, skips with a reason."""

from __future__ import annotations

import copy
import os
import shutil
import traceback
from collections.abc import Iterator

import dask.config
import distributed  # noqa: F401  (registers its defaults before a test's configuration is put back)
import hypothesis
import pytest

from pipeline import config, machine

# The same examples in every run: a failure found once stays found. Times vary with the machine, so no deadline.
hypothesis.settings.register_profile("duskflow", derandomize=True, deadline=None)
hypothesis.settings.load_profile("duskflow")

# Workers in threads of the test's own process: tasks that fail at the same time would parse their tracebacks for the
# ^ marks at the same time, which until Python 3.12 can end in a SystemError (CPython issue 106905). Worker processes
# get PYTHONNODEBUGRANGES from dask-config.yaml; here the interpreter runs already.
if hasattr(traceback, "_extract_caret_anchors_from_line_segment"):
    traceback._extract_caret_anchors_from_line_segment = lambda segment: None


@pytest.fixture(autouse=True)
def no_lost_client() -> None:
    """A client that lost its cluster in another file's test tries again for 30 s, and is Dask's default until then."""
    from distributed import client

    for one in list(client._global_clients.values()):
        if one.status != "running":
            client._del_global_client(one)


PROGRAMS = {"slurm": ("sbatch", "slurmctld", "munged"), "browser": ("chromium|chromium-browser|google-chrome",)}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot do. In CI only a GPU and the network may be missing: the rest fails loudly."""
    chosen = config.getoption("markexpr", "")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    other = [item for item in items if any(one.args != (backend,) for one in item.iter_markers("backend"))]
    if other:
        # Nothing is missing on this machine: they are of another run.
        items[:] = [item for item in items if item not in other]
        config.hook.pytest_deselected(items=other)
    for item in items:
        for marker in item.iter_markers():
            if marker.name == "network" and "network" not in chosen:
                item.add_marker(pytest.mark.skip(reason="only with -m network"))
            if marker.name == "gpu" and not machine.gpus():
                item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))
            for program in PROGRAMS.get(marker.name, ()):
                if not os.environ.get("CI") and not any(map(shutil.which, program.split("|"))):
                    item.add_marker(pytest.mark.skip(reason=f"{program} is not installed"))


@pytest.fixture(autouse=True)
def _own_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the configuration back after each test; variables of the caller's shell do not count."""
    for name in os.environ:
        if name.upper().startswith("DASK_DUSKFLOW"):
            monkeypatch.delenv(name)
    before = copy.deepcopy(dask.config.config)
    memory = (dict(config._written), config._named, config._loaded)
    yield
    dask.config.config.clear()
    dask.config.config.update(before)
    config._written.clear()
    config._written.update(memory[0])
    config._named, config._loaded = memory[1], memory[2]
