"""The report: one HTML file that holds everything it shows and opens without a network."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report import wording
from pipeline.report.reading import CLEAN, RunRecord, read_run
from pipeline.report.view import view_run

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup


def write_report(runs: Sequence[Path], target: Path) -> Path:
    """Write one HTML page about one or several runs.

    Parameters
    ----------
    runs : sequence of Path
        Run folders, each with a ``run.json``; shown in this order.
    target : Path
        The HTML file to write; its folder is made, an old file is replaced in one move.

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    ValueError
        When `runs` is empty, `target` is a folder, or a ``run.json`` is no JSON object.
    FileNotFoundError
        When a folder has no ``run.json``.

    Notes
    -----
    The page depends on the runs alone, not on when it is written: the same runs give the same bytes. Artifacts that
    are missing or damaged cost their pictures, never the page.
    """
    target = Path(target)
    if not runs:
        raise ValueError("expected at least one run folder, received none; do run a pipeline first")
    if target.is_dir():
        raise ValueError(f"expected a file to write the report to, received the folder {target}; do add report.html")
    html = render([read_run(Path(folder)) for folder in runs])
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(html, encoding="utf-8")
    partial.replace(target)
    return target


def render(records: Sequence[RunRecord]) -> str:
    """The page as text."""
    from markupsafe import Markup

    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    names = list(dict.fromkeys(record.pipeline for record in records))
    views = [view_run(record, place) for place, record in enumerate(records, start=1)]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            title=_title(names),
            views=views,
            finished=max((record.finished for record in records if record.finished), default=None),
            # Our own files are the only text that is not escaped.
            style=Markup(_asset("page.css") + _asset("robustness.css")),
            script=Markup(script),
            # Nothing but this one script may run and nothing may be fetched, even if a name got past the escaping.
            policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
            "base-uri 'none'; form-action 'none'",
        )
    )


def _title(names: Sequence[str]) -> str:
    title = wording.listing(names)
    return title if len(title) <= 60 or len(names) == 1 else wording.plural(len(names), "pipeline")


def _asset(name: str) -> str:
    return resources.files("pipeline.report").joinpath("templates", name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (wording.number, wording.difference, wording.points, wording.count, wording.duration)
    environment.filters |= {word.__name__: word for word in (*words, wording.size, wording.moment)}
    environment.filters |= {"flatten": wording.flatten, "breakable": _breakable}
    environment.globals |= {"plural": wording.plural, "clean": CLEAN, "isfinite": math.isfinite}
    return environment


def _breakable(text: str) -> Markup:
    """Escaped text that may wrap after punctuation, where a reader of code expects it."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[(,=_/.:-])(?=\w)", text))
