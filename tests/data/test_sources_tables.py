"""CSV and Parquet tables, tar shards, Hugging Face sets and any Dataset object: random access to the right pixels."""

import csv
import io
import json
import sys
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from dlkd.data import DataOptions, Steps, ViewOptions, load_data, view_family
from dlkd.data.sources import from_dataset, hugging_face, open_source, table, webdataset
from dlkd.data.sources.shards import expand
from dlkd.errors import UserError

DIGITS = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
TARGET = load_digits().target
TRAIN, TEST = range(20), range(20, 26)


def encoded(k, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(DIGITS[k]).save(file, kind)
    return file.getvalue()


def same_digits(samples, numbers):
    """Whether the samples show these digits, in order, with their labels."""
    shown = [np.asarray(samples.pixels.load(k))[..., 0] for k in range(len(samples))]
    names = [samples.class_names[y] for y in samples.labels.tolist()]
    return np.array_equal(shown, DIGITS[list(numbers)]) and names == [str(y) for y in TARGET[list(numbers)]]


def any_order(samples, numbers):
    """The same for a random choice: access by position, not by turn."""
    order = np.random.default_rng(0).permutation(len(samples))
    assert same_digits(samples.take(order), np.array(numbers)[order])
    assert samples.take(order).digest() != samples.digest() == samples.take(np.arange(len(samples))).digest()


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    for k in (*TRAIN, *TEST):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / f"{k}.png").write_bytes(encoded(k))
    return tmp_path


def written(path, columns):
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.table(columns), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    return path


def rows(numbers, folder="images"):
    return {"path": [f"{folder}/{k}.png" for k in numbers], "label": [int(TARGET[k]) for k in numbers]}


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
        ("t.csv", b"path,label\n\xff,1\n", "damaged or no table"),
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


# --- shards ---------------------------------------------------------------------------------------------------------


