from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage
from storage import StorageError
from storage.writer import Build
from tasks import noise
from tasks.ingest import ingest
from tasks.noising import add_noise, noise_recipe, noisy_shard
from tasks.split import Split

SMALL = {"shard_bytes": 600, "minimum_shard_bytes": 100, "minimum_shards": 7, "chunk_bytes": 200}
NOISES = {
    "images": [noise.Gaussian(severity=3), noise.SaltAndPepper(severity=5)],
    "texts": [noise.CharacterSwap(severity=5), noise.WordDrop(severity=5)],
}
GRADED = [kind for name in noise.__all__ if hasattr(kind := getattr(noise, name), "severities")]
EVERY = [
    *(kind(severity=4) for kind in GRADED),
    noise.Sequence([noise.Rotate(severity=2), noise.Sometimes(0.5, noise.Gaussian(severity=3))]),
    noise.OneOf([noise.WordDrop(severity=4), noise.CharacterSwap(severity=5)]),
]


@pytest.fixture(scope="session")
def clean(workers, tmp_path_factory):
    """The small sources, ingested, with the source."""
    held = {}

    def get(kind, make_source):
        if kind not in held:
            source, folder = make_source(kind), tmp_path_factory.mktemp("clean") / kind
            held[kind] = ingest(source, str(folder), workers, split=Split(), seed=0, layout=SMALL), source
        return held[kind]

    return get


@pytest.mark.parametrize("noisy", EVERY, ids=str)
def test_add_noise__equals_the_noise_on_the_whole_source(clean, make_source, workers, tmp_path, noisy):
    dataset, source = clean(noisy.kind, make_source)
    copy = add_noise(dataset, noisy, str(tmp_path / "noisy"), workers, seed=7)
    whole = noisy(source.held, np.arange(len(source)), seed=7)
    stored = copy.read(0, len(copy))
    if noisy.kind == "images":
        np.testing.assert_array_equal(stored, whole[copy.ids()])
    else:
        assert stored == [whole[i] for i in copy.ids()]
    for read in ("ids", "labels"):
        np.testing.assert_array_equal(getattr(copy, read)(), getattr(dataset, read)())
    # While training: the same bytes in epoch 0, others later.
    split = dataset.rows("train")
    for batch in storage.batches(dataset, 7, seed=7, noise=noisy):
        assert batch["rows"].min() >= split.start
        np.testing.assert_array_equal(batch["values"], copy.take(batch["rows"]))
    if getattr(noisy, "random", True):
        later = storage.batches(dataset, 60, seed=7, epoch=1, shuffle=False, noise=noisy)[0]
        assert np.any(np.asarray(later["values"]) != np.asarray(copy.take(later["rows"])))
    assert (copy.splits, copy.classes, copy.layout) == (dataset.splits, dataset.classes, dataset.layout)
    assert copy.name == noise.slug_of(noisy)
    assert copy.version != dataset.version
    assert storage.verify(copy.path).ok


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=4)
@given(
    noisy=st.sampled_from([n for kind in NOISES.values() for n in kind]),
    shard=st.integers(60, 3000),
    seed=st.integers(0, 3),
)
def test_add_noise__shard_size_changes_no_sample(make_source, workers, tmp_path_factory, noisy, shard, seed):
    folder = tmp_path_factory.mktemp("run")
    source = make_source(noisy.kind, 40)
    layout = {"shard_bytes": shard, "minimum_shard_bytes": 60, "minimum_shards": 9, "chunk_bytes": 300}
    dataset = ingest(source, str(folder / "clean"), workers, split=Split(), seed=seed, layout=layout)
    copy = add_noise(dataset, noisy, str(folder / "noisy"), workers, seed=seed)
    whole = noisy(source.held, np.arange(40), seed=seed)
    for value, sample in zip(copy.read(0, 40), copy.ids(), strict=True):
        assert np.array_equal(value, whole[sample])


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_add_noise__workers_and_resuming_give_one_version(clean, make_source, cluster_of, workers, tmp_path, kind):
    dataset, _ = clean(kind, make_source)
    noisy = NOISES[kind][0]
    version = add_noise(dataset, noisy, str(tmp_path / "three"), workers, seed=0).version
    done = []

    def stop_after_two(count):
        done.append(count)
        if len(done) == 2:
            raise KeyboardInterrupt

    with cluster_of({}) as one:
        with pytest.raises(KeyboardInterrupt):
            add_noise(dataset, noisy, str(tmp_path / "one"), one, seed=0, advance=stop_after_two)
        with pytest.raises(StorageError, match="no finished dataset"):
            storage.open_dataset(tmp_path / "one")
        assert add_noise(dataset, noisy, str(tmp_path / "one"), one, seed=0).version == version


def test_noise_recipe__holds_all_that_matters():
    one = noise_recipe("v1", noise.Gaussian(severity=3), 0)
    assert one == noise_recipe("v1", noise.Gaussian(severity=np.int64(3)), 0)
    others = [
        noise_recipe("v2", noise.Gaussian(severity=3), 0),
        noise_recipe("v1", noise.Gaussian(severity=4), 0),
        noise_recipe("v1", noise.Gaussian(sigma=0.18), 0),
        noise_recipe("v1", noise.Gaussian(severity=3), 1),
        noise_recipe("v1", noise.SaltAndPepper(severity=3), 0),
    ]
    assert all(one != other for other in others)


def test_noise_recipe__a_deliberate_change_of_bytes_changes_it(monkeypatch):
    one = noise_recipe("v1", noise.Gaussian(severity=3), 0)
    monkeypatch.setattr(noise.Gaussian, "version", 2)
    assert noise_recipe("v1", noise.Gaussian(severity=3), 0) != one


