"""Image sets that `datasets` reads: saved to disk, and the Parquet files of the hub."""

import logging

import datasets
import numpy as np
import pytest
from digit_files import DIGITS, TARGET, TEST, TRAIN, any_order, encoded, same_digits
from PIL import Image

from dlkd.data import DataOptions, ViewOptions, load_data, view_family
from dlkd.data.sources import hugging_face
from dlkd.errors import UserError


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


def test_an_image_in_train_and_test_is_told(tmp_path):
    datasets.DatasetDict(train=hub(TRAIN), test=hub([20, 3])).save_to_disk(tmp_path / "both")
    (told,) = load_data(DataOptions(f"hf:{tmp_path / 'both'}", held_out=0.0)).remarks
    assert told.startswith("1 of 2 test images are training images too, such as row 3 of train = row 1 of test")


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


@pytest.fixture
def logged():
    """What `datasets` logs, which a user would see above the one line."""
    records, logger = [], logging.getLogger("datasets")
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@pytest.mark.parametrize("kind", ["parquet", "disk"])
def test_damaged_files_are_one_line(tmp_path, logged, kind):
    if kind == "parquet":
        hub(TRAIN).to_parquet(tmp_path / "train.parquet")
    else:
        hub(TRAIN).save_to_disk(tmp_path)
    damaged = next(path for path in tmp_path.iterdir() if path.suffix in (".parquet", ".arrow"))
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(UserError, match=r"could not read .* with datasets .*expected a folder") as error:
        hugging_face(str(tmp_path), download=False)
    assert "\n" not in str(error.value)
    assert not logged, logged


def test_a_damaged_image_is_named_by_its_row(tmp_path):
    images = [{"bytes": encoded(k) if k else b"not an image", "path": None} for k in TRAIN]
    columns = {"image": images, "label": [int(TARGET[k]) for k in TRAIN]}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "train.parquet")
    pixels = hugging_face(str(tmp_path / "train.parquet"), download=False).train.pixels
    with pytest.raises(UserError, match=r"row 0 of train is damaged or no image \(in no known format\)"):
        pixels.load(0)
    assert pixels.load(1).size == (8, 8)
