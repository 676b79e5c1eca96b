"""The contract of stores: every test here runs against every kind of store, and knows nothing about which it has."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.stores import Store, is_url, join, locate, store_of
from storage.stores.local import LocalStore
from storage.stores.objects import ObjectStore
from storage.stores.protocol import exists

#: To hold another store to the contract, add its name here and its location to `location`.
KINDS = ("local", "memory")
NAMES = ["a b", "ä", "日本", "c#d", "x%20y", "q?r", "a+b&c=d", "e\u0301", "[1]*", "C.0.0", "~t", "'\"", "{x}|^`"]


@pytest.fixture(params=KINDS)
def location(request, tmp_path, memory_location) -> str:
    return {"local": lambda: str(tmp_path / "root"), "memory": memory_location}[request.param]()


@pytest.fixture
def store(location) -> Store:
    return store_of(location)


def test_read__what_was_written(store):
    store.write("a/b/c", b"one", memoryview(b" two"), b"", memoryview(b" three"))
    assert store.read("a/b/c") == b"one two three"
    assert store.size("a/b/c") == 13
    assert isinstance(store.read("a/b/c"), bytes)


def test_write__of_nothing_is_an_empty_file(store):
    store.write("empty")
    assert store.read("empty") == b""
    assert store.size("empty") == 0
    assert exists(store, "empty")


def test_write__over_the_old(store):
    store.write("a", b"a longer old content")
    store.write("a", b"new")
    assert store.read("a") == b"new"
    assert store.size("a") == 3


def test_write__by_many_at_once_is_never_a_mixture(store):
    contents = [bytes([i]) * 50_000 for i in range(16)]
    store.write("a", contents[0])
    with ThreadPoolExecutor(16) as pool:
        writers = [pool.submit(store.write, "a", content) for content in contents]
        seen = [store.read("a") for _ in range(20)]
        for writer in writers:
            writer.result()
    assert {*seen, store.read("a")} <= set(contents)


@pytest.mark.parametrize("prefix", ["", "new/folder/"])
def test_create__of_many_writers_exactly_one_wins(store, prefix):
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda i: store.create(f"{prefix}a", str(i).encode(), b"!"), range(64)))
    assert won.count(True) == 1
    assert store.read(f"{prefix}a") == f"{won.index(True)}!".encode()


def test_create__does_not_touch_what_is_there(store):
    store.write("a", b"old")
    assert not store.create("a", b"new")
    assert store.read("a") == b"old"


def test_create__again_after_removal(store):
    assert store.create("a", b"old")
    store.remove("a")
    assert store.create("a", b"new")
    assert store.read("a") == b"new"


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 3, b"012"), (4, 2, b"45"), (8, 5, b"89"), (10, 4, b""), (25, 4, b""), (3, 0, b""), (0, 10, b"0123456789")],
)
def test_read_range__gives_what_there_is(store, start, length, expected):
    store.write("a", b"0123456789")
    assert store.read_range("a", start, length) == expected


def test_read_many__in_the_order_asked_none_for_what_is_missing(store):
    for i in range(150):  # more than are read ahead
        store.write(f"many/{i}", str(i).encode())
    asked = [*range(149, -1, -1), 999, 7, 7]
    expected = [None if i == 999 else str(i).encode() for i in asked]
    assert list(store.read_many(f"many/{i}" for i in asked)) == expected
    assert list(store.read_many([])) == []


def test_read_many__may_be_left_early(store):
    for i in range(100):
        store.write(f"many/{i}", str(i).encode())
    found = store.read_many(f"many/{i}" for i in range(100))
    assert next(found) == b"0"
    found.close()
    assert store.read("many/99") == b"99"


@pytest.mark.parametrize("ask", ["read", "size"])
@pytest.mark.parametrize("key", ["none", "no/folder/none"])
def test_missing__raises_file_not_found(store, ask, key):
    store.write("there", b"")
    with pytest.raises(FileNotFoundError):
        getattr(store, ask)(key)
    with pytest.raises(FileNotFoundError):
        store.read_range(key, 0, 5)
    assert not exists(store, key)


def test_exists__of_a_key_below_a_file(store):
    store.write("a", b"")
    assert exists(store, "a")
    assert not exists(store, "a/b")


def test_remove__bears_repetition(store):
    store.write("a/b", b"")
    store.write("a/c", b"")
    for _ in range(2):
        store.remove("a/b")
        assert not exists(store, "a/b")
    store.remove("no/such/file")
    assert exists(store, "a/c")


def test_remove_tree__everything_below_and_nothing_beside(store):
    for key in ("a/b/c", "a/b/d/e", "a/bc", "a/b.json", "f"):
        store.write(key, b"")
    store.remove_tree("a/b")
    store.remove_tree("a/b")
    store.remove_tree("none")
    assert sorted(key for key, _ in store.walk("")) == ["a/b.json", "a/bc", "f"]


def test_remove_tree__of_more_than_one_request(store):
    for i in range(1005):
        store.write(f"many/{i}", b"")
    store.remove_tree("many")
    assert store.children("many") == []


def test_children__names_of_files_and_folders(store):
    for key in ("a/b/c", "a/b/d", "a/e", "a/e2/x", "f", "ab/x"):
        store.write(key, b"")
    assert sorted(store.children("a")) == ["b", "e", "e2"]
    assert sorted(store.children("a/b")) == ["c", "d"]
    assert {"a", "f", "ab"} <= set(store.children("")) <= {"a", "f", "ab", "tmp"}
    assert store.children("none") == []
    assert store.children("f") == []


def test_walk__every_file_below_a_prefix_with_its_bytes(store):
    for key, size in (("a/b/c", 1), ("a/b/d/e", 2), ("a/f", 3), ("ab/x", 4), ("g", 5)):
        store.write(key, bytes(size))
    assert sorted(store.walk("a")) == [("a/b/c", 1), ("a/b/d/e", 2), ("a/f", 3)]
    assert sorted(store.walk("")) == [("a/b/c", 1), ("a/b/d/e", 2), ("a/f", 3), ("ab/x", 4), ("g", 5)]
    assert list(store.walk("none")) == []
    assert list(store.walk("g")) == []


def test_keys__with_odd_characters(store):
    for i, name in enumerate(NAMES):
        store.write(f"odd/{name}/{name}.json", str(i).encode())
    assert [store.read(f"odd/{name}/{name}.json") for name in NAMES] == [str(i).encode() for i in range(len(NAMES))]
    assert sorted(store.children("odd")) == sorted(NAMES)
    assert sorted(key for key, _ in store.walk("odd")) == sorted(f"odd/{name}/{name}.json" for name in NAMES)
    for name in NAMES:
        assert store.children(f"odd/{name}") == [f"{name}.json"]
        assert not store.create(f"odd/{name}/{name}.json", b"")
        store.remove(f"odd/{name}/{name}.json")
    assert list(store.walk("odd")) == []


def test_clean__takes_nothing_that_was_written(store):
    store.write("a/b", b"1")
    store.clean()
    assert list(store.walk("")) == [("a/b", 1)]


def test_store__leaves_no_temporary_files(store):
    store.write("a/b", b"1")
    store.create("a/c", b"1")
    store.create("a/c", b"2")
    assert sorted(store.walk("")) == [("a/b", 1), ("a/c", 1)]


def test_store__survives_pickling(store, location):
    store.write("a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert (again.location, again.read("a")) == (store.location, b"1") == (location, b"1")


def test_store_of__the_same_place_sees_the_same_files(store, location):
    store.write("deep/a", b"1")
    assert store_of(location + "/").read("deep/a") == b"1"
    assert store_of(join(location, "deep")).read("a") == b"1"
    store_of(join(location, "deep")).write("b", b"2")
    assert sorted(store.children("deep")) in (["a", "b"], ["a", "b", "tmp"])


def test_free_bytes__a_number_or_nothing(store):
    free = store.free_bytes()
    assert free is None or free > 0


def test_path__where_there_is_one_it_is_the_file(store):
    store.write("a/b", b"1")
    path = store.path("a/b")
    assert path is None or path.read_bytes() == b"1"


def test_store_of__chooses_by_the_location(tmp_path, memory_location):
    assert isinstance(store_of(tmp_path), LocalStore)
    assert isinstance(store_of(memory_location()), ObjectStore)
    store_of(tmp_path).write("a", b"1")
    assert store_of(f"file://{tmp_path}").read("a") == b"1"


@pytest.mark.parametrize("location", ["s3://", "s3:///", "s3:///nothing", "memory:///nothing"])
def test_store_of__object_store_without_a_bucket(location):
    # BUG (reported): a bucket that is empty before a prefix passes `locate`; s3 then fails with obstore's own
    # GenericError of twenty lines, memory takes "" for a name.
    with pytest.raises(ValueError, match=f"expected a location as .*://bucket/prefix, received '{location}"):
        store_of(location)


def test_locate__means_the_same_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate("a") == str(tmp_path / "a") == locate(Path("a"))
    assert locate("s3://bucket/a/") == "s3://bucket/a"
    assert join("s3://bucket/a/", "b", "c") == "s3://bucket/a/b/c"
    assert is_url("s3://bucket") and not is_url(tmp_path)


def test_local_store__folder_that_is_removed_while_it_is_open(tmp_path):
    store = LocalStore(str(tmp_path / "root"))
    store.write("a/b", b"1")
    store.remove_tree("a")
    (tmp_path / "root" / "tmp").rmdir()
    store.write("a/b", b"2")
    assert store.read("a/b") == b"2"


def test_local_store__what_lies_at_a_folders_place(tmp_path):
    store = LocalStore(str(tmp_path))
    store.write("a", b"1")
    with pytest.raises(OSError):
        store.write("a/b", b"2")
    assert store.read("a") == b"1"
