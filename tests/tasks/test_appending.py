from __future__ import annotations

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import storage
from storage import StorageError
from storage.stamps import stamp
from tasks import noise, sources
from tasks.appending import append, surplus
from tasks.ingest import ingest
from tasks.noising import add_noise
from tasks.split import Split

LAYOUT = {"shard_bytes": 600, "minimum_shard_bytes": 100, "minimum_shards": 7, "chunk_bytes": 200}
OPTIONS = {"split": Split(validation=0.1, test=0.2), "seed": 0, "layout": LAYOUT}
rng = np.random.default_rng(0)
PIXELS = rng.integers(0, 256, (90, 5, 4, 3), dtype=np.uint8)
LABELS = np.array(["cat", "dog", "eel"])[rng.integers(0, 3, 90)]
TEXTS = [f"text {i} " + "x" * (i % 17) for i in range(90)]


def source_of(kind, rows):
    values = {"images": PIXELS[rows]} if kind == "images" else {"texts": [TEXTS[row] for row in rows]}
    return sources.Arrays(**values, labels=LABELS[rows].tolist())


def content(dataset) -> dict[int, tuple]:
    values = dataset.read(0, dataset.count)
    values = values if dataset.kind == "texts" else [value.tobytes() for value in values]
    names = [dataset.classes[label] for label in dataset.labels()]
    split = dataset.column("split", 0, dataset.count).tolist()
    return dict(zip(dataset.ids().tolist(), zip(values, names, split, strict=True), strict=True))


def files_of(dataset) -> dict[str, int]:
    return {str(path): path.stat().st_ino for path in _walk(dataset.location)}


