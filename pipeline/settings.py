"""The settings of the ``duskflow`` namespace: their names, their kinds and how each is read.

The values, with a comment each, are in ``dask-config.yaml``; there are no defaults here.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from dask.utils import parse_bytes, parse_timedelta

NAMESPACE = "duskflow"
AUTO = "auto"

Keys = tuple[str, ...]
Tree = TypeVar("Tree")


class Refused(ValueError):
    """What a reader expected; `read` adds the setting's name and where its value stands."""


def _whole(minimum: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise Refused(f"a whole number, {minimum} or more")
        return value

    return read


def _or_auto(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_or_auto(value: Any) -> Any:
        if isinstance(value, str) and value.strip().lower() == AUTO:
            return None
        try:
            return read(value)
        except Refused as refused:
            raise Refused(f'{refused}, or "{AUTO}"') from None

    return read_or_auto


def _bytes(value: Any) -> int:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            if (size := parse_bytes(value)) > 0:
                return int(size)
        except (ValueError, OverflowError):
            pass
    raise Refused('a size such as "32 MiB" or a number of bytes')


def _seconds(value: Any) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            seconds = float(parse_timedelta(value))
            if 0 < seconds < math.inf:
                return seconds
        except (ValueError, KeyError):
            pass
    raise Refused('a time such as "10 s" or a number of seconds')


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Refused("a text")
    return value.strip()


def _text_or_none(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return _text(value)
    except Refused:
        raise Refused("a text or null") from None


def _address_or_none(value: Any) -> str | None:
    if value is None:
        return None
    host, colon, port = value.strip().rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise Refused('"host:port" or null')
    # Dask takes a missing host for all interfaces: open to the network by omission.
    return f"{host or '127.0.0.1'}:{int(port)}"


def _one_of(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in choices:
            raise Refused(f"one of {', '.join(choices)}")
        return value.lower()

    return read


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """What `connect` starts or connects to. None stands for "auto", except where said."""

    kind: Annotated[str, _text]
    """``"local"`` or a scheduler's address."""
    workers: Annotated[int | None, _or_auto(_whole(1))]
    """CPU worker processes."""
    threads_per_worker: Annotated[int | None, _or_auto(_whole(1))]
    """Threads in each."""
    gpu_workers: Annotated[int | None, _or_auto(_whole(0))]
    """Workers that declare the resource GPU."""
    gpu_threads: Annotated[int, _whole(1)]
    """Threads in each of these."""
    memory: Annotated[int | None, _or_auto(_bytes)]
    """Bytes for all workers together."""
    dashboard_address: Annotated[str | None, _address_or_none]
    """``host:port``; None: no dashboard."""
    local_directory: Annotated[str | None, _text_or_none]
    """Where workers spill; None: the system's folder for temporary files."""
    connect_timeout: Annotated[float, _seconds]
    """Seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """How datasets are cut into shards."""

    shard_bytes: Annotated[int, _bytes]
    """Size aimed at."""
    minimum_shard_bytes: Annotated[int, _bytes]
    """Small datasets are not cut finer."""
    minimum_shards: Annotated[int, _whole(1)]
    """Small datasets are cut into as many, where the minimum size allows."""
    datasets: Annotated[str | None, _text_or_none]
    """Where datasets lie; None: in the output folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run goes about its steps."""

    parallel_steps: Annotated[int | None, _or_auto(_whole(1))]
    """Methods fitted at the same time; None is "auto"."""
    retries: Annotated[int, _whole(0)]
    """How often a failed task of ingest or noise is tried again."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgressSettings:
    """What the terminal shows."""

    style: Annotated[str, _one_of("auto", "bars", "lines", "none")]
    """Bars, lines or nothing."""
    interval: Annotated[float, _seconds]
    """Seconds between two lines of one step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSettings:
    """How texts become numbers."""

    features: Annotated[int, _whole(1)]
    """Columns of the hashed tf-idf matrix."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of the ``duskflow`` namespace."""

    cluster: ClusterSettings
    storage: StorageSettings
    run: RunSettings
    progress: ProgressSettings
    texts: TextSettings


def names(tree: type = Settings) -> Iterator[Keys]:
    """All settings, as paths in the spelling of the file: ``("cluster", "gpu-workers")``."""
    for name, kind in get_type_hints(tree, include_extras=True).items():
        key = name.replace("_", "-")
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from ((key, *rest) for rest in names(kind))
        else:
            yield (key,)


def nearest(name: str, known: list[str], cutoff: float = 0.6) -> str:
    """A hint at the most similar of the known names, or nothing."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {found[0]!r}?" if found else ""


def read(tree: type[Tree], values: Mapping[str, Any], place: Callable[[Keys], str], above: Keys = ()) -> Tree:
    """Turn a nested mapping into a settings object.

    Parameters
    ----------
    tree : type
        `Settings` or one of its parts.
    values : mapping
        Nested, keys in the spelling of the file; all must be there.
    place : callable
        Says for the path of a setting where its value stands, for the error.
    above : tuple of str
        Path of `tree` itself.

    Raises
    ------
    ValueError
        If a value is missing or of a wrong kind; names the setting, what was expected and where it stands.
    """
    fields: dict[str, Any] = {}
    for name, kind in get_type_hints(tree, include_extras=True).items():
        keys = (*above, name.replace("_", "-"))
        dotted = ".".join((NAMESPACE, *keys))
        if keys[-1] not in values:
            raise ValueError(f"setting {dotted} has no value; give it one")
        value = values[keys[-1]]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ValueError(f"{dotted}: expected settings below this name, received {value!r} ({place(keys)})")
            fields[name] = read(kind, value, place, keys)
            continue
        try:
            fields[name] = get_args(kind)[1](value)
        except Refused as refused:
            raise ValueError(f"{dotted}: expected {refused}, received {value!r} ({place(keys)})") from None
    return tree(**fields)
