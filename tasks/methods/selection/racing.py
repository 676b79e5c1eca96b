"""One search as it runs: candidates go from rung to rung, and what is finished is kept on the disk."""

from __future__ import annotations

import contextvars
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning

from storage.durable import replace
from tasks.methods.selection.advancing import Stream, dump_model
from tasks.methods.selection.brackets import Rung
from tasks.methods.selection.journal import Journal


class Race:
    """One search as it runs: what is known of each candidate."""

    def __init__(self, search: Any, stream: Stream, journal: Journal | None, given: dict[str, Any]) -> None:
        self._search = search
        self._stream = stream
        self._journal = journal
        self._given = given
        self.history: list[dict[str, Any]] = []
        self.finals: list[int] = []
        # Candidates that are in the race: their parameters, their calls so far, and their models if they are here.
        self._params: dict[int, dict] = {}
        self._calls: dict[int, int] = {}
        self._models: dict[int, np.ndarray] = {}

    def run(self, bracket: int, rungs: list[Rung], candidates: dict[int, dict]) -> None:
        """Race the candidates of a bracket, by their numbers."""
        self._params |= candidates
        racing = list(candidates)
        for number, rung in enumerate(rungs):
            racing, out = racing[: rung.candidates], racing[rung.candidates :]
            self._forget(out)
            with ThreadPoolExecutor(self._search.in_flight, "search") as pool:
                # A thread starts without the context that names the client.
                futures = [pool.submit(contextvars.copy_context().run, self._one, i, rung.calls) for i in racing]
                try:
                    found = [future.result() for future in futures]
                finally:
                    for future in futures:
                        future.cancel()
            place = {"bracket": bracket, "rung": number, "partial_fit_calls": rung.calls}
            self.history += [{"candidate": i, **place, **result} for i, result in zip(racing, found, strict=True)]
            errors = [result["error"] for result in found if result["error"]]
            if errors:
                self._warn(bracket, errors, len(found))
            good = {i: result["score"] for i, result in zip(racing, found, strict=True) if not result["error"]}
            self._forget([i for i in racing if i not in good])
            racing = sorted(good, key=lambda i: (-good[i], i))
        self.finals += racing

    def model(self, i: int) -> np.ndarray:
        """Return the model of a candidate as its last rung left it."""
        if i not in self._models:
            path = self._path(i, self._calls[i])
            if path is not None and path.exists():
                self._models[i] = np.frombuffer(path.read_bytes(), np.uint8)
            else:
                self._models[i] = self._advance(i, 0, self._calls[i])
        return self._models[i]

    def _one(self, i: int, calls: int) -> dict[str, Any]:
        key = f"{i}-{calls}"
        if self._journal is not None and key in self._journal.done:
            self._calls[i] = calls
            self._models.pop(i, None)
            return {"error": None, **self._journal.done[key]}
        begun = fitted = time.perf_counter()
        error, score = None, np.nan
        before = self._calls.get(i, 0)
        try:
            state = self._advance(i, before, calls)
            fitted = time.perf_counter()
            score = self._stream.score(state, self._search.scoring)
            if np.isnan(score):
                raise ValueError("the score is not a number")
        except Exception as caught:
            if self._search.error_score == "raise":
                raise
            error, score = f"{type(caught).__name__}: {caught}", float(self._search.error_score)
            fitted = max(fitted, begun)
        result = {"score": score, "fit_time": fitted - begun, "score_time": time.perf_counter() - fitted}
        if error is None:
            self._models[i], self._calls[i] = state, calls
            self._note(i, before, calls, result)
        return {"error": error, **result}

    def _advance(self, i: int, begin: int, end: int) -> np.ndarray:
        if begin == 0:
            model = clone(self._search.estimator).set_params(**clone(self._params[i], safe=False))
            state = dump_model(model)
        else:
            state = self.model(i)
        return self._stream.advance(state, begin, end, self._given)

    def _note(self, i: int, before: int, calls: int, result: dict[str, Any]) -> None:
        path = self._path(i, calls)
        if path is None or self._journal is None:
            return
        replace(path, memoryview(self._models[i]))
        self._journal.add(f"{i}-{calls}", result)
        old = self._path(i, before)
        if before and old is not None:
            old.unlink(missing_ok=True)

    def _forget(self, numbers: list[int]) -> None:
        for i in numbers:
            self._models.pop(i, None)
            if self._journal is not None:
                for path in Path(self._search.resume).glob(f"model-{i}-*.pickle"):
                    path.unlink(missing_ok=True)

    def _path(self, i: int, calls: int) -> Path | None:
        return None if self._journal is None else Path(self._search.resume) / f"model-{i}-{calls}.pickle"

    def _warn(self, bracket: int, errors: list[str], count: int) -> None:
        if len(errors) == count:
            raise ValueError(f"all {count} candidates of bracket {bracket} failed; the first: {errors[0]}")
        told = f"{len(errors)} of {count} candidates failed and go no further; the first: {errors[0]}"
        warnings.warn(told, FitFailedWarning, stacklevel=4)
