"""The passes over row blocks: how often data is read, what is refused, what comes out."""

from __future__ import annotations

import dask
import dask.array as da
import distributed  # noqa: F401  (adds its settings to the configuration before tests put it back)
import numpy as np
import pytest
from dask._task_spec import Task

from tasks.methods import blocks as module
from tasks.methods.blocks import collect, map_rows, open_blocks
from tasks.methods.reading import Ledger

READS: list[int] = []


def read(start, stop):
    READS.append(start)
    return np.arange(start * 3, stop * 3, dtype=np.float32).reshape(-1, 3)


def lazy(*lengths, reader=read):
    READS.clear()
    ends = np.cumsum(lengths).tolist()
    name = f"made-{dask.base.tokenize(lengths, reader)}"
    graph = {
        (name, i, 0): Task((name, i, 0), reader, end - length, end)
        for i, (end, length) in enumerate(zip(ends, lengths, strict=True))
    }
    return da.Array(graph, name, (tuple(lengths), (3,)), dtype=np.float32)


def whole(X):
    return np.arange(X.shape[0] * 3, dtype=np.float32).reshape(-1, 3)


def add(a, b):
    return a + b


def weighted(block, weights, factor):
    return factor * weights @ block


def column_sum(block):
    return block.sum(axis=0)


def failing(block):
    raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("lengths", [(7,), (3, 4), (1, 0, 5, 1), (1,) * 30])
def test_reduce__sums_in_any_chunks(lengths):
    X = lazy(*lengths)
    with open_blocks(X, name="Test") as rows:
        assert rows.shape == X.shape
        weights = rows.scatter("weights", np.arange(X.shape[0]))
        total = rows.reduce("sum", weighted, weights, shared=(2.0,), combine=add)
    np.testing.assert_array_equal(total, 2 * np.arange(X.shape[0]) @ whole(X))


def test_reduce__one_task_per_block_reads_once_when_kept():
    with open_blocks(lazy(2, 2, 2), name="Test", passes=5) as rows:
        assert rows.cached
        for _ in range(5):
            rows.reduce("sum", column_sum, combine=add)
    assert sorted(READS) == [0, 2, 4]


def test_reduce__reads_again_in_each_pass_when_it_does_not_fit(monkeypatch):
    monkeypatch.setattr(module, "CACHE_FRACTION", 0.0)
    X = lazy(2, 2, 2)
    with open_blocks(X, name="Test", passes=5) as rows:
        assert not rows.cached
        totals = [rows.reduce("sum", column_sum, combine=add) for _ in range(3)]
    assert sorted(READS) == sorted([0, 2, 4] * 3)
    np.testing.assert_array_equal(totals, [whole(X).sum(axis=0)] * 3)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_reduce__work_that_blocks_share_is_done_once_per_pass(monkeypatch, fraction):
    monkeypatch.setattr(module, "CACHE_FRACTION", fraction)
    X = lazy(*(2,) * 6)
    centred = X - X.mean(axis=0)
    with open_blocks(centred, name="Test") as rows:
        largest = rows.reduce("sum", column_sum, combine=add)
    # Twelve reads at most: once for the mean, once for the rows. Not six times for each mean.
    assert len(READS) <= 12
    np.testing.assert_allclose(largest, 0, atol=1e-5)


def test_take__rows_from_the_blocks_that_hold_them():
    X = lazy(3, 3, 3)
    with open_blocks(X, name="Test", passes=1) as rows:
        np.testing.assert_array_equal(rows.take(np.array([1, 2, 7])), whole(X)[[1, 2, 7]])
    assert sorted(READS) == [0, 6]


def test_assemble__one_result_per_row():
    X = lazy(2, 3)
    with open_blocks(X, name="Test") as rows:
        result = rows.assemble(rows.map("sum", np.ndarray.sum, shared=(1,)), (), np.float32)
    assert result.chunks == ((2, 3),)
    np.testing.assert_array_equal(result.compute(), whole(X).sum(axis=1))


def test_open_blocks__columns_in_chunks_are_joined():
    X = np.random.default_rng(0).random((10, 6))
    with open_blocks(da.from_array(X, (4, 2)), name="Test") as rows:
        assert [part.shape for part in rows.fetch(rows.map("copy", np.copy))] == [(4, 6), (4, 6), (2, 6)]


