"""A run.json becomes a record, however little of it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.reading import parse_run, read_run


def test_read_run__keeps_what_the_run_wrote(images: dict[str, Any], save: Callable[..., Path]) -> None:
    record = read_run(save(images))
    assert (record.pipeline, record.seed, record.exit_code, record.kind) == ("fashion", 0, 1, "images")
    assert record.finished == datetime(2026, 11, 23, 20, 16, 1, tzinfo=UTC)
    assert [dataset.name for dataset in record.datasets] == ["clean", "gaussian-3", "salt-and-pepper-2"]
    assert record.datasets[0].splits == {"train": 5700, "validation": 300, "test": 1000}
    assert record.steps[0].started == datetime(2026, 11, 23, 20, 15, 1, tzinfo=UTC)
    lenet = next(result for result in record.results if result.name == "lenet5")
    assert lenet.parameters == 61706
    assert lenet.history["loss"] == tuple(images["results"][5]["history"]["loss"])
    assert lenet.scores[0].confusion == tuple(map(tuple, images["results"][5]["scores"][0]["confusion"]))


def test_parse_run__of_nothing_is_an_empty_record(tmp_path: Path) -> None:
    record = parse_run({}, tmp_path / "a-run")
    assert (record.pipeline, record.run) == ("a-run", "a-run")
    assert (record.datasets, record.steps, record.results, record.classes) == ((), (), (), ())


def test_parse_run__reads_over_parts_of_another_kind(tmp_path: Path) -> None:
    content = {
        "seconds": "long",
        "finished": "yesterday",
        "classes": 3,
        "results": [7, {"scores": [{"confusion": [[1, 2]]}]}],
    }
    record = parse_run(content, tmp_path)
    assert (record.seconds, record.finished, record.classes) == (None, None, ())
    assert len(record.results) == 1
    assert record.results[0].scores[0].confusion is None, "a matrix that is not square must not be drawn"


def test_score__prefers_the_test_split(images: dict[str, Any], tmp_path: Path) -> None:
    scores = images["results"][0]["scores"]
    scores.insert(0, scores[0] | {"split": "validation", "value": 0.5})
    result = parse_run(images, tmp_path).results[0]
    found = result.score("clean")
    assert found is not None
    assert found.split == "test"
    only = result.score("clean", measure="NMI")
    assert only is None


def test_artifact__is_found_after_the_root_has_moved(images: dict[str, Any], save: Callable[..., Path]) -> None:
    folder = save(images)
    moved = folder.parents[1].rename(folder.parents[2] / "moved")
    record = read_run(moved / "runs" / "one")
    autoencoder = next(result for result in record.results if result.name == "denoising_autoencoder")
    assert not (record.root or Path()).exists()
    assert record.artifact(autoencoder, "examples") == moved / "steps" / "denoising_autoencoder" / "examples.npz"
    assert record.artifact(autoencoder, "model") is None


def test_read_run__refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected a run folder with run\.json, received .*; do "):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_read_run__refuses_what_is_no_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"expected .*JSON.*received .*; do "):
        read_run(tmp_path)


def test_read_run__takes_nan_as_json_of_python_writes_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"results": [{"scores": [{"value": float("nan")}]}]}))
    score = read_run(tmp_path).results[0].scores[0]
    assert score.value != score.value
    assert score.finite is None
