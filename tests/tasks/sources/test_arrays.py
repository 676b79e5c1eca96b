from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tasks.sources import Arrays, SourceError


def test_arrays__channels_are_kept(pictures: np.ndarray) -> None:
    colour = np.stack([pictures] * 3, axis=-1)
    assert Arrays(colour).sample_shape == (4, 5, 3)
    assert np.array_equal(Arrays(colour)[:].values, colour)


def test_arrays__nothing_is_copied(pictures: np.ndarray) -> None:
    assert np.shares_memory(Arrays(pictures)._images, pictures)


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        ([5, -1, 10], None, ("-1", "5", "10")),
        (["b", "a", "b"], None, ("a", "b")),
        (np.array(["b", "a", "b"], dtype=object), None, ("a", "b")),
        (pd.Series(["b", "a", "b"]), None, ("a", "b")),
        (pd.Series([2, 1, 2]), None, ("1", "2")),
        (["10", "9", "2"], None, ("2", "9", "10")),
        ([1, 0, 1], ["no", "yes", "never used"], ("no", "yes", "never used")),
        (["yes", "no", "yes"], ["yes", "no"], ("yes", "no")),
    ],
)
def test_arrays__labels_keep_their_names(pictures: np.ndarray, labels: Any, classes: Any, names: Any) -> None:
    source = Arrays(pictures[:3], labels, classes=classes)
    assert source.classes == names
    given = [str(label) for label in labels]
    expected = given if classes is None or given[0] in classes else [classes[label] for label in labels]
    assert [names[code] for code in source.labels()] == expected


def test_arrays__splits_by_name_or_code(pictures: np.ndarray) -> None:
    named = Arrays(pictures[:4], splits=["train", "validation", "val", "test"])
    assert named.splits.tolist() == [0, 1, 1, 2]
    assert Arrays(pictures[:4], splits=[0, 1, 1, 2]).fingerprint() == named.fingerprint()
    assert Arrays(pictures[:4], splits=[0, 0, 0, 2]).fingerprint() != named.fingerprint()


@pytest.mark.parametrize("splits", [[0, 1], [0, 1, 3], [-1, 0, 0], ["train", "test", "dev"], [[0, 1, 2]]], ids=str)
def test_arrays__wrong_splits(pictures: np.ndarray, splits: Any) -> None:
    with pytest.raises(SourceError, match=r"expected (3 splits|split codes|a split of)"):
        Arrays(pictures[:3], splits=splits)


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "uint16", "bool"])
def test_arrays__other_types_of_pixels_are_told_the_cure(pictures: np.ndarray, kind: str) -> None:
    with pytest.raises(SourceError, match=rf"as uint8 from 0 to 255, received {kind}; do multiply by 255 .* and cast"):
        Arrays(pictures.astype(kind))


@pytest.mark.parametrize("shape", [(9,), (9, 20), (9, 4, 5, 1, 1), (9, 0, 5)], ids=str)
def test_arrays__wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(SourceError, match="expected images of shape"):
        Arrays(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0.0, 1.0, np.nan], "received float64 with NaN"),
        ([0.0, 1.0, 2.0], "received float64; do"),
        ([True, False, True], "received bool"),
        (["a", None, "b"], "received None in row 1"),
        (["a", 1, "b"], "received 1 in row 1"),
        (["a", "", "b"], "received '' in row 1"),
        (pd.Series(["a", "b", None]), "in row 2"),
        ([[0], [1], [2]], "of one dimension"),
        ([0, 1], "received 3 samples and 2 labels"),
        ([0, 1, 2, 3], "received 3 samples and 4 labels"),
    ],
)
def test_arrays__wrong_labels(pictures: np.ndarray, labels: Any, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        Arrays(pictures[:3], labels)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, -1, 1], ["a", "b", "c"]], ids=str)
def test_arrays__label_outside_classes(pictures: np.ndarray, labels: Any) -> None:
    with pytest.raises(SourceError, match="labels: expected"):
        Arrays(pictures[:3], labels, classes=["a", "b"])


@pytest.mark.parametrize("texts", ["one string", ["a", 3], ["a", b"b"]], ids=str)
def test_arrays__wrong_texts(texts: Any) -> None:
    with pytest.raises(SourceError, match="texts: expected"):
        Arrays(texts=texts)


def test_arrays__images_or_texts(pictures: np.ndarray) -> None:
    for given in ({}, {"images": pictures, "texts": ["a"] * 9}):
        with pytest.raises(ValueError, match="expected either images or texts"):
            Arrays(**given)
    with pytest.raises(ValueError, match="expected labels for the classes"):
        Arrays(pictures, classes=["a"])


def test_arrays__npy_is_mapped_and_not_pickled(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((1000, 20, 20), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(1000) % 3)
    source = Arrays(tmp_path / "images.npy", tmp_path / "labels.npy")
    assert isinstance(source._pictures(), np.memmap)
    assert source.classes == ("0", "1", "2")
    assert len(pickle.dumps(source)) < 10_000


def test_arrays__npz_with_splits(tmp_path: Path, pictures: np.ndarray) -> None:
    np.savez_compressed(tmp_path / "all.npz", images=pictures, labels=np.arange(9) % 2, splits=np.arange(9) % 3)
    source = Arrays(tmp_path / "all.npz", classes=["even", "odd"])
    assert source.splits.tolist() == [0, 1, 2] * 3
    assert source.classes == ("even", "odd")


def test_arrays__npz_without_images(tmp_path: Path, pictures: np.ndarray) -> None:
    np.savez(tmp_path / "all.npz", x=pictures)
    with pytest.raises(SourceError, match=r"expected the key 'images' .* received the keys \['x'\]"):
        Arrays(tmp_path / "all.npz")


def test_arrays__pickles_in_files_are_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("a pickle was loaded",))

    np.save(tmp_path / "images.npy", np.array([Bomb()], dtype=object))
    np.savez(tmp_path / "images.npz", images=np.array([Bomb()], dtype=object))
    for name in ("images.npy", "images.npz"):
        with pytest.raises(SourceError, match="without objects"):
            Arrays(tmp_path / name)


def test_arrays__missing_or_other_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Arrays(tmp_path / "nowhere.npy")
    with pytest.raises(ValueError, match=r"expected a \.npy or \.npz file"):
        Arrays(tmp_path / "images.h5")
