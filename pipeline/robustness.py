"""`Robustness`: what a user writes to have every classifier scored under many noises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.pipeline import Pipeline

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Robustness:
    """Score every classifier on the test split under kinds of noise, at several severities.

    The noise is added when rows are read; nothing is stored, and nothing is trained again.

    Parameters
    ----------
    noise : sequence of noise classes
        Such as ``noise.Gaussian``: each is called with ``severity=``. A ``functools.partial`` or a function that
        takes a severity and returns a noise will do as well.
    severities : sequence of int
        From 1 to 5.
    baseline : str, optional
        Name (as in the report) of the method or network that errors are relative to. None: the first classifier.
    store : bool
        True also keeps every noisy copy as a dataset, as `Pipeline(noise=...)` does, and reads those. The numbers are
        the same.
    denoise : bool
        Whether noisy images are also scored after the pipeline's first network for reconstruction, if it has one.
    rows : int, optional
        Score at most so many rows of the test split: the first ones, which are a fair draw.

    Raises
    ------
    ValueError, TypeError
        If a part is not usable.
    """

    noise: Sequence[Callable[..., Any]]
    severities: Sequence[int] = SEVERITIES
    baseline: str | None = None
    _: KW_ONLY
    store: bool = False
    denoise: bool = True
    rows: int | None = None
    made: dict[str, dict[int, Any]] = field(init=False, repr=False, compare=False)
    """The noises, by name and severity."""

    def __post_init__(self) -> None:
        for part, example in (("noise", "[noise.Gaussian]"), ("severities", "[1, 3, 5]")):
            value = getattr(self, part)
            if isinstance(value, (str, dict, type)) or not isinstance(value, Iterable):
                raise TypeError(f"expected {part} of Robustness as a list, received {value!r}; write {part}={example}")
            object.__setattr__(self, part, tuple(value))
        if not self.noise:
            raise ValueError("expected at least one noise for Robustness, received none; write noise=[noise.Gaussian]")
        _check_severities(self.severities)
        object.__setattr__(self, "severities", tuple(sorted(map(int, self.severities))))
        if self.baseline is not None and not isinstance(self.baseline, str):
            raise TypeError(
                f"expected baseline as the name of a method or network in the report, received {self.baseline!r}; "
                "write baseline=str(method)"
            )
        for part in ("store", "denoise"):
            if not isinstance(getattr(self, part), bool):
                raise TypeError(f"expected {part} of Robustness as True or False, received {getattr(self, part)!r}")
        if self.rows is not None and (isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 1):
            raise ValueError(f"expected rows of Robustness as a whole number of at least 1, received {self.rows!r}")
        made = [_make(kind, self.severities) for kind in self.noise]
        if repeated := [name for name, count in Counter(name for name, _ in made).items() if count > 1]:
            raise ValueError(f"expected noises with names of their own for Robustness, received {repeated[0]} twice")
        object.__setattr__(self, "made", dict(made))


def _check_severities(severities: Sequence[Any]) -> None:
    wrong = [s for s in severities if isinstance(s, bool) or not isinstance(s, int) or s not in SEVERITIES]
    if wrong or not severities:
        raise ValueError(
            f"expected severities of Robustness from 1 to 5, received {wrong[0] if wrong else 'none'}; "
            "write severities=[1, 2, 3, 4, 5]"
        )
    if len(set(severities)) < len(severities):
        raise ValueError(f"expected different severities for Robustness, received {list(severities)}")


def _make(kind: Any, severities: Sequence[int]) -> tuple[str, dict[int, Any]]:
    """Name of a kind of noise, and the noise at each severity."""
    if not callable(kind) or (hasattr(kind, "kind") and not isinstance(kind, type)):
        raise TypeError(f"expected a noise class such as noise.Gaussian for Robustness, received {kind!r}")
    try:
        made = {severity: kind(severity=severity) for severity in severities}
    except TypeError as error:
        raise TypeError(f"expected a noise class that takes severity=1..5, received {kind!r}: {error}") from error
    for noise in made.values():
        if not callable(noise) or not hasattr(noise, "kind") or isinstance(noise, type):
            raise TypeError(f"expected {kind!r} to make a noise, received {noise!r}; see tasks.noise")
    name = "" if isinstance(kind, partial) else str(getattr(kind, "__name__", ""))
    return name if name.isidentifier() else type(made[severities[0]]).__name__, made


def asked_of(pipeline: Pipeline) -> Robustness:
    """What a pipeline asks for, where it is known that it does."""
    if pipeline.robustness is None:
        raise ValueError("expected a pipeline with robustness=Robustness(...), received one without")
    return pipeline.robustness


def scored_steps(pipeline: Pipeline) -> dict[str, tuple[Any, str]]:
    """The classifiers of a pipeline by label: the step, and ``method`` or ``network``."""
    from sklearn.base import is_classifier

    found = {}
    for label, step in pipeline.labels.items():
        if hasattr(step, "build"):
            if step.task == "classification":
                found[label] = step, "network"
        elif is_classifier(step):
            found[label] = step, "method"
    return found


def denoiser_of(pipeline: Pipeline) -> str | None:
    """Label of the network that removes noise from images before they are scored, if there is one and it is asked."""
    if pipeline.robustness is None or not pipeline.robustness.denoise or pipeline.source.kind != "images":
        return None
    steps = pipeline.labels.items()
    return next((label for label, step in steps if getattr(step, "task", None) == "reconstruction"), None)


def stored_noises(pipeline: Pipeline) -> tuple[Any, ...]:
    """Every noise that a stored copy is made of: the pipeline's own, and those that `Robustness` stores."""
    from tasks.noise.protocol import slug_of

    noises = {slug_of(noise): noise for noise in pipeline.noise}
    if pipeline.robustness is not None and pipeline.robustness.store:
        for made in pipeline.robustness.made.values():
            noises |= {slug_of(noise): noise for noise in made.values() if slug_of(noise) not in noises}
    return tuple(noises.values())


def check_robustness(pipeline: Pipeline) -> None:
    """Refuse what does not fit the rest of the pipeline."""
    asked, kind = pipeline.robustness, pipeline.source.kind
    if not isinstance(asked, Robustness):
        raise TypeError(f"expected robustness=Robustness(noise=[noise.Gaussian]), received {asked!r}")
    for name, made in asked.made.items():
        for noise in made.values():
            if noise.kind != kind:
                raise ValueError(
                    f"expected noises for {kind} (the source's kind) in Robustness, received {name} for {noise.kind}"
                )
        if name == "clean":
            raise ValueError("expected noises with names other than 'clean' for Robustness")
    known = list(scored_steps(pipeline))
    if not known:
        raise ValueError("expected at least one classifier to score with Robustness, received none; add methods=[...]")
    if asked.baseline is not None and asked.baseline not in known:
        raise ValueError(f"expected a baseline of {', '.join(known)}, received {asked.baseline!r}")
