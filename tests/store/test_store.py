"""A stored lesson is the live one, and a store never answers for another teacher or other views."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from dlkd.data import CropFlip, Mixing, ViewFamily, resized_crop_flip
from dlkd.data.sources import folder, in_memory
from dlkd.difficulty import DifficultyScore, prune_teacher
from dlkd.errors import UserError
from dlkd.store import LiveLessons, StoredLessons
from dlkd.teacher import FrozenTeacher

N, CLASSES = 11, 4
MIXINGS = [Mixing(), Mixing("mixup", 0.4), Mixing("cutmix")]
IDENTITY = {"teacher": "abc", "probes": [{"sparsity": 0.3}], "precision": "fp32"}


class Picks(nn.Module):
    """Each logit is one pixel times a power of two: exact, whatever the batch; counts how often it is asked."""

    def __init__(self, first=0, stop_at=None, stop_with=AssertionError):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, -4.0, 0.5]))
        self.first, self.stop_at, self.stop_with = first, stop_at, stop_with
        self.calls, self.images = 0, 0

    def forward(self, x):
        self.calls += 1
        self.images += len(x)
        if self.calls == self.stop_at:
            raise self.stop_with
        return x.flatten(1)[:, self.first : self.first + CLASSES] * self.scale


def samples(n=N):
    pixels = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return in_memory(pixels, torch.arange(n) % CLASSES, tuple("abcd"))


def live(*, tau=1.0, **stop):
    return LiveLessons(
        FrozenTeacher(Picks(3, **stop), {"one": Picks(4), "two": Picks(7)}), [DifficultyScore("distance", tau)]
    )


def family(mixing=MIXINGS[0], seed=0, **changes):
    return ViewFamily(changes.get("samples", samples()), changes.get("augment", CropFlip(1)), mixing, seed)


def assert_same(lesson, other):
    assert torch.equal(lesson.logits, other.logits)
    assert lesson.columns.keys() == other.columns.keys() == {"one/l2/tau1", "two/l2/tau1"}
    assert all(torch.equal(lesson.columns[k], other.columns[k]) for k in lesson.columns)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(MIXINGS),
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 2)), min_size=1, max_size=12),
    st.integers(1, 20),
)
def test_stored_is_live_bit_for_bit(tmp_path_factory, mixing, names, batch_size):
    views, path = family(mixing), tmp_path_factory.mktemp("store") / "deep" / "er"
    store = StoredLessons(path, live(), views, IDENTITY, batch_size)
    positions, numbers = np.array(names).T
    batch = views.batch(positions, numbers)  # several view numbers at once, in any order, some twice
    assert_same(store(batch), live()(batch))
    again = live(stop_at=1)
    assert_same(StoredLessons(path, again, views, IDENTITY, 3)(batch), live()(batch))
    assert again.teacher.models[0].calls == 0


@pytest.mark.parametrize("mixing", MIXINGS, ids=lambda m: m.kind)
def test_stored_is_live_for_a_network_and_the_same_batches(tmp_path, mixing):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(32, CLASSES)
    network = nn.Sequential(*layers)
    lessons = LiveLessons(
        FrozenTeacher(network, {"one": prune_teacher(network, 0.3), "two": prune_teacher(network, 0.6)})
    )
    views = family(mixing)
    store, order = StoredLessons(tmp_path / "s", lessons, views, IDENTITY, 4), views.order(2)
    for start in range(0, N, 4):
        batch = views.batch(order[start : start + 4], np.full_like(order[start : start + 4], 2))
        assert_same(store(batch), lessons(batch))
        assert store(batch).columns["two/l2/tau1"].gt(0).all()


def test_the_teacher_is_asked_once_about_each_view(tmp_path):
    lessons = live()
    store, teacher = StoredLessons(tmp_path / "s", lessons, family(), IDENTITY, 4), lessons.teacher.models[0]
    for view, images in ((0, N), (0, N), (1, 2 * N), (0, 2 * N), (1, 2 * N)):
        store(family().batch(np.arange(3), np.full(3, view)))
        assert teacher.images == images
    assert teacher.calls == 2 * 3  # in batches of four
    store.plain(samples())
    store.plain(samples())
    assert teacher.images == 3 * N
    second = live(stop_at=1)
    other = StoredLessons(tmp_path / "s", second, family(), IDENTITY, 256)
    other(family().batch(np.array([0, 1]), np.array([0, 1])))
    other.plain(samples())
    # Labels are no part of a lesson: another labelling is served by the same store.
    relabelled = samples().relabelled(np.zeros(N, np.int64), np.ones(N, bool))
    StoredLessons(tmp_path / "s", second, family(samples=relabelled), IDENTITY)(
        family().batch(np.arange(2), np.array([1, 0]))
    )
    assert second.teacher.models[0].calls == 0


def test_plain_lessons(tmp_path):
    store = StoredLessons(tmp_path / "s", live(), family(MIXINGS[1]), IDENTITY)
    whole, part = samples(), samples().take(np.array([5, 2]))
    for _ in range(2):  # asked, then read
        assert_same(store.plain(whole), live().plain(whole))
        assert_same(store.plain(part), live().plain(part))
    exact = Picks(3)(whole.pixels.array / 255)
    assert torch.equal(store.plain(whole).logits, exact) and torch.equal(store.plain(part).logits, exact[[5, 2]])


def test_plain_lessons_of_files_are_kept_by_size(tmp_path):
    for k in range(4):
        path = tmp_path / "images" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    photos = folder(tmp_path / "images").train
    lessons = live()
    store = StoredLessons(tmp_path / "s", lessons, family(samples=photos, augment=resized_crop_flip(6)), IDENTITY)
    small, large = store.plain(photos, 6), store.plain(photos, 8)
    assert not torch.equal(small.logits, large.logits)
    assert_same(store.plain(photos, 6), small)
    assert lessons.teacher.models[0].images == 8


def test_a_lesson_is_on_the_device_of_the_batch_and_can_be_learnt_from(tmp_path):
    store = StoredLessons(tmp_path / "s", live(), family(), IDENTITY)
    lesson = store(family().batch(np.arange(3), np.zeros(3, np.int64)))
    assert not lesson.logits.requires_grad and not lesson.logits.is_inference()
    (torch.ones(3, CLASSES, requires_grad=True) * lesson.logits).sum().backward()
    lesson.logits.zero_()  # and what is written into it does not reach the store
    assert store(family().batch(np.arange(3), np.zeros(3, np.int64))).logits.any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": family(seed=1)}, "seed"),
        ({"family": family(augment=CropFlip(2))}, "augment"),
        ({"family": family(MIXINGS[2])}, "mixing"),
        ({"family": family(samples=samples().take(np.arange(5)))}, "samples"),
        ({"family": family(samples=replace(samples(), ids=np.arange(N) + 1))}, "samples"),
        ({"family": family(MIXINGS[1], seed=2)}, "mixing, seed"),
        ({"identity": IDENTITY | {"teacher": "other"}}, "teacher"),
        ({"identity": IDENTITY | {"probes": [{"sparsity": 0.5}]}}, "probes"),
        ({"identity": IDENTITY | {"precision": "bf16"}}, "precision"),
        ({"identity": {k: v for k, v in IDENTITY.items() if k != "probes"}}, "probes"),
        ({"identity": IDENTITY | {"fold": True}}, "fold"),
        ({"live": live(tau=2.0)}, "scores"),
    ],
)
def test_what_differs_is_named(tmp_path, changes, said):
    store = StoredLessons(tmp_path / "s", live(), family(), IDENTITY)
    store.shard(0)
    before = {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}
    wanted = {"live": live(), "family": family(), "identity": IDENTITY} | changes
    with pytest.raises(UserError, match=f"differs in {said}; give another --store") as error:
        StoredLessons(tmp_path / "s", **wanted)
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == before


def test_a_store_without_the_parts_of_its_family_still_opens(tmp_path):
    # As the first stores were written.
    StoredLessons(tmp_path / "s", live(), family(), IDENTITY).shard(0)
    manifest = tmp_path / "s" / "manifest.json"
    manifest.write_text(json.dumps({k: v for k, v in json.loads(manifest.read_text()).items() if k != "views"}))
    StoredLessons(tmp_path / "s", live(stop_at=1), family(), IDENTITY).shard(0)
    with pytest.raises(UserError, match=r"differs in .*seed"):
        StoredLessons(tmp_path / "s", live(), family(seed=1), IDENTITY)


def test_identity_of_any_json_values(tmp_path):
    identity = {"mean": (0.1, 0.2), "nothing": None, "nested": {"a": [1, (2, 3)]}}
    for _ in range(2):
        StoredLessons(tmp_path / "s", live(), family(), identity)


def test_interrupted_filling_leaves_no_half_file(tmp_path):
    path = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        StoredLessons(path, live(stop_at=3, stop_with=KeyboardInterrupt), family(), IDENTITY, 4).shard(0)
    assert [p.name for p in path.iterdir()] == ["manifest.json"]
    assert len(StoredLessons(path, live(), family(), IDENTITY, 4).shard(0)["logits"]) == N


def test_a_full_disk_leaves_no_half_file(tmp_path):
    resource = pytest.importorskip("resource")
    store = StoredLessons(tmp_path / "s", live(), family(), IDENTITY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="is the disk full"):
            store.shard(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["manifest.json"]
    assert len(store.shard(0)["logits"]) == N


KILLED = """
import os, sys
from pathlib import Path
import dlkd.files
os.replace = lambda *_: os.kill(os.getpid(), 9)  # as if the power went just before the rename
dlkd.files.write_atomic(Path(sys.argv[1]), b"half")
"""


@pytest.mark.parametrize("name", ["manifest.json", "view-00000.safetensors"])
def test_a_killed_writer_does_no_harm(tmp_path, name):
    path = tmp_path / "s"
    if name == "manifest.json":
        path.mkdir()
    else:
        StoredLessons(path, live(), family(), IDENTITY)
    killed = subprocess.run([sys.executable, "-c", KILLED, path / name], check=False)
    assert killed.returncode == -9 and any(p.suffix == ".tmp" for p in path.iterdir())
    store = StoredLessons(path, live(), family(), IDENTITY)
    batch = family().batch(np.arange(N), np.zeros(N, np.int64))
    assert_same(store(batch), live()(batch))


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "another"])
@pytest.mark.parametrize("kind", ["view", "plain"])
def test_a_damaged_file_is_named(tmp_path, damage, kind):
    def ask(lessons):
        store = StoredLessons(tmp_path / "s", lessons, family(), IDENTITY)
        return store.shard(0) if kind == "view" else store.plain(samples())

    ask(live())
    (file,) = (tmp_path / "s").glob(f"{kind}-*.safetensors")
    whole = file.read_bytes()
    other = safetensors.torch.save({"other": torch.zeros(2)})
    file.write_bytes({"cut": whole[:-1], "garbage": bytes(200), "empty": b"", "another": other}[damage])
    with pytest.raises(UserError, match=f"{file.name} is damaged; delete it"):
        ask(live())
    file.unlink()
    ask(live())
    assert file.read_bytes() == whole


def test_folders_that_are_no_store(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="expected a store or an empty folder"):
        StoredLessons(tmp_path, live(), family(), IDENTITY)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="could not open the store"):
        StoredLessons(tmp_path / "thesis.txt", live(), family(), IDENTITY)
    for content, message in (
        ("{", "could not open"),
        ("[]", "differs in"),
        ("{}", "differs in"),
        ("\x00", "could not open"),
    ):
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s" / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=message) as error:
            StoredLessons(tmp_path / "s", live(), family(), IDENTITY)
        assert "\n" not in str(error.value)