def _walk(location):
    from pathlib import Path

    return [path for path in Path(location, "builds").rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_append__only_the_new_and_nothing_moves(workers, tmp_path, kind):
    folder = str(tmp_path / "clean")
    old = append(source_of(kind, range(60)), folder, workers, by="content", **OPTIONS)
    before, held = content(old), files_of(old)
    # The next night's source holds old and new samples, in another order.
    mixed = [*range(75, 90), *range(30, 75), *range(30)]
    new = append(source_of(kind, mixed), folder, workers, by="content", **OPTIONS)
    after = content(new)
    assert {key: after[key] for key in before} == before
    assert sorted(set(after) - set(before)) == list(range(60, 90))  # ids go on
    assert Counter(value[:2] for value in after.values()) == Counter(
        (PIXELS[i].tobytes() if kind == "images" else TEXTS[i], LABELS[i]) for i in range(90)
    )
    assert {path: inode for path, inode in files_of(new).items() if path in held} == held  # nothing copied
    assert storage.verify(folder).ok
    # The old version is still what it was.
    assert content(storage.open_dataset(folder, 1)) == before
    assert storage.open_dataset(folder, old.version).version == old.version


def test_append__statistics_are_those_of_all_training_rows(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("images", range(50)), folder, workers, by="content", **OPTIONS)
    dataset = append(source_of("images", range(90)), folder, workers, by="content", **OPTIONS)
    train = dataset.read(dataset.rows("train").start, dataset.rows("train").stop).astype(float)
    np.testing.assert_allclose(dataset.statistics["mean"], train.mean((0, 1, 2)))
    np.testing.assert_allclose(dataset.statistics["std"], train.std((0, 1, 2)))
    assert sum(dataset.statistics["rows"].values()) == 90


def test_append__twice_the_same_and_nothing_new(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("images", range(50)), folder, workers, by="content", **OPTIONS)
    first = append(source_of("images", range(70)), folder, workers, by="content", **OPTIONS)
    again = append(source_of("images", range(70)), folder, workers, by="content", **OPTIONS)
    assert (again.number, again.version) == (first.number, first.version)
    fewer = append(source_of("images", range(20)), folder, workers, by="content", **OPTIONS)
    assert (fewer.version, fewer.count) == (first.version, 70)  # what is gone from the source stays


def test_append__nights_do_not_matter_for_what_is_there(workers, tmp_path):
    once = append(source_of("texts", range(90)), str(tmp_path / "once"), workers, by="content", **OPTIONS)
    for night in (20, 21, 60, 90):
        dataset = append(source_of("texts", range(night)), str(tmp_path / "many"), workers, by="content", **OPTIONS)
    assert len(dataset.parts) == 4
    assert sorted(dataset.read(0, 90)) == sorted(once.read(0, 90))
    assert dataset.ids()[np.argsort(dataset.ids())].tolist() == list(range(90))


def test_append__new_classes_follow_the_old(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(sources.Arrays(images=PIXELS[:30], labels=["cat", "eel"] * 15), folder, workers, by="content", **OPTIONS)
    mixed = sources.Arrays(images=PIXELS[:60], labels=["cat", "eel"] * 15 + ["ant", "dog"] * 15)
    dataset = append(mixed, folder, workers, by="content", **OPTIONS)
    assert dataset.classes == ("cat", "eel", "ant", "dog")
    counts = [sum(column) for column in zip(*dataset.statistics["class_counts"].values(), strict=True)]
    assert counts == [15, 15, 15, 15]
    assert [dataset.classes[label] for label in dataset.labels()[np.argsort(dataset.ids())][-2:]] == ["ant", "dog"]


def test_append__copies_in_the_source_are_counted(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("texts", [0, 0, 1]), folder, workers, by="content", **OPTIONS)
    dataset = append(source_of("texts", [0, 1, 1, 0, 0]), folder, workers, by="content", **OPTIONS)
    assert Counter(dataset.read(0, dataset.count)) == {TEXTS[0]: 3, TEXTS[1]: 2}


def test_append__all(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("texts", range(10)), folder, workers, by="all", **OPTIONS)
    dataset = append(source_of("texts", range(5, 20)), folder, workers, by="all", **OPTIONS)
    assert dataset.count == 25


def test_append__noise_of_old_parts_is_shared(workers, tmp_path):
    clean, noisy = str(tmp_path / "clean"), str(tmp_path / "noisy")
    gaussian = noise.Gaussian(severity=3)
    old = append(source_of("images", range(60)), clean, workers, by="content", **OPTIONS)
    held = files_of(add_noise(old, gaussian, noisy, workers, seed=0))
    new = append(source_of("images", range(90)), clean, workers, by="content", **OPTIONS)
    copy = add_noise(new, gaussian, noisy, workers, seed=0)
    assert {path: inode for path, inode in files_of(copy).items() if path in held} == held
    np.testing.assert_array_equal(copy.ids(), new.ids())
    np.testing.assert_array_equal(copy.read(0, 90), gaussian(new.read(0, 90), new.ids(), seed=0))


def test_append__another_seed_ingests_all_anew(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("images", range(30)), folder, workers, by="content", **OPTIONS)
    other, source = {**OPTIONS, "seed": 1}, source_of("images", range(40))
    dataset = append(source, folder, workers, by="content", **other)
    assert (len(dataset.parts), dataset.count, dataset.number) == (1, 40, 2)
    assert dataset.version == ingest(source, str(tmp_path / "b"), workers, **other).version


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_append__goes_on_after_an_interruption(workers, tmp_path, kind):
    class Stop(Exception):
        pass

    def stop(count):
        raise Stop

    append(source_of(kind, range(40)), str(tmp_path / "a"), workers, by="content", **OPTIONS)
    whole = append(source_of(kind, range(90)), str(tmp_path / "a"), workers, by="content", **OPTIONS)
    folder = str(tmp_path / "b")
    append(source_of(kind, range(40)), folder, workers, by="content", **OPTIONS)
    with pytest.raises(Stop):
        append(source_of(kind, range(90)), folder, workers, by="content", advance=stop, **OPTIONS)
    assert storage.open_dataset(folder).count == 40  # readers see the old version
    assert append(source_of(kind, range(90)), folder, workers, by="content", **OPTIONS).version == whole.version


def test_append__by_files_reads_only_the_new(workers, tmp_path, monkeypatch):
    root = tmp_path / "texts"
    for name in ("bad", "good"):
        (root / name).mkdir(parents=True)
        for i in range(20):
            (root / name / f"{i:02d}.txt").write_text(f"{name} {i}")
    folder = str(tmp_path / "clean")
    append(sources.TextFolder(root), folder, workers, by="files", **OPTIONS)
    for i in range(20, 25):
        (root / "bad" / f"{i}.txt").write_text(f"bad {i}")
    changed = root / "good" / "03.txt"
    changed.write_text("good, but changed")
    os.utime(changed, ns=(1, 1))
    asked = []
    take = sources.TextFolder.take
    monkeypatch.setattr(sources.TextFolder, "take", lambda self, rows: (asked.extend(rows), take(self, rows))[1])
    dataset = append(sources.TextFolder(root), folder, workers, by="files", **OPTIONS)
    assert dataset.count == 46
    assert len(set(asked)) == 6  # five new files, and one that is another file now
    assert sorted(dataset.read(0, 46)).count("good, but changed") == 1
    assert storage.verify(folder).ok


def test_append__by_files_without_files(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("texts", range(10)), folder, workers, by="content", **OPTIONS)
    with pytest.raises(ValueError, match="expected a source with a file for each sample"):
        append(source_of("texts", range(20)), folder, workers, by="files", **OPTIONS)


def test_append__what_does_not_fit(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("images", range(10)), folder, workers, by="content", **OPTIONS)
    with pytest.raises(ValueError, match=r"expected images of shape .* to append to 'clean', received texts"):
        append(source_of("texts", range(10)), folder, workers, by="content", **OPTIONS)
    with pytest.raises(ValueError, match="expected by one of"):
        append(source_of("images", range(20)), folder, workers, by="date", **OPTIONS)


def test_append__another_run_was_faster(workers, tmp_path):
    folder = str(tmp_path / "clean")
    append(source_of("images", range(30)), folder, workers, by="content", **OPTIONS)
    raced = []

    def race(count):
        if not raced:
            raced.append(append(source_of("images", [*range(30), 80]), folder, workers, by="content", **OPTIONS))

    with pytest.raises(StorageError, match="another run changed the dataset"):
        append(source_of("images", range(60)), folder, workers, by="content", advance=race, **OPTIONS)
    assert storage.open_dataset(folder).version == raced[0].version  # nothing of the other is lost
    assert append(source_of("images", range(60)), folder, workers, by="content", **OPTIONS).count == 61


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_assign_more__shares_hold_over_many_small_appends(share):
    split = Split(validation=share, test=share)
    codes = np.concatenate(
        [split.assign_more(None, np.arange(3), np.arange(3) + 3 * night, 0) for night in range(10_000)]
    )
    assert abs((codes == 2).mean() - share) < 0.01
    assert abs((codes == 1).mean() - (1 - share) * share) < 0.01
    whole = split.assign_more(None, np.arange(30_000), np.arange(30_000), 0)
    np.testing.assert_array_equal(whole, codes)


def test_assign_more__keeps_the_sources_own():
    own = np.array([0, 2, 1, 0, 2], np.uint8)
    codes = Split(0.5, 0.5).assign_more(own, np.array([4, 2, 0]), np.array([10, 11, 12]), 0)
    assert codes.tolist() == [2, 1, 0]


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_surplus__is_the_difference_of_multisets(found, known):
    stamps = stamp(bytes([i]) for i in range(6))
    places = surplus(stamps[found], stamps[known])
    assert Counter(found[place] for place in places) == Counter(found) - Counter(known)
    assert places.tolist() == sorted(places.tolist())
