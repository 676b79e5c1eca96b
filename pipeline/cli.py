"""The command line: ``duskflow run FILE``, ``plan``, ``report``, ``doctor``; `dataset_commands`; `gallery.command`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.dataset_commands import FAILED, dataset_commands
from pipeline.gallery.command import gallery_command

WRONG_USE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0 if all is well; 1 if a step failed or a check did not pass; 2 for wrong use, said in one line; 130 if
        interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        print("duskflow: interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if options.debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        # These say what is wrong by themselves; of others the type is half of the message.
        known = isinstance(error, (ValueError, OSError, RuntimeError)) and not isinstance(error, RecursionError)
        print(f"duskflow: {'' if known else type(error).__name__ + ': '}{text}", file=sys.stderr)
        return WRONG_USE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="duskflow",
        description="Images and text to Zarr, noise, classical methods, networks and one report, on Dask.",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=run)
        return made

    run = command("run", _run, "Do what is missing of the pipelines in a file and write the report.")
    _file_options(run)
    run.add_argument("--cluster", metavar="WHERE", help='"local" or a scheduler address (default: the configured one)')
    plan = command("plan", _plan, "Say which steps are done, partly done and missing; computes nothing.")
    _file_options(plan)
    report = command("report", _report, "Write one report over the newest run of every pipeline below a root.")
    _root_option(report)
    report.add_argument("--output", type=Path, help="where to write it (default: <root>/report.html)")
    dataset_commands(command, _file_options)
    gallery_command(command)
    doctor = command("doctor", _doctor, "Check this machine: versions, extras, disk, cluster, GPU.")
    _root_option(doctor)
    _config_option(doctor)
    return parser


def _file_options(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", help="Python file that defines one or more Pipeline objects")
    made.add_argument("--only", metavar="NAME", help="just this pipeline of the file")
    _root_option(made)
    _config_option(made)


def _root_option(made: argparse.ArgumentParser) -> None:
    made.add_argument("--root", default="runs", type=Path, help="output folder (default: runs)")


def _config_option(made: argparse.ArgumentParser) -> None:
    made.add_argument("--config", metavar="FILE", help="a dask-config.yaml that wins over the others")


def _run(options: argparse.Namespace) -> int:
    from pipeline import config
    from pipeline.cluster import connect
    from pipeline.files import load_file, pipelines_in, send_file
    from pipeline.lock import check_root

    settings = config.load(options.config)
    module = load_file(options.file)
    pipelines = pipelines_in(module, options.only)
    check_root(options.root)
    with connect(options.cluster or settings.cluster.kind) as client:
        send_file(client, module)
        runs = [pipeline.run(root=options.root, client=client) for pipeline in pipelines]
    failures = [(run, step) for run in runs for step in run.failures]
    for run, step in failures:
        if step["status"] == "failed":  # those skipped for it are in the report
            print(f"{run.record['pipeline']}: {step['name']} failed: {step['error']}", file=sys.stderr)
    page = runs[0].report if len(runs) == 1 else _join([run.folder for run in runs], options.root / "report.html")
    print(f"report: {page.resolve()}")
    return FAILED if failures else 0


def _join(folders: list[Path], target: Path) -> Path:
    from pipeline.report import write_report

    return write_report(folders, target)


def _plan(options: argparse.Namespace) -> int:
    from pipeline import config
    from pipeline.files import load_file, pipelines_in

    config.load(options.config)
    for pipeline in pipelines_in(load_file(options.file), options.only):
        print(pipeline.plan(options.root))
    return 0


def _report(options: argparse.Namespace) -> int:
    # A run's name begins with its time, so the last name is the newest run.
    newest = [max(folder.iterdir()) for folder in sorted(options.root.glob("*/runs")) if any(folder.iterdir())]
    if not newest:
        raise FileNotFoundError(f"expected runs below {options.root}, found none; run a pipeline first")
    print(f"report: {_join(newest, options.output or options.root / 'report.html').resolve()}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from pipeline.doctor import doctor

    return doctor(options.root, config_file=options.config)


if __name__ == "__main__":
    sys.exit(main())
