"""Noise: pure functions of (samples, their ids, seed, epoch), the same in any chunk, order, worker or retry."""

from __future__ import annotations

import difflib
from typing import NoReturn

from tasks.noise.blur import DefocusBlur, GaussianBlur, MotionBlur
from tasks.noise.characters import CaseFlip, CharacterDrop, CharacterInsert, CharacterRepeat, CharacterSwap
from tasks.noise.composition import OneOf, Sequence, Sometimes
from tasks.noise.confusions import KeyboardTypo, OcrConfusion
from tasks.noise.crop import RandomCrop
from tasks.noise.digital import JpegCompression, Pixelate
from tasks.noise.elastic import ElasticTransform
from tasks.noise.geometry import HorizontalFlip, Rotate, Shear, Shift, Zoom
from tasks.noise.pixels import Gaussian, RandomErasing, SaltAndPepper, Shot, Speckle
from tasks.noise.protocol import Noise, slug_of
from tasks.noise.spacing import PunctuationNoise, WhitespaceNoise
from tasks.noise.tone import Brightness, Contrast, Gamma, Saturate
from tasks.noise.words import WordDrop, WordMask, WordRepeat, WordSwap

__all__ = [
    "Brightness",
    "CaseFlip",
    "CharacterDrop",
    "CharacterInsert",
    "CharacterRepeat",
    "CharacterSwap",
    "Contrast",
    "DefocusBlur",
    "ElasticTransform",
    "Gamma",
    "Gaussian",
    "GaussianBlur",
    "HorizontalFlip",
    "JpegCompression",
    "KeyboardTypo",
    "MotionBlur",
    "Noise",
    "OcrConfusion",
    "OneOf",
    "Pixelate",
    "PunctuationNoise",
    "RandomCrop",
    "RandomErasing",
    "Rotate",
    "SaltAndPepper",
    "Saturate",
    "Sequence",
    "Shear",
    "Shift",
    "Shot",
    "Sometimes",
    "Speckle",
    "WhitespaceNoise",
    "WordDrop",
    "WordMask",
    "WordRepeat",
    "WordSwap",
    "Zoom",
    "slug_of",
]


def __getattr__(name: str) -> NoReturn:
    known = sorted(set(__all__) - {"Noise", "slug_of"})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise AttributeError(f"expected a noise of {', '.join(known)}, received {name!r}{hint}")
