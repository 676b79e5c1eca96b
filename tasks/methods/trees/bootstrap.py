"""Which rows a tree draws, and its random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.methods.trees.growth import Plan
from tasks.methods.trees.kernels import mix, poisson_counts


def drawn_amounts(tree: int, amounts: np.ndarray, start: int, plan: Plan) -> np.ndarray:
    """Return the amounts of rows from `start` on, times how often the tree's bootstrap draws them."""
    if not plan.bootstrap:
        return amounts
    counts = poisson_counts(np.uint64(mix(root_key(plan, tree))), start, len(amounts))
    return amounts * counts[:, None]


def root_key(plan: Plan, tree: int) -> Any:
    """Return the key of a tree's root."""
    return np.uint64(mix(np.uint64(mix(np.uint64(plan.seed))) ^ np.uint64(tree)))
