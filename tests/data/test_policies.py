"""Policies, jitter and erasing: pure functions of the view key, in memory and from files; weak and strong views."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from draws import states
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import AutoAugmentPolicy, v2

from dlkd.data import (
    ArrayAugment,
    Colour,
    CropFlip,
    DataOptions,
    Erase,
    Mixing,
    Steps,
    Stream,
    ViewFamily,
    ViewOptions,
    load_data,
    strong_family,
    view_family,
    view_key,
)
from dlkd.data.augment import colour_only
from dlkd.errors import UserError

POLICIES = ("randaugment", "trivialaugment", "autoaugment", "augmix")
SETTINGS = {
    **{name: {"policy": name} for name in POLICIES},
    "jitter": {"jitter": 0.4},
    "cutout": {"erase": "cutout", "erase_size": 0.5},
    "random_erasing": {"erase": "random_erasing", "erase_probability": 0.7},
    "mean": {"erase": "cutout", "erase_fill": "mean"},
    "resized": {"augment": "resized_crop_flip"},
}


@pytest.fixture(scope="module")
def digits():
    return load_data(DataOptions(per_class=4, held_out=0.0))


def in_memory(one_class_each, options, digits):
    return view_family(options, digits._replace(name="npz", train=one_class_each(11, 12)), 5, 0)


def alone(family, position, view):
    return family.batch(np.array([position]), np.array([view])).images[0]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("source", ["memory", "files"])
def test_same_key_same_pixels(name, source, one_class_each, photos, digits):
    options = ViewOptions(**SETTINGS[name])
    if source == "memory":
        family = in_memory(one_class_each, options, digits)
    else:
        family = view_family(options, digits._replace(name="folder", train=photos), 5, 16)
    positions = np.array([3, 0, 5, 3])
    views = np.array([0, 0, 2, 1])
    before = states()
    images = family.batch(positions, views).images
    assert states() == before
    assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
    for k in range(4):
        assert torch.equal(images[k], alone(family, positions[k], views[k]))
    assert not torch.equal(images[0], images[3])


@pytest.mark.parametrize("name", [*POLICIES, "jitter"])
def test_a_policy_changes_most_images_and_other_seeds_change_them_otherwise(name, one_class_each, digits):
    options = ViewOptions("none", **SETTINGS[name])
    family = in_memory(one_class_each, options, digits)
    positions, views = np.arange(11).repeat(8), np.tile(np.arange(8), 11)
    plain = family.samples.pixels.array[torch.from_numpy(positions)].float() / 255
    changed = (family.batch(positions, views).images - plain).abs().amax(dim=(1, 2, 3)) > 0
    assert changed.float().mean() > 0.5
    other = ViewFamily(family.samples, family.augment, seed=6).batch(positions, views).images
    assert not torch.equal(other, family.batch(positions, views).images)


def test_grey_images_stay_grey(digits):
    for policy in POLICIES:
        family = view_family(ViewOptions(policy=policy, jitter=0.5), digits, 0, 0)
        images = family.batch(np.arange(20), np.arange(20) % 3).images
        assert images.shape == (20, 1, 8, 8) and images.std() > 0.1
        # All three channels of what a policy makes of a grey image are the same: the first is the whole truth.
        augment = ArrayAugment(CropFlip(0, False), colour_only(Colour(policy, jitter=0.5)))
        pixels = torch.randint(0, 256, (30, 1, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        grey, three = (augment(x, 1, *2 * [np.arange(30)]) for x in (pixels, pixels.repeat(1, 3, 1, 1)))
        assert grey.shape == (30, 1, 9, 9) and grey.dtype == torch.uint8 and not torch.equal(grey, pixels)
        assert torch.equal(three, grey.repeat(1, 3, 1, 1))


TORCHVISION = {
    "randaugment": (v2.RandAugment(3, 12), v2.RandAugment(3, 12)),
    "trivialaugment": (v2.TrivialAugmentWide(), v2.TrivialAugmentWide()),
    "autoaugment": (v2.AutoAugment(AutoAugmentPolicy.CIFAR10), v2.AutoAugment(AutoAugmentPolicy.IMAGENET)),
    "augmix": (v2.AugMix(), v2.AugMix()),
    "jitter": (v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_policy_is_torchvisions_own_under_the_key(name, one_class_each, photos, digits):
    options = ViewOptions(
        "none",
        **SETTINGS[name],
        **({"policy_ops": 3, "policy_magnitude": 12} if name == "randaugment" else {}),
    )
    memory = in_memory(one_class_each, options, digits)
    files = view_family(options, digits._replace(name="folder", train=photos), 5, 16)
    shown = v2.Compose([v2.Resize(18, antialias=True), v2.CenterCrop(16)])
    for k in range(9):
        image = Image.fromarray(memory.samples.pixels.array[k].permute(1, 2, 0).numpy())
        plain = (image, shown(photos.pixels.load(k)))
        for family, policy, given in zip((memory, files), TORCHVISION[name], plain, strict=True):
            with torch.random.fork_rng():
                torch.manual_seed(int(view_key(5, k, 4, Stream.TRANSFORM)))
                expected = torch.from_numpy(np.array(policy(given))).permute(2, 0, 1)
            assert torch.equal((alone(family, k, 4) * 255).round().to(torch.uint8), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers, one_class_each, digits):
    options = ViewOptions(policy="randaugment", erase="cutout", mixing="mixup", strong="trivialaugment")
    train = replace(one_class_each(12, 8), weights=torch.linspace(0.1, 1, 12))
    data = digits._replace(name="npz", train=train)
    steps = Steps(view_family(options, data, 3, 0), 4, strong=strong_family(options, data, 3, 0))
    here = list(steps.loader(0, 5, workers))
    for step, batch in enumerate(here):
        whole = steps[step]
        assert all(torch.equal(a, b) for a, b in zip(batch, whole, strict=True)) and len(batch) == 7
    halves = [[Steps(steps.family, 4, rank, 2, steps.strong)[k] for rank in (0, 1)] for k in range(5)]
    for both, whole in zip(halves, here, strict=True):
        assert torch.equal(torch.cat([b.strong for b in both]), whole.strong)
        assert torch.equal(torch.cat([b.images for b in both]), whole.images)


def cutout_by_hand(image, size, seed, sample, view):
    side = max(1, round(size * min(image.shape[-2:])))
    rows, columns = (
        int(view_key(seed, sample, view, stream)) * length >> 32
        for stream, length in ((Stream.ERASE_ROW, image.shape[-2]), (Stream.ERASE_COLUMN, image.shape[-1]))
    )
    top, left = max(rows - side // 2, 0), max(columns - side // 2, 0)
    image = image.clone()
    image[:, top : rows - side // 2 + side, left : columns - side // 2 + side] = 0
    return image


def test_cutout_against_slices():
    images = torch.rand(40, 3, 9, 7) + 0.1
    ids, views = np.arange(40) * 3, np.arange(40) % 4
    found = Erase("cutout", 0.5)(images, 11, ids, views)
    for k in range(40):
        assert torch.equal(found[k], cutout_by_hand(images[k], 0.5, 11, int(ids[k]), int(views[k])))


def test_random_erasing_has_its_areas_and_probability():
    n, images = 4000, torch.ones(4000, 1, 32, 32)
    found = Erase("random_erasing", probability=0.6)(images, 1, np.arange(n), np.zeros(n, np.int64))
    shares = 1 - found.mean(dim=(1, 2, 3))
    erased = shares > 0
    assert erased.float().mean().item() == pytest.approx(0.6, abs=0.03)
    # Sides are rounded to pixels, so that the smallest boxes leave the range a little.
    assert shares[erased].min() > 0.012 and shares[erased].max() < 0.36
    assert shares[erased].mean().item() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    rows, columns = ((found[:, 0] == 0).any(dim=d).sum(dim=1)[erased] for d in (2, 1))
    assert torch.equal(rows * columns, (found == 0).sum(dim=(1, 2, 3))[erased])  # one box each
    ratio = (rows / columns).log()
    assert ratio.mean().abs() < 0.05 and ratio.abs().max() < np.log(3.3) + 0.4
    # The log of the ratio is uniform, so its standard deviation is ln 3.3 / √3.
    assert ratio.std().item() == pytest.approx(np.log(3.3) / 3**0.5, rel=0.08)


def test_the_box_may_have_the_mean_colour():
    numbers = np.random.default_rng(2).integers(1, 256, (20, 3, 9, 7))
    images = torch.from_numpy(numbers / 255).float()
    ids, views = np.arange(20), np.arange(20) % 4
    box = Erase("cutout", 0.5)(images, 11, ids, views) == 0
    found = Erase("cutout", 0.5, fill="mean")(images, 11, ids, views)
    assert found.dtype == torch.float32 and torch.equal(found[~box], images[~box])
    expected = torch.from_numpy(numbers.mean(axis=(2, 3), keepdims=True) / 255).expand(images.shape)
    torch.testing.assert_close(found[box].double(), expected[box], rtol=0, atol=1e-7)


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
def test_both_views_have_one_target_and_other_pixels(mixing, one_class_each, digits):
    options = ViewOptions(mixing=mixing, strong="randaugment")
    data = digits._replace(name="npz", train=one_class_each(12, 8))
    weak, strong = view_family(options, data, 3, 0), strong_family(options, data, 3, 0)
    batch = Steps(weak, 6, strong=strong)[1]
    seen = strong.batch(batch.positions.numpy(), batch.views.numpy())
    assert torch.equal(batch.target, seen.target) and torch.equal(batch.strong, seen.images)
    assert batch.target.is_floating_point() == (mixing != "none")
    assert not torch.equal(batch.strong, batch.images)
    shown = batch.strong_view()
    assert torch.equal(shown.images, batch.strong) and shown.strong is None and torch.equal(shown.target, batch.target)
    assert batch.map(lambda x: x[:2]).strong.shape == (2, 3, 8, 9)
    assert weak.hash != strong.hash
    # The crop of the strong view is drawn by itself.
    geometry = ViewFamily(data.train, weak.augment, weak.mixing, 3, strong=True)
    assert not torch.equal(
        geometry.batch(np.arange(12), np.zeros(12, np.int64)).images,
        weak.batch(np.arange(12), np.zeros(12, np.int64)).images,
    )


def test_strong_views_must_be_of_the_same_pairs(one_class_each):
    weak = ViewFamily(one_class_each(8), CropFlip(1), Mixing("mixup"), 1)
    for samples, mixing, seed in (
        (weak.samples, Mixing("mixup"), 2),
        (weak.samples, Mixing("mixup", 0.5), 1),
        (weak.samples, Mixing("cutmix"), 1),
        (one_class_each(8, seed=1), Mixing("mixup"), 1),
        (one_class_each(9).take(np.arange(1, 9)), Mixing("mixup"), 1),
    ):
        with pytest.raises(ValueError, match="the same samples, mixing and seed"):
            Steps(weak, 4, strong=ViewFamily(samples, weak.augment, mixing, seed, strong=True))
    assert (
        Steps(weak, 4, strong=ViewFamily(weak.samples, CropFlip(2), weak.mixing, 1, strong=True))[0].strong is not None
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "randomaugment"},
        {"policy": "randaugment", "policy_ops": 0},
        {"policy": "randaugment", "policy_magnitude": 31},
        {"jitter": -0.1},
        {"erase": "cutoff"},
        {"erase": "cutout", "erase_size": 0.0},
        {"erase": "random_erasing", "erase_probability": 1.1},
        {"erase": "cutout", "erase_fill": "noise"},
    ],
)
def test_bad_values(changes):
    with pytest.raises(UserError, match="expected"):
        ViewOptions(**changes).check()


UNUSED = [
    ({"pad": 2}, "none", "augment crop_flip with --views.pad, but got none"),
    ({"pad": 2}, "resized_crop_flip", "augment crop_flip with --views.pad, but got resized_crop_flip"),
    ({"flip": True}, "none", "augment crop_flip or resized_crop_flip with --views.flip, but got none"),
    ({"scale": 0.5}, "auto", "augment resized_crop_flip with --views.scale, but got crop_flip"),
    (
        {"policy": "augmix", "policy_ops": 3, "strong": "none"},
        "auto",
        "--views.strong randaugment with --views.policy_ops",
    ),
    ({"policy_magnitude": 3, "strong": "augmix"}, "auto", "randaugment with --views.policy_magnitude, but got none"),
    (
        {"erase": "random_erasing", "erase_size": 0.5},
        "auto",
        "erase cutout with --views.erase_size, but got random_eras",
    ),
    ({"erase_probability": 0.5}, "auto", "cutout or random_erasing with --views.erase_probability, but got none"),
    ({"erase_fill": "mean"}, "auto", "cutout or random_erasing with --views.erase_fill, but got none"),
    ({"mixing_alpha": 0.4}, "auto", "mixing mixup or cutmix with --views.mixing_alpha, but got none"),
]


@pytest.mark.parametrize(("changes", "augment", "words"), UNUSED)
def test_a_setting_without_effect_is_refused(changes, augment, words, digits):
    with pytest.raises(UserError) as error:
        view_family(ViewOptions(augment, **changes), digits, 0, 0)
    said = str(error.value)
    assert words in said and "\n" not in said and said.endswith("out")


def test_a_setting_with_effect_is_not_refused(digits):
    for changes in (
        {"augment": "none", "flip": False},
        {"policy_ops": 3, "strong": "randaugment"},
        {"policy": "randaugment", "policy_magnitude": 3, "strong": "none"},
        {"policy_ops": 3},  # a method of two views may still want it
        {"erase": "random_erasing", "erase_fill": "mean", "erase_probability": 0.5},
        {"augment": "resized_crop_flip", "scale": 0.5, "flip": True},
    ):
        view_family(ViewOptions(**changes), digits, 0, 0)


@pytest.mark.parametrize(
    "changes", [{"policy": "trivialaugment"}, {"erase": "cutout", "erase_fill": "mean"}, {"strong": "augmix"}]
)
def test_through_the_command_line(changes, tmp_path, good, train, digits):
    options = [word for name, value in changes.items() for word in (f"--views.{name}", value)]
    good(*train(tmp_path, *options, "--data.held_out", 0))
    told = json.loads((tmp_path / "run.json").read_text())
    data = load_data(DataOptions(per_class=30, held_out=0.0))
    plain = view_family(ViewOptions(), data, 0, 0)
    assert told["data"]["views"] == view_family(ViewOptions(**changes), data, 0, 0).hash
    assert (told["data"]["views"] == plain.hash) == ("strong" in changes)
    good(*train(tmp_path / "plain", "--data.held_out", 0))
    now, then = (load_file(folder / "student.safetensors") for folder in (tmp_path, tmp_path / "plain"))
    assert any(not torch.equal(now[name], then[name]) for name in then)
