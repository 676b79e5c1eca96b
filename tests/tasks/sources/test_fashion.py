from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.sources import fashion, fashion_mnist, sample_images

CLASSES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
#: Read before the tests hide it from the sources.
DEBIAN = Path(fashion.DEBIAN_FOLDER)  # the real one: tests that look for data get another
PROVIDED = Path(os.environ.get("DUSKFLOW_DATA", "nowhere"))


@pytest.fixture
def fill(write_idx: Callable[..., Path]) -> Callable[..., Path]:
    """Fills a folder with four small files under the names of Fashion-MNIST, told apart by their pixels."""

    def write(folder: Path, pixel: int = 1, ending: str = ".gz") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        labels = np.arange(20, dtype=np.uint8) % 10
        for part, count in (("train", 20), ("t10k", 10)):
            pictures = np.full((count, 28, 28), pixel, dtype=np.uint8)
            write_idx(folder / f"{part}-images-idx3-ubyte{ending}", pictures)
            write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", labels[:count])
        return folder

    return write


def pixel_of(source: Any) -> int:
    return int(source[0:1].values[0, 0, 0, 0])


@pytest.mark.parametrize("ending", [".gz", ""])
def test_fashion_mnist__explicit_folder(tmp_path: Path, fill: Callable[..., Path], ending: str) -> None:
    source = fashion_mnist(fill(tmp_path / "own", ending=ending))
    assert (len(source), source.sample_shape, source.name) == (30, (28, 28, 1), "fashion_mnist")
    assert list(source.classes) == CLASSES
    assert source.splits.tolist() == [0] * 20 + [2] * 10
    assert "Zalando" in source.describe()["licence"]


