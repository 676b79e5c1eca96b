"""Noise: pure functions of (samples, their ids, seed, epoch), the same in any chunk, order, worker or retry."""

from __future__ import annotations

from tasks.noise.images import Gaussian, SaltAndPepper
from tasks.noise.protocol import Noise, slug_of
from tasks.noise.texts import CharacterSwap, WordDrop

__all__ = ["CharacterSwap", "Gaussian", "Noise", "SaltAndPepper", "WordDrop", "slug_of"]
