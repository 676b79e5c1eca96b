"""Texts and labels in the columns of a table: CSV, JSON Lines or Parquet.

CSV is read by Python's own reader in its strict mode: pandas drops the surplus fields of a line with an unquoted
comma without a word, and takes "NA" and "null" for missing texts.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import numpy as np

from tasks.sources.files import absolute, digest, file_digest, once, stamp
from tasks.sources.samples import (
    Samples,
    SourceError,
    checked_classes,
    checked_positions,
    codes_of_names,
    codes_of_splits,
    slice_positions,
)

_FORMATS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
_UNREADABLE = (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, csv.Error, json.JSONDecodeError)
#: A longer field is a quotation mark that nobody closed. The csv module's own bound is 131,072.
_FIELD_BYTES = 1 << 26


class _Content(NamedTuple):
    texts: list[str]
    codes: np.ndarray | None
    classes: tuple[str, ...]
    splits: np.ndarray | None


def _format(path: str) -> str:
    for ending in _FORMATS:
        if path.lower().endswith(ending):
            return ending.removesuffix(".gz")
    raise ValueError(f"expected a table that ends in one of {', '.join(_FORMATS)}, received {path}")


def _open_text(path: str) -> TextIO:
    if path.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _csv_rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_BYTES))
    with _open_text(path) as stream:
        reader = csv.reader(stream, strict=True)
        header = next(reader, [])
        places = [header.index(column) for column in columns]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise SourceError(
                    f"{path}: expected {len(header)} fields as in the header, received {len(row)} in the row that ends "
                    f"in line {reader.line_num}; do quote fields with commas, or fetch a whole file"
                )
            yield f"the row that ends in line {reader.line_num}", [row[place] for place in places]


def _jsonl_rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    with _open_text(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise SourceError(
                    f"{path}: expected one JSON object per line, line {number} is not ({error})"
                ) from error
            if not isinstance(row, dict):
                raise SourceError(f"{path}: expected one JSON object per line, received {row!r} in line {number}")
            yield f"line {number}", [row.get(column) for column in columns]


def _parquet_rows(path: str, columns: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    from pyarrow import parquet

    table = parquet.read_table(path, columns=list(columns))
    for number, row in enumerate(zip(*(table[column].to_pylist() for column in columns), strict=True)):
        yield f"row {number}", list(row)


def _column_names(path: str, form: str) -> list[str]:
    """The columns, from the head of the file alone."""
    if form == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_schema(path).names)
    with _open_text(path) as stream:
        if form == ".csv":
            return next(csv.reader(stream, strict=True), [])
        first = json.loads(stream.readline() or "{}")
        return list(first) if isinstance(first, dict) else []


def _name(value: Any) -> str | None:
    """A label as a name; None for what is missing or is no name."""
    if isinstance(value, bool | int | str):
        return str(value) or None
    return None


class Table:
    """Texts, and labels if there are any, in the columns of a CSV, JSON Lines or Parquet file.

    Parameters
    ----------
    path : path
        Ends in ``.csv``, ``.csv.gz``, ``.jsonl``, ``.jsonl.gz`` or ``.parquet``; UTF-8. CSV has a header line.
    text : str
        The column of the texts.
    label : str or None
        The column of the labels, strings or integers; None when there are no labels.
    split : str, optional
        A column with train, validation and test.
    classes : sequence of str, optional
        Names of the labels in the order of their codes; without, the names that occur, sorted.
    where : mapping, optional
        Keep rows whose columns equal these values only, as in ``where={"source": "imdb"}``.
    name, licence : str, optional
        For logs and reports.

    Raises
    ------
    FileNotFoundError
        The file is not there.
    SourceError
        A column is missing; on reading, a truncated file, an empty text or label, a label that is not in `classes`.

    Notes
    -----
    The columns are read once per process, on first use, and kept in memory.
    """

    kind = "texts"
    sample_shape = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        text: str = "text",
        label: str | None = "label",
        split: str | None = None,
        classes: Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        licence: str | None = None,
    ) -> None:
        self.path = absolute(path)
        self.text, self.label, self.split = text, label, split
        self.where = dict(where or {})
        self.name = name or os.path.basename(self.path).split(".")[0]
        self.licence = licence
        self._format = _format(self.path)
        self._given_classes = checked_classes(classes)
        if label is None and classes is not None:
            raise ValueError("expected a label column for the classes, received label=None; do leave classes out")
        stamp(self.path)
        try:
            present = _column_names(self.path, self._format)
        except (*_UNREADABLE, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        missing = [column for column in self._columns() if column not in present]
        if missing:
            raise SourceError(
                f"{self.path}: expected the columns {missing}, the file has {present}; do name its columns"
            )

    def __repr__(self) -> str:
        return f"Table({self.path!r}, text={self.text!r}, label={self.label!r})"

    def _unreadable(self, error: Exception) -> SourceError:
        kind = self._format.removeprefix(".")
        return SourceError(f"{self.path}: truncated, or no {kind} file in UTF-8 ({error}); do fetch or save it again")

    def _columns(self) -> list[str]:
        named = [self.text, self.label, self.split, *self.where]
        return list(dict.fromkeys(column for column in named if column is not None))

    def _kept_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        read = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}[self._format]
        columns = self._columns()
        for place, values in read(self.path, columns):
            row = dict(zip(columns, values, strict=True))
            if all(str(row[column]) == str(value) for column, value in self.where.items()):
                yield place, row

    def _load(self) -> tuple[_Content, int]:
        texts, names, splits = [], [], []
        for place, row in self._kept_rows():
            text = row[self.text]
            if not isinstance(text, str) or not text:
                raise SourceError(
                    f"{self.path}: expected a text, received {text!r} in {place}; do drop or fill the row"
                )
            texts.append(text)
            if self.label is not None:
                name = _name(row[self.label])
                if name is None:
                    raise SourceError(
                        f"{self.path}: expected a label (string or integer), received {row[self.label]!r} in {place}; "
                        "do drop or fill the row"
                    )
                names.append(name)
            if self.split is not None:
                splits.append(row[self.split])
        if not texts:
            filtered = f" where {self.where}" if self.where else ""
            raise SourceError(f"{self.path}: expected at least one row{filtered}, received none")
        codes, classes = (None, ()) if self.label is None else codes_of_names(names, self._given_classes, self.path)
        split_codes = None if self.split is None else codes_of_splits(splits, len(texts), self.path)
        return _Content(texts, codes, classes, split_codes), sum(map(len, texts)) + 60 * len(texts)

    def _content(self) -> _Content:
        parameters = (self.text, self.label, self.split, self._given_classes, repr(self.where))

        def load() -> tuple[_Content, int]:
            try:
                return self._load()
            except SourceError:
                raise
            except (*_UNREADABLE, OSError, ValueError) as error:
                raise self._unreadable(error) from error

        return once(("table", stamp(self.path), parameters), load)

    def __len__(self) -> int:
        return len(self._content().texts)

    def __getitem__(self, key: slice) -> Samples:
        return self.take(slice_positions(key, len(self)))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels, () without labels."""
        return self._content().classes

    @property
    def splits(self) -> np.ndarray | None:
        """uint8 (n,) from the split column; None without one."""
        return self._content().splits

    def labels(self) -> np.ndarray | None:
        """All labels, int64 (n,); None without labels."""
        codes = self._content().codes
        return None if codes is None else codes.copy()

    def take(self, indices: Any) -> Samples:
        """Samples at positions; see `Source.take`."""
        content = self._content()
        positions = checked_positions(indices, len(content.texts))
        texts = [content.texts[row] for row in positions.tolist()]
        return Samples(texts, None if content.codes is None else content.codes[positions])

    def fingerprint(self) -> str:
        """A hex digest of the file and of the parameters."""
        parameters = (self.text, self.label, self.split, self._given_classes, sorted(self.where.items()))
        return digest("Table", file_digest(self.path), parameters)

    def describe(self) -> dict[str, Any]:
        """Where the samples come from, as JSON."""
        where = {column: str(value) for column, value in self.where.items()}
        parameters = {"text": self.text, "label": self.label, "split": self.split, "where": where}
        return {
            "source": "Table",
            "name": self.name,
            "parameters": parameters,
            "found": [self.path],
            "licence": self.licence,
            "skipped": [],
        }
