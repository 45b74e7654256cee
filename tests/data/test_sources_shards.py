"""Tar shards of WebDataset: random access to the right pixels."""

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from digit_files import TARGET, TEST, TRAIN, any_order, encoded, rows, same_digits, written

from dlkd.data import DataOptions, Steps, ViewOptions, load_data, view_family
from dlkd.data.sources import webdataset
from dlkd.data.sources.shards import expand
from dlkd.errors import UserError


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


def test_an_image_in_train_and_test_is_told(tmp_path):
    shard(tmp_path / "train.tar", TRAIN)
    shard(tmp_path / "test.tar", [20, 3])
    (told,) = load_data(DataOptions("webdataset", tmp_path, held_out=0.0)).remarks
    assert told.startswith("1 of 2 test images are training images too, such as ./000003.png in ")


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
    shard(tmp_path / "train-1.tar", TRAIN[:5])
    shard(tmp_path / "test-1.tar", TEST, lambda k: {"cls": "cat"})
    with pytest.raises(UserError, match=r"to hold the classes of the training images, but found 'cat' too"):
        webdataset(tmp_path / "t*-1.tar")
    shard(tmp_path / "json.tar", TRAIN, lambda k: {"json": "{"})
    with pytest.raises(UserError, match=r"json.tar is damaged"):
        webdataset(tmp_path / "json.tar")


def test_any_cut_of_a_shard_is_noticed(tmp_path):
    path = shard(tmp_path / "train.tar", TRAIN)
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        end = archive.getmembers()[-1].offset_data + tarfile.BLOCKSIZE  # zeros to fill up what follows
    for length in range(0, end, 397):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"train.tar is damaged or no plain .tar") as error:
            webdataset(path)
        assert "\n" not in str(error.value)


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
