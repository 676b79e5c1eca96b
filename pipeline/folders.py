"""Where a pipeline keeps what it makes, below the root.

::

    <root>/<pipeline>/
      lock                         held while a run goes on
      datasets/<name>/             see storage.writer; or somewhere else, see duskflow.storage.datasets
      steps/<slug>-<fingerprint>/  result.json and what the step made (model, predictions, pictures)
      runs/<run>/                  run.json, leaderboard.csv, report.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import durable
from storage.stores import join, locate

RESULT = "result.json"


@dataclass(frozen=True)
class Folders:
    """The folders of one pipeline."""

    root: Path
    """The pipeline's own folder, ``<root>/<pipeline>``."""
    elsewhere: str | None = None
    """Where datasets lie if not in the output folder, ``s3://bucket/prefix/<pipeline>``."""

    @classmethod
    def of(cls, name: str, root: Path, datasets: str | None) -> Folders:
        """The folders of a pipeline; `datasets` is the setting ``duskflow.storage.datasets``."""
        return cls(root / name, join(datasets, name) if datasets else None)

    @property
    def datasets(self) -> str:
        """What holds the datasets."""
        return self.elsewhere or locate(self.root / "datasets")

    def dataset(self, name: str) -> str:
        """Location of a dataset."""
        return join(self.datasets, name)

    def relative(self, path: str) -> str:
        """A dataset's path as runs remember it: from the pipeline's folder, so that a root can be moved; or a URL."""
        if self.elsewhere:
            return path
        return str(Path(path).resolve().relative_to(self.root.resolve()))

    def step(self, label: str, fingerprint: str) -> Path:
        """Folder of a method's or network's result."""
        # A long printed form is cut: file systems allow 255 bytes, and the fingerprint tells steps apart.
        slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower()[:60].strip("-")
        return self.root / "steps" / f"{slug}-{fingerprint[:12]}"

    def run(self, name: str) -> Path:
        """Folder of a run."""
        return self.root / "runs" / name

    def read_result(self, label: str, fingerprint: str) -> dict[str, Any] | None:
        """Read the result of a step that is done; None if it is not."""
        path = self.step(label, fingerprint) / RESULT
        try:
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return None  # damaged: the step is done again
        return document if document.get("fingerprint") == fingerprint else None

    def write_result(self, label: str, fingerprint: str, result: dict[str, Any]) -> None:
        """Commit a step: its result is written last, whole or not at all."""
        folder = self.step(label, fingerprint)
        durable.make_folder(folder)
        durable.replace_json(folder / RESULT, {**result, "fingerprint": fingerprint})
