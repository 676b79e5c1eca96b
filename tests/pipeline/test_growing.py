"""A pipeline whose source grows from night to night; and what then lies in the output folder."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest

import storage
from pipeline import Pipeline
from pipeline.inventory import inventory, prune_root
from pipeline.lock import InUseError, RunLock
from tasks import noise, sources

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (150, 8, 8), dtype=np.uint8)


def night(count, traced=None, **options):
    source = sources.Arrays(images=IMAGES[:count], labels=np.arange(count) % 3, classes=("a", "b", "c"))
    options = {"grow": "content", "noise": [noise.Gaussian(severity=2)], **options}
    return Pipeline(name="nightly", source=source, methods=[traced()] if traced else [], **options)


def shards(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_ino for path in root.rglob("data.zarr/images/c.*")}


def test_run__grows_and_shares_what_is_there(client, traced, tmp_path):
    first = night(100, traced).run(tmp_path, client)
    held = shards(tmp_path)
    plan = night(120, traced).plan(tmp_path)
    assert [step.state for step in plan] == ["missing" if step.name != "clean" else "partly done" for step in plan]
    assert "shards there, new samples to append" in str(plan)
    second = night(120, traced).run(tmp_path, client)
    assert {path: inode for path, inode in shards(tmp_path).items() if path in held} == held
    assert len(shards(tmp_path)) > len(held)
    sizes = [entry["count"] for run in (first, second) for entry in run.record["datasets"]]
    assert sizes == [100, 100, 120, 120]
    assert night(120, traced).plan(tmp_path).finished
    # The first run still opens what it used.
    assert first.dataset("clean").sizes["sample"] == 100
    assert second.dataset("gaussian-2").sizes["sample"] == 120
    assert {row["status"] for row in night(120, traced).run(tmp_path, client).steps} == {"reused"}


def test_run__without_grow_ingests_anew(client, tmp_path):
    night(100, grow=None).run(tmp_path, client)
    run = night(120, grow=None).run(tmp_path, client)
    assert len(storage.open_dataset(run.dataset_path("clean")).parts) == 1


@pytest.mark.parametrize("grow", ["dates", True, "files"])
def test_pipeline__grow_that_is_none(grow):
    with pytest.raises(ValueError, match=r"expected grow=|expected a source with a file for each sample"):
        night(10, grow=grow)


def test_run__datasets_elsewhere(client, tmp_path):
    elsewhere = f"memory://{tmp_path.name}/data"
    with dask.config.set({"duskflow.storage.datasets": elsewhere}):
        pipeline = night(60, grow=None)
        run = pipeline.run(tmp_path, client)
        assert run.exit_code == 0
        assert run.dataset_path("clean") == f"{elsewhere}/nightly/clean/versions/000001.json"
        assert pipeline.plan(tmp_path).finished
        assert storage.verify(f"{elsewhere}/nightly/gaussian-2").ok
        assert not (tmp_path / "nightly" / "datasets").exists()
        with dask.config.set(scheduler="threads"):
            assert run.dataset("clean").ids.values.tolist() != []
        assert [found.problems for found in pipeline.repair(tmp_path, client)] == [(), ()]


def test_repair__of_a_grown_pipeline(client, tmp_path):
    for count in (60, 90):
        run = night(count).run(tmp_path, client)
    clean, noisy = (storage.open_dataset(run.dataset_path(name)) for name in ("clean", "gaussian-2"))
    for part in (clean.parts[1], noisy.parts[0], noisy.parts[1]):
        path = next(Path(part.group, "images").glob("c.*"))
        path.write_bytes(b"damaged")
    found = night(90).repair(tmp_path, client)
    assert [(len(one.shards), one.version) for one in found] == [(1, clean.version), (1, noisy.version)]
    assert storage.verify(clean.path).ok and storage.verify(noisy.path).ok


def test_repair__before_any_run(client, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected datasets in .* found none; run the pipeline first"):
        night(10).repair(tmp_path, client)


def test_inventory__lists_everything(client, traced, tmp_path):
    for count in (60, 90):
        night(count, traced).run(tmp_path, client)
    storage.tag(tmp_path / "nightly" / "datasets" / "clean", "paper", 1)
    text = str(inventory(tmp_path))
    assert "nightly/datasets/clean" in text and "nightly/datasets/gaussian-2" in text
    assert "paper" in text and "nightly/steps/traced" in text and "nightly/runs/" in text
    assert len(inventory(tmp_path).versions) == 4
    assert len(inventory(tmp_path / "nightly").models) == len(inventory(tmp_path / "nightly").runs) == 2
    assert len(inventory(tmp_path / "nightly" / "datasets" / "clean").versions) == 2
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        inventory(tmp_path / "nowhere")


def test_prune_root__keeps_what_kept_runs_use(client, traced, tmp_path):
    runs = [night(count, traced, grow=None).run(tmp_path, client) for count in (60, 90, 120)]
    before = sorted(tmp_path.rglob("*"))
    said = prune_root(tmp_path, keep=2)
    assert sorted(tmp_path.rglob("*")) == before  # says so, and does nothing
    assert prune_root(tmp_path, keep=2, apply=True) == said
    assert len(said) == 4  # a run, its model, a version of each dataset
    assert not runs[0].folder.exists()
    for run in runs[1:]:
        assert run.report.is_file()
        assert all((tmp_path / "nightly" / result["folder"]).is_dir() for result in run.record["results"])
        for name in ("clean", "gaussian-2"):
            assert storage.verify(run.dataset_path(name)).ok
    assert night(120, traced, grow=None).plan(tmp_path).finished
    assert prune_root(tmp_path, keep=2) == []


def test_prune_root__refuses_while_a_run_goes_on(client, tmp_path):
    night(60).run(tmp_path, client)
    with RunLock(tmp_path / "nightly"), pytest.raises(InUseError):
        prune_root(tmp_path, apply=True)
    with pytest.raises(ValueError, match="expected to keep 1 or more"):
        prune_root(tmp_path, keep=0)


def test_prune_root__of_a_pipelines_datasets_alone(client, tmp_path):
    night(60).run(tmp_path, client)
    for path in (tmp_path / "nightly" / "datasets", tmp_path / "nightly" / "datasets" / "clean"):
        with pytest.raises(ValueError, match=r"expected an output folder or a pipeline's, received .*; prune that"):
            prune_root(path, apply=True)


def test_run__kept_in_another_way_ingests_anew(client, tmp_path):
    from PIL import Image

    for i in range(12):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png")
    for keep in ("pixels", "files"):
        source = sources.ImageFolder(tmp_path / "photos", size=(8, 8), mode="L", keep=keep)
        run = Pipeline(name="photos", source=source, grow="content").run(tmp_path / "out", client)
        assert run.record["datasets"][0]["count"] == 12
