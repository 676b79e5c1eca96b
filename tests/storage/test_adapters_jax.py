"""The feed in JAX: arrays over the same memory, which nobody writes while they are needed."""

from __future__ import annotations

import itertools
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import storage
from storage.adapters.jax import to_jax
from storage.feeding.memory import Buffers

ROOT = Path(__file__).parents[2]


def numbers(batches) -> list[list[int]]:
    return [batch["ids"].tolist() for batch in batches]


def add_row_numbers(values, ids, *, seed, epoch):
    return values + ids.astype(np.uint8).reshape(-1, 1, 1, 1)


@pytest.fixture
def addresses(monkeypatch):
    """Where the memory of batches begins, as the feed gives it out."""
    seen, take = [], Buffers.take

    def noting(self, shape):
        array = take(self, shape)
        seen.append(array.ctypes.data)
        return array

    monkeypatch.setattr(Buffers, "take", noting)
    return seen


@pytest.mark.parametrize("ahead", [0, 1, 9])
@pytest.mark.parametrize("kind", ["images", "texts"])
def test_to_jax__gives_the_batches_of_the_feed(request, kind, ahead):
    data = request.getfixturevalue(kind)
    found, wanted = list(to_jax(storage.batches(data, 8), ahead=ahead)), list(storage.batches(data, 8))
    assert len(found) == len(wanted) == 5
    for batch, plain in zip(found, wanted, strict=True):
        assert list(batch) == list(plain)
        for name, values in plain.items():
            if isinstance(values, list):
                assert batch[name] == values
            else:
                assert isinstance(batch[name], jax.Array)
                assert batch[name].dtype == (np.uint8 if name == "values" else np.int32)
                np.testing.assert_array_equal(np.asarray(batch[name]), values)


def test_to_jax__lies_in_the_memory_of_the_feed(images, addresses):
    batches = list(to_jax(storage.batches(images, 8)))
    assert [batch["values"].unsafe_buffer_pointer() for batch in batches] == addresses


@pytest.mark.parametrize("noise", [None, add_row_numbers])
def test_to_jax__memory_in_use_is_not_used_again(images, noise):
    batches = to_jax(storage.batches(images, 2, noise=noise, depth=1))
    kept = []
    for epoch in range(6):
        batches.set_epoch(epoch)
        # Of every other batch only a result is kept, that may be computed after the batch is gone.
        for number, batch in enumerate(batches):
            rows = np.array(batch["rows"])
            kept.append((batch["values"] if number % 2 else jax.jit(lambda x: x ^ 7)(batch["values"]), rows))
    plain = images.read(0, 50)
    if noise is not None:
        plain = noise(plain, images.ids(), seed=0, epoch=0)
    assert len(kept) == 6 * 18
    for number, (values, rows) in enumerate(kept):
        np.testing.assert_array_equal(np.asarray(values), plain[rows] if number % 18 % 2 else plain[rows] ^ 7)


def test_to_jax__computations_that_still_run_keep_their_batch(image_build, commit):
    """Batches are dropped while what was asked of them is still to be computed."""
    values = np.arange(64, dtype=np.uint8).reshape(-1, 1, 1, 1) + np.zeros((1, 64, 64, 1), np.uint8)
    data = commit(image_build(64, (64, 64, 1), 16, 4, values=values, splits={"train": (0, 64)}))

    @jax.jit
    def slow(images):
        plane = images.reshape(64, 64).astype("float32")
        for _ in range(20):
            plane = plane @ (jax.numpy.ones((64, 64)) / 64)
        return plane

    batches = to_jax(storage.batches(data, 1))
    found = [(slow(batch["values"]), batch["rows"]) for batch in batches]
    for plane, rows in found:
        np.testing.assert_allclose(plane, np.full((64, 64), rows[0], np.float32), rtol=1e-5)


def test_to_jax__a_donated_batch_does_not_damage_others(images):
    double = jax.jit(lambda values: values * 2, donate_argnums=0)
    found = []
    batches = to_jax(storage.batches(images, 4))
    for epoch in range(3):
        batches.set_epoch(epoch)
        found += [(double(batch["values"]), np.array(batch["rows"])) for batch in batches]
    for values, rows in found:
        np.testing.assert_array_equal(np.asarray(values), images.take(rows) * 2)


def test_to_jax__memory_that_was_dropped_is_used_again(images, addresses):
    for batch in to_jax(storage.batches(images, 1)):
        batch["values"].block_until_ready()
    assert len(addresses) == 35 and len(set(addresses)) <= 4


