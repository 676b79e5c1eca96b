"""PNG and JPEG files as pixels: for sources that read them, and for datasets that keep them as they are."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

S = TypeVar("S")
T = TypeVar("T")

CHANNELS = {"RGB": 3, "L": 1}
#: More pixels than any camera's picture; a small file that claims more is meant to exhaust the memory.
MAX_PIXELS = 89_478_485
#: Pillow decodes without the interpreter's lock, so a few threads help even inside a worker's own.
_THREADS = min(4, os.cpu_count() or 1)


def decode_image(file: str | bytes | memoryview, size: tuple[int, int], mode: str) -> np.ndarray:
    """One PNG or JPEG file as pixels.

    Turned upright by its EXIF orientation, converted to `mode` (an alpha channel is dropped, 16 bits are scaled
    to 8) and resized bilinearly.

    Parameters
    ----------
    file : str or bytes
        Path or content of the file.
    size : tuple of int
        (height, width) of the result.
    mode : {"RGB", "L"}
        Colour or grey.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, 3 or 1).

    Raises
    ------
    Exception
        Of many kinds, on damaged files: Pillow's readers are like that.
    """
    from PIL import Image, ImageOps

    with Image.open(file if isinstance(file, str) else io.BytesIO(file), formats=("PNG", "JPEG")) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than the {MAX_PIXELS} that are accepted")
        upright = ImageOps.exif_transpose(image)
        resized = _converted(upright, mode).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.uint8).reshape(*size, CHANNELS[mode])


def _converted(image: Any, mode: str) -> Any:
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow clips 16-bit grey at 255, which would leave nearly white pictures.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


class ImageError(ValueError):
    """A file that cannot be decoded, and its place among the others."""

    def __init__(self, reason: str, place: int) -> None:
        super().__init__(reason)
        self.place = place


def in_threads(function: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Apply a function that releases the interpreter's lock to items, in a few threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def decode_images(files: Sequence[bytes | memoryview], shape: tuple[int, ...]) -> np.ndarray:
    """Decode kept files of images.

    Parameters
    ----------
    files : sequence of bytes
    shape : tuple of int
        Height, width, channels (1 or 3) of every image.

    Returns
    -------
    ndarray of uint8, shape (n, *shape)

    Raises
    ------
    ImageError
        If one cannot be decoded.
    """
    height, width, channels = shape
    mode = next(name for name, count in CHANNELS.items() if count == channels)
    out = np.empty((len(files), *shape), np.uint8)

    def fill(place: int) -> None:
        try:
            out[place] = decode_image(files[place], (height, width), mode)
        except Exception as error:  # Pillow's readers raise many kinds on damaged files
            raise ImageError(str(error), place) from error

    in_threads(fill, range(len(files)))
    return out
