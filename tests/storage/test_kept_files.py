"""Images kept as the PNG and JPEG files that they were."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import storage
from storage.images import ImageError, decode_images
from storage.writer import Build


def pillow(file: bytes, shape) -> np.ndarray:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB" if shape[2] == 3 else "L"), np.uint8).reshape(shape)


def files_of(*builds) -> list[bytes]:
    return [file for _, shards in builds for shard in shards for file in shard.values]


@pytest.mark.parametrize("shape", [(6, 5, 3), (4, 9, 1), (1, 1, 3)])
@pytest.mark.parametrize("place", ["local", "memory"])
def test_read__files_come_back_and_pixels_are_pillows(builds_at, commit, tmp_path, memory_location, shape, place):
    made = builds_at["files"](tmp_path / "photos" if place == "local" else memory_location(), 10, shape)
    dataset = commit(made)
    files = files_of(made)
    pixels = np.array([pillow(file, shape) for file in files])
    assert [bytes(file) for file in dataset.parts[0].stored(0, 10)] == files
    assert [bytes(file) for file in dataset.parts[0].stored(3, 6)] == files[3:6]
    np.testing.assert_array_equal(dataset.read(0, 10), pixels)
    rows = np.array([9, 0, 5, 5])
    np.testing.assert_array_equal(dataset.take(rows), pixels[rows])
    assert (dataset.sample_shape, dataset.read(2, 2).shape) == (shape, (0, *shape))
    assert storage.verify(dataset.path).ok


def test_statistics__are_those_of_the_decoded_pixels(file_build, commit):
    made = file_build()
    dataset = commit(made)
    train = dataset.read(0, dataset.rows("train").stop)
    np.testing.assert_allclose(dataset.statistics["mean"], train.mean((0, 1, 2)))
    assert dataset.statistics["pixels"] == train[..., 0].size


def test_read__files_of_other_sizes_are_resized_and_turned(file_build, commit):
    build, shards = file_build(4, (6, 5, 3))
    out = io.BytesIO()
    grey = Image.fromarray(np.full((20, 40), 77, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.save(out, "JPEG", exif=exif, quality=95)
    shards[0].values[1] = out.getvalue()
    slot = sum(map(len, shards[0].values))
    dataset = commit((Build(build.dataset, dataclasses.replace(build.plan, slot_bytes=slot)), shards))
    image = dataset.read(1, 2)
    assert image.shape == (1, 6, 5, 3)
    assert abs(image.astype(int) - 77).max() <= 2
    assert bytes(dataset.parts[0].stored(1, 2)[0]) == out.getvalue()


def test_stored__of_an_appended_part(builds_at, commit, tmp_path):
    first, second = (builds_at["files"](tmp_path / "photos", 5, first_id=first) for first in (0, 5))
    dataset = commit(first, second)
    assert [bytes(file) for part in dataset.parts for file in part.stored(0, 5)] == files_of(first, second)
    train = [0, 1, 2]  # of either part
    files = files_of(first)[:3] + files_of(second)[:3]
    assert dataset.rows("train") == slice(0, 2 * len(train))
    np.testing.assert_array_equal(dataset.read(0, 6), [pillow(file, (6, 5, 3)) for file in files])


@pytest.mark.parametrize("damage", [b"", b"no image", "cut"])
def test_write_shard__unreadable_file_is_named_by_its_id(file_build, damage):
    build, shards = file_build()
    build.begin()
    files = list(shards[1].values)
    files[2] = files[2][: len(files[2]) // 2] if damage == "cut" else damage
    wrong = int(shards[1].ids[2])
    message = rf"expected PNG or JPEG files for 'photos', the one with id {wrong} is unreadable \(.*\); replace it"
    with pytest.raises(ValueError, match=message):
        build.write_shard(1, dataclasses.replace(shards[1], values=files))
    assert not build.is_committed(1)


def test_write_shard__files_larger_than_planned(file_build):
    build, shards = file_build()
    build.begin()
    with pytest.raises(storage.StorageError, match=r"holds .* bytes of images, more than the .* planned"):
        build.write_shard(0, dataclasses.replace(shards[0], values=[shards[0].values[0] * 50] * 4))


def test_decode_images__says_which_is_unreadable(file_build):
    files = [*file_build()[1][0].values]
    files[3] = b"no image"
    with pytest.raises(ImageError) as caught:
        decode_images(files, (6, 5, 3))
    assert caught.value.place == 3


def test_version__is_that_of_the_files_not_of_the_pixels(file_build, finished):
    version = finished(file_build())
    build, shards = file_build(folder="other")
    out = io.BytesIO()
    Image.fromarray(pillow(shards[0].values[0], (6, 5, 3))).save(out, "PNG", compress_level=0)
    shards[0].values[0] = out.getvalue()
    slot = build.plan.slot_bytes + 1000
    plain = dataclasses.replace(build.plan, slot_bytes=slot)
    assert finished((Build(build.dataset, plain), shards)) != version
