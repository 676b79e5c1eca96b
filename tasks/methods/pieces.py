"""What a task gets in place of a block that is not there yet, and the functions that tasks call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask


@dataclass(frozen=True, eq=False)
class Piece:
    """A block that a task can make by itself, from the graph it carries."""

    graph: dict[Any, Any]
    key: Any
    finish: Callable[[Any], Any]

    def read(self) -> Any:
        return self.finish(dask.get(self.graph, self.key))

    def __dask_tokenize__(self) -> Any:
        # Dask names every graph that it is given; the key stands for what is below it.
        return self.key


@dataclass(frozen=True, eq=False)
class Node:
    """A block that other blocks share work with; its graph is submitted with the pass that needs it."""

    graph: dict[Any, Any]
    key: Any
    finish: Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Later:
    """A piece that the function itself makes, when its turn comes."""

    piece: Piece


def invoke(function: Callable, *arguments: Any) -> Any:
    """Call a function with blocks in place of pieces."""
    return function(*[a.read() if isinstance(a, Piece) else a for a in arguments])


def fold(combine: Callable, *parts: Any) -> Any:
    """Combine partial results in order."""
    return functools.reduce(combine, parts)


def go_on(function: Callable, width: int, count: int, *arguments: Any) -> Any:
    """Call ``function(total, *call, *shared)`` for calls that follow each other; the first total is None.

    Parameters
    ----------
    width, count : int
        Arguments of a call, and calls; what stands behind them is shared.
    """
    total, shared = None, arguments[width * count :]
    for k in range(count):
        call = arguments[width * k : width * (k + 1)]
        total = function(total, *[a.piece.read() if isinstance(a, Later) else a for a in call], *shared)
    return total
