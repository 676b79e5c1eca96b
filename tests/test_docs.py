"""The examples of the pages about storage, feeding and noise run as they stand, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import dask
import numpy as np
import pytest

import storage
from storage.layout import Layout
from storage.plan import Plan
from storage.shards import Shard
from storage.texts import encode, offsets_of
from storage.versions import publish
from storage.writer import Build
from tasks import noise

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """The dataset that the page about storage speaks of, in a new working directory."""
    monkeypatch.chdir(tmp_path)
    count, splits = 200, {"train": (0, 140), "validation": (140, 160), "test": (160, 200)}
    plan = Plan("clean", "images", Layout(count, 50, 25), {}, (28, 28, 1), ("a", "b"), splits)
    build = Build("runs/images/datasets/clean", plan)
    build.begin()
    codes = np.repeat([0, 1, 2], [140, 20, 40]).astype(np.uint8)
    ids = np.arange(count)[::-1].copy()
    values = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    for number in range(4):
        rows = slice(*plan.layout.bounds(number))
        build.write_shard(number, Shard(values[rows], ids[rows] % 2, ids[rows], codes[rows]))
    build.finish()
    publish(build.dataset, [build.plan.key])


def run(page: str) -> dict:
    names: dict = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
    return names


def test_storage__examples_run(finished_run, capsys):
    names = run("storage.md")
    assert "<Dataset 'clean': 200 images, 4 shards, version" in capsys.readouterr().out
    assert names["test"] == slice(160, 200)
    np.testing.assert_array_equal(names["some"], names["clean"].read(0, 200)[[5, 3, 3]])
    assert names["again"].state_dict() == names["state"]


def test_feeding__examples_run(finished_run, capsys):
    # Not on a cluster of another test, which may be closing.
    with dask.config.set(scheduler="threads"):
        names = run("feeding.md")
    said = capsys.readouterr().out
    assert "3 batches in an epoch; <Batches of 64 from train of 'clean'" in said
    assert "go on from {'epoch': 2" in said or "'step': 3" in said
    assert names["again"].state_dict() == names["state"]
    batch = names["batch"]
    np.testing.assert_array_equal(batch["values"], noise.Gaussian(severity=3)(batch["targets"], batch["ids"]))
    assert storage.batches(names["feed"].dataset, 64)[1]["ids"].tolist() == next(names["again"])["ids"].tolist()


def test_storage__recipe_for_texts_reads_them(finished_run):
    held = ["", "é", "\ud83d", "plain"]
    encoded = [encode(text) for text in held]
    group = {"values": np.frombuffer(b"".join(encoded), np.uint8), "offsets": offsets_of(encoded)}
    texts = run("storage.md")["texts"]
    assert texts(group, 0, 4) == held
    assert texts(group, 0, 1) == [""]


def test_storage__every_file_of_a_dataset_is_explained(finished_run):
    page = (DOCS / "storage.md").read_text("utf-8")
    part = storage.open_dataset("runs/images/datasets/clean").parts[0]
    dataset = Path(part.dataset)
    for path in [*dataset.iterdir(), *(dataset / part.key).iterdir()]:
        assert path.name in page


def test_noise__examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("noise.md")
    assert [noise.slug_of(made) for made in names["pictures"].noise] == ["gaussian-3", "salt-and-pepper-2"]
    assert noise.slug_of(names["Fog"]()) == "fog-thickness-0.5"


def test_noise__the_catalogue_is_complete_and_true():
    rows = re.findall(r"^\| `(\w+)` \| (`.+?`) \| (.+?) \| .+ \|$", (DOCS / "noise.md").read_text(), re.M)
    kinds = {name: kind for name in noise.__all__ if hasattr(kind := getattr(noise, name), "severities")}
    assert [name for name, _, _ in rows] == list(dict.fromkeys(name for name, _, _ in rows))
    assert {name for name, _, _ in rows} == set(kinds)
    for name, parameters, severities in rows:
        assert parameters == ", ".join(f"`{parameter.name}`" for parameter in kinds[name].parameters)
        assert severities == ", ".join(map(written, kinds[name].severities))


def written(value) -> str:
    """A severity's value, or all of them, to three digits."""
    return f"({', '.join(map(written, value))})" if isinstance(value, tuple) else f"{value:.3g}"
