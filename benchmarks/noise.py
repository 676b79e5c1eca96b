"""What the noises cost on one core, beside plain NumPy and other libraries.

    DUSKFLOW_DATA=DIR python benchmarks/noise.py [--peers PYTHON] [--only NAME ...] [--repeats 5] [--markdown FILE]

Images at severity 3: 1,024 of 28 x 28 x 1, 1,024 of 32 x 32 x 3 (imagecorruptions takes none smaller) and 16
photographs of 224 x 224 x 3. Texts: film reviews. `DIR` holds Fashion-MNIST and IMDB; without them the shipped samples
are taken.

`PYTHON` is an interpreter with other libraries, which work on one sample at a time::

    python -m venv PEERS && PEERS/bin/pip install albumentations imagecorruptions nlpaug textaugment setuptools

Each runs in a process of its own (``benchmarks/noise_peers.py``); what is not there is left out. Everybody has one
thread, and the time of its CPU counts, so that other programs disturb less. Outputs are checked before anything is
timed; contenders take turns; medians count. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"  # before NumPy, which reads them once
HOUSE = Path(__file__).resolve().parents[1]
# This folder holds a script that is named like the package `storage`: it must not come first.
sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if Path(entry or ".").resolve() != HOUSE / "benchmarks")]

import argparse  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from itertools import pairwise  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from pipeline.gallery.catalogue import Entry, catalogue  # noqa: E402
from pipeline.gallery.samples import TEXTS  # noqa: E402
from tasks import sources  # noqa: E402

IMAGE_PEERS, TEXT_PEERS = ("albumentations", "imagecorruptions"), ("nlpaug", "textaugment")
SEVERITY = 3
SECONDS = 0.1  # of one measurement, at least
ALIKE = 4.0  # how many times more or less a library may change samples and still be called alike
# Goals: at 28 x 28 against plain NumPy and against the quickest library; at 224 x 224 against both; MB/s of texts.
RANDOM = {"Gaussian", "Shot", "Speckle", "SaltAndPepper"}
PLAIN_GOAL, RANDOM_GOAL, SMOOTH_GOAL, LARGE_GOAL, TEXT_GOAL = 4.0, 20.0, 3.0, 1.0, 20.0


# --- plain NumPy, as most people write it: drawn in sequence, in float32


def plain_gaussian(images: np.ndarray, sigma: float) -> np.ndarray:
    """Additive Gaussian noise."""
    drawn = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    drawn *= np.float32(sigma * 255)
    drawn += images
    return np.clip(np.rint(drawn, out=drawn), 0, 255, out=drawn).astype(np.uint8)


def plain_speckle(images: np.ndarray, sigma: float) -> np.ndarray:
    """Multiplicative Gaussian noise."""
    drawn = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    drawn *= np.float32(sigma)
    drawn += 1
    drawn *= images
    return np.clip(np.rint(drawn, out=drawn), 0, 255, out=drawn).astype(np.uint8)


def plain_shot(images: np.ndarray, photons: float) -> np.ndarray:
    """Poisson noise."""
    counts = np.random.default_rng(0).poisson(images * np.float32(photons / 255)).astype(np.float32)
    counts *= np.float32(255 / photons)
    return np.clip(np.rint(counts, out=counts), 0, 255, out=counts).astype(np.uint8)


def plain_salt_and_pepper(images: np.ndarray, amount: float) -> np.ndarray:
    """Impulse noise, all channels of a pixel together."""
    drawn = np.random.default_rng(0).random((*images.shape[:3], 1), dtype=np.float32)
    noisy = np.where(drawn < amount / 2, np.uint8(0), images)
    return np.where(drawn >= 1 - amount / 2, np.uint8(255), noisy)


PLAIN = {
    "Gaussian": plain_gaussian,
    "Speckle": plain_speckle,
    "Shot": plain_shot,
    "SaltAndPepper": plain_salt_and_pepper,
}


# --- samples


def images_of(side: int) -> np.ndarray:
    """The images to measure on, uint8 (n, side, side, channel)."""
    rng = np.random.default_rng(0)
    if side == 28:
        try:
            found = sources.fashion_mnist(download=False)
        except FileNotFoundError:
            found = sources.sample_images()
        return np.ascontiguousarray(found[0:1024].values)
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    out = np.empty((16 if side > 100 else 1024, side, side, 3), np.uint8)
    for place, image in enumerate(out):
        photograph = photographs[place % len(photographs)]
        top, left = (int(rng.integers(0, length - side)) for length in photograph.shape[:2])
        image[:] = photograph[top : top + side, left : left + side]
    return out


def reviews(count: int) -> list[str]:
    """Film reviews, or our sample sentences over and over where there are none."""
    for source in (lambda: sources.imdb(train=count, test=2, download=False), lambda: sources.sample_texts(count, 2)):
        try:
            return list(source()[0:count].values)
        except FileNotFoundError:
            continue
    return [" ".join(TEXTS[(place + turn) % len(TEXTS)] for turn in range(15)) for place in range(count)]


def changed(clean: Any, noisy: Any) -> float:
    """How much noise there is: mean absolute difference of images, share of pairs of words that texts lost."""
    if isinstance(clean, np.ndarray):
        return float(np.abs(clean.astype(np.int16) - noisy).mean())
    lost = total = 0
    for one, other in zip(clean, noisy, strict=True):
        before, after = (Counter(pairwise(words)) for words in (one.split(), other.split()))
        lost, total = lost + (before - after).total(), total + before.total()
    return lost / total


def check(name: str, clean: Any, noisy: Any) -> None:
    """Refuse what is no noisy copy."""
    if isinstance(clean, np.ndarray):
        if noisy.shape != clean.shape or noisy.dtype != np.uint8:
            raise ValueError(f"{name}: expected uint8 {clean.shape}, received {noisy.dtype} {noisy.shape}")
    elif len(noisy) != len(clean) or not all(isinstance(text, str) for text in noisy):
        raise ValueError(f"{name}: expected {len(clean)} texts")


# --- contenders: each gives samples (or bytes of text) per second when its turn comes


class Peer:
    """Another library in a process of its own."""

    def __init__(self, python: str, library: str) -> None:
        script = Path(__file__).with_name("noise_peers.py")
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(script), library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.library = library
        self.hello = self._answer()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"skip": f"{self.library} ended with {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass
class Row:
    """What came out for one noise on one kind of samples; rates are samples (or MB of text) per second."""

    entry: Entry
    what: str
    rates: dict[str, float] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)
    """How much others change the samples, ours being 1."""
    spread: float = 0.0
    """Of ours: (slowest - quickest) / median time."""

    def ratio(self, name: str) -> float:
        """Ours to another's."""
        return self.rates["ours"] / self.rates[name]

    def goals(self) -> list[tuple[str, bool]]:
        """Each goal with whether it holds."""
        module = type(self.entry.made[0]).__module__
        peers = [name for name in (*IMAGE_PEERS, *TEXT_PEERS) if name in self.rates]
        quickest = min(map(self.ratio, peers), default=math.inf)
        found = []
        if self.entry.kind == "texts":
            if self.entry.name.startswith("Character") or module.endswith((".characters", ".confusions")):
                found.append((f">= {TEXT_GOAL:g} MB/s", self.rates["ours"] >= TEXT_GOAL))
        elif self.what.startswith("28"):
            if self.entry.name in RANDOM:
                found.append((f">= {PLAIN_GOAL:g} x plain", self.ratio("plain NumPy") >= PLAIN_GOAL))
            least = RANDOM_GOAL if self.entry.name in RANDOM else SMOOTH_GOAL
            if peers and (self.entry.name in RANDOM or module.endswith((".geometry", ".blur"))):
                found.append((f">= {least:g} x library", quickest >= least))
        elif self.what.startswith("224") and len(self.rates) > 1:
            slowest = min(self.ratio(name) for name in self.rates if name != "ours")
            found.append((f">= {LARGE_GOAL:g} x all", slowest >= LARGE_GOAL))
        return found


