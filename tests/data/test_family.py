"""The views of a family are named by (seed, sample, view), and the family by what its pixels depend on."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from draws import held, jitter, states
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dlkd.data import ArrayPixels, CropFlip, ImageTransform, Mixing, ViewFamily, centre_crop, resized_crop_flip
from dlkd.data.sources import folder, in_memory
from dlkd.errors import UserError

MIXINGS = [Mixing(), Mixing("mixup", 0.4), Mixing("cutmix")]


def assert_pure(family, seed, size):
    """Mixed view numbers, shuffled and cut into batches of ``size``: every view is what it is alone."""
    n = len(family.samples)
    draw = np.random.default_rng(seed)
    positions, views = draw.integers(0, n, 10), draw.integers(0, 4, 10)
    alone = [family.batch(positions[k : k + 1], views[k : k + 1]) for k in range(10)]
    for start in range(0, 10, size):
        batch = family.batch(positions[start : start + size], views[start : start + size])
        for k, expected in enumerate(alone[start : start + size]):
            for part, whole in zip(held(expected), held(batch), strict=True):
                assert torch.equal(part[0], whole[k])


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(MIXINGS), st.integers(0, 2**32), st.integers(1, 10), st.integers(2, 12))
def test_same_key_same_pixels_in_memory(one_class_each, mixing, seed, size, n):
    assert_pure(ViewFamily(one_class_each(n), CropFlip(1), mixing, seed), seed, size)


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(MIXINGS), st.integers(0, 2**32), st.integers(2, 10))
@pytest.mark.parametrize("transform", [resized_crop_flip(6), ImageTransform(jitter, {})], ids=["v2", "jitter"])
def test_same_key_same_pixels_from_files(photos, transform, mixing, seed, size):
    assert_pure(ViewFamily(photos, transform, mixing, seed), seed, size)


def test_images_are_canonical(one_class_each, photos):
    n = len(photos)
    for family in (ViewFamily(one_class_each(n), CropFlip(0, False)), ViewFamily(photos, centre_crop(8))):
        batch = family.batch(np.arange(n), np.zeros(n, np.int64))
        assert batch.images.dtype == torch.float32 and 0 <= batch.images.min() <= batch.images.max() <= 1
        assert torch.equal(batch.target, family.samples.labels) and batch.target.dtype == torch.int64
    pixels = one_class_each(n).pixels.array
    assert torch.equal(
        ViewFamily(one_class_each(n), CropFlip(0, False)).batch(np.arange(n), np.arange(n)).images, pixels / 255
    )


def test_a_view_leaves_the_generators_alone(photos):
    before = states()
    for mixing in MIXINGS:
        ViewFamily(photos, ImageTransform(jitter, {}), mixing).batch(np.arange(4), np.zeros(4, np.int64))
    assert states() == before


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 40), st.integers(0, 2**40), st.integers(0, 1000))
def test_order_is_a_permutation_whose_neighbours_mix(one_class_each, n, seed, view):
    family = ViewFamily(one_class_each(n), CropFlip(), Mixing("mixup"), seed)
    order = family.order(view)
    assert sorted(order) == list(range(n))
    partner = family.partners(np.arange(n), np.full(n, view))
    for k in range(0, n - 1, 2):
        assert partner[order[k]] == order[k + 1] and partner[order[k + 1]] == order[k]
    if n % 2:
        assert partner[order[-1]] == order[-1]


def test_every_epoch_has_an_order_of_its_own(one_class_each):
    family = ViewFamily(one_class_each(30), CropFlip())
    orders = [tuple(family.order(view)) for view in range(20)] + [tuple(replace(family, seed=1).order(0))]
    assert len(set(orders)) == 21
    # The order of a subset is that of the whole with the others left out: samples keep their numbers.
    index = np.array([3, 5, 8, 20, 29])
    subset = ViewFamily(family.samples.take(index), CropFlip())
    assert [index[p] for p in subset.order(4)] == [p for p in family.order(4) if p in index]


def test_views_of_a_subset_are_those_of_the_whole(one_class_each):
    whole = ViewFamily(one_class_each(12), CropFlip(1), seed=3)
    index, views = np.array([7, 2, 11]), np.array([0, 5, 9])
    part = ViewFamily(whole.samples.take(index), CropFlip(1), seed=3)
    assert torch.equal(part.batch(np.arange(3), views).images, whole.batch(index, views).images)


def test_writing_into_a_batch_does_not_touch_the_order(one_class_each):
    family = ViewFamily(one_class_each(8), CropFlip())
    order = family.order(0).copy()
    family.batch(family.order(0)[:4], np.zeros(4, np.int64)).positions.fill_(0)
    assert np.array_equal(family.order(0), order)


# --- the hash -------------------------------------------------------------------------------------------------------


def tiny(**changes):
    pixels = torch.arange(24, dtype=torch.uint8).view(3, 2, 2, 2)
    return ViewFamily(in_memory(pixels, torch.tensor([0, 1, 1]), ("a", "b")), CropFlip(1), **changes)


def test_hash_is_stable_for_ever():
    # Stored teacher outputs are found by these names.
    assert tiny().hash == "12a30a7eb10ddcd5682f4af2f72e4b49b7be6c69d5536132e2d8d9d9c4efc281"
    assert (
        tiny(mixing=Mixing("cutmix", 0.5), seed=7).hash
        == "30fe6b772789cda6551b9002be4a5533c81c1840e3db938afc3ece43d730380f"
    )


def test_hash_changes_with_whatever_the_pixels_depend_on():
    base = tiny()
    pixels = base.samples.pixels.array.clone()
    pixels[2, 1, 1, 1] += 1
    families = [
        base,
        replace(base, samples=replace(base.samples, pixels=ArrayPixels(pixels))),
        replace(base, samples=replace(base.samples, pixels=ArrayPixels(base.samples.pixels.array.view(3, 1, 4, 2)))),
        replace(base, samples=base.samples.take(np.array([0, 1]))),
        replace(base, samples=base.samples.take(np.array([1, 0, 2]))),
        replace(base, samples=replace(base.samples, ids=np.array([0, 1, 3]))),
        replace(base, augment=CropFlip(2)),
        replace(base, augment=CropFlip(1, flip=False)),
        *(tiny(mixing=Mixing(kind, alpha)) for kind in ("mixup", "cutmix") for alpha in (1.0, 0.5)),
        tiny(seed=1),
    ]
    assert len({f.hash for f in families}) == len(families)
    assert tiny().hash == base.hash


def test_hash_does_not_change_with_labels_or_settings_without_effect():
    base = tiny()
    other = base.samples.relabelled(np.array([1, 0, 1]), np.array([True, True, False]))
    assert replace(base, samples=other).hash == base.hash
    assert replace(base, samples=replace(base.samples, class_names=("x", "y", "z"))).hash == base.hash
    assert tiny(mixing=Mixing("none", 0.3)).hash == base.hash
    assert base.to(torch.device("cpu")).hash == base.hash


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_hash_and_views_do_not_change_with_the_device():
    for mixing in MIXINGS:
        base, positions = tiny(mixing=mixing), np.arange(3)
        there = base.to(torch.device("cuda"))
        assert there.hash == base.hash and there.batch(positions, positions).images.is_cuda
        for here, moved in zip(
            held(base.batch(positions, positions)), held(there.batch(positions, positions)), strict=True
        ):
            assert torch.allclose(here, moved.cpu())


def test_hash_of_files(tmp_path):
    def family(root, **changes):
        return ViewFamily(folder(root).train, changes.pop("augment", resized_crop_flip(8)), **changes)

    def fill(root, value=0):
        for k, name in enumerate(("a/1.png", "a/2.png", "b/ü 'x' #%\n.png", os.fsdecode(b"b/\xff.png"))):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (k, value, 0)).save(root / name)
        return root

    base = family(fill(tmp_path / "one"))
    assert family(fill(tmp_path / "two")).hash == base.hash  # wherever the folder lies
    assert family(fill(tmp_path / "three", value=1)).hash != base.hash
    assert family(tmp_path / "one", augment=resized_crop_flip(8, scale=0.5)).hash != base.hash
    assert family(tmp_path / "one", augment=centre_crop(8)).hash != base.hash
    (tmp_path / "two" / "a" / "2.png").rename(tmp_path / "two" / "a" / "3.png")
    assert family(tmp_path / "two").hash != base.hash
    gone = family(tmp_path / "two")
    (tmp_path / "two" / "a" / "3.png").unlink()
    with pytest.raises(UserError, match=r"could not read .*3\.png"):
        _ = gone.hash
