from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.sources import Idx, SourceError, idx

Write = Callable[..., Path]
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2], dtype=np.uint8)


def test_idx__four_dimensions_are_channels_last(tmp_path: Path, write_idx: Write) -> None:
    colour = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    source = Idx(write_idx(tmp_path / "images", colour))
    assert source.sample_shape == (3, 4, 3)
    assert np.array_equal(source[:].values, colour)


def test_idx__without_labels(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    source = Idx(write_idx(tmp_path / "images", pictures))
    assert source.labels() is None
    assert source[:].labels is None
    assert source.classes == ()


def test_idx__label_values_name_classes_that_have_no_name(
    tmp_path: Path, write_idx: Write, pictures: np.ndarray
) -> None:
    labels = write_idx(tmp_path / "labels", np.array([7, 3, 7, 3, 7, 3, 10, 3, 7], dtype=np.uint8))
    source = Idx(write_idx(tmp_path / "images", pictures), labels)
    assert source.classes == ("3", "7", "10")
    assert source[0:3].labels.tolist() == [1, 0, 1]


def test_idx__gzipped_or_not_is_the_same_content(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    plain = Idx(write_idx(tmp_path / "images", pictures))
    zipped = Idx(write_idx(tmp_path / "images.gz", pictures))
    assert plain.fingerprint() == zipped.fingerprint()


def test_idx__plain_files_are_mapped_and_gzipped_ones_read_once(
    tmp_path: Path, write_idx: Write, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = idx._load
    monkeypatch.setattr(idx, "_load", lambda *given: loads.append(load(*given)) or loads[-1])
    plain, zipped = Idx(write_idx(tmp_path / "images", pictures)), Idx(write_idx(tmp_path / "images.gz", pictures))
    for name in ("images", "images.gz"):
        os.utime(tmp_path / name, (0, 0))
    for _ in range(3):
        plain[0:2]
        zipped[0:2]
    (mapped, mapped_bytes), (held, held_bytes) = loads
    assert isinstance(mapped, np.memmap)
    assert not isinstance(held, np.memmap)
    assert (mapped_bytes, held_bytes) == (0, pictures.nbytes)


def test_idx__rows_of_both_parts_in_one_take(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    source = Idx(write_idx(tmp_path / "a", pictures[:6]), None, write_idx(tmp_path / "b", pictures[6:]))
    rows = [7, 0, 8, 5, 6, 6]
    assert np.array_equal(source.take(rows).values[..., 0], pictures[rows])
    assert source.splits.tolist() == [0] * 6 + [2] * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89PNG\r\n\x1a\n", "two zero bytes first"),
        (b"\0\0\x0d\x03" + bytes(12), "expected IDX type 0x08"),
        (b"\0\0\x08\x02" + bytes(8), "expected 3 or 4 dimensions, received 2"),
        (b"\0\0\x08\x03\0\0", "16 bytes of header"),
        (b"\0\0\x08\x03" + bytes(12), "at least one sample"),
        (b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + bytes(7), "truncated"),
        (b"\0\0\x08\x03" + b"\0\0\0\x02" * 3 + bytes(9), "longer than it says"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(9), "truncated"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx__wrong_file_is_refused_when_made(tmp_path: Path, content: bytes, said: str, zipped: bool) -> None:
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(SourceError, match=said) as caught:
        Idx(path)
    assert str(path) in str(caught.value)


def test_idx__half_a_gzip_file_is_refused_when_made(tmp_path: Path, write_idx: Write) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 10, 10)).astype(np.uint8)
    path = write_idx(tmp_path / "images.gz", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"truncated or damaged gzip file"):
        Idx(path)


def test_idx__flipped_byte_under_gzip_is_found(tmp_path: Path, write_idx: Write) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (50, 10, 10)).astype(np.uint8)
    path = write_idx(tmp_path / "images.gz", noise)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    source = Idx(path)
    with pytest.raises(SourceError, match=r"damaged gzip file"):
        source[:]


def test_idx__gzip_of_two_members_is_read(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    content = write_idx(tmp_path / "images", pictures).read_bytes()
    (tmp_path / "images.gz").write_bytes(gzip.compress(content[:50]) + gzip.compress(content[50:]))
    assert np.array_equal(Idx(tmp_path / "images.gz")[:].values[..., 0], pictures)


def test_idx__label_outside_classes_is_named(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    images, labels = write_idx(tmp_path / "images", pictures), write_idx(tmp_path / "labels", LABELS)
    with pytest.raises(SourceError, match="labels from 0 to 1 for 2 classes, received 2 in row 2"):
        Idx(images, labels, classes=["a", "b"])


def test_idx__images_and_labels_of_different_length(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    images, labels = write_idx(tmp_path / "images", pictures), write_idx(tmp_path / "labels", LABELS[:4])
    with pytest.raises(SourceError, match=r"9 images .* 4 labels"):
        Idx(images, labels)


def test_idx__swapped_files(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    images, labels = write_idx(tmp_path / "images", pictures), write_idx(tmp_path / "labels", LABELS)
    with pytest.raises(SourceError, match="swapped"):
        Idx(labels, images)


def test_idx__test_images_of_another_shape(tmp_path: Path, write_idx: Write, pictures: np.ndarray) -> None:
    images, others = write_idx(tmp_path / "a", pictures), write_idx(tmp_path / "b", pictures[:, 1:])
    with pytest.raises(SourceError, match=r"expected test images of shape \(4, 5\)"):
        Idx(images, None, others)


@pytest.mark.parametrize("given", [{"test_images": "x"}, {"test_labels": "x"}])
def test_idx__labels_for_one_part_only(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="do give both or neither"):
        Idx("images", "labels", **given)


def test_idx__missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"expected a file at {tmp_path}/nowhere"):
        Idx(tmp_path / "nowhere")


@pytest.mark.parametrize("classes", [[], ["a", "a", "b"], "abc", [1, 2, 3]], ids=str)
def test_idx__wrong_classes(tmp_path: Path, write_idx: Write, pictures: np.ndarray, classes: Any) -> None:
    images, labels = write_idx(tmp_path / "images", pictures), write_idx(tmp_path / "labels", LABELS)
    with pytest.raises(ValueError, match=r"expected classes as a list|expected every class once"):
        Idx(images, labels, classes=classes)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_idx__rewritten_within_a_tick_of_the_clock(tmp_path: Path, write_idx: Write, name: str) -> None:
    tick = time.time_ns()
    seen = {}
    for pixel in range(3):
        path = write_idx(tmp_path / name, np.full((2, 3, 4), pixel, dtype=np.uint8))
        os.utime(path, ns=(tick, tick))
        source = Idx(path)
        seen[int(source[:].values.max())] = source.fingerprint()
    assert list(seen) == [0, 1, 2]
    assert len(set(seen.values())) == 3
