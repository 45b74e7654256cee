"""Published data sets, each in the exact layout of its archives, read as their authors mean it."""

import shutil
from pathlib import Path

import layouts
import numpy as np
import pytest
from layouts import CLASSES, LAYOUTS, TEST, TRAIN
from torchvision.datasets import flowers102

from dlkd.data import DataOptions, load_data
from dlkd.data.sources import OFFICIAL, official
from dlkd.errors import UserError

# As published: Le and Yang 2015; Russakovsky et al. 2015; Wah et al. 2011; Khosla et al. 2011; Krause et al. 2013;
# Maji et al. 2013; Quattoni and Torralba 2009; Yao et al. 2011; Nilsback and Zisserman 2008; Parkhi et al. 2012;
# Bossard et al. 2014.
PUBLISHED = {
    "tiny-imagenet": (100_000, 10_000, 200),
    "imagenet": (1_281_167, 50_000, 1000),
    "cub200": (5_994, 5_794, 200),
    "stanford-dogs": (12_000, 8_580, 120),
    "stanford-cars": (8_144, 8_041, 196),
    "fgvc-aircraft": (6_667, 3_333, 100),
    "mit67": (67 * 80, 67 * 20, 67),
    "stanford40": (40 * 100, 5_532, 40),
    "flowers102": (2 * 1_020, 6_149, 102),
    "oxford-pets": (3_680, 3_669, 37),
    "food101": (101 * 750, 101 * 250, 101),
}


def listed(samples):
    return [(samples.pixels.name(k), int(label)) for k, label in enumerate(samples.labels)]


def test_counts_as_published():
    assert {name: (about.train, about.test, about.classes) for name, about in OFFICIAL.items()} == PUBLISHED
    assert PUBLISHED.keys() == LAYOUTS.keys()


@pytest.fixture(autouse=True)
def flowers_of_other_files(monkeypatch):
    """torchvision knows the official lists of Flowers-102 by their md5, which ours cannot have."""
    monkeypatch.setattr(flowers102, "check_integrity", lambda path, md5: Path(path).is_file())


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_official_layout(tmp_path, name):
    make, base = LAYOUTS[name]
    names, found = make(tmp_path)
    train, test, remarks = official(name, tmp_path, download=False)
    assert train.class_names[: len(names)] == tuple(names) == test.class_names[: len(names)]
    for samples, training in ((train, True), (test, False)):
        assert listed(samples) == [(f, y) for f, y, t in found if t == training]
        # Every file shows the digit of its class.
        for k in range(len(samples)):
            shown = np.asarray(samples.pixels.load(k).resize((8, 8))).mean(axis=2) / 255 * 16
            nearest = np.abs(layouts.DIGITS.images - shown).mean(axis=(1, 2)).argmin()
            assert layouts.DIGITS.target[nearest] == samples.labels[k]
    expected = OFFICIAL[name]
    assert f"{name} has {CLASSES * TRAIN} training and {CLASSES * TEST} test images" in remarks[0]
    assert f"{expected.train}, {expected.test} and {expected.classes} as published" in remarks[0] and len(remarks) == 1
    # The folder itself is as good as the one above it.
    again = official(name, tmp_path / base, download=False)
    assert listed(again.train) == listed(train) and listed(again.test) == listed(test)


def test_a_whole_data_set_has_no_remark(tmp_path, monkeypatch):
    layouts.cub200(tmp_path)
    monkeypatch.setitem(OFFICIAL, "cub200", OFFICIAL["cub200"]._replace(train=9, test=6, classes=3))
    assert official("cub200", tmp_path, download=False).remarks == ()


def test_imagenet_of_kaggle_and_unsorted_test_images(tmp_path):
    names, found = layouts.imagenet_of_kaggle(tmp_path)
    base = tmp_path / "ILSVRC/Data/CLS-LOC"
    train, test, _ = official("imagenet", base, download=False)
    assert train.class_names == tuple(names) and listed(train) == [(f, y) for f, y, t in found if t]
    assert listed(test) == [(f, y) for f, y, t in found if not t]
    (tmp_path / "LOC_val_solution.csv").unlink()
    with pytest.raises(UserError, match=r"CLS-LOC/val to hold a folder for each class, or LOC_val_solution.csv"):
        official("imagenet", base, download=False)


@pytest.mark.parametrize("name", ["tiny-imagenet", "cub200", "stanford-cars", "food101"])
def test_as_an_image_folder(tmp_path, name):
    for _, word, training, k in layouts.each(["x", "y", "z"]):
        layouts.write(tmp_path / ("train" if training else "val") / word / f"{k}.png", k)
    data = load_data(DataOptions(name, tmp_path, held_out=0.0, download=False))
    assert data.train.class_names == ("x", "y", "z") and (len(data.train), len(data.test)) == (9, 6)
    assert "results are not comparable" in data.remarks[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_data_set_is_one_line_that_says_how(tmp_path, name):
    about = OFFICIAL[name]
    with pytest.raises(UserError) as error:
        official(name, tmp_path, download=False)
    message = str(error.value)
    assert message.startswith(f"expected {name} at {tmp_path / about.base}, but found none; get it from {about.url}")
    assert all(inner in message for inner in about.holds) and "--data.root" in message and "\n" not in message
    assert ("--data.download true" in message) == about.fetched


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_missing_of_it(tmp_path, name):
    make, base = LAYOUTS[name]
    make(tmp_path)
    last = tmp_path / base / OFFICIAL[name].holds[-1]
    shutil.rmtree(last) if last.is_dir() else last.unlink()
    with pytest.raises(UserError, match=f"but found no {OFFICIAL[name].holds[-1]} in it; get it from"):
        official(name, tmp_path, download=False)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in ("imagenet", "stanford40")])
