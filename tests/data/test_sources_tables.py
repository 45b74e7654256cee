"""CSV, TSV and Parquet tables of paths and labels."""

import pytest
from digit_files import TARGET, TEST, TRAIN, any_order, rows, same_digits, written

from dlkd.data import DataOptions, load_data
from dlkd.data.sources import open_source, table
from dlkd.errors import UserError


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_a_table(files, suffix):
    both = rows((*TRAIN, *TEST)) | {"split": ["train"] * len(TRAIN) + ["validation"] * len(TEST)}
    train, test, remarks = table(written(files / f"t.{suffix}", both))
    assert same_digits(train, TRAIN) and same_digits(test, TEST) and not remarks
    assert train.pixels.name(3) == "images/3.png"
    any_order(train, TRAIN)
    data = load_data(DataOptions("table", files / f"t.{suffix}", held_out=0.0))
    assert (len(data.train), len(data.test)) == (20, 6)


def test_a_table_with_other_columns_absolute_paths_and_no_split(files, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("table") / "t.csv"
    columns = {"picture": [f"{files}/images/{k}.png" for k in TRAIN], "kind": [f"digit {TARGET[k]}" for k in TRAIN]}
    written(elsewhere, columns)
    source = open_source("table", elsewhere, image_column="picture", label_column="kind")
    assert source.test is None and source.train.class_names == tuple(f"digit {k}" for k in range(10))
    assert source.train.pixels.name(0) == f"{files}/images/0.png" and source.train.digest()
    with pytest.raises(UserError, match=r"expected a column 'path' in .*found picture, kind; .*--data.image_column"):
        table(elsewhere)
    with pytest.raises(UserError, match=r"expected a column 'no' in .*--data.label_column"):
        table(elsewhere, "picture", "no")


def test_columns_are_those_of_tables():
    with pytest.raises(UserError, match=r"expected --data.name table or hf:… with --data.label_column, but got digits"):
        load_data(DataOptions(label_column="x"))


def test_rows_of_a_third_part(files):
    parts = ["train"] * 20 + ["test"] * 3 + ["val"] * 3
    source = table(written(files / "t.csv", rows((*TRAIN, *TEST)) | {"set": parts}))
    assert len(source.test) == 3 and source.remarks == ("3 rows of t.csv are neither train nor test and were left out",)


def test_numbers_that_do_not_begin_at_zero_are_names(files):
    labels = [(9, 10, 100)[k % 3] for k in TRAIN]
    source = table(written(files / "t.csv", rows(TRAIN) | {"label": labels}))
    assert source.train.class_names == ("9", "10", "100")  # as numbers, where text would put 10 first
    assert source.train.labels.tolist() == [k % 3 for k in TRAIN]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"path": ["images/0.png"] * 19 + ["images/no.png"]},
            r"row 20 of .*t.csv names .*no.png, but there is no such",
        ),
        ({"label": [1] * 20}, r"at least two classes in .*t.csv, but found 1 \(1\)"),
        ({"label": ["a"] * 10 + [""] * 10}, "expected a label in every row of .*t.csv, but row 11 has none"),
        ({"split": ["train"] * 19 + ["tset"]}, "expected train, test or val as the split in .*row 20 says 'tset'"),
        ({"split": ["test"] * 20}, "no row says train"),
        ({"label": ["a"] * 9 + ["b"] * 11, "split": ["train"] * 10 + ["test"] * 10}, None),
        ({"label": ["a", "b"] * 5 + ["c"] * 10, "split": ["train"] * 10 + ["test"] * 10}, "but found 'c' too"),
    ],
)
def test_tables_that_cannot_be(files, changes, message):
    path = written(files / "t.csv", rows(TRAIN) | changes)
    if message is None:
        assert len(table(path).test) == 10
        return
    with pytest.raises(UserError, match=message) as error:
        table(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "damaged or no table"),
        ("t.csv", b"path,label\na.png\n", "damaged or no table: row 1 has 1 fields, the first line 2"),
        ("t.csv", b"path,label\n\xff,1\n", "there is no such file"),
        ("t.csv", b'path,label\n"a.png,1\n', "damaged or no table"),
        ("t.parquet", b"PAR1 no", "damaged or no table"),
        ("t.xlsx", b"", "to be a .csv, .tsv or .parquet file"),
    ],
)
def test_files_that_are_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        table(tmp_path / name)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"there is none; give it as --data.root"):
        table(tmp_path / "none.csv")


def test_any_cut_of_a_parquet_table_is_noticed(files):
    path = written(files / "t.parquet", rows(TRAIN))
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"t.parquet is damaged or no table") as error:
            table(path)
        assert "\n" not in str(error.value)
