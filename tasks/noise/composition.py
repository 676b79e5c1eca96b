"""Noises made of noises: one after the other, sometimes, one of several."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from storage.keyed import key_of, uniforms
from tasks.noise.protocol import Noise, check_images, check_texts, printed


def _checked(kind: str, members: Any) -> tuple[Noise, ...]:
    if isinstance(members, (str, bytes, dict)) or not isinstance(members, Iterable):
        raise TypeError(f"expected {kind}([...]) with a list of noises, received {type(members).__name__}")
    noises = tuple(members)
    if not noises:
        raise ValueError(f"expected {kind} of at least one noise, received none")
    for noise in noises:
        if isinstance(noise, type) or not callable(noise) or not hasattr(noise, "kind"):
            raise TypeError(f"expected {kind} of noises such as Gaussian(severity=3), received {noise!r}")
    if len(kinds := {noise.kind for noise in noises}) > 1:
        raise ValueError(f"expected {kind} of noises of one kind, received noises for {' and '.join(sorted(kinds))}")
    return noises


def _chance(kind: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"expected {kind} with a chance p from 0 to 1, received {value!r}")
    return float(value)


class _Composite:
    """What compositions share. Members draw from seeds of their own, so that equal members are independent."""

    version: ClassVar[int]

    @property
    def members(self) -> tuple[Noise, ...]:
        """The noises that it is made of."""
        raise NotImplementedError

    @property
    def kind(self) -> str:
        """``images`` or ``texts``."""
        return self.members[0].kind

    @property
    def random(self) -> bool:
        """Whether samples differ in what is done to them."""
        return True

    def __call__(self, samples: Any, ids: np.ndarray, seed: int = 0, epoch: int = 0) -> Any:
        """Make noisy copies.

        Parameters
        ----------
        samples : ndarray of uint8, shape (n, height, width, channel); or sequence of str
        ids : ndarray of int, shape (n,)
        seed, epoch : int

        Returns
        -------
        ndarray of uint8, shape (n, height, width, channel); or list of str
        """
        ids = (check_images if self.kind == "images" else check_texts)(samples, ids)
        copies = samples.copy() if isinstance(samples, np.ndarray) else list(samples)
        return self._noisy(copies, ids, key_of(seed, type(self).__name__.lower()), epoch)

    def _noisy(self, samples: Any, ids: np.ndarray, seed: int, epoch: int) -> Any:
        raise NotImplementedError

    def _apply(self, number: int, samples: Any, ids: np.ndarray, seed: int, epoch: int, chosen: np.ndarray) -> None:
        """Put what a member makes of the chosen samples in their place."""
        if not len(chosen):
            return
        noise, own = self.members[number], key_of(seed, "member", number)
        if isinstance(samples, np.ndarray):
            samples[chosen] = noise(samples[chosen], ids[chosen], seed=own, epoch=epoch)
        else:
            rows = chosen.tolist()
            noisy = noise([samples[row] for row in rows], ids[chosen], seed=own, epoch=epoch)
            for row, text in zip(rows, noisy, strict=True):
                samples[row] = text


@dataclass(frozen=True)
class Sequence(_Composite):
    """One noise after the other.

    Parameters
    ----------
    noises : sequence of Noise
        All for images or all for texts.
    """

    version: ClassVar[int] = 1
    noises: tuple[Noise, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "noises", _checked("Sequence", self.noises))

    def __repr__(self) -> str:
        return f"Sequence([{', '.join(map(printed, self.noises))}])"

    @property
    def members(self) -> tuple[Noise, ...]:
        """The noises that it is made of."""
        return self.noises

    @property
    def growth(self) -> float:
        """How many times longer texts may get: as long as all noises together can make them."""
        product = 1.0
        for noise in self.noises:
            product *= float(getattr(noise, "growth", 1.0))
        return product

    @property
    def random(self) -> bool:
        """Whether samples differ in what is done to them."""
        return any(getattr(noise, "random", True) for noise in self.noises)

    def _noisy(self, samples: Any, ids: np.ndarray, seed: int, epoch: int) -> Any:
        for number, noise in enumerate(self.noises):
            samples = noise(samples, ids, seed=key_of(seed, "member", number), epoch=epoch)
        return samples


@dataclass(frozen=True)
class Sometimes(_Composite):
    """A noise on some of the samples; the others stay as they are.

    Parameters
    ----------
    p : float
        Chance that a sample is changed, from 0 to 1.
    noise : Noise
    """

    version: ClassVar[int] = 1
    p: float
    noise: Noise

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", _chance("Sometimes", self.p))
        _checked("Sometimes", (self.noise,))

    def __repr__(self) -> str:
        return f"Sometimes({self.p!r}, {printed(self.noise)})"

    @property
    def members(self) -> tuple[Noise, ...]:
        """The noise that it may apply."""
        return (self.noise,)

    @property
    def growth(self) -> float:
        """How many times longer texts may get."""
        return max(1.0, float(getattr(self.noise, "growth", 1.0)))

    def _noisy(self, samples: Any, ids: np.ndarray, seed: int, epoch: int) -> Any:
        drawn = uniforms(key_of(seed, "chance", epoch), ids, 1)[:, 0]
        self._apply(0, samples, ids, seed, epoch, np.flatnonzero(drawn < self.p))
        return samples


@dataclass(frozen=True)
class OneOf(_Composite):
    """One of several noises for each sample, by a draw of its own.

    Parameters
    ----------
    noises : sequence of Noise
        All for images or all for texts.
    weights : sequence of float, optional
        How often each is taken, relative to the others; equally often by default.
    """

    version: ClassVar[int] = 1
    noises: tuple[Noise, ...]
    _: KW_ONLY
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "noises", _checked("OneOf", self.noises))
        if self.weights is not None:
            object.__setattr__(self, "weights", _weights(self.weights, len(self.noises)))

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={list(self.weights)!r}"
        return f"OneOf([{', '.join(map(printed, self.noises))}]{weights})"

    @property
    def members(self) -> tuple[Noise, ...]:
        """The noises that it chooses from."""
        return self.noises

    @property
    def growth(self) -> float:
        """How many times longer texts may get."""
        return max(float(getattr(noise, "growth", 1.0)) for noise in self.noises)

    def _noisy(self, samples: Any, ids: np.ndarray, seed: int, epoch: int) -> Any:
        weights = np.array(self.weights or [1.0] * len(self.noises))
        edges = np.cumsum(weights / weights.sum())[:-1]
        choice = np.searchsorted(edges, uniforms(key_of(seed, "choice", epoch), ids, 1)[:, 0], side="right")
        for number in range(len(self.noises)):
            self._apply(number, samples, ids, seed, epoch, np.flatnonzero(choice == number))
        return samples


def _weights(given: Any, count: int) -> tuple[float, ...]:
    values: SequenceOf[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    numbers = [value for value in values if isinstance(value, Real) and not isinstance(value, bool)]
    if len(numbers) != len(values) or len(values) != count or not all(0 <= float(x) < np.inf for x in numbers):
        raise ValueError(f"expected OneOf with {count} weights of at least 0, one for each noise, received {given!r}")
    if not any(numbers):
        raise ValueError("expected OneOf with at least one weight above 0, received only zeros")
    return tuple(float(value) for value in numbers)
