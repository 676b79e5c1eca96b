from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEAD = "from pipeline.main_guard import refuse_unguarded_script as start\n"


def run(folder, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(HEAD + text)
    command = [sys.executable, *(arguments or [str(script)])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, env=environment)


@pytest.mark.parametrize(
    "text",
    [
        'if __name__ == "__main__":\n    start()\n    print("fine")',
        'def main():\n    start()\n    print("fine")\nif __name__ == "__main__":\n    main()',
        'import multiprocessing\nif multiprocessing.parent_process() is None:\n    start()\n    print("fine")',
        'if __name__ == "__main__":\n    with open(__file__) as file:\n        start()\n        print("fine")',
        'import threading\nt = threading.Thread(target=start); t.start(); t.join(); print("fine")',
    ],
)
def test_guarded__is_let_through(tmp_path, text):
    done = run(tmp_path, text)
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("start()", 2),
        ("def main():\n    start()\nmain()", 4),
        ("if True:\n    start()", 3),
        ('if __name__ == "__main__":\n    pass\nstart()', 4),
    ],
)
def test_unguarded__is_refused_with_its_place(tmp_path, text, line):
    done = run(tmp_path, text)
    last = done.stderr.splitlines()[-1]
    assert f"RuntimeError: {tmp_path / 'script.py'}, line {line}, starts a cluster at the top level" in last
    assert 'put it under `if __name__ == "__main__":`' in last


def test_unguarded__as_a_module(tmp_path):
    assert "line 2, starts a cluster" in run(tmp_path, "start()", "-m", "script").stderr


def test_prompt__has_no_file_to_import(tmp_path):
    done = run(tmp_path, "", "-c", HEAD + "start(); print('fine')")
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_worker__that_imports_its_script(tmp_path):
    # What a worker process does with a script whose guard does not hold.
    text = "import multiprocessing.process as p\np.current_process()._inheriting = True\nstart()"
    assert "while a worker process imports its script" in run(tmp_path, text).stderr.splitlines()[-1]
