"""From options to training, held-out and test images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dlkd.data import CropFlip, DataOptions, Mixing, ViewOptions, centre_crop, load_data, resized_crop_flip, view_family
from dlkd.data.sources import digits
from dlkd.data.views import image_size
from dlkd.errors import UserError

TRUE = digits().train.labels


@settings(deadline=None, max_examples=15)
@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.05, 0.5), st.integers(0, 2**32))
def test_noise_moves_no_image_and_is_exact(noise, held_out, test_share, seed):
    options = DataOptions(held_out=held_out, test_share=test_share, seed=seed)
    clean, noisy = load_data(options), load_data(replace(options, noise=noise))
    assert clean.train.wrong is None
    for a, b in zip(clean[1:4], noisy[1:4], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert np.array_equal(a.ids, b.ids) and a.digest() == b.digest()
    assert torch.equal(clean.test.labels, noisy.test.labels) and noisy.test.wrong is None
    parts = [p for p in (noisy.train, noisy.held_out) if p is not None]
    ids = np.concatenate([p.ids for p in parts])
    assert sorted([*ids, *noisy.test.ids]) == list(range(1797))  # nobody is lost, nobody comes twice
    for part in (*parts, noisy.test):
        wrong = part.labels != TRUE[part.ids]
        assert np.array_equal(np.zeros(len(part), bool) if part.wrong is None else part.wrong, wrong)
    wrong = np.concatenate([(p.labels != TRUE[p.ids]).numpy() for p in parts])
    for c in range(10):
        mine = TRUE.numpy()[ids] == c
        assert wrong[mine].sum() == round(noise * mine.sum())
        assert (TRUE.numpy()[noisy.test.ids] == c).sum() == round(test_share * (c == TRUE).sum().item())


def test_wrong_labels_do_not_gather_in_the_held_out_part():
    # One seed decides about both: the draws must not be the same.
    share, seeds = 0.3, 40
    wrong = np.zeros(10)
    for seed in range(seeds):
        held = load_data(DataOptions(held_out=share, noise=share, seed=seed)).held_out
        true = TRUE.numpy()[held.ids]
        wrong += [held.wrong[true == c].mean() for c in range(10)]
    # About 43 held-out images of each class and seed: the mean share has a standard error of 0.01.
    assert np.abs(wrong / seeds - share).max() < 0.05


def test_seed_and_per_class():
    options = DataOptions(held_out=0.2, per_class=20)
    data = load_data(options)
    counts = [s.labels.bincount().tolist() for s in (data.train, data.held_out)]
    assert counts == [[16] * 10, [4] * 10]
    # The first of each class, whatever else is asked for.
    whole = load_data(replace(options, per_class=None, held_out=0.0)).train
    for c in range(10):
        mine = np.concatenate([p.ids[(p.labels == c).numpy()] for p in (data.train, data.held_out)])
        assert sorted(mine) == whole.ids[(whole.labels == c).numpy()][:20].tolist()
    other = load_data(replace(options, seed=1))
    assert set(other.test.ids) != set(data.test.ids) and set(other.held_out.ids) != set(data.held_out.ids)
    assert np.array_equal(load_data(options).train.ids, data.train.ids)


def test_what_was_decided_is_told():
    data = load_data(DataOptions(noise=0.5, held_out=0.01, per_class=10))
    told = "\n".join(data.remarks)
    assert "names no test images" in told and "50 of 100 training labels were made wrong" in told
    assert "nothing can be chosen" in told and data.held_out is None
    assert len(load_data(DataOptions()).remarks) == 1


def photos(root, *parts):
    for part in parts:
        for k in range(8):
            path = root / part / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(k).integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    return root


def test_folder_and_npz(tmp_path):
    data = load_data(DataOptions("folder", photos(tmp_path / "split", "train", "val"), noise=0.5, held_out=0.25))
    assert (len(data.train), len(data.held_out), len(data.test)) == (6, 2, 8)
    assert data.train.wrong.sum() + data.held_out.wrong.sum() == 4 and data.test.wrong is None
    wrong = [
        p.parent.name != data.train.class_names[y]
        for p, y in zip(data.train.pixels.paths, data.train.labels, strict=True)
    ]
    assert wrong == data.train.wrong.tolist()
    assert len(load_data(DataOptions("folder", photos(tmp_path / "flat", "."), test_share=0.25)).test) == 2
    images = np.zeros((8, 5, 5), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.arange(8) % 2)
    assert len(load_data(DataOptions("npz", tmp_path / "a.npz", test_share=0.5)).test) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out": 1.0}, "held_out"),
        ({"held_out": float("nan")}, "held_out"),
        ({"test_share": -0.1}, "test_share"),
        ({"noise": 1.1}, "noise"),
        ({"seed": -1}, "seed"),
        ({"per_class": 0}, "per_class"),
        ({"image_size": 7}, "image_size"),
        ({"workers": -1}, "workers"),
        ({"test_share": 0.0}, "at least one test image"),
        ({"per_class": 1, "held_out": 0.9}, "at least one training image"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        load_data(DataOptions(**changes))


def test_views_of_images_in_memory():
    data = load_data(DataOptions())
    assert view_family(ViewOptions(), data, 3, 0).augment == CropFlip(1, False)  # digits are not mirrored
    colour = data._replace(name="npz")
    assert view_family(ViewOptions(), colour, 3, 0).augment == CropFlip(1, True)
    assert view_family(ViewOptions(pad=3, flip=False), colour, 3, 0).augment == CropFlip(3, False)
    family = view_family(ViewOptions("none", mixing="cutmix", mixing_alpha=0.5), data, 3, 0)
    assert (family.augment, family.mixing, family.seed) == (CropFlip(0, False), Mixing("cutmix", 0.5), 3)
    assert family.samples is data.train and image_size(data.train) == (8, 8)
    resized = view_family(ViewOptions("resized_crop_flip"), data, 0, 8)
    assert resized.batch(np.arange(3), np.zeros(3, np.int64)).images.shape == (3, 1, 8, 8)


def test_views_of_files(tmp_path):
    data = load_data(DataOptions("folder", photos(tmp_path, "train", "val")))
    default = view_family(ViewOptions(), data, 0, 9)
    assert default.augment.describe() == resized_crop_flip(9).describe() and image_size(data.train) == (0, 0)
    other = view_family(ViewOptions(scale=0.5, flip=False), data, 0, 9).augment
    assert other.describe() == resized_crop_flip(9, scale=0.5, flip=False).describe()
    # No augmentation means the plain image, in every view.
    plain = view_family(ViewOptions("none"), data, 0, 9)
    images = plain.batch(np.array([2, 2]), np.array([0, 5])).images
    assert torch.equal(images[0], images[1])
    assert torch.equal(images[0], centre_crop(9)(data.train.pixels.load(2), 0, 0, 0))
    with pytest.raises(UserError, match="resized_crop_flip, none or auto for images that come from files"):
        view_family(ViewOptions("crop_flip"), data, 0, 9)


@pytest.mark.parametrize(
    "changes", [{"pad": -1}, {"scale": 0.0}, {"scale": 1.5}, {"mixing": "mixup", "mixing_alpha": 0.0}]
)
def test_view_options_that_make_no_sense(changes):
    with pytest.raises(UserError, match="expected"):
        view_family(ViewOptions(**changes), load_data(DataOptions()), 0, 8)
