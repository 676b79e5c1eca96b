"""The page: whole, well-formed, closed to the network, and fit for runs that went wrong."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import write_report

HOSTILE = "<script>alert('x')</script> & \"more\""
VOID = {"meta", "img", "wbr", "br", "link", "input", "hr"}
WORDS = (
    "fashion and reviews",
    "Best on clean data: lenet5() Wins with accuracy 0.887 on 1,000 test rows",
    "1 step failed, 1 step was skipped",
    "MemoryError: Unable to allocate 4.59 GiB",
    'File "tasks/training.py", line 88',
    "trained on gaussian-3",
    "61,706",
    "Ankle boot",
    "Best validation loss",
    "mean 16.64 dB",
    "NMI",
    "silhouette",
    "explained variance",
    "train 5,700",
    "5.49 MB",
    "seed 0",
    "Degrades least: KNeighborsClassifier(n_neighbors=5)",
    "Denoising helps: denoising_autoencoder()",
    "duskflow.workers.gpu",
    "tcp://127.0.0.1:41233",
    "2026.8.0",
)
Save = Callable[..., Path]


class Outline(HTMLParser):
    """Elements, their attributes and the visible text; refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.blocks: dict[str, str] = {"style": "", "script": ""}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element at line {self.getpos()[0]}"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.blocks:
            self.blocks[self._open[-1]] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def said(self) -> str:
        return re.sub(r"\s+", " ", self.text)


