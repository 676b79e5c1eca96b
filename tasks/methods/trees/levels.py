"""Trees from row blocks whose bins no worker can hold: from the top by histograms, below from the rows of a node.

A pass over the blocks sums up the histograms of nodes with many rows, for all trees at once; here their cuts are
chosen. A node whose rows fit a worker is brought together there and grown to its end. Sums are of whole numbers and
the random numbers of a node come from its key, so the trees are those that one worker would grow from all rows, bit
for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.methods.blocks import Blocks
from tasks.methods.execution import Engine
from tasks.methods.trees.binning import Bins, bin_block
from tasks.methods.trees.bootstrap import drawn_amounts, root_key
from tasks.methods.trees.growth import Grown, Members, Plan, logarithms, sums_of
from tasks.methods.trees.kernels import BINS, child_key, draw, is_leaf, scan, score
from tasks.methods.trees.passes import Top, Wanted, extract, grow_nodes, histograms, pick
from tasks.methods.trees.targets import Targets

CODE_BYTES = 320 << 20
"""What a worker's process takes before any data: interpreter, libraries, compiled code."""

NODE_FRACTION = 0.12
"""Share of the smallest worker's memory beside its code that the rows of a node may take to be grown in one piece."""

EXTRACT_FRACTION = 0.15
"""The same share of all workers that rows of nodes, taken out of their blocks, may fill."""

BINS_FRACTION = 0.3
"""The same up to which bins are kept in memory; else workers keep them on their disks."""

HISTOGRAM_FRACTION = 0.15
"""The same that the histograms of a pass may take, in all tasks; at most `HISTOGRAM_BYTES` each."""

HISTOGRAM_BYTES = 64 << 20

PARENT_BYTES = 256 << 20
"""What histograms of nodes that were cut may take in this process: of two large children only one is looked at then."""

_ROW_BYTES = 112
"""What a row of a node takes while it grows, beside its bins: number, class, amounts, each twice."""


def row_bytes(columns: int) -> int:
    """Return what a row takes in a task that grows a tree from it."""
    return columns + _ROW_BYTES


@dataclass(eq=False)
class _Node:
    """A node while its tree grows; a leaf unless it is cut."""

    tree: int
    place: int
    sums: np.ndarray
    key: Any
    depth: int
    # How far the columns of its cut have been looked at, and the best cut among them.
    position: int = 0
    found: bool = False
    best: float = -np.inf
    cut: tuple[int, int, int] = (-1, -1, -1)
    kept: np.ndarray | None = None
    # Its histograms of all columns; and a larger sibling, which has what is left of the parent's.
    histogram: np.ndarray | None = None
    sibling: _Node | None = None
    parent: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return int(self.sums[-1])


class _Tree:
    """The nodes of a tree that has begun: a `Grown` that lengthens."""

    def __init__(self) -> None:
        self.feature: list[int] = []
        self.last: list[int] = []
        self.first: list[int] = []
        self.children: list[tuple[int, int]] = []
        self.sums: list[np.ndarray] = []
        self.gains: list[float] = []

    def add(self, sums: np.ndarray) -> int:
        """Add a leaf and return its place."""
        self.feature.append(-1)
        self.last.append(0)
        self.first.append(0)
        self.children.append((-1, -1))
        self.sums.append(sums)
        self.gains.append(0.0)
        return len(self.feature) - 1

    def top(self) -> Top:
        return Top(
            np.array(self.feature, np.int32),
            np.array(self.last, np.int16),
            np.array(self.children, np.int32).reshape(-1, 2),
        )

    def hang(self, place: int, below: Grown) -> None:
        """Put what has grown from a node in its place."""
        at = [place, *(self.add(sums) for sums in below.sums[1:])]
        for k, here in enumerate(at):
            self.feature[here], self.gains[here] = int(below.feature[k]), float(below.gains[k])
            self.last[here], self.first[here] = int(below.last[k]), int(below.first[k])
            left, right = below.children[k]
            self.children[here] = (at[left], at[right]) if left >= 0 else (-1, -1)

    def grown(self) -> Grown:
        return Grown(
            *self.top()[:2],
            np.array(self.first, np.int16),
            np.array(self.children, np.int32).reshape(-1, 2),
            np.array(self.sums, np.int64),
            np.array(self.gains),
        )


