"""Describe objects by value, so that a step is redone when, and only when, something it depends on changed."""

from __future__ import annotations

import contextlib
import copyreg
import functools
import hashlib
import inspect
import math
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from storage.plan import digest


def describe(value: Any) -> Any:
    """Turn a parameter into plain JSON values that differ whenever the parameter differs.

    Parameters
    ----------
    value : object
        Numbers, strings, containers, arrays and paths are described by value (a dict or set in any order); functions
        and classes by their source, defaults and captured variables; dataclasses by their fields, scikit-learn
        estimators by their parameters, other objects by the state that pickle would save.

    Returns
    -------
    JSON-able object

    Raises
    ------
    TypeError
        If the parameter cannot be described: an open file, a lock.
    """
    return _describe(value, ())


def _describe(value: Any, above: tuple[int, ...]) -> Any:
    """Describe a value that lies inside others, whose identities are `above`."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return None if value is None else bool(value)
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, (complex, bytes, bytearray)):
        return {type(value).__name__: repr(value) if isinstance(value, complex) else hashlib.sha256(value).hexdigest()}
    if id(value) in above:
        return {"above": above.index(id(value))}
    above = (*above, id(value))
    if isinstance(value, np.ndarray):
        return _array(value, above)
    if isinstance(value, (list, tuple)):
        return [_describe(item, above) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((_describe(item, above) for item in value), key=digest)}
    if isinstance(value, dict):
        pairs = [[_describe(key, above), _describe(item, above)] for key, item in value.items()]
        return {"dict": sorted(pairs, key=digest)}
    return {"class": _name(value), "content": _content(value, above)}


def _array(value: np.ndarray, above: tuple[int, ...]) -> Any:
    # The memory of an array of objects holds addresses, which differ in every process.
    if value.dtype.hasobject:
        content = digest([_describe(item, above) for item in value.ravel().tolist()])
    else:
        content = hashlib.sha256(value.tobytes()).hexdigest()
    return {"array": content, "dtype": str(value.dtype), "shape": list(value.shape)}


def _kind(value: Any) -> Any:
    """The class of an instance; classes and functions are their own."""
    return value if inspect.isclass(value) or inspect.isroutine(value) else type(value)


def _name(value: Any) -> str:
    kind = _kind(value)
    module = kind.__module__
    if module == "__main__" and (file := getattr(sys.modules["__main__"], "__file__", None)):
        module = Path(file).stem  # as `duskflow run` names it: the same file run as a script is the same pipeline
    return f"{module}.{getattr(kind, '__qualname__', repr(kind))}"


def _content(value: Any, above: tuple[int, ...]) -> Any:
    if inspect.ismodule(value):
        return value.__name__
    if inspect.isclass(value):
        return _source(value)
    if inspect.isroutine(value):
        return _function(value, above)
    if is_dataclass(value):
        return {field.name: _describe(getattr(value, field.name), above) for field in fields(value)}
    if hasattr(value, "get_params"):
        return {name: _describe(item, above) for name, item in sorted(value.get_params(deep=False).items())}
    return _state(value, above)


def _function(value: Any, above: tuple[int, ...]) -> Any:
    """Source, defaults and captured variables; and the object, where it is a method of one."""
    content = [_source(value)]
    plain = inspect.unwrap(getattr(value, "__func__", value))
    held = [getattr(plain, "__defaults__", None), getattr(plain, "__kwdefaults__", None), _captured(plain)]
    if any(held):
        content.append(_describe(held, above))
    if inspect.ismethod(value):
        content.append(_describe(value.__self__, above))
    return content


def _captured(function: Any) -> list[Any]:
    cells = getattr(function, "__closure__", None) or ()
    held = []
    for cell in cells:
        try:
            held.append(cell.cell_contents)
        except ValueError:  # a variable that is assigned later
            held.append(None)
    return held


def _state(value: Any, above: tuple[int, ...]) -> Any:
    """What pickle would save; not its bytes, which depend on the order of sets and on the identity of equal parts."""
    if hasattr(value, "__wrapped__"):
        return _describe(value.__wrapped__, above)
    try:
        registered = copyreg.dispatch_table.get(type(value))
        reduced = registered(value) if registered else value.__reduce_ex__(4)
    except Exception as error:
        raise TypeError(
            f"expected parameters that can be pickled, received {value!r} ({error}); give the object parameters of its "
            "own (a dataclass, or get_params), or make it inside the function that needs it"
        ) from error
    if isinstance(reduced, str):
        return reduced
    rebuild, *parts = reduced
    parts = [list(part) if isinstance(part, Iterator) else part for part in parts]
    return [_name(rebuild), *(_describe(part, above) for part in parts)]


def code_version(value: Any) -> str:
    """Version of the code behind an object.

    The class's own `version` attribute where it has one (our noises: a published noise keeps its bytes, so its version
    only changes on purpose); otherwise the digest of its source: for classes of this package the whole folder they live
    in, for a user's classes and functions their own source text and that of the classes they inherit from.

    Functions that the source calls are not followed: raise `version` when one of them changes.
    """
    if isinstance(version := vars(value).get("version") if hasattr(value, "__dict__") else None, (int, str)):
        return f"version {version}"
    kind = _kind(value)
    if not inspect.isclass(kind):
        return digest(_function(kind, ()))[:16]
    codes = []
    for ancestor in kind.__mro__[:-1]:
        if isinstance(version := vars(ancestor).get("version"), (int, str)):
            codes.append(f"version {version}")
            break
        # Classes of other libraries only where the object itself is of that library.
        if ancestor.__module__.partition(".")[0] in {kind.__module__.partition(".")[0], "tasks", "storage"}:
            codes.append(_class_code(ancestor))
    codes = list(dict.fromkeys(codes))  # classes of one folder have the folder's
    return codes[0] if len(codes) == 1 else digest(codes)[:16]


@functools.cache
def _class_code(kind: type) -> str:
    # The family's whole folder, such as `tasks.methods`: a method in a folder of its own relies on the others.
    package = ".".join(kind.__module__.split(".")[:-1][:2])
    return _folder(package) if package.startswith(("tasks.", "storage")) else _source(kind)


def _source(kind: Any) -> str:
    code = getattr(inspect.unwrap(getattr(kind, "__func__", kind)), "__code__", None)
    try:
        text = _text(kind)
    except (OSError, TypeError):  # compiled, or typed into an interpreter
        return digest(_code(code))[:16] if code else _name(kind)
    if code and "<lambda>" in code.co_qualname:
        text += digest(_code(code))  # the source of a lambda is its whole line, which may hold others
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _text(kind: Any) -> str:
    # Until Python 3.12 the source of a class is found by parsing its file, and the parser counts its depth for all
    # threads together: a task that fails in another thread at that moment (its traceback is parsed for the ^ marks)
    # makes it raise SystemError (CPython issue 106905).
    for _ in range(9):
        with contextlib.suppress(SystemError):
            return inspect.getsource(kind)
    return inspect.getsource(kind)


def _code(code: CodeType) -> Any:
    constants = [_code(item) if isinstance(item, CodeType) else describe(item) for item in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]


def _folder(package: str) -> str:
    spec = find_spec(package)
    return files_version(Path(str(spec and spec.origin)).parent)


@functools.cache
def files_version(*paths: Path) -> str:
    """Digest of Python files, and of those in folders and below."""
    found = [
        (file, str(file.relative_to(path)) if path.is_dir() else file.name) for path in paths for file in _python(path)
    ]
    return digest([[name, hashlib.sha256(file.read_bytes()).hexdigest()] for file, name in found])[:16]


def _python(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]
