"""Pictures for the page: samples clean, noisy and denoised as PNG data URIs, with their PSNR."""

from __future__ import annotations

import base64
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MOST_SAMPLES = 12
MOST_PIXELS = 96
"""Longest side of a picture in the page; larger ones are scaled down, or the page would weigh megabytes."""
_KINDS = ("clean", "noisy", "denoised")


@dataclass(frozen=True)
class Picture:
    """One picture; `psnr` in dB against the clean one, None for the clean one itself."""

    uri: str
    psnr: float | None
    text: str


@dataclass(frozen=True)
class Strip:
    """The same samples in one condition."""

    kind: str
    pictures: tuple[Picture, ...]
    mean_psnr: float | None


@dataclass(frozen=True)
class Grid:
    """Samples of one dataset: clean above noisy above denoised."""

    data: str
    strips: tuple[Strip, ...]
    size: tuple[int, int]
    scaled: bool


def read_grids(path: Path) -> list[Grid]:
    """Read ``examples.npz``: arrays "D/clean", "D/noisy", "D/denoised", uint8 (sample, height, width, channel).

    Raises
    ------
    ValueError
        When the file is damaged or an array has another shape or dtype.
    """
    try:
        # Opened here, because NumPy does not close what it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"expected examples in {path.name}, received an unreadable file ({error})") from error
    names = dict.fromkeys(name.rpartition("/")[0] for name in arrays if "/" in name)
    return [_grid(name, arrays) for name in names]


def _grid(data: str, arrays: Mapping[str, Any]) -> Grid:
    found = {kind: arrays[f"{data}/{kind}"] for kind in _KINDS if f"{data}/{kind}" in arrays}
    for kind, values in found.items():
        if values.ndim != 4 or values.dtype != "uint8":
            raise ValueError(
                f"expected {data}/{kind} as uint8 (sample, height, width, channel), "
                f"received {values.dtype} {values.shape}"
            )
    clean = found.get("clean")
    strips = tuple(_strip(data, kind, values[:MOST_SAMPLES], clean) for kind, values in found.items())
    height, width = next(iter(found.values())).shape[1:3] if found else (0, 0)
    return Grid(data=data, strips=strips, size=(height, width), scaled=max(height, width) > MOST_PIXELS)


def _strip(data: str, kind: str, values: np.ndarray, clean: np.ndarray | None) -> Strip:
    ratios: Sequence[float | None] = [None] * len(values)
    if kind != "clean" and clean is not None and clean.shape[1:] == values.shape[1:]:
        ratios = [psnr(one, other) for one, other in zip(clean, values, strict=False)]
    finite = [ratio for ratio in ratios if ratio is not None and math.isfinite(ratio)]
    pictures = tuple(
        Picture(png_uri(value), ratio, f"sample {place}, {kind}" + (f", {data}" if kind != "clean" else ""))
        for place, (value, ratio) in enumerate(zip(values, ratios, strict=False), start=1)
    )
    return Strip(kind=kind, pictures=pictures, mean_psnr=math.fsum(finite) / len(finite) if finite else None)


def psnr(clean: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB; infinite where they are equal."""
    error = float(np.mean((clean.astype("float64") - other.astype("float64")) ** 2))
    return 10 * math.log10(255.0**2 / error) if error else math.inf


def png_uri(value: np.ndarray) -> str:
    """A uint8 picture (height, width, channel) as a ``data:image/png`` URI; one channel is grey, three are colour."""
    from PIL import Image

    # Two or more than four channels have no colour of their own: the first one is shown.
    shown = value if value.shape[2] in (3, 4) else value[:, :, 0]
    image = Image.fromarray(shown)
    if max(image.size) > MOST_PIXELS:
        image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