class _Growth:
    """The trees of one fit while they grow."""

    def __init__(self, rows: Blocks, bins: Bins, targets: Targets, plan: Plan, count: int) -> None:
        self.rows, self.edges, self.targets, self.plan = rows, bins.edges, targets, plan
        engine = rows.engine
        self.columns = rows.shape[1]
        each, together = _room(engine)
        self.node_bytes = NODE_FRACTION * each
        self.extract_bytes = EXTRACT_FRACTION * together
        self.parents = 0
        self.trees = [_Tree() for _ in range(count)]
        self.large: deque[_Node] = deque()
        self.small: deque[_Node] = deque()
        self.codes = rows.scatter("put", targets.codes)
        self.amounts = rows.scatter("put", targets.amounts)
        self.shelves: list | None = None
        self.blocks = self._bins(together)
        roots = [self._root(tree) for tree in range(count)]
        # No sum of classes' weights is above the root's.
        narrow = targets.classes and max(int(root.max()) for root in roots) <= np.iinfo(np.int32).max
        self.dtype = np.dtype(np.int32 if narrow else np.int64)
        self.cell = BINS * (plan.channels + 1) * self.dtype.itemsize
        self.cells = max(1, int(min(HISTOGRAM_FRACTION * together / engine.slots(), HISTOGRAM_BYTES)) // self.cell)
        for tree, sums in enumerate(roots):
            self._line_up(self._node(tree, sums, root_key(plan, tree), 0))

    def run(self) -> list[Grown]:
        while self.large:
            self._cut_some()
        while self.small:
            self._finish_some()
        return [tree.grown() for tree in self.trees]

    def _bins(self, room: float) -> list:
        """Return the blocks that the passes go over: of bins if these have room, in memory or on the workers' disks."""
        n, d = self.rows.shape
        if n * d <= BINS_FRACTION * room:
            return self.rows.map("bin", bin_block, shared=(self.edges,))
        self.shelves = self.rows.engine.shelves(self.rows.named("shelf"), self.rows.sources)
        return self.rows.sources

    def _root(self, tree: int) -> np.ndarray:
        amounts = drawn_amounts(tree, self.targets.amounts, 0, self.plan)
        kept = np.flatnonzero(amounts[:, 0])
        return sums_of(Members(kept, self.targets.codes[kept], amounts[kept]), self.plan)

    def _node(self, tree: int, sums: np.ndarray, key: Any, depth: int) -> _Node:
        return _Node(tree, self.trees[tree].add(sums), sums, key, depth)

    def _is_large(self, node: _Node) -> bool:
        return node.rows * row_bytes(self.columns) > self.node_bytes

    def _is_leaf(self, node: _Node) -> bool:
        plan = self.plan
        return bool(is_leaf(node.sums, node.depth, plan.limits, plan.criterion, plan.tolerance, plan.square))

    def _line_up(self, *nodes: _Node) -> None:
        """Line nodes up for what is to be done with them."""
        for node in nodes:
            if not self._is_leaf(node):
                (self.large if self._is_large(node) else self.small).append(node)

    def _pass(self, wanted: Sequence[Wanted]) -> tuple[list[tuple], tuple]:
        """Return the arguments that a pass over the blocks takes."""
        calls = list(zip(self.blocks, self.codes, self.amounts, self.rows.starts, strict=True))
        return calls, (self.edges, tuple(wanted), self.plan)

    # --- from the top

    def _cut_some(self) -> None:
        """One pass: columns of as many nodes as there is room for."""
        taken, left = [], self.cells
        while self.large and left:
            node = self.large.popleft()
            picks = self._next_columns(node, left)
            taken.append((node, picks))
            left -= len(picks)
        wanted = list(_by_tree(self.trees, taken))
        calls, shared = self._pass(wanted)
        shared += (self.dtype,)
        name, size = self.rows.named("histograms"), (self.cells - left) * self.cell
        found = self.rows.engine.fold(name, histograms, calls, shared, combine=np.add, size=size, shelves=self.shelves)
        ordered = {(node.tree, node.place): (node, picks) for node, picks in taken}
        at = 0
        for tree, _, places, _ in wanted:
            for place in places:
                node, picks = ordered[tree, int(place)]
                self._look(node, picks, found[at : at + len(picks)])
                at += len(picks)

    def _next_columns(self, node: _Node, most: int) -> np.ndarray:
        """Return the columns to look at next: those drawn for the node, then more while all were constant."""
        order = np.arange(self.columns)
        end = self.plan.width if node.position < self.plan.width else self.columns
        end = min(end, node.position + most)
        if self.plan.width < self.columns:
            for j in range(end):
                draw(order, j, node.key)
        return order[node.position : end]

    def _look(self, node: _Node, picks: np.ndarray, histograms: np.ndarray) -> None:
        """Take note of the columns' cuts; cut the node if no more are to be looked at."""
        plan = self.plan
        if plan.width >= self.columns and node.histogram is None:
            node.histogram = np.empty((self.columns, *histograms.shape[1:]), self.dtype)
        if node.histogram is not None and node.histogram is not histograms:
            node.histogram[picks] = histograms
        left, right, kept = (np.zeros(plan.channels + 1, np.int64) for _ in range(3))
        for column, histogram in zip(picks, histograms, strict=True):
            if node.position >= plan.width and node.found:
                break
            node.position += 1
            used = np.flatnonzero(histogram[:, -1])
            if used[0] == used[-1]:
                continue
            node.found = True
            rules = (plan.limits, plan.criterion, logarithms(), node.best, left, right, kept)
            best, last, first = scan(histogram, used[0], used[-1], node.sums, *rules)
            if last >= 0:
                node.best, node.cut, node.kept = best, (int(column), last, first), kept.copy()
        if node.position < plan.width or (not node.found and node.position < self.columns):
            self.large.appendleft(node)
            return
        sibling = node.sibling
        if sibling is not None and node.parent is not None and node.histogram is not None:
            sibling.histogram = np.subtract(node.parent, node.histogram, out=node.parent)
            self.parents -= node.parent.nbytes
            node.parent = node.sibling = None
        self._cut(node)
        if sibling is not None and sibling.histogram is not None:
            self._look(sibling, np.arange(self.columns), sibling.histogram)

    def _cut(self, node: _Node) -> None:
        if node.kept is None:
            return
        gain = node.best - score(node.sums, self.plan.criterion, logarithms())
        if gain < self.plan.least_gain:
            return
        tree = self.trees[node.tree]
        children = [
            self._node(node.tree, sums, np.uint64(child_key(node.key, right)), node.depth + 1)
            for right, sums in ((False, node.kept), (True, node.sums - node.kept))
        ]
        tree.feature[node.place], tree.last[node.place], tree.first[node.place] = node.cut
        tree.children[node.place], tree.gains[node.place] = (children[0].place, children[1].place), gain
        histogram, node.histogram = node.histogram, None
        smaller, larger = sorted(children, key=lambda child: child.rows)
        both = not any(self._is_leaf(child) or not self._is_large(child) for child in children)
        if both and histogram is not None and self.parents + histogram.nbytes <= PARENT_BYTES:
            self.parents += histogram.nbytes
            smaller.sibling, smaller.parent = larger, histogram
            self._line_up(smaller)
        else:
            self._line_up(*children)

    # --- to the end

    def _finish_some(self) -> None:
        """One pass: take rows of nodes out of their blocks, and grow what is below them."""
        groups: list[list[_Node]] = []
        room = self.extract_bytes
        while self.small and (not groups or self.small[0].rows * row_bytes(self.columns) <= room):
            group: list[_Node] = []
            size = 0.0
            while self.small and (not group or self._fits(group[0], self.small[0], size, room)):
                node = self.small.popleft()
                group.append(node)
                size += node.rows * row_bytes(self.columns)
            groups.append(group)
            room -= size
        none = np.empty(0, np.int64)
        wanted = [
            Wanted(
                group[0].tree,
                self.trees[group[0].tree].top(),
                np.array([node.place for node in group]),
                (none,) * len(group),
            )
            for group in groups
        ]
        calls, shared = self._pass(wanted)
        engine = self.rows.engine
        parts = engine.runs(self.rows.named("extract"), extract, calls, shared, shelves=self.shelves)
        runs = len(parts)
        # A task for each, so that nobody fetches more than the rows of its own nodes.
        flat = [(part, k) for k in range(len(groups)) for part in parts]
        picked = engine.map(self.rows.named("pick"), pick, flat)
        del parts, flat
        each = [tuple(picked[k * runs : (k + 1) * runs]) for k in range(len(groups))]
        keys = [[node.key for node in group] for group in groups]
        depths = [[node.depth for node in group] for group in groups]
        jobs = [(g, d, self.plan, *p) for g, d, p in zip(keys, depths, each, strict=True)]
        grown = engine.fetch(engine.map(self.rows.named("grow"), grow_nodes, jobs))
        for group, below in zip(groups, grown, strict=True):
            for node, part in zip(group, below, strict=True):
                self.trees[node.tree].hang(node.place, part)

    def _fits(self, first: _Node, node: _Node, size: float, room: float) -> bool:
        """Return True if a node may go with others of its tree."""
        more = size + node.rows * row_bytes(self.columns)
        return node.tree == first.tree and more <= min(self.node_bytes, room)


def _room(engine: Engine) -> tuple[float, float]:
    """Return the bytes for data of the smallest worker, and of all."""
    each = engine.task_memory()
    free = max(each - CODE_BYTES, each / 10)
    return free, free * max(1.0, engine.memory() / each)


def grow_by_levels(rows: Blocks, bins: Bins, targets: Targets, plan: Plan, count: int) -> list[Grown]:
    """Grow the trees of a forest as `grow_trees` does, for data of any number of rows."""
    return _Growth(rows, bins, targets, plan, count).run()


def _by_tree(trees: Sequence[_Tree], taken: Sequence[tuple[_Node, np.ndarray]]) -> Iterator[Wanted]:
    by_tree: dict[int, list[tuple[_Node, np.ndarray]]] = {}
    for node, picks in taken:
        by_tree.setdefault(node.tree, []).append((node, picks))
    for tree, pairs in by_tree.items():
        places = np.array([node.place for node, _ in pairs])
        yield Wanted(tree, trees[tree].top(), places, tuple(picks for _, picks in pairs))
