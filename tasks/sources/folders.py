"""Which files a folder of samples holds: ``class/file`` or ``split/class/file``, in an order that never varies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tasks.sources.files import digest
from tasks.sources.samples import SourceError, sorted_names

_SPLIT_CODES = {"train": 0, "validation": 1, "val": 1, "test": 2}


@dataclass(frozen=True, eq=False)
class FolderScan:
    """The samples of a folder, sorted by split, class and file name."""

    files: tuple[str, ...]
    """Paths relative to the folder."""
    codes: np.ndarray
    """int64 (n,), the class of each file."""
    splits: np.ndarray | None
    """uint8 (n,), or None where the class folders stand directly in the folder."""
    classes: tuple[str, ...]
    """The names of the class folders."""
    skipped: tuple[str, ...]
    """What was passed over, each with the reason."""
    digest: str
    """Of names, sizes and times of change."""
    sizes: np.ndarray
    """int64 (n,), bytes of each file."""
    times: np.ndarray
    """int64 (n,), nanoseconds of its last change."""

    def stamps(self, rows: np.ndarray) -> list[str]:
        """Name, size and time of change of some files: another one of these is another sample."""
        names = [self.files[row].replace(os.sep, "/") for row in rows.tolist()]
        states = zip(names, self.sizes[rows].tolist(), self.times[rows].tolist(), strict=True)
        return [f"{name}|{size}|{time}" for name, size, time in states]


@dataclass
class Rules:
    """What counts as a sample, and what becomes of everything else."""

    suffixes: tuple[str, ...]
    """Lower-case endings of the samples' names."""
    skip: bool = False
    """Pass over other files instead of refusing them."""
    loose_files: bool = False
    """Whether files outside the class folders are nobody's business."""
    ignored_folders: tuple[str, ...] = ()
    """Folders that are no classes."""
    skipped: list[str] = field(default_factory=list)
    """Collects what was passed over."""

    def stray(self, name: str, reason: str) -> None:
        """Refuse something that is not a sample, or note that it was passed over."""
        if not self.skip:
            wanted = ", ".join(self.suffixes)
            raise SourceError(
                f"{name}: {reason}; do move it away (samples end in {wanted}) or, for images, skip it "
                'with on_error="skip"'
            )
        self.skipped.append(f"{name}: {reason}")


def _entries(root: str, folder: str) -> Iterator[tuple[str, bool, os.stat_result]]:
    """Name, whether it is a folder, and state of everything in a folder that is not hidden, sorted."""
    with os.scandir(os.path.join(root, folder)) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        name = os.path.join(folder, entry.name)
        if entry.is_symlink():
            # A link out of the folder would let whoever filled it read any file that we can read.
            target = os.path.realpath(entry.path)
            if os.path.commonpath([root, target]) != root:
                raise SourceError(
                    f"{name}: expected files inside {root}, received a link to {target}; do copy the file"
                )
        try:
            state = entry.stat()
        except OSError as error:
            raise SourceError(f"{os.path.join(root, name)}: cannot be read ({error.strerror}); do remove it") from error
        yield name, entry.is_dir(), state


def _folders(root: str, folder: str, rules: Rules) -> list[str]:
    """Names of the sub-folders that may be classes or splits; files beside them are strays."""
    names = []
    for name, is_folder, _ in _entries(root, folder):
        base = os.path.basename(name)
        if is_folder and base not in rules.ignored_folders:
            names.append(base)
        elif not is_folder and not rules.loose_files:
            rules.stray(name, "expected class folders here, received a file")
    return names


def _samples(root: str, folder: str, rules: Rules) -> list[tuple[str, os.stat_result]]:
    """The samples of one class folder."""
    samples = []
    for name, is_folder, state in _entries(root, folder):
        if is_folder:
            rules.stray(name, "expected files in a class folder, received a folder")
        elif not name.lower().endswith(rules.suffixes):
            rules.stray(name, "not a sample")
        elif state.st_size == 0:
            rules.stray(name, "an empty file")
        else:
            samples.append((name, state))
    if not samples:
        raise SourceError(
            f"{os.path.join(root, folder)}: expected samples of class {os.path.basename(folder)!r}, received a label "
            "without samples; do remove the folder or fill it"
        )
    return samples


def _class_folders(root: str, rules: Rules) -> list[tuple[int | None, str, str]]:
    """(split code or None, class, folder) of every class folder."""
    top = _folders(root, "", rules)
    if top and set(top) <= set(_SPLIT_CODES):
        if {"val", "validation"} <= set(top):
            raise SourceError(f"{root}: expected one validation folder, received val and validation; do merge them")
        return [
            (_SPLIT_CODES[split], name, os.path.join(split, name))
            for split in sorted(top, key=lambda name: _SPLIT_CODES[name])
            for name in _folders(root, split, rules)
        ]
    return [(None, name, name) for name in top]


def _check_classes(root: str, folders: list[tuple[int | None, str, str]]) -> None:
    if not folders:
        raise SourceError(
            f"{root}: expected a sub-folder per class (or train/, validation/ and test/ with those), received none"
        )
    trained = {name for split, name, _ in folders if not split}
    for split, name, folder in folders:
        if split and name not in trained:
            raise SourceError(f"{os.path.join(root, folder)}: class {name!r} is not in train; do add it or remove it")


def scan(root: str, rules: Rules) -> FolderScan:
    """List the samples of a folder.

    Parameters
    ----------
    root : str
        Absolute path of the folder.
    rules : Rules
        What a sample is; `Rules.skipped` is filled.

    Raises
    ------
    SourceError
        No class folders, a class without samples, other files among the samples, a link that leaves the folder.
    """
    root = os.path.realpath(root)
    folders = _class_folders(root, rules)
    _check_classes(root, folders)
    classes = sorted_names({name for _, name, _ in folders})
    files: list[str] = []
    codes: list[int] = []
    splits: list[int] = []
    states: list[tuple[str, int, int]] = []
    for split, name, folder in folders:
        for path, state in _samples(root, folder, rules):
            files.append(path)
            codes.append(classes.index(name))
            splits.append(split or 0)
            states.append((path, state.st_size, state.st_mtime_ns))
    has_splits = folders[0][0] is not None
    return FolderScan(
        files=tuple(files),
        codes=np.array(codes, dtype=np.int64),
        splits=np.array(splits, dtype=np.uint8) if has_splits else None,
        classes=classes,
        skipped=tuple(rules.skipped),
        digest=digest(states, classes),
        sizes=np.array([size for _, size, _ in states], dtype=np.int64),
        times=np.array([time for _, _, time in states], dtype=np.int64),
    )
