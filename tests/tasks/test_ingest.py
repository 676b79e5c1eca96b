from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import storage
from storage import StorageError
from storage.writer import Build
from tasks import sources
from tasks.ingest import ingest, ingest_recipe
from tasks.split import Split, arrange

SMALL = {"shard_bytes": 600, "minimum_shard_bytes": 100, "minimum_shards": 7, "chunk_bytes": 200}
"""About ten shards of the small sources."""
SPLIT = Split(validation=0.1, test=0.2)


def run(source, folder, client, **options):
    options = {"split": SPLIT, "seed": 0, "layout": SMALL, "retries": 0, **options}
    return ingest(source, str(folder), client, **options)


def shuffled(numbers, rng) -> np.ndarray:
    return np.array(rng.sample(numbers.tolist(), len(numbers)), np.int64)


def by_id(dataset) -> dict[int, tuple]:
    """What is stored of each sample: value, label, split."""
    values, labels = dataset.read(0, len(dataset)), dataset.labels().tolist()
    split = dataset.column("split", 0, len(dataset)).tolist()
    values = values if dataset.kind == "texts" else [value.tobytes() for value in values]
    return dict(zip(dataset.ids().tolist(), zip(values, labels, split, strict=True), strict=True))


def expected(source, seed=0, split=SPLIT) -> dict[int, tuple]:
    """The same from the source itself."""
    labels = np.full(len(source), -1) if source.codes is None else source.codes
    codes = split.assign(source.splits, labels, seed).tolist()
    values = source.held if source.kind == "texts" else [value.tobytes() for value in source.held]
    return dict(enumerate(zip(values, labels.tolist(), codes, strict=True)))


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_ingest__stores_every_sample_once(make_source, workers, tmp_path, kind):
    source = make_source(kind)
    dataset = run(source, tmp_path / "clean", workers)
    assert by_id(dataset) == expected(source)
    assert dataset.shards >= 5
    assert dataset.classes == source.classes
    ids, splits = arrange(SPLIT.assign(None, source.codes, 0), 0)
    np.testing.assert_array_equal(dataset.ids(), ids)
    assert {name: ranges[0] for name, ranges in dataset.splits.items()} == splits
    assert storage.verify(dataset.path).ok


def test_ingest__statistics_against_numpy(make_source, workers, tmp_path):
    source = make_source()
    dataset = run(source, tmp_path / "clean", workers)
    codes = SPLIT.assign(None, source.codes, 0)
    train = source.held[codes == 0].astype(float)
    np.testing.assert_allclose(dataset.statistics["mean"], train.mean((0, 1, 2)))
    np.testing.assert_allclose(dataset.statistics["std"], train.std((0, 1, 2)))
    counts = dataset.statistics["class_counts"]["test"]
    assert counts == np.bincount(source.codes[codes == 2], minlength=3).tolist()


def test_ingest__the_sources_split_is_kept(make_source, workers, tmp_path):
    own = np.zeros(60, np.uint8)
    own[50:] = 2
    source = make_source(splits=own)
    dataset = run(source, tmp_path / "clean", workers)
    assert set(dataset.ids()[dataset.rows("test")].tolist()) == set(range(50, 60))
    assert by_id(dataset) == expected(source)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_ingest__without_labels(make_source, workers, tmp_path, kind):
    source = make_source(kind, labelled=False)
    dataset = run(source, tmp_path / "clean", workers)
    assert set(dataset.labels().tolist()) == {-1}
    assert dataset.classes == ()
    assert by_id(dataset) == expected(source)


def test_ingest__one_sample(make_source, workers, tmp_path):
    source = make_source(count=1)
    dataset = run(source, tmp_path / "clean", workers)
    assert by_id(dataset) == expected(source)
    assert dataset.splits == {"train": [(0, 1)]}


