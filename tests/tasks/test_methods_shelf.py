"""Blocks kept in files: made once, and again where that did not work."""

import gc
import pickle
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline import connect
from tasks import methods
from tasks.methods.shelf import Shelf
from tasks.methods.trees.levels import _Growth

X, Y = load_digits(return_X_y=True)
BLOCK = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        yield tmp_path


class Maker:
    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return BLOCK


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_get__makes_once(folder):
    shelf, maker = Shelf(), Maker()
    for _ in range(3):
        found = shelf.get(7, maker)
        np.testing.assert_array_equal(found, BLOCK)
        assert found.dtype == BLOCK.dtype
    assert maker.times == 1
    assert [path.read_bytes() for path in files(folder)] == [BLOCK.tobytes()]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"123")], ids=["gone", "cut off"])
def test_get__makes_anew_what_is_not_whole(folder, damage):
    shelf, maker = Shelf(), Maker()
    shelf.get(0, maker)
    damage(files(folder)[0])
    for _ in range(2):
        np.testing.assert_array_equal(shelf.get(0, maker), BLOCK)
    assert maker.times == 2


def test_get__a_full_disk_costs_time_only(folder, monkeypatch):
    shelf, maker = Shelf(), Maker()
    shelf.get(0, maker)
    monkeypatch.setattr("tasks.methods.shelf.FREE_FRACTION", 1)
    for number in (0, 1, 1):
        np.testing.assert_array_equal(shelf.get(number, maker), BLOCK)
    assert maker.times == 3
    assert len(files(folder)) == 1


def test_get__a_file_that_cannot_be_written_costs_time_only(folder, monkeypatch):
    shelf, maker = Shelf(), Maker()
    shelf.get(0, maker)
    monkeypatch.setattr("tasks.methods.shelf._Files.place", lambda self, number: folder / "no" / "such" / "folder")
    for number in (1, 1):
        np.testing.assert_array_equal(shelf.get(number, maker), BLOCK)
    assert maker.times == 3


def test_pickle__is_the_same_here_and_empty_elsewhere(folder, monkeypatch):
    shelf, maker = Shelf(), Maker()
    shelf.get(0, maker)
    sent = pickle.dumps(shelf)
    np.testing.assert_array_equal(pickle.loads(sent).get(0, maker), BLOCK)
    assert maker.times == 1
    monkeypatch.setattr("tasks.methods.shelf._FILES", {})  # another process
    np.testing.assert_array_equal(pickle.loads(sent).get(0, maker), BLOCK)
    assert maker.times == 2
    assert len(files(folder)) == 2


def test_files__go_with_the_shelf(folder):
    shelf = Shelf()
    shelf.get(0, Maker())
    assert files(folder)
    del shelf
    gc.collect()
    assert not list(folder.iterdir())


READS: list[int] = []


def read(block):
    READS.append(len(block))
    return block


def by_levels(monkeypatch):
    """Large nodes of a tree are cut in passes over blocks that memory has no room for."""
    monkeypatch.setattr("tasks.methods.trees.forest.MEMORY_FRACTION", 0)
    monkeypatch.setattr("tasks.methods.trees.levels.BINS_FRACTION", 0)
    monkeypatch.setattr("tasks.methods.blocks.CACHE_FRACTION", 0)
    monkeypatch.setattr("tasks.methods.trees.levels.NODE_FRACTION", 1e-6)


def test_trees__bin_each_block_once(folder, monkeypatch):
    expected = methods.DecisionTreeClassifier(random_state=0).fit(X, Y).predict_proba(X)
    by_levels(monkeypatch)
    READS.clear()
    data = da.from_array(X, (300, 64)).map_blocks(read, dtype=X.dtype, meta=np.empty((0, 0)))
    found = methods.DecisionTreeClassifier(random_state=0).fit(data, Y).predict_proba(X)
    np.testing.assert_array_equal(found, expected)
    # The pass that looks for bins, and the first of the many passes of the tree.
    assert sorted(READS) == [297] * 2 + [300] * 10
    gc.collect()
    assert not list(folder.iterdir())


def evict(dask_worker):
    """Let a worker put all of its results to disk, as it does when memory runs out."""
    while dask_worker.data.fast:
        dask_worker.data.evict()


def test_trees__keep_bins_in_the_folders_of_the_workers(folder, monkeypatch):
    by_levels(monkeypatch)
    expected = methods.DecisionTreeClassifier(random_state=0).fit(X, Y).predict_proba(X)
    seen = []

    def kept():
        return {path: path.stat().st_mtime_ns for path in files(folder) if path.suffix == ".bin"}

    def look(growth):
        seen.append(kept())
        client.run(evict)
        return cut(growth)

    cut = _Growth._cut_some
    monkeypatch.setattr(_Growth, "_cut_some", look)
    with (
        connect("local", workers=2, gpu_workers=0, dashboard_address=None, local_directory=str(folder)) as client,
        client.as_current(),
    ):
        found = methods.DecisionTreeClassifier(random_state=0).fit(da.from_array(X, (300, 64)), Y).predict_proba(X)
        np.testing.assert_array_equal(found, expected)
        first, *_, last = seen[1:]
        assert len(first) >= 6
        assert first.items() <= last.items(), "no block is binned twice"
        assert all("dask-scratch-space" in path.parts for path in first)
        # The workers hear a moment later that the fit is over.
        deadline = time.monotonic() + 30
        while kept():
            assert time.monotonic() < deadline
            time.sleep(0.01)
