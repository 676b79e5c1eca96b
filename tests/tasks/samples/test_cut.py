from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from tasks.samples import cut
from tasks.sources import Idx
from tasks.sources.fashion import DEBIAN_FOLDER

SHIPPED = Path(cut.__file__).parent


def test_idx_bytes__read_back_and_without_time(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int64).reshape(2, 3, 4)
    content = cut.idx_bytes(array)
    (tmp_path / "images.gz").write_bytes(content)
    assert np.array_equal(Idx(tmp_path / "images.gz")[:].values[..., 0], array)
    # RFC 1952: no flags, hence no file name, and no time.
    assert content[3:8] == bytes(5)


def test_chosen_rows__balanced_ascending_and_by_seed() -> None:
    labels = np.arange(500) % 10
    rows = cut.chosen_rows(labels, 7, "train", 0)
    assert np.bincount(labels[rows]).tolist() == [7] * 10
    assert (np.diff(rows) > 0).all()
    assert not np.array_equal(rows, cut.chosen_rows(labels, 7, "train", 1))
    assert not np.array_equal(rows, cut.chosen_rows(labels, 7, "test", 0))


def test_cut__gives_the_shipped_files(tmp_path: Path) -> None:
    data = Path(os.environ.get("DUSKFLOW_DATA", "nowhere"))
    places = (data / "fashion-mnist", data, Path(DEBIAN_FOLDER))
    whole = next((folder for folder in places if list(folder.glob("train-images-idx3*"))), None)
    if whole is None:
        assert not os.environ.get("CI"), "CI installs Debian's package dataset-fashion-mnist"
        pytest.skip("needs Fashion-MNIST in DUSKFLOW_DATA, or Debian's package dataset-fashion-mnist")
    cut.main([str(whole), str(tmp_path)])
    for made in sorted(tmp_path.iterdir()):
        shipped = (SHIPPED / made.name).read_bytes()
        assert gzip.decompress(made.read_bytes()) == gzip.decompress(shipped)
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:
            assert made.read_bytes() == shipped
    assert len(list(tmp_path.iterdir())) == 4


def test_cut__folder_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="an empty folder"):
        cut.main([str(tmp_path), str(tmp_path / "target")])
