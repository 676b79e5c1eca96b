from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from storage.feeding.order import EpochOrder
from storage.feeding.schedule import schedule

shapes = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(1, 9), min_size=1, max_size=12),
        "batch_size": st.sampled_from([2, 4, 8, 16]),
        "window": st.sampled_from([None, 1, 2, 4]),
        "streams": st.integers(1, 5),
        "shuffle": st.booleans(),
    }
)


def made(sizes, batch_size, **options):
    edges = np.cumsum([3, *sizes])
    return EpochOrder(edges, batch_size, seed=1, epoch=0, version="v", **options)


def lies_in(row, runs):
    return any(low <= row < high for _, low, high in runs)


@given(shapes, st.sampled_from([(0, 1), (0, 2), (1, 2)]), st.booleans(), st.sampled_from([1, 3]))
def test_schedule__holds_what_every_batch_needs_and_nothing_else(shape, rank_of, drop_last, pool):
    order = made(**shape)
    rank, ranks = rank_of
    steps = order.steps(drop_last)
    plan = schedule(order, steps, rank=rank, ranks=ranks, pool=pool)
    assert (np.diff(plan.first) >= 0).all()
    used = set()
    for step in range(steps):
        live = plan.cuts[(plan.first <= step) & (plan.last >= step)].tolist()
        rows = order.rows(step, step + 1, rank, ranks)[0]
        assert all(lies_in(row, live) for row in rows)
        if pool > 1:
            first = step // pool * pool
            others = [order.rows(one, one + 1, rank, ranks)[0] for one in range(first, min(first + pool, steps))]
            assert all(lies_in(row, live) for row in np.concatenate(others))
        used |= {tuple(run) for run in live}
    assert used == {tuple(run) for run in plan.cuts.tolist()}
    if pool == 1:
        wanted = [order.rows(step, step + 1, rank, ranks)[0] for step in range(steps)]
        wanted = set(np.concatenate([np.empty(0, int), *wanted]).tolist())
        # More can be read than is used: the end of a window where the last batch is left out, or another rank's part of
        # a stream.
        assert wanted <= {row for _, low, high in plan.cuts.tolist() for row in range(low, high)}


@given(shapes, st.integers(1, 6))
def test_most_at_once__is_the_most_that_any_batches_in_a_row_need(shape, span):
    order = made(**shape)
    plan = schedule(order, order.steps())
    counts = [int(((plan.first < step + span) & (plan.last >= step)).sum()) for step in range(-span, order.steps() + 1)]
    assert plan.most_at_once(span) == max(counts)


@given(shapes)
def test_schedule__ranks_that_divide_the_streams_read_each_row_once(shape):
    order = made(**shape | {"streams": 4, "window": 1, "shuffle": True, "batch_size": 8})
    rows = []
    for rank in range(2):
        plan = schedule(order, order.whole, rank=rank, ranks=2)
        rows += [row for _, low, high in plan.cuts.tolist() for row in range(low, high)]
    assert len(rows) == len(set(rows))


def test_largest__rows_of_a_run():
    order = made([5, 2, 9], 4, window=1, streams=1)
    assert schedule(order, order.steps()).largest == 9
    assert schedule(order, 0).largest == 0
    assert schedule(order, 0).most_at_once() == 0
