"""Images and labels in IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped.

A file is two zero bytes, a type (8: unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit integer, then the bytes in C order.

References
----------
Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tasks.sources.files import DIGEST_BYTES, Stamp, absolute, digest, gather, once, stamp
from tasks.sources.samples import (
    Samples,
    SourceError,
    checked_classes,
    checked_positions,
    codes_of_numbers,
    slice_positions,
)

_UNSIGNED_BYTE = 0x08
_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 24


class _Header(NamedTuple):
    shape: tuple[int, ...]
    offset: int
    gzipped: bool


def _read_header(now: Stamp, dimensions: tuple[int, ...]) -> _Header:
    """The dimensions of an IDX file, checked as far as that goes without decompressing it."""
    path = now.path
    with open(path, "rb") as file:
        gzipped = file.read(2) == _GZIP
    try:
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            head = stream.read(4 + 4 * 4)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{path}: expected a whole gzip file, it ends early ({error}); do fetch it again") from error
    if len(head) < 4 or head[:2] != b"\0\0":
        raise SourceError(f"{path}: expected an IDX file (two zero bytes first), received {head[:4]!r}")
    if head[2] != _UNSIGNED_BYTE:
        raise SourceError(f"{path}: expected IDX type 0x08 (unsigned bytes), received 0x{head[2]:02x}; do cast it")
    if head[3] not in dimensions:
        wanted = " or ".join(map(str, dimensions))
        raise SourceError(f"{path}: expected {wanted} dimensions, received {head[3]}; are images and labels swapped?")
    offset = 4 + 4 * head[3]
    if len(head) < offset:
        raise SourceError(
            f"{path}: expected {offset} bytes of header, the file ends after {len(head)}; do fetch it again"
        )
    shape = struct.unpack(f">{head[3]}I", head[4:offset])
    if 0 in shape:
        raise SourceError(f"{path}: expected at least one sample, received an empty file of shape {shape}")
    if not gzipped and now.size != offset + math.prod(shape):
        raise SourceError(_wrong_length(path, shape, now.size - offset))
    return _Header(shape, offset, gzipped)


def _wrong_length(path: str, shape: tuple[int, ...], found: int) -> str:
    word = "truncated" if found < math.prod(shape) else "longer than it says"
    wanted = math.prod(shape)
    return f"{path}: expected {wanted} bytes for shape {shape}, received {found}: it is {word}; do fetch it again"


def _load(now: Stamp, header: _Header) -> tuple[np.ndarray, int]:
    """The array and what it weighs in memory: nothing for a memory map."""
    if not header.gzipped:
        return np.memmap(now.path, np.uint8, "r", offset=header.offset, shape=header.shape), 0
    size = math.prod(header.shape)
    content = bytearray()
    try:
        with gzip.open(now.path) as stream:
            # In blocks, because the header may promise any size, and to the end, where gzip checks its sum; but not
            # beyond what is due, which stops a bomb.
            while len(content) <= header.offset + size and (block := stream.read(_BLOCK)):
                content += block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"{now.path}: truncated or damaged gzip file ({error}); do fetch it again") from error
    if len(content) != header.offset + size:
        raise SourceError(_wrong_length(now.path, header.shape, len(content) - header.offset))
    array = np.frombuffer(content, np.uint8, size, header.offset).reshape(header.shape)
    array.flags.writeable = False
    return array, array.nbytes


class _IdxFile:
    """One IDX file: its header read now, its content when it is asked for."""

    def __init__(self, path: str | os.PathLike[str], dimensions: tuple[int, ...]) -> None:
        self.path = absolute(path)
        self.header = _read_header(stamp(self.path), dimensions)

    def __len__(self) -> int:
        return self.header.shape[0]

    def check_end(self) -> None:
        """Find most truncated gzip files without decompressing them: a whole one ends with its content's length."""
        if not self.header.gzipped:
            return
        with open(self.path, "rb") as file:
            file.seek(-4, os.SEEK_END)
            told = int.from_bytes(file.read(4), "little")
        if told != (self.header.offset + math.prod(self.header.shape)) % (1 << 32):
            self.array()  # several members or padding are legitimate: only reading it all can tell

    def array(self) -> np.ndarray:
        """The content; not to be written to."""
        now = stamp(self.path)

        def load() -> tuple[np.ndarray, int]:
            header = _read_header(now, (len(self.header.shape),))
            if header != self.header:
                raise SourceError(f"{self.path}: the file changed after the source was made; do make the source again")
            return _load(now, header)

        return once(("idx", now, self.header), load)

    def digest(self) -> str:
        """Of the content, so that it is the same gzipped or not; of name, size and time for a huge file."""
        now = stamp(self.path)
        if math.prod(self.header.shape) > DIGEST_BYTES:
            return digest(os.path.basename(self.path), now.size, now.modified_ns, self.header.shape)
        return once(("idx digest", now), lambda: (digest(self.header.shape, self.array().data), 0))


