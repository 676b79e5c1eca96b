"""Other libraries' noises, timed on request: the other end of ``benchmarks/noise.py``, run by the Python that has them.

    PYTHON benchmarks/noise_peers.py albumentations|imagecorruptions|nlpaug|textaugment

Imports nothing of duskflow. Reads a request a line (JSON) and answers each with a line:

- ``{"do": "make", "noise": NAME, "strength": {...}, "samples": PATH}`` chooses what is nearest to a noise of ours and
  runs it on the first samples: ``{"setting": ..., "results": PATH}``, or ``{"skip": why}``;
- ``{"do": "time", "samples": PATH}`` runs it for a quarter of a second of CPU: ``{"count": samples, "seconds": ...}``;
- ``{"do": "memory"}``: ``{"peak": bytes}``.

Samples are an .npy file of images, or a JSON file with a list of texts.
"""

from __future__ import annotations

import os

for _name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks the network for its newest version otherwise

import json  # noqa: E402
import math  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from importlib import import_module, metadata  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

SECONDS = 0.25
CHECKED = 64

Strength = dict[str, Any]
# For each noise of ours a transform and its options, given our parameters and the side of the images.
ALBUMENTATIONS: dict[str, Callable[[Strength, int], tuple[str, Strength]]] = {
    "Gaussian": lambda p, _: ("GaussNoise", {"std_range": (p["sigma"],) * 2}),
    "Shot": lambda p, _: ("ShotNoise", {"scale_range": (1 / p["photons"],) * 2}),
    # Uniform, of the same deviation.
    "Speckle": lambda p, _: (
        "MultiplicativeNoise",
        {"multiplier": (1 - 3**0.5 * p["sigma"], 1 + 3**0.5 * p["sigma"]), "elementwise": True, "per_channel": True},
    ),
    "SaltAndPepper": lambda p, _: ("SaltAndPepper", {"amount": (p["amount"],) * 2, "salt_vs_pepper": (0.5, 0.5)}),
    "RandomErasing": lambda p, _: ("Erasing", {"scale": (p["area"],) * 2, "fill": "random"}),
    "GaussianBlur": lambda p, _: ("GaussianBlur", {"sigma_limit": (p["sigma"],) * 2}),
    "DefocusBlur": lambda p, _: (
        "Defocus",
        {"radius": (round(p["radius"]),) * 2, "alias_blur": (p["softness"],) * 2},
    ),
    "MotionBlur": lambda p, _: ("MotionBlur", {"blur_limit": (2 * p["radius"] + 1,) * 2}),
    "Shift": lambda p, _: ("Affine", {"translate_percent": (-p["share"], p["share"])}),
    "Rotate": lambda p, _: ("Rotate", {"limit": (-p["degrees"], p["degrees"])}),
    "Zoom": lambda p, _: ("Affine", {"scale": (p["factor"],) * 2}),
    "Shear": lambda p, _: ("Affine", {"shear": {"x": (math.degrees(math.atan(p["slope"])),) * 2, "y": (0, 0)}}),
    "HorizontalFlip": lambda p, _: ("HorizontalFlip", {"p": p["p"]}),
    "RandomCrop": lambda p, side: (
        "RandomResizedCrop",
        {"size": (side, side), "scale": (p["share"],) * 2, "ratio": (1.0, 1.0)},
    ),
    "ElasticTransform": lambda p, side: (
        "ElasticTransform",
        {"alpha": p.get("alpha", 0.05) * side, "sigma": max(1.0, p.get("sigma", 0.01) * side)},
    ),
    "Brightness": lambda p, _: (
        "RandomBrightnessContrast",
        {"brightness_limit": (p["amount"],) * 2, "contrast_limit": (0, 0)},
    ),
    "Contrast": lambda p, _: (
        "RandomBrightnessContrast",
        {"brightness_limit": (0, 0), "contrast_limit": (p["factor"] - 1,) * 2},
    ),
    "Gamma": lambda p, _: ("RandomGamma", {"gamma_limit": (100 * p["gamma"],) * 2}),
    "Saturate": lambda p, _: (
        "ColorJitter",
        {"brightness": (1, 1), "contrast": (1, 1), "saturation": (p["factor"],) * 2, "hue": (0, 0)},
    ),
    "Jpeg": lambda p, _: ("ImageCompression", {"quality_range": (int(p["quality"]),) * 2}),
    "Pixelate": lambda p, _: ("Downscale", {"scale_range": (next(iter(p.values())),) * 2}),
    "Fog": lambda p, _: ("RandomFog", {}),
    "Snow": lambda p, _: ("RandomSnow", {}),
    "Spatter": lambda p, _: ("Spatter", {}),
    "GlassBlur": lambda p, _: ("GlassBlur", {}),
    "ZoomBlur": lambda p, _: ("ZoomBlur", {}),
}
ALBUMENTATIONS["JpegCompression"] = ALBUMENTATIONS["Jpeg"]
IMAGECORRUPTIONS = {
    "Gaussian": "gaussian_noise",
    "Shot": "shot_noise",
    "Speckle": "speckle_noise",
    "SaltAndPepper": "impulse_noise",
    "GaussianBlur": "gaussian_blur",
    "DefocusBlur": "defocus_blur",
    "MotionBlur": "motion_blur",
    "GlassBlur": "glass_blur",
    "ZoomBlur": "zoom_blur",
    "ElasticTransform": "elastic_transform",
    "Brightness": "brightness",
    "Contrast": "contrast",
    "Saturate": "saturate",
    "Jpeg": "jpeg_compression",
    "JpegCompression": "jpeg_compression",
    "Pixelate": "pixelate",
    "Fog": "fog",
    "Snow": "snow",
    "Frost": "frost",
    "Spatter": "spatter",
}
_EVERYWHERE = {"aug_word_p": 1.0, "aug_word_max": None, "aug_char_min": 0, "aug_char_max": None}
NLPAUG: dict[str, Callable[[float], tuple[str, str, Strength]]] = {
    "KeyboardTypo": lambda rate: ("char", "KeyboardAug", {"aug_char_p": rate, **_EVERYWHERE}),
    "OcrConfusion": lambda rate: ("char", "OcrAug", {"aug_char_p": rate, **_EVERYWHERE}),
    "CharacterInsert": lambda rate: ("char", "RandomCharAug", {"action": "insert", "aug_char_p": rate, **_EVERYWHERE}),
    "CharacterSwap": lambda rate: ("char", "RandomCharAug", {"action": "swap", "aug_char_p": rate, **_EVERYWHERE}),
    "CharacterDrop": lambda rate: ("char", "RandomCharAug", {"action": "delete", "aug_char_p": rate, **_EVERYWHERE}),
    "WordDrop": lambda rate: ("word", "RandomWordAug", {"action": "delete", "aug_p": rate, "aug_max": None}),
    "WordSwap": lambda rate: ("word", "RandomWordAug", {"action": "swap", "aug_p": rate, "aug_max": None}),
}