def shard(path, numbers, label=lambda k: {"cls": str(TARGET[k])}, kind="png", mode="w"):
    with tarfile.open(path, mode) as archive:
        for k in numbers:
            for suffix, content in {kind: encoded(k), **label(k)}.items():
                content = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(f"./{k:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def test_shards(tmp_path):
    shard(tmp_path / "train-000.tar", TRAIN[:12])
    shard(tmp_path / "train-001.tar", TRAIN[12:])
    shard(tmp_path / "val-000.tar", TEST)
    for root in (tmp_path, tmp_path / "*.tar", f"{tmp_path}/train-{{000..001}}.tar::{tmp_path}/val-000.tar"):
        train, test, remarks = webdataset(Path(root))
        assert same_digits(train, TRAIN) and same_digits(test, TEST) and not remarks
    any_order(train, TRAIN)
    assert train.pixels.name(13) == "train-001.tar/./000013.png"
    assert webdataset(tmp_path / "train-{000..001}.tar").test is None
    only = load_data(DataOptions("webdataset", tmp_path / "train-{000..001}.tar", held_out=0.0, test_share=0.3))
    assert "webdataset names no test images" in only.remarks[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_views_of_shards_are_those_of_files(tmp_path, files, workers):
    shard(files / "train.tar", TRAIN)
    from_files = load_data(DataOptions("table", written(files / "t.csv", rows(TRAIN)), held_out=0.0, test_share=0.5))
    from_shard = load_data(DataOptions("webdataset", files / "train.tar", held_out=0.0, test_share=0.5))
    a, b = (view_family(ViewOptions(), data, 3, 16) for data in (from_files, from_shard))
    for x, y in zip(Steps(a, 4).loader(2, 7, workers), Steps(b, 4).loader(2, 7, workers), strict=True):
        assert torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels)


def test_labels_in_json_and_names_beside(tmp_path):
    label = lambda k: {"json": json.dumps({"label": int(TARGET[k]), "caption": "x"}), "txt": "a digit"}  # noqa: E731
    shard(tmp_path / "a.tar", TRAIN, label)
    (tmp_path / "classes.txt").write_text("".join(f"digit {k}\n" for k in range(12)))
    train = webdataset(tmp_path).train
    assert train.class_names[3] == "digit 3" and len(train.class_names) == 12
    assert train.labels.tolist() == TARGET[:20].tolist()


def test_patterns():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{t-{0..1},v}.tar") == ["t-0.tar", "v.tar", "t-1.tar"] and expand("plain") == ["plain"]


def test_shards_that_cannot_be(tmp_path):
    whole = shard(tmp_path / "train-0.tar", TRAIN).read_bytes()
    for pattern, message in (
        ("train-{0..2}.tar", r"expected an archive at .*train-1.tar, but there is none"),
        ("*.zip", "expected .tar archives at --data.root"),
    ):
        with pytest.raises(UserError, match=message):
            webdataset(tmp_path / pattern)
    for name, content in {
        "half.tar": whole[: len(whole) // 2 + 100],
        "text.tar": b"hello" * 300,
        "empty.tar": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is damaged or no plain .tar") as error:
            webdataset(tmp_path / name)
        assert "\n" not in str(error.value)
    shard(tmp_path / "packed.tar", TRAIN, mode="w:gz")
    with pytest.raises(UserError, match=r"packed.tar is damaged or no plain .tar archive .*unpack a compressed one"):
        webdataset(tmp_path / "packed.tar")
    shard(tmp_path / "bare.tar", TRAIN, lambda k: {"txt": "x"} if k == 7 else {"cls": "1"})
    with pytest.raises(UserError, match=r"a .cls or .json with a label for ./000007.png in .*bare.tar"):
        webdataset(tmp_path / "bare.tar")
    shard(tmp_path / "test.tar", TEST)
    with pytest.raises(UserError, match="test images alone"):
        webdataset(tmp_path / "test.tar")
    shard(tmp_path / "json.tar", TRAIN, lambda k: {"json": "{"})
    with pytest.raises(UserError, match=r"json.tar is damaged"):
        webdataset(tmp_path / "json.tar")


def test_a_damaged_image_in_a_shard_is_named(tmp_path):
    shard(tmp_path / "a.tar", TRAIN)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for name, content in (("x.png", b"not an image"), ("x.cls", b"0"), ("y.png", encoded(0)), ("y.cls", b"1")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    pixels = webdataset(tmp_path / "b.tar").train.pixels
    with pytest.raises(UserError, match=r"x.png in .*b.tar is damaged or no image \(in no known format\)"):
        pixels.load(0)
    assert pixels.load(1).size == (8, 8)


# --- Hugging Face ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


NAMES = datasets.ClassLabel(names=[str(k) for k in range(10)])


def hub(numbers, label=NAMES, **more):
    columns = {"image": [Image.fromarray(DIGITS[k]) for k in numbers], "label": [int(TARGET[k]) for k in numbers]}
    features = {"image": datasets.Image(), "label": label}
    found = datasets.Dataset.from_dict(columns, datasets.Features(features))
    for name, values in more.items():
        found = found.add_column(name, values)
    return found


def test_saved_to_disk(tmp_path):
    datasets.DatasetDict(train=hub(TRAIN), test=hub(TEST)).save_to_disk(tmp_path / "both")
    train, test, _ = hugging_face(str(tmp_path / "both"), download=False)
    assert same_digits(train, TRAIN) and same_digits(test, TEST) and train.class_names == tuple("0123456789")
    any_order(train, TRAIN)
    hub(TRAIN).save_to_disk(tmp_path / "one")
    data = load_data(DataOptions(f"hf:{tmp_path / 'one'}", held_out=0.0, test_share=0.5))
    assert len(data.train) + len(data.test) == 20 and "names no test images" in data.remarks[0]
    images = view_family(ViewOptions("none"), data, 0, 8).batch(np.arange(3), np.zeros(3, np.int64)).images
    assert images.shape == (3, 3, 8, 8)


def test_parquet_of_the_hub(tmp_path):
    (tmp_path / "data").mkdir()
    hub(TRAIN).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    hub(TEST).to_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet")
    train, test, _ = hugging_face(str(tmp_path), download=False)
    assert same_digits(train, TRAIN) and same_digits(test, TEST)
    one, none, _ = hugging_face(str(tmp_path / "data" / "train-00000-of-00001.parquet"), download=False)
    assert same_digits(one, TRAIN) and none is None


def test_a_test_part_without_labels_is_passed_over(tmp_path):
    hidden = hub(TEST).map(lambda row: {"label": -1})
    datasets.DatasetDict(train=hub(TRAIN), test=hidden, validation=hub(TEST)).save_to_disk(tmp_path / "x")
    assert same_digits(hugging_face(str(tmp_path / "x"), download=False).test, TEST)
    datasets.DatasetDict(train=hub(TRAIN), test=hidden).save_to_disk(tmp_path / "y")
    assert hugging_face(str(tmp_path / "y"), download=False).test is None


def test_labels_in_words_and_columns_by_name(tmp_path):
    words = [f"digit {TARGET[k]}" for k in TRAIN]
    hub(TRAIN, datasets.Value("int64"), words=words, label_2=words).save_to_disk(tmp_path / "x")
    name = str(tmp_path / "x")
    assert hugging_face(name, False).train.class_names == tuple(str(k) for k in range(10))
    assert hugging_face(name, False, "image", "words").train.class_names[3] == "digit 3"
    with pytest.raises(UserError, match=r"expected a column 'no' in .*found image, label, words, label_2; mend"):
        hugging_face(name, False, None, "no")
    hub(TRAIN).rename_column("label", "a").add_column("b", words).remove_columns("a").save_to_disk(tmp_path / "z")
    with pytest.raises(UserError, match=r"expected one column of labels in .*found image, b; .*--data.label_column"):
        hugging_face(str(tmp_path / "z"), False)


def test_hub_sets_that_cannot_be(tmp_path):
    for name in (str(tmp_path / "nothing"), "no-such/data-set-of-nobody"):
        with pytest.raises(UserError, match=r"could not read .* with datasets .*expected a folder") as error:
            hugging_face(name, download=False)
        assert "\n" not in str(error.value)
    bare = hub(TRAIN).map(lambda row, k: {"label": -1 if k < 3 else 1}, with_indices=True)
    bare.save_to_disk(tmp_path / "bare")
    with pytest.raises(UserError, match=r"a label in every row of .*but 3 of its train rows have none"):
        hugging_face(str(tmp_path / "bare"), download=False)
    other = hub(TEST, datasets.ClassLabel(names=[*"9876543210"]))
    datasets.DatasetDict(train=hub(TRAIN), test=other).save_to_disk(tmp_path / "other")
    with pytest.raises(UserError, match=r"expected the test images of .* to have the classes of its training images"):
        hugging_face(str(tmp_path / "other"), download=False)
    datasets.DatasetDict(a=hub(TRAIN), b=hub(TEST)).save_to_disk(tmp_path / "ab")
    with pytest.raises(UserError, match=r"a split called train in .*but found a, b"):
        hugging_face(str(tmp_path / "ab"), download=False)


# --- objects --------------------------------------------------------------------------------------------------------


class Photos:
    """A map-style data set of PIL images."""

    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, k):
        return Image.fromarray(DIGITS[self.numbers[k]]), int(TARGET[self.numbers[k]])


def test_objects(tmp_path):
    any_order(from_dataset(Photos(TRAIN)), TRAIN)
    grey, target = torch.from_numpy(DIGITS[:20])[:, None], torch.from_numpy(TARGET[:20])
    assert same_digits(from_dataset(TensorDataset(grey, target)), TRAIN)
    assert same_digits(from_dataset(TensorDataset(grey.float().expand(-1, 3, -1, -1) / 255, target)), TRAIN)
    named = from_dataset(Photos(TRAIN), [f"digit {k}" for k in range(10)])
    assert named.class_names[9] == "digit 9" and named.pixels.name(3) == "3"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (iter(()), "to have a length and samples by number, but got tuple_iterator"),
        ([], "expected a label for each sample of the data set, but found 0"),
        (
            [(Image.new("L", (8, 8)), "cat")] * 4,
            r"give \(image, class number\) for each sample, but it failed: invalid",
        ),
        ([Image.new("L", (8, 8))] * 4, "but it failed"),
        ([("x.png", 0), ("y.png", 1)], "sample 0 of the data set cannot be read: .*but got str"),
        ([(torch.randn(3, 8, 8) * 9, k) for k in (0, 1)], r"in \[0, 1\], but got .*leave out the normalisation"),
        ([(torch.zeros(4, 8, 8), k) for k in (0, 1)], r"one or three channels, but got \[4, 8, 8\]"),
        ([(torch.zeros(3, 8, 8).long(), k) for k in (0, 1)], "uint8 or floating-point pixels, but got int64"),
        ([(torch.zeros(3, 8, 8), 0)] * 2, r"at least two classes in the data set, but found 1 \(0\)"),
        ([(torch.zeros(3, 8, 8), k) for k in (-1, 0)], "count the classes from 0, but found -1"),
    ],
)
def test_objects_that_cannot_be(data, message):
    with pytest.raises(UserError, match=message) as error:
        from_dataset(data)
    assert "\n" not in str(error.value)


FACTORIES = """
from pathlib import Path
from torchvision.datasets import FakeData

def pair(root):
    assert isinstance(root, Path)
    fake = FakeData(24, (3, 16, 16), 3), FakeData(6, (3, 16, 16), 3, random_offset=24)
    for each in fake:
        each.classes = ["x", "y", "z"]
    return fake

def one():
    return FakeData(24, (3, 16, 16), 3)

def three():
    return 1, 2, 3

def fails():
    raise RuntimeError("no disk")
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "own_images.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_images", None)


def test_factories(factories, tmp_path, dlkd):
    data = load_data(DataOptions("own_images:pair", held_out=0.0))
    assert (len(data.train), len(data.test)) == (24, 6) and data.train.class_names == ("x", "y", "z")
    assert "names no test images" in load_data(DataOptions("own_images:one")).remarks[0]
    done = dlkd(
        *("train", "--out", tmp_path / "out", "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "own_images:pair", "--data.image_size", 16, "--data.workers", 0, "--optim.batch_size", 8),
        *("--engine.report", "false", "--engine.threads", 1, "--engine.tensorboard", "false", "--data.held_out", 0),
    )
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_images:three", r"give \(training, test\) images, but got 3 things"),
        ("own_images:fails", "own_images:fails raised RuntimeError: no disk"),
        ("own_images:none", "expected 'none' in 'own_images' for the data set"),
        ("no_such_module:x", "expected a Python module 'no_such_module' for the data set"),
        ("cifar-10", r"one of digits, cifar10, .*but got 'cifar-10'; did you mean cifar10\?"),
        ("hf:", "--data.name to be one of"),
    ],
)
def test_names_that_cannot_be(factories, dlkd, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load_data(DataOptions(name))
    done = dlkd("train", "--out", tmp_path / "out", "--data.name", name)
    assert done.status == 2 and len(done.err.strip().splitlines()) == 1
