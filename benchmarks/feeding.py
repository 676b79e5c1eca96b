"""What feeding costs beside a memory map and other libraries: raw speed, shuffle, cold cache, and into `fit`.

    DUSKFLOW_DATA=DIR python benchmarks/feeding.py --folder DISK [--peers PEERS] [--only PART] [--kind KIND]
                                                   [--repeats 5] [--markdown FILE] [--quick]

`DIR` holds Fashion-MNIST's IDX files in ``fashion-mnist/`` and IMDB's table in ``imdb/``; `DISK` is an empty folder on
the disk to measure, where up to 12 GB are written, and removed at the end. With `FILE` the tables are written there,
too, and everything measured beside it as JSON.

`PEERS` holds an environment for each library; without one its rows say so. TensorFlow and Zarr are in our own::

    for name in torch mds grain ray; do python -m venv PEERS/$name; done
    PEERS/torch/bin/pip install torch numpy zarr xarray dask xbatcher webdataset
    PEERS/mds/bin/pip install --no-deps mosaicml-streaming
    PEERS/mds/bin/pip install torch "numpy<2.2" "transformers<5" "xxhash<4" "paramiko<4" "matplotlib<4" catalogue \\
        Brotli zstd python-snappy tqdm requests pyyaml setuptools
    PEERS/grain/bin/pip install grain array_record
    PEERS/ray/bin/pip install "ray[data]"

(mosaicml-streaming asks for clients of all clouds, which a local folder does not need.) PyTorch is the build for CPUs.

Each contender reads the same bytes in a process of its own, in batches of 256, in a full shuffle unless its row says
otherwise, with labels; the exclusive or of all 64-bit words of a batch is taken, so that every byte is touched. An
epoch of each is first checked sample by sample and its memory watched; then contenders take turns, and every timed
epoch has to give the same exclusive or. ``cold`` means that its files were taken out of the page cache just before.
Epochs are cut off after 20 seconds; then the row tells the share that was measured. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import sys
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
# This folder holds a script that is named like the package `storage`: it must not come first.
sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if Path(entry or ".").resolve() != HOUSE / "benchmarks")]

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from importlib import import_module  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks import feeding_data, feeding_race  # noqa: E402
from benchmarks.feeding_race import Contender, Race, Row  # noqa: E402

MIB = 2**20
PHOTO = (224, 224, 3)
# Goals.
MAPPED_GOAL, SHUFFLE_GOAL, TEN_TIMES_GOAL = 0.8, 1.3, 10.0
TEN_TIMES = ("xbatcher_torch", "grain_memory", "grain_array_record", "tf_record", "tf_slices")
OTHERS = (
    *TEN_TIMES,
    "tf_fixed",
    "tf_gather",
    "torch_samples",
    "torch_rows",
    "webdataset_torch",
    "mds_torch",
    "ray_data",
)


@dataclass
class Report:
    """What there is to say."""

    lines: list[str] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    goals: list[tuple[str, bool]] = field(default_factory=list)

    def say(self, *lines: str) -> None:
        """Add lines, and show them."""
        self.lines += lines
        print(*lines, sep="\n", flush=True)

    def goal(self, text: str, holds: bool) -> None:
        """Add a goal."""
        self.goals.append((text, holds))
        self.say(f"- {text}: {'reached' if holds else '**missed**'}")


@dataclass(frozen=True)
class Job:
    """What was asked for."""

    folder: Path
    peers: Path | None
    repeats: int
    quick: bool
    report: Report
    kinds: tuple[str, ...] = ()
    """Only these contenders, beside ours and the memory map; none: all."""

    @contextmanager
    def fresh(self, name: str) -> Iterator[Path]:
        """A folder that is removed afterwards."""
        place = self.folder / name
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def say(self, text: str) -> None:
        """Tell how far it is; no part of the report."""
        print(f"  {text}", file=sys.stderr, flush=True)


# --- tables


def rate(value: float) -> str:
    """A number of three digits."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def spread(values: Sequence[float], share: float = 1.0) -> str:
    """Median and range of rates, and the share of an epoch if it was not all of it."""
    if not values:
        return "-"
    text = f"{rate(statistics.median(values))} ({rate(min(values))} to {rate(max(values))})"
    return text if share >= 1 else f"{text}, from {share:.0%} of an epoch"


