"""What a task gets in place of a block that is not there yet, and the functions that tasks call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np

from tasks.methods.shelf import Shelf
from tasks.methods.trimming import watch_memory


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
    """A piece that is made when the turn of its call comes."""

    piece: Piece
    number: int


@dataclass(frozen=True, eq=False)
class Shelved:
    """A block of which only what is made of it is wanted, which is kept on a shelf."""

    piece: Piece
    number: int
    shelf: Shelf

    def made(self, make: Callable[[Any], np.ndarray]) -> np.ndarray:
        """Return what `make`, the same in all passes, makes of the block."""
        return self.shelf.get(self.number, lambda: make(self.piece.read()))


def invoke(function: Callable, *arguments: Any) -> Any:
    """Call a function with blocks in place of pieces."""
    watch_memory()
    return function(*[a.read() if isinstance(a, Piece) else a for a in arguments])


def fold(combine: Callable, *parts: Any) -> Any:
    """Combine partial results in order."""
    return functools.reduce(combine, parts)


def go_on(function: Callable, width: int, count: int, shelf: Shelf | None, *arguments: Any) -> Any:
    """Call ``function(total, *call, *shared)`` for calls that follow each other; the first total is None.

    Parameters
    ----------
    width, count : int
        Arguments of a call, and calls; what stands behind them is shared.
    shelf : Shelf or None
        With a shelf the function gets a `Shelved` in place of its block.
    """
    total, shared = None, arguments[width * count :]
    for k in range(count):
        call = arguments[width * k : width * (k + 1)]
        total = function(total, *[_in_turn(a, shelf) if isinstance(a, Later) else a for a in call], *shared)
    return total


def _in_turn(later: Later, shelf: Shelf | None) -> Any:
    return later.piece.read() if shelf is None else Shelved(later.piece, later.number, shelf)
