from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.sources import files
from tasks.sources.files import gather


def resident(path: Path) -> int:
    """Bytes of a file that are mapped into this process now."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line.endswith(str(path))]
    return sum(
        int(line.split()[1]) * 1024 for start in starts for line in lines[start : start + 6] if line.startswith("Rss:")
    )


@pytest.fixture
def mapped(tmp_path):
    """A memory map of 4,000 rows of a page each."""
    path = tmp_path / "rows"
    values = np.random.default_rng(0).integers(0, 256, (4000, 4096), dtype=np.uint8)
    values.tofile(path)
    return values, np.memmap(path, np.uint8, "r", shape=values.shape), path


@pytest.mark.parametrize("limit", [1, 1 << 20, 1 << 40])
def test_gather__is_indexing(mapped, monkeypatch, limit):
    values, array, _ = mapped
    monkeypatch.setattr(files, "MAPPED_BYTES", limit)
    for rows in (np.random.default_rng(1).integers(0, 4000, 3000), np.array([7]), np.empty(0, np.int64)):
        np.testing.assert_array_equal(gather(array, rows), values[rows])
        np.testing.assert_array_equal(gather(values, rows), values[rows])


def test_gather__lets_go_of_large_maps(mapped, monkeypatch):
    _, array, path = mapped
    rows = np.arange(4000)[::-1]
    gather(array, rows)
    assert resident(path) == array.nbytes  # small for the limit: kept
    monkeypatch.setattr(files, "MAPPED_BYTES", 1 << 20)
    gather(array, rows)
    assert resident(path) == 0
