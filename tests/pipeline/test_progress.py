from __future__ import annotations

import io
import itertools
import threading

import dask.config
import pytest

from pipeline.progress import Progress, duration, say


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def progress(stream, clock):
    with Progress(stream, style="lines", interval=5, clock=clock) as progress:
        yield progress


def lines(stream: io.StringIO) -> list[str]:
    """What was printed, runs of blanks as one."""
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_lines__a_step_from_start_to_end(progress, stream, clock):
    step = progress.step("clean", total=10, unit="shards")
    for _ in range(10):
        clock.now += 2
        step.advance()
    step.done("5.5 MB")
    assert lines(stream) == [
        "clean started: 10 shards",
        "clean 1/10 shards, 2.0 s each, 18.0 s left",
        "clean 2/10 shards, 2.0 s each, 16.0 s left",
        "clean 3/10 shards, 2.0 s each, 14.0 s left",
        "clean 4/10 shards, 2.0 s each, 12.0 s left",
        "clean 5/10 shards, 2.0 s each, 10.0 s left",
        "clean 6/10 shards, 2.0 s each, 8.0 s left",
        "clean 7/10 shards, 2.0 s each, 6.0 s left",
        "clean 8/10 shards, 2.0 s each, 4.0 s left",
        "clean 9/10 shards, 2.0 s each, 2.0 s left",
        "clean 10/10 shards, 2.0 s each",
        "clean done after 20.0 s: 5.5 MB",
    ]


def test_lines__a_fast_step_is_start_and_end(progress, stream, clock):
    step = progress.step("clean", total=1000, unit="shards")
    for _ in range(1000):
        clock.now += 0.0009
        step.advance()
    step.done()
    assert lines(stream) == ["clean started: 1000 shards", "clean done after 0.9 s"]


def test_lines__a_slow_step_without_known_end_speaks_each_interval(progress, stream, clock):
    step = progress.step("fit")
    for _ in range(40):
        clock.now += 0.25
        step.advance(3, "loss 0.1")
    assert lines(stream) == ["fit started", "fit 60, 12.0/s: loss 0.1", "fit 120, 12.0/s: loss 0.1"]


def test_lines__never_more_than_one_in_a_fifth_of_the_interval(progress, stream, clock):
    step = progress.step("clean", total=1000)
    printed = []
    for _ in range(1000):
        clock.now += 0.01
        before = len(lines(stream))
        step.advance()
        if len(lines(stream)) > before:
            printed.append(clock.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(printed)]
    assert 8 <= len(printed) <= 10
    assert min(gaps) >= 0.99


def test_lines__fail_and_reuse(progress, stream, clock):
    step = progress.step("KMeans(n_clusters=10)")
    clock.now += 75
    step.fail("ValueError: no")
    progress.step("PCA(32)").reuse()
    progress.reused("clean", "version abc")
    assert lines(stream) == [
        "KMeans(n_clusters=10) started",
        "KMeans(n_clusters=10) FAILED after 1 min 15 s: ValueError: no",
        "PCA(32) started",
        "PCA(32) reused",
        "clean reused: version abc",
    ]


def test_step__the_first_end_counts(progress, stream):
    step = progress.step("a")
    step.done()
    step.fail("late")
    step.advance()
    assert lines(stream) == ["a started", "a done after 0.0 s"]


def test_step__counts_from_many_threads(progress, stream):
    step = progress.step("a", total=4000)
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(500):
            step.advance()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert step.count == 4000


def test_none__is_silent(stream, clock):
    with Progress(stream, style="none", clock=clock) as progress:
        step = progress.step("a", total=2)
        step.advance(2)
        step.done()
        progress.message("hello")
        progress.reused("b")
    assert stream.getvalue() == ""


def test_auto__bars_in_a_terminal_lines_elsewhere(stream, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert Progress(stream, style="auto").style == "lines"
    assert Progress(Terminal(), style="auto").style == "bars"
    monkeypatch.setenv("TERM", "dumb")
    assert Progress(Terminal(), style="auto").style == "lines"


def test_bars__show_counts_and_leave_a_line(monkeypatch, clock):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    terminal = Terminal()
    with Progress(terminal, style="bars", clock=clock) as progress:
        first, second = progress.step("clean", total=4, unit="shards"), progress.step("[fit]")
        clock.now += 2
        first.advance(2, "so far")
        progress._bars.refresh()
        assert "2/4 shards, 1.0/s, 2.0 s left" in terminal.getvalue()
        assert "so far" in terminal.getvalue()
        assert "[fit]" in terminal.getvalue()
        progress.message("a [message] between")
        first.done("5 MB")
        second.fail("ValueError")
        assert not progress._bars.task_ids
    shown = terminal.getvalue()
    assert "a [message] between" in shown
    assert "done after 2.0 s: 5 MB" in shown
    assert "FAILED after 2.0 s: ValueError" in shown


def test_bars__an_error_takes_them_down(monkeypatch, clock):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    progress = Progress(terminal, style="bars", clock=clock)

    def interrupted() -> None:
        with progress:
            progress.step("clean")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert progress._bars is None
    # The cursor that rich hides is back.
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


def test_settings__are_the_defaults(stream):
    with dask.config.set({"duskflow.progress.style": "none", "duskflow.progress.interval": "2 minutes"}):
        progress = Progress(stream)
    assert (progress.style, progress.interval) == ("none", 120)


def test_style__unknown(stream):
    with pytest.raises(ValueError, match="style: expected auto, bars, lines or none, received 'fancy'"):
        Progress(stream, style="fancy")


def test_say__goes_to_standard_error_unless_told_not_to(capsys):
    say("dashboard: here")
    with dask.config.set({"duskflow.progress.style": "none"}):
        say("never")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "dashboard: here\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3599.6, "1 h 0 min"),
        (7260, "2 h 1 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text
