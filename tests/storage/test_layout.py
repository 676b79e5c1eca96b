from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage.layout import MIB, Layout, columns, plan_layout, variables


@pytest.mark.parametrize(
    ("layout", "shards", "bounds"),
    [
        (Layout(1, 1, 1), 1, [(0, 1)]),
        (Layout(7, 3, 1), 3, [(0, 3), (3, 6), (6, 7)]),
        (Layout(6, 3, 3), 2, [(0, 3), (3, 6)]),
        (Layout(5, 8, 4), 1, [(0, 5)]),
    ],
)
def test_layout__bounds(layout, shards, bounds):
    assert layout.shards == shards
    assert [layout.bounds(shard) for shard in range(shards)] == bounds


@pytest.mark.parametrize("shard", [-1, 3])
def test_bounds__of_no_shard(shard):
    with pytest.raises(IndexError, match=f"expected a shard number from 0 to 2, received {shard}"):
        Layout(7, 3, 1).bounds(shard)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (5, 0, 1), (5, 2, 0), (5, 5, 2), (-1, 1, 1)])
def test_layout__refuses(sizes):
    with pytest.raises(ValueError, match="expected count, shard and chunk of at least 1"):
        Layout(*sizes)


sizes = st.integers(1, 10**9)


@given(st.integers(1, 10**7), st.floats(0, 10**8), sizes, sizes, st.integers(1, 100), sizes)
@example(7, 13.0, 29, 17, 5, 11)
@example(1, 0.0, 1, 1, 1, 1)
def test_plan_layout__covers_every_sample_once(count, sample_bytes, shard, minimum, shards, chunk):
    layout = plan_layout(
        count,
        sample_bytes,
        shard_bytes=shard,
        minimum_shard_bytes=minimum,
        minimum_shards=shards,
        chunk_bytes=chunk,
    )
    assert layout.count == count
    assert layout.shard % layout.chunk == 0
    assert layout.bounds(0)[0] == 0
    low, high = layout.bounds(layout.shards - 1)
    assert low < high == count
    # Rounding to whole chunks adds less than a sample for each chunk.
    assert layout.shard <= -(-count // max(1, layout.shards - 1)) + layout.shard // layout.chunk


@pytest.mark.parametrize(
    ("count", "sample_bytes", "shards", "why"),
    [
        (100, 784, 1, "less than a megabyte is one shard"),
        (7_000, 784, 5, "small data: one shard for each whole megabyte"),
        (70_000, 784, 48, "middling data: as many as there should be work for"),
        (600_000, 150_528, 2692, "large data: shards of 32 MiB"),
        (3, 10**9, 3, "a sample larger than a shard has one of its own"),
    ],
)
def test_plan_layout__number_of_shards(count, sample_bytes, shards, why):
    layout = plan_layout(count, sample_bytes)
    assert layout.shards == pytest.approx(shards, rel=0.01), why
    assert layout.chunk * sample_bytes <= max(4 * MIB + sample_bytes, sample_bytes)


@pytest.mark.parametrize("count", [0, -5])
def test_plan_layout__without_samples(count):
    with pytest.raises(ValueError, match="expected at least 1 sample"):
        plan_layout(count, 10)


@pytest.mark.parametrize("name", ["shard_bytes", "minimum_shard_bytes", "minimum_shards", "chunk_bytes"])
def test_plan_layout__refuses_sizes_below_one(name):
    with pytest.raises(ValueError, match="expected sizes of shards and chunks of at least 1"):
        plan_layout(10, 10, **{name: 0})


@pytest.mark.parametrize("ragged", [True, False])
def test_variables__samples_first_then_the_columns(ragged):
    first, *rest = variables(ragged)
    assert first.name == ("values" if ragged else "images")
    assert tuple(rest) == columns(ragged)
    assert {"labels", "ids", "split"} | ({"offsets"} if ragged else set()) == {variable.name for variable in rest}
    assert all(variable.dims and variable.meaning for variable in variables(ragged))
    assert all(variable.dims[0] == "sample" for variable in rest)
