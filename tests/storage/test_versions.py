from __future__ import annotations

import json
import re
import threading

import pytest

import storage
from storage import StorageError, versions
from storage.documents import seal
from storage.durable import pretty_json
from storage.stores import store_of
from storage.versions import find_version, latest, publish, tag, tags, untag, version_key, version_numbers


@pytest.fixture(params=["local", "memory"])
def location(request, tmp_path, memory_location) -> str:
    return memory_location() if request.param == "memory" else str(tmp_path / "clean")


@pytest.fixture
def store(location):
    return store_of(location)


@pytest.fixture
def keys(location, builds_at, finished) -> list[str]:
    """Three finished builds, not yet published."""
    made = [builds_at["images"](location, 9, (2, 2, 1), 5, 5, seed=seed, first_id=9 * seed) for seed in range(3)]
    for one in made:
        finished(one)
    return [build.plan.key for build, _ in made]


def contents(store) -> dict[str, bytes]:
    return {key: store.read(key) for key, _ in store.walk("")}


def builds(document) -> list[str]:
    return [part["build"] for part in document["parts"]]


def test_publish__the_first_is_number_one(location, store, keys):
    assert latest(store) is None
    document = publish(location, keys[:1], notes={"by": "é"})
    assert (document["number"], builds(document), document["notes"]) == (1, keys[:1], {"by": "é"})
    assert latest(store) == document == json.loads(store.read("versions/000001.json"))
    opened = storage.open_dataset(location)
    assert (opened.number, opened.version) == (1, document["version"])
    # A version of one build is that build's version.
    assert document["version"] == opened.parts[0].version


def test_publish__twice_writes_nothing(location, store, keys):
    for number in (1, 2):
        first = publish(location, keys[:number], notes={"n": number})
        before = contents(store)
        assert publish(location, keys[:number], notes={"n": number}) == first
        assert publish(location, keys[:number], notes={"n": number}, after=number) == first
        assert contents(store) == before


def test_publish__other_notes_or_an_older_list_are_a_new_version(location, store, keys):
    first = publish(location, keys[:1])
    publish(location, keys[:2])
    back = publish(location, keys[:1])
    noted = publish(location, keys[:1], notes={"a": 1})
    assert version_numbers(store) == [1, 2, 3, 4]
    assert first["version"] == back["version"] == noted["version"] == latest(store)["version"]


def test_publish__order_of_the_builds_counts(location, keys):
    one, other = publish(location, keys), publish(location, keys[::-1])
    assert one["version"] != other["version"]
    assert one["count"] == other["count"] == 27
    assert one["bytes"] == other["bytes"]


def test_publish__after_another_run_changed_it_is_refused(location, store, keys):
    publish(location, keys[:1])
    publish(location, keys[:2], after=1)
    before = contents(store)
    with pytest.raises(StorageError, match=r"another run changed .* \(expected version 1 to be the last, found 2\)"):
        publish(location, [keys[0], keys[2]], after=1)
    assert contents(store) == before
    assert builds(publish(location, keys, after=2)) == keys


def test_publish__after_nothing(location, store, keys):
    assert publish(location, keys[:1], after=0)["number"] == 1
    with pytest.raises(StorageError, match="expected version 0 to be the last, found 1"):
        publish(location, keys[:2], after=0)


def test_publish__of_an_unfinished_build_is_refused(location, store, keys):
    store.remove(f"builds/{keys[0]}/manifest.json")
    with pytest.raises(FileNotFoundError):
        publish(location, keys[:1])
    assert version_numbers(store) == []


