"""Trees of merges: from a spanning tree, from weighted points, and the clusters at a cut."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from tasks.methods.hierarchy.spanning import Forest


class Merges(NamedTuple):
    """Which nodes merge, in the order of distance. Nodes are the n leaves, then the merges themselves."""

    children: np.ndarray
    """int64 (n - 1, 2)."""
    distances: np.ndarray
    """float64 (n - 1,), not decreasing."""


def single_linkage(tree: Forest, leaves: int) -> Merges:
    """Return the merges of single linkage, whose distances are the edges of the minimum spanning tree.

    Merges and their order are scikit-learn's, which names the two ends of an edge as Prim's algorithm comes by; equal
    distances may come in another order.
    """
    order, squares = _walk(tree, leaves)
    sort = np.argsort(squares, kind="stable")
    children = _join(order[:-1][sort], order[1:][sort], leaves)
    return Merges(children, np.sqrt(squares[sort]))


def weighted_linkage(points: np.ndarray, sizes: np.ndarray, linkage: str) -> Merges:
    """Agglomerate points that stand for several rows each, by the chain of nearest neighbours.

    Parameters
    ----------
    points : ndarray, shape (k, d)
        Means of the rows that each stands for.
    sizes : ndarray, float64 (k,)
        How many they are.
    linkage : {"ward", "average", "complete"}
        "ward" takes the rows of a point as merged already; the others take them as lying at their mean.

    Returns
    -------
    Merges

    Notes
    -----
    k x k float64, and O(k^2) operations.

    References
    ----------
    G. N. Lance, W. T. Williams (1967). A general theory of classificatory sorting strategies. Computer Journal 9,
    373-380.
    F. Murtagh (1983). A survey of recent advances in hierarchical clustering algorithms. Computer Journal 26, 354-359.
    """
    count = len(points)
    wide = points.astype(np.float64)
    between = cdist(wide, wide)
    sizes = sizes.astype(np.float64)
    if linkage == "ward":
        # Of two single rows it is their distance (SciPy's scale): the square is twice the growth of the inertia.
        between *= np.sqrt(2 * np.outer(sizes, sizes) / np.add.outer(sizes, sizes))
    np.fill_diagonal(between, np.inf)
    sizes = sizes.copy()
    left, right = np.empty(count - 1, np.int64), np.empty(count - 1, np.int64)
    distances = np.empty(count - 1)
    chain: list[int] = []
    for step in range(count - 1):
        if not chain:
            chain.append(int(np.argmax(sizes > 0)))
        while True:
            tip = chain[-1]
            nearest = int(np.argmin(between[tip]))
            # Of equals the one before, or the chain could go round for ever.
            if len(chain) > 1 and between[tip, chain[-2]] <= between[tip, nearest]:
                break
            chain.append(nearest)
        gone, kept = sorted((chain.pop(), chain.pop()))
        left[step], right[step], distances[step] = gone, kept, between[gone, kept]
        _merge(between, sizes, gone, kept, linkage)
    sort = np.argsort(distances, kind="stable")
    return Merges(np.sort(_join(left[sort], right[sort], count), axis=1), distances[sort])


def cut(children: np.ndarray, leaves: int, clusters: int) -> np.ndarray:
    """Return the cluster of each leaf when so many are left, in scikit-learn's numbering; int64 (leaves,).

    Raises
    ------
    ValueError
        If there are fewer leaves than clusters.
    """
    if clusters > leaves:
        raise ValueError(
            f"Cannot extract more clusters than samples: expected at most {leaves} clusters for a tree with {leaves} "
            f"leaves, received {clusters}."
        )
    top = leaves + len(children) - 1
    nodes = [-top]
    for _ in range(clusters - 1):
        one, other = children[-nodes[0] - leaves].tolist()
        heapq.heappush(nodes, -one)
        heapq.heappushpop(nodes, -other)
    label = [-1] * (top + 1)
    for number, node in enumerate(nodes):
        label[-node] = number
    pairs = children.tolist()
    for node in range(top, leaves - 1, -1):
        if label[node] >= 0:
            for child in pairs[node - leaves]:
                label[child] = label[node]
    return np.array(label[:leaves], np.int64)


def leaves_below(children: np.ndarray, leaves: int) -> np.ndarray:
    """Return how many leaves each merge holds, int64 (leaves - 1,)."""
    counts = [1] * leaves
    for one, other in children.tolist():
        counts.append(counts[one] + counts[other])
    return np.array(counts[leaves:], np.int64)


def _walk(tree: Forest, leaves: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in Prim's order from row 0, and the squared lengths of the edges by which they came."""
    ends = np.concatenate([tree.ends, tree.ends[::-1]], axis=1)
    sort = np.argsort(ends[0], kind="stable")
    starts = np.searchsorted(ends[0][sort], np.arange(leaves + 1)).tolist()
    targets, lengths = ends[1][sort].tolist(), np.concatenate([tree.squares] * 2)[sort].tolist()
    seen = bytearray(leaves)
    order, squares = [], []
    waiting = [(0.0, 0)]
    while waiting:
        square, row = heapq.heappop(waiting)
        if seen[row]:
            continue
        seen[row] = 1
        order.append(row)
        squares.append(square)
        for k in range(starts[row], starts[row + 1]):
            if not seen[targets[k]]:
                heapq.heappush(waiting, (lengths[k], targets[k]))
    return np.array(order), np.array(squares[1:])


def _join(left: np.ndarray, right: np.ndarray, leaves: int) -> np.ndarray:
    """Turn merges of leaves that stand for their clusters into merges of nodes."""
    parent = list(range(leaves))
    node = list(range(leaves))

    def root(leaf: int) -> int:
        while parent[leaf] != leaf:
            parent[leaf] = parent[parent[leaf]]
            leaf = parent[leaf]
        return leaf

    size = [1] * leaves
    children = np.empty((len(left), 2), np.int64)
    for step, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        a, b = root(one), root(other)
        children[step] = node[a], node[b]
        if size[a] < size[b]:
            a, b = b, a
        parent[b] = a
        size[a] += size[b]
        node[a] = leaves + step
    return children


def _merge(between: np.ndarray, sizes: np.ndarray, gone: int, kept: int, linkage: str) -> None:
    """Put the union of two clusters in the place of the second (Lance and Williams)."""
    one, other, distance = between[gone], between[kept], between[gone, kept]
    a, b = sizes[gone], sizes[kept]
    alive = sizes > 0
    alive[[gone, kept]] = False
    if linkage == "complete":
        united = np.maximum(one, other)
    elif linkage == "average":
        united = (a * one + b * other) / (a + b)
    else:
        with np.errstate(invalid="ignore"):
            squares = (a + sizes) * one**2 + (b + sizes) * other**2 - sizes * distance**2
        united = np.sqrt(np.maximum(squares / (a + b + sizes), 0))
    united = np.where(alive, united, np.inf)
    between[kept], between[:, kept] = united, united
    between[gone], between[:, gone] = np.inf, np.inf
    sizes[kept], sizes[gone] = a + b, 0
