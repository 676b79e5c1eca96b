"""The noises of the catalogue, each applied to the samples at every severity."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.gallery.marking import Piece, differences
from tasks import noise
from tasks.noise.graded import SEVERITIES, Graded, ImageNoise

WRITTEN_AT = 3


@dataclass(frozen=True)
class Entry:
    """What is said about a noise, whatever it is shown on."""

    name: str
    kind: str
    """``images`` or ``texts``."""
    colour: bool
    """Whether it is for colour images only."""
    summary: str
    """First line of the docstring."""
    written: tuple[str, ...]
    """By severity, and by parameters where those say the same."""
    parameters: tuple[str, ...]
    strengths: tuple[tuple[str, ...], ...]
    """For each severity the values of `parameters`."""
    options: tuple[str, ...]
    """Each with the values that it may have."""
    made: tuple[Any, ...]
    """The noise at each severity."""


def catalogue(only: Sequence[str] | None = None) -> list[Entry]:
    """Describe the noises with severities, images before texts, each by name.

    Parameters
    ----------
    only : sequence of str, optional
        Names of those wanted.

    Raises
    ------
    ValueError
        When one of `only` is not in the catalogue, with the nearest name.
    """
    found = {name: value for name in noise.__all__ if _is_graded(value := getattr(noise, name))}
    small = {name.lower(): name for name in found}
    for name in only or ():
        if name not in found:
            near = difflib.get_close_matches(name.lower(), small, n=1)
            hint = f"; did you mean {small[near[0]]}?" if near else f" of {', '.join(sorted(found))}"
            raise ValueError(f"expected a noise with severities, received {name!r}{hint}")
    chosen = [_entry(name, found[name]) for name in sorted(found) if not only or name in only]
    return sorted(chosen, key=lambda entry: entry.kind)


def _is_graded(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Graded) and hasattr(value, "severities")


def _entry(name: str, noisy: type[Graded]) -> Entry:
    made = tuple(noisy(severity=severity) for severity in SEVERITIES)
    names = tuple(parameter.name for parameter in noisy.parameters)
    shown = made[WRITTEN_AT - 1]
    explicit = noisy(**dict(zip(names, shown.strength, strict=True)))
    return Entry(
        name=name,
        kind=noisy.kind,
        colour=issubclass(noisy, ImageNoise) and (noisy.colour or (noisy.channels != () and 1 not in noisy.channels)),
        summary=(inspect.getdoc(noisy) or "").split("\n")[0].replace("`", ""),
        written=tuple(f"noise.{written}" for written in (shown, explicit)),
        parameters=names,
        strengths=tuple(tuple(map(_number, one.strength)) for one in made),
        options=tuple(f"{option}={' | '.join(map(repr, values))}" for option, values in noisy.options.items()),
        made=made,
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def noisy_images(entry: Entry, image: np.ndarray, place: int, seed: int) -> list[np.ndarray]:
    """The image at each severity; `place` is its id."""
    return [made(image[None], np.array([place]), seed=seed)[0] for made in entry.made]


def marked_texts(entry: Entry, text: str, place: int, seed: int) -> Iterator[list[Piece]]:
    """The text at each severity with what changed; `place` is its id."""
    for made in entry.made:
        (noisy,) = made([text], np.array([place]), seed=seed)
        yield differences(text, noisy)
