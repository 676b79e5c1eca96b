"""Commands of the command line that look after data: ``verify``, ``repair``, ``catalog``, ``prune``, ``tag``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

FAILED = 1


def dataset_commands(command: Callable[..., argparse.ArgumentParser], file_options: Callable[..., None]) -> None:
    """Add the commands to a parser.

    Parameters
    ----------
    command : callable
        ``command(name, run, text)`` makes one.
    file_options : callable
        Adds the options of commands that take a file with pipelines.
    """
    verify = command("verify", _verify, "Check datasets against their manifests, every byte.")
    verify.add_argument("paths", nargs="+", help="datasets, or folders that hold some; also s3://bucket/prefix")
    verify.add_argument("--fast", action="store_true", help="compare sizes only")
    verify.add_argument("--version", metavar="VERSION", help="number, tag or digest of a version (default: the last)")
    verify.add_argument(
        "--cluster", metavar="WHERE", help='do it on "local" workers or a scheduler (default: threads of this process)'
    )
    repair = command("repair", _repair, "Rewrite damaged files of the datasets of the pipelines in a file.")
    file_options(repair)
    repair.add_argument("--cluster", metavar="WHERE", help='"local" or a scheduler address')
    catalog = command("catalog", _catalog, "List datasets and their versions, models and runs, with sizes.")
    catalog.add_argument("paths", nargs="*", default=["runs"], help="output folders or datasets (default: runs)")
    prune = command("prune", _prune, "Say what old versions and runs could be removed; remove them with --apply.")
    prune.add_argument("paths", nargs="*", default=["runs"], help="output folders or datasets (default: runs)")
    prune.add_argument("--keep", type=int, default=3, metavar="N", help="runs and versions to keep (default: 3)")
    prune.add_argument("--unfinished", action="store_true", help="also what was begun and never finished")
    prune.add_argument("--apply", action="store_true", help="remove it")
    tag = command("tag", _tag, "Name a version of a dataset, so that prune keeps it.")
    tag.add_argument("dataset", help="the dataset")
    tag.add_argument("name", help="the tag, such as release-1")
    tag.add_argument("--version", metavar="VERSION", help="number, tag or digest of a version (default: the last)")
    tag.add_argument("--remove", action="store_true", help="take the tag away")


def _verify(options: argparse.Namespace) -> int:
    import storage
    from pipeline.cluster import connect
    from pipeline.progress import Progress
    from storage.retention import find_datasets

    datasets = []
    for path in options.paths:
        # Refuses what is no dataset before any work.
        datasets += find_datasets(path) or [storage.open_dataset(path).path]
    damaged = 0
    with ExitStack() as stack:
        client = stack.enter_context(connect(options.cluster)) if options.cluster else None
        progress = stack.enter_context(Progress())
        for path in datasets:
            version = options.version
            bar = progress.step(path, total=_shards(path, version), unit="shards")
            found = storage.verify(path, strict=not options.fast, version=version, client=client, advance=bar.advance)
            damaged += not found.ok
            if found.ok:
                bar.done(f"version {found.version[:12]}")
            else:
                bar.fail(f"{len(found.problems)} problems")
            for problem in found.problems:
                print(f"{path}: {problem}")
    print(f"{len(datasets) - damaged} of {len(datasets)} datasets are what their manifests say")
    return FAILED if damaged else 0


def _shards(path: str, version: int | str | None) -> int | None:
    """How long the bar is; a dataset that does not open has none."""
    import storage

    try:
        return storage.open_dataset(path, version).shards
    except (storage.StorageError, FileNotFoundError):
        return None


def _repair(options: argparse.Namespace) -> int:
    from pipeline import config
    from pipeline.cluster import connect
    from pipeline.files import load_file, pipelines_in, send_file

    settings = config.load(options.config)
    module = load_file(options.file)
    pipelines = pipelines_in(module, options.only)
    with connect(options.cluster or settings.cluster.kind) as client:
        send_file(client, module)
        for pipeline in pipelines:
            for found in pipeline.repair(options.root, client):
                if not found.problems:
                    print(f"{found.dataset}: sound, version {found.version[:12]}")
                    continue
                for problem in found.problems:
                    print(f"{found.dataset}: {problem}")
                print(
                    f"{found.dataset}: rewrote shards {list(found.shards)} and {len(found.files)} other files; version "
                    f"{found.version[:12]}, as before"
                )
    return 0


def _catalog(options: argparse.Namespace) -> int:
    from pipeline.inventory import inventory

    for path in options.paths:
        print(inventory(path))
    return 0


def _prune(options: argparse.Namespace) -> int:
    from pipeline.inventory import prune_root

    freed = 0
    for path in options.paths:
        removed = prune_root(path, keep=options.keep, unfinished=options.unfinished, apply=options.apply)
        freed += sum(size for _, size in removed)
        for what, size in removed:
            print(f"{'removed' if options.apply else 'would remove'} {what} ({size / 1e6:,.1f} MB)")
    print(f"{freed / 1e6:,.1f} MB {'freed' if options.apply else 'would be freed; add --apply to do it'}")
    return 0


def _tag(options: argparse.Namespace) -> int:
    import storage

    path = options.dataset
    if options.remove:
        storage.untag(path, options.name)
        print(f"{path}: {options.name} removed")
        return 0
    if "://" not in path and not Path(path).is_dir():
        raise FileNotFoundError(f"expected a dataset's folder, found nothing at {path}")
    number: Any = storage.tag(path, options.name, options.version)
    print(f"{path}: {options.name} is version {number}")
    return 0
