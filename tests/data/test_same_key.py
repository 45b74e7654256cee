"""Same key, same pixels, for every augmentation: whatever the workers, the batch, the ranks and where images lie."""

import shutil

import numpy as np
import pytest
import torch
from draws import held
from PIL import Image

from dlkd.data import DataOptions, Steps, ViewOptions, load_data, strong_family, view_family
from dlkd.data.sources import folder, in_memory

CHOICES = {
    "crop and flip": {},
    "resized crop": {"augment": "resized_crop_flip", "flip": True},
    **{name: {"policy": name} for name in ("randaugment", "trivialaugment", "autoaugment", "augmix")},
    "jitter": {"jitter": 0.4},
    "cutout": {"erase": "cutout", "erase_size": 0.5},
    "random erasing": {"erase": "random_erasing", "erase_probability": 0.7},
    "mixup": {"mixing": "mixup"},
    "cutmix": {"mixing": "cutmix"},
    "weak and strong": {"strong": "randaugment", "mixing": "mixup"},
}
# Batch, workers, ranks. Of nine samples each way shows the first eight of every epoch.
WAYS = [(2, 0, 1), (4, 2, 1), (8, 0, 2)]


def shown(options, data, batch_size=4, workers=0, world=1):
    """What is shown of each (sample, view) in two epochs, by all ranks together."""
    weak, strong = (make(options, data, 5, 16) for make in (view_family, strong_family))
    found = {}
    for rank in range(world):
        steps = Steps(weak, batch_size, rank, world, strong)
        for batch in steps.loader(0, 2 * steps.per_epoch, workers):
            keys = list(zip(batch.positions.tolist(), batch.views.tolist(), strict=True))
            assert not found.keys() & set(keys)
            found |= {key: [part[k] for part in held(batch)] for k, key in enumerate(keys)}
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys() and len(found) == 16
    for key, parts in expected.items():
        assert len(found[key]) == len(parts) and all(map(torch.equal, found[key], parts)), key


@pytest.fixture(scope="module")
def digits():
    return load_data(DataOptions(per_class=4, held_out=0.0))


@pytest.mark.parametrize("source", ["memory", "files"])
@pytest.mark.parametrize("name", CHOICES)
def test_workers_batches_and_ranks(name, source, one_class_each, photos, digits):
    train = one_class_each(9, 12) if source == "memory" else photos
    data, options = digits._replace(name=source, train=train), ViewOptions(**CHOICES[name])
    expected = shown(options, data)
    for batch_size, workers, world in WAYS:
        assert_same(shown(options, data, batch_size, workers, world), expected)
    # Nothing above could fail if views were all alike.
    assert len({parts[0].numpy().tobytes() for parts in expected.values()}) > 12


@pytest.mark.parametrize("name", CHOICES)
def test_where_files_lie(name, photos, digits, tmp_path):
    options = ViewOptions(**CHOICES[name])
    shutil.copytree(photos.pixels.root, tmp_path / "else" / "where")
    there = folder(tmp_path / "else" / "where").train
    assert there.pixels.root != photos.pixels.root and there.digest() == photos.digest()
    first, second = (shown(options, digits._replace(name="folder", train=train)) for train in (photos, there))
    assert_same(second, first)


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "autoaugment"])
def test_files_or_memory(name, digits, tmp_path):
    """AutoAugment has policies for small images and for others; all else is the same function of an image."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    for k in range(9):
        path = tmp_path / ("cat" if k < 5 else "dog") / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[k]).save(path)
    files = folder(tmp_path).train
    memory = in_memory(torch.from_numpy(pixels).permute(0, 3, 1, 2), files.labels, files.class_names)
    options = ViewOptions(**{"augment": "resized_crop_flip", "flip": True, **CHOICES[name]})
    first, second = (shown(options, digits._replace(name="any", train=train)) for train in (files, memory))
    assert first.keys() == second.keys() and len(first) == 16
    for key, parts in first.items():
        # 0 to 255 becomes [0, 1] by a product in the one and a quotient in the other: half a step of fp32.
        for one, other in zip(parts, second[key], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
