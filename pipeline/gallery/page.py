"""The gallery as one HTML file that holds everything it shows and opens without a network."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from pipeline.gallery.catalogue import Entry, catalogue, marked_texts, noisy_images
from pipeline.gallery.marking import Piece, visible
from pipeline.gallery.samples import PHOTOGRAPH_SIDE, TEXTS, check_samples, sample_images
from pipeline.report.pictures import psnr

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Shown:
    """A picture; `note` says what stands below it."""

    uri: str
    width: int
    height: int
    note: str
    text: str


@dataclass(frozen=True)
class Card:
    """A noise with its pictures of each image, or the pieces of each text; clean first, then by severity."""

    entry: Entry
    rows: list[list[Shown]]
    texts: list[list[list[Piece]]]


def write_gallery(
    target: str | Path = "noise-gallery.html",
    *,
    images: Sequence[np.ndarray] | None = None,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    only: Sequence[str] | None = None,
) -> Path:
    """Write a page with every noise at every severity.

    Parameters
    ----------
    target : path
        The HTML file; its folder is made, an old file is replaced in one move.
    images : sequence of ndarray of uint8, shape (height, width, 1 or 3), optional
        A shipped grey picture and a photograph by default.
    texts : sequence of str, optional
        Three sentences by default.
    seed : int
        Of the noises; a sample's id is its place.
    only : sequence of str, optional
        Names of the noises wanted.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    ValueError
        When `target` is a folder, a sample cannot be shown, or a name is not in the catalogue.

    Notes
    -----
    The same samples and seed give the same bytes.
    """
    target = Path(target)
    if target.is_dir():
        raise ValueError(f"expected a file to write the gallery to, received the folder {target}; do add gallery.html")
    entries = catalogue(only)
    shown = sample_images() if images is None else images
    sentences = TEXTS if texts is None else texts
    check_samples(shown, sentences)
    html = render([_card(entry, shown, sentences, seed) for entry in entries], seed)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(html, encoding="utf-8")
    partial.replace(target)
    return target


def _card(entry: Entry, images: Sequence[np.ndarray], texts: Sequence[str], seed: int) -> Card:
    if entry.kind == "texts":
        marked = [[[Piece("same", text)], *marked_texts(entry, text, place, seed)] for place, text in enumerate(texts)]
        return Card(entry, [], marked)
    fitting = [(place, image) for place, image in enumerate(images) if image.shape[2] == 3 or not entry.colour]
    rows = []
    for place, image in fitting:
        height, width, channels = image.shape
        size = f"{width} × {height}{', grey' if channels == 1 else ''}"
        row = [_shown(image, size, f"sample {place + 1}, clean")]
        for severity, noisy in enumerate(noisy_images(entry, image, place, seed), start=1):
            text = f"sample {place + 1}, {entry.name}, severity {severity}"
            row.append(_shown(noisy, decibels(psnr(image, noisy)), text))
        rows.append(row)
    return Card(entry, rows, [])


def decibels(ratio: float) -> str:
    """A PSNR to read."""
    return f"{ratio:.1f} dB" if math.isfinite(ratio) else "unchanged"


def _shown(image: np.ndarray, note: str, text: str) -> Shown:
    times = max(1, PHOTOGRAPH_SIDE // max(image.shape[:2]))
    uri = "data:image/png;base64," + base64.b64encode(png(image)).decode("ascii")
    return Shown(uri, image.shape[1] * times, image.shape[0] * times, note, text)


def png(image: np.ndarray) -> bytes:
    """A uint8 picture (height, width, 1 or 3) as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def render(cards: Sequence[Card], seed: int) -> str:
    """The page as text."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.gallery", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    sheets = (("pipeline.report", "page.css"), ("pipeline.gallery", "gallery.css"))
    style = "".join(resources.files(where).joinpath("templates", name).read_text("utf-8") for where, name in sheets)
    return environment.get_template("gallery.html.j2").render(
        kinds=[
            (kind, title, [card for card in cards if card.entry.kind == kind])
            for kind, title in (("images", "Images"), ("texts", "Texts"))
        ],
        seed=seed,
        # Our own files are the only text that is not escaped.
        style=Markup(style),
        policy=_POLICY,
    )
