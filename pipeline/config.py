"""Where the settings come from and which of them win.

Everything lives in Dask's own configuration, ours under ``duskflow``. Lowest first: Dask's defaults, our packaged
``dask-config.yaml``, the user's Dask configuration (``~/.config/dask`` and its like), ``dask-config.yaml`` in the
working directory, a file that the caller names, environment variables (``DASK_DUSKFLOW__CLUSTER__WORKERS=3``),
and what the program itself has set with ``dask.config.set``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask.config
import yaml

from pipeline.settings import NAMESPACE, ClusterSettings, Keys, Settings, names, nearest, read

FILE_NAME = "dask-config.yaml"
IN_CODE = "set in the program"

# What the files and variables gave when they were last read: a value in Dask's configuration that is
# neither this nor in any layer was set by the program, and is kept.
_written: dict[Keys, Any] = {}
_named: Path | None = None
_loaded = False


def load(path: str | os.PathLike[str] | None = None) -> Settings:
    """Read all files and variables and put the result into Dask's configuration.

    May be called again after a file or a variable has changed. Processes that Dask starts afterwards inherit it.

    Parameters
    ----------
    path : path, optional
        A YAML file that wins over the other files; by default the one that the last call named, if any did.

    Returns
    -------
    Settings
        What `settings` returns from now on.

    Raises
    ------
    FileNotFoundError
        If `path` is not there.
    ValueError
        If a file is no YAML mapping, or a name under ``duskflow`` is unknown, or a value is of a wrong kind.
    """
    global _loaded, _named
    named = _named if path is None else Path(path).absolute()
    layers = _layers(named)
    for origin, layer in layers:
        _refuse_unknown(layer, origin)
    wanted = dask.config.merge(*(layer for _, layer in layers))
    with dask.config.config_lock:
        kept = _set_in_code([layer for _, layer in layers])
        result = dask.config.merge(wanted, kept)
        found = read(Settings, _ours(result), lambda keys: _origin(keys, [*layers, (IN_CODE, kept)]))
        dask.config.update(dask.config.config, result)
        _written.clear()
        _written.update(_flat(wanted))
        _loaded, _named = True, named
    return found


def settings() -> Settings:
    """The settings in force now; reads the files at the first call.

    Raises
    ------
    ValueError
        As `load` does; also for what the program has set since with ``dask.config.set``.
    """
    if not _loaded or NAMESPACE not in dask.config.config:
        return load()
    _refuse_unknown({NAMESPACE: dask.config.config[NAMESPACE]}, IN_CODE)
    return read(Settings, as_dict(), lambda _: IN_CODE)


def as_dict() -> dict[str, Any]:
    """The settings in force now as they would stand in a file, for the record of a run."""
    if not _loaded or NAMESPACE not in dask.config.config:
        load()
    return copy.deepcopy(_ours(dask.config.config))


def cluster_settings(**options: Any) -> ClusterSettings:
    """The settings of the cluster, some of them replaced.

    Parameters
    ----------
    **options
        Names of `ClusterSettings`; values as they may stand in a file, such as ``memory="24 GiB"``.

    Raises
    ------
    TypeError
        If a name is unknown.
    ValueError
        If a value is of a wrong kind.
    """
    known = [keys[-1].replace("-", "_") for keys in names() if keys[0] == "cluster"]
    for name in options:
        if name not in known:
            raise TypeError(f"unknown cluster option {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    settings()
    values = as_dict()["cluster"] | {name.replace("_", "-"): value for name, value in options.items()}
    return read(ClusterSettings, values, lambda _: "cluster option", ("cluster",))


def files() -> list[str]:
    """The files that settings come from, lowest first."""
    return [origin for origin, _ in _layers(_named) if Path(origin).is_file()]


def packaged_file() -> Path:
    """The file with the defaults: inside the package when installed from a wheel, else at the top of the checkout."""
    package = Path(__file__).parent
    for file in (package / FILE_NAME, package.parent / FILE_NAME):
        if file.is_file():
            return file
    raise FileNotFoundError(f"expected {FILE_NAME} in {package} or above; install duskflow again")


def _layers(named: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """All sources of settings with a name for each, lowest first."""
    # Its defaults must be registered by now: imported later, it would put them above our packaged ones.
    import distributed.config  # noqa: F401

    packaged = packaged_file()
    # Each is the defaults of one library; of two, the one registered later ranks higher.
    layers: list[tuple[str, dict[str, Any]]] = [("Dask", dict(defaults)) for defaults in dask.config.defaults]
    layers.append((str(packaged), _read_file(packaged)))
    layers += [(str(file), values) for file, values in dask.config.collect_yaml(dask.config.paths, return_paths=True)]
    project = Path.cwd() / FILE_NAME
    # In a checkout the two are one file, which must not rank above the user's own configuration.
    if project.is_file() and not project.samefile(packaged):
        layers.append((str(project), _read_file(project)))
    if named is not None:
        layers.append((str(named), _read_file(named)))
    layers.append(("environment", dask.config.collect_env()))
    below: dict[str, Any] = {}
    for index, (origin, layer) in enumerate(layers):
        layers[index] = (origin, _without_empty(layer, below))
        dask.config.update(below, layers[index][1])
    return layers


def _without_empty(layer: Mapping[str, Any], below: Mapping[str, Any]) -> dict[str, Any]:
    """Drop headings with nothing below them (all lines commented out): they do not mean "no such settings"."""
    kept: dict[str, Any] = {}
    for key, value in layer.items():
        other = below.get(dask.config.canonical_name(key, dict(below)))
        if isinstance(value, Mapping):
            kept[key] = _without_empty(value, other if isinstance(other, Mapping) else {})
        elif value is not None or not isinstance(other, Mapping):
            kept[key] = value
    return kept


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"expected a configuration file, found nothing at {file}") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{file} is not readable as YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"expected settings by name in {file}, received a {type(values).__name__}")
    return values


def _refuse_unknown(layer: Mapping[str, Any], origin: str) -> None:
    """Refuse names under our namespace that mean nothing, and misspellings of the namespace itself."""
    known = {keys[:depth] for keys in names() for depth in range(1, len(keys) + 1)}
    for top in layer:
        if isinstance(top, str) and top != NAMESPACE and nearest(top.lower(), [NAMESPACE], cutoff=0.85):
            raise ValueError(_unknown((top,), [(NAMESPACE,)], origin))
    ours = layer.get(NAMESPACE)
    if ours is None:
        return
    if not isinstance(ours, Mapping):
        raise ValueError(f"{NAMESPACE}: expected settings below this name, received {ours!r} ({origin})")
    for keys in _paths(ours):
        if keys not in known:
            above = [(NAMESPACE, *other) for other in known]
            raise ValueError(_unknown((NAMESPACE, *keys), above, origin))


def _unknown(keys: Keys, known: list[Keys], origin: str) -> str:
    def spelled(path: Keys) -> str:
        if origin == "environment":
            return "DASK_" + "__".join(path).replace("-", "_").upper()
        return ".".join(path)

    # Names of the same depth first: `cluster.worker` is meant to be `cluster.workers`, not `cluster`.
    level = [spelled(path) for path in sorted(known) if len(path) == len(keys)]
    return f"unknown setting {spelled(keys)} ({origin}){nearest(spelled(keys), level)}"


def _paths(values: Mapping[str, Any]) -> Iterator[Keys]:
    """The paths of a nested mapping, inner ones too; - and _ are one letter, as they are to Dask."""
    for key, value in values.items():
        name = str(key).replace("_", "-")
        yield (name,)
        if isinstance(value, Mapping):
            yield from ((name, *rest) for rest in _paths(value))


def _flat(values: Mapping[str, Any], above: Keys = ()) -> dict[Keys, Any]:
    """The leaves of a nested mapping by their paths."""
    leaves: dict[Keys, Any] = {}
    for key, value in values.items():
        keys = (*above, str(key).replace("_", "-"))
        if isinstance(value, Mapping):
            leaves.update(_flat(value, keys))
        else:
            leaves[keys] = value
    return leaves


def _set_in_code(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The part of Dask's configuration that neither a layer nor an earlier `load` can have put there."""
    sources = [_written, *(_flat(layer) for layer in layers)]

    def part(values: Mapping[str, Any], above: Keys) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in values.items():
            keys = (*above, str(key).replace("_", "-"))
            if isinstance(value, Mapping):
                if inner := part(value, keys):
                    kept[key] = inner
            elif not any(keys in source and source[keys] == value for source in sources):
                kept[key] = value
        return kept

    return part(dask.config.config, ())


def _ours(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our namespace in the spelling of the file."""

    def spelled(values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {str(key).replace("_", "-"): spelled(value) for key, value in values.items()}

    result: dict[str, Any] = spelled(config.get(NAMESPACE) or {})
    return result


def _origin(keys: Keys, layers: list[tuple[str, dict[str, Any]]]) -> str:
    """Which layer gave a setting its value: the highest that names it."""
    for origin, layer in reversed(layers):
        ours = layer.get(NAMESPACE)
        if isinstance(ours, Mapping) and keys in set(_paths(ours)):
            if origin == "environment":
                return "environment variable DASK_" + "__".join((NAMESPACE, *keys)).replace("-", "_").upper()
            return origin
    return "no source"
