"""Datasets of several builds, as appends leave them, held against plain NumPy on the joined data."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import storage
from storage import StorageError
from storage.layout import SPLITS
from storage.statistics import shard_statistics

PHRASES = ["", "é", "some words", "\ud83d", "x" * 70, "日本"]


def images_of(at, place):
    make = at["images"]
    return [
        make(place, 23, (5, 3, 1), 8, 4),
        # Smaller shards; only training rows, and a class that the first did not know.
        make(
            place, 5, (5, 3, 1), 2, 1, seed=1, first_id=23, splits={"train": (0, 5)}, classes=("cat", "dog", "é", "new")
        ),
        # No training rows.
        make(
            place,
            9,
            (5, 3, 1),
            16,
            8,
            seed=2,
            first_id=28,
            splits={"validation": (0, 2), "test": (2, 9)},
            classes=("cat", "dog", "é", "new", "newer"),
        ),
    ]


def texts_of(at, place):
    make = at["texts"]
    return [
        make(place, [f"{i} {PHRASES[i % 6]}" for i in range(16)], 3),
        make(place, PHRASES, 5, first_id=16, splits={"test": (0, 6)}),
        make(place, PHRASES * 2, 1, first_id=22, splits={"train": (0, 10), "test": (10, 12)}, classes=("a", "b", "c")),
    ]


class Joined:
    """Everything in the order of the dataset's rows: split by split, part by part."""

    def __init__(self, made) -> None:
        rows = []
        for code, _ in enumerate(SPLITS):
            for _, shards in made:
                for shard in shards:
                    rows += [
                        (value, label, number, split)
                        for value, label, number, split in zip(
                            shard.values, shard.labels, shard.ids, shard.split, strict=True
                        )
                        if split == code
                    ]
        values, labels, ids, split = zip(*rows, strict=True)
        self.values = np.array(values) if isinstance(values[0], np.ndarray) else list(values)
        self.labels, self.ids, self.split = np.array(labels), np.array(ids), np.array(split)

    def take(self, rows):
        return self.values[rows] if isinstance(self.values, np.ndarray) else [self.values[row] for row in rows]


@pytest.fixture(params=["images", "texts"])
def kind(request):
    return request.param


@pytest.fixture(params=["local", "memory"])
def made(request, kind, builds_at, tmp_path, memory_location):
    place = tmp_path / "data" if request.param == "local" else memory_location()
    return {"images": images_of, "texts": texts_of}[kind](builds_at, place)


@pytest.fixture(params=[2, 3])
def both(request, made, commit):
    """A dataset of two or three builds, and what it should hold."""
    return commit(*made[: request.param]), Joined(made[: request.param])


