"""A stored lesson is the live one, and a store never answers for another teacher or other views."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from store_toys import CLASSES, IDENTITY, MIXINGS, N, Picks, assert_same, content, family, live, opened, samples
from torch import nn

from dlkd.data import CropFlip, resized_crop_flip
from dlkd.data.erase import Erase
from dlkd.data.sources import folder
from dlkd.difficulty import prune_teacher
from dlkd.errors import UserError
from dlkd.store import LiveLessons, Manifest, Shard, Storage
from dlkd.teacher import FrozenTeacher

FIRST = Shard(0, 0)


def view(number, positions=None, views=None):
    positions = np.arange(N) if positions is None else np.asarray(positions)
    return (views or family()).batch(positions, np.full_like(positions, number))


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(MIXINGS),
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, 2)), min_size=1, max_size=12),
    st.integers(1, 20),
    st.sampled_from([2, 4, 6, 20]),
)
def test_stored_is_live_bit_for_bit(tmp_path_factory, mixing, names, batch_size, rows):
    views, path = family(mixing), tmp_path_factory.mktemp("store") / "deep" / "er"
    store = opened(path, views=views, batch_size=batch_size, rows=rows)
    assert store.manifest.rows == min(rows, N + 1) and store.manifest.shards == -(-N // rows)
    positions, numbers = np.array(names).T
    batch = views.batch(positions, numbers)  # several view numbers at once, in any order, some twice
    assert_same(store(batch), live()(batch))
    again = live(stop_at=1)
    assert_same(opened(path, again, views, batch_size=3)(batch), live()(batch))
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
    store, order = opened(tmp_path / "s", lessons, views, batch_size=4, rows=8), views.order(2)
    for start in range(0, N, 4):
        batch = view(2, order[start : start + 4], views)
        assert_same(store(batch), lessons(batch))
        assert store(batch).columns["two/l2/tau1"].gt(0).all()


@pytest.mark.parametrize("rows", [2, 4, 5, 6])
def test_rows_stand_in_the_order_of_the_epoch_and_pairs_stay_together(tmp_path, rows):
    views = family(MIXINGS[1])
    store = opened(tmp_path / "s", views=views, rows=rows)
    for number in (0, 3):
        parts = [store.positions(Shard(number, part)) for part in range(store.manifest.shards)]
        assert np.array_equal(np.concatenate(parts), views.order(number))
        assert {len(p) for p in parts[:-1]} == {rows // 2 * 2}
        for part in parts:
            assert {*views.partners(part, np.full_like(part, number))} == {*part}
        expected = torch.cat([store.shard(Shard(number, k))["logits"] for k in range(store.manifest.shards)])
        assert torch.equal(expected, live()(view(number, views.order(number), views)).logits)


def test_the_teacher_is_asked_once_about_each_view(tmp_path):
    lessons = live()
    store, teacher = opened(tmp_path / "s", lessons, batch_size=4), lessons.teacher.models[0]
    for number, images in ((0, N), (0, N), (1, 2 * N), (0, 2 * N), (1, 2 * N)):
        store(view(number, range(3)))
        assert teacher.images == images
    assert teacher.calls == 2 * 3  # in batches of four
    store.plain(samples())
    store.plain(samples())
    assert teacher.images == 3 * N
    second = live(stop_at=1)
    other = opened(tmp_path / "s", second)
    other(family().batch(np.array([0, 1]), np.array([0, 1])))
    other.plain(samples())
    # Labels are no part of a lesson: another labelling is served by the same store.
    relabelled = samples().relabelled(np.zeros(N, np.int64), np.ones(N, bool))
    opened(tmp_path / "s", second, family(samples=relabelled))(family().batch(np.arange(2), np.array([1, 0])))
    assert second.teacher.models[0].calls == 0


def test_plain_lessons(tmp_path):
    store = opened(tmp_path / "s", views=family(MIXINGS[1]), storage=Storage("fp16", 2))
    whole, part = samples(), samples().take(np.array([5, 2]))
    for _ in range(2):  # asked, then read: always exact, whatever the form of the views
        assert_same(store.plain(whole), live().plain(whole))
        assert_same(store.plain(part), live().plain(part))
    exact = Picks(3)(whole.pixels.array / 255)
    assert torch.equal(store.plain(whole).logits, exact) and torch.equal(store.plain(part).logits, exact[[5, 2]])
    store.plain(whole).logits.zero_()  # what is written into it does not reach the store
    assert torch.equal(store.plain(whole).logits, exact)


def test_plain_lessons_of_files_are_kept_by_size(tmp_path):
    for k in range(4):
        path = tmp_path / "images" / "abcd"[k] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    photos = folder(tmp_path / "images").train
    lessons = live()
    store = opened(tmp_path / "s", lessons, family(samples=photos, augment=resized_crop_flip(6)))
    small, large = store.plain(photos, 6), store.plain(photos, 8)
    assert not torch.equal(small.logits, large.logits)
    assert_same(store.plain(photos, 6), small)
    assert lessons.teacher.models[0].images == 8


@pytest.mark.parametrize("storage", [Storage("fp32"), Storage("fp16"), Storage("fp16", 2)], ids=str)
def test_a_lesson_can_be_learnt_from_and_is_a_copy(tmp_path, storage):
    store = opened(tmp_path / "s", storage=storage)
    lesson = store(view(0, range(3)))
    assert not lesson.logits.requires_grad and not lesson.logits.is_inference()
    (torch.ones(3, CLASSES, requires_grad=True) * lesson.logits).sum().backward()
    lesson.logits.zero_()
    lesson.columns["one/l2/tau1"].zero_()
    again = store(view(0, range(3)))
    assert again.logits.any() and again.columns["one/l2/tau1"].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_lesson_is_on_the_device_of_the_batch(tmp_path):
    store = opened(tmp_path / "s")
    lesson = store(view(0).to(torch.device("cuda")))
    assert {t.device.type for t in lesson.tensors().values()} == {"cuda"}
    assert_same(lesson.to(torch.device("cpu")), live()(view(0)))


def test_probe_logits_and_more_scores_serve_a_run_that_needs_fewer(tmp_path):
    rich = {"scores": ("distance", "js"), "probe_logits": True}
    lesson = opened(tmp_path / "s", live(**rich))(view(0))
    assert lesson.columns.keys() == {f"{p}/{s}/tau1" for p in ("one", "two") for s in ("l2", "js")}
    assert torch.equal(lesson.probe_logits, live(**rich)(view(0)).probe_logits)
    poor = live(stop_at=1)
    served = opened(tmp_path / "s", poor)
    assert torch.equal(served(view(0)).logits, lesson.logits) and poor.teacher.models[0].calls == 0
    # What such a run adds is as rich as the rest.
    assert opened(tmp_path / "s", live())(view(1)).tensors().keys() == lesson.tensors().keys()
    opened(tmp_path / "t")
    for more, named in (({"probe_logits": True}, "probe_logits"), ({"scores": ("distance", "js")}, "scores")):
        with pytest.raises(UserError, match=f"differs in {named}; give another"):
            opened(tmp_path / "t", live(**more))


def test_views_that_a_store_is_built_for_grow(tmp_path):
    for asked, found in ((None, None), (3, 3), (None, 3), (2, 3), (5, 5)):
        store = opened(tmp_path / "s", storage=None, built_for=asked)
        assert store.manifest.storage == Storage("fp16")
        assert store.manifest.views == found == Manifest.read(tmp_path / "s").views


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"views": family(seed=1)}, "seed"),
        ({"views": family(augment=CropFlip(2))}, "augment"),
        ({"views": family(MIXINGS[2])}, "mixing"),
        ({"views": family(samples=samples().take(np.arange(5)))}, "samples"),
        ({"views": family(samples=replace(samples(), ids=np.arange(N) + 1))}, "samples"),
        ({"views": family(MIXINGS[1], seed=2)}, "mixing, seed"),
        ({"views": family(erase=Erase("cutout"))}, "erase"),
        ({"views": replace(family(), strong=True)}, "strong"),
        ({"identity": IDENTITY | {"teacher": "other"}}, "teacher"),
        ({"identity": IDENTITY | {"probes": [{"sparsity": 0.5}]}}, "probes"),
        ({"identity": IDENTITY | {"precision": "bf16"}}, "precision"),
        ({"identity": {k: v for k, v in IDENTITY.items() if k != "probes"}}, "probes"),
        ({"identity": IDENTITY | {"fold": True}}, "fold"),
        ({"lessons": live(tau=2.0)}, "scores"),
        ({"storage": Storage("fp16")}, "storage"),
        ({"storage": Storage("fp32", 2)}, "storage"),
    ],
)
def test_what_differs_is_named(tmp_path, changes, said):
    opened(tmp_path / "s").shard(FIRST)
    before = content(tmp_path / "s")
    with pytest.raises(UserError, match=f"differs in {said}; give another --store") as error:
        opened(tmp_path / "s", **changes)
    assert "\n" not in str(error.value) and content(tmp_path / "s") == before
    if {*changes} <= {"views", "identity"}:  # and the other way round
        opened(tmp_path / "t", **changes)
        with pytest.raises(UserError, match=f"differs in {said}; give another --store"):
            opened(tmp_path / "t")


def test_any_form_is_taken_where_none_is_asked_for(tmp_path):
    opened(tmp_path / "s", storage=Storage("fp32", 3))
    assert opened(tmp_path / "s", storage=None).manifest.storage == Storage("fp32", 3)
    with pytest.raises(UserError, match="top_k to be from 1 to 3"):
        opened(tmp_path / "t", storage=Storage("fp32", 4))
    assert not (tmp_path / "t").exists()


def test_the_shards_of_a_store_keep_their_size(tmp_path):
    opened(tmp_path / "s", rows=4).shard(FIRST)
    assert opened(tmp_path / "s", live(stop_at=1)).manifest.rows == 4


def test_identity_of_any_json_values(tmp_path):
    identity = {"mean": (0.1, 0.2), "nothing": None, "nested": {"a": [1, (2, 3)]}}
    for _ in range(2):
        opened(tmp_path / "s", identity=identity)


def test_a_released_store_answers_and_says_what_it_lacks(tmp_path):
    store = opened(tmp_path / "s")
    store(view(0))
    store.release()
    assert_same(store(view(0)), live()(view(0)))
    with pytest.raises(UserError, match="lacks a view that it had; dlkd store repair"):
        store(view(1))
    assert not any(p.name.startswith("view-00001") for p in (tmp_path / "s").iterdir())


def test_interrupted_filling_leaves_no_half_file(tmp_path):
    path = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        opened(path, live(stop_at=3, stop_with=KeyboardInterrupt), batch_size=4).shard(FIRST)
    assert {*content(path)} == {"manifest.json"}
    assert len(opened(path, batch_size=4).shard(FIRST)["logits"]) == N


def test_a_full_disk_leaves_no_half_file(tmp_path):
    resource = pytest.importorskip("resource")
    store = opened(tmp_path / "s")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(UserError, match="is the disk full"):
            store.shard(FIRST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {*content(tmp_path / "s")} == {"manifest.json"}
    assert len(store.shard(FIRST)["logits"]) == N


KILLED = """
import os, sys
from pathlib import Path
import dlkd.files
os.replace = lambda *_: os.kill(os.getpid(), 9)  # as if the power went just before the rename
dlkd.files.write_atomic(Path(sys.argv[1]), b"half")
"""


@pytest.mark.parametrize("name", ["manifest.json", f"view-00000-0000.{'0' * 16}.safetensors"])
def test_a_killed_writer_does_no_harm(tmp_path, name):
    path = tmp_path / "s"
    if name == "manifest.json":
        path.mkdir()
    else:
        opened(path)
    killed = subprocess.run([sys.executable, "-c", KILLED, path / name], check=False)
    assert killed.returncode == -9 and any(p.suffix == ".tmp" for p in path.iterdir())
    assert_same(opened(path)(view(0)), live()(view(0)))


def test_folders_that_are_no_store(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="expected a store or an empty folder"):
        opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="could not open the store"):
        opened(tmp_path / "thesis.txt")
    (tmp_path / "s").mkdir()
    for text in ("{", "[]", "{}", "\x00", ""):
        (tmp_path / "s" / "manifest.json").write_text(text)
        with pytest.raises(UserError, match=r"could not open the store|another version") as error:
            opened(tmp_path / "s")
        assert "\n" not in str(error.value)
    (tmp_path / "s" / "manifest.json").write_text(json.dumps({"family": "as the first stores had it"}))
    with pytest.raises(UserError, match="a store of another version of dlkd; give another --store or delete it"):
        opened(tmp_path / "s")


def test_a_store_that_lost_its_manifest_gets_it_anew(tmp_path):
    opened(tmp_path / "s", rows=4).shard(FIRST)
    kept = content(tmp_path / "s")
    (tmp_path / "s" / "manifest.json").unlink()
    quiet = live(stop_at=1)
    opened(tmp_path / "s", quiet, rows=4).shard(FIRST)
    assert content(tmp_path / "s") == kept
    (tmp_path / "s" / "manifest.json").unlink()
    with pytest.raises(UserError, match="belongs to another store"):
        opened(tmp_path / "s", rows=4, identity=IDENTITY | {"teacher": "other"}).shard(FIRST)