Change = Callable[[Any], Any]


def albumentations() -> Callable[[str, Strength, Any], tuple[str, Change] | None]:
    """A transform called by itself, without a Compose, on one image after another."""
    albumentations = import_module("albumentations")
    import_module("cv2").setNumThreads(1)

    def make(noise: str, strength: Strength, samples: Any) -> tuple[str, Change] | None:
        if noise not in ALBUMENTATIONS:
            return None
        name, options = ALBUMENTATIONS[noise](strength, samples.shape[1])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an option that it does not know
            transform = getattr(albumentations, name)(**{"p": 1.0, **options})
        return _written(name, options), lambda image: transform(image=image)["image"]

    return make


def imagecorruptions() -> Callable[[str, Strength, Any], tuple[str, Change] | None]:
    """``corrupt`` on one image after another, at severity 3."""
    vars(np)["float_"] = np.float64  # its fog is older than NumPy 2
    imagecorruptions, corruptions = import_module("imagecorruptions"), import_module("imagecorruptions.corruptions")
    import_module("cv2").setNumThreads(1)
    smooth = corruptions.gaussian

    def gaussian(image: Any, *given: Any, multichannel: bool = False, **options: Any) -> Any:
        return smooth(image, *given, channel_axis=-1 if multichannel else None, **options)

    vars(corruptions)["gaussian"] = gaussian  # scikit-image renamed an option since

    def make(noise: str, strength: Strength, samples: Any) -> tuple[str, Change] | None:
        name = IMAGECORRUPTIONS.get(noise)
        if name is None or samples.shape[1] < 32:
            return None
        written = _written("corrupt", {"corruption_name": name, "severity": 3})
        return written, lambda image: imagecorruptions.corrupt(image, severity=3, corruption_name=name)

    return make


