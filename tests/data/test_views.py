"""A view is the same pixels whatever company it is made in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.data import CropFlip, digits, stratified_split


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(0, 2**31), st.integers(1, 9))
def test_same_key_same_pixels_for_any_batch(seed, view, size):
    images, index = torch.rand(12, 3, 8, 6), np.arange(12) * 7
    family = CropFlip(pad=2, seed=seed)
    whole = family(images, index, view)
    order = np.random.default_rng(seed).permutation(12)
    for start in range(0, 12, size):
        part = order[start : start + size]
        assert torch.equal(family(images[part], index[part], view), whole[part])


def test_view_is_a_crop_of_the_padded_image_or_its_mirror():
    image = torch.arange(1.0, 26).view(1, 1, 5, 5)
    padded = torch.nn.functional.pad(image, (1,) * 4)
    crops = [padded[..., r : r + 5, c : c + 5] for r in range(3) for c in range(3)]
    allowed = [*crops, *(c.flip(-1) for c in crops)]
    views = [CropFlip(pad=1)(image, [0], v) for v in range(400)]
    found = {next(i for i, a in enumerate(allowed) if torch.equal(a, v)) for v in views}
    assert found == set(range(18))


def test_no_augmentation_is_the_identity():
    x = torch.rand(4, 1, 8, 8)
    assert torch.equal(CropFlip(pad=0, flip=False)(x, np.arange(4), 3), x)


def test_digits_and_split():
    data = digits()
    assert data.images.shape == (1797, 1, 8, 8) and data.images.min() == 0 and data.images.max() == 1
    rest, held = stratified_split(data.labels, 0.3, seed=1)
    assert np.array_equal(np.union1d(rest, held), np.arange(1797)) and not np.intersect1d(rest, held).size
    for c in range(10):
        assert (data.labels.numpy()[held] == c).sum() == round(0.3 * (data.labels == c).sum().item())
    with pytest.raises(ValueError, match="share"):
        stratified_split([0, 1], 1.2, 0)
