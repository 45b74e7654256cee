"""Where images come from, and one line for everything that can be wrong with them."""

import os
import pickle
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dlkd.data.sources import cifar, digits, folder, npz
from dlkd.errors import UserError

CIFAR = {"cifar10": ("cifar-10-batches-py", 50_000, 10), "cifar100": ("cifar-100-python", 50_000, 100)}


def test_digits():
    train, test, _ = digits()
    pixels = train.pixels.array
    assert test is None and pixels.shape == (1797, 1, 8, 8) and (pixels.min(), pixels.max()) == (0, 255)
    assert np.array_equal(np.round(pixels[:, 0].numpy() / 255 * 16), load_digits().images)
    assert np.array_equal(train.labels, load_digits().target) and train.class_names == tuple("0123456789")
    assert np.array_equal(train.ids, np.arange(1797))


# --- CIFAR ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_in_the_official_layout(name, tmp_path, monkeypatch):
    images, labels, others, other_labels, names = layouts.cifar(tmp_path, name, monkeypatch)
    train, test, remarks = cifar(name, tmp_path, download=False)
    for samples, pixels, given in ((train, images, labels), (test, others, other_labels)):
        assert np.array_equal(samples.pixels.array.numpy(), pixels) and np.array_equal(samples.labels, given)
        assert samples.class_names == tuple(names)
    assert len(train) == 60 and len(test) == 10 and not remarks


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_that_is_damaged(name, tmp_path, monkeypatch):
    """Not a byte is unpickled unless all are as published."""
    layouts.cifar(tmp_path, name, monkeypatch)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / CIFAR[name][0]).iterdir():
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for content in (b"", whole[:middle], flipped, pickle.dumps(Trap())):
            path.write_bytes(content)
            with pytest.raises(UserError, match=f"{CIFAR[name][0]} is incomplete or damaged; delete it") as error:
                cifar(name, tmp_path, download=True)
            assert "\n" not in str(error.value) and not (tmp_path / "trap").exists()
        path.write_bytes(whole)
    assert len(cifar(name, tmp_path, download=False).train) == 60


@pytest.mark.parametrize("name", CIFAR)
def test_the_whole_of_cifar(name):
    base, n, classes = CIFAR[name]
    root = Path(os.environ.get("DLKD_DATA", "data"))
    if not (root / base).is_dir():
        pytest.skip(f"no {base} in DLKD_DATA")
    train, test, _ = cifar(name, root, download=False)
    files = ["train"] if name == "cifar100" else [f"data_batch_{k}" for k in range(1, 6)]
    official = [pickle.loads((root / base / f).read_bytes(), encoding="bytes") for f in files]
    data = np.concatenate([part[b"data"] for part in official])
    labels = np.concatenate([part.get(b"fine_labels", part.get(b"labels")) for part in official])
    assert np.array_equal(train.pixels.array.numpy(), data.reshape(-1, 3, 32, 32))
    assert np.array_equal(train.labels, labels) and len(train) == n and len(test) == 10_000
    assert torch.bincount(test.labels).tolist() == [10_000 // classes] * classes
    assert len(train.class_names) == classes == len(set(train.class_names))


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("download", [True, False])
def test_cifar_that_is_incomplete_or_missing(tmp_path, name, download):
    folder_ = tmp_path / CIFAR[name][0]
    folder_.mkdir()
    (folder_ / "train").write_bytes(b"half of it")
    with pytest.raises(UserError, match=f"{folder_} is incomplete or damaged; delete it"):
        cifar(name, tmp_path, download)
    with pytest.raises(UserError, match=r"found none; give --data.root, or --data.download true") as error:
        cifar(name, tmp_path / "nowhere", download=False)
    assert f"nowhere/{folder_.name}" in str(error.value) and f"kriz/cifar-{name[5:]}-python.tar.gz" in str(error.value)


def test_cifar_without_a_network(tmp_path, no_network, capsys):
    with pytest.raises(UserError, match=r"could not download cifar10 to .*refused.*give --data.root") as error:
        cifar("cifar10", tmp_path, download=True)
    assert "\n" not in str(error.value) and not capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="could not download"):
        cifar("cifar10", tmp_path / "file", download=True)