def own_turn(run: Callable[[], object], size: float) -> Callable[[], float]:
    """A measurement of something in this process that handles `size` a call, by the time of its CPU."""
    begun = time.process_time()
    run()
    times = max(1, math.ceil(SECONDS / max(1e-6, time.process_time() - begun)))

    def turn() -> float:
        begun = time.process_time()
        for _ in range(times):
            run()
        return times * size / (time.process_time() - begun)

    return turn


def peer_turn(peer: Peer, path: str) -> Callable[[], float]:
    """A measurement of another library."""

    def turn() -> float:
        answer = peer.ask(do="time", samples=path)
        done = answer["count"] if answer["bytes"] is None else answer["bytes"] / 1e6
        return float(done / answer["seconds"])

    return turn


def measure(entry: Entry, what: str, samples: Any, path: str, peers: Sequence[Peer], repeats: int) -> Row:
    """Check all contenders, then let them take turns."""
    row, made = Row(entry, what), entry.made[SEVERITY - 1]
    strength = dict(zip(entry.parameters, made.strength, strict=True))
    ids = np.arange(len(samples))
    size = len(samples) if isinstance(samples, np.ndarray) else sum(len(text.encode()) for text in samples) / 1e6
    noisy = made(samples, ids)
    check(entry.name, samples, noisy)
    ours = changed(samples[:64], noisy[:64])
    turns = {"ours": own_turn(lambda: made(samples, ids), size)}
    if entry.kind == "images" and entry.name in PLAIN:
        plain = PLAIN[entry.name]
        other = plain(samples, *made.strength)
        check("plain NumPy", samples, other)
        row.changes["plain NumPy"] = changed(samples[:64], other[:64]) / ours
        turns["plain NumPy"] = own_turn(lambda: plain(samples, *made.strength), size)
    for peer in peers:
        answer = peer.ask(do="make", noise=entry.name, strength=strength, samples=path)
        if "skip" in answer:
            if answer["skip"]:
                print(f"{entry.name}, {what}: {peer.library} {answer['skip']}", file=sys.stderr)
            continue
        file = answer["results"]
        results = np.load(file) if file.endswith(".npy") else json.loads(Path(file).read_text("utf-8"))
        try:
            check(peer.library, samples[: len(results)], results)
        except ValueError as error:
            print(f"{entry.name}, {what}: {error}", file=sys.stderr)
            continue
        row.settings[peer.library] = answer["setting"]
        row.changes[peer.library] = changed(samples[: len(results)], results) / ours
        turns[peer.library] = peer_turn(peer, path)
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(repeats):
        for name, turn in turns.items():
            rates[name].append(turn())
    row.rates = {name: statistics.median(found) for name, found in rates.items()}
    row.spread = (max(rates["ours"]) - min(rates["ours"])) / row.rates["ours"]
    return row


