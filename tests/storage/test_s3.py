"""The same protocol on S3, against a server that speaks it, in a process of its own on loopback."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import storage
from storage.retention import catalog, find_datasets, prune
from storage.stores import store_of
from storage.versions import publish
from storage.writer import Build


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of an S3 server with the bucket ``data``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    folder = tmp_path_factory.mktemp("s3")
    program = Path(sys.executable).with_name("ministack")
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "HOME": str(folder)}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([program], env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/data", method="PUT"), timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                threading.Event().wait(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def place(server, monkeypatch, tmp_path):
    """An empty prefix in the bucket."""
    settings = {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return f"s3://data/{tmp_path.name}"


@pytest.fixture
def moved(image_build, text_build, odd_texts, place):
    """A build of images or texts and the same one on S3."""

    def make(kind, **options):
        build, shards = image_build(**options) if kind == "images" else text_build(odd_texts)
        return build, Build(f"{place}/{kind}", build.plan), shards

    return make


def write(build, shards):
    build.begin()
    for number, shard in enumerate(shards):
        build.write_shard(number, shard)
    build.finish()
    publish(build.dataset, [build.plan.key])
    return storage.open_dataset(build.dataset)


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_s3__the_same_dataset_as_in_a_folder(moved, kind):
    here, there, shards = moved(kind)
    local, remote = write(here, shards), write(there, shards)
    assert remote.version == local.version
    count = local.count
    assert np.array_equal(remote.read(0, count), local.read(0, count))
    rows = np.random.default_rng(0).permutation(count)
    assert np.array_equal(remote.take(rows), local.take(rows))
    assert np.array_equal(remote.ids(), local.ids())
    for name in ("labels", "ids"):
        assert np.array_equal(remote.xarray()[name].values, local.xarray()[name].values)
    assert pickle.loads(pickle.dumps(remote)).version == local.version
    assert storage.verify(there.dataset).ok and storage.verify(there.dataset, strict=False).ok
    assert storage.verify(remote.path).ok
    batch = next(storage.batches(remote, batch_size=4, seed=1))
    assert np.array_equal(batch["values"], next(storage.batches(local, batch_size=4, seed=1))["values"])


def test_s3__create_has_one_winner(place):
    store = store_of(place)
    for number in range(20):
        start = threading.Barrier(8)

        def create(who, number=number, start=start):
            start.wait()
            return store.create(f"race/{number}", str(who).encode())

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert sum(won) == 1
        assert store.read(f"race/{number}") == str(won.index(True)).encode()


def test_s3__resume_and_two_writers_at_once(moved):
    here, there, shards = moved("images")
    version = write(here, shards).version
    there.begin()
    there.write_shard(1, shards[1])
    other = Build(there.dataset, there.plan)
    assert other.begin().tolist() == [0, 2]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (there, other)[number % 2].write_shard(number % 3, shards[number % 3]), range(24)))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda build: build.finish(), (there, other))) == [version, version]
        numbers = list(pool.map(lambda build: publish(build.dataset, [build.plan.key])["number"], (there, other)))
    assert numbers == [1, 1]
    assert storage.verify(there.dataset).ok


def test_s3__unfinished_is_invisible(moved):
    _, there, shards = moved("images")
    there.begin()
    there.write_shard(0, shards[0])
    with pytest.raises(storage.StorageError, match="no finished dataset in s3://"):
        storage.open_dataset(there.dataset)


def test_s3__damage_is_found(moved):
    _, there, shards = moved("images")
    dataset = write(there, shards)
    store, key = store_of(there.dataset), f"{there.key}/data.zarr/images/c.1.0.0.0"
    data = bytearray(store.read(key))
    data[7] ^= 1
    store.write(key, bytes(data))
    [problem] = storage.verify(there.dataset).problems
    assert (problem.shard, problem.build) == (1, there.plan.key)
    store.remove(key)
    assert "missing shard 1" in str(storage.verify(there.dataset, strict=False).problems[0])
    with pytest.raises(storage.StorageError, match=r"missing shard 1 of 'clean' \(s3://"):
        dataset.read(0, dataset.count)


def test_s3__append_tag_catalog_prune(moved, place):
    _, first, shards = moved("images")
    _, second, more = moved("images", seed=1, folder="more")
    write(first, shards)
    second.begin()
    for number, shard in enumerate(more):
        second.write_shard(number, shard)
    second.finish()
    publish(first.dataset, [first.plan.key, second.plan.key], after=1)
    storage.tag(first.dataset, "first", 1)
    assert [entry.tags for entry in catalog(first.dataset)] == [("first",), ()]
    assert find_datasets(place) == [first.dataset]
    publish(first.dataset, [first.plan.key])
    assert prune(first.dataset, keep=1, apply=True).builds == (second.plan.key,)
    assert storage.verify(first.dataset).ok
    assert storage.open_dataset(first.dataset, "first").number == 1


def test_s3__wrong_use(place, monkeypatch):
    with pytest.raises(FileNotFoundError, match="found nothing at s3://data/"):
        storage.open_dataset(f"{place}/nothing")
    with pytest.raises(ValueError, match="expected a location as s3://bucket/prefix"):
        store_of("s3://")
    with pytest.raises(OSError, match="no-such-bucket"):
        store_of("s3://no-such-bucket/x").write("a", b"b")
