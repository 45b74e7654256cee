"""Which batch a training step sees, and that workers change nothing about it."""

import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from draws import held, jitter, states
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dlkd.data import (
    CropFlip,
    FilePixels,
    ImageTransform,
    Mixing,
    Samples,
    Steps,
    ViewFamily,
    centre_crop,
    plain_batches,
    resized_crop_flip,
)
from dlkd.errors import UserError


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(held(one), held(other), strict=True))


def batches(steps, start=0, stop=None, workers=0):
    return list(steps.loader(start, stop or 2 * steps.per_epoch, workers))


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 25), st.integers(1, 25), st.integers(0, 2**40))
def test_an_epoch_shows_each_sample_once(one_class_each, n, batch_size, seed):
    batch_size = min(batch_size, n)
    steps = Steps(ViewFamily(one_class_each(n), CropFlip(), seed=seed), batch_size)
    assert steps.per_epoch == n // batch_size
    for epoch in range(2):
        found = [steps[k] for k in range(epoch * steps.per_epoch, (epoch + 1) * steps.per_epoch)]
        assert all(len(b.labels) == batch_size and b.views.eq(epoch).all() for b in found)
        seen = torch.cat([b.positions for b in found]).tolist()
        # The last partial batch is dropped: everybody else comes exactly once, in the order of the family.
        assert (
            seen == steps.family.order(epoch)[: len(seen)].tolist() and len(set(seen)) == n // batch_size * batch_size
        )


def test_epochs_differ_in_order_and_pixels(one_class_each):
    steps = Steps(ViewFamily(one_class_each(24), CropFlip()), 24)
    first, second = steps[0], steps[1]
    assert not torch.equal(first.positions, second.positions)
    back = [b.images[torch.argsort(b.positions)] for b in (first, second)]
    assert not torch.equal(*back)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 2**40), st.integers(0, 5))
def test_views_are_shown_again_each_once_in_a_block(one_class_each, views, seed, block):
    steps = Steps(ViewFamily(one_class_each(4), CropFlip(), seed=seed), 4, views=views)
    shown = [steps.view_of(epoch) for epoch in range(block * views, (block + 1) * views)]
    assert sorted(shown) == list(range(views)) and all(type(view) is int for view in shown)
    if block == 0:
        assert shown == list(range(views))
    assert replace(steps, views=None).view_of(block * views) == block * views


def test_later_blocks_have_orders_of_their_own(one_class_each):
    def orders(seed):
        steps = Steps(ViewFamily(one_class_each(4), CropFlip(), seed=seed), 4, views=8)
        return [tuple(map(steps.view_of, range(8 * block, 8 * block + 8))) for block in range(5)]

    assert len({*orders(0)}) == 5 and orders(0) == orders(0)
    assert not {*orders(0)[1:]} & {*orders(1)[1:]}


def test_a_view_that_is_shown_again_is_the_same_batches(one_class_each):
    steps = Steps(ViewFamily(one_class_each(8), CropFlip(), Mixing("mixup"), 1), 4, views=3)
    for epoch in range(9):
        for k in range(2):
            assert same(steps[2 * epoch + k], steps[2 * steps.view_of(epoch) + k])
            assert steps[2 * epoch + k].views.eq(steps.view_of(epoch)).all()
    assert all(map(same, batches(steps, 6, 18, workers=2), batches(steps, 6, 18)))


@pytest.mark.parametrize("mixing", [Mixing(), Mixing("mixup"), Mixing("cutmix")], ids=lambda m: m.kind)
def test_workers_and_resuming_change_nothing(one_class_each, photos, mixing):
    families = [ViewFamily(one_class_each(11), CropFlip(1), mixing, 3)]
    families += [ViewFamily(photos, t, mixing) for t in (resized_crop_flip(6), ImageTransform(jitter, {}))]
    for family in families:
        steps = Steps(family, 4)
        expected = batches(steps)
        assert len(expected) == 4
        for workers in (1, 2):
            assert all(map(same, batches(steps, workers=workers), expected))
        for start in (1, 3):
            tail = batches(steps, start)
            assert len(tail) == 4 - start and all(map(same, tail, expected[start:]))
        assert same(steps[2], expected[2])


