"""Noise: pure functions of (samples, their ids, seed, epoch), the same in any chunk, order, worker or retry."""

from __future__ import annotations

import difflib
from typing import NoReturn

from tasks.noise.pixels import Gaussian, SaltAndPepper
from tasks.noise.protocol import Noise, slug_of
from tasks.noise.texts import CharacterSwap, WordDrop

__all__ = ["CharacterSwap", "Gaussian", "Noise", "SaltAndPepper", "WordDrop", "slug_of"]


def __getattr__(name: str) -> NoReturn:
    known = sorted(set(__all__) - {"Noise", "slug_of"})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise AttributeError(f"expected a noise of {', '.join(known)}, received {name!r}{hint}")
