"""The arrays of a dataset, and the arithmetic from bytes to samples per chunk and shard. No input or output here."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Variable:
    """One array of a dataset."""

    name: str
    dims: tuple[str, ...]
    """Names of the dimensions; the first is the one that shards cut."""
    dtype: str
    meaning: str


IMAGES = Variable("images", ("sample", "height", "width", "channel"), "uint8", "pixels, 0 to 255")
VALUES = Variable("values", ("byte",), "uint8", "bytes of all samples; each shard owns one slot of equal size")
OFFSETS = Variable("offsets", ("sample", "bound"), "int64", "first and past-the-last byte of each sample in `values`")
LABELS = Variable("labels", ("sample",), "int64", "index into the manifest's classes; -1 where there is no label")
IDS = Variable("ids", ("sample",), "int64", "permanent id: the sample's place in its source; appended samples count on")
SPLIT = Variable("split", ("sample",), "uint8", "0 train, 1 validation, 2 test")

KINDS = ("images", "texts")
COLUMN_ROWS = 2**20
"""Rows in a file of a column: a million shards have a few hundred such files, not millions."""


def columns(ragged: bool) -> tuple[Variable, ...]:
    """The arrays with one row per sample that are small enough to be kept in large files."""
    return (OFFSETS, LABELS, IDS, SPLIT) if ragged else (LABELS, IDS, SPLIT)


def variables(ragged: bool) -> tuple[Variable, ...]:
    """All arrays of a dataset: its samples, which shards cut, and the columns."""
    return (VALUES if ragged else IMAGES, *columns(ragged))


@dataclass(frozen=True)
class Layout:
    """How many samples lie in a shard and in an inner chunk.

    A shard is the unit that is written, committed, verified and read; it is one file per array. Only the first axis
    is cut, so a shard of uncompressed images is their plain C-order bytes.
    """

    count: int
    """Samples in the dataset."""
    shard: int
    """Samples per shard; the last shard may hold fewer."""
    chunk: int
    """Samples per inner chunk; divides `shard`."""

    def __post_init__(self) -> None:
        if min(self.count, self.shard, self.chunk) < 1 or self.shard % self.chunk:
            raise ValueError(
                f"expected count, shard and chunk of at least 1 with chunk dividing shard, received {self}; "
                "use layout.plan_layout"
            )

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.shard)

    def bounds(self, shard: int) -> tuple[int, int]:
        """First and past-the-last row of a shard."""
        if not 0 <= shard < self.shards:
            raise IndexError(f"expected a shard number from 0 to {self.shards - 1}, received {shard}")
        return shard * self.shard, min((shard + 1) * self.shard, self.count)


def plan_layout(
    count: int,
    sample_bytes: float,
    *,
    shard_bytes: int = 32 * MIB,
    minimum_shard_bytes: int = MIB,
    minimum_shards: int = 48,
    chunk_bytes: int = 4 * MIB,
) -> Layout:
    """Choose samples per shard and per chunk.

    Shards aim at `shard_bytes`; small data is cut into up to `minimum_shards` as long as each keeps
    `minimum_shard_bytes`, so that every worker has something to do.

    Parameters
    ----------
    count : int
        Samples.
    sample_bytes : float
        Bytes of one sample, or their mean for texts.
    shard_bytes, minimum_shard_bytes, minimum_shards, chunk_bytes : int
        See above; `chunk_bytes` bounds an inner chunk (at least one sample).

    Returns
    -------
    Layout
    """
    if count < 1:
        raise ValueError(f"expected at least 1 sample, received {count}; a dataset cannot be empty")
    sizes = (shard_bytes, minimum_shard_bytes, minimum_shards, chunk_bytes)
    if min(sizes) < 1:
        raise ValueError(f"expected sizes of shards and chunks of at least 1, received {sizes}")
    total = count * max(sample_bytes, 1)
    for_size = -(-total // shard_bytes)
    for_work = min(minimum_shards, total // minimum_shard_bytes)
    shards = int(min(max(for_size, for_work, 1), count))
    shard = -(-count // shards)
    pieces = int(min(shard, max(1, -(-shard * max(sample_bytes, 1) // chunk_bytes))))
    chunk = -(-shard // pieces)
    # As few whole chunks as hold the shard: of large samples one chunk more is much more.
    return Layout(count=count, shard=chunk * -(-shard // chunk), chunk=chunk)
