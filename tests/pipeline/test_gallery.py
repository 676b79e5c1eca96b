"""The page and the sheets that show every noise."""

from __future__ import annotations

import base64
import html.parser
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.gallery import write_gallery, write_sheets
from pipeline.gallery.catalogue import catalogue, marked_texts
from pipeline.gallery.marking import differences, visible
from pipeline.gallery.samples import MOST_IMAGES, MOST_SIDE, TEXTS, read_images, read_texts, sample_images
from tasks import noise
from tasks.noise.graded import Graded

DOCS = Path(__file__).parents[2] / "docs"
NAMES = [name for name in noise.__all__ if hasattr(getattr(noise, name), "severities")]
GREY = np.random.default_rng(0).integers(60, 200, (12, 10, 1), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(60, 200, (16, 20, 3), dtype=np.uint8)


class Tags(html.parser.HTMLParser):
    """What a browser would see: opened tags with attributes, ids, and unclosed tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.opened.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.opened if name == tag]


def pixels(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The whole catalogue on small samples."""
    target = tmp_path_factory.mktemp("gallery") / "new" / "gallery.html"
    assert write_gallery(target, images=[GREY, COLOUR], texts=TEXTS, seed=3) == target
    return target.read_text("utf-8")


def test_catalogue__is_all_of_it_and_nothing_else():
    assert sorted(entry.name for entry in catalogue()) == sorted(NAMES)
    assert {"Gaussian", "CharacterSwap"} <= set(NAMES)
    for entry in catalogue():
        assert len(entry.made) == len(entry.strengths) == 5 and entry.summary
        for written, one in zip(entry.written, (entry.made[2], None), strict=True):
            made = eval(written, {"noise": noise})
            assert isinstance(made, Graded) and made.strength == entry.made[2].strength
            assert one is None or made == one


def test_page__every_noise_at_every_severity(page):
    tags = Tags(page)
    assert tags.open == []
    ids = [attributes["id"] for _, attributes in tags.opened if "id" in attributes]
    assert len(ids) == len(set(ids)) and set(NAMES) <= set(ids)
    assert {attributes["href"] for attributes in tags.all("a")} == {f"#{name}" for name in [*NAMES, "noises"]}
    alternatives = [image["alt"] for image in tags.all("img")]
    for entry in catalogue():
        section = page.partition(f'id="{entry.name}">')[2].partition("</section>")[0]
        assert f"<code>{entry.written[0]}</code>" in section.replace("&#39;", "'").replace("&#34;", '"')
        for place, strength in enumerate(entry.strengths, start=1):
            pairs = zip(entry.parameters, strength, strict=True)
            assert str(place) + "".join(f"<span>{name} {value}</span>" for name, value in pairs) in section
            if entry.kind == "images":
                shown = [f"sample {sample}, {entry.name}, severity {place}" for sample in (1, 2)]
                assert [text in alternatives for text in shown] == [not entry.colour, True]
        if entry.kind == "texts":
            assert section.count("<dd") == 6 * len(TEXTS)


def test_page__pictures_are_those_of_the_noise(page):
    images = {image["alt"]: image for image in Tags(page).all("img")}
    for entry in catalogue():
        if entry.kind == "images":
            for severity, made in enumerate(entry.made, start=1):
                shown = images[f"sample 2, {entry.name}, severity {severity}"]
                value = pixels(shown["src"])
                np.testing.assert_array_equal(value, made(COLOUR[None], np.array([1]), seed=3)[0])
                assert (shown["width"], shown["height"]) == ("120", "96")
    grey = images["sample 1, Gaussian, severity 5"]
    assert pixels(grey["src"]).shape == (12, 10) and (grey["width"], grey["height"]) == ("100", "120")


def test_page__needs_nothing_else(page):
    tags = Tags(page)
    assert not tags.all("script") and not tags.all("link")
    assert not re.search(r"https?:|url\(|@import", re.sub(r"data:[^\"]*", "", page))
    assert all(re.fullmatch("data:image/png;base64,.+", image["src"]) for image in tags.all("img"))
    assert "prefers-color-scheme: dark" in page and "image-rendering: pixelated" in page


def test_page__same_bytes_again_and_others_by_seed(tmp_path):
    def made(seed):
        file = write_gallery(tmp_path / "page.html", images=[GREY], texts=TEXTS, seed=seed)
        return file.read_bytes()

    assert made(0) == made(0) != made(1)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_page__texts_are_escaped(tmp_path):
    text = '<script>alert(1)</script> & "quotes" <b>bold words</b> all over <img src=x onerror=y>'
    page = write_gallery(tmp_path / "page.html", images=[GREY], texts=[text]).read_text("utf-8")
    assert not Tags(page).all("script") and not Tags(page).all("b")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;quotes&#34;" in page
    assert len(Tags(page).all("img")) == sum(6 for entry in catalogue() if entry.kind == "images" and not entry.colour)


def test_page__colour_noise_without_colours(tmp_path, monkeypatch):
    def coloured(only=None):
        (entry,) = catalogue(["Gaussian"])
        return [type(entry)(**{**entry.__dict__, "colour": True})]

    monkeypatch.setattr("pipeline.gallery.page.catalogue", coloured)
    page = write_gallery(tmp_path / "page.html", images=[GREY]).read_text("utf-8")
    assert "For colour images only" in page and "<img" not in page


def test_samples__are_grey_and_colour():
    grey, photograph = sample_images()
    assert grey.shape == (28, 28, 1) and photograph.shape == (128, 128, 3)
    assert grey.dtype == photograph.dtype == np.uint8


def test_differences__make_up_the_noisy_text():
    for clean in TEXTS:
        for entry in catalogue():
            for pieces in marked_texts(entry, clean, 0, 0) if entry.kind == "texts" else ():
                noisy = "".join(piece.text for piece in pieces if piece.kind != "gone")
                assert noisy in [made([clean], np.array([0]))[0] for made in entry.made]


@pytest.mark.parametrize(
    ("clean", "noisy", "shown"),
    [
        ("a film", "a film", "a film"),
        ("a good film", "a film", "a {good }film"),
        ("friendship", "firendship", "f[ir]endship"),
        ("the end", "theend", "the{ }end"),
        ("acting well", "actng well", "act{i}ng well"),
        ("film", "fi1m", "fi[1]m"),
        ("film", "movie", "{film}[movie]"),
        ("", "new", "[new]"),
    ],
)
def test_differences__marked(clean, noisy, shown):
    signs = {"same": "{}", "new": "[{}]", "gone": "{{{}}}"}
    found = "".join(signs[piece.kind].format(piece.text) for piece in differences(clean, noisy))
    assert found == shown


def test_visible__hidden_characters_as_codes():
    assert visible("a\u200bb é\n") == "a[U+200B]b é\n"


def test_sheets__of_a_small_catalogue(tmp_path, monkeypatch):
    small = catalogue(["CharacterSwap", "Gaussian"])
    monkeypatch.setattr("pipeline.gallery.sheets.catalogue", lambda: small)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "noise-of-yesterday.png").touch()
    page = write_sheets(tmp_path)
    assert page == tmp_path / "noise-gallery.md"
    files = {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()}
    assert list(files) == ["noise-gaussian.png"]
    sheet = Image.open(io.BytesIO(files["noise-gaussian.png"]))
    assert sheet.size == (6 * 84 + 5 * 4, 2 * 84 + 4)
    text = page.read_text("utf-8")
    assert "(images/noise-gaussian.png)" in text and "<ins>" in text
    assert all(line.count("|") == 4 for line in text.partition("## Texts")[2].splitlines() if line.startswith("|"))
    assert write_sheets(tmp_path).read_text("utf-8") == text
    assert {file.name: file.read_bytes() for file in (tmp_path / "images").iterdir()} == files