@dataclasses.dataclass(frozen=True)
class Own:
    """A user's noise, by protocol."""

    kind: str
    change: str

    def __call__(self, samples, ids, seed=0, epoch=0):
        return CHANGES[self.change](samples)


CHANGES = {
    "invert": lambda images: 255 - images,
    "floats": lambda images: images.astype(np.float32),
    "few": lambda images: images[:-1],
    "smaller": lambda images: images[:, ::2],
    "list": list,
    "nothing": lambda samples: None,
    "shout": lambda texts: [text + "!" * 2000 for text in texts],
    "few texts": lambda texts: texts[:-1],
    "joined": "".join,
    "bytes": lambda texts: [b"" for text in texts],
}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("images", "floats", r"to keep uint8 and shape \(\d+, 5, 4, 3\), received float32 of shape"),
        ("images", "few", "to keep uint8 and shape"),
        ("images", "smaller", r"received uint8 of shape \(\d+, 3, 4, 3\)"),
        ("images", "list", "received list"),
        ("images", "nothing", "received NoneType"),
        ("texts", "few texts", r"to give a list of \d+ strings, received \d+ values"),
        ("texts", "joined", "received str"),
        ("texts", "bytes", "received bytes among them"),
        ("texts", "nothing", "received NoneType"),
    ],
)
def test_add_noise__refuses_what_is_no_noise(clean, make_source, workers, tmp_path, kind, change, message):
    dataset, _ = clean(kind, make_source)
    with pytest.raises(ValueError, match=message) as caught:
        add_noise(dataset, Own(kind, change), str(tmp_path / "noisy"), workers, seed=0, retries=0)
    assert str(caught.value).startswith(f"expected Own(kind='{kind}', change='{change}') to ")
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(tmp_path / "noisy")


def test_add_noise__of_a_user(clean, make_source, workers, tmp_path):
    dataset, source = clean("images", make_source)
    copy = add_noise(dataset, Own("images", "invert"), str(tmp_path / "noisy"), workers, seed=0)
    np.testing.assert_array_equal(copy.read(0, 60), 255 - source.held[copy.ids()])
    assert copy.name == "own-kind-images-change-invert"


@dataclasses.dataclass(frozen=True)
class Growing(Own):
    growth: float = 100.0


def test_add_noise__texts_that_grow(clean, make_source, workers, tmp_path):
    dataset, source = clean("texts", make_source)
    with pytest.raises(StorageError, match="a noise that lengthens texts must say so by its attribute `growth`"):
        add_noise(dataset, Own("texts", "shout"), str(tmp_path / "short"), workers, seed=0, retries=0)
    copy = add_noise(dataset, Growing("texts", "shout"), str(tmp_path / "long"), workers, seed=0)
    assert copy.read(0, 60) == [source.held[i] + "!" * 2000 for i in copy.ids()]


def test_add_noise__of_the_other_kind(clean, make_source, workers, tmp_path):
    dataset, _ = clean("texts", make_source)
    with pytest.raises(ValueError, match=r"expected a noise for texts, received Gaussian\(severity=1\) for images"):
        add_noise(dataset, noise.Gaussian(severity=1), str(tmp_path / "noisy"), workers, seed=0)


class Clock:
    """No noise: it gives something else with every call."""

    kind = "images"
    calls = iter(range(10**6))

    def __call__(self, samples, ids, seed=0, epoch=0):
        return samples + np.uint8(next(self.calls))

    def __repr__(self):
        return "Clock()"


def test_add_noise__an_impure_noise_is_caught_when_a_shard_is_done_twice(clean, make_source, workers, tmp_path):
    dataset, _ = clean("images", make_source)
    copy = add_noise(dataset, Clock(), str(tmp_path / "noisy"), workers, seed=0)
    plan, part = copy.parts[0].plan, dataset.parts[0]
    with pytest.raises(StorageError, match="must give the same samples for the same ids"):
        Build(str(tmp_path / "noisy"), plan).write_shard(0, noisy_shard(plan, 0, part.dataset, part.build, Clock(), 0))
    assert storage.verify(copy.path).ok


def test_batches__state_knows_the_noise(clean, make_source):
    dataset, _ = clean("images", make_source)
    one = storage.batches(dataset, 8, noise=noise.Gaussian(severity=3))
    storage.batches(dataset, 8, noise=noise.Gaussian(severity=3)).load_state_dict(one.state_dict())
    for other in (None, noise.Gaussian(severity=4)):
        with pytest.raises(ValueError, match="expected a state of this dataset"):
            storage.batches(dataset, 8, noise=other).load_state_dict(one.state_dict())


def test_batches__refuse_a_noise_of_the_other_kind(clean, make_source):
    dataset, _ = clean("images", make_source)
    with pytest.raises(ValueError, match=r"expected a noise for images, received WordDrop\(severity=3\) for texts"):
        storage.batches(dataset, 8, noise=noise.WordDrop(severity=3))


def test_noise_recipe__knows_the_members(monkeypatch):
    composed = noise.Sequence([noise.Sometimes(0.5, noise.Shift(severity=1)), noise.Gaussian(severity=3)])
    before = noise_recipe("v", composed, 0)
    monkeypatch.setattr(noise.Shift, "version", 99)
    assert noise_recipe("v", composed, 0) != before
    assert noise_recipe("v", noise.Gaussian(severity=3), 0)["code"] == "version 1"
