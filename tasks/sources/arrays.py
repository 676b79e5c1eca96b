"""Samples that are arrays already: in memory, or in .npy and .npz files."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.sources.files import absolute, digest, file_digest, gather, once, stamp, texts_digest
from tasks.sources.samples import (
    Samples,
    SourceError,
    checked_classes,
    checked_positions,
    codes_of_names,
    codes_of_numbers,
    codes_of_splits,
    slice_positions,
)

_UNREADABLE = (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _load_npy(path: str) -> np.ndarray:
    now = stamp(path)

    def load() -> tuple[np.ndarray, int]:
        try:
            return np.lib.format.open_memmap(path, mode="r"), 0
        except _UNREADABLE as error:
            raise SourceError(
                f"{path}: expected a whole .npy file without objects ({error}); do save it again"
            ) from error

    return once(("npy", now), load)


def _load_npz(path: str) -> dict[str, np.ndarray]:
    now = stamp(path)

    def load() -> tuple[dict[str, np.ndarray], int]:
        try:
            with zipfile.ZipFile(path) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist()]
            with np.load(path, allow_pickle=False) as stored:
                arrays: dict[str, np.ndarray] = {
                    key: stored[key] for key in ("images", "labels", "splits") if key in keys
                }
        except _UNREADABLE as error:
            raise SourceError(
                f"{path}: expected a whole .npz file without objects ({error}); do save it again"
            ) from error
        if "images" not in arrays:
            raise SourceError(f"{path}: expected the key 'images' (and 'labels'), received the keys {keys}")
        return arrays, sum(array.nbytes for array in arrays.values())

    return once(("npz", now), load)


def _checked_images(images: Any, where: str) -> np.ndarray:
    """Images as uint8 (n, height, width, channel), or an error that says what to do."""
    array = np.asanyarray(images)
    if array.dtype != np.uint8:
        cure = "do multiply by 255 if they are from 0 to 1, and cast: images.astype(numpy.uint8)"
        raise SourceError(f"{where}: expected images as uint8 from 0 to 255, received {array.dtype}; {cure}")
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or 0 in array.shape:
        raise SourceError(
            f"{where}: expected images of shape (n, height, width) or (n, height, width, channel) with at least one, "
            f"received {np.shape(images)}"
        )
    return array


def _checked_texts(texts: Any) -> list[str]:
    if isinstance(texts, str):
        raise SourceError("texts: expected a list of strings, received one string; do pass [text]")
    checked = list(texts)
    if not checked:
        raise SourceError("texts: expected at least one text, received none")
    for row, text in enumerate(checked):
        if not isinstance(text, str):
            raise SourceError(f"texts: expected strings, received {text!r} in row {row}; do drop or fill such rows")
    return [str(text) for text in checked]


def _encode(labels: Any, classes: tuple[str, ...] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes and classes of labels that are whole numbers or strings."""
    array = labels if isinstance(labels, np.ndarray) else np.asarray(labels, dtype=_object_if_mixed(labels))
    if array.ndim != 1:
        raise SourceError(f"{where}: expected labels of one dimension, received shape {array.shape}")
    if array.dtype.kind in "iu":
        return codes_of_numbers(array, classes, where)
    if array.dtype.kind not in "UO":
        empty = " with NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise SourceError(
            f"{where}: expected labels as integers or strings, received {array.dtype}{empty}; "
            "do drop samples without a label and cast: labels.astype('int64')"
        )
    names = array.tolist()
    for row, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise SourceError(f"{where}: expected labels as integers or strings, received {name!r} in row {row}")
    return codes_of_names(names, classes, where)


def _object_if_mixed(labels: Any) -> type | None:
    """NumPy turns ["cat", None] and ["1", 2] into strings; as objects, what is wrong in them can be named."""
    return object if any(isinstance(label, str) for label in labels) else None