def seconds(values: Sequence[float]) -> str:
    """Median of some times, in milliseconds."""
    if not values:
        return "-"
    value = statistics.median(values) * 1000
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def factor(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def table(rows: Sequence[Row], count: int, when: Sequence[str]) -> list[str]:
    """A table of contenders; ratios are of what comes first in `when`."""
    names = {"later": "samples/s", "first": "first epoch, samples/s", "cold": "cold, samples/s"}
    firsts = [part for part in when if part != "later"]
    head = ["", names[when[0]], "ours / it", "it / memory map", *(names[part] for part in when[1:])]
    head += [f"first batch{', cold' if part == 'cold' and len(firsts) > 1 else ''}, ms" for part in firsts]
    head += ["peak MiB (pages of files)", "version"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    ours, mapped = rows[0], rows[1]
    failed = []
    for row in rows:
        title = row.contender.title
        if row.skip:
            failed.append(f"- {title} (`{row.contender.kind}`): {row.skip}")
            continue
        cells = [title, spread(row.rates(when[0]), row.share(when[0], count))]
        cells += [factor(ours.ratio(row, when[0])), factor(row.ratio(mapped, when[0]))]
        cells += [spread(row.rates(part), row.share(part, count)) for part in when[1:]]
        cells += [seconds(row.first(part)) for part in firsts]
        cells += [f"{row.memory['own']:,.0f} ({row.memory['mapped']:,.0f})", row.version]
        lines.append("| " + " | ".join(cells) + " |")
    if failed:
        lines += ["", "Did not run:", "", *failed]
    return lines


def notes(rows: Sequence[Row]) -> list[str]:
    """What makes a row less than it seems."""
    found = []
    for row in rows:
        stayed = max((turn["cold"]["stayed"] for turn in row.turns if "cold" in turn), default=0.0)
        if stayed > 0.01:
            found.append(f"- {row.contender.title}: {stayed:.0%} of its files could not be taken out of the page cache")
        if row.checked and row.checked != "checked":
            found.append(f"- {row.contender.title}: {row.checked}")
    return found


def compare(
    job: Job, name: str, title: str, specification: Path, contenders: Sequence[Contender], **options: Any
) -> dict[str, Row]:
    """Let contenders race, and print their table; gives the rows by title."""
    race = Race(specification, job.peers, job.repeats, **options)
    kinds = {"ours", "memory_map", *job.kinds}
    rows = race.run([one for one in contenders if not job.kinds or one.kind in kinds], job.say)
    given = json.loads(specification.read_text("utf-8"))
    when = ["later", "first"] * race.warm + ["cold"] * race.cold
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    how = f"Batches of {given['batch']}, {job.repeats} interleaved turns, medians (and ranges), {load}."
    job.report.say("", f"### {title}", how, "", *table(rows, given["count"], when), *notes(rows), "")
    job.report.measured[name] = [row.to_json() for row in rows]
    return {f"{row.contender.kind}{json.dumps(row.contender.options)}": row for row in rows}


def at_least(job: Job, what: str, value: float | None, goal: float) -> None:
    """A goal on a ratio; what did not run cannot miss one."""
    if value is not None:
        job.report.goal(f"{what}: {factor(value)}, at least {goal:g}", value >= goal)


def found(rows: dict[str, Row], contender: Contender) -> Row:
    """The row of a contender."""
    return rows[f"{contender.kind}{json.dumps(contender.options)}"]


def common_goals(job: Job, rows: dict[str, Row], when: Sequence[str]) -> None:
    """Against a memory map, and of a shuffle against none."""
    ours = found(rows, feeding_race.OURS)
    for part in when:
        of = {"later": "later epochs", "first": "first epochs", "cold": "cold"}[part]
        least = 1.0 if part == "cold" else MAPPED_GOAL
        at_least(job, f"ours / memory map + take, {of}", ours.ratio(found(rows, feeding_race.MAPPED), part), least)
        cost = found(rows, feeding_race.SEQUENTIAL).ratio(ours, part)
        if cost is not None:
            text = f"shuffled costs {factor(cost)} of sequential, {of}, at most {SHUFFLE_GOAL:g}"
            job.report.goal(text, cost <= SHUFFLE_GOAL)


# --- parts


def small(job: Job) -> None:
    """60,000 images of 28 x 28."""
    with job.fresh("small") as folder:
        count = 6_000 if job.quick else 60_000
        job.say("writes samples")
        specification = feeding_data.write_fashion(folder, count)
        title = f"Small: {count:,} images of 28 x 28 (Fashion-MNIST)"
        rows = compare(job, "small", title, specification, feeding_race.ALL, seconds=0.2 if job.quick else 1.0)
        common_goals(job, rows, ("later", "first"))
        ours = found(rows, feeding_race.OURS)
        for row in rows.values():
            if row.contender.kind in TEN_TIMES:
                at_least(job, f"ours / {row.contender.title}", ours.ratio(row, "later"), TEN_TIMES_GOAL)


def photos(job: Job) -> None:
    """Images of 224 x 224 x 3."""
    with job.fresh("photos") as folder:
        count = 600 if job.quick else 3_400  # 488 MiB: a full shuffle of ours by default
        job.say("writes samples")
        specification = feeding_data.write_random(folder, count, PHOTO)
        title = f"Photos: {count:,} images of 224 x 224 x 3"
        rows = compare(job, "photos", title, specification, feeding_race.ALL, seconds=0.2 if job.quick else 1.0)
        common_goals(job, rows, ("later", "first"))
        ours = found(rows, feeding_race.OURS)
        others = [row for row in rows.values() if row.contender.kind in OTHERS]
        ratios = [(ours.ratio(row, "later"), row.contender.title) for row in others]
        best = min(((value, title) for value, title in ratios if value is not None), default=None)
        if best:
            at_least(job, f"ours / the quickest other ({best[1]})", best[0], 1.0)


def cold(job: Job) -> None:
    """At least 4 GiB that are not in the page cache, small images and large ones."""
    total = 256 * MIB if job.quick else 4 * 2**30
    for name, shape in (("cold", (28, 28, 1)), ("cold photos", PHOTO)):
        with job.fresh(name.replace(" ", "-")) as folder:
            bytes_each = shape[0] * shape[1] * shape[2]
            count = -(-total // bytes_each)
            job.say("writes samples")
            specification = feeding_data.write_random(folder, count, shape)
            # At 4 GiB our own window, and a GiB of memory; little data has shards that are large beside it.
            limits = {"window": total // 8, "memory": total // (2 if job.quick else 4)}
            few = {"window": total // 64, "memory": limits["memory"] // 2, "streams": 4}
            contenders = (
                feeding_race.OURS,
                feeding_race.MAPPED,
                feeding_race.SEQUENTIAL,
                Contender(f"ours, {limits['memory'] // MIB:,} MiB of memory", "ours", limits),
                Contender(f"ours, {few['memory'] // MIB:,} MiB of memory, 4 streams", "ours", few),
                Contender(
                    f"ours, sequential, {limits['memory'] // MIB:,} MiB of memory", "ours", {"shuffle": False, **limits}
                ),
                feeding_race.MAPPED_SEQUENTIAL,
                feeding_race.PLAIN,
                Contender(
                    f"tf.data, `FixedLengthRecordDataset` on our shards, buffer of {limits['window'] // MIB:,} MiB",
                    "tf_fixed",
                    {"buffer": limits["window"] // bytes_each},
                ),
            )
            title = f"Cold: {count:,} images of {' x '.join(map(str, shape[: 2 if shape[2] == 1 else 3]))}"
            budget = 30.0 if job.quick else 240.0
            rows = compare(job, name, title, specification, contenders, warm=False, budget=budget)
            common_goals(job, rows, ("cold",))
            streamed, mapped = found(rows, contenders[3]), found(rows, feeding_race.MAPPED)
            at_least(job, f"{contenders[3].title} / memory map + take", streamed.ratio(mapped, "cold"), 1.0)
            cost = found(rows, contenders[5]).ratio(streamed, "cold")
            if cost is not None:
                text = f"shuffled costs {factor(cost)} of sequential, {contenders[3].title}, at most {SHUFFLE_GOAL:g}"
                job.report.goal(text, cost <= SHUFFLE_GOAL)


def main() -> int:
    """Run the parts that are asked for."""
    parts: dict[str, Callable[[Job], None]] = {
        "small": small,
        "photos": photos,
        "cold": cold,
        "shuffle": lambda job: import_module("benchmarks.feeding_shuffle").shuffle(job),
        "fit": lambda job: import_module("benchmarks.feeding_fit").fit(job),
        "text": lambda job: import_module("benchmarks.feeding_text").text(job),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder on the disk to measure")
    parser.add_argument("--peers", type=Path, help="a folder of environments with the other libraries (default: none)")
    parser.add_argument("--only", choices=parts, action="append", help="this part (can be given again)")
    kinds = sorted({one.kind for one in feeding_race.ALL})
    parser.add_argument("--kind", choices=kinds, action="append", help="beside ours and the memory map only these")
    parser.add_argument("--repeats", type=int, help="turns of each contender (default: 5)")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the tables there, and JSON beside it")
    parser.add_argument("--quick", action="store_true", help="little data and one turn: to see that everything works")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.iterdir()):
        parser.error(f"expected an empty folder, {options.folder} is not")
    report = Report()
    repeats = options.repeats or (1 if options.quick else 5)
    # Environments are named by where they are, whatever folder their processes run in.
    peers = options.peers.absolute() if options.peers else None
    job = Job(options.folder.absolute(), peers, repeats, options.quick, report, tuple(options.kind or ()))
    try:
        for name in options.only or parts:
            parts[name](job)
    finally:
        if options.markdown:
            options.markdown.write_text("\n".join(report.lines) + "\n", encoding="utf-8")
            measured = {"measured": report.measured, "goals": report.goals}
            options.markdown.with_suffix(".json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    missed = sum(not holds for _, holds in report.goals)
    print(f"\n{len(report.goals) - missed} of {len(report.goals)} goals hold.")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