def test_to_jax__puts_arrays_where_it_is_told(images):
    device = jax.devices()[0]
    mesh = jax.sharding.Mesh(np.array([device]), ("batch",))
    for where in (device, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))):
        batch = next(to_jax(storage.batches(images, 8), device=where))
        assert batch["values"].committed
        assert batch["values"].sharding == where if where is not device else batch["values"].device == device
        np.testing.assert_array_equal(np.asarray(batch["values"]), next(storage.batches(images, 8))["values"])


RANK = """
import sys
import jax, numpy as np, storage
from storage.adapters.jax import to_jax

path, rank, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, rank)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
total = jax.jit(lambda batch: (batch["values"].astype("int32").sum(), batch["ids"].sum()))
for batch in to_jax(storage.batches(path, 8, rank=rank, ranks=2, drop_last=True), device=where):
    print(*batch["values"].shape, *total(batch))
"""


def test_to_jax__joins_the_parts_of_several_processes(images):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-c", RANK, images.path]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    whole = storage.batches(images, 8, drop_last=True)
    wanted = [f"8 5 3 1 {batch['values'].sum(dtype=np.int64)} {batch['ids'].sum()}" for batch in whole]
    for out, errors in said:
        assert [line for line in out.splitlines() if line.startswith("8 ")] == wanted, errors


@pytest.mark.parametrize("ahead", [0, 2])
def test_state_dict__counts_what_was_handed_out(images, ahead):
    whole = numbers(storage.batches(images, 8, epoch=1))
    for taken in range(6):
        batches = to_jax(storage.batches(images, 8, epoch=1), ahead=ahead)
        assert numbers(itertools.islice(batches, taken)) == whole[:taken]
        assert (batches.epoch, batches.step) == (1, taken)
        state = json.loads(json.dumps(batches.state_dict()))
        resumed = to_jax(storage.batches(images, 8), ahead=ahead)
        next(resumed)
        resumed.load_state_dict(state)
        assert numbers(resumed) == whole[taken:]


@pytest.mark.parametrize("ahead", [0, 2])
def test_set_epoch__drops_what_is_ahead(images, ahead):
    batches = to_jax(storage.batches(images, 8), ahead=ahead)
    for epoch in (0, 2):
        batches.set_epoch(epoch)
        assert numbers(itertools.islice(batches, 2)) == numbers(storage.batches(images, 8, epoch=epoch))[:2]
    batches.feed.set_epoch(5)  # its owner moves the feed itself
    assert (batches.epoch, batches.step) == (5, 0)
    assert numbers(batches) == numbers(storage.batches(images, 8, epoch=5))
    assert numbers(batches) == []


def test_load_state_dict__of_other_data_is_refused(images):
    batches = to_jax(storage.batches(images, 8), ahead=1)
    next(batches)
    with pytest.raises(ValueError, match="expected a state of this dataset and these parameters"):
        batches.load_state_dict(storage.batches(images, 9).state_dict())
    assert batches.step == 1


def test_len__is_that_of_an_epoch(images):
    assert len(to_jax(storage.batches(images, 8, drop_last=True))) == 4


def test_to_jax__refuses_ids_that_do_not_fit(image_build, commit):
    data = commit(image_build(10, first_id=2**31 - 5))
    with pytest.raises(ValueError, match="expected ids that fit into int32, received 2,147,48"):
        list(to_jax(storage.batches(data, 4)))
    assert len(list(to_jax(storage.batches(data, 4), ["values", "labels"]))) == 2
    jax.config.update("jax_enable_x64", True)
    try:
        found = np.concatenate([batch["ids"] for batch in to_jax(storage.batches(data, 4))])
    finally:
        jax.config.update("jax_enable_x64", False)
    np.testing.assert_array_equal(np.sort(found), np.sort(data.ids()[:7]))


def test_to_jax__chosen_columns(images):
    assert list(next(to_jax(storage.batches(images, 8), ["labels", "values"]))) == ["labels", "values"]
    with pytest.raises(ValueError, match=rf"expected columns of .*received {re.escape(str(['nothing']))}"):
        to_jax(storage.batches(images, 8), ["nothing"])


def test_to_jax__a_damaged_shard_is_named(image_build, commit):
    data = commit(image_build(50))
    data.parts[0].store.remove(f"{data.parts[0].key}/data.zarr/images/c.2.0.0.0")
    with pytest.raises(storage.StorageError, match=r"missing shard 2 of 'clean' .*c.2.0.0.0"):
        list(to_jax(storage.batches(data, 8), ahead=1))
