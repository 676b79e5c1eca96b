from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dask.config
import pytest
import yaml

from pipeline import config
from pipeline.settings import Settings, names

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _away_from_home(tmp_path, monkeypatch):
    """An empty working directory and no Dask configuration of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask.config, "paths", [])
    # As in a fresh process: nothing loaded yet.
    dask.config.config.clear()
    for defaults in dask.config.defaults:
        dask.config.update(dask.config.config, defaults)
    monkeypatch.setattr(config, "_loaded", False)
    monkeypatch.setattr(config, "_named", None)
    config._written.clear()


def write(path: Path, content: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def workers(count: int) -> dict:
    return {"duskflow": {"cluster": {"workers": count}}}


def test_load__packaged_defaults():
    assert isinstance(config.load(), Settings)
    assert config.settings().texts.features == 4096
    assert config.settings().storage.shard_bytes == 32 * 2**20
    assert config.settings().cluster.workers is None
    # The file says what Dask's own settings become.
    assert dask.config.get("distributed.comm.timeouts.tcp") == "60 s"
    assert dask.config.get("distributed.scheduler.bandwidth") == 100000000


def test_load__every_default_is_in_the_packaged_file_and_has_a_comment():
    text = (ROOT / "dask-config.yaml").read_text()
    values = yaml.safe_load(text)["duskflow"]
    for section, key in names():
        assert key in values[section]
    lines = text.splitlines()
    settings = [line for line in lines if line.startswith("    ") and not line.strip().startswith("#")]
    assert len(settings) >= len(list(names()))
    for number, line in enumerate(lines):
        if line.startswith("    ") and line.strip().startswith("duskflow"):
            assert lines[number - 1].strip().startswith("#")


def test_load__ranks_of_the_layers(tmp_path, monkeypatch):
    seen = [config.load().cluster.workers]
    monkeypatch.setattr(dask.config, "paths", [str(write(tmp_path / "user" / "mine.yaml", workers(1)))])
    seen.append(config.load().cluster.workers)
    write(tmp_path / "dask-config.yaml", workers(2))
    seen.append(config.load().cluster.workers)
    seen.append(config.load(write(tmp_path / "named.yaml", workers(3))).cluster.workers)
    monkeypatch.setenv("DASK_DUSKFLOW__CLUSTER__WORKERS", "4")
    seen.append(config.load().cluster.workers)
    dask.config.set({"duskflow.cluster.workers": 5})
    seen.append(config.load().cluster.workers)
    assert seen == [None, 1, 2, 3, 4, 5]


def test_load__layers_rank_alike_for_dask_itself(tmp_path, monkeypatch):
    key = "distributed.comm.timeouts.connect"

    def content(time: str) -> dict:
        return {"distributed": {"comm": {"timeouts": {"connect": time}}}}

    monkeypatch.setattr(dask.config, "paths", [str(write(tmp_path / "user.yaml", content("11 s")))])
    dask.config.update(dask.config.config, content("11 s"))  # as Dask did when it was imported
    config.load()
    assert dask.config.get(key) == "11 s"
    write(tmp_path / "dask-config.yaml", content("12 s"))
    config.load()
    assert dask.config.get(key) == "12 s"
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "13 s")
    config.load()
    assert dask.config.get(key) == "13 s"


def test_load__what_the_program_set_before_wins(tmp_path):
    write(tmp_path / "dask-config.yaml", {"distributed": {"worker": {"memory": {"pause": 0.5, "spill": 0.4}}}})
    dask.config.set({"distributed.worker.memory.pause": 0.9, "duskflow.run.retries": 7})
    assert config.load().run.retries == 7
    assert dask.config.get("distributed.worker.memory.pause") == 0.9
    assert dask.config.get("distributed.worker.memory.spill") == 0.4


def test_load__again_forgets_what_is_gone(tmp_path, monkeypatch):
    file = write(tmp_path / "dask-config.yaml", workers(2))
    monkeypatch.setenv("DASK_DUSKFLOW__TEXTS__FEATURES", "64")
    assert (config.load().cluster.workers, config.settings().texts.features) == (2, 64)
    file.unlink()
    monkeypatch.delenv("DASK_DUSKFLOW__TEXTS__FEATURES")
    assert (config.load().cluster.workers, config.settings().texts.features) == (None, 4096)


def test_load__remembers_the_named_file(tmp_path, monkeypatch):
    config.load(write(tmp_path / "named.yaml", workers(3)))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert config.load().cluster.workers == 3
    assert config.files()[-1] == str(tmp_path / "named.yaml")


def test_settings__follow_dask_config_set():
    assert config.settings().run.retries == 1
    with dask.config.set({"duskflow.run.retries": 0}):
        assert config.settings().run.retries == 0
    assert config.settings().run.retries == 1
    with (
        dask.config.set({"duskflow.run.retry": 0}),
        pytest.raises(ValueError, match=r"did you mean 'duskflow\.run\.ret"),
    ):
        config.settings()


def test_settings__survive_a_context_that_began_before_them():
    with dask.config.set({"duskflow.run.retries": 3}):
        assert config.settings().run.retries == 3
        assert config.settings().texts.features == 4096
    # Leaving it removed the namespace that it had made.
    assert config.settings().run.retries == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"cluster": {"worker": 3}},
            r"duskflow\.cluster\.worker \(.*my\.yaml\); did you mean 'duskflow\.cluster\.workers'",
        ),
        ({"clutser": {"workers": 3}}, r"duskflow\.clutser .*did you mean 'duskflow\.cluster'"),
        ({"cluster": {"zzz": 1}}, r"unknown setting duskflow\.cluster\.zzz \(.*my\.yaml\)"),
        ({"cluster": {"workers": "many"}}, r"duskflow\.cluster\.workers: expected a whole .*'many' \(.*my\.yaml\)"),
        ({"cluster": {"workers": 0}}, "expected a whole number, 1 or more"),
        ({"cluster": {"workers": True}}, "expected a whole number"),
        ({"cluster": {"workers": 2.5}}, "expected a whole number"),
        ({"cluster": 4}, r"duskflow\.cluster: expected settings below this name, received 4 \(.*my\.yaml\)"),
        ({"cluster": {"memory": "much"}}, 'expected a size such as "32 MiB"'),
        ({"cluster": {"memory": -5}}, "expected a size"),
        ({"cluster": {"dashboard-address": 8787}}, 'expected "host:port" or null'),
        ({"cluster": {"dashboard-address": "localhost:99999"}}, "expected"),
        ({"cluster": {"connect-timeout": "soon"}}, "expected a time"),
        ({"cluster": {"connect-timeout": 0}}, "expected a time"),
        ({"cluster": {"local-directory": 5}}, "expected a text or null"),
        ({"cluster": {"kind": ""}}, "expected a text"),
        ({"progress": {"style": "fancy"}}, "expected one of auto, bars, lines, none"),
        ({"cluster": {"workers": {"gpu": 3}}}, r"unknown setting duskflow\.cluster\.workers\.gpu"),
    ],
)
def test_load__refuses_in_one_line(tmp_path, content, message):
    before = dask.config.config.copy()
    with pytest.raises(ValueError, match=message) as caught:
        config.load(write(tmp_path / "my.yaml", {"duskflow": content}))
    assert "\n" not in str(caught.value)
    assert dask.config.config == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DASK_DUSKFLOW__CLUSTER__WORKER", "did you mean 'DASK_DUSKFLOW__CLUSTER__WORKERS'"),
        (
            "DASK_DUSKFLOW__CLUSTER__WORKERS",
            r"received 'three' \(environment variable DASK_DUSKFLOW__CLUSTER__WORKERS\)",
        ),
        ("DASK_DUSKFLWO__CLUSTER__WORKERS", "did you mean 'DASK_DUSKFLOW'"),
    ],
)
def test_load__refuses_a_variable_by_its_name(monkeypatch, name, message):
    monkeypatch.setenv(name, "three")
    with pytest.raises(ValueError, match=message):
        config.load()


def test_load__refuses_a_misspelled_namespace(tmp_path):
    with pytest.raises(ValueError, match=r"unknown setting dusk_flow .*did you mean 'duskflow'"):
        config.load(write(tmp_path / "my.yaml", {"dusk_flow": {}}))


def test_load__hyphen_and_underscore_are_one(tmp_path, monkeypatch):
    write(tmp_path / "dask-config.yaml", {"duskflow": {"cluster": {"threads_per_worker": 3}}})
    assert config.load().cluster.threads_per_worker == 3
    monkeypatch.setenv("DASK_DUSKFLOW__CLUSTER__THREADS_PER_WORKER", "4")
    assert config.load().cluster.threads_per_worker == 4
    assert config.as_dict()["cluster"]["threads-per-worker"] == 4
    assert "threads_per_worker" not in config.as_dict()["cluster"]


def test_load__headings_without_settings_change_nothing(tmp_path):
    (tmp_path / "dask-config.yaml").write_text("duskflow:\n  cluster:\n  # workers: 3\ndistributed:\n  comm:\n")
    assert config.load().cluster.workers is None
    assert dask.config.get("distributed.comm.timeouts.tcp") == "60 s"
    (tmp_path / "dask-config.yaml").write_text("# nothing at all\n")
    assert config.load().texts.features == 4096


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "a: \x00"])
def test_load__refuses_what_is_no_mapping(tmp_path, text):
    (tmp_path / "dask-config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"dask-config\.yaml") as caught:
        config.load()
    assert "\n" not in str(caught.value)


def test_load__named_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found nothing at .*nowhere\.yaml"):
        config.load(tmp_path / "nowhere.yaml")


def test_as_dict__is_json_and_loads_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DUSKFLOW__CLUSTER__MEMORY", "3 GiB")
    settings, values = config.load(), config.as_dict()
    assert json.loads(json.dumps(values)) == values
    monkeypatch.delenv("DASK_DUSKFLOW__CLUSTER__MEMORY")
    assert config.load(write(tmp_path / "again.yaml", {"duskflow": values})) == settings
    assert settings.cluster.memory == 3 * 2**30


def test_as_dict__is_a_copy():
    config.as_dict()["cluster"]["workers"] = 99
    assert config.settings().cluster.workers is None


def test_cluster_settings__replaced_by_options():
    settings = config.cluster_settings(workers=2, memory="1 GiB", dashboard_address=":0")
    assert (settings.workers, settings.memory, settings.gpu_threads) == (2, 2**30, 1)
    assert settings.dashboard_address == "127.0.0.1:0"
    assert config.settings().cluster.workers is None


def test_cluster_settings__refuses():
    with pytest.raises(TypeError, match="unknown cluster option 'worker'; did you mean 'workers'"):
        config.cluster_settings(worker=2)
    with pytest.raises(ValueError, match=r"duskflow\.cluster\.workers: expected .* received -1 \(cluster option\)"):
        config.cluster_settings(workers=-1)


def test_load__in_a_checkout_does_not_outrank_the_user(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(dask.config, "paths", [str(write(tmp_path / "user.yaml", workers(6)))])
    assert config.load().cluster.workers == 6


def test_load__installed_outside_of_a_checkout(tmp_path):
    # As a wheel lays it out: the file inside the package, nothing above it, no checkout near.
    for package in ("pipeline", "tasks", "storage"):
        shutil.copytree(ROOT / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dask-config.yaml", tmp_path / "site" / "pipeline")
    code = "from pipeline import config; print(config.packaged_file()); print(config.load().texts.features)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    environment["PYTHONPATH"] = str(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.split() == [str(tmp_path / "site" / "pipeline" / "dask-config.yaml"), "4096"]
