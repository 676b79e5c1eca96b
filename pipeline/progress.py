"""What a terminal shows while steps are under way: bars in a terminal, lines elsewhere.

Messages and progress go to standard error, so that standard output holds results only.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from pipeline.config import settings

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Progress:
    """Progress of the steps of a run. Safe to use from several threads.

    Parameters
    ----------
    stream : text file, optional
        Where to write; standard error by default.
    style : {"auto", "bars", "lines", "none"}, optional
        By default the setting ``duskflow.progress.style``. "auto": bars if `stream` is a terminal, else lines.
    interval : float, optional
        Seconds between two lines of one step; by default the setting ``duskflow.progress.interval``.
    clock : callable, optional
        Returns seconds; for tests.

    Examples
    --------
    >>> with Progress() as progress:  # doctest: +SKIP
    ...     step = progress.step("clean", total=48, unit="shards")
    ...     for shard in shards:
    ...         step.advance()
    ...     step.done("1.2 GB")
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        style: str | None = None,
        interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if style not in (None, "auto", "bars", "lines", "none"):
            raise ValueError(f"style: expected auto, bars, lines or none, received {style!r}")
        self.stream = sys.stderr if stream is None else stream
        chosen = settings().progress.style if style is None else style
        if chosen == "auto":
            chosen = "bars" if _is_terminal(self.stream) else "lines"
        self.style = chosen
        self.interval = settings().progress.interval if interval is None else interval
        self.clock = clock
        self.lock = threading.RLock()
        self._bars: Bars | None = None

    def __enter__(self) -> Progress:
        if self.style == "bars":
            self._bars = _bars(self.stream)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        bars, self._bars = self._bars, None
        if bars is not None:
            for task in bars.task_ids:
                bars.remove_task(task)
            bars.stop()

    def message(self, text: str) -> None:
        """Print one line; bars stay below it."""
        if self.style == "none":
            return
        with self.lock:
            if self._bars is not None:
                self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, file=self.stream, flush=True)

    def step(self, name: str, total: int | None = None, unit: str = "") -> Step:
        """Begin a step.

        Parameters
        ----------
        name : str
            As in the pipeline.
        total : int, optional
            How many units of work it has; unknown by default.
        unit : str
            What is counted, in the plural: "shards", "epochs".
        """
        return Step(self, name, total, unit)

    def reused(self, name: str, note: str = "") -> None:
        """Say in one line that a step was done by an earlier run."""
        self.message(_line(name, "reused", note))


class Step:
    """One step under way. Made by `Progress.step`; ends with `done`, `fail` or `reuse`, of which the first counts."""

    def __init__(self, progress: Progress, name: str, total: int | None, unit: str) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.count = 0
        self._progress = progress
        self._begun = progress.clock()
        self._shown = (self._begun, 0)
        self._ended = False
        self._bar: TaskID | None = None
        with progress.lock:
            if progress._bars is not None:
                self._bar = progress._bars.add_task(name, total=total, figures="", note="")
            else:
                progress.message(_line(name, "started", f"{total} {unit}".rstrip() if total else ""))

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units of work; `note` says what matters of them, such as a loss."""
        with self._progress.lock:
            if self._ended:
                return
            self.count += n
            bars = self._progress._bars
            if bars is not None and self._bar is not None:
                bars.update(self._bar, completed=self.count, figures=self._figures(), note=note)
            elif self._is_due():
                self._shown = (self._progress.clock(), self.count)
                self._progress.message(_line(self.name, self._figures(), note))

    def done(self, note: str = "") -> None:
        """End: the work is done."""
        self._end("done", note)

    def fail(self, note: str = "") -> None:
        """End: it failed; `note` is the error in one line."""
        self._end("FAILED", note)

    def reuse(self, note: str = "") -> None:
        """End: it turned out to be done by an earlier run. Known before it begins: `Progress.reused`."""
        self._end("reused", note)

    def _end(self, how: str, note: str) -> None:
        with self._progress.lock:
            if self._ended:
                return
            self._ended = True
            bars = self._progress._bars
            if bars is not None and self._bar is not None:
                bars.remove_task(self._bar)
            if how != "reused":
                how += f" after {duration(self._progress.clock() - self._begun)}"
            self._progress.message(_line(self.name, how, note))

    def _is_due(self) -> bool:
        """A line is due each interval; of a step with a known end, also each tenth, but not in a burst."""
        now = self._progress.clock()
        since, count = self._shown
        if now - since >= self._progress.interval:
            return True
        tenth = self.total and (self.count * 10 // self.total) > (count * 10 // self.total)
        return bool(tenth) and now - since >= self._progress.interval / 5

    def _figures(self) -> str:
        spent = self._progress.clock() - self._begun
        share = f"/{self.total}" if self.total else ""
        figures = [f"{self.count}{share} {self.unit}".rstrip()]
        if spent > 0 and self.count:
            figures.append(_rate(self.count / spent))
            if self.total and self.count < self.total:
                figures.append(f"{duration(spent / self.count * (self.total - self.count))} left")
        return ", ".join(figures)


def say(text: str) -> None:
    """Print one line to standard error, unless the setting ``duskflow.progress.style`` is "none"."""
    if settings().progress.style != "none":
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A time as people say it.

    Examples
    --------
    >>> duration(4.21), duration(75), duration(7260)
    ('4.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _line(name: str, what: str, note: str) -> str:
    return f"{name:<40} {what}" + (f": {note}" if note else "")


def _rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:.1f}/s"
    return f"{duration(1 / per_second)} each"


def _is_terminal(stream: TextIO) -> bool:
    # A dumb terminal (an editor's shell, some CI logs) cannot move its cursor, so bars would pile up.
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]} {task.fields[note]}", markup=False),
        console=Console(file=stream),
        # Steps that end leave a line of text; their bars make room for others.
        transient=True,
    )
