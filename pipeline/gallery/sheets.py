"""The gallery for the docs: a page in Markdown and a contact sheet for each noise of images."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.gallery.catalogue import Entry, catalogue, marked_texts, noisy_images
from pipeline.gallery.marking import Piece, visible
from pipeline.gallery.page import decibels
from pipeline.gallery.samples import TEXTS, sample_images
from pipeline.report.pictures import psnr

PAGE = "noise-gallery.md"
_SIDE = 84  # 28 x 3
_GAP = 4
_INTRODUCTION = """# Noise gallery

Every noise at every severity, seed 0: a picture of 28 x 28 (three times as large) and a photograph of {side} x {side},
clean and at severity 1 to 5 from left to right. Sheets have 256 colours to be small. [noise.md](noise.md) says how the
noises are used.

`duskflow noise-gallery` writes a page like this with all colours, which can show images and texts of your own:

```
duskflow noise-gallery --images photos/ --texts sentences.txt --seed 1 --only Gaussian
```

or, from Python, `pipeline.gallery.write_gallery("gallery.html", images=[...], texts=[...])`. The file holds all that it
shows. This page and its pictures were written by `duskflow noise-gallery --sheets docs`: change nothing by hand.
"""


def write_sheets(folder: str | Path, *, seed: int = 0) -> Path:
    """Write ``noise-gallery.md``, and ``images/noise-NAME.png`` for each noise of images.

    Parameters
    ----------
    folder : path
        Such as ``docs``. Sheets of noises that are not in the catalogue any more are removed.
    seed : int
        Of the noises.

    Returns
    -------
    Path
        The page.
    """
    folder = Path(folder)
    pictures = folder / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    entries = catalogue()
    images = sample_images(_SIDE)
    parts = [_INTRODUCTION.format(side=_SIDE), "## Images\n"]
    written = set()
    for entry in entries:
        if entry.kind != "images":
            continue
        file = pictures / f"noise-{_dashed(entry.name)}.png"
        written.add(file)
        shown = [
            [image, *noisy_images(entry, image, place, seed)]
            for place, image in enumerate(images)
            if image.shape[2] == 3 or not entry.colour
        ]
        file.write_bytes(contact_sheet(shown))
        parts.append("\n".join(_section(entry, f"images/{file.name}", shown)) + "\n")
    for old in set(pictures.glob("noise-*.png")) - written:
        old.unlink()
    parts.append("## Texts\n\nWhat a noise wrote is underlined, what it left out is struck through.\n")
    parts += ["\n".join(_table(entry, seed)) + "\n" for entry in entries if entry.kind == "texts"]
    page = folder / PAGE
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def _dashed(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def contact_sheet(rows: Sequence[Sequence[np.ndarray]]) -> bytes:
    """Pictures side by side as a PNG file of 256 colours; small ones are magnified, pixel by pixel."""
    from PIL import Image

    height, width = (count * (_SIDE + _GAP) - _GAP for count in (len(rows), len(rows[0])))
    sheet = np.full((height, width, 3), 255, np.uint8)
    for down, row in enumerate(rows):
        for right, picture in enumerate(row):
            times = _SIDE // picture.shape[0]
            large = picture.repeat(times, axis=0).repeat(times, axis=1)
            top, left = down * (_SIDE + _GAP), right * (_SIDE + _GAP)
            sheet[top : top + _SIDE, left : left + _SIDE] = large
    buffer = io.BytesIO()
    few = Image.fromarray(sheet).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _section(entry: Entry, picture: str, rows: Sequence[Sequence[np.ndarray]]) -> Iterator[str]:
    yield f"### {entry.name}\n"
    yield f"{_escaped(entry.summary)} `{entry.written[0]}`\n"
    yield f"![{entry.name}: clean, then severity 1 to 5]({picture})\n"
    yield "| severity | 1 | 2 | 3 | 4 | 5 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for place, name in enumerate(entry.parameters):
        yield f"| `{name}` | {' | '.join(strength[place] for strength in entry.strengths)} |"
    for clean, *noisy in rows:
        what = "28 x 28, grey" if clean.shape[2] == 1 else "photograph"
        yield f"| PSNR, {what} | {' | '.join(decibels(psnr(clean, one)) for one in noisy)} |"


def _table(entry: Entry, seed: int) -> Iterator[str]:
    yield f"### {entry.name}\n"
    yield f"{_escaped(entry.summary)} `{entry.written[0]}`\n"
    yield f"| severity | {', '.join(f'`{name}`' for name in entry.parameters)} | text |"
    yield "| --- | --- | --- |"
    for place, text in enumerate(TEXTS):
        yield f"| clean | | {_escaped(text)} |"
        for severity, pieces in enumerate(marked_texts(entry, text, place, seed), start=1):
            strength = ", ".join(entry.strengths[severity - 1])
            yield f"| {severity} | {strength} | {''.join(map(_marked, pieces))} |"


def _marked(piece: Piece) -> str:
    tag = {"new": "ins", "gone": "del"}.get(piece.kind)
    return f"<{tag}>{_escaped(visible(piece.text))}</{tag}>" if tag else _escaped(piece.text)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: none of its signs, and white space that is not taken together."""
    plain = re.sub(r"[\\`*_{}\[\]|~]", lambda sign: f"&#{ord(sign[0])};", html.escape(text, quote=False))
    return re.sub(r"(?<=\s)\s|\n", "&#160;", plain)
