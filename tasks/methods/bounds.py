"""Lloyd's passes that look only at rows which may have changed their cluster.

A row remembers a distance that its centre is not farther than, and for each other centre one that it is not nearer than
(Elkan 2003, without the distances between centres). Centres move; as long as the first stays below all the others,
whatever they moved, the row stays where it is. The distances allow for the rounding of what they come from. The sums of
a block are brought up to date by the rows that moved.

References
----------
C. Elkan (2003). Using the triangle inequality to accelerate k-means. ICML, 147-153.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from tasks.methods.blocks import Blocks
from tasks.methods.scratch import Scratch, parts

LEAST_COLUMNS = 16
"""With fewer the distances cost no more than the bounds."""

MEMORY_FRACTION = 0.05
"""Share of the workers' memory that what the blocks remember may take."""

MOST = 0.6
"""Share of doubtful rows from which all are looked at, where they lie."""

_ROW_BYTES = 20
"""What a row remembers, beside 4 bytes for each centre."""


class Kept(NamedTuple):
    """What a block remembers from one pass to the next."""

    labels: np.ndarray
    """int32 (n,)."""
    upper: np.ndarray
    """float64 (n,): the own centre is not farther."""
    lower: np.ndarray
    """float32 (n, clusters): the other centres are not nearer; infinite for the own one."""
    norms: np.ndarray
    """Squared distance from the origin, float64 (n,)."""
    sums: np.ndarray
    """Rows of each cluster summed up, relative to the origin, float64 (clusters, d)."""
    counts: np.ndarray
    """Rows of each cluster, int64 (clusters,), or their weights, float64."""


def pays(rows: Blocks, clusters: int) -> bool:
    """Whether there is room to remember, and something to be won."""
    n, d = rows.shape
    size = n * (_ROW_BYTES + 4 * clusters) + len(rows) * clusters * (d + 1) * 8
    return d >= LEAST_COLUMNS and clusters > 1 and size <= MEMORY_FRACTION * rows.engine.memory()


