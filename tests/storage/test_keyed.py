from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from storage import keyed
from storage.keyed import bases, key_of, order, uniforms, words

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
# First outputs of SplitMix64 as published: Vigna's splitmix64.c for seed 0, Rosetta Code for seed 1234567.
PUBLISHED = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
}


def mix(word: int) -> int:
    """SplitMix64's finaliser on Python's own integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def split_mix(state: int, count: int) -> list[int]:
    """The published generator, stepped."""
    out = []
    for _ in range(count):
        state = (state + GAMMA) & MASK
        out.append(mix(state))
    return out


@pytest.mark.parametrize("seed", PUBLISHED)
def test_split_mix__gives_the_published_numbers(seed):
    assert split_mix(seed, 5) == PUBLISHED[seed]


def test_words__are_split_mix_from_each_base(monkeypatch):
    monkeypatch.setattr(keyed, "bases", lambda key, ids: np.asarray(ids, np.uint64))
    np.testing.assert_array_equal(words(0, np.array(list(PUBLISHED)), 5), list(PUBLISHED.values()))


def test_bases__are_the_documented_hash():
    key, ids = key_of(3, "gaussian", 1), [0, 1, 2**40, -1]
    second = key_of(key, "second round")
    expected = [mix(mix((i * GAMMA + key) & MASK) ^ second) for i in ids]
    assert bases(key, np.array(ids)).tolist() == expected


def test_words__never_change():
    # Pinned: a published noise keeps its bytes only as long as these stay.
    found = words(key_of(0, "gaussian", 0), np.array([0, 1]), 2)
    assert [[f"{word:016x}" for word in row] for row in found.tolist()] == [
        ["ead35aa0fee6aae6", "860260329d481db7"],
        ["553521060c28ad08", "dbc860c60d4b8b5c"],
    ]


def test_key_of__is_blake2b_of_the_printed_address():
    digest = hashlib.blake2b(b"(7, 'word drop', 0)", digest_size=8).digest()
    assert key_of(7, "word drop", 0) == int.from_bytes(digest, "little")


def test_key_of__tells_addresses_apart():
    addresses = [(), (1,), ("1",), (1, 1), ("a", "b"), ("ab",), ("a', 'b",), (-1,), (0, "a"), ("a", 0), (2**70,)]
    assert len({key_of(*address) for address in addresses}) == len(addresses)


def test_key_of__numpy_numbers_and_strings_are_the_same_address():
    assert key_of(np.int64(5), np.str_("a"), np.uint8(0)) == key_of(5, "a", 0)


@pytest.mark.parametrize("part", [0.0, None, b"a", np.float64(1), (1,)])
def test_key_of__refuses_what_is_no_address(part):
    with pytest.raises(TypeError, match="expected whole numbers"):
        key_of(0, part)


@pytest.mark.parametrize("block", [1, 7, 100, 10**6])
def test_words__do_not_depend_on_the_block_size(monkeypatch, block):
    ids = np.arange(50) * 3
    expected = words(9, ids, 11)
    monkeypatch.setattr(keyed, "_BLOCK_WORDS", block)
    np.testing.assert_array_equal(words(9, ids, 11), expected)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(0, 20), st.integers(0, MASK))
def test_words__of_an_id_depend_on_nothing_else(ids, count, key):
    together = words(key, np.array(ids, np.int64), count)
    assert together.shape == (len(ids), count)
    assert together.dtype == np.dtype("<u8")
    for row, sample in zip(together, ids, strict=True):
        np.testing.assert_array_equal(words(key, np.array([sample]), count + 3)[0, :count], row)


def test_words__leave_the_ids_alone():
    ids = np.arange(5)
    words(1, ids, 3)
    np.testing.assert_array_equal(ids, np.arange(5))


def test_words__no_stream_occurs_twice():
    # Above all (seed 0, id 1) and (seed 1, id 0), which seed + id would make equal.
    streams = np.concatenate(
        [
            words(key_of(seed, purpose, epoch), np.arange(500), 4)
            for seed in range(4)
            for epoch in range(3)
            for purpose in ("gaussian", "word drop")
        ]
    )
    assert len(np.unique(streams)) == streams.size


def test_words__shifted_streams_do_not_overlap():
    # Keys that differ by a multiple of gamma would share bases if these were hashed with the key only once.
    one = words(5, np.arange(200), 50)
    other = words((5 + GAMMA) & MASK, np.arange(200), 50)
    assert not np.isin(one, other).any()


def p_value(counts: np.ndarray) -> float:
    return float(stats.chisquare(counts.ravel()).pvalue)


@pytest.mark.parametrize("lane", range(4))
def test_words__lanes_are_uniform(lane):
    lanes = words(key_of(0, "test"), np.arange(20_000), 20).view(np.uint16)[:, lane::4]
    assert p_value(np.bincount(lanes.ravel() >> 8, minlength=256)) > 1e-3
    assert p_value(np.bincount(lanes.ravel() & 255, minlength=256)) > 1e-3


def test_words__every_bit_is_fair():
    drawn = words(key_of(1, "test"), np.arange(10_000), 10).ravel()
    ones = np.array([np.count_nonzero(drawn >> np.uint64(bit) & np.uint64(1)) for bit in range(64)])
    # 64 binomial counts of 100,000 fair bits: none further out than 4.5 standard deviations (chance 4e-4 for any).
    assert np.abs(ones - 50_000).max() < 4.5 * np.sqrt(100_000 / 4)


def joint(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Counts of pairs of 4-bit numbers."""
    pairs = (one.ravel() & np.uint64(15)) * np.uint64(16) + (other.ravel() >> np.uint64(60))
    return np.bincount(pairs.astype(np.int64), minlength=256)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((0, "a", 0, 0), (0, "a", 0, 1), id="neighbouring ids"),
        pytest.param((0, "a", 0, 0), (1, "a", 0, 0), id="seeds"),
        pytest.param((0, "a", 0, 0), (0, "a", 1, 0), id="epochs"),
        pytest.param((0, "a", 0, 0), (0, "b", 0, 0), id="purposes"),
    ],
)
def test_words__are_independent_of_those_at_other_addresses(one, other):
    ids = np.arange(0, 50_000, 2)
    drawn = [words(key_of(*address[:3]), ids + address[3], 4) for address in (one, other)]
    assert p_value(joint(*drawn)) > 1e-3


