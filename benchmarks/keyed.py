"""Why random numbers are SplitMix64 at a counter: time per sample against Philox, and against noise drawn in sequence.

    python benchmarks/keyed.py [--images 4096] [--repeats 9]

Two questions. What do a sample's own 64-bit words cost when samples come in any order (a shuffled shard): the block
expression of `storage.keyed`, or NumPy's Philox moved to each sample's counter? And what does `noise.Gaussian` cost
beside plain NumPy noise, which is drawn in sequence and so changes with the chunks? Every answer is checked before it
is timed; all contenders take turns; the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
# This folder holds a script that is named like the package `storage`: it comes last.
sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != HERE), str(HERE)]

from storage.keyed import bases, key_of, words  # noqa: E402
from tasks.noise import Gaussian  # noqa: E402

SIDE = 28
WORDS = SIDE * SIDE // 4  # 16 random bits for each pixel
SIGMA = 0.18


def philox_words(ids: np.ndarray) -> np.ndarray:
    """Each sample's words from its own place in one Philox sequence; the state is set, which is the quickest way."""
    generator = np.random.Philox(key=np.array([1, 2], np.uint64))
    state = generator.state
    out = np.empty((len(ids), WORDS), np.uint64)
    for row, sample in enumerate(ids.tolist()):
        state["state"]["counter"][:] = (0, sample, 0, 0)
        state["buffer_pos"] = 4  # nothing left of the sample before
        generator.state = state
        out[row] = generator.random_raw(WORDS)
    return out


def plain_noise(images: np.ndarray) -> np.ndarray:
    """Noise as most people write it: in sequence, in float32."""
    drawn = np.random.default_rng(0).standard_normal(images.shape, dtype=np.float32)
    drawn *= SIGMA * 255
    drawn += images
    return np.clip(np.rint(drawn, out=drawn), 0, 255, out=drawn).astype(np.uint8)


def check_words(draw: Callable[[np.ndarray], np.ndarray], ids: np.ndarray) -> None:
    """Words belong to their ids, in any order, and look random."""
    drawn = draw(ids)
    if not np.array_equal(draw(ids[::-1]), drawn[::-1]):
        raise SystemExit(f"{draw}: the words of a sample depend on its company")
    if len(np.unique(drawn)) != drawn.size or abs(np.mean(drawn >> np.uint64(63)) - 0.5) > 0.01:
        raise SystemExit(f"{draw}: the words are not random")


def check_split_mix(key: int, ids: np.ndarray) -> None:
    """The block is SplitMix64, on Python's integers."""
    mask = 2**64 - 1
    for sample in ids[:3]:
        state = int(bases(key, np.array([sample]))[0])
        for word in words(key, np.array([sample]), 5)[0].tolist():
            state = state + 0x9E3779B97F4A7C15 & mask
            mixed = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
            mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
            if word != mixed ^ mixed >> 31:
                raise SystemExit("words: not SplitMix64")


def check_noise(make: Callable[[np.ndarray], np.ndarray]) -> None:
    """On grey, without clipping to speak of, the noise has its deviation."""
    grey = np.full((500, SIDE, SIDE, 1), 128, np.uint8)
    spread = make(grey).astype(float).std() / (SIGMA * 255)
    if not 0.97 < spread < 1.01:
        raise SystemExit(f"{make}: expected a spread of 1, found {spread:.3f}")


def measure(contenders: dict[str, Callable[[], object]], count: int, repeats: int) -> dict[str, float]:
    """Median microseconds per sample; contenders take turns, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) / count * 1e6 for name, times in seconds.items()}


def show(title: str, medians: dict[str, float]) -> None:
    """Print a table; the ratio is against the first line."""
    first = next(iter(medians.values()))
    print(title)
    for name, median in medians.items():
        print(f"  {name:<44} {median:8.2f} us per sample   x {median / first:.2f}")


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    ids = np.random.default_rng(0).permutation(given.images)
    images = np.random.default_rng(1).integers(0, 256, (given.images, SIDE, SIDE, 1), dtype=np.uint8)
    key, gaussian = key_of(0, "benchmark"), Gaussian(sigma=SIGMA)
    check_split_mix(key, ids)
    check_words(lambda chosen: words(key, chosen, WORDS), ids[:500])
    check_words(philox_words, ids[:500])
    check_noise(lambda grey: gaussian(grey, np.arange(len(grey))))
    check_noise(plain_noise)
    title = f"{WORDS} random words for each of {given.images} samples in shuffled order, median of {given.repeats}"
    drawn = {
        "storage.keyed.words (SplitMix64, a block)": lambda: words(key, ids, WORDS),
        "numpy.random.Philox, moved to each sample": lambda: philox_words(ids),
    }
    show(title, measure(drawn, given.images, given.repeats))
    noisy = {
        "noise.Gaussian (by address, reproducible)": lambda: gaussian(images, ids),
        "default_rng().standard_normal (in sequence)": lambda: plain_noise(images),
    }
    show(f"Gaussian noise on {SIDE} x {SIDE} uint8 images", measure(noisy, given.images, given.repeats))


if __name__ == "__main__":
    main()
