from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import storage
from storage import StorageError
from tasks import noise, sources
from tasks.appending import append
from tasks.ingest import ingest
from tasks.noising import add_noise, plan_noise
from tasks.repairing import remake_source, repair
from tasks.split import Split

LAYOUT = {"shard_bytes": 600, "minimum_shard_bytes": 100, "minimum_shards": 7, "chunk_bytes": 200}
OPTIONS = {"split": Split(validation=0.1, test=0.2), "seed": 0, "layout": LAYOUT}
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 5, 4, 3), dtype=np.uint8)
TEXTS = [f"text {i} " + "x" * (i % 17) for i in range(60)]


def source_of(kind):
    values = {"images": PIXELS} if kind == "images" else {"texts": TEXTS}
    return sources.Arrays(**values, labels=np.arange(60) % 3)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def mend(source, folder, client):
    return repair(remake_source(source, folder, client, **OPTIONS, name="clean"), client)


DAMAGE = {
    "a shard": "builds/*/data.zarr/*/c.2*",
    "a record": "builds/*/records/000003",
    "a column": "builds/*/data.zarr/labels/c.0",
    "ids": "builds/*/data.zarr/ids/c.0",
    "metadata": "builds/*/data.zarr/zarr.json",
    "the plan": "builds/*/plan.json",
    "the table": "builds/*/shards.npy",
    "the manifest": "builds/*/manifest.json",
    "the version": "versions/000001.json",
}


@pytest.mark.parametrize("how", ["flipped", "lost", "cut"])
@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_repair__of_everything(workers, tmp_path, kind, what, how):
    folder = tmp_path / "clean"
    version = ingest(source_of(kind), str(folder), workers, **OPTIONS).version
    found = sorted(folder.glob(DAMAGE[what]))
    if kind == "texts" and what == "a shard":
        found = [path for path in found if path.parent.name == "values"]
    [path] = found
    damaged = {"a shard": 2, "a record": 3}.get(what)
    inodes = {other: other.stat().st_ino for other in folder.rglob("*/c.*") if f".{damaged}" not in other.name}
    if how == "flipped":
        flip(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    fixed = mend(source_of(kind), folder, workers)
    assert fixed.version == version
    assert storage.verify(folder).ok
    assert storage.open_dataset(folder).version == version
    assert fixed.shards == (() if damaged is None else (damaged,))
    if damaged is not None:  # just the damaged
        assert {other: other.stat().st_ino for other in inodes} == inodes


def test_repair__of_nothing(workers, tmp_path):
    folder = tmp_path / "clean"
    ingest(source_of("images"), str(folder), workers, **OPTIONS)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("c.*")}
    fixed = mend(source_of("images"), folder, workers)
    assert (fixed.problems, fixed.shards, fixed.files) == ((), (), ())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("c.*")} == before


def test_repair__an_extra_shard_goes(workers, tmp_path):
    folder = tmp_path / "clean"
    dataset = ingest(source_of("images"), str(folder), workers, **OPTIONS)
    extra = Path(dataset.parts[0].group) / "images" / "c.99.0.0.0"
    extra.write_bytes(b"extra")
    assert not storage.verify(folder).ok
    assert mend(source_of("images"), folder, workers).files == ("data.zarr/images/c.99.0.0.0",)
    assert not extra.exists()
    assert storage.verify(folder).ok


def test_repair__a_source_that_gives_other_bytes_harms_nothing(workers, tmp_path):
    folder = tmp_path / "clean"
    dataset = ingest(source_of("images"), str(folder), workers, **OPTIONS)

    class Other(sources.Arrays):
        def take(self, indices):
            found = super().take(indices)
            return type(found)(255 - found.values, found.labels)

    shard = Path(dataset.parts[0].group) / "images" / "c.1.0.0.0"
    flip(shard)
    damaged = shard.read_bytes()
    works = remake_source(source_of("images"), folder, workers, **OPTIONS, name="clean")
    other = Other(images=PIXELS, labels=np.arange(60) % 3)
    works = [type(work)(work.build, work.produce, lambda n, w=work: (other, *w.arguments(n)[1:])) for work in works]
    with pytest.raises(StorageError, match="shard 1 of 'clean' cannot be repaired"):
        repair(works, workers)
    assert shard.read_bytes() == damaged


