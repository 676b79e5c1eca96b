from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest

import storage
from storage import StorageError


@pytest.fixture(params=["images", "texts"])
def dataset(request, image_build, text_build, commit):
    """A dataset to be damaged."""
    return commit(image_build() if request.param == "images" else text_build(["a", "b", "", "dé"] * 4))


def folder_of(dataset) -> Path:
    return dataset.path.parent.parent


def found(dataset, **options) -> tuple[str, ...]:
    return storage.verify(folder_of(dataset), **options).problems


def test_verify__a_healthy_dataset(dataset):
    counts = []
    for strict in (True, False):
        result = storage.verify(folder_of(dataset), strict=strict, advance=counts.append)
        assert result.ok
        assert result.problems == ()
        assert (result.version, result.strict, result.path) == (dataset.version, strict, dataset.path)
        assert result.files == len(dataset.manifest["files"])
    assert sum(counts) == 2 * len(dataset.manifest["files"])


def test_verify__every_file_is_covered(dataset):
    files = {path.relative_to(dataset.path / "data.zarr").as_posix() for path in dataset.path.glob("data.zarr/**/*.*")}
    assert {name for name in files if (dataset.path / "data.zarr" / name).is_file()} == set(dataset.manifest["files"])


def test_verify__every_missing_file(dataset):
    for name in dataset.manifest["files"]:
        path = dataset.path / "data.zarr" / name
        data = path.read_bytes()
        path.unlink()
        for strict in (True, False):
            assert found(dataset, strict=strict) == (f"missing {name}",)
        path.write_bytes(data)
    assert found(dataset) == ()


@pytest.mark.parametrize("strict", [True, False])
def test_verify__every_truncated_or_longer_file(dataset, strict):
    for name, entry in dataset.manifest["files"].items():
        path = dataset.path / "data.zarr" / name
        data = path.read_bytes()
        for damaged in (data[:-1], data + b"\0", b""):
            path.write_bytes(damaged)
            expected = f"damaged {name}: expected {entry['bytes']:,} bytes, found {len(damaged):,}"
            assert found(dataset, strict=strict) == (expected,)
        path.write_bytes(data)


def test_verify__200_flipped_bits(dataset):
    rng = random.Random(0)
    paths = [path for path in folder_of(dataset).rglob("*") if path.is_file() and "records" not in path.parts]
    paths = [path for path in paths if path.name != "plan.json"]  # both only serve an unfinished build
    assert {"manifest.json", "latest.json", "zarr.json"} <= {path.name for path in paths}
    for _ in range(200):
        path = rng.choice(paths)
        data = bytearray(path.read_bytes())
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
        healthy = path.read_bytes()
        path.write_bytes(data)
        problems = found(dataset)
        assert problems, f"bit {bit} of {path.name}"
        if "data.zarr" in path.parts:
            name = path.relative_to(dataset.path / "data.zarr").as_posix()
            assert problems == (f"damaged {name}: its bytes are not those that were committed",)
        path.write_bytes(healthy)
    assert found(dataset) == ()


def test_verify__sizes_alone_do_not_prove_content(dataset):
    path = next((dataset.path / "data.zarr" / "ids").glob("c.0"))
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    assert found(dataset, strict=False) == ()
    assert len(found(dataset)) == 1


def test_verify__names_all_that_is_wrong(dataset):
    group = dataset.path / "data.zarr"
    (group / "ids" / "c.0").unlink()
    (group / "labels" / "c.1").write_bytes(b"")
    (group / "labels" / "c.99").write_bytes(b"")
    (group / "notes.txt").write_text("hello")
    (group / "extra").mkdir()
    (group / "extra" / "zarr.json").write_text("{}")
    problems = found(dataset)
    assert len(problems) == 5
    assert "missing ids/c.0" in problems
    assert any(problem.startswith("damaged labels/c.1: expected") for problem in problems)
    for name in ("labels/c.99", "notes.txt", "extra/zarr.json"):
        assert f"unexpected {name}: not in the manifest" in problems


def test_verify__leftovers_of_killed_writers_are_no_damage(dataset):
    (dataset.path / "data.zarr" / "ids" / "c.0.77-ab.partial").write_bytes(b"half")
    assert found(dataset) == ()


EDITS = {
    "statistics": lambda m: m["statistics"]["rows"].update(train=1),
    "name": lambda m: m.update(name="noisy"),
    "classes": lambda m: m["classes"].reverse(),
    "splits": lambda m: m["splits"].update(test=[0, 1]),
    "recipe": lambda m: m["recipe"].update(seed=99),
    "plan": lambda m: m.update(plan="0" * 64),
    "version": lambda m: m.update(version="0" * 64),
    "digest": lambda m: m.update(digest="0" * 64),
    "no digest": lambda m: m.pop("digest"),
    "added": lambda m: m.update(note="by hand"),
    "hash": lambda m: m["files"]["ids/c.0"].update(sha256="0" * 64),
    "dropped": lambda m: m["files"].pop("ids/c.0"),
    "hash of metadata": lambda m: m["files"]["zarr.json"].update(sha256="0" * 64),
}


@pytest.mark.parametrize("edit", EDITS)
def test_verify__every_edit_of_the_manifest(dataset, edit):
    manifest = json.loads((dataset.path / "manifest.json").read_bytes())
    EDITS[edit](manifest)
    (dataset.path / "manifest.json").write_text(json.dumps(manifest))
    assert any(problem.startswith("damaged manifest: ") for problem in found(dataset))


def test_verify__manifest_of_another_build(image_build, commit):
    dataset = commit(image_build())
    other = commit(image_build(seed=1, folder="other"))
    shutil.copy(other.path / "manifest.json", dataset.path / "manifest.json")
    problems = found(dataset)
    assert problems[0].startswith(f"damaged pointer: it says version {dataset.version[:12]}")
    assert any(problem.startswith("damaged images/") for problem in problems)


@pytest.mark.parametrize("name", ["latest.json", "manifest.json"])
def test_verify__so_damaged_that_it_does_not_open(dataset, name):
    path = folder_of(dataset) / name if name == "latest.json" else dataset.path / name
    path.write_bytes(b"garbage")
    result = storage.verify(folder_of(dataset))
    assert not result.ok
    assert (result.version, result.files) == ("", 0)
    assert len(result.problems) == 1
    assert re.match(rf"damaged (pointer|manifest) .*{name}: ", result.problems[0])


def test_verify__build_that_is_gone(dataset):
    shutil.rmtree(dataset.path)
    assert found(dataset)[0].startswith("no finished dataset in ")


def test_verify__manifest_whose_files_make_no_sense(dataset):
    for files in ([], {"ids/c.0": None}, {"ids/c.0": {}}, "text"):
        (dataset.path / "manifest.json").write_text(json.dumps({**dataset.manifest, "files": files}))
        assert any("damaged manifest" in problem for problem in found(dataset)), files


def test_verify__a_file_that_cannot_be_read(dataset):
    path = dataset.path / "data.zarr" / "ids" / "c.0"
    data = path.read_bytes()
    path.unlink()
    path.mkdir()
    os.truncate(path / "x", 0) if (path / "x").exists() else None
    assert any("ids/c.0" in problem for problem in found(dataset)), data


def test_verify__nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        storage.verify(tmp_path / "none")
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.verify(tmp_path)
