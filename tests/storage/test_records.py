from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from storage.layout import columns
from storage.records import Record, decode_record, encode_record, record_name
from storage.shards import encode_shard


@pytest.fixture(params=["images", "texts"])
def encoded(request, image_build, text_build) -> tuple[Record, bytes]:
    build, shards = image_build() if request.param == "images" else text_build(["a", "bc", "", "é"])
    record, _ = encode_shard(build.plan, 1, shards[1])
    return record, encode_record(record, columns(build.plan.ragged))


def test_decode_record__undoes_encode(encoded):
    record, data = encoded
    again = decode_record(data)
    assert dataclasses.replace(again, columns={}) == dataclasses.replace(record, columns={})
    assert list(again.columns) == [name for name in ("offsets", "labels", "ids", "split") if name in record.columns]
    for name, column in record.columns.items():
        np.testing.assert_array_equal(again.columns[name], column)
        assert again.columns[name].dtype == column.dtype


def test_encode_record__is_pure_whatever_the_order_of_fields(encoded):
    record, data = encoded
    turned = dataclasses.replace(
        record,
        columns=dict(reversed(record.columns.items())),
        statistics=dict(reversed(record.statistics.items())),
    )
    assert encode_record(turned, columns("offsets" in record.columns)) == data


def test_decode_record__every_flipped_bit_is_noticed(encoded):
    _, data = encoded
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="its bytes are not those that were written"):
            decode_record(bytes(damaged))


def test_decode_record__cut_anywhere_or_longer_is_noticed(encoded):
    _, data = encoded
    for damaged in [*(data[:end] for end in range(len(data))), data + b"\0", data + data, bytes(len(data))]:
        with pytest.raises(ValueError, match="its bytes are not those that were written"):
            decode_record(damaged)


def test_record_name__sorts_by_number_for_a_million_shards():
    assert [record_name(number) for number in (0, 12, 999_999, 1_000_000)] == [
        "records/000000",
        "records/000012",
        "records/999999",
        "records/1000000",
    ]
