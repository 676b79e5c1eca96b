"""Columns of which only compared bytes are given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import arrays, comparing
from storage.columns import ColumnWriter
from storage.comparing import ComparedColumn
from storage.errors import StorageError
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


@pytest.fixture(params=["folder", "objects"])
def written(request, variable, tmp_path, monkeypatch):
    """A column in files of 10 rows, in blocks of 4; the store, and the keys of the files."""
    monkeypatch.setattr(arrays, "COLUMN_ROWS", 10)
    monkeypatch.setattr(comparing, "_BLOCK", 4)
    place = tmp_path if request.param == "folder" else request.getfixturevalue("memory_location")()
    store = store_of(place)
    writer = ColumnWriter(store, "builds/x", variable, COUNT)
    writer.add(CONTENT[variable.name])
    writer.finish()
    return store, writer.files


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)), max_size=4))
def test_compared_column__gives_any_rows(variable, written, asked):
    column = ComparedColumn(written[0], "builds/x", variable, COUNT, written[1])
    for bounds in asked:
        start, stop = sorted(bounds)
        found = column.read(start, stop)
        np.testing.assert_array_equal(found, CONTENT[variable.name][start:stop])
        assert found.dtype == CONTENT[variable.name].dtype


@pytest.mark.parametrize("looked", [False, True], ids=["the first read", "a later read"])
def test_compared_column__refuses_damage_whenever_it_came(variable, written, looked):
    store, files = written
    column = ComparedColumn(store, "builds/x", variable, COUNT, files)
    if looked:
        column.read(0, COUNT)
    key = f"builds/x/{list(files)[1]}"
    whole = store.read(key)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1
        store.write(key, bytes(data))
        row = 10 + place * 10 // len(whole)
        with pytest.raises(StorageError, match=rf"damaged .*{key}: its bytes are not those that were committed"):
            column.read(row, row + 1)
        np.testing.assert_array_equal(column.read(0, 10), CONTENT[variable.name][:10])
    store.write(key, whole[:-1])
    with pytest.raises(StorageError, match=rf"damaged .*{key}"):
        column.read(19, 20)
    store.remove(key)
    with pytest.raises(StorageError, match=rf"missing .*{key}; run verify"):
        column.read(19, 20)
    store.write(key, whole)
    np.testing.assert_array_equal(column.read(0, COUNT), CONTENT[variable.name])
