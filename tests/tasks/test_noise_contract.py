"""What every noise promises. Whatever the catalogue names is tested here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.fingerprint import code_version, describe
from tasks import noise as catalogue
from tasks.noise import Gaussian, Noise, OneOf, SaltAndPepper, Sequence, Sometimes, slug_of
from tasks.noise.confusions import CONFUSIONS
from tasks.noise.graded import Graded

SENTENCE = "the quick brown fox jumps over a lazy dog while seventeen grey geese watch from behind old wooden fences"
KINDS = [kind for name in catalogue.__all__ if isinstance(kind := getattr(catalogue, name), type) and kind is not Noise]
GRADED = [kind for kind in KINDS if issubclass(kind, Graded)]
COMPOSED = [Sequence, Sometimes, OneOf]


def by_parameters(kind, severity=3, **options):
    """The noise of a severity, written by its parameters."""
    names = [parameter.name for parameter in kind.parameters]
    return kind(**dict(zip(names, kind(severity).strength, strict=True)), **options)


def with_options(kind):
    """The noise with every other value of each of its options."""
    for name, values in kind.options.items():
        default = getattr(kind(3), name)
        yield from (kind(3, **{name: value}) for value in values if value != default)


def compositions():
    """Compositions of each kind of sample, one within another among them."""
    swap, drop = catalogue.CharacterSwap(severity=4), catalogue.WordDrop(severity=3)
    for one, other in ((Gaussian(severity=3), SaltAndPepper(severity=2)), (swap, drop)):
        yield Sequence([one, other])
        yield Sequence([one, Sometimes(0.5, Sequence([other, one])), OneOf([one, other])])
        yield Sometimes(0.5, one)
        yield OneOf([one, other])
        yield OneOf([one, other], weights=[1, 3])


WRITTEN = [
    *(kind(severity) for kind in GRADED for severity in (1, 5)),
    *map(by_parameters, GRADED),
    *(noise for kind in GRADED for noise in with_options(kind)),
    *compositions(),
]

PUBLISHED = [*WRITTEN, *(kind(severity) for kind in GRADED for severity in (2, 3, 4))]
"""Noises whose bytes are pinned."""

TEXTS = [f"{SENTENCE} {i}, (more) or less; \u00e9t\u00e9!" for i in range(12)]


def images(channels: int = 3) -> np.ndarray:
    """Twelve pictures with smooth slopes, edges and texture, uint8 (12, 28, 26, channels)."""
    y, x, c, n = np.meshgrid(np.arange(28), np.arange(26), np.arange(channels), np.arange(12), indexing="ij")
    slope = 4 * y + 3 * x + 20 * c
    block = 60 * ((x // 7 + y // 9 + n) % 2) * (1 + c % 2)
    texture = (np.arange(slope.size).reshape(slope.shape) * 37 + n) % 23
    return ((slope + block + texture + 5 * n) % 256).astype(np.uint8).transpose(3, 0, 1, 2).copy()


def samples_for(noise):
    return list(TEXTS) if noise.kind == "texts" else images()


def apply(noise, ids, **options) -> list[bytes]:
    """The noisy bytes of each sample; sample i is always the same one, and i + 12 too."""
    samples, places = samples_for(noise), [int(i) % 12 for i in ids]
    chosen = [samples[i] for i in places] if noise.kind == "texts" else samples[places]
    return as_bytes(noise(chosen, np.asarray(ids), **options))


def as_bytes(samples) -> list[bytes]:
    return [item.encode() if isinstance(item, str) else item.tobytes() for item in samples]


def test_catalogue__is_what_the_issue_of_noise_names():
    assert set(COMPOSED) == set(KINDS) - set(GRADED)
    assert len({kind.__name__ for kind in GRADED if kind.kind == "images"}) >= 21
    assert len({kind.__name__ for kind in GRADED if kind.kind == "texts"}) >= 13


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
        assert apply(noise, range(60)) != as_bytes(samples_for(noise)) * 5

    def test_leaves_its_input_alone(self, noise):
        samples, ids = samples_for(noise), np.arange(12)
        if noise.kind == "images":
            samples.setflags(write=False)
        noisy = noise(samples, ids)
        assert as_bytes(samples) == as_bytes(samples_for(noise))
        np.testing.assert_array_equal(ids, np.arange(12))
        if noise.kind == "images":
            assert not np.shares_memory(noisy, samples)
            assert noisy.flags.writeable

    def test_is_pure(self, noise):
        before = apply(noise, range(12), seed=3, epoch=1)
        apply(noise, range(12), seed=4)
        assert apply(noise, range(12), seed=3, epoch=1) == before

    @settings(max_examples=12)
    @given(order=st.permutations(range(12)), cuts=st.sets(st.integers(1, 11)), workers=st.integers(1, 3))
    def test_chunks_order_workers_and_retries_change_no_byte(self, noise, order, cuts, workers):
        together = apply(noise, range(12), seed=1)
        edges = [0, *sorted(cuts), 12]
        chunks = [order[low:high] for low, high in pairwise(edges)]
        chunks.append(chunks[0])  # tried again
        with ThreadPoolExecutor(workers) as pool:
            made = list(pool.map(lambda chunk: apply(noise, chunk, seed=1), chunks))
        for chunk, noisy in zip(chunks, made, strict=True):
            assert noisy == [together[i] for i in chunk]

    def test_seed_and_epoch_change_it(self, noise):
        outcomes = [b"".join(apply(noise, range(60), seed=s, epoch=e)) for s, e in [(0, 0), (1, 0), (0, 1), (1, 1)]]
        assert len(set(outcomes)) == (4 if getattr(noise, "random", True) else 1)

    def test_seed_and_id_are_not_added(self, noise):
        samples = samples_for(noise)
        same = [samples[0]] * 60 if noise.kind == "texts" else np.repeat(samples[:1], 60, 0)
        one, other = noise(same, np.arange(1, 61), seed=0), noise(same, np.arange(60), seed=1)
        assert (as_bytes(one) != as_bytes(other)) == getattr(noise, "random", True)

    def test_numbers_of_numpy_are_numbers(self, noise):
        plain = apply(noise, range(12), seed=3, epoch=2)
        assert apply(noise, np.arange(12, dtype=np.uint16), seed=np.int64(3), epoch=np.int32(2)) == plain

    def test_large_and_negative_ids(self, noise):
        samples = samples_for(noise)[:3]
        noisy = noise(samples, np.array([-1, 2**40, 2**63 - 1]))
        assert len(noisy) == 3

    def test_no_samples(self, noise):
        nothing = [] if noise.kind == "texts" else np.empty((0, 4, 4, 3), np.uint8)
        for ids in (np.empty(0, np.int64), []):
            noisy = noise(nothing, ids)
            assert len(noisy) == 0
            assert np.shape(noisy) == np.shape(nothing)

    def test_samples_of_nothing(self, noise):
        if noise.kind == "texts":
            assert noise([""], np.array([0])) == [""]
            return
        for shape in ((2, 0, 5, 3), (2, 5, 0, 3)):
            assert noise(np.empty(shape, np.uint8), np.arange(2)).shape == shape

    def test_survives_pickling(self, noise):
        again = pickle.loads(pickle.dumps(noise))
        assert again == noise
        assert hash(again) == hash(noise)
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
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,79}", slug_of(noise))
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


@pytest.mark.parametrize("kind", GRADED, ids=lambda kind: kind.__name__)
class TestParameters:
    """Severity or parameters, not both, in range."""

    def test_severities_differ(self, kind):
        outcomes = [b"".join(apply(kind(severity=severity), range(60))) for severity in range(1, 6)]
        assert len(set(outcomes)) == 5

    def test_severity_may_be_given_by_place(self, kind):
        assert kind(3) == kind(severity=3)

    def test_both_neither_or_some(self, kind):
        name, listed = kind.__name__, ", ".join(f"{parameter.name}=..." for parameter in kind.parameters)
        expected = rf"^expected {name}\(severity=1..5\) or {name}\({re.escape(listed)}\), received "
        given = dict(zip([p.name for p in kind.parameters], kind(3).strength, strict=True))
        with pytest.raises(ValueError, match=f"{expected}both$"):
            kind(severity=3, **given)
        with pytest.raises(ValueError, match=f"{expected}neither$"):
            kind()
        for parameter in kind.parameters[1:]:
            with pytest.raises(ValueError, match=f"{expected}only {parameter.name}$"):
                kind(**{parameter.name: given[parameter.name]})

    @pytest.mark.parametrize("severity", [0, 6, -1, 2.5, 3.0, "3", True, np.nan, [1], np.array([1, 2])], ids=repr)
    def test_unknown_severity(self, kind, severity):
        with pytest.raises(ValueError, match=rf"^expected a severity of 1, 2, 3, 4 or 5 for {kind.__name__}, received"):
            kind(severity=severity)

    def test_parameter_out_of_range(self, kind):
        given = dict(zip([p.name for p in kind.parameters], kind(3).strength, strict=True))
        for parameter in kind.parameters:
            low, high = parameter.low, parameter.high
            wrong = [low - 0.1, high * 1.01, np.nan, np.inf, "0.1", True, [0.1], 1j]
            wrong += [] if parameter.closed else [low]
            wrong += [1.5] if parameter.whole else []
            for value in wrong:
                expected = rf"^expected {kind.__name__} with (a whole )?{parameter.name} (above|from) .*, received "
                with pytest.raises(ValueError, match=expected):
                    kind(**{**given, parameter.name: value})

    def test_options_are_checked(self, kind):
        for name, values in kind.options.items():
            for value in ("loud", 0, None, *values[:1] * 0):
                with pytest.raises(ValueError, match=rf"^expected {kind.__name__} with {name} of .*, received "):
                    kind(3, **{name: value})

    def test_numpy_numbers_print_as_plain_ones(self, kind):
        assert repr(kind(severity=np.int64(3))) == f"{kind.__name__}(severity=3)"
        assert slug_of(kind(np.int8(3))) == slug_of(kind(3))
        given = zip(kind.parameters, kind(3).strength, strict=True)
        numbers = {p.name: np.int64(value) if p.whole else np.float64(value) for p, value in given}
        assert "np." not in repr(kind(**numbers))
        assert repr(kind(**numbers)) == repr(by_parameters(kind))

    def test_the_parameters_of_a_severity_give_the_same_bytes(self, kind):
        for severity in range(1, 6):
            assert apply(by_parameters(kind, severity), range(12)) == apply(kind(severity), range(12))


FILE = Path(__file__).with_name("noise_golden.json")
GOLDEN = json.loads(FILE.read_text()) if FILE.exists() else {}
"""Version and digest of each noise, by how it is written."""


def golden(noise) -> str:
    """Digest of what a noise makes of fixed samples, over two seeds and two epochs."""
    digest = hashlib.sha256()
    ids = np.array([0, 1, 2, 69_999, 10**12])
    for samples in _texts() if noise.kind == "texts" else _images(noise):
        for seed, epoch in [(0, 0), (1, 0), (0, 1), (12345, 7)]:
            for item in noise(samples, ids[: len(samples)], seed=seed, epoch=epoch):
                data = item.encode() if isinstance(item, str) else item.tobytes()
                digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:32]


def _texts() -> list[list[str]]:
    few = [SENTENCE, "", "e\u0301t\u00e9 \U0001f468\u200d\U0001f469 ok\r\nnext line", "a b  c", "1234567890" * 9]
    # Every key of a keyboard, and every confusion of a scanner, often enough to be hit at the least severity.
    keys = "".join(map(chr, range(32, 127)))
    many = [keys * 20, SENTENCE.upper() * 8, " ".join(CONFUSIONS) * 30, f"{keys[1:48]} {keys[48:]}, " * 12]
    return [few, many]


def _images(noise) -> list[np.ndarray]:
    count = 5 * 28 * 28 * 3
    pixels = (np.arange(count) * 2654435761 % 2**32 >> 24).astype(np.uint8)
    # A larger one too, and smooth: some noises go other ways for more than 64 pixels a side and more than 10,000.
    y, x, c = np.meshgrid(np.arange(112), np.arange(101), np.arange(3), indexing="ij")
    smooth = (2 * y + x + 40 * c + 90 * ((x // 20 + y // 15) % 2)).astype(np.uint8)[None]
    grey = [pixels[: 5 * 28 * 28].reshape(5, 28, 28, 1), pixels[:525].reshape(5, 7, 15, 1), smooth[..., :1].copy()]
    return [pixels.reshape(5, 28, 28, 3), smooth, *([] if getattr(noise, "colour", False) else grey)]


@pytest.mark.parametrize("noise", PUBLISHED, ids=str)
def test_golden__published_bytes_never_change(noise):
    # If you change a noise on purpose: raise its `version`, then run `python tests/tasks/test_noise_contract.py`.
    assert str(noise) in GOLDEN, "run `python tests/tasks/test_noise_contract.py` to add a new noise"
    assert [noise.version, golden(noise)] == GOLDEN[str(noise)]


def _without_vector_instructions() -> str:
    """What NumPy is told not to use: all that this processor has beyond the oldest one that it was built for."""
    umath = import_module("numpy._core._multiarray_umath")
    return " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name))


@pytest.mark.parametrize(
    "settings",
    [
        {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "3"},
        {"NPY_DISABLE_CPU_FEATURES": _without_vector_instructions()},
        {"OPENCV_CPU_DISABLE": "SSE4.1,SSE4.2,AVX,FP16,AVX2,FMA3,AVX512-SKX", "OPENCV_FOR_THREADS_NUM": "3"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_golden__another_processor_gives_the_same_bytes(settings):
    code = "import runpy, sys; sys.exit(runpy.run_path(sys.argv[1])['differing']())"
    found = subprocess.run(
        [sys.executable, "-c", code, __file__], env=os.environ | settings, capture_output=True, text=True, timeout=120
    )
    assert (found.returncode, found.stdout) == (0, "0 differ\n"), found.stdout + found.stderr


def differing() -> int:
    """Say how many noises give other bytes than the published ones."""
    wrong = [noise for noise in PUBLISHED if GOLDEN[str(noise)] != [noise.version, golden(noise)]]
    print(f"{len(wrong)} differ", *wrong, sep=" " if wrong else "")
    return len(wrong)


def test_golden__no_noise_was_lost():
    assert set(GOLDEN) == set(map(str, PUBLISHED))


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


def write_golden() -> int:
    """Add the digests of new noises, and change old ones only if their version was raised."""
    found = {str(noise): [noise.version, golden(noise)] for noise in PUBLISHED}
    changed = [name for name, row in found.items() if name in GOLDEN and GOLDEN[name] != row]
    if forbidden := [name for name in changed if GOLDEN[name][0] >= found[name][0]]:
        print("these noises give other bytes, but have no new version:", *forbidden, sep="\n  ", file=sys.stderr)
        return 1
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(found)} noises, {len(changed)} with new bytes")
    return 0


if __name__ == "__main__":
    sys.exit(write_golden())
