"""What a dataset will be, written down before the first byte of it: the plan, whose digest names the build."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from storage.layout import KINDS, SPLITS, Layout

FORMAT = 2
"""Version of the on-disk layout of builds; part of every plan's digest."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode("utf-8", "backslashreplace")).hexdigest()


def build_key(name: str, recipe: dict[str, Any]) -> str:
    """Name of the build of a dataset by a recipe."""
    return digest({"format": FORMAT, "name": name, "recipe": recipe})[:16]


@dataclass(frozen=True)
class Plan:
    """Everything that the bytes of a dataset depend on. Shard ``i`` is a pure function of (plan, i)."""

    name: str
    """Name of the dataset, such as ``clean`` or ``gaussian-3``."""
    kind: str
    """``images`` or ``texts``."""
    layout: Layout
    recipe: dict[str, Any]
    """How the samples are made: the source's fingerprint, the seed and the shard size, or the input's version and
    the noise. Everything else in the plan follows from it."""
    sample_shape: tuple[int, int, int] | None = None
    """Height, width, channels of images; None for texts."""
    classes: tuple[str, ...] = ()
    """Names of the labels."""
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and past-the-last row of each split that has rows."""
    slot_bytes: int | None = None
    """Bytes reserved per shard in `values` (texts, and images kept as files): at least the largest shard's bytes."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a dataset kind of {KINDS}, received {self.kind!r}")
        if (self.kind == "images") != (self.sample_shape is not None):
            raise ValueError(f"expected sample_shape for images and none for texts, received {self.sample_shape}")
        if self.kind == "texts" and self.slot_bytes is None:
            raise ValueError("expected slot_bytes for texts, received None")
        if unknown := set(self.splits) - set(SPLITS):
            raise ValueError(f"expected splits of {SPLITS}, received {sorted(unknown)}")

    @property
    def ragged(self) -> bool:
        """Whether samples differ in bytes: texts, and images kept as files. They lie in `values`, by `offsets`."""
        return self.slot_bytes is not None

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the whole plan."""
        return digest(self.to_json())

    @property
    def key(self) -> str:
        """Name of the build, known before the source has been surveyed."""
        return build_key(self.name, self.recipe)

    def to_json(self) -> dict[str, Any]:
        """Turn into plain JSON values."""
        return json.loads(canonical({"format": FORMAT, **asdict(self)}))

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Plan:
        """Read back what `to_json` wrote."""
        if (found := document.get("format")) != FORMAT:
            raise ValueError(f"expected a plan of format {FORMAT}, received {found!r}; rebuild with this version")
        fields = {k: v for k, v in document.items() if k != "format"}
        shape = fields["sample_shape"]
        return cls(
            **{
                **fields,
                "layout": Layout(**fields["layout"]),
                "sample_shape": tuple(shape) if shape else None,
                "classes": tuple(fields["classes"]),
                "splits": {k: (v[0], v[1]) for k, v in fields["splits"].items()},
            }
        )

    @property
    def expected_bytes(self) -> int:
        """Upper bound of what the finished dataset takes on disk, for the check of free space."""
        layout = self.layout
        per_sample = 2 * (8 + 8 + 1 + (16 if self.ragged else 0))  # in the records, and in the columns
        if self.slot_bytes is not None:
            data = layout.shards * int(self.slot_bytes * 1.01 + 64)  # what does not compress grows a little
        else:
            data = layout.shards * layout.shard * math.prod(self.sample_shape or ())
        return data + layout.shards * layout.shard * per_sample + 4096 * (2 * layout.shards + 16)
