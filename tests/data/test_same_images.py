"""The same image in train and test is told, whatever holds it and whatever it is called."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dlkd.data import DataOptions, load_data
from dlkd.data import same_images as module
from dlkd.data.same_images import duplicate_remark, same_images
from dlkd.data.sources import folder, in_memory, npz


@pytest.fixture
def parts(tmp_path):
    """Ten different images of one size in bytes, so that sizes tell nothing, in train and test."""
    random = np.random.default_rng(0)
    for k in range(10):
        path = tmp_path / ("train" if k < 6 else "test") / "ab"[k % 2] / f"{k}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.zeros((60, 60, 3), np.uint8)
        image[0] = random.integers(0, 256, (60, 3))  # bitmaps begin below: heads are the same
        Image.fromarray(image).save(path)
    return tmp_path


def test_files(parts):
    assert same_images(*folder(parts)[:2]) == [] and duplicate_remark(*folder(parts)[:2]) is None
    shutil.copy(parts / "train/b/3.bmp", parts / "test/a/other name.bmp")  # another class and name
    train, test, _ = folder(parts)
    pairs = same_images(train, test)
    assert [(train.pixels.name(i), test.pixels.name(j)) for i, j in pairs] == [("b/3.bmp", "a/other name.bmp")]
    data = load_data(DataOptions("folder", parts, held_out=0.0))
    (told,) = [remark for remark in data.remarks if "training images too" in remark]
    assert told.startswith(f"1 of 5 test images are training images too, such as {parts}/train/b/3.bmp = {parts}/test")


def test_few_files_are_opened(parts, monkeypatch):
    train, test, _ = folder(parts)
    opened = []
    whole = type(train.pixels).open
    monkeypatch.setattr(type(train.pixels), "open", lambda self, k: opened.append(k) or whole(self, k))
    same_images(train, test)
    assert len(opened) == 20  # heads, then whole, of all: here neither size nor head tells
    opened.clear()
    for k, path in enumerate(test.pixels.paths):
        path.write_bytes(path.read_bytes() + bytes(k + 1))  # now sizes tell
    assert same_images(train, test) == [] and not opened
    monkeypatch.setattr(module, "MOST", 3)
    shutil.copy(train.pixels.paths[0], test.pixels.paths[0])
    assert duplicate_remark(train, test).endswith("was not checked: 7 files are too many to compare")


def test_arrays(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), np.uint8)
    labels = np.arange(9) % 2
    test = np.concatenate([images[[7]], 255 - images[:3]])
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=test, test_labels=[0, 0, 1, 1])
    assert same_images(*npz(tmp_path / "a.npz")[:2]) == [(7, 0)]
    remarks = load_data(DataOptions("npz", tmp_path / "a.npz", held_out=0.0)).remarks
    assert any("1 of 4 test images are training images too, such as number 7 = number 0" in told for told in remarks)
    other = in_memory(torch.zeros(2, 3, 9, 9, dtype=torch.uint8), torch.arange(2), ("a", "b"))
    assert same_images(npz(tmp_path / "a.npz").train, other) == []
