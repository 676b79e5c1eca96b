"""Cut the shipped sample images out of the whole of Fashion-MNIST.

``python -m tasks.samples.cut FOLDER TARGET`` reads the four IDX files of Fashion-MNIST in FOLDER and writes those of
the samples to TARGET: 600 training and 100 test images of each class, drawn by a hash of seed, split and row number,
in the order of the whole. The same input gives the same bytes (with zlib; zlib-ng compresses to other bytes with the
same content).
"""

from __future__ import annotations

import argparse
import gzip
import io
import struct
from pathlib import Path

import numpy as np

from tasks.sources.fashion import CHECKSUMS, fashion_mnist
from tasks.sources.selection import seeded_order

PER_CLASS = {"train": 600, "test": 100}
SEED = 0


def chosen_rows(labels: np.ndarray, per_class: int, split: str, seed: int) -> np.ndarray:
    """Rows of a split to keep, ascending, `per_class` of each label.

    Parameters
    ----------
    labels : numpy.ndarray
        Integers (n,).
    per_class : int
    split : str
        Salts the draw, so that the splits are drawn apart.
    seed : int

    Returns
    -------
    numpy.ndarray
        int64.
    """
    order = np.array(seeded_order([f"{split}:{row}".encode() for row in range(len(labels))], seed), dtype=np.int64)
    kept = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(kept))


def idx_bytes(array: np.ndarray) -> bytes:
    """Unsigned bytes as a gzipped IDX file, without name and time so that it depends on the content alone."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as stream:
        stream.write(header + np.ascontiguousarray(array, dtype=np.uint8).tobytes())
    return buffer.getvalue()


def cut(folder: Path, target: Path) -> None:
    """Write the four files of the samples.

    Parameters
    ----------
    folder : pathlib.Path
        With the four files of the whole data set.
    target : pathlib.Path
        Made if it is missing.
    """
    source = fashion_mnist(folder)
    labels, splits = source.labels(), source.splits
    if labels is None or splits is None:  # for the type checker: fashion_mnist has both
        raise ValueError(f"expected labels and splits in {folder}, received none")
    target.mkdir(parents=True, exist_ok=True)
    names = iter(CHECKSUMS)
    for split, code in (("train", 0), ("test", 2)):
        of_split = np.flatnonzero(splits == code)
        rows = of_split[chosen_rows(labels[of_split], PER_CLASS[split], split, SEED)]
        images = np.asarray(source.take(rows).values)
        (target / next(names)).write_bytes(idx_bytes(images[..., 0]))
        (target / next(names)).write_bytes(idx_bytes(labels[rows]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.samples.cut", description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the four IDX files of Fashion-MNIST")
    parser.add_argument("target", type=Path, help="the folder to write to")
    given = parser.parse_args(arguments)
    cut(given.folder, given.target)


if __name__ == "__main__":
    main()