def test_ingest__arrays(workers, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    source = sources.Arrays(images=pixels, labels=["b", "a"] * 20)
    dataset = run(source, tmp_path / "clean", workers)
    np.testing.assert_array_equal(dataset.read(0, 40)[..., 0], pixels[dataset.ids()])
    assert dataset.classes == ("a", "b")
    texts = sources.Arrays(texts=[f"text {i}" for i in range(40)], labels=[0, 1] * 20)
    dataset = run(texts, tmp_path / "texts", workers)
    assert dataset.read(0, 40) == [f"text {i}" for i in dataset.ids()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Gives a new folder with every call, also between the examples of one test."""
    return lambda: tmp_path_factory.mktemp("run") / "clean"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(
    kind=st.sampled_from(["images", "texts"]),
    count=st.integers(2, 70),
    shard=st.integers(50, 5000),
    chunk=st.integers(50, 1000),
    shards=st.integers(1, 9),
    order=st.randoms(use_true_random=False),
)
def test_ingest__shard_size_and_order_change_no_sample(
    make_source, workers, folders, kind, count, shard, chunk, shards, order
):
    source = make_source(kind, count)
    layout = {"shard_bytes": shard, "minimum_shard_bytes": 50, "minimum_shards": shards, "chunk_bytes": chunk}
    missing = Build.missing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Build, "missing", lambda self: shuffled(missing(self), order))
        dataset = run(source, folders(), workers, layout=layout)
    assert by_id(dataset) == expected(source)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_ingest__workers_order_retries_and_repetition_give_one_version(make_source, cluster_of, tmp_path, kind):
    source = make_source(kind)
    versions = []
    for number in (1, 3):
        with cluster_of(*[{"CPU": 1}] * number) as client:
            versions.append(run(source, tmp_path / f"workers-{number}", client).version)
            for seed in range(2):
                missing, rng = Build.missing, random.Random(seed)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Build, "missing", lambda self, m=missing, r=rng: shuffled(m(self), r))
                    versions.append(run(source, tmp_path / f"order-{number}-{seed}", client).version)
            # Shards that are written a second time, by a retry or by another run.
            again = run(source, tmp_path / f"workers-{number}", client)
            versions.append(again.version)
    assert len(set(versions)) == 1


def test_ingest__retries_change_nothing(make_source, workers, tmp_path, monkeypatch):
    version = run(make_source(), tmp_path / "undisturbed", workers).version
    tries, lock, write = {}, threading.Lock(), Build.write_shard

    def unsteady(self, number, shard):
        with lock:
            tries[number] = tries.get(number, 0) + 1
        if tries[number] == 1:
            raise OSError("before it is written")
        written = write(self, number, shard)
        if tries[number] == 2:
            raise OSError("after it was committed")
        return written

    monkeypatch.setattr(Build, "write_shard", unsteady)
    dataset = run(make_source(), tmp_path / "disturbed", workers, retries=2)
    assert dataset.version == version
    assert set(tries.values()) == {2}  # the third finds it committed


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_ingest__resumes_at_the_shard(make_source, workers, tmp_path, kind):
    source, folder = make_source(kind), tmp_path / "clean"
    version = run(source, tmp_path / "undisturbed", workers).version
    done = []

    def stop_after_three(count):
        done.append(count)
        if len(done) == 3:
            raise Stop

    with pytest.raises(Stop):
        run(source, folder, workers, advance=stop_after_three)
    with pytest.raises(StorageError, match="no finished dataset"):
        storage.open_dataset(folder)
    records = sorted(folder.rglob("records/*"))
    assert len(records) >= 3
    files = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in records}
    started, advanced = [], []
    dataset = run(source, folder, workers, start=lambda *both: started.append(both), advance=advanced.append)
    assert dataset.version == version
    ((total, before),) = started
    assert total == dataset.shards
    assert before >= 3
    assert sum(advanced) == total - before
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in records} == files


def test_ingest__a_finished_dataset_is_not_built_again(make_source, workers, tmp_path):
    version = run(make_source(), tmp_path / "clean", workers).version
    started, advanced = [], []
    again = run(make_source(), tmp_path / "clean", workers, start=lambda *b: started.append(b), advance=advanced.append)
    assert again.version == version
    assert started == [(again.shards, again.shards)]
    assert advanced == []


def test_ingest__a_repaired_source_is_tried_anew(make_source, workers, tmp_path):
    # As in a notebook: the error, and with it the failed task, is still held when the user tries again.
    class Broken(make_source):
        broken = True

        def take(self, indices):
            if Broken.broken:
                raise OSError("the disk is not plugged in")
            return super().take(indices)

    with pytest.raises(OSError, match="not plugged in") as held:
        run(Broken(), tmp_path / "clean", workers)
    Broken.broken = False
    assert by_id(run(Broken(), tmp_path / "clean", workers)) == expected(make_source())
    assert held.value is not None


def test_ingest__a_new_seed_is_a_new_build(make_source, workers, tmp_path):
    one = run(make_source(), tmp_path / "clean", workers)
    other = run(make_source(), tmp_path / "clean", workers, seed=1)
    assert one.path != other.path
    assert storage.open_dataset(tmp_path / "clean").version == other.version != one.version
    assert storage.verify(one.path).ok  # still there for who holds it
    assert by_id(other) == expected(make_source(), seed=1)


@pytest.mark.parametrize(
    ("change", "same"),
    [({}, True), ({"seed": 1}, False), ({"split": Split()}, False), ({"layout": {**SMALL, "shard_bytes": 1}}, False)],
)
def test_ingest_recipe__holds_all_that_matters(make_source, change, same):
    options = {"split": SPLIT, "seed": 0, "layout": SMALL}
    one, other = (ingest_recipe(make_source(), **{**options, **extra}) for extra in ({}, change))
    assert (one == other) == same


def test_ingest_recipe__another_source(make_source):
    assert ingest_recipe(make_source(), SPLIT, 0, SMALL) != ingest_recipe(make_source(count=61), SPLIT, 0, SMALL)


def lying(base, method, answer):
    return type("Lying", (base,), {method: answer})


LIES = {
    "floats": ("images", lambda v: v.astype(np.float32), r"expected uint8 images of shape .*, received float32"),
    "few": (
        "images",
        lambda v: v[:-1],
        r"expected uint8 images of shape \(\d+, 5, 4, 3\) from Lying.*, received uint8",
    ),
    "turned": ("images", lambda v: v.transpose(0, 2, 1, 3), r"received uint8 \(\d+, 4, 5, 3\)"),
    "list of images": ("images", lambda v: list(v), "received list"),
    "no images": ("images", lambda v: None, "received NoneType"),
    "few texts": ("texts", lambda v: v[:-1], r"expected \d+ strings from Lying.*, received \d+ values"),
    "bytes": ("texts", lambda v: [t.encode("utf-8", "replace") for t in v], "received bytes among them"),
    "missing": ("texts", lambda v: [None, *v[1:]], "received NoneType among them"),
    "one text": ("texts", lambda v: "x" * len(v), "received str"),
    "no texts": ("texts", lambda v: None, "received NoneType"),
}


@pytest.mark.parametrize("lie", LIES)
def test_ingest__values_that_are_not_what_the_source_promised(make_source, workers, tmp_path, lie):
    kind, change, message = LIES[lie]

    def take(self, indices):
        honest = make_source.take(self, indices)
        return honest._replace(values=change(honest.values))

    with pytest.raises(ValueError, match=message) as caught:
        run(lying(make_source, "take", take)(kind), tmp_path / "clean", workers)
    assert "\n" not in str(caught.value)
    with pytest.raises((StorageError, FileNotFoundError)):
        storage.open_dataset(tmp_path / "clean")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(59, np.int64), r"expected 60 labels as integers from .*, received int64 \(59,\)"),
        (np.zeros(60), "expected 60 labels as integers .* received float64"),
        (np.array(["a"] * 60), "expected 60 labels as integers .* received <U1"),
        (np.full(60, 3), "expected labels from -1 .none. to 2, the last of 3 classes, .* received 3 to 3"),
        (np.full(60, -2), "received -2 to -2"),
    ],
    ids=["few", "floats", "names", "too large", "too small"],
)
def test_ingest__labels_that_are_not_what_the_source_promised(make_source, workers, tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        run(lying(make_source, "labels", lambda self: labels)(), tmp_path / "clean", workers)


def test_ingest__splits_that_are_none(make_source, workers, tmp_path):
    with pytest.raises(ValueError, match="expected a split of 0"):
        run(make_source(splits=np.full(60, 7, np.uint8)), tmp_path / "clean", workers)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_ingest__nothing_to_ingest(make_source, workers, tmp_path, kind):
    source = make_source(kind)
    source.held = source.held[:0]
    with pytest.raises(ValueError, match=r"expected samples in Source\('\w+', 0\), received none; check its path"):
        run(source, tmp_path / "clean", workers)
    assert not (tmp_path / "clean").exists()


def test_ingest__a_shard_at_a_time(make_source, workers, tmp_path):
    # A source larger than memory: no task may ask for more than its shard.
    class Watched(make_source):
        def take(self, indices):
            (tmp_path / f"asked-{indices.min()}-{len(indices)}").touch()
            return super().take(indices)

        def __getitem__(self, key):
            raise AssertionError("ingest reads by take only")

    dataset = run(Watched(), tmp_path / "clean", workers)
    asked = sorted(int(path.name.split("-")[2]) for path in tmp_path.glob("asked-*"))
    assert asked == sorted(stop - start for start, stop in map(dataset.layout.bounds, range(dataset.shards)))


def test_ingest__relative_folder(make_source, workers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = ingest(make_source(), "clean", workers, split=SPLIT, seed=0, layout=SMALL)
    assert Path(dataset.path).is_absolute()
    assert Path(tmp_path) in Path(dataset.path).parents
