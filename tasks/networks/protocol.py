"""What every network has, and the settings and checks that ours share."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import keras

KINDS = ("images", "texts")
TASKS = ("classification", "reconstruction")
SCHEDULES = ("cosine", "constant")
_SLUG_LENGTH = 80


@runtime_checkable
class Network(Protocol):
    """Anything that builds a compiled Keras model and says how to fit it.

    It must be picklable and print as it was written. It may also carry `patience` (None: no early stopping),
    `learning_rate` and `schedule` ("cosine": from `learning_rate` to zero over all steps), `augment` (a noise that is
    applied while training), `slug`, and, for texts, `vocabulary` and `length`: the number of token codes and of tokens
    per text that its model takes.
    """

    @property
    def kind(self) -> str:
        """``images`` or ``texts``."""
        ...

    @property
    def task(self) -> str:
        """``classification`` or ``reconstruction``."""
        ...

    @property
    def epochs(self) -> int:
        """Passes over the training split, at most."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples per step."""
        ...

    def build(self, input_shape: tuple[int, ...], classes: int, *, seed: int = 0) -> keras.Model:
        """Return a new compiled model whose weights depend on `seed` only."""
        ...


@dataclass(frozen=True, repr=False)
class FitSettings:
    """How a network is fitted; what the networks of this package have in common.

    Parameters
    ----------
    epochs : int
        Passes over the training split, at most.
    batch_size : int
        Samples per step.
    learning_rate : float
        Of Adam, at the first step.
    schedule : {"cosine", "constant"}
        ``cosine`` lowers the learning rate to zero over all steps (Loshchilov and Hutter 2017, without restarts).
    patience : int or None
        Stop after so many epochs without a lower validation loss, and return to the best epoch's weights. None: train
        all epochs and keep the last weights; then no validation split is needed.
    augment : Noise, optional
        Changes the training samples, in every epoch anew: a noise of `tasks.noise`, or a composition. A reconstruction
        learns to undo it, and then needs no stored noisy copy.
    """

    _: KW_ONLY
    epochs: int = 1
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    patience: int | None = 2
    augment: Any = None

    def __post_init__(self) -> None:
        check_count(self, "epochs")
        check_count(self, "batch_size")
        check_number(self, "learning_rate", above=0.0, most=math.inf)
        check_choice(self, "schedule", SCHEDULES)
        if self.patience is not None:
            check_count(self, "patience", least=0)
        check_augment(self, self.augment)

    def __repr__(self) -> str:
        """Print as written: the parameters that are not the defaults."""
        given = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    @property
    def slug(self) -> str:
        """Short lower-case name for folders, such as ``lenet5-epochs-3``."""
        return slug_of(self)


def slug_of(network: object) -> str:
    """Short lower-case name for folders and report columns; the same for equal networks."""
    if not isinstance(network, FitSettings) and (slug := getattr(network, "slug", None)):
        return str(slug)
    words = re.sub(r"[^A-Za-z0-9.]+", "-", str(network)).strip("-").lower()
    if len(words) <= _SLUG_LENGTH:
        return words
    # Two long names may differ only behind the cut.
    return f"{words[: _SLUG_LENGTH - 9].rstrip('-')}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"


def check_network(network: Any) -> None:
    """Refuse what cannot be trained, before anything is started.

    Raises
    ------
    TypeError
        If a part of `Network` is missing.
    ValueError
        If its kind or task is unknown.
    """
    if isinstance(network, type) or not isinstance(network, Network):
        missing = [name for name in ("kind", "task", "epochs", "batch_size", "build") if not hasattr(network, name)]
        what = (
            "a class; call it" if isinstance(network, type) else f"{network!r} without {', '.join(missing)}; add them"
        )
        raise TypeError(f"expected a network such as networks.lenet5(), received {what}")
    for name, known in (("kind", KINDS), ("task", TASKS)):
        if getattr(network, name) not in known:
            raise ValueError(f"expected {network} with a {name} of {known}, received {getattr(network, name)!r}")
    if network.kind == "texts":
        if network.task != "classification":
            raise ValueError(f"expected {network} for texts to be a classification, received {network.task!r}")
        for name in ("vocabulary", "length"):
            if not isinstance(getattr(network, name, None), int):
                raise TypeError(f"expected {network} for texts to have an integer {name!r}; add it")


def check_count(owner: object, name: str, *, least: int = 1) -> None:
    """Accept a whole number of at least `least`."""
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected {name} of {_kind(owner)} as a whole number, {least} or more, received {value!r}")


def check_number(
    owner: object, name: str, *, above: float | None = None, least: float = 0.0, most: float = 1.0
) -> None:
    """Accept a finite number in [least, most], or in (above, most]."""
    value = getattr(owner, name)
    right_type = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (
        not right_type
        or not math.isfinite(value)
        or value > most
        or (value <= above if above is not None else value < least)
    ):
        low = f"above {above:g}" if above is not None else f"{least:g} or more"
        high = f" and at most {most:g}" if math.isfinite(most) else ""
        raise ValueError(f"expected {name} of {_kind(owner)} as a number {low}{high}, received {value!r}")


def check_augment(owner: Any, augment: Any) -> None:
    """Accept a noise of the owner's kind, or none."""
    if augment is None:
        return
    if isinstance(augment, type) or not callable(augment) or not hasattr(augment, "kind"):
        raise TypeError(f"expected augment of {_kind(owner)} as a noise such as noise.Shift(2), received {augment!r}")
    if augment.kind != owner.kind:
        raise ValueError(f"expected augment of {_kind(owner)} for {owner.kind}, received {augment} for {augment.kind}")


def check_choice(owner: object, name: str, choices: Sequence[str]) -> None:
    """Accept one of some words."""
    value = getattr(owner, name)
    if value not in choices:
        raise ValueError(f"expected {name} of {_kind(owner)} to be one of {', '.join(choices)}, received {value!r}")


def image_shape(owner: object, shape: Sequence[int], *, least: int = 1) -> tuple[int, int, int]:
    """Accept (height, width, channels) of at least `least` pixels a side."""
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 3 or min(sizes) < 1 or min(sizes[:2]) < least:
        raise ValueError(
            f"expected an input_shape of (height, width, channels) with sides of at least {least} for {owner}, "
            f"received {tuple(shape)}"
        )
    return sizes[0], sizes[1], sizes[2]


def class_count(owner: object, classes: int | Sequence[str]) -> int:
    """Accept a number of classes, or their names; at least two."""
    count = classes if isinstance(classes, int) else len(classes)
    if count < 2:
        raise ValueError(f"expected at least two classes for {owner}, received {count}")
    return count


def _kind(owner: object) -> str:
    return type(owner).__name__
