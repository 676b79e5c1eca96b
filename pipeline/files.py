"""Load a Python file that defines pipelines."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from distributed import Client


def load_file(path: str | Path) -> ModuleType:
    """Import a file as a module of its own name, without running its ``__main__`` part.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If its name cannot be a module's: workers import the file by it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a Python file that defines pipelines, found nothing at {path}")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ValueError(f"expected a file named like my_pipeline.py, received {path.name}; rename it")
    if path.stem in sys.modules:
        raise ValueError(f"a module named {path.stem!r} is loaded already; rename {path.name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"expected a Python file, received {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def pipelines_in(module: ModuleType, only: str | None = None) -> list[Pipeline]:
    """Find the pipelines that a file defines, in the order of their definition.

    Parameters
    ----------
    module : module
        From `load_file`.
    only : str, optional
        Name of the one wanted.

    Raises
    ------
    ValueError
        If there is none, or none of that name.
    """
    found = {id(value): value for value in vars(module).values() if isinstance(value, Pipeline)}
    pipelines = list(found.values())
    names = [pipeline.name for pipeline in pipelines]
    if not pipelines:
        raise ValueError(f"expected {module.__file__} to define a Pipeline at module level, found none")
    if len(set(names)) < len(names):
        raise ValueError(f"expected pipelines of different names in {module.__file__}, found {names}")
    if only is not None and only not in names:
        raise ValueError(f"expected a pipeline of {names}, received {only!r}")
    return [pipeline for pipeline in pipelines if only in (None, pipeline.name)]


def send_file(client: Client, module: ModuleType) -> None:
    """Let workers import a user's file, so that the classes and functions in it can travel to them."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    if own and module.__file__:
        client.upload_file(module.__file__)