class Arrays:
    """Images or texts in memory, or images in ``.npy`` (memory-mapped) and ``.npz`` files.

    Parameters
    ----------
    images : array or path, optional
        uint8 (n, height, width) or (n, height, width, channel); the path of a ``.npy`` file; or of a ``.npz`` file
        with the keys ``images`` and, where there are any, ``labels`` and ``splits``.
    labels : array, sequence or path, optional
        Integers or strings (n,). With `classes`, integers are codes into them; without, the values that occur,
        sorted, are the classes.
    texts : sequence of str, optional
        Instead of `images`.
    splits : array or sequence, optional
        (n,) codes 0, 1, 2 or the names train, validation, test.
    classes : sequence of str, optional
        Names of the labels.
    name : str, optional
        For logs and reports.

    Raises
    ------
    FileNotFoundError
        A file is not there.
    SourceError
        Images are not uint8, labels are missing in places, lengths differ, or a file is truncated.

    Notes
    -----
    Arrays in memory are not copied, so do not write into them afterwards. They travel with the pickled source;
    for more than a few hundred megabytes do save them as ``.npy``.
    """

    def __init__(
        self,
        images: Any = None,
        labels: Any = None,
        texts: Any = None,
        splits: Any = None,
        classes: Sequence[str] | None = None,
        *,
        name: str | None = None,
    ) -> None:
        if (images is None) == (texts is None):
            raise ValueError("expected either images or texts; do make one source for each")
        self.name = name or "arrays"
        self._path = absolute(images) if _is_path(images) else None
        self._labels_path = absolute(labels) if _is_path(labels) else None
        self._texts = None if texts is None else _checked_texts(texts)
        self._images: np.ndarray | None = None
        if self._path is not None:
            stored = self._stored()
            labels = stored.get("labels") if labels is None else labels
            splits = stored.get("splits") if splits is None else splits
        elif images is not None:
            self._images = _checked_images(images, "images")
        self.kind = "images" if self._texts is None else "texts"
        self.sample_shape = None if self._texts is not None else self._pictures().shape[1:]
        count = len(self)
        self._codes, self.classes = self._encoded(labels, checked_classes(classes), count)
        self.splits = None if splits is None else codes_of_splits(splits, count, "splits")

    def __repr__(self) -> str:
        return f"Arrays({self._path or f'{len(self)} {self.kind}'})"

    def __len__(self) -> int:
        return len(self._pictures() if self._texts is None else self._texts)

    def __getitem__(self, key: slice) -> Samples:
        return self.take(slice_positions(key, len(self)))

    def _stored(self) -> dict[str, np.ndarray]:
        path = str(self._path)
        if path.endswith(".npz"):
            return _load_npz(path)
        if path.endswith(".npy"):
            return {"images": _load_npy(path)}
        raise ValueError(f"expected a .npy or .npz file, received {path}")

    def _pictures(self) -> np.ndarray:
        if self._images is not None:
            return self._images
        return _checked_images(self._stored()["images"], str(self._path))

    def _encoded(
        self, labels: Any, classes: tuple[str, ...] | None, count: int
    ) -> tuple[np.ndarray | None, tuple[str, ...]]:
        if labels is None:
            if classes is not None:
                raise ValueError("expected labels for the classes, received none; do pass labels= or leave classes out")
            return None, ()
        where = self._labels_path or "labels"
        given = _load_npy(self._labels_path) if self._labels_path else labels
        if len(given) != count:
            raise SourceError(
                f"{where}: expected one label per sample, received {count} samples and {len(given)} labels"
            )
        return _encode(given, classes, where)

    def labels(self) -> np.ndarray | None:
        """All labels, int64 (n,); None without labels."""
        return None if self._codes is None else self._codes.copy()

    def take(self, indices: Any) -> Samples:
        """Samples at positions; see `Source.take`."""
        positions = checked_positions(indices, len(self))
        labels = None if self._codes is None else self._codes[positions]
        if self._texts is not None:
            return Samples([self._texts[row] for row in positions.tolist()], labels)
        return Samples(np.asarray(gather(self._pictures(), positions)), labels)

    def fingerprint(self) -> str:
        """A hex digest of samples, labels, classes and splits."""
        if self._texts is not None:
            content = texts_digest(self._texts)
        elif self._path is not None:
            content = file_digest(self._path)
        else:
            pictures = self._pictures()
            content = digest(pictures.shape, np.ascontiguousarray(pictures).data)
        codes = b"" if self._codes is None else self._codes.tobytes()
        splits = b"" if self.splits is None else self.splits.tobytes()
        return digest("Arrays", content, codes, splits, self.classes)

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON."""
        return {
            "source": "Arrays",
            "name": self.name,
            "parameters": {"classes": list(self.classes)},
            "found": [path for path in (self._path, self._labels_path) if path] or ["memory"],
            "licence": None,
            "skipped": [],
        }
