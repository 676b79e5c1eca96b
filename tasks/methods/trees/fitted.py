"""A fitted tree in the values of the data, and what a forest of them predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

from tasks.methods.trees.binning import Bins
from tasks.methods.trees.growth import Grown
from tasks.methods.trees.kernels import leaves_of, read_only
from tasks.methods.trees.targets import Targets


@dataclass(frozen=True, eq=False)
class Tree:
    """A fitted tree; one entry per node, the root first. The names are those of scikit-learn's ``tree_``."""

    feature: np.ndarray
    """int32: the column of the cut; -2 for leaves."""
    threshold: np.ndarray
    """float64: a row goes left if its value is not above it; -2 for leaves."""
    children: np.ndarray
    """int32 (nodes, 2): left, right; -1 for leaves."""
    value: np.ndarray
    """float64 (nodes, classes): shares of the classes; or (nodes, 1): the mean."""
    impurity: np.ndarray
    """float64."""
    n_node_samples: np.ndarray
    """int64: rows, each counted once however often it was drawn."""
    weighted_n_node_samples: np.ndarray
    """float64."""
    gains: np.ndarray
    """float64: decrease of the impurity by the cut, times the share of the weight that reaches it."""

    @property
    def node_count(self) -> int:
        return len(self.feature)

    @property
    def children_left(self) -> np.ndarray:
        return self.children[:, 0]

    @property
    def children_right(self) -> np.ndarray:
        return self.children[:, 1]

    @property
    def n_leaves(self) -> int:
        return int(np.count_nonzero(self.feature < 0))

    @property
    def max_depth(self) -> int:
        depth = np.zeros(len(self.feature), np.int64)
        for node in np.flatnonzero(self.feature >= 0):  # parents stand before their children
            depth[self.children[node]] = depth[node] + 1
        return int(depth.max())

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Return the leaf of each row, int64."""
        return leaves_of(read_only(block), self.feature, self.threshold, self.children).astype(np.int64)

    def predict(self, block: np.ndarray) -> np.ndarray:
        """Return the value of each row's leaf."""
        found: np.ndarray = self.value[leaves_of(read_only(block), self.feature, self.threshold, self.children)]
        return found

    def ancestors(self) -> csr_matrix:
        """Return which nodes lie on the way from the root to each node, both included: ones, int64 (nodes, nodes)."""
        ways: list[list[int]] = [[0] for _ in range(self.node_count)]
        for node in np.flatnonzero(self.feature >= 0).tolist():  # parents stand before their children
            for child in self.children[node].tolist():
                ways[child] = [*ways[node], child]
        places = np.concatenate(ways)
        starts = np.cumsum([0, *map(len, ways)])
        return csr_matrix((np.ones(len(places), np.int64), places, starts), shape=(self.node_count, self.node_count))

    def importances(self, columns: int) -> np.ndarray:
        """Return each column's share of the gains, float64 (d,); zeros for a tree that is a leaf."""
        cuts = self.feature >= 0
        gains = np.bincount(self.feature[cuts], self.gains[cuts], columns)
        total = gains.sum()
        return gains / total if total > 0 else gains


def fitted_tree(grown: Grown, bins: Bins, targets: Targets, criterion: int) -> Tree:
    """Turn bins into values and whole numbers into what they stand for."""
    order = _preorder(grown.children)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order))
    grown = Grown(*[column[order] for column in grown])
    cuts = grown.feature >= 0
    threshold = np.full(len(cuts), -2.0)
    threshold[cuts] = bins.thresholds(grown.feature[cuts], grown.last[cuts], grown.first[cuts])
    weights = targets.weights(grown.sums)
    total = float(weights[0]) * targets.scales[0]
    return Tree(
        np.where(cuts, grown.feature, -2).astype(np.int32),
        threshold,
        np.where(cuts[:, None], place[grown.children], -1).astype(np.int32),
        targets.values(grown.sums),
        targets.impurities(grown.sums, criterion),
        grown.sums[:, -1],
        weights,
        np.maximum(grown.gains, 0.0) / total * targets.unit,
    )


@njit(nogil=True, cache=True)
def _preorder(children: np.ndarray) -> np.ndarray:
    """Return the nodes as scikit-learn numbers them: each before its left side, that before its right side."""
    order = np.empty(len(children), np.int64)
    waiting = [np.int64(0)]
    for at in range(len(children)):
        node = waiting.pop()
        order[at] = node
        if children[node, 0] >= 0:
            waiting.append(np.int64(children[node, 1]))
            waiting.append(np.int64(children[node, 0]))
    return order


def mean_value(block: np.ndarray, trees: Sequence[Tree]) -> np.ndarray:
    """Return the mean of the trees' predictions, float64 (m, classes) or (m, 1); always added in the same order."""
    block, total = read_only(block), np.zeros((len(block), trees[0].value.shape[1]))
    for tree in trees:
        _add_values(block, tree.feature, tree.threshold, tree.children, tree.value, total)
    total /= len(trees)
    return total


@njit(nogil=True, cache=True)
def _add_values(
    block: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    children: np.ndarray,
    value: np.ndarray,
    total: np.ndarray,
) -> None:
    for i in range(len(block)):
        node = 0
        while children[node, 0] >= 0:
            node = children[node, 0 if block[i, feature[node]] <= threshold[node] else 1]
        for k in range(value.shape[1]):
            total[i, k] += value[node, k]