@pytest.fixture
def page(images: dict[str, Any], texts: dict[str, Any], save: Save, tmp_path: Path) -> Outline:
    runs = [save(images, "fashion"), save(texts, "reviews", examples=False)]
    return Outline(write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8"))


def outline(content: dict[str, Any], save: Save, **options: Any) -> Outline:
    folder = save(content, **options)
    return Outline(write_report([folder], folder / "report.html").read_text(encoding="utf-8"))


def test_write_report__asks_the_network_for_nothing(page: Outline) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert attributes.get("href", "#").startswith("#")
        assert not {name for name in attributes if name.startswith("on") or name in ("srcset", "action", "ping")}
        assert "url(" not in attributes.get("style", "")
    for word in ("url(", "@import", "http:", "https:", "//cdn"):
        assert word not in page.blocks["style"]
        assert word not in page.blocks["script"]


def test_write_report__allows_its_own_script_only(page: Outline) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.blocks["script"].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert f"script-src 'sha256-{digest}';" in policy
    assert len(page.all("script")) == 1


def test_write_report__is_accessible(page: Outline) -> None:
    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    assert max(ids.values()) == 1
    for _, attributes in page.elements:
        for name in ("href", "aria-labelledby"):
            if name in attributes:
                assert attributes[name].removeprefix("#") in ids
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all("scope" in head for head in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    for drawing in page.all("svg"):
        # The marks inside a drawing carry a title each; the drawing itself has a label or is hidden.
        assert drawing.get("aria-hidden") == "true" or drawing.get("aria-label") or "x" in drawing
    assert [tag for tag, _ in page.elements if tag in ("header", "main", "footer")].count("main") == 1
    assert page.all("html")[0]["lang"] == "en"


def test_write_report__tells_everything(page: Outline, images: dict[str, Any]) -> None:
    said = page.said()
    for result in images["results"]:
        assert result["label"] in said
    for words in WORDS:
        assert words in said
    assert len(page.all("img")) == 60
    # Learning curves of both runs, then three methods under each of two noises.
    assert len(page.all("polyline")) == 2 * (2 + 1) + 2 * 2 + 3 * 2


def test_write_report__escapes_every_name(images: dict[str, Any], save: Save) -> None:
    images |= {
        "pipeline": HOSTILE,
        "classes": [HOSTILE, *images["classes"][1:]],
        "config": {HOSTILE: {HOSTILE: HOSTILE}},
    }
    images |= {"versions": {HOSTILE: HOSTILE}, "source": {"class": HOSTILE}, "run": HOSTILE, "noise": [HOSTILE]}
    images["cluster"]["address"] = HOSTILE
    for result in images["results"]:
        result |= {"label": HOSTILE, "device": HOSTILE, "trained_on": HOSTILE}
        result["scores"][0]["extra"][HOSTILE] = 1.0
        result["scores"][-1]["data"] = HOSTILE
    for result in images["robustness"]["results"]:
        result |= {"label": HOSTILE, "kind": HOSTILE, "measure": HOSTILE}
        for key in ("scores", "denoised", "ce"):
            result[key][HOSTILE] = result[key].pop("Gaussian")
    images["robustness"]["noises"][0] |= {"name": HOSTILE, "written": [HOSTILE] * 3}
    images["robustness"] |= {"baseline": HOSTILE, "denoiser": HOSTILE, "split": HOSTILE}
    for step in images["steps"]:
        step |= {"name": HOSTILE, "error": HOSTILE, "traceback": HOSTILE, "kind": HOSTILE}
    for dataset in images["datasets"]:
        dataset |= {"name": HOSTILE, "version": HOSTILE}
    page = outline(images, save)
    assert len(page.all("script")) == 1
    assert page.said().count("alert('x')") > 30
    assert "alert" not in page.blocks["script"]


def test_write_report__is_the_same_each_time(images: dict[str, Any], save: Save, tmp_path: Path) -> None:
    folder = save(images)
    one, two = (write_report([folder], tmp_path / name) for name in ("one.html", "two.html"))
    assert one.read_bytes() == two.read_bytes()
    assert sorted(file.name for file in tmp_path.glob("*.html*")) == ["one.html", "two.html"]


@pytest.mark.parametrize(
    "key",
    ["results", "datasets", "steps", "classes", "versions", "config", "cluster", "source", "kind", "robustness"],
)
def test_write_report__does_without_any_part(images: dict[str, Any], save: Save, key: str) -> None:
    del images[key]
    assert "fashion" in outline(images, save).said()


def test_write_report__of_an_empty_run(save: Save) -> None:
    said = outline({"exit_code": 3}, save).said()
    assert "No method or network left a number in this run." in said
    assert "The run ended with exit code 3" in said
    assert "No dataset was written." in said
    assert "Setup" not in said


def test_write_report__of_a_run_that_only_failed(images: dict[str, Any], save: Save) -> None:
    images |= {
        "results": [],
        "datasets": [],
        "steps": [images["steps"][0] | {"status": "failed", "error": "disk full"}],
    }
    page = outline(images, save)
    assert "1 step failed" in page.said()
    assert "disk full" in page.said()
    assert "Leaderboard" not in page.said()


def test_write_report__of_data_without_labels_or_noise(texts: dict[str, Any], save: Save) -> None:
    texts |= {"classes": [], "datasets": [texts["datasets"][0] | {"class_counts": []}]}
    scores = [
        {"data": "clean", "split": "test", "measure": "silhouette", "value": 0.4, "rows": 500, "extra": {"clusters": 3}}
    ]
    texts["results"] = [
        {"label": "KMeans(3)", "name": "KMeans", "kind": "method", "task": "clustering", "scores": scores}
    ]
    said = outline(texts, save).said()
    assert "The data has no labels." in said
    assert "true classes" not in said
    assert "What the noise did" not in said
    assert "Under a noisy value" not in said


def test_write_report__says_that_a_value_is_not_a_number(images: dict[str, Any], save: Save) -> None:
    images["results"][1]["scores"][0]["value"] = float("nan")
    said = outline(images, save).said()
    assert "Without a finite value: LinearSVC(C=0.1) on clean" in said


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "is not in the run's folder any more"), (b"junk", "unreadable file")]
)
def test_write_report__misses_pictures_without_failing(
    images: dict[str, Any], save: Save, content: bytes | None, reason: str
) -> None:
    folder = save(images)
    examples = folder.parents[1] / "steps" / "denoising_autoencoder" / "examples.npz"
    examples.unlink()
    if content is not None:
        examples.write_bytes(content)
    page = Outline(write_report([folder], folder / "report.html").read_text(encoding="utf-8"))
    assert reason in page.said()
    assert page.all("img") == []
    assert "Leaderboard" in page.said()


def test_write_report__refuses_no_runs_and_a_folder_as_target(
    images: dict[str, Any], save: Save, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected at least one run folder, received none; do "):
        write_report([], tmp_path / "report.html")
    with pytest.raises(ValueError, match="expected a file to write the report to, received the folder"):
        write_report([save(images)], tmp_path)
    with pytest.raises(FileNotFoundError, match=r"expected a run folder with run\.json"):
        write_report([tmp_path], tmp_path / "report.html")
