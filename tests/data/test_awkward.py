"""One committed file of each awkward kind: its decoded size and mode, or the exact message."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from dlkd.data import DataOptions, FilePixels, load_data
from dlkd.errors import UserError

AWKWARD = Path(__file__).parent / "awkward"
FLOWER = np.asarray(Image.open(AWKWARD / "plain.png")).astype(int)
LIGHTNESS = np.asarray(Image.open(AWKWARD / "plain.png").convert("L")).astype(int)
FRAME = np.asarray(next(iter(ImageSequence.Iterator(Image.open(AWKWARD / "animated.webp")))).convert("RGB")).astype(int)
GREY = np.repeat(LIGHTNESS[..., None], 3, axis=2)

# What each shows, and by how much a pixel may be off in the mean: compression and 16 or 256 colours cost something.
GOOD = {
    "plain.png": (FLOWER, 0),
    "alpha.png": (FLOWER, 0),
    "cmyk.jpg": (FLOWER, 8),
    "grey.jpg": (GREY, 4),
    "sixteen-bits.png": (GREY, 0),
    "palette.png": (FLOWER, 8),
    "rotated.jpg": (FLOWER, 4),
    "animated.webp": (FRAME, 0),
    "animated.gif": (FRAME, 8),
}
BAD = {
    "truncated.jpg": "image file is truncated (68 bytes not processed)",
    "huge.png": "12000 × 12000 pixels, above the limit of 89478485",
    "empty.jpg": "no bytes in it",
    "text.png": "in no known format",
}


def test_every_file_is_spoken_for_and_small():
    files = {path.name: path.stat().st_size for path in AWKWARD.iterdir() if path.suffix not in (".py", "")}
    assert files.keys() == GOOD.keys() | BAD.keys() and sum(files.values()) < 300_000
    # Neither conversion could be told from none if both frames, or both ways up, looked the same.
    assert np.abs(FRAME - FLOWER).mean() > 30 and np.abs(FLOWER - np.rot90(FLOWER, 2)).mean() > 30
    kinds = {name: Image.open(AWKWARD / name) for name in GOOD}
    assert kinds["cmyk.jpg"].mode == "CMYK" and kinds["grey.jpg"].mode == "L" and kinds["palette.png"].mode == "P"
    assert kinds["sixteen-bits.png"].mode == "I;16" and isinstance(kinds["palette.png"].info["transparency"], bytes)
    assert kinds["animated.gif"].n_frames == kinds["animated.webp"].n_frames == 2
    assert kinds["rotated.jpg"].size == (64, 96) and kinds["rotated.jpg"].getexif()[0x0112] == 6


@pytest.mark.parametrize("name", GOOD)
def test_what_becomes_rgb(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one for each view would bury what matters
        image = FilePixels([AWKWARD / name], AWKWARD).load(0)
    assert image.mode == "RGB" and image.size == (96, 64)
    expected, tolerance = GOOD[name]
    assert np.abs(np.asarray(image).astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest takes our own filter away
def test_what_is_refused_in_one_line(name):
    with pytest.raises(UserError) as error:
        FilePixels([AWKWARD / name], AWKWARD).load(0)
    assert str(error.value) == f"{AWKWARD / name} is damaged or no image ({BAD[name]}); replace or remove it"


@pytest.fixture
def folder_of(tmp_path):
    def make(*names):
        for label in "ab":
            for name in names:
                (tmp_path / label).mkdir(exist_ok=True)
                shutil.copy(AWKWARD / name, tmp_path / label)
        return tmp_path

    return make


def test_a_run_on_every_readable_kind(folder_of, dlkd, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "out"
    done = dlkd(
        *("train", "--out", out, "--model.name", "resnet8x0.5", "--epochs", 1, "--device", "cpu"),
        *("--data.name", "folder", "--data.root", folder_of(*GOOD), "--data.image_size", 32, "--data.workers", 0),
        *("--data.verify", "true", "--data.test_share", 0.25, "--optim.batch_size", 4, "--engine.report", "false"),
        *("--engine.threads", 1, "--engine.tensorboard", "false"),
    )
    assert done.status == 0, done.err
    assert (out / "results.json").is_file()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_verify_names_a_damaged_file_before_the_run(folder_of, dlkd):
    root = folder_of("plain.png", "grey.jpg", "cmyk.jpg", "truncated.jpg", "text.png", "huge.png")
    options = ("--data.name", "folder", "--data.root", root, "--data.image_size", 32, "--data.workers", 0)
    done = dlkd("train", "--out", root / "../out", "--model.name", "resnet8x0.5", *options, "--data.verify", "true")
    assert done.status == 2 and "(6 such images in all)" in done.err and len(done.err.strip().splitlines()) == 1
    assert not (root / "../out").exists()
    data = load_data(DataOptions("folder", root, verify=False))  # they are told when they are met
    assert len(data.train) + len(data.held_out or ()) + len(data.test) == 12


def test_verify_of_images_in_memory_asks_nothing():
    plain, verified = load_data(DataOptions()), load_data(DataOptions(verify=True))
    assert torch.equal(plain.train.labels, verified.train.labels)
