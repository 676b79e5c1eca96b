"""Folders of JPEG files at the size that networks take, as pixels and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storage
from tasks import noise, sources
from tasks.appending import append
from tasks.ingest import ingest
from tasks.noising import add_noise
from tasks.split import Split

SIDE, COUNT = 224, 36
OPTIONS = {
    "split": Split(validation=0.1, test=0.2),
    "seed": 0,
    "layout": {"shard_bytes": 5 * SIDE * SIDE * 3, "minimum_shard_bytes": 1000, "minimum_shards": 5},
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """JPEG files of smooth colours, 256 x 240, one of them grey and one turned by its EXIF orientation."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for i in range(COUNT):
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((256, 240), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 5 else 1
        path = folder / ("sea", "wood")[i % 2] / f"{i:03d}.jpg"
        path.parent.mkdir(exist_ok=True)
        (image.convert("L") if i == 3 else image).save(path, quality=90, exif=exif)
    return folder


def by_id(dataset):
    return dict(zip(dataset.ids().tolist(), dataset.read(0, dataset.count), strict=True))


@pytest.mark.parametrize("keep", ["pixels", "files"])
def test_ingest__photographs(workers, photographs, tmp_path, keep):
    source = sources.ImageFolder(photographs, size=(SIDE, SIDE), keep=keep)
    dataset = ingest(source, str(tmp_path / "clean"), workers, **OPTIONS)
    truth = source[:].values
    for key, image in by_id(dataset).items():
        np.testing.assert_array_equal(image, truth[key])
    rows = np.random.default_rng(0).permutation(COUNT)
    np.testing.assert_array_equal(dataset.take(rows), truth[dataset.ids()[rows]])
    train = truth[dataset.ids()[dataset.rows("train")]].astype(float)
    np.testing.assert_allclose(dataset.statistics["mean"], train.mean((0, 1, 2)))
    assert (dataset.kind, dataset.sample_shape) == ("images", (SIDE, SIDE, 3))
    assert storage.verify(dataset.path).ok
    copy = add_noise(dataset, noise.Gaussian(severity=1), str(tmp_path / "noisy"), workers, seed=0)
    expected = noise.Gaussian(severity=1)(dataset.read(0, COUNT), dataset.ids(), seed=0)
    np.testing.assert_array_equal(copy.read(0, COUNT), expected)


def test_ingest__kept_files_are_the_files(workers, photographs, tmp_path):
    source = sources.ImageFolder(photographs, size=(SIDE, SIDE), keep="files")
    dataset = ingest(source, str(tmp_path / "clean"), workers, **OPTIONS)
    stored = dataset.parts[0].stored(0, COUNT)
    files = source.files(range(COUNT))
    assert [bytes(stored[row]) for row in range(COUNT)] == [files[i] for i in dataset.ids()]
    pixels = ingest(sources.ImageFolder(photographs, size=(SIDE, SIDE)), str(tmp_path / "pixels"), workers, **OPTIONS)
    assert dataset.nbytes < pixels.nbytes / 5


@pytest.mark.parametrize("by", ["content", "files"])
def test_append__photographs(workers, photographs, tmp_path, by):
    folder = tmp_path / "growing"
    for name in sorted(photographs.rglob("*.jpg"))[: COUNT // 2 + 3]:
        (folder / name.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / name.parent.name / name.name).write_bytes(name.read_bytes())

    def grow():
        source = sources.ImageFolder(folder, size=(SIDE, SIDE), keep="files")
        return append(source, str(tmp_path / "clean"), workers, by=by, **OPTIONS)

    assert grow().count == COUNT // 2 + 3
    for name in photographs.rglob("*.jpg"):
        if not (target := folder / name.parent.name / name.name).exists():
            target.write_bytes(name.read_bytes())
    dataset = grow()
    assert (dataset.count, len(dataset.parts)) == (COUNT, 2)
    stored = [bytes(sample) for part in dataset.parts for sample in part.stored(0, part.layout.count)]
    assert sorted(stored) == sorted(path.read_bytes() for path in photographs.rglob("*.jpg"))
    assert storage.verify(dataset.path).ok


def test_ingest__a_kept_file_that_is_no_image(workers, photographs, tmp_path):
    folder = tmp_path / "broken"
    for name in ("sea", "wood"):
        (folder / name).mkdir(parents=True)
        for path in sorted((photographs / name).glob("*.jpg"))[:3]:
            (folder / name / path.name).write_bytes(path.read_bytes())
    bad = sorted(Path(folder).rglob("*.jpg"))[4]
    bad.write_bytes(bad.read_bytes()[:300])
    source = sources.ImageFolder(folder, size=(SIDE, SIDE), keep="files")
    with pytest.raises(ValueError, match="the one with id 4 is unreadable"):
        ingest(source, str(tmp_path / "clean"), workers, **OPTIONS, retries=0)