# --- tables


def table(rows: Sequence[Row], contenders: Sequence[str], unit: str) -> list[str]:
    """Markdown: rates, and ratios of ours to the others'."""
    there = [name for name in contenders if any(name in row.rates for row in rows)]
    heads = ["noise", "of", f"ours, {unit}", "spread", *(f"{name} | ours / it" for name in there), "goals"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * (5 + 2 * len(there)) + "|"]
    for row in rows:
        digits = ",.0f" if unit == "images/s" else ",.2f"
        cells = [f"`{row.entry.name}`", row.what, f"{row.rates['ours']:{digits}}", f"{row.spread:.0%}"]
        for name in there:
            if name in row.rates:
                mark = "" if 1 / ALIKE <= row.changes[name] <= ALIKE else " *"
                cells += [f"{row.rates[name]:{digits}}{mark}", f"{row.ratio(name):.1f}"]
            else:
                cells += ["", ""]
        cells.append("; ".join(f"{text}: {'holds' if holds else '**MISSED**'}" for text, holds in row.goals()))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def settings(rows: Sequence[Row]) -> list[str]:
    """Markdown: what the others were asked to do, and how much they changed the samples beside ours."""
    lines = ["| noise | of | library | setting | its change / ours |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        for name, setting in row.settings.items():
            lines.append(f"| `{row.entry.name}` | {row.what} | {name} | `{setting}` | {row.changes[name]:.2f} |")
    return lines


def peak() -> str:
    """Highest memory of this process so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB"


def run(options: argparse.Namespace, folder: Path) -> tuple[list[str], int]:
    """Measure everything; the report as lines, and how many goals were missed."""
    entries = catalogue(options.only)
    libraries = [*IMAGE_PEERS, *TEXT_PEERS] if options.peers else []
    peers = {library: Peer(options.peers, library) for library in libraries}
    for library, peer in list(peers.items()):
        if "skip" in peer.hello:
            print(f"{library}: not installed ({peer.hello['skip']})", file=sys.stderr)
            peer.close()
            del peers[library]
    memory = [f"this process at the start {peak()}"]
    rows: list[Row] = []

    def one(entry: Entry, what: str, samples: Any, path: Path, libraries: Sequence[str]) -> None:
        chosen = [peers[name] for name in libraries if name in peers]
        rows.append(measure(entry, what, samples, str(path), chosen, options.repeats))
        made = rows[-1]
        print(f"{entry.name}, {what}: " + ", ".join(f"{k} {v:,.1f}/s" for k, v in made.rates.items()), flush=True)

    for side in (28, 32, 224):
        images = images_of(side)
        path, what = folder / f"{side}.npy", " x ".join(map(str, images.shape[1:]))
        np.save(path, images)
        for entry in entries:
            fits = entry.kind == "images" and (not entry.colour or images.shape[3] == 3)
            # 32 x 32 is there for the one that takes no less.
            if fits and (side != 32 or "imagecorruptions" in peers):
                one(entry, what, images, path, IMAGE_PEERS if side != 32 else IMAGE_PEERS[1:])
        memory.append(f"after {what} {peak()}")
    texts, path = reviews(options.reviews), folder / "texts.json"
    path.write_text(json.dumps(texts), encoding="utf-8")
    for entry in entries:
        if entry.kind == "texts":
            one(entry, f"{len(texts):,} reviews", texts, path, TEXT_PEERS)
    memory.append(f"after texts {peak()}")
    for library, peer in peers.items():
        memory.append(f"{library} {peer.hello['version']} {peer.ask(do='memory')['peak'] / 2**20:,.0f} MiB")
        peer.close()
    rows = [row for row in rows if not row.what.startswith("32") or "imagecorruptions" in row.rates]
    image_rows = [row for row in rows if row.entry.kind == "images"]
    text_rows = [row for row in rows if row.entry.kind == "texts"]
    goals = [holds for row in rows for _, holds in row.goals()]
    lines = [
        f"Severity {SEVERITY}, one thread, CPU time, medians of {options.repeats} interleaved repeats, load {load()}.",
        "",
    ]
    if image_rows:
        lines += [*table(image_rows, ("plain NumPy", *IMAGE_PEERS), "images/s"), ""]
    if text_rows:
        lines += [*table(text_rows, TEXT_PEERS, "MB/s"), ""]
    lines += [f"{sum(goals)} of {len(goals)} goals hold.", "", f"Peak memory: {'; '.join(memory)}.", ""]
    if any(row.settings for row in rows):
        lines += [f"(*: changes the samples more than {ALIKE:g} times more or less than ours.)", "", *settings(rows)]
    return lines, len(goals) - sum(goals)


def load() -> str:
    """The machine's load now."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def main() -> int:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with the other libraries (default: none)")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="just these noises")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reviews", type=int, default=2_000, help="how many texts")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables there, too")
    options = parser.parse_args()
    try:
        import cv2

        cv2.setNumThreads(1)
    except ImportError:
        pass  # noises do without it
    with tempfile.TemporaryDirectory() as folder:
        lines, missed = run(options, Path(folder))
    text = "\n".join(lines) + "\n"
    print("\n" + text, end="")
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