def nlpaug() -> Callable[[str, Strength, Any], tuple[str, Change] | None]:
    """An augmenter on one text after another; all words count, and no number of changes is the most."""
    parts = {part: import_module(f"nlpaug.augmenter.{part}") for part in ("char", "word")}

    def make(noise: str, strength: Strength, samples: Any) -> tuple[str, Change] | None:
        if noise not in NLPAUG or "rate" not in strength:
            return None
        part, name, options = NLPAUG[noise](strength["rate"])
        augmenter = getattr(parts[part], name)(**options)

        def change(text: str) -> str:
            found = augmenter.augment(text)
            return found[0] if isinstance(found, list) else found

        return _written(name, options), change

    return make


def textaugment() -> Callable[[str, Strength, Any], tuple[str, Change] | None]:
    """EDA's deletion and swap, on one text after another."""
    # EDA asks the network for lists of words that these two do not need.
    vars(import_module("nltk"))["download"] = lambda *_, **__: False
    eda = import_module("textaugment").EDA(stop_words=[])

    def make(noise: str, strength: Strength, samples: Any) -> tuple[str, Change] | None:
        rate = strength.get("rate", 0.1)
        if noise == "WordDrop":
            return f"EDA.random_deletion(p={rate:g})", lambda text: eda.random_deletion(text, p=rate)
        if noise == "WordSwap":
            return (
                f"EDA.random_swap(n={rate:g} x words)",
                lambda text: eda.random_swap(text, n=max(1, round(rate * text.count(" ")))),
            )
        return None

    return make


def _written(name: str, options: Strength) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.4g}"
        return f"({', '.join(map(shown, value))})" if isinstance(value, tuple) else repr(value)

    return f"{name}({', '.join(f'{key}={shown(value)}' for key, value in options.items())})"


def _read(path: str) -> Any:
    return np.load(path) if path.endswith(".npy") else json.loads(Path(path).read_text("utf-8"))


def _time(change: Change, samples: Any) -> dict[str, Any]:
    """As many samples as fit the time, over and over; the CPU's clock is read after each batch."""
    count, batch, begun = 0, 1, time.process_time()
    while True:
        for place in range(count, count + batch):
            change(samples[place % len(samples)])
        count += batch
        seconds = time.process_time() - begun
        if seconds >= SECONDS:
            return {"count": count, "seconds": seconds, "bytes": _bytes(samples, count)}
        batch = max(1, int(count * min(1.0, SECONDS / max(seconds, 1e-6) - 1)))


def _bytes(samples: Any, count: int) -> int | None:
    if not isinstance(samples, list):
        return None
    sizes = [len(text.encode()) for text in samples]
    return count // len(sizes) * sum(sizes) + sum(sizes[: count % len(sizes)])


def serve(library: str, answer: Callable[[dict[str, Any]], None]) -> None:
    """Answer requests until there are no more."""
    try:
        make = {f.__name__: f for f in (albumentations, imagecorruptions, nlpaug, textaugment)}[library]()
        version = metadata.version(library)
    except Exception as error:
        answer({"skip": f"{library} is not installed or does not run: {type(error).__name__}: {error}"})
        return
    answer({"version": version})
    change: Change | None = None
    for request in _requests():
        if request["do"] == "memory":
            answer({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
            continue
        samples = _read(request["samples"])
        if request["do"] == "time":
            assert change is not None
            answer(_time(change, samples))
            continue
        try:
            made = make(request["noise"], request["strength"], samples)
            if made is None:
                answer({"skip": ""})
                continue
            setting, change = made
            results = [change(sample) for sample in samples[:CHECKED]]
            if isinstance(samples, list):
                target = request["samples"] + f".{library}.json"
                Path(target).write_text(json.dumps(results), encoding="utf-8")
            else:
                target = request["samples"] + f".{library}.npy"
                np.save(target, np.stack([np.asarray(result) for result in results]))
            answer({"setting": setting, "results": target})
        except Exception as error:
            answer({"skip": f"does not run: {type(error).__name__}: {error}"})


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    """Speak on the standard output as it was; what libraries print goes to the standard error."""
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.argv[1], lambda reply: print(json.dumps(reply), file=out, flush=True))


if __name__ == "__main__":
    main()
