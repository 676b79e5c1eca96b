"""Noise on the way into a batch, and how a feed's state knows it from another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from storage.fingerprint import describe
from storage.plan import digest


class Change:
    """A noise with its seed and epoch. What it gives must be as many samples, of the same form.

    Parameters
    ----------
    noise : callable
    seed, epoch : int
    """

    def __init__(self, noise: Callable[..., Any], seed: int, epoch: int) -> None:
        self._noise, self._seed, self._epoch = noise, seed, epoch

    def __call__(self, samples: Any, ids: np.ndarray) -> Any:
        """Change samples, given their ids.

        Raises
        ------
        ValueError
            If what comes back does not belong to what was given: another number, shape or dtype.
        """
        try:
            changed = self._noise(samples, ids, seed=self._seed, epoch=self._epoch)
        except StopIteration as error:  # would end the epoch of whoever iterates, and nobody would know
            raise RuntimeError(f"expected samples from {self._noise!r}, received StopIteration") from error
        expected, received = _form(samples), _form(changed)
        if received != expected:
            raise ValueError(f"expected {self._noise!r} to give {expected}, as it got, received {received}")
        return changed


def _form(samples: Any) -> str:
    if isinstance(samples, np.ndarray):
        return f"{samples.dtype} of shape {samples.shape}"
    if isinstance(samples, list):
        strange = next((text for text in samples if not isinstance(text, str)), "")
        return f"a list of {len(samples):,} {type(strange).__name__}"
    return f"a {type(samples).__name__}"


def name_of(what: str, function: Any) -> str:
    """A digest of the code, the versions and all that a function holds; how it prints where that cannot be described.

    Raises
    ------
    TypeError
        If it cannot be told from another of its kind.
    """
    try:
        return digest([describe(function), sorted(_versions(function, {}))])
    except TypeError as error:
        if what != "encode" and " at 0x" not in (text := str(function)):
            return text
        raise TypeError(
            f"expected {what} that can be told from another by a state, received {function!r}, which holds what cannot "
            f"be described; give it a __reduce__, or make it a dataclass ({error})"
        ) from error


def _versions(value: Any, seen: dict[int, Any]) -> set[str]:
    """Classes that say their version (a noise raises it when its bytes change), of an object and of what it holds."""
    if id(value) in seen or isinstance(value, (str, bytes, int, float, np.ndarray, type, ModuleType)):
        return set()
    seen[id(value)] = value
    held: list[Any] = []
    if isinstance(value, dict):
        held = list(value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        held = list(value)
    elif isinstance(value, partial):
        held = [value.func, *value.args, *value.keywords.values()]
    elif inspect.ismethod(value):
        held = [value.__self__]
    elif hasattr(value, "__dict__") and not inspect.isroutine(value):
        held = list(vars(value).values())
    elif is_dataclass(value):  # with slots
        held = [getattr(value, field.name) for field in fields(value)]
    kind, found = type(value), set()
    if isinstance(version := getattr(kind, "version", None), (int, str)):
        found = {f"{kind.__module__}.{kind.__qualname__} {version}"}
    return found.union(*(_versions(one, seen) for one in held))
