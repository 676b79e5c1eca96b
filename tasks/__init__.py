"""The work: sources, noise, methods, networks, training and evaluation.

The rooms are imported when they are first named, so that ``import tasks`` costs nothing.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["methods", "networks", "noise", "sources"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
