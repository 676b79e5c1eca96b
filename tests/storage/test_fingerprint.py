from __future__ import annotations

import enum
import functools
import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from storage import fingerprint
from storage.fingerprint import code_version, describe
from storage.plan import digest
from tasks.noise import Gaussian


def same(one, other) -> bool:
    return digest(describe(one)) == digest(describe(other))


@dataclass(frozen=True)
class Options:
    rate: float = 0.5
    names: tuple[str, ...] = ()
    table: np.ndarray | None = field(default=None, compare=False)


class Plain:
    def __init__(self, rate, names=frozenset()):
        self.rate = rate
        self.names = names


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def scale(x, factor=2):
    return x * factor


def times(factor):
    def multiply(x):
        return x * factor

    return multiply


@functools.lru_cache
def cached(x):
    return x


DIFFERENT = [
    None,
    True,
    False,
    0,
    1,
    1.0,
    0.1,
    float("nan"),
    "nan",
    float("inf"),
    "inf",
    "",
    "1",
    b"1",
    1j,
    [],
    {},
    set(),
    [1, 2],
    [2, 1],
    [[1, 2]],
    {1, 2},
    {1: 2},
    {2: 1},
    {"1": 2},
    [["a", 1]],
    {"a": 1},
    {"set": [1, 2]},
    np.array([1, 2]),
    np.array([1, 2], np.int32),
    np.array([[1, 2]]),
    np.array([1.0, 2.0]),
    np.array(["a", None], object),
    np.array(["b", None], object),
    np.array(["2026-01-01"], "M8[D]"),
    np.datetime64("2026-01-01"),
    np.dtype("f4"),
    np.log,
    np.log1p,
    np.float32,
    range(3),
    range(4),
    slice(1, 2),
    Colour.RED,
    Colour.BLUE,
    Options(),
    Options(rate=0.6),
    Options(names=("a",)),
    Options(table=np.arange(3)),
    Options(table=np.arange(4)),
    Plain(0.5),
    Plain(0.6),
    Plain(0.5, frozenset("ab")),
    Plain,
    Options,
    scale,
    times(2),
    times(3),
    functools.partial(scale, factor=3),
    functools.partial(scale, factor=4),
    functools.partial(times(2)),
    functools.partial(times(3)),
    cached,
    len,
    max,
    Plain(0.5).__init__,
    SVC(),
    SVC(C=2),
    PCA(3),
    LogisticRegression(class_weight={0: 1, 1: 2}),
    LogisticRegression(class_weight={0: 2, 1: 1}),
    make_pipeline(PCA(3), SVC()),
    make_pipeline(PCA(4), SVC()),
    Gaussian(severity=3),
    Gaussian(sigma=0.18),
    np.random.RandomState(0),
    np.random.RandomState(1),
    np.random.default_rng(0),
]


def test_describe__different_parameters_differ():
    seen: dict[str, object] = {}
    for value in DIFFERENT:
        text = digest(describe(value))
        assert text not in seen, f"{value!r} is described like {seen.get(text)!r}"
        seen[text] = value


def test_describe__is_plain_json():
    for value in DIFFERENT:
        found = describe(value)
        assert json.loads(json.dumps(found, allow_nan=False)) == found, value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), [1, 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2, 30}, frozenset([30, 2, 1])),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Path("a/b"), "a/b"),
        (np.arange(6).reshape(2, 3).T, np.ascontiguousarray(np.arange(6).reshape(2, 3).T)),
        (SVC(C=1.0), SVC()),
        (Options(names=("a",)), Options(names=["a"])),
        (Plain(1, {"x", "y", "z"}), Plain(1, {"z", "y", "x"})),
        (times(2), times(2)),
        (functools.partial(scale, 1), functools.partial(scale, 1)),
        (np.random.RandomState(5), np.random.RandomState(5)),
        ("".join(["ab", "c"]), "abc"),
    ],
)
def test_describe__equal_parameters_agree(one, other):
    assert same(one, other)


def test_describe__equal_strings_that_are_one_object_or_two():
    # Their pickles differ: pickle remembers objects, not values.
    name = "".join(["some ", "name"])
    assert same(Plain([name, name]), Plain(["some name", "".join(["some", " name"])]))


def test_describe__lambdas_on_one_line_differ():
    one, other = [lambda x: x + 1, lambda x: x + 2]
    assert not same(one, other)
    assert same(one, one)


def test_describe__what_holds_itself():
    loop: list = [1]
    loop.append(loop)
    other: list = [1]
    other.append([1])
    assert same(loop, loop)
    assert not same(loop, other)


def test_describe__same_part_twice_is_no_loop():
    part = [1]
    assert same([part, part], [[1], [1]])


def test_describe__lone_surrogates(tmp_path):
    assert not same("\udce9", "\udcea")


@pytest.mark.parametrize("value", [open, sys], ids=["function", "module"])
def test_describe__things_of_python_itself(value):
    assert same(value, value)


