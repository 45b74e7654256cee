"""Tables: whatever a name is, it is read as it was written."""

import csv
import io
import os

import numpy as np
import pytest

from dlkd.data.sources.table import read_table
from dlkd.report.table import table_bytes

NAMES = ["a\rb", "\r", "a\r\nb", "a\nb", "a\n", '"', 'a"b', "a,b", "a\tb", "a;b", " a ", "=1+1", "", "ü", "plain"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_round_trip(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    columns = {"id": np.arange(len(NAMES)), "a\rcolumn": np.array(NAMES)}
    file = tmp_path / f"t.{kind}"
    file.write_bytes(table_bytes(columns, kind))
    found = read_table(file)
    assert list(found) == list(columns) and list(found["a\rcolumn"]) == NAMES
    assert [int(str(value)) for value in found["id"]] == list(range(len(NAMES)))


def test_only_names_with_line_breaks_are_written_otherwise_than_by_csv():
    """Files that were written before stay what they were."""
    names, plain = [n for n in NAMES if "\r" not in n], io.StringIO()
    rows = [(k, name, 0.1 * k) for k, name in enumerate(names)]
    csv.writer(plain, lineterminator="\n").writerows([("id", "name", "x"), *rows])
    columns = {"id": np.arange(len(names)), "name": np.array(names), "x": np.array([row[2] for row in rows])}
    assert table_bytes(columns, "csv") == plain.getvalue().encode()


def test_bytes_that_are_no_text_stay_what_they_are():
    assert b"\xff.png" in table_bytes({"path": np.array([os.fsdecode(b"\xff.png")])}, "csv")
