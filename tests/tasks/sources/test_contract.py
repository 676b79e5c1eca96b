"""What every source promises, held for all of them on small inputs of known content."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import sources
from tasks.sources import SourceError

TEXTS = ["one", "two, with a comma", 'three "quoted"', "four\nlines", "fünf", "six", "NA", "eight", "nine"]
NAMES = ["b", "a", "a", "b", "c", "a", "b", "c", "a"]
PICTURES = np.arange(9 * 4 * 5, dtype=np.uint8).reshape(9, 4, 5)
CODES = np.array([1, 0, 0, 1, 2, 0, 1, 2, 0], dtype=np.uint8)


@dataclass
class Case:
    """A source over files in a folder, what it must hold, and what can be wrong with the files."""

    make: Callable[[], Any]
    values: Any
    names: list[str]
    splits: list[int] | None = None
    change: Callable[[], object] | None = None
    damages: dict[str, Callable[[], object]] = field(default_factory=dict)


def cut(path: Path, missing: int = 7) -> Callable[[], object]:
    return lambda: path.write_bytes(path.read_bytes()[:-missing])


def overwrite(path: Path, content: bytes) -> Callable[[], object]:
    return lambda: path.write_bytes(content)


def idx(folder: Path, write_idx: Any, *, ending: str = "", test_rows: int = 0) -> Case:
    first = 9 - test_rows
    paths = [folder / f"{name}{ending}" for name in ("images", "labels", "test-images", "test-labels")]
    parts = [PICTURES[:first], CODES[:first], PICTURES[first:], CODES[first:]][: 4 if test_rows else 2]
    used = [write_idx(path, part) for path, part in zip(paths, parts, strict=False)]
    changed = PICTURES[:first].copy()
    changed[0, 0, 0] += 1
    return Case(
        lambda: sources.Idx(*used, classes=["a", "b", "c"]),
        PICTURES[..., np.newaxis],
        NAMES,
        [0] * first + [2] * test_rows if test_rows else None,
        lambda: write_idx(used[0], changed),
        {
            "truncated": cut(used[0]),
            "empty": overwrite(used[0], b""),
            "no rows": lambda: write_idx(used[0], PICTURES[:0]),
            "mixed": lambda: write_idx(used[1], CODES[:3]),
        },
    )


def image_folder(folder: Path, *, splits: bool = False) -> Case:
    from PIL import Image

    order = [1, 2, 5, 8, 0, 3, 6, 4, 7] if not splits else [1, 2, 5, 0, 3, 4, 8, 6, 7]
    where = ["train" if row < 6 else "test" for row in range(9)]
    for row in range(9):
        path = folder / "set" / (where[row] if splits else ".") / NAMES[row] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PICTURES[row]).save(path)
    (folder / "set" / ".hidden").write_text("nobody sees this")
    first = folder / "set" / ("train/a" if splits else "a") / "1.png"
    return Case(
        lambda: sources.ImageFolder(folder / "set", size=(4, 5), mode="L"),
        PICTURES[order][..., np.newaxis],
        [NAMES[row] for row in order],
        [0 if where[row] == "train" else 2 for row in order] if splits else None,
        lambda: Image.fromarray(PICTURES[0] // 2).save(first),
        {
            "truncated": cut(first, 20),
            "empty": overwrite(first, b""),
            "no rows": lambda: [path.unlink() for path in first.parent.iterdir()],
            "mixed": lambda: first.with_name("notes.txt").write_text("not an image"),
        },
    )


def text_folder(folder: Path, *, splits: bool = False) -> Case:
    order = [1, 2, 5, 8, 0, 3, 6, 4, 7] if not splits else [1, 2, 5, 0, 3, 4, 8, 6, 7]
    where = ["train" if row < 6 else "test" for row in range(9)]
    for row in range(9):
        path = folder / "set" / (where[row] if splits else ".") / NAMES[row] / f"{row}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXTS[row], encoding="utf-8")
    first = folder / "set" / ("train/a" if splits else "a") / "1.txt"
    return Case(
        lambda: sources.TextFolder(folder / "set"),
        [TEXTS[row] for row in order],
        [NAMES[row] for row in order],
        [0 if where[row] == "train" else 2 for row in order] if splits else None,
        lambda: first.write_text("something else"),
        {
            "truncated": overwrite(first, "fünf".encode()[:2]),
            "empty": overwrite(first, b""),
            "no rows": lambda: [path.unlink() for path in first.parent.iterdir()],
            "mixed": lambda: first.with_name("picture.png").write_bytes(b"\x89PNG"),
        },
    )


def arrays_of_images(folder: Path) -> Case:
    held = {"images": PICTURES, "labels": NAMES}
    return Case(
        lambda: sources.Arrays(**held),
        PICTURES[..., np.newaxis],
        NAMES,
        None,
        lambda: held.update(images=PICTURES + 1),
        {
            "truncated": lambda: held.update(labels=NAMES[:5]),
            "empty": lambda: held.update(images=PICTURES[:0], labels=[]),
            "mixed": lambda: held.update(images=np.array([PICTURES[0], None], dtype=object)),
            "missing": lambda: held.update(labels=np.full(9, np.nan)),
        },
    )


def arrays_of_texts(folder: Path) -> Case:
    held = {"texts": list(TEXTS), "labels": list(NAMES), "splits": [0] * 5 + [1] * 2 + [2] * 2}
    return Case(
        lambda: sources.Arrays(**held),
        TEXTS,
        NAMES,
        held["splits"],
        lambda: held.update(texts=["another", *TEXTS[1:]]),
        {
            "truncated": lambda: held.update(texts=TEXTS[:5]),
            "empty": lambda: held.update(texts=[], labels=[], splits=[]),
            "mixed": lambda: held.update(texts=[*TEXTS[:-1], float("nan")]),
            "missing": lambda: held.update(labels=[*NAMES[:-1], None]),
        },
    )


def stored_arrays(folder: Path, ending: str) -> Case:
    path = folder / f"images{ending}"

    def write(images: Any) -> None:
        if ending == ".npz":
            np.savez(path, images=images, labels=np.array(NAMES))
        else:
            np.save(path, images)

    write(PICTURES)
    labels = None if ending == ".npz" else NAMES
    return Case(
        lambda: sources.Arrays(images=path, labels=labels),
        PICTURES[..., np.newaxis],
        NAMES,
        None,
        lambda: write(PICTURES + 1),
        {
            "truncated": cut(path),
            "empty": overwrite(path, b""),
            "no rows": lambda: write(PICTURES[:0]),
            "mixed": lambda: write(np.array([PICTURES[0], "text", 3], dtype=object)),
        },
    )


def table(folder: Path, ending: str) -> Case:
    path = folder / f"table{ending}"

    def write(texts: list[Any], names: list[Any]) -> None:
        if ending == ".parquet":
            import pyarrow
            from pyarrow import parquet

            rows = {"text": texts, "label": names, "unused": [1.5] * len(texts)}
            parquet.write_table(pyarrow.table(rows), path)
            return
        opened = gzip.open if ending.endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8", newline="") as stream:
            if ending.startswith(".csv"):
                rows = csv.writer(stream)
                rows.writerows([("unused", "text", "label"), *((1.5, *row) for row in zip(texts, names, strict=True))])
            else:
                for text, name in zip(texts, names, strict=True):
                    stream.write(json.dumps({"text": text, "label": name, "unused": 1.5}) + "\n")

    write(TEXTS, NAMES)
    return Case(
        lambda: sources.Table(path),
        TEXTS,
        NAMES,
        None,
        lambda: write(["another", *TEXTS[1:]], NAMES),
        {
            # The last row ends in a label of one letter: without its field separator the row is too short.
            "truncated": cut(path, 10 if ending.startswith(".parquet") else 5),
            "empty": overwrite(path, b""),
            "no rows": lambda: write([], []),
            "mixed": lambda: write([*TEXTS[:-1], None], NAMES),
            "missing": lambda: write(TEXTS, [None, *NAMES[1:]]),
        },
    )


REVIEWS = [(f"review {number}", number % 2) for number in range(20)]


def reviews_file(path: Path, rows: list[tuple[str, Any]] = REVIEWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return path


def selected(folder: Path) -> Case:
    """The drawn rows are known by their property alone; test_reviews holds which ones they are."""
    path = reviews_file(folder / "reviews.csv")
    made = sources.imdb(path, train=8, test=4)
    values = made[:].values
    return Case(
        lambda: sources.imdb(path, train=8, test=4),
        values,
        ["positive" if int(text.split()[1]) % 2 else "negative" for text in values],
        [0] * 8 + [2] * 4,
        lambda: reviews_file(path, [(f"another {text}", label) for text, label in REVIEWS]),
        {
            "truncated": lambda: reviews_file(path, REVIEWS[:10]),
            "empty": overwrite(path, b""),
            "mixed": lambda: reviews_file(path, [*REVIEWS, ("a third class", 2)]),
            "one class": lambda: reviews_file(path, [row for row in REVIEWS if row[1] == 1]),
        },
    )


CASES: dict[str, Callable[..., Case]] = {
    "idx": idx,
    "idx gzipped": lambda folder, write_idx: idx(folder, write_idx, ending=".gz"),
    "idx with test set": lambda folder, write_idx: idx(folder, write_idx, ending=".gz", test_rows=3),
    "image folder": lambda folder, _: image_folder(folder),
    "image folder with splits": lambda folder, _: image_folder(folder, splits=True),
    "text folder": lambda folder, _: text_folder(folder),
    "text folder with splits": lambda folder, _: text_folder(folder, splits=True),
    "images in memory": lambda folder, _: arrays_of_images(folder),
    "texts in memory": lambda folder, _: arrays_of_texts(folder),
    "npy": lambda folder, _: stored_arrays(folder, ".npy"),
    "npz": lambda folder, _: stored_arrays(folder, ".npz"),
    "imdb": lambda folder, _: selected(folder),
    **{
        ending: lambda folder, _, ending=ending: table(folder, ending)
        for ending in (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
    },
}


@pytest.fixture(params=CASES)
def build(request: pytest.FixtureRequest, tmp_path: Path, write_idx: Any) -> Callable[[str], Case]:
    """Builds the same case again in a folder of its own."""

    def in_folder(name: str) -> Case:
        folder = tmp_path / name
        folder.mkdir()
        return CASES[request.param](folder, write_idx)

    return in_folder


@pytest.fixture
def case(build: Callable[[str], Case]) -> Case:
    return build("case")


def same(left: Any, right: Any) -> bool:
    return bool(np.array_equal(left, right)) if isinstance(left, np.ndarray) else list(left) == list(right)


class TestSourceContract:
    """Every source must pass these."""

    def test_protocol__has_all_members(self, case: Case) -> None:
        assert isinstance(case.make(), sources.Source)

    def test_kind__agrees_with_values(self, case: Case) -> None:
        source = case.make()
        samples = source[:]
        if isinstance(case.values, np.ndarray):
            assert (source.kind, source.sample_shape) == ("images", case.values.shape[1:])
            assert samples.values.dtype == np.uint8
        else:
            assert (source.kind, source.sample_shape) == ("texts", None)
            assert type(samples.values) is list
            assert all(type(text) is str for text in samples.values)

    def test_len__counts_samples(self, case: Case) -> None:
        assert len(case.make()) == len(case.names)

    @pytest.mark.parametrize(
        "key",
        [
            slice(None),
            slice(0, 0),
            slice(2, 5),
            slice(5, 100),
            slice(100, 200),
            slice(-2, None),
            slice(3, 1),
            slice(0, 4, 1),
        ],
        ids=str,
    )
    def test_getitem__gives_what_a_list_would(self, case: Case, key: slice) -> None:
        source = case.make()
        samples = source[key]
        assert same(samples.values, case.values[key])
        assert [source.classes[code] for code in samples.labels] == case.names[key]
        assert samples.labels.dtype == np.int64

    def test_getitem__refuses_steps_and_single_rows(self, case: Case) -> None:
        source = case.make()
        with pytest.raises(ValueError, match="step 1"):
            source[::2]
        with pytest.raises(TypeError, match="expected a slice"):
            source[3]

    def test_take__any_order_and_repeats(self, case: Case) -> None:
        source = case.make()
        rows = np.array([8, 0, 3, 3, 7, 1], dtype=np.int64)
        samples = source.take(rows)
        assert same(samples.values, [case.values[row] for row in rows])
        assert [source.classes[code] for code in samples.labels] == [case.names[row] for row in rows]

    def test_take__nothing(self, case: Case) -> None:
        source = case.make()
        samples = source.take(np.empty(0, dtype=np.int64))
        assert len(samples.values) == len(samples.labels) == 0
        assert np.shape(samples.values)[1:] == (source.sample_shape or ())

    @pytest.mark.parametrize("rows", [[-1], [0, 1000]], ids=str)
    def test_take__refuses_rows_that_are_not_there(self, case: Case, rows: list[int]) -> None:
        with pytest.raises(IndexError, match="expected positions from 0 to"):
            case.make().take(np.array(rows))

    @pytest.mark.parametrize("rows", [[0.5], [True, False], [[0, 1]]], ids=str)
    def test_take__refuses_what_are_no_positions(self, case: Case, rows: Any) -> None:
        with pytest.raises(TypeError, match="integers of one dimension"):
            case.make().take(np.array(rows))

    def test_labels__all_with_their_names(self, case: Case) -> None:
        source = case.make()
        labels = source.labels()
        assert labels.dtype == np.int64
        assert [source.classes[code] for code in labels] == case.names
        assert source.classes == tuple(sorted(set(case.names)))

    def test_splits__as_given(self, case: Case) -> None:
        splits = case.make().splits
        if case.splits is None:
            assert splits is None
        else:
            assert splits.dtype == np.uint8
            assert splits.tolist() == case.splits

    def test_results__writing_into_them_changes_nothing(self, case: Case) -> None:
        source = case.make()
        labels, samples = source.labels(), source[:]
        labels[:] = 99
        samples.labels[:] = 99
        samples.values[0] = samples.values[1]
        assert same(source[:].values, case.values)
        assert [source.classes[code] for code in source.labels()] == case.names

    def test_determinism__two_sources_agree(self, case: Case) -> None:
        first, second = case.make(), case.make()
        assert same(first[:].values, second[:].values)
        assert first.fingerprint() == second.fingerprint() == first.fingerprint()

    def test_pickle__same_source_again(self, case: Case) -> None:
        source = case.make()
        source[:]
        again = pickle.loads(pickle.dumps(source))
        assert len(again) == len(source)
        assert same(again[:].values, case.values)
        assert same(again.labels(), source.labels())
        assert (again.classes, again.name, again.kind) == (source.classes, source.name, source.kind)
        assert again.fingerprint() == source.fingerprint()

    def test_fingerprint__changes_with_content(self, case: Case) -> None:
        before = case.make().fingerprint()
        assert case.change is not None
        case.change()
        assert case.make().fingerprint() != before

    def test_describe__is_json_and_says_where(self, case: Case) -> None:
        described = json.loads(json.dumps(case.make().describe()))
        assert {"source", "name", "parameters", "found", "licence", "skipped"} <= set(described)
        assert described["found"]
        assert described["skipped"] == []

    def test_damage__is_refused_in_one_line(self, build: Callable[[str], Case]) -> None:
        for damage in build("case").damages:
            case = build(damage)
            case.damages[damage]()
            with pytest.raises(SourceError) as caught:
                case.make()[:]
            assert "\n" not in str(caught.value), damage

    def test_damage__after_the_source_was_made(self, case: Case) -> None:
        source = pickle.dumps(case.make())
        for damage in case.damages.values():
            damage()
        if "memory" in pickle.loads(source).describe()["found"]:
            assert same(pickle.loads(source)[:].values, case.values)
        else:
            with pytest.raises(SourceError):
                pickle.loads(source)[:]


def test_pickle__in_another_process_and_folder(tmp_path: Path, write_idx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for number, build in enumerate(CASES.values()):
        folder = Path(f"case-{number}")  # relative: must still be found from another working directory
        folder.mkdir()
        made.append(build(folder, write_idx).make())
    (tmp_path / "sources.pickle").write_bytes(pickle.dumps(made))
    script = (
        "import pickle, sys\n"
        "for source in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    print(source.fingerprint(), len(source[:].values))\n"
    )
    checkout = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, str(tmp_path / "sources.pickle")]
    printed = subprocess.run(command, cwd=checkout, check=True, capture_output=True, text=True, timeout=60).stdout
    assert printed.splitlines() == [f"{source.fingerprint()} {len(source)}" for source in made]
