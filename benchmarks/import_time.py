"""How long `import pipeline` takes, against an interpreter that imports nothing.

    python benchmarks/import_time.py [--repeat 9]

The two take turns, so that a machine that is busy for a while is busy for both; medians are compared.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMIT = 1.0
"""Seconds that the README promises to stay below."""


def seconds(statement: str) -> float:
    """Run a statement in a fresh interpreter."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=9, help="runs of each (default: 9)")
    repeat = parser.parse_args().repeat
    # What is timed must be what is meant: the package, and without TensorFlow.
    seconds("import sys, pipeline; assert pipeline.Pipeline and not {'tensorflow', 'keras'} & set(sys.modules)")
    pairs = [(seconds("import pipeline"), seconds("pass")) for _ in range(repeat)]
    ours, empty = ([pair[place] for pair in pairs] for place in (0, 1))
    full, bare = statistics.median(ours), statistics.median(empty)
    print(f"import pipeline: {full:.3f} s, {full / bare:.1f} times an empty interpreter ({bare:.3f} s)")
    print(f"medians of {repeat}; fastest {min(ours):.3f} s, slowest {max(ours):.3f} s")
    return int(full >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