class Bounded:
    """The passes of one start."""

    def __init__(self, rows: Blocks, origin: np.ndarray, weights: list[Any]) -> None:
        self._rows = rows
        self._weights = weights
        self._origin = origin
        self._kept: list[Any] | None = None
        self._before: np.ndarray | None = None

    def __call__(self, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Assign the rows to these centres, float64 (clusters, d); return sums and counts of each cluster."""
        rows = self._rows
        if self._kept is None or self._before is None:
            self._kept = rows.map("assign", begin, self._weights, shared=(centers, self._origin))
        else:
            shared = (self._before, centers, self._origin)
            self._kept = rows.map("assign", go_on, self._kept, self._weights, shared=shared)
        self._before = centers.copy()
        name = rows.named("assign")
        found = rows.engine.reduce_each(name, _totals, [[(kept,) for kept in self._kept]], combine=_add)
        sums, counts = rows.fetch(found)[0]
        return sums, counts


def begin(block: np.ndarray, weights: np.ndarray | None, centers: np.ndarray, origin: np.ndarray) -> Kept:
    """Look at every row."""
    n, k = len(block), len(centers)
    norms = np.empty(n)
    shift, scratch = origin.astype(block.dtype), Scratch()
    for low, high in parts(block):
        rows = np.subtract(block[low:high], shift, out=scratch("rows", (high - low, block.shape[1]), block.dtype))
        norms[low:high] = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    nowhere = np.full(n, -1, np.int32)
    empty = Kept(
        nowhere, np.zeros(n), np.zeros((n, k), np.float32), norms, np.zeros(centers.shape), np.zeros(k, np.int64)
    )
    return _look(block, empty, np.arange(n), weights, centers, origin)


def go_on(
    block: np.ndarray,
    kept: Kept,
    weights: np.ndarray | None,
    before: np.ndarray,
    centers: np.ndarray,
    origin: np.ndarray,
) -> Kept:
    """Look at the rows that may have changed, now that the centres have moved."""
    # What rounding takes from these sums is far below the last terms.
    moved = np.sqrt(((centers - before) ** 2).sum(axis=1)) * (1 + 1e-9)
    upper = kept.upper + moved[kept.labels]
    lower = kept.lower - (moved * (1 + 1e-6)).astype(np.float32)
    lower *= np.float32(1 - 2e-7)
    doubtful = np.flatnonzero((lower <= upper[:, None]).any(axis=1))
    kept = kept._replace(upper=upper, lower=lower)
    return _look(block, kept, doubtful, weights, centers, origin) if len(doubtful) else kept


def _look(
    block: np.ndarray,
    kept: Kept,
    chosen: np.ndarray,
    weights: np.ndarray | None,
    centers: np.ndarray,
    origin: np.ndarray,
) -> Kept:
    """Find the nearest centre of some rows, as `lloyd` does, and how near; the given state stays as it is."""
    dtype, k = block.dtype, len(centers)
    factor = (-2.0 * centers.T).astype(dtype)
    squares = np.einsum("ij,ij->i", centers, centers)
    # See `tasks.methods.distances` for the bound of a product's rounding.
    slack = 2 * (block.shape[1] + 16) * float(np.finfo(dtype).eps) / 2
    largest = float(squares.max())
    narrow = squares.astype(dtype)
    kept = Kept(*(part.copy() for part in kept))
    scratch = Scratch()
    for own, rows in _some(block, chosen, origin.astype(dtype), scratch):
        m = len(rows)
        ranking = np.matmul(rows, factor, out=scratch("ranking", (m, k), dtype))
        ranking += narrow
        labels = ranking.argmin(axis=1).astype(np.int32)
        at = np.arange(m)
        best = ranking[at, labels].astype(np.float64)
        norms = kept.norms[own]
        doubt = slack * (norms + largest)
        kept.upper[own] = np.sqrt(np.maximum(best + norms + doubt, 0.0))
        ranking += ((1 - 1e-6) * norms - doubt).astype(dtype)[:, None]
        lower = np.sqrt(np.maximum(ranking, 0, out=ranking), out=ranking)
        lower *= 1 - 1e-6
        lower[at, labels] = np.inf
        kept.lower[own] = lower
        old = kept.labels[own]
        moved = np.flatnonzero(labels != old)
        if len(moved):
            masses = None if weights is None else weights[own][moved]
            _move(kept, rows, masses, moved, old[moved], labels[moved], scratch)
        kept.labels[own] = labels
    if weights is None:
        return kept
    # Summed again: of what is added and taken away rounding would leave something in an empty cluster.
    return kept._replace(counts=np.bincount(kept.labels, weights, k))


def _some(
    block: np.ndarray, chosen: np.ndarray, shift: np.ndarray, scratch: Scratch
) -> Iterator[tuple[Any, np.ndarray]]:
    """Go over some rows of a block in parts, centred: which they are, and the rows."""
    if len(chosen) > MOST * len(block):
        for low, high in parts(block):
            shape = (high - low, block.shape[1])
            yield slice(low, high), np.subtract(block[low:high], shift, out=scratch("some", shape, block.dtype))
        return
    step = max(1, next(iter(parts(block)))[1])
    for low in range(0, len(chosen), step):
        own = chosen[low : low + step]
        rows = scratch("some", (len(own), block.shape[1]), block.dtype)
        np.take(block, own, axis=0, out=rows, mode="clip")
        yield own, np.subtract(rows, shift, out=rows)


def _move(
    kept: Kept,
    rows: np.ndarray,
    masses: np.ndarray | None,
    moved: np.ndarray,
    old: np.ndarray,
    new: np.ndarray,
    scratch: Scratch,
) -> None:
    """Bring the sums up to date, and counts that are not weights, in place; `masses` are the weights of what moved."""
    clusters, count = len(kept.counts), len(moved)
    wide = scratch("wide", (count, rows.shape[1]), np.float64)
    wide[:] = rows if count == len(rows) else rows[moved]
    at = np.arange(count)
    left = np.flatnonzero(old >= 0)
    data = np.ones(count) if masses is None else masses
    data = np.concatenate([data, -data[left]])
    places = np.concatenate([new, old[left]]), np.concatenate([at, left])
    kept.sums[...] += scipy.sparse.csr_matrix((data, places), (clusters, count)) @ wide
    if masses is None:
        kept.counts[...] += np.bincount(new, minlength=clusters) - np.bincount(old[left], minlength=clusters)


def _totals(kept: Kept) -> tuple[np.ndarray, np.ndarray]:
    return kept.sums, kept.counts


def _add(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return a[0] + b[0], a[1] + b[1]
