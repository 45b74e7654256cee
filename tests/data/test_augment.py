"""Augmentations are pure functions of (seed, sample, view), and leave no trace in anybody's generator."""

import random

import numpy as np
import pytest
import torch
from draws import states
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from dlkd.data import CropFlip, ImageTransform, Stream, centre_crop, resized_crop_flip, view_key


def by_hand(image, crop, seed, sample, view):
    """One view by slicing, from the documented draws: ⌊key·below / 2³²⌋ in Python's whole numbers."""

    def draw(stream, below):
        return int(view_key(seed, sample, view, stream)) * below >> 32

    pad = crop.pad
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))
    row, column = draw(Stream.ROW, 2 * pad + 1), draw(Stream.COLUMN, 2 * pad + 1)
    view_ = padded[:, row : row + image.shape[1], column : column + image.shape[2]]
    return view_[:, :, ::-1] if crop.flip and draw(Stream.FLIP, 2) else view_


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**40), st.integers(0, 3), st.booleans(), st.integers(0, 2**16))
def test_batched_crop_flip_against_single_images_by_hand(seed, pad, flip, pixels):
    images = np.random.default_rng(pixels).integers(0, 256, (7, 3, 6, 5), np.uint8)
    ids, views = np.arange(7) * 13 + 2, np.arange(7) % 3
    crop = CropFlip(pad, flip)
    got = crop(torch.from_numpy(images), seed, ids, views)
    assert got.dtype == torch.uint8 and got.is_contiguous()
    for k in range(7):
        assert np.array_equal(got[k].numpy(), by_hand(images[k], crop, seed, int(ids[k]), int(views[k])))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(1, 9))
def test_same_key_same_pixels_in_any_company(seed, view, size):
    images, ids, views = torch.rand(12, 3, 8, 6), np.arange(12) * 7, np.full(12, view)
    whole = CropFlip(pad=2)(images, seed, ids, views)
    order = np.random.default_rng(seed).permutation(12)
    for start in range(0, 12, size):
        part = order[start : start + size]
        assert torch.equal(CropFlip(pad=2)(images[part], seed, ids[part], views[part]), whole[part])


def test_every_crop_and_mirror_image_comes_as_often():
    image = torch.arange(1.0, 26).view(1, 1, 5, 5)
    padded = torch.nn.functional.pad(image, (1,) * 4)
    crops = [padded[..., r : r + 5, c : c + 5] for r in range(3) for c in range(3)]
    allowed = torch.cat([*crops, *(c.flip(-1) for c in crops)])
    n = 18 * 500
    views = CropFlip(pad=1)(image.expand(n, -1, -1, -1), 3, np.zeros(n, np.int64), np.arange(n))
    which = (views[:, None] == allowed).flatten(2).all(dim=2)
    assert which.sum(dim=1).eq(1).all()
    counts = which.sum(dim=0).double()
    # χ² with 17 degrees of freedom: above 48 once in 10,000.
    assert ((counts - 500).square() / 500).sum() < 48


def test_no_augmentation_is_the_identity():
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(CropFlip(pad=0, flip=False)(x, 1, np.arange(4), np.full(4, 3)), x)


def noisy(image):
    """A transform that draws from all three generators."""
    x = v2.functional.to_dtype(v2.functional.to_image(image), torch.float32, scale=True)
    return x * torch.rand(()) + random.random() + float(np.random.rand())


TRANSFORMS = {
    "torchvision": resized_crop_flip(9),
    "random, numpy and torch": ImageTransform(noisy, {"kind": "noisy"}),
}
IMAGE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8))


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_image_transform_is_a_function_of_the_key_alone(transform):
    keys = [(seed, sample, view) for seed in (0, 2**40) for sample in (0, 1) for view in (0, 7)]
    found = []
    for others in (98, 99):  # whatever the generators were at
        torch.manual_seed(others), random.seed(others), np.random.seed(others)
        found.append([transform(IMAGE, *key) for key in keys])
        keys.reverse()
    first, again = found[0], found[1][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({x.numpy().tobytes() for x in first}) == len(keys)


def test_resized_crop_flip_is_torchvisions_own_under_the_key():
    transform = v2.Compose(
        [v2.RandomResizedCrop(9, scale=(0.25, 1.0), antialias=True), v2.RandomHorizontalFlip(), v2.ToImage()]
    )
    for view in range(5):
        got = resized_crop_flip(9)(IMAGE, 3, 4, view)
        torch.manual_seed(int(view_key(3, 4, view, Stream.TRANSFORM)))
        assert torch.allclose(got, transform(IMAGE).float() / 255)
        assert got.shape == (3, 9, 9) and got.dtype == torch.float32 and 0 <= got.min() <= got.max() <= 1


@pytest.mark.parametrize("transform", [*TRANSFORMS.values(), centre_crop(8)], ids=[*TRANSFORMS, "centre"])
def test_generators_are_left_as_they_were(transform):
    np.random.standard_normal()  # leaves a second Gauss number behind, which is part of the state
    before = states()
    transform(IMAGE, 0, 1, 2)
    assert states() == before

    def broken(image):
        noisy(image)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        ImageTransform(broken, {})(IMAGE, 0, 1, 2)
    assert states() == before


def test_dropout_after_a_view_does_not_repeat():
    dropout, x = torch.nn.Dropout(0.5), torch.ones(200)
    torch.manual_seed(1)
    plain = [dropout(x) for _ in range(3)]
    torch.manual_seed(1)
    between = []
    for _ in range(3):
        TRANSFORMS["torchvision"](IMAGE, 0, 0, 0)
        between.append(dropout(x))
    assert all(torch.equal(a, b) for a, b in zip(plain, between, strict=True))
    assert not torch.equal(between[0], between[1]) and not torch.equal(between[1], between[2])


def test_centre_crop_takes_224_out_of_256():
    image = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 300, 3)))
    got = centre_crop(224)(image, 0, 0, 0)
    # Nothing to resize: rows 16 to 239 are left.
    assert got.shape == (3, 224, 224) and torch.allclose(got[0, :, 0] * 255, torch.arange(16.0, 240))
    assert centre_crop(8)(IMAGE, 0, 0, 0).shape == (3, 8, 8)


def test_a_description_tells_every_setting():
    told = [CropFlip(), CropFlip(3), CropFlip(flip=False), resized_crop_flip(8), resized_crop_flip(9)]
    told += [resized_crop_flip(8, scale=0.3), resized_crop_flip(8, flip=False), centre_crop(8), centre_crop(9)]
    assert len({str(sorted(t.describe().items())) for t in told}) == len(told)