def test_read__any_rows(both):
    dataset, joined = both
    count = len(joined.ids)
    assert (dataset.count, len(dataset)) == (count, count)
    edges = [0, 1, 7, count // 2, count - 1, count]
    edges += [int(row) for row in np.flatnonzero(np.diff(joined.split)) + 1]
    for start in edges:
        for stop in [edge for edge in edges if edge >= start]:
            found = dataset.read(start, stop)
            np.testing.assert_array_equal(found, joined.values[start:stop])
            assert type(found) is type(joined.values)
    assert len({len(dataset.read(row, row + 1)) for row in range(count)}) == 1


def test_take__any_rows_in_any_order_and_twice(both):
    dataset, joined = both
    rng = np.random.default_rng(0)
    for size in (0, 1, 5, len(joined.ids), 3 * len(joined.ids)):
        rows = rng.integers(0, len(joined.ids), size)
        found = dataset.take(rows)
        assert len(found) == size
        np.testing.assert_array_equal(found, joined.take(rows)) if size else None
    for row in (-1, len(joined.ids)):
        with pytest.raises(IndexError, match="expected rows within 0 to"):
            dataset.take(np.array([0, row]))


def test_column__labels_ids_and_split(both):
    dataset, joined = both
    np.testing.assert_array_equal(dataset.labels(), joined.labels)
    np.testing.assert_array_equal(dataset.ids(), joined.ids)
    count = len(joined.ids)
    for name, values in (("labels", joined.labels), ("ids", joined.ids), ("split", joined.split)):
        for start, stop in ((0, count), (5, 20), (count - 1, count), (3, 3)):
            found = dataset.column(name, start, stop)
            np.testing.assert_array_equal(found, values[start:stop])
            assert found.dtype == values.dtype
    assert sorted(dataset.ids().tolist()) == list(range(count))


def test_splits__are_one_run_of_rows_each(both):
    dataset, joined = both
    expected = {}
    for code, name in enumerate(SPLITS):
        rows = np.flatnonzero(joined.split == code)
        if rows.size:
            expected[name] = [(int(rows[0]), int(rows[-1]) + 1)]
            assert dataset.rows(name) == slice(rows[0], rows[-1] + 1)
    assert dataset.splits == expected
    with pytest.raises(ValueError, match="expected a split of"):
        dataset.rows("holdout")


def test_statistics__are_those_of_the_joined_data(both):
    dataset, joined = both
    expected = shard_statistics(joined.values, joined.labels, joined.split, len(dataset.classes))
    for name, value in expected.items():
        assert dataset.statistics[name] == value, name
    train = joined.take(np.flatnonzero(joined.split == 0))
    if dataset.kind == "images":
        np.testing.assert_allclose(dataset.statistics["mean"], train.mean((0, 1, 2)))
        np.testing.assert_allclose(dataset.statistics["std"], train.std((0, 1, 2)))
    else:
        assert dataset.statistics["mean_bytes"] == np.mean([len(t.encode("utf-8", "surrogatepass")) for t in train])


def test_dataset__says_what_it_is(made, commit):
    dataset = commit(*made)
    plans = [build.plan for build, _ in made]
    assert dataset.classes == plans[-1].classes
    assert dataset.sample_shape == plans[0].sample_shape
    assert dataset.shards == sum(plan.layout.shards for plan in plans)
    assert dataset.layout.shard == max(plan.layout.shard for plan in plans)
    assert dataset.nbytes == sum(part.manifest["bytes"] for part in dataset.parts)
    assert [part.build for part in dataset.parts] == [plan.key for plan in plans]
    assert repr(dataset.parts[1]).startswith(f"<Part {plans[1].key}: {plans[1].layout.count} ")


def test_dataset__survives_pickling_after_use(both):
    dataset, joined = both
    dataset.take(np.arange(20))
    dataset.labels()
    again = pickle.loads(pickle.dumps(dataset))
    assert (again.version, again.count, again.path) == (dataset.version, dataset.count, dataset.path)
    np.testing.assert_array_equal(again.read(3, 19), joined.values[3:19])
    np.testing.assert_array_equal(again.ids(), joined.ids)
    assert len(pickle.dumps(dataset)) < 40_000  # no maps, no arrays


def test_xarray__in_the_order_of_rows(both):
    dataset, joined = both
    opened = dataset.xarray()
    for name in ("labels", "ids", "split"):
        np.testing.assert_array_equal(opened[name].values, getattr(joined, name))
        assert not opened[name]._in_memory
    if dataset.kind == "images":
        assert not opened.images._in_memory
        np.testing.assert_array_equal(opened.images.values, joined.values)
        np.testing.assert_array_equal(opened.images[5:27].values, joined.values[5:27])
    else:
        assert set(opened.variables) == {"labels", "ids", "split"}


def test_append__old_versions_stay_what_they_were(made, commit):
    versions = [commit(*made[:count]) for count in (1, 2, 3)]
    assert len({dataset.version for dataset in versions}) == 3
    for count, dataset in enumerate(versions, 1):
        again = storage.open_dataset(dataset.location, count)
        joined = Joined(made[:count])
        assert again.version == dataset.version
        np.testing.assert_array_equal(again.read(0, again.count), joined.values)
        np.testing.assert_array_equal(again.ids(), joined.ids)
        assert storage.verify(dataset.location, version=count).ok


def test_append__copies_nothing(made, commit):
    first = commit(*made[:1])
    store, key = first.parts[0].store, first.parts[0].key
    before = {name: store.read(name) for name, _ in store.walk(key)}
    commit(*made)
    assert {name: store.read(name) for name, _ in store.walk(key)} == before


def test_version__names_the_order_and_the_parts(made, commit):
    forward = commit(*made[:2]).version
    assert commit(*made[1::-1]).version != forward
    assert commit(*made[:2]).version == forward


def test_open_dataset__parts_whose_splits_do_not_cover_their_rows(kind, builds_at, tmp_path, commit):
    make = builds_at["images"]
    whole, wanting = make(tmp_path / "data"), make(tmp_path / "data", 9, seed=1, splits={"train": (0, 4)})
    for shard in wanting[1]:
        shard.split[:] = 0
    with pytest.raises(StorageError, match=r"the splits of .* do not cover its rows; run verify"):
        commit(whole, wanting)