# --- folders --------------------------------------------------------------------------------------------------------


def fill(root, *names):
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (k, 0, 0)).save(root / name)
    return root


def named(samples):
    return [
        (p.relative_to(samples.pixels.root).as_posix(), y)
        for p, y in zip(samples.pixels.paths, samples.labels.tolist(), strict=True)
    ]


def test_flat_folder(tmp_path):
    train, test, _ = folder(fill(tmp_path, "b/2.png", "a/1.jpg", "b/1.PNG", "a/deep/er/0.bmp"))
    assert test is None and train.class_names == ("a", "b") and train.ids.tolist() == [0, 1, 2, 3]
    assert named(train) == [("a/1.jpg", 0), ("a/deep/er/0.bmp", 0), ("b/1.PNG", 1), ("b/2.png", 1)]
    assert train.pixels.load(3).size == (5, 4)


@pytest.mark.parametrize(
    ("first", "second"), [("train", "val"), ("train", "test"), ("training", "validation"), ("train", "valid")]
)
def test_folder_with_test_images(tmp_path, first, second):
    root = fill(tmp_path, *(f"{part}/{c}/1.png" for part in (first, second) for c in "ba"), f"{second}/b/2.png")
    train, test, _ = folder(root)
    assert named(train) == [("a/1.png", 0), ("b/1.png", 1)]
    assert named(test) == [("a/1.png", 0), ("b/1.png", 1), ("b/2.png", 1)] and test.class_names == train.class_names


def test_test_images_may_lack_a_class_or_labels(tmp_path):
    root = fill(tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png", "val/b/1.png")
    assert named(folder(root).test) == [("b/1.png", 1)]  # the numbers of the training classes
    (root / "val" / "b" / "1.png").unlink()
    with pytest.raises(UserError, match=r"expected images in .*val"):
        folder(root)
    (root / "val" / "b").rmdir()
    assert folder(root).test is None


def test_what_is_no_image_of_a_class_is_left_out(tmp_path):
    root = fill(tmp_path, "a/1.png", "b/1.png", "b/.ipynb_checkpoints/1.png", ".git/1.png")
    (root / "a" / "._1.png").write_bytes(b"Finder")
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / "folder.png").mkdir()
    (root / "readme.md").write_text("x")
    assert named(folder(root).train) == [("a/1.png", 0), ("b/1.png", 1)]


def test_odd_names(tmp_path):
    names = ["größe 'x' #%&/1 [a]*.png", "-b/\n.png", os.fsdecode(b"\xff/\xfe.png"), "日本/$HOME ~.png"]
    train, *_ = folder(fill(tmp_path, *names))
    assert sorted(name for name, _ in named(train)) == sorted(names) and len(train.class_names) == 4
    assert {train.pixels.load(k).getpixel((0, 0))[0] for k in range(4)} == {0, 1, 2, 3} and train.digest()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least two classes in .*, but found 0"),
        (["1.png"], "at least two classes in .*, but found 0"),
        (["a/1.png"], r"at least two classes in .*, but found 1 \(a\)"),
        (["train/1.png", "test/1.png"], "at least two classes in .*train, but found 0"),
        (["train/a/1.png", "val/a/1.png"], r"at least two classes in .*train, but found 1 \(a\)"),
        (["train/a/1.png", "train/b/1.png", "val/c/1.png"], "expected .*val to hold the classes .*but found 'c' too"),
    ],
)
def test_folders_that_cannot_be(tmp_path, names, message):
    with pytest.raises(UserError, match=message) as error:
        folder(fill(tmp_path, *names))
    assert "\n" not in str(error.value)


def test_empty_class_and_missing_folder(tmp_path):
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match=r"expected images in .*c, but found none"):
        folder(tmp_path)
    for root in (tmp_path / "nowhere", tmp_path / "a" / "1.png"):
        with pytest.raises(UserError, match=r"there is none; give it as --data.root"):
            folder(root)


# --- npz ------------------------------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
GOOD = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:2], "test_labels": LABELS[:2]}


def saved(path, **arrays):
    np.savez_compressed(path / "data.npz", **arrays)
    return path / "data.npz"


