"""Pictures survive the way into the page."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.report.pictures import MOST_PIXELS, MOST_SAMPLES, png_uri, psnr, read_grids


def decode(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA"), (2, "L")])
def test_png_uri__keeps_every_pixel(channels: int, mode: str) -> None:
    value = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = decode(png_uri(value))
    assert image.mode == mode
    assert image.size == (7, 5)
    shown = value if channels in (3, 4) else value[:, :, 0]
    assert np.array_equal(np.asarray(image), shown)


def test_png_uri__scales_large_pictures_down() -> None:
    assert decode(png_uri(np.zeros((400, 200, 3), np.uint8))).size == (MOST_PIXELS // 2, MOST_PIXELS)


def test_psnr__of_a_constant_error() -> None:
    clean = np.full((4, 4, 1), 100, np.uint8)
    # 10 log10(255^2 / 16^2), by hand.
    assert psnr(clean, clean + np.uint8(16)) == pytest.approx(24.0484, abs=1e-4)
    assert psnr(clean, clean - np.uint8(16)) == pytest.approx(24.0484, abs=1e-4), "uint8 must not wrap around"
    assert psnr(clean, clean) == math.inf


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def test_read_grids__set_clean_noisy_and_denoised_side_by_side(tmp_path: Path) -> None:
    clean = np.full((20, 6, 8, 1), 100, np.uint8)
    arrays = {"g/clean": clean, "g/noisy": clean + np.uint8(16), "g/denoised": clean + np.uint8(4), "h/clean": clean}
    first, second = read_grids(save(tmp_path / "examples.npz", **arrays))
    assert (first.data, first.size, first.scaled) == ("g", (6, 8), False)
    assert [strip.kind for strip in first.strips] == ["clean", "noisy", "denoised"]
    assert [len(strip.pictures) for strip in first.strips] == [MOST_SAMPLES] * 3
    assert first.strips[0].mean_psnr is None
    assert first.strips[1].mean_psnr == pytest.approx(24.0484, abs=1e-4)
    assert first.strips[2].mean_psnr == pytest.approx(24.0484 + 20 * math.log10(4), abs=1e-4)
    assert [strip.kind for strip in second.strips] == ["clean"]


def test_read_grids__refuse_another_shape(tmp_path: Path) -> None:
    path = save(tmp_path / "examples.npz", **{"g/clean": np.zeros((3, 6, 8), np.uint8)})
    with pytest.raises(ValueError, match=r"expected g/clean as uint8 .* received uint8 \(3, 6, 8\)"):
        read_grids(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_read_grids__refuse_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "examples.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected examples in examples\.npz, received an unreadable file"):
        read_grids(path)


def test_read_grids__unpickle_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "examples.npz", **{"g/clean": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="unreadable"):
        read_grids(path)
