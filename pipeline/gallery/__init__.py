"""A page that shows every noise of the catalogue at every severity, and the same as contact sheets for the docs."""

from pipeline.gallery.page import write_gallery
from pipeline.gallery.sheets import write_sheets

__all__ = ["write_gallery", "write_sheets"]
