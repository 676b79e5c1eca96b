"""`Pipeline`: what a user writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.robustness import Robustness, check_robustness
from tasks.noise.protocol import slug_of
from tasks.split import Split

if TYPE_CHECKING:
    from distributed import Client

    from pipeline.outlook import Outlook
    from pipeline.run import Run
    from tasks.repairing import Repair


@dataclass(frozen=True)
class Pipeline:
    """A source, noises, methods and networks; runs anywhere, resumes, and reports.

    Parameters
    ----------
    name : str
        Name of the output folder below the root: letters, digits, ``-``, ``_`` and ``.``.
    source : Source
        Where the raw samples come from; see `tasks.sources`.
    noise : sequence of Noise
        Each makes a noisy copy of the clean dataset; see `tasks.noise`.
    methods : sequence of estimators
        Fitted on the clean training split and scored on the test split of every dataset; see `tasks.methods`. Any
        scikit-learn classifier, clusterer or transformer works.
    networks : sequence of networks
        Trained on a worker that declares a GPU; see `tasks.networks`.
    split : Split
        What is held out for validation and test.
    seed : int
        Decides the split, the order of storage, the noise, initial weights and every unset ``random_state``.
    grow : {None, "content", "files"}
        What a run does when the source has changed. None: ingests all of it anew. Otherwise it ingests only samples
        that were not there before and appends them, in shards of their own; what was there keeps its id and split.
        New samples are told by the hash of their content, or by name, size and time of their files.
    robustness : Robustness, optional
        Kinds of noise under which every classifier is scored beside; see `pipeline.Robustness`.

    Raises
    ------
    ValueError, TypeError
        If a part does not fit the others.
    """

    name: str
    source: Any
    noise: tuple[Any, ...] = ()
    methods: tuple[Any, ...] = ()
    networks: tuple[Any, ...] = ()
    _: KW_ONLY
    split: Split = field(default_factory=Split)
    seed: int = 0
    grow: str | None = None
    robustness: Robustness | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ValueError(
                f"expected a pipeline name of letters, digits, '-', '_' and '.', at most 64, received {self.name!r}"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"expected a whole seed of at least 0, received {self.seed!r}")
        for part in ("noise", "methods", "networks"):
            value = getattr(self, part)
            if isinstance(value, (str, dict)) or not isinstance(value, Iterable):
                raise TypeError(f"expected {part} as a list, received {type(value).__name__}; write {part}=[...]")
            object.__setattr__(self, part, tuple(value))
        if not isinstance(self.split, Split):
            raise TypeError(f"expected split=Split(validation=0.05, test=0.15), received {self.split!r}")
        _check_source(self.source)
        if self.grow not in (None, "content", "files"):
            raise ValueError(f'expected grow="content", grow="files" or None, received {self.grow!r}')
        if self.grow == "files" and not hasattr(self.source, "stamps"):
            raise ValueError(
                f'expected a source with a file for each sample for grow="files", received {self.source!r}; use '
                'grow="content"'
            )
        for noise in self.noise:
            _check_noise(noise, self.source.kind)
        for method in self.methods:
            _check_method(method)
        for network in self.networks:
            _check_network(network, self.source, self.noise)
        repeated = [slug for slug, count in Counter(map(slug_of, self.noise)).items() if count > 1]
        if repeated or "clean" in map(slug_of, self.noise):
            raise ValueError(
                f"expected noises with names of their own other than 'clean', received {repeated or 'clean'}"
            )
        if self.robustness is not None:
            check_robustness(self)

    @property
    def labels(self) -> dict[str, Any]:
        """Methods and networks by the names they have in the report; a repeated one gets a number."""
        named: dict[str, Any] = {}
        for step in (*self.methods, *self.networks):
            written = _written(step)
            label, number = written, 2
            while label in named:
                label, number = f"{written} #{number}", number + 1
            named[label] = step
        return named

    def plan(self, root: str | Path = "runs") -> Outlook:
        """Say which steps are done, partly done and missing, without computing anything.

        Parameters
        ----------
        root : path
            The folder that `run` was or will be given.
        """
        from pipeline.outlook import look_ahead

        return look_ahead(self, Path(root))

    def repair(self, root: str | Path = "runs", client: Client | None = None) -> list[Repair]:
        """Rewrite the damaged files of the datasets from the source and the noises, and prove it by the versions.

        Parameters
        ----------
        root, client
            See `run`.

        Returns
        -------
        list of Repair
            One for each dataset: what was rewritten.

        Raises
        ------
        StorageError
            If the source or a noise no longer gives what was committed. Nothing sound is overwritten.
        """
        from pipeline.mending import repair_datasets

        return repair_datasets(self, Path(root), client)

    def run(self, root: str | Path = "runs", client: Client | None = None) -> Run:
        """Do what is missing, score everything and write the report.

        Steps whose inputs, parameters and code have not changed are reused; half-built datasets are continued. A
        method or network that fails does not stop the others: see `Run.failures`.

        Parameters
        ----------
        root : path
            Output folder, shared by all pipelines and runs.
        client : distributed.Client, optional
            From `pipeline.connect`; without one a local cluster is started and stopped.

        Returns
        -------
        Run

        Raises
        ------
        InUseError
            If another run of this pipeline is using the folder.
        OSError
            If the output folder cannot be written.
        RuntimeError
            If there are networks and no worker declares a GPU.
        """
        from pipeline.execution import execute

        return execute(self, Path(root), client)


def _written(step: Any) -> str:
    """Print a step as it was written, on one line; a scikit-learn pipeline as its steps."""
    inner = getattr(step, "steps", None)
    if isinstance(inner, list) and inner and all(isinstance(part, tuple) and len(part) == 2 for part in inner):
        return " + ".join(_written(part) for _, part in inner)
    return " ".join(str(step).split())  # scikit-learn breaks long ones into lines


def _check_source(source: Any) -> None:
    missing = [name for name in ("kind", "take", "labels", "fingerprint", "__len__") if not hasattr(source, name)]
    if missing:
        raise TypeError(
            f"expected a source with {', '.join(missing)}, received {type(source).__name__}; see tasks.sources"
        )


def _check_noise(noise: Any, kind: str) -> None:
    if not callable(noise) or not hasattr(noise, "kind") or isinstance(noise, type):
        raise TypeError(f"expected a noise such as noise.Gaussian(severity=3), received {noise!r}; see tasks.noise")
    if noise.kind != kind:
        raise ValueError(f"expected noises for {kind} (the source's kind), received {noise} for {noise.kind}")


def _check_method(method: Any) -> None:
    if isinstance(method, type) or not hasattr(method, "fit") or not hasattr(method, "get_params"):
        raise TypeError(f"expected a method such as methods.PCA(32), received {method!r}; see tasks.methods")


def _check_network(network: Any, source: Any, noise: tuple[Any, ...]) -> None:
    if isinstance(network, type) or not hasattr(network, "build") or not hasattr(network, "kind"):
        raise TypeError(f"expected a network such as networks.lenet5(), received {network!r}; see tasks.networks")
    if network.kind != source.kind:
        raise ValueError(
            f"expected networks for {source.kind} (the source's kind), received {network} for {network.kind}"
        )
    augmented = getattr(network, "augment", None) is not None
    if getattr(network, "task", "") == "reconstruction" and not noise and not augmented:
        raise ValueError(
            f"expected at least one noise for {network} to learn to remove, received none; add noise=[...] to the "
            "pipeline or augment=... to the network"
        )