class Idx:
    """Images, and labels if there are any, in IDX files.

    Plain files are memory-mapped; gzipped ones are decompressed once per process.

    Parameters
    ----------
    images : path
        Unsigned bytes (n, height, width) or (n, height, width, channel); ``.gz`` is recognised by its content.
    labels : path, optional
        Unsigned bytes (n,).
    test_images, test_labels : path, optional
        A test set. Its rows follow those of `images`, and `splits` tells them apart.
    classes : sequence of str, optional
        Names of the labels 0, 1, ...; without them the label values that occur are the names.
    name, licence : str, optional
        For logs and reports.

    Raises
    ------
    FileNotFoundError
        A file is not there.
    SourceError
        A file is not IDX, truncated or empty; images and labels differ in number; a label has no class.
    """

    kind = "images"

    def __init__(
        self,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str] | None = None,
        test_images: str | os.PathLike[str] | None = None,
        test_labels: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        *,
        name: str | None = None,
        licence: str | None = None,
    ) -> None:
        if (test_labels is not None) != (test_images is not None and labels is not None):
            raise ValueError(
                "expected labels and test_labels for images and test_images alike; do give both or neither"
            )
        self._images = [_IdxFile(path, (3, 4)) for path in (images, test_images) if path is not None]
        self._labels = [_IdxFile(path, (1,)) for path in (labels, test_labels) if path is not None]
        for file in self._images + self._labels:
            file.check_end()
        self._given_classes = checked_classes(classes)
        self.name = name or "idx"
        self.licence = licence
        for pictures, marks in zip(self._images, self._labels, strict=False):
            if len(pictures) != len(marks):
                raise SourceError(
                    f"expected one label per image, received {len(pictures)} images in {pictures.path} "
                    f"and {len(marks)} labels in {marks.path}"
                )
        shapes = [file.header.shape[1:] for file in self._images]
        if len(set(shapes)) > 1:
            raise SourceError(f"expected test images of shape {shapes[0]} like the others, received {shapes[1]}")
        height, width, *channel = shapes[0]
        self.sample_shape = (height, width, channel[0] if channel else 1)
        self.classes = self._encoded()[1]

    def __repr__(self) -> str:
        return f"Idx({', '.join(repr(file.path) for file in self._images + self._labels)})"

    def __len__(self) -> int:
        return sum(map(len, self._images))

    def __getitem__(self, key: slice) -> Samples:
        return self.take(slice_positions(key, len(self)))

    @property
    def splits(self) -> np.ndarray | None:
        """uint8 (n,): 0 for `images`, 2 for `test_images`; None without a test set."""
        if len(self._images) == 1:
            return None
        return np.repeat(np.array([0, 2], dtype=np.uint8), [len(file) for file in self._images])

    def _encoded(self) -> tuple[np.ndarray, tuple[str, ...]]:
        if not self._labels:
            return np.empty(0, np.int64), ()

        def load() -> tuple[tuple[np.ndarray, tuple[str, ...]], int]:
            numbers = np.concatenate([file.array() for file in self._labels])
            where = " and ".join(file.path for file in self._labels)
            encoded = codes_of_numbers(numbers, self._given_classes, where)
            return encoded, encoded[0].nbytes

        return once(("idx labels", tuple(stamp(file.path) for file in self._labels), self._given_classes), load)

    def labels(self) -> np.ndarray | None:
        """All labels, int64 (n,); None without labels."""
        return self._encoded()[0].copy() if self._labels else None

    def take(self, indices: Any) -> Samples:
        """Samples at positions; see `Source.take`."""
        positions = checked_positions(indices, len(self))
        first = len(self._images[0])
        in_test = positions >= first
        if not in_test.any():
            values = gather(self._images[0].array(), positions)
        elif in_test.all():
            values = gather(self._images[1].array(), positions - first)
        else:
            values = np.empty((len(positions), *self._images[0].header.shape[1:]), dtype=np.uint8)
            values[~in_test] = gather(self._images[0].array(), positions[~in_test])
            values[in_test] = gather(self._images[1].array(), positions[in_test] - first)
        labels = self._encoded()[0][positions] if self._labels else None
        return Samples(np.asarray(values).reshape(len(positions), *self.sample_shape), labels)

    def fingerprint(self) -> str:
        """A hex digest of images, labels, classes and splits."""
        contents = [file.digest() for file in self._images + self._labels]
        return digest("Idx", contents, len(self._images), self.classes)

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON."""
        return {
            "source": "Idx",
            "name": self.name,
            "parameters": {"classes": list(self.classes)},
            "found": [file.path for file in self._images + self._labels],
            "licence": self.licence,
            "skipped": [],
        }
