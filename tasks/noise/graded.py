"""What the noises of the catalogue share: a severity or explicit parameters, and random words found by address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np

from storage.keyed import key_of
from tasks.noise.protocol import check_images, check_texts

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Parameter:
    """A number that sets how strong a noise is, and the range it may have."""

    name: str
    low: float = 0.0
    """Not allowed itself, unless `closed`."""
    high: float = 1.0
    closed: bool = False
    whole: bool = False

    def accept(self, kind: str, value: Any) -> float:
        """Give the value as a plain number, so that ``numpy.float64(0.3)`` prints and names its dataset like 0.3."""
        wanted = Integral if self.whole else Real
        fits = isinstance(value, wanted) and not isinstance(value, bool)
        if not fits or not self.low <= float(value) <= self.high or (float(value) == self.low and not self.closed):
            what = f"a whole {self.name}" if self.whole else self.name
            span = f"from {self.low:g} to" if self.closed else f"above {self.low:g} and at most"
            raise ValueError(f"expected {kind} with {what} {span} {self.high:g}, received {value!r}")
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, repr=False)
class Graded:
    """A noise whose strength is a severity from 1 to 5 or explicit parameters.

    A subclass is a frozen dataclass with a field for each of `parameters` (None by default), and others for options.
    """

    severity: int | None = None

    kind: ClassVar[str]
    version: ClassVar[int]
    """Raised when the bytes of the noise change."""
    parameters: ClassVar[tuple[Parameter, ...]]
    severities: ClassVar[tuple[Any, ...]]
    """For each severity the value of the parameter, or a tuple of all."""
    options: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Values that an option may have."""
    random: ClassVar[bool] = True
    """False: every sample is changed in the same way, whatever seed, epoch and id are."""

    def __post_init__(self) -> None:
        kind, names = type(self).__name__, [parameter.name for parameter in self.parameters]
        given = [name for name in names if getattr(self, name) is not None]
        if (self.severity is None) != (given == names) or (self.severity is not None and given):
            wanted = ", ".join(f"{name}=..." for name in names)
            found = "both" if self.severity is not None else f"only {', '.join(given)}" if given else "neither"
            raise ValueError(f"expected {kind}(severity=1..5) or {kind}({wanted}), received {found}")
        if self.severity is not None:
            severity = self.severity
            if isinstance(severity, bool) or not isinstance(severity, Integral) or severity not in SEVERITIES:
                raise ValueError(f"expected a severity of 1, 2, 3, 4 or 5 for {kind}, received {severity!r}")
            object.__setattr__(self, "severity", int(severity))
        else:
            for parameter in self.parameters:
                object.__setattr__(self, parameter.name, parameter.accept(kind, getattr(self, parameter.name)))
        for name, allowed in self.options.items():
            if getattr(self, name) not in allowed or type(getattr(self, name)) not in map(type, allowed):
                raise ValueError(
                    f"expected {kind} with {name} of {', '.join(map(repr, allowed))}, received {getattr(self, name)!r}"
                )

    @property
    def strength(self) -> tuple[Any, ...]:
        """The values of `parameters`, given or looked up by severity."""
        if self.severity is None:
            return tuple(getattr(self, parameter.name) for parameter in self.parameters)
        values = self.severities[self.severity - 1]
        return values if isinstance(values, tuple) else (values,)

    def __repr__(self) -> str:
        shown = [f"severity={self.severity}"] if self.severity is not None else []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "severity" and value != item.default:
                shown.append(f"{item.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _key(self, seed: int, epoch: int) -> int:
        """Key of the random words: seed, name of the noise in small words, and epoch."""
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self).__name__).lower()
        return key_of(seed, name, epoch)


class ImageNoise(Graded):
    """A `Graded` noise for images; a subclass defines `_noisy`."""

    kind: ClassVar[str] = "images"
    colour: ClassVar[bool] = False
    """Whether it is for colour images only."""
    channels: ClassVar[tuple[int, ...]] = ()
    """Numbers of channels that it can do; empty: any."""

    def __call__(self, samples: np.ndarray, ids: np.ndarray, seed: int = 0, epoch: int = 0) -> np.ndarray:
        """Make noisy copies.

        Parameters
        ----------
        samples : ndarray of uint8, shape (n, height, width, channel)
        ids : ndarray of int, shape (n,)
        seed, epoch : int

        Returns
        -------
        ndarray of uint8, shape (n, height, width, channel)
            A new array; images without pixels come back as they are.
        """
        ids, key = check_images(samples, ids), self._key(seed, epoch)
        if not samples.size:
            return samples.copy()
        if self.colour and samples.shape[3] != 3:
            raise ValueError(
                f"expected colour images (3 channels) for {self}, received {samples.shape[3]} channels; leave it out "
                "for grey images"
            )
        if self.channels and samples.shape[3] not in self.channels:
            raise ValueError(
                f"expected images of {' or '.join(map(str, self.channels))} channels for {self}, received "
                f"{samples.shape[3]} channels; drop the others first"
            )
        return self._noisy(np.ascontiguousarray(samples), ids, key)

    def _noisy(self, samples: np.ndarray, ids: np.ndarray, key: int) -> np.ndarray:
        """Return a new array; `samples` are contiguous and hold at least one pixel."""
        raise NotImplementedError


class TextNoise(Graded):
    """A `Graded` noise for texts; a subclass defines `_noisy`."""

    kind: ClassVar[str] = "texts"

    @property
    def growth(self) -> float:
        """How many times longer, in bytes of UTF-8, texts may get."""
        return 1.0

    def __call__(self, samples: Sequence[str], ids: np.ndarray, seed: int = 0, epoch: int = 0) -> list[str]:
        """Make noisy copies.

        Parameters
        ----------
        samples : sequence of str, length n
        ids : ndarray of int, shape (n,)
        seed, epoch : int

        Returns
        -------
        list of str, length n
            Empty texts stay empty.
        """
        ids, key = check_texts(samples, ids), self._key(seed, epoch)
        return self._noisy(samples, ids, key)

    def _noisy(self, samples: Sequence[str], ids: np.ndarray, key: int) -> list[str]:
        raise NotImplementedError