def test_words__of_one_sample_are_independent():
    drawn = words(key_of(2, "test"), np.arange(20_000), 6)
    assert p_value(joint(drawn[:, :-1], drawn[:, 1:])) > 1e-3


def test_uniforms__are_53_bit_fractions():
    drawn = uniforms(key_of(0, "test"), np.arange(2_000), 50)
    np.testing.assert_array_equal(drawn, (words(key_of(0, "test"), np.arange(2_000), 50) >> np.uint64(11)) / 2**53)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3


def test_order__is_a_permutation_of_places():
    places = order(key_of(0, "test"), np.arange(1000) * 17)
    np.testing.assert_array_equal(np.sort(places), np.arange(1000))
    assert not np.array_equal(places, np.arange(1000))
    assert len(order(0, np.array([], np.int64))) == 0


@given(st.sets(st.integers(0, 10**9), min_size=1, max_size=60), st.sets(st.integers(0, 10**9), max_size=60))
def test_order__of_old_ids_stays_when_ids_are_added(old, added):
    everything = np.array(sorted(old | added))
    alone = np.array(sorted(old))
    among = [sample for sample in everything[order(3, everything)].tolist() if sample in old]
    assert among == alone[order(3, alone)].tolist()


def test_order__every_place_is_equally_likely():
    first = np.array([order(key_of(seed, "test"), np.arange(8))[0] for seed in range(4000)])
    assert p_value(np.bincount(first, minlength=8)) > 1e-3
