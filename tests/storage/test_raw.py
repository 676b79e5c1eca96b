from __future__ import annotations

import numpy as np
import pytest
import zarr
from google_crc32c import value as crc32c
from zarr.codecs import ZstdCodec

from storage.layout import Layout
from storage.plan import Plan
from storage.raw import map_shard, read_rows, view_shard

SHAPE = (3, 2, 1)
VALUES = np.random.default_rng(0).integers(0, 256, (22, *SHAPE), dtype=np.uint8)


def plan_of(shard=8, chunk=4, shape=SHAPE):
    return Plan(name="clean", kind="images", layout=Layout(22, shard, chunk), recipe={}, sample_shape=shape)


def write(folder, *, shard=8, chunk=4, **options):
    """A sharded array by zarr-python itself."""
    array = zarr.create_array(
        folder,
        shape=VALUES.shape,
        chunks=(chunk, *SHAPE),
        shards=(shard, *SHAPE),
        dtype="uint8",
        fill_value=0,
        **{"compressors": None, "config": {"write_empty_chunks": True}, **options},
    )
    array[:] = VALUES
    return array


def path_of(folder, shard):
    return folder / "c" / str(shard) / "0" / "0" / "0"


def both(path, plan, shard):
    """The ways to the same array: a map of the file, its bytes in memory, and its rows read past any map."""

    def rows():
        out = np.empty((len(range(*plan.layout.bounds(shard))), *plan.sample_shape), np.uint8)
        read_rows(path, plan, shard, 0, out)
        return out

    return [rows, lambda: map_shard(path, plan, shard), lambda: view_shard(path.read_bytes(), plan, shard)]


def indexed(*entries) -> bytes:
    """An index with a checksum that is right."""
    index = np.array(entries, "<u8").tobytes()
    return index + crc32c(index).to_bytes(4, "little")


@pytest.mark.parametrize(("shard", "chunk"), [(8, 4), (8, 8), (8, 2), (22, 11), (24, 8), (1, 1)])
def test_map_shard__what_zarr_wrote(tmp_path, shard, chunk):
    write(tmp_path, shard=shard, chunk=chunk)
    for number in range(-(-22 // shard)):
        rows = VALUES[number * shard : (number + 1) * shard]
        copied, mapped, viewed = (read() for read in both(path_of(tmp_path, number), plan_of(shard, chunk), number))
        np.testing.assert_array_equal(copied, rows)
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, rows)
        np.testing.assert_array_equal(viewed, rows)
        assert mapped.dtype == viewed.dtype == np.uint8


def test_map_shard__cannot_be_written_to(tmp_path):
    write(tmp_path)
    for read in both(path_of(tmp_path, 0), plan_of(), 0)[1:]:
        with pytest.raises(ValueError, match="read-only"):
            read()[0] = 0


def test_map_shard__compressed_shards_are_refused(tmp_path):
    write(tmp_path, compressors=[ZstdCodec()])
    for read in both(path_of(tmp_path, 0), plan_of(), 0):
        with pytest.raises(ValueError, match=r"expected 84 bytes, found|its index is not"):
            read()


def test_map_shard__missing_chunks_are_refused(tmp_path):
    array = write(tmp_path, config={"write_empty_chunks": False})
    array[0:4] = 0
    for read in both(path_of(tmp_path, 0), plan_of(), 0):
        with pytest.raises(ValueError, match="expected 84 bytes, found 60"):
            read()


@pytest.mark.parametrize(
    "content",
    [
        indexed([36, 24], [60, 24]) + VALUES[:8].tobytes(),
        VALUES[4:8].tobytes() + VALUES[:4].tobytes() + indexed([24, 24], [0, 24]),
        VALUES[:8].tobytes() + indexed([0, 24], [24, 20]),
        VALUES[:8].tobytes() + indexed([0, 24], [24, 24])[:-4] + b"crc!",
    ],
    ids=["index in front", "chunks in another order", "a shorter chunk", "another checksum"],
)
def test_map_shard__another_index_of_the_same_size_is_refused(tmp_path, content):
    path = tmp_path / "shard"
    path.write_bytes(content)
    for read in both(path, plan_of(), 0):
        with pytest.raises(ValueError, match="its index is not the one that was written"):
            read()


@pytest.mark.parametrize("cut", [1, 20, 50, 84])
def test_map_shard__truncated_shards_are_refused(tmp_path, cut):
    write(tmp_path)
    path = path_of(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-cut])
    for read in both(path, plan_of(), 0):
        with pytest.raises(ValueError, match=f"expected 84 bytes, found {84 - cut}"):
            read()


@pytest.mark.parametrize("plan", [plan_of(shape=(3, 3, 1)), plan_of(8, 2), plan_of(12, 4)])
def test_map_shard__of_another_plan_is_refused(tmp_path, plan):
    write(tmp_path)
    for read in both(path_of(tmp_path, 0), plan, 0):
        with pytest.raises(ValueError, match=r"expected .* bytes, found 84"):
            read()


def test_map_shard__without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        map_shard(tmp_path / "none", plan_of(), 0)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (3, 2), (7, 1), (2, 6), (4, 0)])
def test_read_rows__some_of_a_shard(tmp_path, first, count):
    write(tmp_path)
    out = np.empty((count, *SHAPE), np.uint8)
    read_rows(path_of(tmp_path, 1), plan_of(), 1, first, out)
    np.testing.assert_array_equal(out, VALUES[8 + first : 8 + first + count])
