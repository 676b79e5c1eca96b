"""The command ``duskflow noise-gallery``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def gallery_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to a parser; ``command(name, run, text)`` makes one."""
    gallery = command("noise-gallery", _gallery, "Write a page that shows every noise at every severity.")
    gallery.add_argument("--output", metavar="FILE", type=Path, help="where to (default: noise-gallery.html)")
    gallery.add_argument("--images", metavar="PATH", type=Path, help="an image or a folder of some (default: shipped)")
    gallery.add_argument("--texts", metavar="PATH", type=Path, help="a text file, a sample per line (default: shipped)")
    gallery.add_argument("--seed", metavar="N", type=int, default=0, help="of the noises (default: 0)")
    gallery.add_argument("--only", metavar="NAME", nargs="+", help="just these noises, such as Gaussian")
    gallery.add_argument(
        "--sheets", metavar="FOLDER", type=Path, help="write noise-gallery.md and its images/ there instead of a page"
    )


def _gallery(options: argparse.Namespace) -> int:
    from pipeline.gallery import write_gallery, write_sheets
    from pipeline.gallery.samples import read_images, read_texts

    if options.sheets is not None:
        if options.output or options.images or options.texts or options.only:
            raise ValueError("expected --sheets with no option but --seed; it shows every noise on the shipped samples")
        print(f"gallery: {write_sheets(options.sheets, seed=options.seed).resolve()}")
        return 0
    page = write_gallery(
        options.output or "noise-gallery.html",
        images=None if options.images is None else read_images(options.images),
        texts=None if options.texts is None else read_texts(options.texts),
        seed=options.seed,
        only=options.only,
    )
    print(f"gallery: {page.resolve()}")
    return 0
