from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.sources import ImageFolder, SourceError, images


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture
def colour() -> np.ndarray:
    """Left half red, right half blue."""
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    array[:, :4, 0] = array[:, 4:, 2] = 255
    return array


@pytest.fixture
def folder(tmp_path: Path, colour: np.ndarray) -> Path:
    save(tmp_path / "set" / "cats" / "1.png", colour)
    save(tmp_path / "set" / "cats" / "2.PNG", colour[:, ::-1])
    save(tmp_path / "set" / "dogs" / "1.JPEG", colour, quality=95)
    save(tmp_path / "set" / "dogs" / "2.jpg", colour // 2, quality=95)
    return tmp_path / "set"


def test_image_folder__png_and_jpeg_in_any_case(folder: Path, colour: np.ndarray) -> None:
    source = ImageFolder(folder, size=(8, 8))
    values, labels = source[:]
    assert labels.tolist() == [0, 0, 1, 1]
    assert source.classes == ("cats", "dogs")
    assert np.array_equal(values[:2], [colour, colour[:, ::-1]])
    # JPEG is lossy, most of all at the edge between the colours.
    assert np.abs(values[2, :, [0, 1, 6, 7]].astype(int) - colour[:, [0, 1, 6, 7]].swapaxes(0, 1)).max() < 20


def test_image_folder__grey_is_weighted_as_in_television(folder: Path) -> None:
    values = ImageFolder(folder, size=(8, 8), mode="L")[0:1].values
    assert values.shape == (1, 8, 8, 1)
    # ITU-R 601: 0.299 red, 0.114 blue.
    assert np.unique(values).tolist() == [29, 76]


def test_image_folder__resized_to_height_and_width(tmp_path: Path, colour: np.ndarray) -> None:
    save(tmp_path / "a" / "1.png", np.repeat(np.repeat(colour, 4, 0), 2, 1))
    values = ImageFolder(tmp_path, size=(8, 4))[:].values
    assert values.shape == (1, 8, 4, 3)
    assert values[0, 0, 0].tolist() == [255, 0, 0]
    assert values[0, 7, 3].tolist() == [0, 0, 255]


def test_image_folder__exif_orientation_is_applied(tmp_path: Path, colour: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    save(tmp_path / "a" / "1.jpg", colour, exif=exif, quality=95)
    values = ImageFolder(tmp_path, size=(8, 8))[:].values[0].astype(int)
    assert np.abs(values[0] - [255, 0, 0]).max() < 30
    assert np.abs(values[7] - [0, 0, 255]).max() < 30


def test_image_folder__sixteen_bits_are_scaled(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", np.array([[0, 256, 32768, 65535]], dtype=np.uint16))
    values = ImageFolder(tmp_path, size=(1, 4), mode="L")[:].values
    assert values.ravel().tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_image_folder__every_mode_of_file_is_converted(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").mkdir()
    white = Image.new("RGB", (4, 4), "white").convert(mode)
    white.save(tmp_path / "a" / ("1.jpg" if mode == "CMYK" else "1.png"))
    for wanted, channels in (("RGB", 3), ("L", 1)):
        values = ImageFolder(tmp_path, size=(4, 4), mode=wanted)[:].values
        assert values.shape == (1, 4, 4, channels)
        assert (values == 255).all()


def test_image_folder__unreadable_image_is_named(folder: Path) -> None:
    path = folder / "dogs" / "2.jpg"
    path.write_bytes(path.read_bytes()[:200])
    source = ImageFolder(folder, size=(8, 8))
    assert len(source[0:3].values) == 3
    with pytest.raises(SourceError, match=r"dogs/2\.jpg: expected a PNG or JPEG image, it is unreadable"):
        source[:]


def test_image_folder__other_format_under_the_ending_of_png(tmp_path: Path, colour: np.ndarray) -> None:
    save(tmp_path / "a" / "1.gif", colour).rename(tmp_path / "a" / "1.png")
    with pytest.raises(SourceError, match=r"a/1\.png: expected a PNG or JPEG image"):
        ImageFolder(tmp_path, size=(8, 8))[:]


def test_image_folder__skip_leaves_out_counts_and_names(folder: Path, colour: np.ndarray) -> None:
    (folder / "cats" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "cats" / "0.jpg").write_bytes(b"")
    (folder / "dogs" / "notes.txt").write_text("to do: more dogs")
    (folder / "dogs" / "more").mkdir()
    (folder / "README").write_text("cats and dogs")
    source = ImageFolder(folder, size=(8, 8), on_error="skip")
    skipped = source.describe()["skipped"]
    assert [line.split(":")[0] for line in skipped] == [
        "README",
        "cats/0.jpg",
        "dogs/more",
        "dogs/notes.txt",
        "cats/1.png",
    ]
    assert len(source) == 3
    assert source.labels().tolist() == [0, 1, 1]
    assert np.array_equal(source[0:1].values[0], colour[:, ::-1])
    assert source.fingerprint() != ImageFolder(folder, size=(4, 4), on_error="skip").fingerprint()


def test_image_folder__skip_decides_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    (folder / "cats" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    source = ImageFolder(folder, size=(8, 8), on_error="skip")
    monkeypatch.setattr(ImageFolder, "_leave_out_unreadable", lambda *_: pytest.fail("decided again"))
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again[:].values, source[:].values)
    assert again.describe() == source.describe()


def test_image_folder__skip_that_leaves_a_class_empty(folder: Path) -> None:
    for path in (folder / "cats").iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(SourceError, match=r"samples of class 'cats', received none that is readable"):
        ImageFolder(folder, size=(8, 8), on_error="skip")


def test_image_folder__label_without_samples(folder: Path) -> None:
    (folder / "birds").mkdir()
    with pytest.raises(
        SourceError, match=r"birds: expected samples of class 'birds', received a label without samples"
    ):
        ImageFolder(folder, size=(8, 8))


@pytest.mark.parametrize("name", ["notes.txt", "cats/notes.txt", "cats/deep/1.png"])
def test_image_folder__anything_else_is_named(folder: Path, colour: np.ndarray, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("what is this")
    with pytest.raises(SourceError, match=name.replace("/1.png", "")):
        ImageFolder(folder, size=(8, 8))


def test_image_folder__images_without_class_folders(tmp_path: Path, colour: np.ndarray) -> None:
    save(tmp_path / "1.png", colour)
    with pytest.raises(SourceError, match=r"1\.png: expected class folders here"):
        ImageFolder(tmp_path, size=(8, 8))


def test_image_folder__empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="expected a sub-folder per class"):
        ImageFolder(tmp_path, size=(8, 8))


def test_image_folder__val_is_validation(tmp_path: Path, colour: np.ndarray) -> None:
    for split in ("test", "train", "val"):
        for label in ("a", "b"):
            save(tmp_path / split / label / "1.png", colour)
    source = ImageFolder(tmp_path, size=(8, 8))
    assert source.splits.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.labels().tolist() == [0, 1] * 3


def test_image_folder__class_that_is_not_trained_on(tmp_path: Path, colour: np.ndarray) -> None:
    for name in ("train/a/1.png", "test/a/1.png", "test/b/1.png"):
        save(tmp_path / name, colour)
    with pytest.raises(SourceError, match=r"test/b: class 'b' is not in train"):
        ImageFolder(tmp_path, size=(8, 8))


def test_image_folder__class_called_train(tmp_path: Path, colour: np.ndarray) -> None:
    for name in ("car/1.png", "train/1.png"):
        save(tmp_path / name, colour)
    assert ImageFolder(tmp_path, size=(8, 8)).classes == ("car", "train")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_image_folder__link_out_of_the_folder(folder: Path, colour: np.ndarray, on_error: str, what: str) -> None:
    outside = save(folder.parent / "outside" / "secret.png", colour)
    if what == "file":
        os.symlink(outside, folder / "cats" / "3.png")
    else:
        os.symlink(outside.parent, folder / "birds")
    with pytest.raises(SourceError, match=r"received a link to .*outside.*; do copy the file"):
        ImageFolder(folder, size=(8, 8), on_error=on_error)


def test_image_folder__link_inside_the_folder_is_followed(folder: Path) -> None:
    os.symlink(folder / "cats" / "1.png", folder / "dogs" / "0.png")
    assert len(ImageFolder(folder, size=(8, 8))) == 5


def test_image_folder__dangling_link_is_named(folder: Path) -> None:
    os.symlink(folder / "cats" / "gone.png", folder / "dogs" / "0.png")
    with pytest.raises(SourceError, match=r"dogs/0\.png: cannot be read"):
        ImageFolder(folder, size=(8, 8))


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_image_folder__decompression_bomb(folder: Path, side: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (folder / "cats" / "3.png").write_bytes(bomb)
    with pytest.raises(SourceError, match=r"cats/3\.png: .*(pixels|bomb)"):
        ImageFolder(folder, size=(8, 8))[:]


def test_decode__own_bound_on_pixels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.images.MAX_PIXELS", 63)
    with pytest.raises(SourceError, match="8 x 8 pixels, more than the 63 that are accepted"):
        images.decode(str(folder / "cats" / "1.png"), (8, 8), "RGB")


@pytest.mark.parametrize("size", [(8,), (8, 0), (8, 8, 3), (8.0, 8), 8, "88", None], ids=str)
def test_image_folder__wrong_size(folder: Path, size: Any) -> None:
    with pytest.raises(ValueError, match=r"expected size=\(height, width\)"):
        ImageFolder(folder, size=size)


@pytest.mark.parametrize("options", [{"mode": "CMYK"}, {"on_error": "ignore"}], ids=str)
def test_image_folder__unknown_option(folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"expected {next(iter(options))} "):
        ImageFolder(folder, size=(8, 8), **options)


def test_image_folder__missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolder(tmp_path / "nowhere", size=(8, 8))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder"):
        ImageFolder(tmp_path / "file", size=(8, 8))


def test_image_folder__change_between_processes_is_noticed(folder: Path, colour: np.ndarray) -> None:
    import pickle

    made = pickle.dumps(ImageFolder(folder, size=(8, 8)))
    save(folder / "cats" / "0.png", colour)
    with pytest.raises(SourceError, match="the folder changed after the source was made"):
        pickle.loads(made)[:]


def test_image_folder__files_as_they_are(folder: Path) -> None:
    source = ImageFolder(folder, size=(8, 8), keep="files")
    paths = [folder / name for name in ("cats/1.png", "cats/2.PNG", "dogs/1.JPEG", "dogs/2.jpg")]
    assert source.files([3, 0]) == [paths[3].read_bytes(), paths[0].read_bytes()]
    assert source.file_sizes(range(4)).tolist() == [path.stat().st_size for path in paths]
    assert source.keeps_files and not ImageFolder(folder, size=(8, 8)).keeps_files
    assert source.fingerprint() != ImageFolder(folder, size=(8, 8)).fingerprint()


def test_image_folder__stamps_tell_files_apart(folder: Path) -> None:
    before = ImageFolder(folder, size=(8, 8)).stamps()
    assert len(set(before)) == 4
    os.utime(folder / "dogs" / "2.jpg", ns=(1, 1))
    after = ImageFolder(folder, size=(8, 8)).stamps()
    assert before[:3] == after[:3] and before[3] != after[3]
    (folder / "cats" / "1.png").unlink()
    assert ImageFolder(folder, size=(8, 8)).stamps() == after[1:]


def test_image_folder__stamps_of_what_is_readable(folder: Path) -> None:
    whole = ImageFolder(folder, size=(8, 8)).stamps()
    (folder / "cats" / "1.png").write_bytes(b"no image")
    source = ImageFolder(folder, size=(8, 8), on_error="skip")
    assert source.stamps() == whole[1:]
    assert source.files([0]) == [(folder / "cats" / "2.PNG").read_bytes()]


def test_image_folder__unknown_keep(folder: Path) -> None:
    with pytest.raises(ValueError, match='expected keep "pixels" or "files"'):
        ImageFolder(folder, size=(8, 8), keep="jpeg")