def test_npz(tmp_path):
    train, test, _ = npz(saved(tmp_path, **GOOD))
    assert (
        np.array_equal(train.pixels.array.numpy(), IMAGES.transpose(0, 3, 1, 2)) and train.pixels.array.is_contiguous()
    )
    assert train.labels.tolist() == LABELS.tolist() and train.class_names == ("0", "1", "2") == test.class_names
    assert len(test) == 2


@pytest.mark.parametrize("kind", [np.uint8, np.int16, ">i8"])
def test_npz_in_the_layout_of_medmnist(tmp_path, kind):
    grey = {"train_images": IMAGES[..., 0], "train_labels": LABELS[:, None].astype(kind)}
    train, test, _ = npz(saved(tmp_path, **grey, val_images=IMAGES, class_names=np.array(["ä", "b", "c", "d"])))
    assert test is None and train.pixels.array.shape == (6, 1, 5, 4) and train.class_names == ("ä", "b", "c", "d")
    assert train.labels.tolist() == LABELS.tolist() and train.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_labels": None}, "hold train_labels, but found"),
        ({"train_images": None, "train_labels": None}, "hold train_images and train_labels"),
        ({"train_labels": LABELS - 1}, r"data.npz: expected labels between 0 and 1 .*found -1 to 1"),
        ({"class_names": np.array(["a", "b"])}, r"between 0 and 1 \(2 classes\), but found 0 to 2"),
        ({"test_labels": np.array([0, 9])}, "between 0 and 2 .*found 0 to 9"),
        ({"train_labels": LABELS + 10**12}, "count the classes from 0"),
        ({"train_labels": LABELS[:5]}, "as many train_labels as images .*found 5, 6"),
        ({"test_labels": np.eye(2, dtype=int)}, "as many test_labels as images .*found 4, 2"),
        ({"train_labels": np.array(list("abcabc"))}, "whole labels"),
        ({"train_labels": LABELS + 0.5}, "whole labels"),
        ({"train_labels": np.full(6, np.nan)}, "whole labels"),
        ({"train_images": IMAGES / 255}, "uint8 .*but found float64"),
        ({"train_images": IMAGES.transpose(0, 3, 1, 2)}, "1 or 3"),
        ({"train_images": IMAGES[0]}, "as many train_labels"),
        ({"train_images": IMAGES[0, 0]}, "uint8"),
        ({"train_labels": LABELS * 0, "test_labels": LABELS[:2] * 0}, "at least two classes .*found 1"),
        ({"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, "at least two classes .*found 0"),
        ({"class_names": np.array("abc")}, "at least two classes .*found 1"),
        ({"train_labels": LABELS.astype(object)}, "damaged or no plain .npz"),
        ({"class_names": np.array([{"a": 1}, None], object)}, "damaged or no plain .npz"),
    ],
)
def test_arrays_that_cannot_be(tmp_path, changes, message):
    arrays = {k: v for k, v in (GOOD | changes).items() if v is not None}
    with pytest.raises(UserError, match=message) as error:
        npz(saved(tmp_path, **arrays))
    assert "\n" not in str(error.value) and "data.npz" in str(error.value)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("trap",))


def test_pickles_are_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, **GOOD, class_names=np.array([Trap(), Trap()], object))
    with pytest.raises(UserError, match=r"no plain .npz"):
        npz(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=r"no plain .npz"):
        npz(path)
    assert not (tmp_path / "trap").exists()


def test_npz_files_that_are_none(tmp_path):
    path = saved(tmp_path, **GOOD)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"damaged or no plain .npz") as error:
            npz(path)
        assert "\n" not in str(error.value)
    refused = 0
    for k in range(0, len(whole), 4):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 255]) + whole[k + 1 :])
        try:
            found = npz(path)  # a date or another entry that nobody reads may change
            assert np.array_equal(found.train.pixels.array.numpy(), IMAGES.transpose(0, 3, 1, 2))
            assert found.train.labels.tolist() == LABELS.tolist()
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(whole) / 8
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(UserError, match="one array without a name"):
        npz(tmp_path / "one.npy")
    with pytest.raises(UserError, match=r"there is none; give it as --data.root"):
        npz(tmp_path / "none.npz")
    with pytest.raises(UserError, match="damaged or no plain"):
        npz(tmp_path)
