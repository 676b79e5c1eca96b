"""`Run`: what one execution of a pipeline did, kept in its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.stores import is_url

if TYPE_CHECKING:
    import pandas
    import xarray

RECORD, LEADERBOARD, REPORT = "run.json", "leaderboard.csv", "report.html"


class Run:
    """One execution of a pipeline.

    Parameters
    ----------
    folder : path
        ``<root>/<pipeline>/runs/<run>``, as `Pipeline.run` made it.

    Attributes
    ----------
    folder : Path
    record : dict
        The content of ``run.json``: steps, versions, seed, configuration, results.

    Raises
    ------
    FileNotFoundError
        If there is no run in the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            self.record: dict[str, Any] = json.loads((self.folder / RECORD).read_bytes())
        except FileNotFoundError:
            raise FileNotFoundError(f"expected a run's folder, found no {RECORD} in {self.folder}") from None

    def __repr__(self) -> str:
        state = "failed: " + ", ".join(step["name"] for step in self.failures) if self.failures else "complete"
        return f"<Run {self.record['run']} of {self.record['pipeline']!r}: {state}>"

    @property
    def name(self) -> str:
        """Name of the run: its start in UTC and four random digits."""
        return str(self.record["run"])

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Every step with its status, time and fingerprint."""
        return list(self.record["steps"])

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Steps that failed or were skipped because of one that failed."""
        return [step for step in self.record["steps"] if step["status"] in ("failed", "skipped")]

    @property
    def exit_code(self) -> int:
        """0 if every step is done, else 1."""
        return int(self.record["exit_code"])

    @property
    def report(self) -> Path:
        """Path of the HTML page."""
        return self.folder / REPORT

    def leaderboard(self) -> pandas.DataFrame:
        """Return all scores, a row per method or network and data set, best first."""
        from pipeline.report import leaderboard

        return leaderboard(self.record["results"], pipeline=self.record["pipeline"])

    def robustness(self) -> pandas.DataFrame:
        """Return the accuracy of every classifier under every noise, long form; empty if it was not asked for.

        Returns
        -------
        pandas.DataFrame
            Columns label, kind, noise, severity (0: clean data, without a noise), accuracy, and whether the rows were
            denoised first.
        """
        from pipeline.corruption import curve_table

        return curve_table(self.record.get("robustness"))

    def corruption_errors(self) -> pandas.DataFrame:
        """Return mCE, relative mCE and the corruption error of each noise, a row per classifier, most robust first."""
        from pipeline.corruption import error_table

        return error_table(self.record.get("robustness"))

    def dataset(self, name: str = "clean") -> xarray.Dataset:
        """Open one of the run's datasets, lazily.

        Parameters
        ----------
        name : str
            ``clean``, or a noise such as ``gaussian-3``.

        Returns
        -------
        xarray.Dataset
        """
        import storage

        return storage.open_dataset(self.dataset_path(name)).xarray()

    def dataset_path(self, name: str = "clean") -> str:
        """Path or URL of the dataset's version that this run used, for `storage.open_dataset`."""
        datasets = {entry["name"]: entry["path"] for entry in self.record["datasets"]}
        if name not in datasets:
            raise ValueError(f"expected a dataset of {list(datasets)}, received {name!r}")
        # Relative to the pipeline's folder, so that a root can be moved or mounted elsewhere.
        path = datasets[name]
        return path if is_url(path) else str((self.folder.parent.parent / path).resolve())
