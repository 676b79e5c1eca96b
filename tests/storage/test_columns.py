from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import arrays
from storage.columns import ColumnWriter, read_column
from storage.errors import StorageError
from storage.hashing import hash_bytes
from storage.layout import IDS, OFFSETS, SPLIT
from storage.stores import store_of

COUNT = 23
CONTENT = {
    "ids": np.arange(COUNT, dtype=np.int64) * 7 - 40,
    "offsets": np.arange(2 * COUNT, dtype=np.int64).reshape(COUNT, 2),
    "split": (np.arange(COUNT) % 3).astype(np.uint8),
}


@pytest.fixture(params=[IDS, OFFSETS, SPLIT], ids=lambda variable: variable.name)
def variable(request):
    return request.param


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "COLUMN_ROWS", 10)
    return store_of(tmp_path)


def write(store, variable, pieces) -> ColumnWriter:
    writer = ColumnWriter(store, "builds/x", variable, COUNT)
    for low, high in pieces:
        writer.add(CONTENT[variable.name][low:high])
    writer.digest = writer.finish()
    return writer


def test_column_writer__any_pieces_give_the_same_files(store, variable, tmp_path):
    written = []
    for edges in ([0, 23], [0, 8, 16, 23], [0, 10, 20, 23], [0, 1, 1, 11, 12, 23], list(range(24))):
        writer = write(store, variable, itertools.pairwise(edges))
        files = {key: store.read(f"builds/x/{key}") for key in writer.files}
        written.append((writer.digest, writer.files, files))
    assert all(one == written[0] for one in written)
    digest, said, files = written[0]
    content = CONTENT[variable.name]
    assert digest == hash_bytes(content.tobytes()).hex()
    rest = ".0" if variable is OFFSETS else ""
    assert list(files) == [f"data.zarr/{variable.name}/c.{chunk}{rest}" for chunk in range(3)]
    assert said == {key: {"bytes": len(data), "hash": hash_bytes(data).hex()} for key, data in files.items()}
    row = content.nbytes // COUNT
    assert b"".join(files.values()) == content.tobytes() + bytes(7 * row)


def test_column_writer__small_columns_are_one_file_without_padding(tmp_path, variable):
    store = store_of(tmp_path)
    write(store, variable, [(0, 23)])
    assert [size for _, size in store.walk("builds")] == [CONTENT[variable.name].nbytes]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.integers(0, COUNT), st.integers(0, COUNT))
def test_read_column__any_rows(store, variable, one, other):
    start, stop = sorted((one, other))
    write(store, variable, [(0, 23)])
    found = read_column(store, "builds/x", variable, COUNT, start, stop)
    np.testing.assert_array_equal(found, CONTENT[variable.name][start:stop])
    assert found.dtype == CONTENT[variable.name].dtype


def test_read_column__lost_or_short_files_are_named_where_their_rows_are_read(store, variable):
    keys = [f"builds/x/{key}" for key in write(store, variable, [(0, 23)]).files]
    data = store.read(keys[1])
    store.write(keys[1], data[:-1])
    with pytest.raises(StorageError, match=rf"damaged .*{keys[1]}: it is too short; run verify"):
        read_column(store, "builds/x", variable, COUNT, 0, 23)
    store.remove(keys[1])
    with pytest.raises(StorageError, match=rf"missing .*{keys[1]}; run verify"):
        read_column(store, "builds/x", variable, COUNT, 9, 11)
    for start, stop in ((0, 10), (20, 23), (15, 15)):
        found = read_column(store, "builds/x", variable, COUNT, start, stop)
        np.testing.assert_array_equal(found, CONTENT[variable.name][start:stop])
