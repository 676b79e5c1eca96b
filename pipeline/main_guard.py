"""Catch the script that would start a cluster in each of its own workers.

Worker processes import the script they were started from. If it calls `connect` outside of
``if __name__ == "__main__":``, each worker would start a cluster in turn; Python stops that with a page of traceback
per worker. Here it is one line, before any process is started.
"""

from __future__ import annotations

import ast
import multiprocessing.process
import sys
from types import FrameType

CURE = 'put it under `if __name__ == "__main__":`, because each worker process imports the script again'


def refuse_unguarded_script() -> None:
    """Raise if the running script would be here again when a worker imports it.

    Raises
    ------
    RuntimeError
        With the script's name and line.
    """
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise RuntimeError(f"a cluster was about to start while a worker process imports its script; {CURE}")
    frame = _script_frame(sys._getframe())
    if frame is None:
        return
    path = frame.f_globals.get("__file__")
    try:
        with open(path, encoding="utf-8") as file:  # type: ignore[arg-type]
            tree = ast.parse(file.read())
    except (OSError, TypeError, ValueError, SyntaxError):
        # A notebook or a prompt: no file, so nothing that a worker would import.
        return
    if not _guarded(tree, frame.f_lineno):
        raise RuntimeError(f"{path}, line {frame.f_lineno}, starts a cluster at the top level; {CURE}")


def _script_frame(frame: FrameType | None) -> FrameType | None:
    """The frame of the main script's top level, if we were called from there."""
    script = getattr(sys.modules.get("__main__"), "__dict__", None)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is script:
            return frame
        frame = frame.f_back
    return None


def _guarded(tree: ast.Module, line: int) -> bool:
    """Whether the statement at a line stands below a condition that asks who imports it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and node.lineno <= line <= (node.end_lineno or line):
            # `if __name__ == "__main__"` and its relatives, such as `multiprocessing.parent_process() is None`.
            asked = ast.unparse(node.test)
            if "__name__" in asked or "process" in asked:
                return True
    return False
