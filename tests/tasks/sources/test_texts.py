from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.sources import SourceError, TextFolder


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """aclImdb in small, with the files that it has besides the reviews."""
    root = tmp_path / "aclImdb"
    for name in (
        "train/neg/0_3",
        "train/neg/10_1",
        "train/pos/0_9",
        "train/unsup/0_0",
        "test/neg/0_2",
        "test/pos/0_10",
    ):
        path = root / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"review {name}")
    for name in ("README", "imdb.vocab", "imdbEr.txt", "train/urls_neg.txt", "train/labeledBow.feat"):
        (root / name).write_text("not a review")
    return root


def test_text_folder__layout_of_aclimdb(reviews: Path) -> None:
    source = TextFolder(reviews)
    assert source.classes == ("neg", "pos")
    assert source.splits.tolist() == [0, 0, 0, 2, 2]
    values, labels = source[:]
    assert values == [f"review {name}" for name in ("train/neg/0_3", "train/neg/10_1", "train/pos/0_9")] + [
        "review test/neg/0_2",
        "review test/pos/0_10",
    ]
    assert labels.tolist() == [0, 0, 1, 0, 1]


def test_text_folder__one_split_of_it_has_no_splits(reviews: Path) -> None:
    source = TextFolder(reviews / "train")
    assert source.splits is None
    assert len(source) == 3


def test_text_folder__line_ends_are_kept(reviews: Path) -> None:
    (reviews / "train/neg/0_3.txt").write_bytes(b"a\r\nb\rc\n")
    assert TextFolder(reviews)[0:1].values == ["a\r\nb\rc\n"]


def test_text_folder__not_utf8_is_named(reviews: Path) -> None:
    (reviews / "train/pos/0_9.txt").write_bytes("très bien".encode("latin-1"))
    with pytest.raises(SourceError, match=r"train/pos/0_9\.txt: expected UTF-8, received .* at byte 2"):
        TextFolder(reviews)[:]


def test_text_folder__empty_file_is_named(reviews: Path) -> None:
    (reviews / "train/pos/0_9.txt").write_bytes(b"")
    with pytest.raises(SourceError, match=r"train/pos/0_9\.txt: an empty file"):
        TextFolder(reviews)


def test_text_folder__numbers_as_classes_are_in_their_order(tmp_path: Path) -> None:
    for stars in (1, 2, 10):
        (tmp_path / str(stars)).mkdir()
        (tmp_path / str(stars) / "a.txt").write_text(f"{stars} stars")
    source = TextFolder(tmp_path)
    assert source.classes == ("1", "2", "10")
    values, labels = source[:]
    assert [f"{source.classes[code]} stars" for code in labels] == values
    assert np.array_equal(np.sort(labels), [0, 1, 2])


def test_text_folder__two_validation_folders(reviews: Path) -> None:
    for name in ("val", "validation"):
        (reviews / name).mkdir()
    with pytest.raises(SourceError, match="received val and validation; do merge them"):
        TextFolder(reviews)


def test_text_folder__missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TextFolder(tmp_path / "nowhere")
