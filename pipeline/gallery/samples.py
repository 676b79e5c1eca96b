"""What the noises are shown on: a shipped grey picture, a photograph and three sentences, or files of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_IMAGES, MOST_TEXTS = 8, 20
MOST_SIDE = 224
"""Longest side of a picture of the user's; larger ones are scaled down before noise is added."""
PHOTOGRAPH_SIDE = 128
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_SHOE = 179  # a row of the shipped part of Fashion-MNIST: edges, texture, dark and white
_SQUARE = (60, 0, 487, 427)  # of scikit-learn's photograph of a temple: roof, sky and leaves

TEXTS = (
    "The acting is brilliant, but the plot doesn't make sense: 2 hours of my life that I won't get back!",
    "I loved it. A small film about friendship and loss, shot beside the sea in winter; go and see it before 31 May.",
    "Réalisé à Paris, gedreht in Straßenbahnen, 日本語字幕あり: 10/10 😀",
)


def sample_images(side: int = PHOTOGRAPH_SIDE) -> list[np.ndarray]:
    """A grey picture of 28 x 28 and a photograph in colour, each uint8 (height, width, channel)."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    from tasks import sources

    grey = sources.sample_images().take([_SHOE]).values
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    small = photograph.resize((side, side), Image.Resampling.LANCZOS, box=_SQUARE)
    return [np.asarray(grey)[0], np.asarray(small)]


def read_images(path: Path) -> list[np.ndarray]:
    """Read a picture, or those in a folder by name: uint8 (height, width, channel), one channel or three.

    Raises
    ------
    FileNotFoundError
        When there is nothing at `path`.
    ValueError
        When a folder holds no picture or too many, or a file is no picture of 8 bits.
    """
    if not path.exists():
        raise FileNotFoundError(f"expected an image or a folder with images, found nothing at {path}")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES) if path.is_dir() else [path]
    if not 0 < len(files) <= MOST_IMAGES:
        raise ValueError(
            f"expected 1 to {MOST_IMAGES} images ({', '.join(_SUFFIXES)}) in {path}, found {len(files)}; do name one "
            "image or another folder"
        )
    return [_read_image(file) for file in files]


def _read_image(file: Path) -> np.ndarray:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image: Any = ImageOps.exif_transpose(opened)
            image.load()
    except Exception as error:  # Pillow's readers raise many kinds on damaged files, and the user needs the name
        raise ValueError(f"expected an image, {file} is unreadable; do replace it") from error
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"expected an image of 8 bits per channel, {file} has more; do convert it first")
    image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    values = np.array(image)
    return values[:, :, None] if values.ndim == 2 else values


def read_texts(path: Path) -> list[str]:
    """Read the lines of a UTF-8 file that are not blank.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is no text in UTF-8, empty, or has too many lines.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a text file with a sample per line, found none at {path}")
    try:
        # Not splitlines, which would also cut at form feeds and Unicode's own separators.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8, {path} has another byte at {error.start}; do convert it") from error
    texts = [line.strip() for line in lines if line.strip()]
    if not 0 < len(texts) <= MOST_TEXTS:
        raise ValueError(f"expected 1 to {MOST_TEXTS} lines of text in {path}, found {len(texts)}; do choose some")
    return texts


def check_samples(images: Sequence[np.ndarray], texts: Sequence[str]) -> None:
    """Refuse what cannot be shown."""
    for image in images:
        shown = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3
        if not shown or image.shape[2] not in (1, 3) or not image.size:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"expected images as uint8 (height, width, 1 or 3), received {found}")
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected a list of strings as texts, received {type(texts).__name__}")
