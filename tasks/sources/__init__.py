"""Where raw samples come from: files and folders of images and texts, arrays, and a few data sets by name.

A source gives samples by slice (``source[0:100]``) or by position (``source.take([5, 3])``), is deterministic and can
be pickled. Anything with the methods of `Source` is a source.
"""

from tasks.sources.arrays import Arrays
from tasks.sources.fashion import fashion_mnist, sample_images
from tasks.sources.idx import Idx
from tasks.sources.images import ImageFolder
from tasks.sources.reviews import imdb, sample_texts
from tasks.sources.samples import SPLITS, Samples, Source, SourceError
from tasks.sources.selection import Selection
from tasks.sources.tables import Table
from tasks.sources.texts import TextFolder

__all__ = [
    "SPLITS",
    "Arrays",
    "Idx",
    "ImageFolder",
    "Samples",
    "Selection",
    "Source",
    "SourceError",
    "Table",
    "TextFolder",
    "fashion_mnist",
    "imdb",
    "sample_images",
    "sample_texts",
]