def test_publish__by_two_at_once_both_survive(location, store, keys, monkeypatch):
    # Both have seen that there is nothing yet, before either writes.
    barrier, seen = threading.Barrier(2), threading.local()
    real = versions.latest

    def together(where):
        found = real(where)
        if not getattr(seen, "once", False):
            seen.once = True
            barrier.wait(10)
        return found

    monkeypatch.setattr(versions, "latest", together)
    results = {}
    lists = {"a": keys[:1], "b": keys[1:]}
    threads = [
        threading.Thread(target=lambda name=name: results.update({name: publish(location, lists[name])}))
        for name in lists
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert sorted(document["number"] for document in results.values()) == [1, 2] == version_numbers(store)
    for name, document in results.items():
        assert find_version(store, document["number"]) == document
        assert builds(document) == lists[name]
    assert latest(store)["number"] == 2


def test_publish__by_many_at_once_all_survive(location, store, keys):
    lists = [[key] for key in keys] + [keys, keys[:2], keys[1:]]
    threads = [threading.Thread(target=publish, args=(location, chosen)) for chosen in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version_numbers(store) == list(range(1, 7))
    assert sorted(builds(find_version(store, number)) for number in range(1, 7)) == sorted(lists)


def test_find_version__by_number_tag_and_digest(location, store, keys):
    documents = [publish(location, keys[:number]) for number in (1, 2, 3)]
    tag(location, "baseline", 2)
    for number, document in enumerate(documents, 1):
        for wanted in (number, document["version"], document["version"][:6]):
            assert find_version(store, wanted) == document
            assert storage.open_dataset(location, wanted).number == number
    assert find_version(store, "baseline") == documents[1]
    assert storage.open_dataset(location).number == 3


@pytest.mark.parametrize("wanted", [0, 4, -1, "none", "abc", "ffffff", "", "000001", "versions/000001.json"])
def test_find_version__unknown_says_what_there_is(location, store, keys, wanted):
    publish(location, keys[:1])
    tag(location, "baseline")
    with pytest.raises(StorageError) as caught:
        find_version(store, wanted)
    assert re.search(r"a number of \[1\], a tag of \['baseline'\], or the first 6", str(caught.value))
    assert repr(wanted) in str(caught.value)


def forge(store, number: int, version: str) -> None:
    document = {**json.loads(store.read(version_key(1))), "number": number, "version": version}
    store.create(version_key(number), pretty_json(seal(document)))


def test_find_version__ambiguous_digest_is_refused(location, store, keys):
    publish(location, keys[:1])
    forge(store, 2, "abcdef" + "0" * 58)
    forge(store, 3, "abcdef" + "1" * 58)
    with pytest.raises(StorageError, match=r"expected a version .* received 'abcdef'"):
        find_version(store, "abcdef")
    assert find_version(store, "abcdef1")["number"] == 3
    forge(store, 4, "abcdef" + "1" * 58)  # the same content once more is not ambiguous
    assert find_version(store, "abcdef1")["version"] == "abcdef" + "1" * 58


def test_tag__moves_and_goes(location, store, keys):
    for number in (1, 2):
        publish(location, keys[:number])
    assert tag(location, "a.b_c-1") == 2
    assert tag(location, "a.b_c-1", 1) == 1
    assert tag(location, "other", "a.b_c-1") == 1
    assert tags(store) == {"a.b_c-1": 1, "other": 1}
    untag(location, "a.b_c-1")
    untag(location, "a.b_c-1")
    assert tags(store) == {"other": 1}


@pytest.mark.parametrize("name", ["", "1", "1a", "a/b", "../a", "a b", "é", "a" * 65, ".a", "a\n", "a\\b"])
def test_tag__refuses_names_that_are_numbers_or_paths(location, store, keys, name):
    publish(location, keys[:1])
    with pytest.raises(ValueError, match="expected a tag of letters"):
        tag(location, name)
    assert tags(store) == {}


def test_tag__of_nothing(location):
    with pytest.raises(StorageError, match=r"expected a finished dataset in .* to tag, found none"):
        tag(location, "a")


def test_tag__of_an_unknown_version(location, store, keys):
    publish(location, keys[:1])
    with pytest.raises(StorageError, match="expected a version of"):
        tag(location, "a", 7)
    assert tags(store) == {}


def test_tags__damaged_one_is_named(location, store, keys):
    publish(location, keys[:1])
    tag(location, "a")
    store.write("tags/a.json", store.read("tags/a.json").replace(b'"number": 1', b'"number": 2'))
    with pytest.raises(StorageError, match=r"damaged tag .*tags/a.json: .*set it again with `duskflow tag`"):
        tags(store)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"number": 1}', b"\xff", b"nonsense", b"null", b"[" * 100_000])
def test_read_version__damaged_document_is_named(location, store, keys, damage):
    for number in (1, 2):
        publish(location, keys[:number])
    store.write(version_key(2), damage)
    for ask in (
        lambda: latest(store),
        lambda: find_version(store, 2),
        lambda: publish(location, keys),
        lambda: storage.open_dataset(location),
    ):
        with pytest.raises(StorageError, match=r"damaged version .*versions/000002.json: .*; run `duskflow repair`"):
            ask()
    assert storage.open_dataset(location, 1).number == 1  # the old one is none the worse
    store.remove(version_key(2))
    assert publish(location, keys)["number"] == 2


def test_version_numbers__ignore_what_is_no_version(location, store, keys):
    publish(location, keys[:1])
    for name in ("notes.txt", "000002.json.bak", "x.json", "000003"):
        store.write(f"versions/{name}", b"{}")
    assert version_numbers(store) == [1]
