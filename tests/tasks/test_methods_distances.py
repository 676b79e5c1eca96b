"""Bounds of distances hold, and pairs within a radius are all found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.methods.distances import Filter, exact_squares, multiply, pairs_within
from tasks.methods.scratch import Scratch, parts, slices


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 17, 784])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_filter__bounds_hold_the_distance(dtype, columns, offset):
    random = np.random.default_rng(columns)
    a = (random.normal(size=(40, columns)) + offset).astype(dtype)
    b = np.concatenate([a[:10], (random.normal(size=(30, columns)) + offset).astype(dtype)])
    filter_ = Filter.over(a, b, center=np.full(columns, offset))
    queries, points = filter_.queries(a), filter_.points(b)
    i, j = np.divmod(np.arange(40 * 40), 40)
    products = multiply(queries, points, Scratch())
    exact = ((a[i].astype(float) - b[j]) ** 2).sum(axis=1) * filter_.scale**2
    lower = filter_.lower(queries, i, products.ravel())
    assert (lower <= exact).all()
    assert (exact <= lower + filter_.width(queries.squares[i], points.squares[j])).all()
    # And the threshold lets through all that is within reach.
    assert (products.ravel() >= filter_.threshold(queries, 0.0)[i])[exact == 0].all()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    columns=st.sampled_from([1, 2, 40]),
    values=st.sampled_from([2, 9]),
    offset=st.sampled_from([0, 4096]),
    tile=st.integers(1, 20),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_pairs_within__integer_grids_with_many_ties_at_the_radius(seed, columns, values, offset, tile, dtype):
    random = np.random.default_rng(seed)
    a = (random.integers(0, values, (25, columns)) + offset).astype(dtype)
    b = (random.integers(0, values, (18, columns)) + offset).astype(dtype)
    squares = ((a[:, None].astype(int) - b[None].astype(int)) ** 2).sum(axis=2)
    radius = float(np.sqrt(np.median(squares)))
    if radius == 0:
        radius = 1.0
    center = np.full(columns, float(offset))
    found = np.concatenate(list(pairs_within(a, b, radius, center, tile)), axis=1)
    expected = np.argwhere(squares <= radius**2)  # scikit-learn's rule, to the last bit
    np.testing.assert_array_equal(np.unique(found, axis=1).T, expected)
    assert found.shape[1] == len(expected), "a pair was given twice"


def test_pairs_within__same_rows_both_ways_round():
    a = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    center = a.mean(axis=0, dtype=float)
    whole = np.concatenate(list(pairs_within(a, a, 5.0, center, 7)), axis=1)
    halved = np.concatenate(list(pairs_within(a, a, 5.0, center, 7, same=True)), axis=1)
    np.testing.assert_array_equal(np.unique(whole, axis=1), np.unique(halved, axis=1))
    assert halved.shape == whole.shape


def test_exact_squares__equal_rows_tie_to_the_last_bit():
    a = np.random.default_rng(0).normal(size=(3, 1001))
    b = np.repeat(np.random.default_rng(1).normal(size=(1, 1001)), 700, axis=0)
    squares = exact_squares(a, b, np.repeat(np.arange(3), 700), np.tile(np.arange(700), 3)).reshape(3, 700)
    assert (squares == squares[:, :1]).all()
    np.testing.assert_allclose(squares[:, 0], ((a - b[0]) ** 2).sum(axis=1), rtol=1e-13)


def test_scratch__the_same_memory_in_any_shape():
    scratch = Scratch()
    large = scratch("a", (10, 10), np.float64)
    small = scratch("a", (3, 7), np.float32)
    assert small.base is large.base
    assert small.flags.c_contiguous
    assert scratch("b", (2,), bool).base is not large.base


@pytest.mark.parametrize(("count", "step"), [(0, 3), (1, 3), (6, 3), (7, 3)])
def test_slices__cover_all_once(count, step):
    assert [i for low, high in slices(count, step) for i in range(low, high)] == list(range(count))


def test_parts__at_least_one_row():
    assert list(parts(np.empty((3, 100)), values=10)) == [(0, 1), (1, 2), (2, 3)]
