"""The house: who may import whom, and what must not be loaded before it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("storage", "tasks", "pipeline")
"""Lowest first: each may import itself and what is before it."""
FILES = sorted(file.relative_to(ROOT) for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))

OWNERS = {
    "zarr": ("storage",),
    "keras": ("tasks/networks", "tasks/training", "storage/adapters"),
    "tensorflow": ("tasks/networks", "tasks/training", "storage/adapters"),
    "torch": ("tasks/training", "storage/adapters"),
    "jax": ("tasks/training", "storage/adapters"),
}
"""Who may import what: a folder, or the beginning of a file's name."""

HEAVY = {
    "keras",
    "tensorflow",
    "torch",
    "jax",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "PIL",
    "cv2",
    "xarray",
    "dask_ml",
}


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in it; relative ones as the absolute ones they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join((*above, *filter(None, [node.module])))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def imported_by(file: Path) -> set[str]:
    package = file.parent.parts
    return set(imports(ast.parse((ROOT / file).read_text(encoding="utf-8")), package))


def within(file: Path, owner: str) -> bool:
    return file.as_posix().startswith((owner + "/", owner + ".", owner + "_"))


def test_imports__of_a_small_file():
    tree = ast.parse("import a.b\nfrom .c import d\nfrom .. import e\ndef f():\n    importlib.import_module('g.h')")
    assert set(imports(tree, ("x", "y"))) == {"a.b", "x.y.c", "x", "g.h"}


def test_files__are_there():
    assert {file.parts[0] for file in FILES} == set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers__import_downwards_only(layer):
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    wrong = [
        f"{file} imports {name}"
        for file in FILES
        if file.parts[0] == layer
        for name in imported_by(file)
        if name.split(".")[0] in above | {"tests", "examples", "benchmarks"}
    ]
    assert not wrong


@pytest.mark.parametrize("library", OWNERS)
def test_library__is_imported_by_its_owners_only(library):
    users = {file for file in FILES if any(name.split(".")[0] == library for name in imported_by(file))}
    assert not [str(file) for file in users if not any(within(file, owner) for owner in OWNERS[library])]


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_modules_after__sees_an_import():
    assert "wave" in modules_after("import wave")
    assert "wave" not in modules_after("pass")


@pytest.mark.parametrize(
    "statement",
    [
        "import pipeline",
        "import tasks, storage",
        "from pipeline import Pipeline, connect",
        "from tasks import sources, noise, methods, networks",
        "import pipeline.cli",
    ],
)
def test_import__loads_nothing_heavy(statement):
    assert not modules_after(statement) & HEAVY


def test_package__has_no_module_named_tests():
    # A `tests` package of ours would shadow, or be shadowed by, any other project's.
    assert not (ROOT / "tests" / "__init__.py").exists()
