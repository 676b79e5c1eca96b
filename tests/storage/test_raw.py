from __future__ import annotations

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from storage.raw import map_shard

SHAPE = (3, 2, 1)
VALUES = np.random.default_rng(0).integers(0, 256, (22, *SHAPE), dtype=np.uint8)


def write(folder, *, shard=8, chunk=4, order=None, **options):
    """A sharded array by zarr-python itself; chunks in any order of writing."""
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


@pytest.mark.parametrize(("shard", "chunk"), [(8, 4), (8, 8), (8, 2), (22, 11), (24, 8), (1, 1)])
def test_map_shard__raw_shards_are_mapped(tmp_path, shard, chunk):
    write(tmp_path, shard=shard, chunk=chunk)
    for number in range(-(-22 // shard)):
        rows = VALUES[number * shard : (number + 1) * shard]
        mapped = map_shard(path_of(tmp_path, number), chunk, shard, len(rows), SHAPE)
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, rows)


def test_map_shard__cannot_be_written_to(tmp_path):
    write(tmp_path)
    mapped = map_shard(path_of(tmp_path, 0), 4, 8, 8, SHAPE)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0


def test_map_shard__compressed_shards_are_left_to_zarr(tmp_path):
    write(tmp_path, compressors=[ZstdCodec()])
    assert map_shard(path_of(tmp_path, 0), 4, 8, 8, SHAPE) is None


def test_map_shard__missing_chunks_are_left_to_zarr(tmp_path):
    array = write(tmp_path, config={"write_empty_chunks": False})
    array[0:4] = 0
    assert map_shard(path_of(tmp_path, 0), 4, 8, 8, SHAPE) is None


def test_map_shard__index_in_front_is_left_to_zarr(tmp_path):
    # The same size, but the pixels begin after the index.
    path = tmp_path / "shard"
    chunk = VALUES[:8].tobytes()
    index = np.array([[36, 24], [60, 24]], "<u8").tobytes() + b"crc!"
    path.write_bytes(index + chunk)
    assert map_shard(path, 4, 8, 8, SHAPE) is None


def test_map_shard__chunks_in_another_order_are_left_to_zarr(tmp_path):
    path = tmp_path / "shard"
    index = np.array([[24, 24], [0, 24]], "<u8").tobytes() + b"crc!"
    path.write_bytes(VALUES[4:8].tobytes() + VALUES[0:4].tobytes() + index)
    assert map_shard(path, 4, 8, 8, SHAPE) is None


def test_map_shard__chunks_of_other_sizes_are_left_to_zarr(tmp_path):
    # As a codec might write them: in place, but shorter.
    path = tmp_path / "shard"
    index = np.array([[0, 24], [24, 20]], "<u8").tobytes() + b"crc!"
    path.write_bytes(VALUES[:8].tobytes() + index)
    assert map_shard(path, 4, 8, 8, SHAPE) is None


@pytest.mark.parametrize("cut", [1, 20, 50])
def test_map_shard__truncated_shards_are_left_to_zarr(tmp_path, cut):
    write(tmp_path)
    path = path_of(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-cut])
    assert map_shard(path, 4, 8, 8, SHAPE) is None


def test_map_shard__without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        map_shard(tmp_path / "none", 4, 8, 8, SHAPE)
