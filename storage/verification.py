"""Prove that a dataset is what its manifest says. Zarr itself does not notice flipped bits or a lost shard."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.dataset import Dataset, open_dataset
from storage.documents import GROUP, MANIFEST, POINTER, read_pointer, seal
from storage.durable import PARTIAL
from storage.errors import StorageError
from storage.plan import digest


@dataclass(frozen=True)
class Verification:
    """What `verify` found."""

    path: Path
    version: str
    """Empty if the manifest is too damaged to tell."""
    files: int
    strict: bool
    problems: tuple[str, ...]
    """One line per damaged, missing or unexpected file; empty if all is well."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(path: str | Path, *, strict: bool = True, advance: Callable[[int], Any] | None = None) -> Verification:
    """Check every file of a dataset against its manifest.

    Parameters
    ----------
    path : str or Path
        The dataset's folder or build.
    strict : bool
        Hash every byte; otherwise compare sizes only.
    advance : callable, optional
        Called with the number of files checked since the last call.

    Returns
    -------
    Verification

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    StorageError
        If nothing was ever finished there.
    """
    try:
        dataset = open_dataset(path)
    except StorageError as error:
        if any((Path(path) / name).exists() for name in (POINTER, MANIFEST)):
            return Verification(Path(path), "", 0, strict, (str(error),))  # so damaged that it does not open
        raise
    problems = [*_pointer_problems(dataset, read_pointer(Path(path))), *_manifest_problems(dataset)]
    files = dataset.manifest["files"]

    def check(item: tuple[str, dict[str, Any]]) -> str | None:
        found = _file_problem(dataset.path / GROUP / item[0], item[0], item[1], strict)
        if advance:
            advance(1)
        return found

    # Hashing and reading release the interpreter lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        problems += [problem for problem in pool.map(check, files.items()) if problem]
    problems += sorted(_unexpected(dataset.path / GROUP, set(files)))
    return Verification(dataset.path, dataset.version, len(files), strict, tuple(problems))


def _pointer_problems(dataset: Dataset, pointer: dict[str, Any] | None) -> Iterable[str]:
    if pointer is not None and pointer["version"] != dataset.version:
        yield f"damaged pointer: it says version {pointer['version'][:12]}, the manifest {dataset.version[:12]}"


def _manifest_problems(dataset: Dataset) -> Iterable[str]:
    if seal(dataset.manifest)["digest"] != dataset.manifest.get("digest"):
        yield "damaged manifest: its content is not what was committed"
    fields = ("kind", "classes", "splits", "layout", "sample_shape", "slot_bytes")
    content = {name: dataset.manifest.get(name) for name in fields}
    content["files"] = {k: v for k, v in dataset.manifest["files"].items() if not k.endswith("zarr.json")}
    if (found := digest(content)) != dataset.version:
        yield f"damaged manifest: its content has digest {found[:12]}, its version says {dataset.version[:12]}"


def _file_problem(path: Path, name: str, entry: Any, strict: bool) -> str | None:
    if not isinstance(entry, dict) or not {"bytes", "sha256"} <= set(entry):
        return f"unknown {name}: the manifest does not say what it should be"
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"damaged {name}: expected {entry['bytes']:,} bytes, found {size:,}"
        if strict:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    return f"damaged {name}: its bytes are not those that were committed"
    except FileNotFoundError:
        return f"missing {name}"
    except OSError as error:
        return f"unreadable {name}: {error.strerror}"
    return None


def _unexpected(group: Path, known: set[str]) -> Iterable[str]:
    for path in group.rglob("*"):
        name = path.relative_to(group).as_posix()
        if path.is_file() and name not in known and not name.endswith(PARTIAL):
            yield f"unexpected {name}: not in the manifest"