def test_docs__show_every_noise_and_stay_small():
    page = (DOCS / "noise-gallery.md").read_text("utf-8")
    titles = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    assert sorted(titles) == sorted(NAMES), "do run: duskflow noise-gallery --sheets docs"
    pictures = re.findall(r"\((images/[^)]+)\)", page)
    assert len(pictures) == sum(entry.kind == "images" for entry in catalogue())
    assert sum((DOCS / picture).stat().st_size for picture in pictures) < 1_500_000


def test_command__writes_where_it_is_called(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(COLOUR).save("one.png")
    Path("texts.txt").write_text("\ufeffA first text.\n\n  Another one here \n", encoding="utf-8")
    command = ["noise-gallery", "--images", "one.png", "--texts", "texts.txt", "--only", "Gaussian", "WordDrop"]
    assert main(command) == 0
    target = tmp_path / "noise-gallery.html"
    assert capsys.readouterr().out.splitlines()[-1] == f"gallery: {target}"
    page = target.read_text("utf-8")
    assert [attributes["id"] for attributes in Tags(page).all("section")] == ["Gaussian", "WordDrop"]
    assert len(Tags(page).all("img")) == 6 and "Another one here" in page
    np.testing.assert_array_equal(pixels(Tags(page).all("img")[0]["src"]), COLOUR)


def test_read_images__folder_by_name_scaled_and_grey(tmp_path):
    Image.fromarray(GREY[:, :, 0]).save(tmp_path / "b.png")
    Image.new("RGBA", (900, 300), (10, 20, 30, 255)).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    first, second = read_images(tmp_path)
    assert first.shape == (75, MOST_SIDE, 3) and first[0, 0].tolist() == [10, 20, 30]
    np.testing.assert_array_equal(second, GREY)


def test_read_texts__keeps_separators_within_lines(tmp_path):
    (tmp_path / "texts.txt").write_bytes("one\u2028line\r\ntwo".encode())
    assert read_texts(tmp_path / "texts.txt") == ["one\u2028line", "two"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "Gausian"], "received 'Gausian'; did you mean Gaussian?"),
        (["--only", "gaussian"], "did you mean Gaussian?"),
        (["--only", "Qqqqqq"], ", Gaussian, "),
        (["--images", "nowhere"], "found nothing at nowhere"),
        (["--images", "folder"], f"expected 1 to {MOST_IMAGES} images"),
        (["--images", "bytes.png"], "expected an image, bytes.png is unreadable"),
        (["--images", "deep.png"], "expected an image of 8 bits per channel"),
        (["--texts", "nowhere.txt"], "expected a text file with a sample per line, found none at nowhere.txt"),
        (["--texts", "blank.txt"], "expected 1 to 20 lines of text in blank.txt, found 0"),
        (["--texts", "latin.txt"], "expected text in UTF-8, latin.txt has another byte at 1"),
        (["--output", "folder"], "received the folder folder"),
        (["--sheets", "folder", "--only", "Gaussian"], "expected --sheets with no option but --seed"),
    ],
)
def test_command__wrong_use_in_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("bytes.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save("deep.png")
    Path("blank.txt").write_text(" \n\n")
    Path("latin.txt").write_bytes(b"r\xe9alis\xe9")
    Path("folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(["noise-gallery", *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"images": [np.zeros((4, 4), np.uint8)]}, r"received uint8 \(4, 4\)"),
        ({"images": [np.zeros((4, 4, 2), np.uint8)]}, r"received uint8 \(4, 4, 2\)"),
        ({"images": [np.zeros((4, 4, 3))]}, "received float64"),
        ({"images": ["a.png"]}, "received str"),
        ({"texts": "one text"}, "expected a list of strings"),
    ],
)
def test_write_gallery__refuses_other_samples(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        write_gallery(tmp_path / "page.html", **options)
    assert not list(tmp_path.iterdir())