def test_open_blocks__numpy_needs_no_scheduler(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a scheduler was used")

    monkeypatch.setattr(module, "VIEW_BYTES", 64)
    X = whole(lazy(20))
    with dask.config.set(scheduler=refuse), open_blocks(X, name="Test") as rows:
        assert len(rows) > 1
        np.testing.assert_array_equal(rows.reduce("sum", column_sum, combine=add), X.sum(axis=0))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("u1", "f4"), ("?", "f4"), ("f2", "f4"), ("f4", "f4"), ("i4", "f8"), ("f8", "f8")],
)
def test_open_blocks__holds_what_the_values_need(dtype, expected):
    X = da.from_array(np.ones((4, 2), dtype), (2, 2))
    with open_blocks(X, name="Test") as rows:
        assert rows.dtype == expected
        assert {part.dtype.str[1:] for part in rows.fetch(rows.map("copy", np.copy))} == {expected}


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (da.ones((4,)), "expected 2D array for X, received 1D"),
        (da.ones((4, 2, 2)), "expected 2D array for X, received 3D"),
        (da.ones((4, 0)), "at least one column"),
        (da.ones((4, 2), dtype=complex), "Complex data not supported"),
        (da.from_array(np.full((4, 2), "a")), "expected numbers in X, received dtype"),
        (da.ones((4, 2), chunks=2)[da.ones(4, chunks=2) > 0], "call compute_chunk_sizes"),
    ],
)
def test_open_blocks__refuses_without_computing(X, message):
    with pytest.raises(ValueError, match=message), open_blocks(X, name="Test"):
        pass


@pytest.mark.parametrize(("value", "message"), [(np.nan, "contains NaN"), (np.inf, "contains infinity")])
def test_open_blocks__tasks_find_values_that_are_not_finite(value, message):
    X = np.ones((6, 2))
    X[4, 1] = value
    with open_blocks(da.from_array(X, (2, 2)), name="Test", passes=1) as rows, pytest.raises(ValueError, match=message):
        rows.reduce("sum", column_sum, combine=add)


def test_open_blocks__a_block_of_another_shape_is_named():
    X = lazy(2, 2, reader=lambda start, stop: np.ones((stop - start, 4), np.float32))
    with open_blocks(X, name="Test", passes=1) as rows, pytest.raises(ValueError, match=r"expected .* \(rows, 3\)"):
        rows.reduce("sum", column_sum, combine=add)


def test_open_blocks__an_error_leaves_nothing_noted():
    X = lazy(2, 2)
    with pytest.raises(ZeroDivisionError), open_blocks(X, name="Test") as rows:
        rows.reduce("fail", failing, combine=add)
    assert module._LEDGER.enter("probe", 1, 1), "bytes of the failed fit are still counted"
    module._LEDGER.leave("probe")


def test_ledger__counts_an_array_once_and_refuses_what_passes_the_limit():
    ledger = Ledger()
    assert ledger.enter("a", 60, 100)
    assert ledger.enter("a", 60, 100)
    assert not ledger.enter("b", 60, 100)
    ledger.leave("a")
    assert not ledger.enter("b", 60, 100)
    ledger.leave("a")
    assert ledger.enter("b", 60, 100)


def test_collect__any_dimensions_and_chunks():
    X = np.arange(24.0).reshape(6, 4)
    np.testing.assert_array_equal(collect(da.from_array(X, (4, 3))), X)
    np.testing.assert_array_equal(collect(da.from_array(X[:, 0], 4)), X[:, 0])
    assert collect(X) is X


def test_map_rows__lazy_on_dask_at_once_on_numpy():
    X = lazy(2, 3)
    rows = map_rows(X, column_pair, name="Test", phase="pair", columns=2, dtype=np.float32)
    sums = map_rows(X, row_sum, name="Test", phase="sum", columns=None, dtype=np.float32)
    assert READS == []
    assert (rows.chunks, sums.chunks) == (((2, 3), (2,)), ((2, 3),))
    assert rows.name.startswith("Test.pair-")
    np.testing.assert_array_equal(rows.compute(), whole(X)[:, :2])
    np.testing.assert_array_equal(sums.compute(), whole(X).sum(axis=1))
    at_once = map_rows(whole(X), row_sum, name="Test", phase="sum", columns=None, dtype=np.float32)
    np.testing.assert_array_equal(at_once, whole(X).sum(axis=1))


def column_pair(block):
    return block[:, :2]


def row_sum(block):
    return block.sum(axis=1)
