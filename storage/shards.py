"""The content of a shard, checked and encoded: its file, and the record that says what the file must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage import arrays, statistics
from storage.errors import StorageError
from storage.hashing import hash_bytes
from storage.images import ImageError, decode_images
from storage.layout import SPLITS, columns
from storage.plan import Plan
from storage.records import Record
from storage.texts import encode, offsets_of


@dataclass(frozen=True)
class Shard:
    """The content of one shard."""

    values: np.ndarray | Sequence[str] | Sequence[bytes]
    """uint8 (n, height, width, channel); n texts; or n files of images, if the plan keeps them."""
    labels: np.ndarray
    """int64 (n,), -1 where there is no label."""
    ids: np.ndarray
    """int64 (n,)."""
    split: np.ndarray
    """uint8 (n,), see `storage.layout.SPLITS`."""


def encode_shard(plan: Plan, number: int, shard: Shard) -> tuple[Record, list[arrays.Piece]]:
    """Encode a shard without writing it: its record, and the pieces of its file."""
    start, stop = plan.layout.bounds(number)
    values: Any = shard.values
    held = {"labels": shard.labels, "ids": shard.ids, "split": shard.split}
    counted: Any = values
    if plan.ragged:
        samples = [encode(text) for text in values] if plan.kind == "texts" else list(values)
        slot = int(plan.slot_bytes or 0)
        held["offsets"] = offsets_of(samples, start=number * slot)
        _check_slot(plan, number, int(held["offsets"][-1, 1]) - number * slot)
        content = hash_bytes(b"".join(samples))
        pieces = arrays.encode_values(plan, samples)
        if plan.kind == "images":
            counted = _decode(plan, samples, shard.ids)
    else:
        shape = (stop - start, *(plan.sample_shape or ()))
        if values.dtype != np.uint8 or values.shape != shape:
            raise ValueError(
                f"expected images of shard {number} as uint8 of shape {shape}, received {values.dtype} of shape "
                f"{values.shape}"
            )
        pieces = arrays.encode_images(plan, values)
        content = hash_bytes(*pieces)
    _check_columns(plan, number, held, stop - start)
    whole = content if not plan.ragged else hash_bytes(*pieces)
    record = Record(
        shard=number,
        bytes=sum(len(piece) for piece in pieces),
        hash=whole.hex(),
        content=content.hex(),
        statistics=statistics.shard_statistics(counted, shard.labels, shard.split, len(plan.classes)),
        columns=held,
    )
    return record, pieces


def _decode(plan: Plan, files: Sequence[bytes], ids: np.ndarray) -> np.ndarray:
    try:
        return decode_images(files, plan.sample_shape or ())
    except ImageError as error:
        raise ValueError(
            f"expected PNG or JPEG files for {plan.name!r}, the one with id {int(ids[error.place])} is "
            f"unreadable ({error}); replace it, or leave it out"
        ) from error


def _check_columns(plan: Plan, number: int, held: Mapping[str, np.ndarray], count: int) -> None:
    for variable in columns(plan.ragged):
        found, shape = held[variable.name], arrays.column_shape(variable, count)
        if found.dtype != variable.dtype or found.shape != shape:
            raise ValueError(
                f"expected {variable.name} of shard {number} as {variable.dtype} of shape {shape}, received "
                f"{found.dtype} of shape {found.shape}"
            )
    for name, low, high in (("labels", -1, len(plan.classes)), ("split", 0, len(SPLITS))):
        found = held[name]
        if found.size and not (low <= found.min() and found.max() < high):
            raise ValueError(
                f"expected {name} of {plan.name!r} from {low} to {high - 1}, received {found.min()} to "
                f"{found.max()} in shard {number}"
            )


def _check_slot(plan: Plan, number: int, size: int) -> None:
    slot = int(plan.slot_bytes or 0)
    if size > slot:
        raise StorageError(
            f"shard {number} of {plan.name!r} holds {size:,} bytes of {plan.kind}, more than the "
            f"{slot:,} planned; a noise that lengthens texts must say so by its attribute `growth`"
        )
