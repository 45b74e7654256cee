"""Policies, jitter and erasing: pure functions of the view key, in memory and from files; weak and strong views."""

import json

import numpy as np
import pytest
import torch

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
    state = torch.get_rng_state()
    images = family.batch(positions, views).images
    assert torch.equal(torch.get_rng_state(), state)
    assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
    for k in range(4):
        assert torch.equal(images[k], alone(family, positions[k], views[k]))
    assert not torch.equal(images[0], images[3])
    assert len({family.hash, view_family(ViewOptions(), digits._replace(train=family.samples), 5, 16).hash}) == 2


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
    each = colour_only(Colour("trivialaugment", jitter=0.5))
    grey = ArrayAugment(CropFlip(0, False), each)(
        torch.randint(0, 256, (30, 1, 9, 9), dtype=torch.uint8), 1, *2 * [np.arange(30)]
    )
    assert grey.shape == (30, 1, 9, 9) and grey.dtype == torch.uint8


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers, one_class_each, digits):
    options = ViewOptions(policy="randaugment", erase="cutout", mixing="mixup", strong="trivialaugment")
    data = digits._replace(name="npz", train=one_class_each(12, 8))
    steps = Steps(view_family(options, data, 3, 0), 4, strong=strong_family(options, data, 3, 0))
    here = list(steps.loader(0, 5, workers))
    for step, batch in enumerate(here):
        whole = steps[step]
        assert all(torch.equal(a, b) for a, b in zip(batch, whole, strict=True)) and len(batch) == 6
    halves = [[Steps(steps.family, 4, rank, 2, steps.strong)[k] for rank in (0, 1)] for k in range(5)]
    for both, whole in zip(halves, here, strict=True):
        assert torch.equal(torch.cat([b.strong for b in both]), whole.strong)


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


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
def test_both_views_have_one_target_and_other_pixels(mixing, one_class_each, digits):
    options = ViewOptions(mixing=mixing, strong="randaugment")
    data = digits._replace(name="npz", train=one_class_each(12, 8))
    weak, strong = view_family(options, data, 3, 0), strong_family(options, data, 3, 0)
    batch = Steps(weak, 6, strong=strong)[1]
    seen = strong.batch(batch.positions.numpy(), batch.views.numpy())
    assert torch.equal(batch.target, seen.target) and torch.equal(batch.strong, seen.images)
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
    with pytest.raises(ValueError, match="the same samples, mixing and seed"):
        Steps(weak, 4, strong=ViewFamily(weak.samples, weak.augment, Mixing("mixup"), 2, strong=True))


def test_families_of_before_keep_their_names(digits):
    """What is stored for a family without the new choices is still found."""
    family = view_family(ViewOptions(mixing="mixup"), digits, 7, 0)
    expected = {
        "samples": digits.train.digest(),
        "augment": {"kind": "crop_flip", "pad": 1, "flip": False},
        "mixing": {"kind": "mixup", "alpha": 1.0},
        "seed": 7,
    }
    assert json.dumps(family.content, sort_keys=True) == json.dumps(expected, sort_keys=True)


def test_what_has_no_effect_is_not_in_the_name(digits):
    def name(**changes):
        return view_family(ViewOptions(**changes), digits, 0, 0).hash

    assert name(policy="trivialaugment", policy_magnitude=3) == name(policy="trivialaugment")
    assert name(policy="randaugment", policy_magnitude=3) != name(policy="randaugment")
    assert name(erase_size=0.5) == name()


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
    ],
)
def test_bad_values(changes):
    with pytest.raises(UserError, match="expected"):
        ViewOptions(**changes).check()


def test_through_the_command_line(tmp_path, good, train):
    for k, options in enumerate((("--views.policy", "trivialaugment"), ("--views.erase", "cutout"))):
        good(*train(tmp_path / str(k), *options))
        assert options[1] in (tmp_path / str(k) / "run.json").read_text()