def test_describe__refuses_what_has_no_value(tmp_path):
    with (tmp_path / "a").open("w") as file, pytest.raises(TypeError, match=r"expected parameters that can be pickled"):
        describe({"log": file})


MODULE = """
from dataclasses import dataclass
from functools import partial
import numpy as np

@dataclass(frozen=True)
class Speckle:
    kind = "images"
    names: frozenset = frozenset(["north", "east", "south", "west"])

    def __call__(self, samples, ids, seed=0, epoch=0):
        return samples

class Holder:
    def __init__(self):
        self.tags = {"red", "green", "blue", "grey"}
        self.table = {"b": np.arange(3), "a": [1.5, None]}

def chosen(x, within={"p", "q", "r"}):
    return x in {"one", "two", "three"}

short = lambda x: x in {"k", "l", "m"}

VALUES = [Speckle(), Holder(), chosen, partial(chosen, within=frozenset("xyz")), short]
"""


def digests(folder: Path, source: str, hash_seed: int) -> list[str]:
    """Fingerprints as another process makes them from a user's module."""
    (folder / "mine.py").write_text(source)
    code = (
        "import json, sys; sys.dont_write_bytecode = True; import mine\n"
        "from storage.plan import digest; from storage.fingerprint import code_version, describe\n"
        "print(json.dumps([digest([describe(v), code_version(v)]) for v in mine.VALUES]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    root = str(Path(fingerprint.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), root])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_describe__is_the_same_in_every_process(tmp_path):
    assert digests(tmp_path, MODULE, 1) == digests(tmp_path, MODULE, 2)


def test_describe__changes_with_the_users_source(tmp_path):
    before = digests(tmp_path, MODULE, 0)
    changes = {
        "return samples": ("return 255 - samples", [0]),
        '"west"': ('"up"', [0]),
        '"grey"': ('"gray"', [1]),
        "np.arange(3)": ("np.arange(4)", [1]),
        '"three"': ('"four"', [2, 3]),
        '"r"}': ('"s"}', [2, 3]),
        "xyz": ("xyy", [3]),
        '"m"}': ('"n"}', [4]),
    }
    for old, (new, changed) in changes.items():
        after = digests(tmp_path, MODULE.replace(old, new), 0)
        assert [i for i in range(5) if before[i] != after[i]] == changed, old


def test_describe__a_comment_elsewhere_changes_nothing(tmp_path):
    assert digests(tmp_path, MODULE + "\n# a comment\n", 0) == digests(tmp_path, MODULE, 0)


class Version1:
    version = 1

    def __call__(self):
        return 1


class Inherits(Version1):
    def __call__(self):
        return 2


class InheritsOtherwise(Version1):
    def __call__(self):
        return 3


class Loud:
    version = None

    def shout(self):
        return "!"


class Louder(Loud):
    pass


def test_code_version__by_its_own_number():
    assert code_version(Version1()) == "version 1"
    assert code_version(Gaussian(3)) == "version 1"


def test_code_version__a_subclass_does_not_hide_behind_its_parents_number():
    versions = {code_version(kind()) for kind in (Version1, Inherits, InheritsOtherwise)}
    assert len(versions) == 3


def test_code_version__of_an_instance():
    made = Plain(1)
    made.version = 7
    assert code_version(made) == "version 7"


def test_code_version__a_method_named_version_is_none():
    class Server:
        def version(self):
            return "1.0"

    assert "at 0x" not in code_version(Server())


def test_code_version__parents_in_the_users_code_count(monkeypatch):
    before = code_version(Louder())
    fingerprint._class_code.cache_clear()
    source = fingerprint._source
    monkeypatch.setattr(fingerprint, "_source", lambda kind: "changed" if kind is Loud else source(kind))
    assert code_version(Louder()) != before
    fingerprint._class_code.cache_clear()


def test_code_version__of_ours_is_the_whole_folder(monkeypatch, tmp_path):
    from tasks import methods

    before = code_version(methods.KNeighborsClassifier(5))
    assert code_version(methods.KNeighborsClassifier(6)) == before
    assert before == fingerprint._folder("tasks.methods")


def test_code_version__of_functions_sees_what_they_captured():
    assert code_version(times(2)) != code_version(times(3))
    assert code_version(times(2)) == code_version(times(2))


def test_code_version__without_source():
    namespaces: list[dict] = [{}, {}, {}]
    for namespace, number in zip(namespaces, (1, 2, 1), strict=True):
        exec(f"def f(x):\n    return x + {number}", namespace)
    one, other, again = (code_version(namespace["f"]) for namespace in namespaces)
    assert one == again
    assert one != other


def test_code_version__while_another_thread_parses(monkeypatch):
    class Plain:
        pass

    expected, answers = fingerprint._source(Plain), iter([SystemError("AST constructor recursion depth mismatch")] * 3)
    whole = inspect.getsource

    def sometimes(kind):
        for error in answers:
            raise error
        return whole(kind)

    monkeypatch.setattr(inspect, "getsource", sometimes)
    assert fingerprint._source(Plain) == expected
    assert next(answers, None) is None
