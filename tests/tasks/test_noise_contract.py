"""What every noise promises. A noise that is not listed in `NOISES` fails the first test."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import noise as catalogue
from tasks.fingerprint import code_version, describe
from tasks.noise import CharacterSwap, Gaussian, Noise, SaltAndPepper, WordDrop, slug_of

NOISES = {
    Gaussian: "sigma",
    SaltAndPepper: "amount",
    CharacterSwap: "rate",
    WordDrop: "rate",
}
"""Every noise of the catalogue, and the name of its parameter."""
WRITTEN = [*(kind(severity=s) for kind in NOISES for s in (1, 5)), *(k(**{name: 0.3}) for k, name in NOISES.items())]

WORDS = "the quick brown fox jumps over a lazy dog while seventeen grey geese watch from behind old wooden fences"
TEXTS = [f"{WORDS} {i}" for i in range(12)]


def samples_for(noise):
    if noise.kind == "texts":
        return list(TEXTS)
    return (np.arange(12 * 6 * 5 * 3) * 37 % 256).astype(np.uint8).reshape(12, 6, 5, 3)


def apply(noise, ids, **options) -> list[bytes]:
    """The noisy bytes of each sample; sample i is always the same one."""
    samples = samples_for(noise)
    chosen = [samples[i] for i in ids] if noise.kind == "texts" else samples[list(ids)]
    noisy = noise(chosen, np.asarray(ids), **options)
    return [item.encode() if isinstance(item, str) else item.tobytes() for item in noisy]


def test_catalogue__is_tested_here():
    classes = {value for name in catalogue.__all__ if isinstance(value := getattr(catalogue, name), type)}
    assert classes - {Noise} == set(NOISES)


@pytest.mark.parametrize("noise", WRITTEN, ids=str)
class TestNoise:
    """The contract."""

    def test_is_a_noise(self, noise):
        assert isinstance(noise, Noise)
        assert noise.kind in ("images", "texts")
        assert isinstance(noise.version, int)

    def test_keeps_kind_shape_and_type(self, noise):
        samples = samples_for(noise)
        noisy = noise(samples, np.arange(12))
        if noise.kind == "texts":
            assert isinstance(noisy, list)
            assert [type(text) for text in noisy] == [str] * 12
        else:
            assert isinstance(noisy, np.ndarray)
            assert (noisy.shape, noisy.dtype) == (samples.shape, samples.dtype)

    def test_changes_something(self, noise):
        assert apply(noise, range(12)) != apply_nothing(noise)

    def test_leaves_its_input_alone(self, noise):
        samples, ids = samples_for(noise), np.arange(12)
        if noise.kind == "images":
            samples.setflags(write=False)
        noisy = noise(samples, ids)
        np.testing.assert_array_equal(samples, samples_for(noise))
        np.testing.assert_array_equal(ids, np.arange(12))
        if noise.kind == "images":
            assert not np.shares_memory(noisy, samples)

    def test_is_pure(self, noise):
        before = apply(noise, range(12), seed=3, epoch=1)
        apply(noise, range(12), seed=4)
        assert apply(noise, range(12), seed=3, epoch=1) == before

    @given(ids=st.lists(st.integers(0, 11), max_size=15))
    def test_a_sample_gets_the_same_in_any_company(self, noise, ids):
        together = apply(noise, range(12), seed=1)
        assert apply(noise, ids, seed=1) == [together[i] for i in ids]

    def test_seed_and_epoch_change_it(self, noise):
        outcomes = [b"".join(apply(noise, range(12), seed=s, epoch=e)) for s, e in [(0, 0), (1, 0), (0, 1), (1, 1)]]
        assert len(set(outcomes)) == 4

    def test_seed_and_id_are_not_added(self, noise):
        samples = samples_for(noise)
        same = [samples[0]] * 8 if noise.kind == "texts" else np.repeat(samples[:1], 8, 0)
        one, other = noise(same, np.arange(1, 9), seed=0), noise(same, np.arange(8), seed=1)
        assert np.any(np.asarray(one) != np.asarray(other))

    def test_numbers_of_numpy_are_numbers(self, noise):
        plain = apply(noise, range(12), seed=3, epoch=2)
        assert apply(noise, np.arange(12, dtype=np.uint16), seed=np.int64(3), epoch=np.int32(2)) == plain

    def test_large_and_negative_ids(self, noise):
        samples = samples_for(noise)[:3]
        noisy = noise(samples, np.array([-1, 2**40, 2**63 - 1]))
        assert len(noisy) == 3

    def test_no_samples(self, noise):
        nothing = [] if noise.kind == "texts" else np.empty((0, 4, 4, 1), np.uint8)
        for ids in (np.empty(0, np.int64), []):
            noisy = noise(nothing, ids)
            assert len(noisy) == 0
            assert np.shape(noisy) == np.shape(nothing)

    def test_survives_pickling(self, noise):
        again = pickle.loads(pickle.dumps(noise))
        assert again == noise
        assert apply(again, range(12)) == apply(noise, range(12))

    def test_prints_as_it_is_written(self, noise):
        assert eval(repr(noise), dict(vars(catalogue))) == noise
        assert str(noise) == repr(noise)
        assert "\n" not in str(noise)

    def test_cannot_be_changed(self, noise):
        for field in dataclasses.fields(noise):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(noise, field.name, 2)

    def test_slug_is_a_folder_name_of_its_own(self, noise):
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", slug_of(noise))
        assert len({slug_of(other) for other in WRITTEN}) == len(WRITTEN)

    def test_its_code_is_known_by_version(self, noise):
        assert code_version(noise) == f"version {noise.version}"
        assert len({str(describe(other)) for other in WRITTEN}) == len(WRITTEN)

    @pytest.mark.parametrize(
        "ids",
        [np.arange(11), np.arange(13), np.arange(12.0), np.arange(12).reshape(3, 4), np.full(12, True), 5, ["a"] * 12],
        ids=["few", "many", "floats", "table", "booleans", "one", "strings"],
    )
    def test_refuses_wrong_ids(self, noise, ids):
        with pytest.raises(ValueError, match=r"^expected 12 integer ids, received \S+ of shape .*$"):
            noise(samples_for(noise), ids)

    def test_refuses_wrong_samples(self, noise):
        wrong = WRONG_TEXTS if noise.kind == "texts" else WRONG_IMAGES
        for samples, found in wrong:
            with pytest.raises(TypeError, match=rf"^expected .*, received .*{found}.*; .*$"):
                noise(samples, np.arange(2))

    def test_refuses_seeds_that_are_no_whole_numbers(self, noise):
        for seed in (0.5, None, np.nan):
            with pytest.raises(TypeError, match="expected whole numbers"):
                noise(samples_for(noise), np.arange(12), seed=seed)


WRONG_IMAGES = [
    (np.zeros((2, 4, 4, 1), np.float32), r"float32 \(2, 4, 4, 1\)"),
    (np.zeros((2, 4, 4, 1), np.int64), "int64"),
    (np.full((2, 4, 4, 1), np.nan), "float64"),
    (np.zeros((2, 4, 4), np.uint8), r"uint8 \(2, 4, 4\)"),
    (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\)"),
    ([[0, 1], [2, 3]], "list"),
    (["a", "b"], "list"),
    (None, "NoneType"),
]
WRONG_TEXTS = [
    ("ab", "str"),
    (b"ab", "bytes"),
    (["a", None], "NoneType in it"),
    (["a", b"b"], "bytes in it"),
    (["a", 1.5], "float in it"),
    (np.zeros((2, 4, 4, 1), np.uint8), "ndarray in it"),
    ((text for text in "ab"), "generator"),
    (None, "NoneType"),
]


def apply_nothing(noise) -> list[bytes]:
    return [item.encode() if isinstance(item, str) else item.tobytes() for item in samples_for(noise)]


@pytest.mark.parametrize(("kind", "name"), NOISES.items(), ids=lambda value: getattr(value, "__name__", value))
class TestParameters:
    """Severity or a parameter, not both, in range."""

    def test_severities_differ(self, kind, name):
        outcomes = [b"".join(apply(kind(severity=severity), range(12))) for severity in range(1, 6)]
        assert len(set(outcomes)) == 5

    def test_severity_may_be_given_by_place(self, kind, name):
        assert kind(3) == kind(severity=3)

    def test_both_or_neither(self, kind, name):
        with pytest.raises(ValueError, match=rf"^expected {kind.__name__}\(severity=1..5\) or .*, received both$"):
            kind(severity=3, **{name: 0.1})
        with pytest.raises(ValueError, match=rf"^expected .* or {kind.__name__}\({name}=...\), received neither$"):
            kind()

    @pytest.mark.parametrize("severity", [0, 6, -1, 2.5, 3.0, "3", True, np.nan, [1], np.array([1, 2])], ids=repr)
    def test_unknown_severity(self, kind, name, severity):
        with pytest.raises(ValueError, match=rf"^expected a severity of 1, 2, 3, 4 or 5 for {kind.__name__}, received"):
            kind(severity=severity)

    @pytest.mark.parametrize("value", [0, -0.1, 1.01, np.nan, np.inf, "0.1", True, [0.1], 1j], ids=repr)
    def test_parameter_out_of_range(self, kind, name, value):
        expected = rf"^expected {kind.__name__} with {name} above 0 and at most 1, received "
        with pytest.raises(ValueError, match=expected):
            kind(**{name: value})

    def test_numpy_numbers_print_as_plain_ones(self, kind, name):
        assert repr(kind(severity=np.int64(3))) == f"{kind.__name__}(severity=3)"
        assert repr(kind(**{name: np.float64(0.25)})) == f"{kind.__name__}({name}=0.25)"
        assert slug_of(kind(np.int8(3))) == slug_of(kind(3))

    def test_the_parameter_of_a_severity_gives_the_same_bytes(self, kind, name):
        by_severity = kind(severity=3)
        by_value = kind(**{name: by_severity.strength[0]})
        assert apply(by_value, range(12)) == apply(by_severity, range(12))


GOLDEN = {
    "Gaussian(severity=1)": (1, "7273742d4a40306ed88a1acf3588c67a"),
    "Gaussian(severity=5)": (1, "5d568856673e49041374ab46e8fb13eb"),
    "SaltAndPepper(severity=1)": (1, "0acb24595d7dddc98a3aa94fad55dd34"),
    "SaltAndPepper(severity=5)": (1, "cb2a1e6e47054bcbd9011bf259606c18"),
    "CharacterSwap(severity=1)": (1, "bddcef7bca25f33b4f2278616bc49b3f"),
    "CharacterSwap(severity=5)": (1, "2f91a1a05c6bf20986a2c53b43cde6a2"),
    "WordDrop(severity=1)": (1, "55cf99c262e0b4107f35b3753c470104"),
    "WordDrop(severity=5)": (1, "0985609c166c343d3e91ced2fc101d93"),
    "Gaussian(sigma=0.3)": (1, "2ebfbbb1e9fbb859faec5e6e030be985"),
    "SaltAndPepper(amount=0.3)": (1, "2470d932a0799978bdc30001c77c9882"),
    "CharacterSwap(rate=0.3)": (1, "ff36270ead9f12ddd1326f2c581356e4"),
    "WordDrop(rate=0.3)": (1, "010d53e788a7c76f4eb90e8066339398"),
}
"""Version and digest."""


def golden(noise) -> str:
    """Digest of what a noise makes of fixed samples, over two seeds and two epochs."""
    digest = hashlib.sha256()
    ids = np.array([0, 1, 2, 69_999, 10**12])
    if noise.kind == "texts":
        batches = [[WORDS, "", "e\u0301té \U0001f468\u200d\U0001f469 ok\r\nnext line", "a b  c", "1234567890" * 9]]
    else:
        count = 5 * 28 * 28 * 3
        pixels = (np.arange(count) * 2654435761 % 2**32 >> 24).astype(np.uint8)
        batches = [
            pixels[: 5 * 28 * 28].reshape(5, 28, 28, 1),
            pixels.reshape(5, 28, 28, 3),
            pixels[:525].reshape(5, 7, 15, 1),
        ]
    for samples in batches:
        for seed, epoch in [(0, 0), (1, 0), (0, 1), (12345, 7)]:
            for item in noise(samples, ids, seed=seed, epoch=epoch):
                data = item.encode() if isinstance(item, str) else item.tobytes()
                digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


@pytest.mark.parametrize("noise", WRITTEN, ids=str)
def test_golden__published_bytes_never_change(noise):
    # If you change a noise on purpose: raise its `version`, and only then this table.
    assert (noise.version, golden(noise)) == GOLDEN[str(noise)]


class Shouting:
    """A user's noise by protocol alone."""

    kind = "texts"

    def __call__(self, samples, ids, seed=0, epoch=0):
        return [text.upper() for text in samples]


def test_slug_of__refuses_a_noise_that_prints_its_address():
    assert isinstance(Shouting(), Noise)
    with pytest.raises(
        TypeError, match=r"expected a noise that prints as it was written, received .*Shouting object at"
    ):
        slug_of(Shouting())


@pytest.mark.parametrize(
    ("written", "slug"),
    [
        ("SaltAndPepper(severity=2)", "salt-and-pepper-2"),
        ("Gaussian(sigma=0.25)", "gaussian-sigma-0.25"),
        ("Shouting()", "shouting"),
        ("my_noise(a='x', b=[1, 2])", "my-noise-a-x-b-1-2"),
    ],
)
def test_slug_of__what_is_printed(written, slug):
    class Printed:
        def __repr__(self):
            return written

    assert slug_of(Printed()) == slug


def test_slug_of__a_name_of_its_own():
    class Named(Shouting):
        slug = "loud"

    assert slug_of(Named()) == "loud"