def test_fashion_mnist__explicit_folder_without_it_is_an_error_at_once(
    tmp_path: Path, fill: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", str(fill(tmp_path / "debian")))
    (fill(tmp_path / "own") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz in .*own, received t10k-images-idx3"):
        fashion_mnist(tmp_path / "own")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fashion_mnist(tmp_path / "nowhere")


def test_fashion_mnist__places_in_their_order(
    tmp_path: Path, fill: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "cache" / "fashion-mnist", pixel=4)
    assert pixel_of(fashion_mnist(download=False)) == 4
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", str(fill(tmp_path / "debian", pixel=3)))
    assert pixel_of(fashion_mnist(download=False)) == 3
    monkeypatch.setenv("DUSKFLOW_DATA", str(fill(tmp_path / "data", pixel=2)))
    assert pixel_of(fashion_mnist(download=False)) == 2
    fill(tmp_path / "data" / "fashion-mnist", pixel=1)
    assert pixel_of(fashion_mnist(download=False)) == 1
    assert pixel_of(fashion_mnist(fill(tmp_path / "own", pixel=0), download=False)) == 0


def test_fashion_mnist__nowhere_lists_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("DUSKFLOW_DATA", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match="downloading was turned off") as caught:
        fashion_mnist(download=False)
    said = str(caught.value)
    for place in (
        "data/fashion-mnist (DUSKFLOW_DATA)",
        "not-installed (Debian",
        "cache/fashion-mnist (the cache folder)",
    ):
        assert f"{tmp_path}/{place}" in said
    assert "Do install Debian's package dataset-fashion-mnist, or pass path=, or set DUSKFLOW_DATA" in said
    assert "\n" not in said


def test_fashion_mnist__downloaded_into_the_cache_once(
    tmp_path: Path, fill: Callable[..., Path], server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksums = {}
    for path in sorted(fill(tmp_path / "served", pixel=9).iterdir()):
        server.offer(f"/{path.name}", path.read_bytes())
        checksums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(fashion, "URL", server.url)
    monkeypatch.setattr(fashion, "CHECKSUMS", {name: checksums[name] for name in fashion.CHECKSUMS})
    assert pixel_of(fashion_mnist()) == 9
    assert pixel_of(fashion_mnist()) == 9
    assert sorted(server.asked) == [f"/{name}" for name in sorted(checksums)]


def test_fashion_mnist__failed_download_says_where_it_looked(
    tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion, "URL", server.url)
    server.offer("/train-images-idx3-ubyte.gz", b"a page that asks for a password")
    with pytest.raises(FileNotFoundError, match=r"cache folder.*expected sha256 3aede38d.*DUSKFLOW_DATA"):
        fashion_mnist()
    assert len(server.asked) == 1


def test_checksums__are_those_of_the_authors_files() -> None:
    """Debian's files are the authors' without the name and with another time in gzip's header.

    The authors publish MD5 sums, of 31 August 2017; the files under those sums have the SHA-256 sums of the source.
    """
    places = (PROVIDED / "fashion-mnist", PROVIDED, DEBIAN)
    folder = next((place for place in places if (place / "t10k-labels-idx1-ubyte.gz").is_file()), None)
    if folder is None:
        assert not os.environ.get("CI"), "CI installs Debian's package dataset-fashion-mnist"
        pytest.skip("needs Fashion-MNIST in DUSKFLOW_DATA, or Debian's package dataset-fashion-mnist")
    published = {
        "train-images-idx3-ubyte.gz": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 1504176606),
        "train-labels-idx1-ubyte.gz": ("25c81989df183df01b3e8a0aad5dffbe", 1504176606),
        "t10k-images-idx3-ubyte.gz": ("bef4ecab320f06d8554ea6380940ec79", 1504176627),
        "t10k-labels-idx1-ubyte.gz": ("bb300cfdad3c16e7a12a480ee83cd310", 1504176627),
    }
    for name, (md5, seconds) in published.items():
        content = (folder / name).read_bytes()
        body = content[10:] if not content[3] & 8 else content[content.index(b"\0", 10) + 1 :]
        named = name.removesuffix(".gz").encode() + b"\0"
        original = b"\x1f\x8b\x08\x08" + seconds.to_bytes(4, "little") + content[8:10] + named + body
        assert hashlib.md5(original, usedforsecurity=False).hexdigest() == md5
        assert hashlib.sha256(original).hexdigest() == fashion.CHECKSUMS[name]


def test_sample_images__balanced_and_apart() -> None:
    source = sample_images()
    values, labels = source[:]
    assert (len(source), source.sample_shape, source.name) == (7000, (28, 28, 1), "sample_images")
    assert np.bincount(source.splits).tolist() == [6000, 0, 1000]
    assert np.bincount(labels[:6000]).tolist() == [600] * 10
    assert np.bincount(labels[6000:]).tolist() == [100] * 10
    assert len({picture.tobytes() for picture in values}) == 7000
    # Neighbours must not be of one class, as they would be in files sorted by class.
    assert all(len(set(labels[start : start + 100].tolist())) >= 8 for start in range(0, 7000, 100))


def test_sample_images__pictures_are_of_their_class() -> None:
    """A picture's nearest mean is its class for 68 % of Fashion-MNIST; wrong rows would give 10 %."""
    values, labels = sample_images()[:]
    flat = values.reshape(7000, -1).astype(np.float32)
    means = np.stack([flat[:6000][labels[:6000] == code].mean(0) for code in range(10)])
    nearest = ((flat[6000:, np.newaxis] - means) ** 2).sum(2).argmin(1)
    assert 0.6 < (nearest == labels[6000:]).mean() < 0.75


def test_sample_images__shipped_with_the_notice() -> None:
    folder = Path(fashion.__file__).parent.parent / "samples"
    assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE-fashion-mnist").read_text()
    shipped = sum(path.stat().st_size for path in folder.glob("*.gz"))
    assert 2_500_000 < shipped < 3_500_000
    assert all(gzip.decompress(path.read_bytes())[:3] == b"\0\0\x08" for path in folder.glob("*.gz"))
