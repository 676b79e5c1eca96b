"""Describe objects by value, so that a step is redone when, and only when, something it depends on changed."""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import pickle
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from storage.plan import digest


def describe(value: Any) -> Any:
    """Turn a parameter into plain JSON values that differ whenever the parameter differs.

    Parameters
    ----------
    value : object
        Numbers, strings, containers, arrays, paths, dataclasses, scikit-learn estimators and functions are described
        by content; anything else by its pickle.

    Returns
    -------
    JSON-able object
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
        return {"array": content, "dtype": str(value.dtype), "shape": list(value.shape)}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((describe(item) for item in value), key=digest)
    if isinstance(value, dict):
        return [[describe(key), describe(item)] for key, item in value.items()]
    return {"class": _name(value), "content": _content(value)}


def _name(value: Any) -> str:
    kind = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _content(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "get_params") and not inspect.isclass(value):
        return {name: describe(item) for name, item in sorted(value.get_params(deep=False).items())}
    if inspect.isroutine(value) or inspect.isclass(value):
        return _source(value)
    return hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest()


def code_version(value: Any) -> str:
    """Version of the code behind an object.

    Its own `version` attribute where it has one (our noises: a published noise keeps its bytes, so its version only
    changes on purpose); otherwise the digest of its source: for classes of this package the whole folder they live
    in, for a user's classes and functions their own source text.
    """
    if (version := getattr(value, "version", None)) is not None:
        return f"version {version}"
    kind = value if inspect.isclass(value) or inspect.isroutine(value) else type(value)
    package = kind.__module__.rpartition(".")[0]
    if package.startswith(("tasks.", "storage")):
        return _folder(package)
    return _source(kind)


def _source(kind: Any) -> str:
    try:
        text = inspect.getsource(kind)
    except (OSError, TypeError):  # compiled, or typed into an interpreter: the name and its package must do
        return f"{kind.__module__}.{getattr(kind, '__qualname__', repr(kind))}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _folder(package: str) -> str:
    from importlib import import_module

    folder = Path(str(import_module(package).__file__)).parent
    content = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted(folder.glob("*.py"))]
    return digest(content)[:16]
