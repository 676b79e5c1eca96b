"""Images in folders, a folder per class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from storage.images import CHANNELS, decode_image, in_threads
from tasks.sources.files import digest, existing_folder, once
from tasks.sources.folders import FolderScan, Rules, scan
from tasks.sources.samples import Samples, SourceError, checked_positions, slice_positions

_SUFFIXES = (".png", ".jpg", ".jpeg")


def decode(path: str, size: tuple[int, int], mode: str) -> np.ndarray:
    """One PNG or JPEG file as pixels; see `storage.images.decode_image`.

    Raises
    ------
    SourceError
        Naming the file and what is wrong with it.
    """
    try:
        return decode_image(path, size, mode)
    except Exception as error:  # Pillow's readers raise many kinds on damaged files, and the caller needs the name
        raise SourceError(
            f"{path}: expected a PNG or JPEG image, it is unreadable ({_reason(error, path)}); do replace it"
        ) from error


def _reason(error: BaseException | None, path: str) -> str:
    return str(error).replace(repr(path), "the file")


class ImageFolder:
    """PNG and JPEG files, ``class/file`` or ``train|validation|test/class/file``.

    Rows are sorted by split, class and file name. Hidden files are ignored; any other file is refused, or skipped
    if asked. Images are decoded when they are taken, by a few threads.

    Parameters
    ----------
    path : path
        The folder.
    size : tuple of int
        (height, width) that every image is resized to, bilinearly.
    mode : {"RGB", "L"}
        Colour or grey.
    on_error : {"raise", "skip"}
        With "skip", every image is read once when the source is made, and what is not a readable image is left
        out, counted and named in ``describe()["skipped"]``.
    keep : {"pixels", "files"}
        What a dataset made of this keeps: the decoded images, or the files as they are (several times smaller for
        photographs), which are then decoded whenever they are read.
    name : str, optional
        For logs and reports.

    Raises
    ------
    FileNotFoundError
        The folder is not there.
    SourceError
        No class folders, a class without images, another file among them, a link out of the folder; on reading, an
        image that cannot be decoded.
    """

    kind = "images"

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: Sequence[int],
        mode: str = "RGB",
        on_error: str = "raise",
        *,
        keep: str = "pixels",
        name: str | None = None,
    ) -> None:
        if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
            raise ValueError(f"expected size=(height, width) as positive integers, received {size!r}")
        if mode not in CHANNELS:
            raise ValueError(f'expected mode "RGB" or "L", received {mode!r}')
        if keep not in ("pixels", "files"):
            raise ValueError(f'expected keep "pixels" or "files", received {keep!r}')
        if on_error not in ("raise", "skip"):
            raise ValueError(f'expected on_error "raise" or "skip", received {on_error!r}')
        self.path = existing_folder(path)
        self.size = (size[0], size[1])
        self.mode = mode
        self.on_error = on_error
        self.keep = keep
        self.name = name or os.path.basename(self.path)
        self.sample_shape = (*self.size, CHANNELS[mode])
        self._listed: FolderScan | None = self._scan()
        self._digest = self._listed.digest
        self.classes = self._listed.classes
        self._skipped = self._listed.skipped
        self._readable: np.ndarray | None = None
        if on_error == "skip":
            self._leave_out_unreadable(self._listed)

    def __repr__(self) -> str:
        kept = "" if self.keep == "pixels" else f", keep={self.keep!r}"
        return f"ImageFolder({self.path!r}, size={self.size}, mode={self.mode!r}{kept})"

    def __getstate__(self) -> dict[str, Any]:
        # The list of files is long and quickly made again; only what was decided by reading must travel.
        return {**self.__dict__, "_listed": None}

    def _scan(self) -> FolderScan:
        return scan(self.path, Rules(_SUFFIXES, skip=self.on_error == "skip"))

    def _files(self) -> FolderScan:
        if self._listed is None:

            def load() -> tuple[FolderScan, int]:
                listed = self._scan()
                if listed.digest != self._digest:
                    raise SourceError(f"{self.path}: the folder changed after the source was made; do make it again")
                return listed, 200 * len(listed.files)

            self._listed = once(("images", self.path, self.on_error, self._digest), load)
        return self._listed

    def _leave_out_unreadable(self, listed: FolderScan) -> None:
        def fault(file: str) -> str | None:
            path = os.path.join(self.path, file)
            try:
                decode(path, self.size, self.mode)
            except SourceError as error:
                return f"{file}: {_reason(error.__cause__, path)}"
            return None

        faults = in_threads(fault, listed.files)
        self._readable = np.flatnonzero([found is None for found in faults])
        self._skipped = listed.skipped + tuple(found for found in faults if found is not None)
        present = set(listed.codes[self._readable].tolist())
        for code, name in enumerate(self.classes):
            if code not in present:
                raise SourceError(
                    f"{self.path}: expected samples of class {name!r}, received none that is readable; "
                    "do replace its images or remove the class"
                )

    def _rows(self) -> np.ndarray:
        return np.arange(len(self._files().files)) if self._readable is None else self._readable

    def __len__(self) -> int:
        return len(self._files().files) if self._readable is None else len(self._readable)

    def __getitem__(self, key: slice) -> Samples:
        return self.take(slice_positions(key, len(self)))

    @property
    def splits(self) -> np.ndarray | None:
        """uint8 (n,) from the folders train, validation and test; None without them."""
        splits = self._files().splits
        return None if splits is None else splits[self._rows()]

    def labels(self) -> np.ndarray:
        """All labels, int64 (n,)."""
        return self._files().codes[self._rows()]

    def take(self, indices: Any) -> Samples:
        """Samples at positions; see `Source.take`."""
        positions = checked_positions(indices, len(self))
        listed, rows = self._files(), self._rows()[positions]
        values = np.empty((len(rows), *self.sample_shape), dtype=np.uint8)

        def fill(place: int) -> None:
            values[place] = decode(os.path.join(self.path, listed.files[rows[place]]), self.size, self.mode)

        in_threads(fill, range(len(rows)))
        return Samples(values, listed.codes[rows])

    @property
    def keeps_files(self) -> bool:
        """Whether datasets are made of `files` rather than of pixels."""
        return self.keep == "files"

    def files(self, indices: Any) -> list[bytes]:
        """The files at positions, as they are."""
        listed, rows = self._files(), self._rows()[checked_positions(indices, len(self))]
        return in_threads(lambda row: Path(self.path, listed.files[row]).read_bytes(), rows.tolist())

    def file_sizes(self, indices: Any) -> np.ndarray:
        """Bytes of the files at positions, int64 (n,)."""
        sizes: np.ndarray = self._files().sizes[self._rows()[checked_positions(indices, len(self))]]
        return sizes

    def stamps(self) -> list[str]:
        """Name, size and time of change of each sample's file; see `tasks.sources.stamps`."""
        return self._files().stamps(self._rows())

    def fingerprint(self) -> str:
        """A hex digest of the files' names, sizes and times of change, and of the parameters."""
        readable = b"" if self._readable is None else self._readable.tobytes()
        kept = () if self.keep == "pixels" else (self.keep,)
        return digest("ImageFolder", self._digest, self.size, self.mode, readable, *kept)

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON; "skipped" lists what was left out, each with the reason."""
        return {
            "source": "ImageFolder",
            "name": self.name,
            "parameters": {"size": list(self.size), "mode": self.mode, "on_error": self.on_error, "keep": self.keep},
            "found": [self.path],
            "licence": None,
            "skipped": list(self._skipped),
        }