@settings(deadline=None, max_examples=30)
@given(st.integers(8, 30), st.sampled_from([1, 2, 4]), st.integers(1, 2), st.sampled_from(["none", "mixup", "cutmix"]))
def test_ranks_share_a_batch_and_keep_pairs_together(one_class_each, n, world, pairs, kind):
    family = ViewFamily(one_class_each(n), CropFlip(1), Mixing(kind), 5)
    size = 2 * pairs * world
    if size > n:
        return
    whole = Steps(family, size)
    ranks = [Steps(family, size, rank, world) for rank in range(world)]
    for step in range(2 * whole.per_epoch):
        parts = [rank[step] for rank in ranks]
        assert all(len(p.labels) == size // world for p in parts)
        assert same([torch.cat(x) for x in zip(*map(held, parts), strict=True)], whole[step])
        for part in parts:
            if kind != "none":
                assert set(family.partners(part.positions.numpy(), part.views.numpy())) == set(part.positions.tolist())


@pytest.mark.parametrize(
    ("kind", "size", "world", "message"),
    [
        ("none", 12, 1, "at most the 11 training images"),
        ("none", 5, 2, "2 processes can share"),
        ("mixup", 5, 1, "even batch"),
        ("cutmix", 6, 2, "even batch"),
    ],
)
def test_batches_that_cannot_be(one_class_each, kind, size, world, message):
    with pytest.raises(UserError, match=message):
        Steps(ViewFamily(one_class_each(11), CropFlip(), Mixing(kind)), size, 0, world)


@pytest.mark.parametrize("damage", ["garbage", "cut", "gone"])
def test_a_damaged_image_is_the_same_line_for_any_workers(photos, damage):
    path = photos.pixels.paths[4]
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no image" if damage == "garbage" else path.read_bytes()[:900])
    said, before = [], {*multiprocessing.active_children()}
    for workers in (0, 2):
        with pytest.raises(UserError) as error:
            batches(Steps(ViewFamily(photos, resized_crop_flip(6)), 3), workers=workers)
        said.append(str(error.value))
        assert {*multiprocessing.active_children()} <= before  # though the error, with its frames, is still held
    assert said[0] == said[1] and str(path) in said[0] and "\n" not in said[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_want_of_memory_is_one_line_for_any_workers(photos, monkeypatch, workers):
    def none_left(self, position):
        raise MemoryError

    monkeypatch.setattr(FilePixels, "open", none_left)
    with pytest.raises(UserError, match=r"^there is no memory left to prepare 3 images; give fewer --data.workers"):
        batches(Steps(ViewFamily(photos, resized_crop_flip(6)), 3), workers=workers)


def test_a_loader_leaves_the_generators_alone(one_class_each):
    before = states()
    batches(Steps(ViewFamily(one_class_each(8), CropFlip(), Mixing("mixup")), 4), workers=1)
    batches(Steps(ViewFamily(one_class_each(8), CropFlip(), Mixing("mixup")), 4))
    assert states() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_on_an_accelerator_need_no_workers(one_class_each):
    family = ViewFamily(one_class_each(8), CropFlip())
    there = Steps(family.to(torch.device("cuda")), 4)
    assert all(
        same(a.to(torch.device("cpu")), b)
        for a, b in zip(batches(there, workers=2), batches(Steps(family, 4)), strict=True)
    )


def test_plain_batches(one_class_each, photos):
    samples = replace(one_class_each(7), wrong=None)
    found = list(plain_batches(samples, batch_size=3))
    assert [len(labels) for _, labels in found] == [3, 3, 1]
    assert torch.equal(torch.cat([x for x, _ in found]), samples.pixels.array / 255)
    assert torch.equal(torch.cat([y for _, y in found]), samples.labels)
    found = list(plain_batches(photos, size=8, batch_size=4))
    assert [tuple(x.shape) for x, _ in found] == [(4, 3, 8, 8), (4, 3, 8, 8), (1, 3, 8, 8)]
    assert torch.equal(found[1][0][2], centre_crop(8)(photos.pixels.load(6), 0, 0, 0))
    assert next(plain_batches(photos, batch_size=1))[0].shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), r"^a process that prepares images was killed at (\S+), as"),
        (lambda: time.sleep(60), r"^no batch was ready in time: the processes that prepare images are at (\S+); is"),
    ],
    ids=["killed", "hung"],
)
def test_a_worker_that_is_lost_is_told_with_the_file_that_it_was_at(tmp_path, deed, words):
    class AtTheThird(ImageTransform):
        def __call__(self, image, seed, sample, view):
            if sample == 2:
                deed()
            return super().__call__(image, seed, sample, view)

    for k in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{k}.png")
    pixels = FilePixels([tmp_path / f"{k}.png" for k in range(4)], tmp_path)
    samples = Samples(pixels, torch.tensor([0, 1, 0, 1]), np.arange(4), ("a", "b"))
    steps = Steps(ViewFamily(samples, AtTheThird(centre_crop(8), {})), 2)
    with pytest.raises(UserError, match=words) as error:
        list(steps.loader(0, 2, workers=2, timeout=2))
    assert re.match(words, str(error.value))[1] == str(tmp_path / "2.png")
    assert "--data." in str(error.value) and "\n" not in str(error.value)
