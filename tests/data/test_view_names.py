"""A family's name covers whatever its pixels depend on, and those of before the policies keep theirs."""

import json

import numpy as np
import pytest

from dlkd.data import DataOptions, ViewOptions, load_data, strong_family, view_family


@pytest.fixture(scope="module")
def digits():
    return load_data(DataOptions(per_class=4, held_out=0.0))


def same(content, expected):
    """Equal as the hash sees them."""
    return json.dumps(content, sort_keys=True) == json.dumps(expected, sort_keys=True)


def test_families_of_before_keep_their_names(digits, photos):
    """What is stored for a family without the new choices is still found."""
    crop = {"kind": "crop_flip", "pad": 1, "flip": False}
    resized = {"kind": "resized_crop_flip", "size": 16, "scale": 0.25, "flip": True}
    for data, augment, kind in (
        (digits, crop, "auto"),
        (digits, {**crop, "pad": 0}, "none"),
        (digits._replace(name="folder", train=photos), resized, "auto"),
        (digits._replace(name="folder", train=photos), {"kind": "centre_crop", "size": 16}, "none"),
    ):
        family = view_family(ViewOptions(kind, mixing="mixup"), data, 7, 16)
        mixing = {"kind": "mixup", "alpha": 1.0}
        assert same(family.content, {"samples": data.train.digest(), "augment": augment, "mixing": mixing, "seed": 7})


def test_families_of_today_keep_their_names(digits):
    """The new choices as they are first told: a later one must not rename them."""
    options = ViewOptions(policy="randaugment", jitter=0.25, erase="cutout", strong="autoaugment")
    weak, strong = view_family(options, digits, 7, 0), strong_family(options, digits, 7, 0)
    colour = {"policy": "randaugment", "ops": 2, "magnitude": 10, "jitter": 0.25}
    expected = {
        "samples": digits.train.digest(),
        "augment": {
            "kind": "array",
            "crop": {"kind": "crop_flip", "pad": 1, "flip": False},
            "each": {"kind": "colour", "colour": colour},
        },
        "mixing": {"kind": "none"},
        "seed": 7,
        "erase": {"kind": "cutout", "size": 0.25, "probability": 1.0},
    }
    assert same(weak.content, expected)
    expected["augment"]["each"]["colour"] = {"policy": "autoaugment", "small": True, "jitter": 0.25}
    assert same(strong.content, {**expected, "strong": True})


OPTIONS = [
    *({"policy": name} for name in ("randaugment", "trivialaugment", "autoaugment", "augmix")),
    {"policy": "randaugment", "policy_ops": 3},
    {"policy": "randaugment", "policy_magnitude": 9},
    *({"jitter": share} for share in (0.2, 0.4)),
    {"policy": "augmix", "jitter": 0.4},
    *({"erase": kind, **more} for kind in ("cutout", "random_erasing") for more in ({}, {"erase_probability": 0.5})),
    *({"erase": kind, "erase_fill": "mean"} for kind in ("cutout", "random_erasing")),
    {"erase": "cutout", "erase_size": 0.5},
    *({"augment": "resized_crop_flip", "flip": True, **more} for more in ({}, {"scale": 0.5}, {"jitter": 0.2})),
    {"augment": "resized_crop_flip", "flip": False},
    *({"augment": "none", **more} for more in ({}, {"jitter": 0.2}, {"policy": "augmix"})),
    {"policy": "augmix", "flip": False},
]
MEMORY = [{}, *OPTIONS, {"pad": 3}, {"pad": 3, "policy": "augmix"}]
FILES = [{}, {"scale": 0.5}, *(o for o in OPTIONS if o.get("augment") != "resized_crop_flip")]


@pytest.mark.parametrize("source", ["memory", "files"])
def test_other_pixels_have_another_name(source, one_class_each, photos, digits):
    """Over all choices: families differ in name exactly where they differ in pixels."""
    train = one_class_each(9, 12) if source == "memory" else photos
    data = digits._replace(name="npz" if source == "memory" else "folder", train=train)
    positions, views = np.arange(9).repeat(6), np.tile(np.arange(6), 9)
    names, pixels = [], []
    for changes in MEMORY if source == "memory" else FILES:
        for build in (view_family, strong_family):
            family = build(ViewOptions(**changes, strong="trivialaugment"), data, 5, 16)
            names.append(family.hash)
            pixels.append(family.batch(positions, views).images.numpy().tobytes())
    # The strong views of a list of policies are those of the strong policy alone.
    assert len(set(names)) == len(set(pixels)) == len(set(zip(names, pixels, strict=True)))
    assert len(set(names)) > len(names) // 2


def test_what_has_no_effect_is_not_in_the_name(digits):
    def name(**changes):
        return view_family(ViewOptions(**changes), digits, 0, 0).hash

    # strong is auto: the setting might be for a strong view, and is accepted.
    assert name(policy="trivialaugment", policy_magnitude=3) == name(policy="trivialaugment")
    assert name(strong="randaugment", policy_ops=4) == name()