def test_damaged_lists(tmp_path, name):
    make, base = LAYOUTS[name]
    make(tmp_path)
    (tmp_path / base / OFFICIAL[name].holds[-1]).write_bytes(b"\xff\x00 neither text nor a matrix \x80")
    with pytest.raises(UserError, match="is incomplete or damaged") as error:
        official(name, tmp_path, download=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["stanford-dogs", "stanford-cars", "flowers102"])
def test_any_cut_of_a_matlab_file_is_noticed(tmp_path, name):
    make, base = LAYOUTS[name]
    make(tmp_path)
    for path in (tmp_path / base).rglob("*.mat"):
        whole = path.read_bytes()
        for length in range(0, len(whole) - 1, max(1, len(whole) // 15)):
            path.write_bytes(whole[:length])
            with pytest.raises(UserError, match="is incomplete or damaged") as error:
                official(name, tmp_path, download=False)
            assert "\n" not in str(error.value)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("tiny-imagenet", "tiny-imagenet-200/val/val_annotations.txt", r"tiny-imagenet-200/val to hold the classes of"),
        ("mit67", "TestImages.txt", r"TestImages.txt to hold the classes of"),
        ("imagenet", None, r"imagenet/val to hold the classes of"),
    ],
)
def test_test_images_of_another_class(tmp_path, name, place, message):
    LAYOUTS[name][0](tmp_path)
    if place is None:
        layouts.write(tmp_path / "imagenet/val/n09999999/1.JPEG", 0)
    else:
        file = tmp_path / place
        row = "val_0.JPEG\tn09999999\t0\t0\t1\t1" if name == "tiny-imagenet" else "n09999999/1.jpg"
        file.write_text(f"{file.read_text()}\n{row}\n")
    with pytest.raises(UserError, match=f"{message} the training images, but found 'n09999999' too"):
        official(name, tmp_path, download=False)


def test_images_that_the_lists_name_and_nobody_has(tmp_path):
    layouts.food101(tmp_path)
    files = sorted((tmp_path / "food-101/images").rglob("*.jpg"))
    for file in files[:4]:
        file.unlink()
    source = official("food101", tmp_path, download=False)
    assert source.remarks[1] == "4 images of the lists of food101 are not there and were left out"
    assert len(source.train) + len(source.test) == len(files) - 4 and len(source.train.class_names) == 3
    for file in files[4:]:
        file.unlink()
    with pytest.raises(UserError, match=r"expected the images that the lists in .*food-101 name, but found none of 9"):
        official("food101", tmp_path, download=False)


def test_a_folder_that_torchvision_would_not_find(tmp_path):
    layouts.food101(tmp_path)
    (tmp_path / "food-101").rename(tmp_path / "food")
    with pytest.raises(UserError, match=r"folder of food101 to be called food-101, but got .*food; rename"):
        official("food101", tmp_path / "food", download=False)


def test_what_cannot_be_fetched(tmp_path, no_network, capsys):
    with pytest.raises(UserError, match=r"could not download .* to .*refused.*get it from") as error:
        official("fgvc-aircraft", tmp_path, download=True)
    assert "\n" not in str(error.value) and not capsys.readouterr().out
    with pytest.raises(UserError, match=r"expected stanford-cars at .*found none"):  # nobody gives it any more
        official("stanford-cars", tmp_path, download=True)


def test_a_run_on_birds(tmp_path, dlkd):
    layouts.cub200(tmp_path / "data")
    done = dlkd(
        *("train", "--out", tmp_path / "out", "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "cub200", "--data.root", tmp_path / "data", "--data.image_size", 24, "--data.workers", 0),
        *("--data.held_out", 0, "--optim.batch_size", 4, "--engine.report", "false", "--engine.threads", 1),
        *("--engine.tensorboard", "false"),
    )
    assert done.status == 0, done.err
    assert "5994, 5794 and 200 as published: results are not comparable" in done.out


def test_the_page_on_data_sets():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    for name, about in OFFICIAL.items():
        counts = f"| {about.train:,} | {about.test:,} | {about.classes:,} | {'yes ' if about.fetched else ''}|"
        assert counts in next(line for line in page.splitlines() if line.startswith(f"| [`{name}`]"))
        words = [about.url, f"data/{about.base}", f"`--data.name {name} --data.root data`"]
        words += [Path(inner).name for inner in about.holds]
        assert [word for word in words if word not in sections[name]] == []
