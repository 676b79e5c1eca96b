"""What a dataset will be, written down before the first byte of it: the plan, whose digest names the build."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from storage.layout import KINDS, SPLITS, Layout

FORMAT = 1
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
    """Bytes reserved per shard in `values` (texts only): at least the largest shard's UTF-8 bytes."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a dataset kind of {KINDS}, received {self.kind!r}")
        if (self.kind == "images") != (self.sample_shape is not None):
            raise ValueError(f"expected sample_shape for images and none for texts, received {self.sample_shape}")
        if (self.kind == "texts") != (self.slot_bytes is not None):
            raise ValueError(f"expected slot_bytes for texts and none for images, received {self.slot_bytes}")
        if unknown := set(self.splits) - set(SPLITS):
            raise ValueError(f"expected splits of {SPLITS}, received {sorted(unknown)}")

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
        per_sample = 8 + 8 + 1
        if self.sample_shape:
            height, width, channels = self.sample_shape
            data = layout.shards * layout.shard * height * width * channels
        else:
            data = layout.shards * int(self.slot_bytes or 0)
            per_sample += 16
        return data + layout.shards * layout.shard * per_sample + 4096 * (layout.shards + 8)
