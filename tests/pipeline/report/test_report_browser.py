"""The report in a real Chromium, spoken to through its debugging pipe (file descriptors 3 and 4): no library needed."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import write_report

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find() -> str | None:
    """Where Chromium is; None without one."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Page:
    """One tab. `events` collects what the page reported: console calls, exceptions, log entries and requests."""

    def __init__(self, program: str, profile: Path, seconds: float = 60.0) -> None:
        self.seconds = seconds
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # A shell places the pipe's ends at 3 and 4, which is where Chromium looks for them.
        place = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        command = ["/bin/bash", "-c", place, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End this Chromium, and only this one."""
        try:
            self._session = None
            self.call("Browser.close")
            self._process.wait(timeout=10)
        except (OSError, RuntimeError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(timeout=10)
        finally:
            self._selector.close()
            os.close(self._read)
            os.close(self._write)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == self._number, method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Load a page at a width, in light or dark mode, and wait until it is laid out."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.events.clear()
        self.call("Page.navigate", url=url)
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._until(lambda message: message.get("method") == "Page.loadEventFired", "loading the page")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Console errors and warnings, exceptions and log entries since the page was opened."""
        found = []
        for event in self.events:
            method, params = event["method"], event["params"]
            if method == "Runtime.exceptionThrown" or method == "Log.entryAdded":
                found.append(json.dumps(params))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(params["args"]))
        return found

    def requests(self) -> list[str]:
        """The addresses that the page asked for since it was opened."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def _until(self, wanted: Callable[[dict[str, Any]], bool], purpose: str) -> dict[str, Any]:
        deadline = time.monotonic() + self.seconds
        while True:
            while b"\0" in self._buffer:
                text, self._buffer = self._buffer.split(b"\0", 1)
                message: dict[str, Any] = json.loads(text)
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message
            if not self._selector.select(timeout=max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{purpose}: Chromium gave no answer within {self.seconds:g} s")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise RuntimeError(f"{purpose}: Chromium ended with exit code {self._process.poll()}")
            self._buffer += chunk


# The lowest contrast of any visible text with what lies behind it (WCAG 2.2, 1.4.3), as [ratio, text, needed].
# Text over the masthead's gradient is left out: it has no single background.
CONTRAST = """
(() => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.backgroundImage !== "none") return null;
      const colour = rgba(style.backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  let worst = [99, "", 4.5];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility() || element.closest("svg, script, .hidden, .skip")) continue;
    const style = getComputedStyle(element), back = behind(element);
    if (!back) continue;
    const [x, y] = [light(rgba(style.color)), light(back)];
    const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (ratio / needed < worst[0] / worst[2]) worst = [ratio, text, needed];
  }
  return worst;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((path for name in names if (path := shutil.which(name))), None)
    if program is None:
        # Where tests have to be complete, a missing browser is a failure.
        if os.environ.get("CI"):
            pytest.fail("expected Chromium on CI, found none; do install chromium")
        pytest.skip("no Chromium")
    page = Page(program, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def report(images: dict[str, Any], texts: dict[str, Any], save: Callable[..., Path], tmp_path: Path) -> str:
    hostile = "<script>document.title = 'taken over'</script>"
    images["classes"][0] = hostile
    # Every share from 10 % to 100 %, right and wrong: each tone of the heat table.
    shares = [[10 * (row + 1) if row == column else 0 for column in range(10)] for row in range(10)]
    for row in range(9):
        shares[row][9] = 100 - shares[row][row]
    images["results"][0]["scores"][0]["confusion"] = shares
    images["results"][0]["label"] = hostile + "with_a_label_that_has_no_place_to_break" * 3
    runs = [save(images, "fashion"), save(texts, "reviews", examples=False)]
    return write_report(runs, tmp_path / "report.html").as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_report__fits_reads_and_needs_no_network(browser: Page, report: str, width: int, dark: bool) -> None:
    browser.open(report, width, dark=dark)
    # Folded parts have to fit and to be readable as well.
    browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.value("document.title") == "fashion and reviews – duskflow report"
    assert browser.complaints() == []
    assert [url for url in browser.requests() if not url.startswith("data:image/png")] == [report]
    assert browser.value("document.documentElement.scrollWidth") == width
    ratio, text, needed = browser.value(CONTRAST)
    assert ratio >= needed, f"{text!r} has a contrast of {ratio:.2f}"


def test_report__draws_every_picture(browser: Page, report: str) -> None:
    browser.open(report, 1280)
    sizes = browser.value("[...document.images].map((one) => one.naturalWidth)")
    assert sizes == [28] * 60
    assert browser.value("getComputedStyle(document.images[0]).imageRendering") == "pixelated"


def test_report__headings_sort(browser: Page, report: str) -> None:
    browser.open(report, 1280)
    table = "document.getElementById('run-2-board-1')"
    names = f"[...{table}.tBodies[0].rows].map((row) => row.cells[1].dataset.key)"
    fit = f"[...{table}.tHead.rows[0].cells].find((cell) => cell.innerText.trim() === 'fit')"
    best_first = ["LinearSVC(C=1.0)", "lstm_sentiment()", "KNeighborsClassifier(n_neighbors=15)"]
    assert browser.value(names) == best_first
    browser.value(f"{fit}.querySelector('button').click()")
    assert browser.value(f"{fit}.getAttribute('aria-sort')") == "ascending"
    assert browser.value(names)[-1] == "lstm_sentiment()"
    browser.value(f"{fit}.querySelector('button').click()")
    assert browser.value(f"{fit}.getAttribute('aria-sort')") == "descending"
    assert browser.value(names)[0] == "lstm_sentiment()"


def test_report__keeps_what_was_not_measured_at_the_end(browser: Page, report: str) -> None:
    browser.open(report, 1280)
    table = "document.getElementById('run-1-board-1')"
    parameters = f"[...{table}.tBodies[0].rows].map((row) => row.cells[row.cells.length - 1].innerText)"
    for expected in (["61,706", "–", "–"], ["61,706", "–", "–"]):
        browser.value(f"{table}.tHead.rows[0].lastElementChild.querySelector('button').click()")
        assert browser.value(parameters) == expected