def test_repair__noise(workers, tmp_path):
    clean = ingest(source_of("images"), str(tmp_path / "clean"), workers, **OPTIONS)
    gaussian = noise.Gaussian(severity=2)
    noisy = add_noise(clean, gaussian, str(tmp_path / "noisy"), workers, seed=3)
    flip(Path(noisy.parts[0].group) / "images" / "c.4.0.0.0")
    fixed = repair(plan_noise(clean, gaussian, tmp_path / "noisy", 3), workers)
    assert (fixed.shards, fixed.version) == ((4,), noisy.version)
    assert storage.verify(tmp_path / "noisy").ok


@pytest.mark.parametrize("part", [0, 1])
def test_repair__a_part_whose_source_has_grown_since(workers, tmp_path, part):
    root, folder = tmp_path / "texts", tmp_path / "clean"
    for count in (20, 30):
        for name in ("bad", "good"):
            (root / name).mkdir(parents=True, exist_ok=True)
            for i in range(count - 10, count) if count == 30 else range(count):
                (root / name / f"{i:02d}.txt").write_text(f"{name} {i} " + "x" * 40)
        dataset = append(sources.TextFolder(root), str(folder), workers, by="files", **OPTIONS)
    assert len(dataset.parts) == 2
    (root / "bad" / "30.txt").write_text("another that is not ingested yet")
    flip(Path(dataset.parts[part].group) / "values" / "c.1")
    fixed = mend(sources.TextFolder(root), folder, workers)
    assert (fixed.version, fixed.shards) == (dataset.version, (1,))
    assert storage.verify(folder).ok
    # Without the file there is no repair, and the error says so.
    flip(Path(dataset.parts[part].group) / "values" / "c.1")
    for path in root.rglob("*.txt"):
        path.write_text(path.read_text() + "!")
    with pytest.raises(StorageError, match=r"are gone from .* or changed; restore them"):
        mend(sources.TextFolder(root), folder, workers)


def test_repair__of_a_grown_datasets_last_version(workers, tmp_path):
    # Its document says which builds it is made of; without it they must be found, and not rolled back.
    folder = tmp_path / "clean"
    for count in (30, 45, 60):
        source = sources.Arrays(images=PIXELS[:count], labels=np.arange(count) % 3)
        dataset = append(source, str(folder), workers, by="content", **OPTIONS)
    flip(folder / "versions" / "000003.json")
    fixed = mend(source, folder, workers)
    assert (fixed.version, fixed.shards) == (dataset.version, ())
    assert storage.open_dataset(folder).number == 3
    assert storage.verify(folder).ok


def test_repair__other_labels_change_nothing(workers, tmp_path):
    folder = tmp_path / "clean"
    dataset = ingest(source_of("images"), str(folder), workers, **OPTIONS)
    build = folder / "builds" / dataset.parts[0].build
    (build / "records" / "000002").write_bytes(b"damaged")
    manifest, labels = (build / "manifest.json").read_bytes(), (build / "data.zarr" / "labels" / "c.0").read_bytes()

    class Relabelled(sources.Arrays):
        def fingerprint(self):
            return source_of("images").fingerprint()

        def labels(self):
            return (super().labels() + 1) % 3

    with pytest.raises(StorageError, match=r"repaired, it has version|was made from another state"):
        mend(Relabelled(images=PIXELS, labels=np.arange(60) % 3), folder, workers)
    assert (build / "manifest.json").read_bytes() == manifest
    assert (build / "data.zarr" / "labels" / "c.0").read_bytes() == labels
    assert storage.open_dataset(folder).version == dataset.version
    assert mend(source_of("images"), folder, workers).version == dataset.version
    assert storage.verify(folder).ok
