"""Run the full-size pipelines and hold their scores against the marks they must reach.

    python benchmarks/targets.py --root /tmp/targets [--only fashion imdb]

Needs the data (see ``examples/fashion_mnist.py`` and ``examples/imdb.py``). Prints a line per mark and exits with 1 if
one is missed. With results in the root already, only what changed is computed again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# This folder holds a script that is named like the package `storage`: it comes last.
sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != HERE), str(HERE)]

from pipeline import Run, connect  # noqa: E402
from pipeline.files import load_file, pipelines_in  # noqa: E402

EXAMPLES = Path(__file__).parent.parent / "examples"
FILES = {"fashion": "fashion_mnist.py", "imdb": "imdb.py"}
# (pipeline, name of the method or network, data, least value)
MARKS = [
    ("fashion", "lenet5", "clean", 0.88),
    ("fashion", "KNeighborsClassifier", "clean", 0.85),
    ("fashion", "denoising_autoencoder", "gaussian-3", 5.0),
    ("imdb", "lstm_sentiment", "clean", 0.84),
]


def value_of(run: Run, name: str, data: str) -> tuple[str, float] | None:
    """Find the score of a method or network on one dataset."""
    for result in run.record["results"]:
        if result["name"] == name:
            for score in result["scores"]:
                if score["data"] == data:
                    return score["measure"], score["value"]
    return None


def main() -> int:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(FILES), default=list(FILES))
    options = parser.parse_args()
    missed = 0
    with connect("local") as client:
        for name in options.only:
            (made,) = pipelines_in(load_file(EXAMPLES / FILES[name]))
            begun = time.perf_counter()
            run = made.run(root=options.root, client=client)
            print(f"{name}: {time.perf_counter() - begun:.0f} s, report {run.report}")
            for result in run.record["results"]:
                for score in result["scores"]:
                    print(
                        f"  {result['label']} on {score['data']}: {score['measure']} {score['value']:.4f}, "
                        f"fit {result['fit_seconds']:.1f} s"
                    )
            for pipeline, step, data, mark in MARKS:
                if pipeline != name:
                    continue
                found = value_of(run, step, data)
                ok = found is not None and found[1] >= mark
                missed += not ok
                shown = f"{found[0]} {found[1]:.4f}" if found else "no score"
                print(f"{'reached' if ok else 'MISSED'}: {step} on {data}: {shown}, mark {mark}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
