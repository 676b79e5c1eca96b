from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.sources import SourceError, Table


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_table__text_that_looks_missing_is_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label\nNA,null\nnan,None\n")
    source = Table(path)
    assert source[:].values == ["NA", "nan"]
    assert source.classes == ("None", "null")


def test_table__byte_order_mark_of_spreadsheets(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\nA,1\n", encoding="utf-8-sig")
    assert Table(tmp_path / "t.csv")[:].values == ["A"]


def test_table__own_column_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "id,body,stars\n1,good,5\n2,bad,10\n")
    source = Table(path, text="body", label="stars")
    assert source[:].values == ["good", "bad"]
    assert source.classes == ("5", "10")


def test_table__long_field(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", f"text,label\n{'a' * 500_000},1\n")
    assert len(Table(path)[:].values[0]) == 500_000


def test_table__where_keeps_equal_rows(tmp_path: Path) -> None:
    rows = [{"text": f"t{n}", "label": n % 2, "source": "ab"[n % 2], "year": 2000 + n} for n in range(6)]
    lines = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)))
    header = ",".join(rows[0])
    comma = write(tmp_path / "t.csv", "\n".join([header, *(",".join(map(str, row.values())) for row in rows)]))
    for path in (lines, comma):
        assert Table(path, where={"source": "b"})[:].values == ["t1", "t3", "t5"]
        assert Table(path, where={"source": "b", "year": 2003})[:].values == ["t3"]
        assert Table(path, where={"source": "b"}).fingerprint() != Table(path).fingerprint()
        with pytest.raises(SourceError, match=r"at least one row where \{'source': 'c'\}"):
            Table(path, where={"source": "c"})[:]


def test_table__split_column(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label,part\na,0,test\nb,1,train\nc,0,validation\n")
    assert Table(path, split="part").splits.tolist() == [2, 0, 1]
    with pytest.raises(SourceError, match=r"expected a split of .* received 'dev' in row 0"):
        Table(write(path, "text,label,part\na,0,dev\n"), split="part")[:]


def test_table__classes_in_the_order_given(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label\na,good\nb,bad\n")
    source = Table(path, classes=["good", "bad"])
    assert source[:].labels.tolist() == [0, 1]
    with pytest.raises(SourceError, match=r"expected a label of \['good', 'poor'\], received 'bad' in row 1"):
        Table(path, classes=["good", "poor"])[:]


def test_table__without_labels(tmp_path: Path) -> None:
    source = Table(write(tmp_path / "t.csv", "text\na\nb\n"), label=None)
    assert source[:].labels is None
    assert source.labels() is None
    assert source.classes == ()


def test_table__missing_columns_are_named_with_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "body,stars\na,1\n")
    with pytest.raises(
        SourceError, match=r"expected the columns \['text', 'label'\], the file has \['body', 'stars'\]"
    ):
        Table(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "text,label\na,1\n,2\n", "expected a text, received '' in the row that ends in line 3"),
        ("t.csv", "text,label\na,1\nb,\n", "expected a label .* in the row that ends in line 3"),
        ("t.csv", "text,label\na,1\nb, with a comma,2\n", "expected 2 fields .* received 3 .* line 3"),
        ("t.csv", "text,label\na,1\nb\n", "expected 2 fields .* received 1 .* line 3"),
        ("t.csv", 'text,label\na,1\n"cut off', "truncated"),
        ("t.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', r"expected a label .* received None in line 2"),
        ("t.jsonl", '{"text": "a", "label": NaN}\n', r"expected a label .* received nan in line 1"),
        ("t.jsonl", '{"text": null, "label": 1}\n', "expected a text, received None in line 1"),
        ("t.jsonl", '{"text": 7, "label": 1}\n', "expected a text, received 7 in line 1"),
        ("t.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "la', "expected one JSON object per line, line 2 is not"),
        ("t.jsonl", '{"text": "a", "label": 1}\n["b", 2]\n', r"received \['b', 2\] in line 2"),
    ],
)
def test_table__wrong_row_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    source = Table(write(tmp_path / name, content))
    with pytest.raises(SourceError, match=said) as caught:
        source[:]
    assert str(tmp_path / name) in str(caught.value)


def test_table__parquet_with_a_null(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a", None], "label": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="expected a text, received None in row 1"):
        Table(tmp_path / "t.parquet")[:]


def test_table__not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("text,label\nfünf,1\n".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        Table(tmp_path / "t.csv")[:]


def test_table__ends_of_lines_inside_texts_are_kept(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b'text,label\r\n"a\r\nb\rc",1\r\n'))
    assert Table(tmp_path / "t.csv.gz")[:].values == ["a\r\nb\rc"]


def test_table__agrees_with_pandas(tmp_path: Path) -> None:
    import pandas as pd

    generator = np.random.default_rng(0)
    letters = np.array(list('ab ,"\n;äß\t'))
    texts = ["x" + "".join(generator.choice(letters, 30)) for _ in range(200)]
    frame = pd.DataFrame({"text": texts, "label": generator.integers(0, 3, 200)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.jsonl", "t.parquet"):
        values, labels = Table(tmp_path / name)[:]
        assert values == texts
        assert np.array_equal(labels, frame["label"])


def test_table__missing_file_or_other_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Table(tmp_path / "nowhere.csv")
    with pytest.raises(ValueError, match=r"ends in one of \.csv, \.csv\.gz"):
        Table(tmp_path / "table.xlsx")


def test_table__made_without_reading_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.csv", "text,label\na,1\n")
    monkeypatch.setattr(Table, "_load", lambda _: pytest.fail("read too early"))
    source: Any = Table(path)
    assert source.kind == "texts"
    assert len(source.fingerprint()) == 40
