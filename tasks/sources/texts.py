"""Texts in folders, a file per text and a folder per class: the layout of the Large Movie Review Dataset (aclImdb).

References
----------
A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tasks.sources.files import digest, existing_folder, once
from tasks.sources.folders import FolderScan, Rules, scan
from tasks.sources.samples import Samples, SourceError, checked_positions, slice_positions


class TextFolder:
    """UTF-8 text files, ``class/*.txt`` or ``train|validation|test/class/*.txt``.

    Rows are sorted by split, class and file name. Files outside the class folders and folders called ``unsup``
    (aclImdb's reviews without a label) are ignored; other files inside a class folder are refused.

    Parameters
    ----------
    path : path
        The folder.
    name : str, optional
        For logs and reports.
    licence : str, optional
        For reports.

    Raises
    ------
    FileNotFoundError
        The folder is not there.
    SourceError
        No class folders, a class without texts, an empty file, a link out of the folder; on reading, a file that is
        not UTF-8.
    """

    kind = "texts"
    sample_shape = None

    def __init__(self, path: str | os.PathLike[str], *, name: str | None = None, licence: str | None = None) -> None:
        self.path = existing_folder(path)
        self.name = name or os.path.basename(self.path)
        self.licence = licence
        self._listed: FolderScan | None = self._scan()
        self._digest = self._listed.digest
        self.classes = self._listed.classes

    def __repr__(self) -> str:
        return f"TextFolder({self.path!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_listed": None}

    def _scan(self) -> FolderScan:
        return scan(self.path, Rules((".txt",), loose_files=True, ignored_folders=("unsup",)))

    def _files(self) -> FolderScan:
        if self._listed is None:

            def load() -> tuple[FolderScan, int]:
                listed = self._scan()
                if listed.digest != self._digest:
                    raise SourceError(f"{self.path}: the folder changed after the source was made; do make it again")
                return listed, 200 * len(listed.files)

            self._listed = once(("texts", self.path, self._digest), load)
        return self._listed

    def __len__(self) -> int:
        return len(self._files().files)

    def __getitem__(self, key: slice) -> Samples:
        return self.take(slice_positions(key, len(self)))

    @property
    def splits(self) -> np.ndarray | None:
        """uint8 (n,) from the folders train, validation and test; None without them."""
        return self._files().splits

    def labels(self) -> np.ndarray:
        """All labels, int64 (n,)."""
        return self._files().codes.copy()

    def _read(self, file: str) -> str:
        path = os.path.join(self.path, file)
        with open(path, "rb") as stream:
            content = stream.read()
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}: expected UTF-8, received {error.reason} at byte {error.start}; do recode it"
            ) from error

    def take(self, indices: Any) -> Samples:
        """Samples at positions; see `Source.take`."""
        positions = checked_positions(indices, len(self))
        listed = self._files()
        return Samples([self._read(listed.files[row]) for row in positions.tolist()], listed.codes[positions])

    def stamps(self) -> list[str]:
        """Name, size and time of change of each sample's file; see `tasks.sources.stamps`."""
        return self._files().stamps(np.arange(len(self)))

    def fingerprint(self) -> str:
        """A hex digest of the files' names, sizes and times of change."""
        return digest("TextFolder", self._digest)

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON."""
        return {
            "source": "TextFolder",
            "name": self.name,
            "parameters": {},
            "found": [self.path],
            "licence": self.licence,
            "skipped": [],
        }
