"""What we encode by ourselves is, byte for byte, what zarr-python writes for the same arrays."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from numcodecs.zstd import Zstd
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from storage import arrays
from storage.documents import GROUP
from storage.layout import variables

SHAPES = [
    (23, (5, 3, 1), 8, 4),
    (23, (7, 11, 3), 10, 5),
    (24, (5, 3, 3), 8, 2),
    (5, (3, 3, 1), 8, 2),
    (13, (1, 9, 4), 3, 1),
    (1, (1, 1, 1), 1, 1),
]


def files_of(dataset) -> dict[str, bytes]:
    """Every file of the only part's Zarr group, by its path in there."""
    part = dataset.parts[0]
    start = f"{part.key}/{GROUP}/"
    return {key.removeprefix(start): part.store.read(key) for key, _ in part.store.walk(start.rstrip("/"))}


def by_zarr(files: dict[str, bytes], contents: dict[str, np.ndarray]) -> dict[str, bytes]:
    """What zarr-python makes of the same metadata and arrays, each array written as a whole."""
    prototype = default_buffer_prototype().buffer
    held = {name: prototype.from_bytes(data) for name, data in files.items() if name.endswith("zarr.json")}
    group = zarr.open_group(MemoryStore(held), mode="r+")
    for name, content in contents.items():
        array = group[name]
        array.with_config({"write_empty_chunks": True})[:] = content
    return {name: buffer.to_bytes() for name, buffer in held.items()}


def contents_of(made, dataset) -> dict[str, np.ndarray]:
    """The arrays as they were given, joined."""
    build, shards = made
    found = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in ("labels", "ids", "split")}
    if not build.plan.ragged:
        return {**found, "images": np.concatenate([shard.values for shard in shards])}
    slot, values, offsets = int(build.plan.slot_bytes), bytearray(), []
    for number, shard in enumerate(shards):
        for sample in shard.values:
            data = sample.encode("utf-8", "surrogatepass") if isinstance(sample, str) else sample
            offsets.append((len(values), len(values) + len(data)))
            values += data
        values += bytes((number + 1) * slot - len(values))
    return {**found, "values": np.frombuffer(bytes(values), np.uint8), "offsets": np.array(offsets)}


@pytest.mark.parametrize("column_rows", [2**20, 10])
@pytest.mark.parametrize(("count", "shape", "shard", "chunk"), SHAPES)
def test_images__every_file_is_zarrs(image_build, commit, monkeypatch, count, shape, shard, chunk, column_rows):
    monkeypatch.setattr(arrays, "COLUMN_ROWS", column_rows)
    made = image_build(count, shape, shard, chunk)
    dataset = commit(made)
    files = files_of(dataset)
    assert files == by_zarr(files, contents_of(made, dataset))
    assert len([name for name in files if name.startswith("labels/c.")]) == -(-count // min(count, column_rows))


def test_images__of_zeros_too(image_build, commit):
    made = image_build(values=np.zeros((23, 5, 3, 1), np.uint8))
    dataset = commit(made)
    files = files_of(dataset)
    assert files == by_zarr(files, contents_of(made, dataset))


def test_kept_files__every_file_is_zarrs(file_build, commit):
    made = file_build()
    dataset = commit(made)
    files = files_of(dataset)
    assert files == by_zarr(files, contents_of(made, dataset))


@pytest.mark.parametrize("column_rows", [2**20, 4])
def test_texts__every_file_is_zarrs_but_for_the_compressor(text_build, commit, odd_texts, monkeypatch, column_rows):
    monkeypatch.setattr(arrays, "COLUMN_ROWS", column_rows)
    made = text_build([*odd_texts, "x" * 5000])
    dataset = commit(made)
    files = files_of(dataset)
    others = by_zarr(files, contents_of(made, dataset))
    assert set(files) == set(others)
    for name, data in files.items():
        if name.startswith("values/c."):  # a compressor may give other bytes, never another content
            assert Zstd().decode(data) == Zstd().decode(others[name])
        else:
            assert data == others[name], name


@pytest.mark.parametrize("kind", ["images", "texts", "files"])
def test_metadata__zarr_reads_and_writes_it_unchanged(request, image_build, text_build, file_build, kind):
    made = {"images": image_build, "texts": lambda: text_build(["a", "b"]), "files": file_build}[kind]()
    files = arrays.metadata_files(made[0].plan, {"duskflow": {"name": "é"}})
    prototype = default_buffer_prototype().buffer
    store = MemoryStore({name: prototype.from_bytes(data) for name, data in files.items()})
    group = zarr.open_group(store, mode="r", use_consolidated=False)
    for variable in variables(made[0].plan.ragged):
        written = group[variable.name].metadata.to_buffer_dict(default_buffer_prototype())
        assert written["zarr.json"].to_bytes() == files[f"{variable.name}/zarr.json"]
