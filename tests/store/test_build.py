"""Building by one process or several, stopped or killed; and what the teacher says of what is stored."""

import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from store_toys import (
    APART,
    IDENTITY,
    MIXINGS,
    ROWS,
    VIEWS,
    N,
    assert_same,
    content,
    family,
    fill,
    fill_and_tell,
    grow,
    live,
    opened,
)

from dlkd.errors import UserError
from dlkd.store import Manifest, Shard, Shards, Storage, build, compare, damages, minutes, plan
from dlkd.store.shards import locked

EVERY = [Shard(view, part) for view in range(VIEWS) for part in range(-(-N // ROWS))]


def shard_files(path):
    return {name: bytes_ for name, bytes_ in content(path).items() if name.endswith(".safetensors")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that one process made, and what it told of it."""
    path, told = tmp_path_factory.mktemp("whole") / "s", []
    assert fill(path, told.append)
    assert told == EVERY and len(shard_files(path)) == len(EVERY)
    return path


def test_what_is_built_is_live_and_not_made_again(whole):
    views, quiet = family(MIXINGS[1]), live(stop_at=1)
    store = opened(whole, quiet, views)
    for view in range(VIEWS):
        batch = views.batch(np.arange(N), np.full(N, view))
        assert_same(store(batch), live()(batch))
    assert build(store, VIEWS, made=pytest.fail) and not store.missing(VIEWS)
    assert quiet.teacher.models[0].calls == 0 and store.missing(VIEWS + 1) == [Shard(VIEWS, k) for k in range(6)]


def test_two_processes_share_the_work(tmp_path, whole):
    made, gate = APART.Queue(), APART.Barrier(2)
    workers = [APART.Process(target=fill_and_tell, args=(tmp_path / "s", made, 0.03, who, gate)) for who in range(2)]
    for worker in workers:
        worker.start()
    told = [made.get(timeout=60) for _ in EVERY]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0] and made.empty()
    assert sorted(shard for _, shard in told) == EVERY  # each once
    assert {who for who, _ in told} == {0, 1}
    assert shard_files(tmp_path / "s") == shard_files(whole)
    assert not list((tmp_path / "s").glob(".*.tmp"))


def test_a_killed_builder_leaves_nothing_half_and_others_go_on(tmp_path, whole):
    made = APART.Queue()
    worker = APART.Process(target=fill_and_tell, args=(tmp_path / "s", made, 0.05))
    worker.start()
    for _ in range(3):
        made.get(timeout=60)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(60)
    found = shard_files(tmp_path / "s")
    assert 3 <= len(found) < len(EVERY) and found.items() <= shard_files(whole).items()
    rest = []
    started = time.monotonic()
    assert fill(tmp_path / "s", rest.append)
    assert time.monotonic() - started < 30 and len(rest) == len(EVERY) - len(found)
    assert shard_files(tmp_path / "s") == shard_files(whole)


def test_it_waits_for_what_another_makes(tmp_path, monkeypatch):
    store = opened(tmp_path / "s", rows=ROWS)
    build(store, 1, stop=lambda: len(shard_files(tmp_path / "s")) == 5, made=lambda _: None)
    (last,) = store.missing(1)
    lock = store.shards.lock(last.name, wait=True)
    other = Shards(tmp_path / "s", store.manifest.key)  # another process has its own
    waits = []

    def finish(_):
        waits.append(1)
        if len(waits) == 3:
            other.write(last.name, store.ask(last))

    monkeypatch.setattr(time, "sleep", finish)
    with lock:
        assert build(store, 1, made=pytest.fail) and len(waits) == 3
    (tmp_path / "s" / store.shards.find(last.name).name).unlink()
    with store.shards.lock(last.name, wait=True):  # who is told to stop while waiting stops
        assert not build(store, 1, stop=lambda: True, made=pytest.fail)


def test_a_copy_of_a_shard_keeps_nobody_from_making_it(tmp_path, whole, monkeypatch):
    store = opened(tmp_path / "s", rows=ROWS)
    (tmp_path / "s" / f"{EVERY[0].name}.{'0' * 16} (1).safetensors").write_text("copy")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits for nobody"))
    assert build(store, 1, made=lambda _: None) and not store.missing(1)


def test_two_processes_let_a_store_grow(tmp_path):
    opened(tmp_path / "s", storage=None)
    worker = APART.Process(target=grow, args=(tmp_path / "s", 3))
    with locked(tmp_path / "s", "manifest", wait=True):
        worker.start()
        worker.join(2)
        assert worker.is_alive()  # it has read the manifest, and waits to write it
        Manifest.read(tmp_path / "s").grown(5).write(tmp_path / "s")
    worker.join(60)
    assert worker.exitcode == 0 and Manifest.read(tmp_path / "s").views == 5


def test_stopped_after_a_shard(tmp_path):
    told = []
    assert not fill(tmp_path / "s", told.append, stop=lambda: len(told) == 2)
    assert told == EVERY[:2] and len(shard_files(tmp_path / "s")) == 2
    assert fill(tmp_path / "s", told.append) and told == EVERY


def test_the_plan_counts_bytes_and_refuses_too_small_a_disk(tmp_path, monkeypatch):
    store = opened(tmp_path / "s", views=family(MIXINGS[1]), rows=ROWS)
    asked = plan(store, VIEWS)
    assert asked.shards == EVERY and asked.size == VIEWS * N * (4 * 4 + 2 * 4) and asked.seconds > 0
    assert asked.sentence().startswith("24 shards to make: 0.00 GB, about ")
    build(store, 1, made=lambda _: None)
    # Without headers, of which these small shards have much.
    values = sum(t.nbytes for k in range(6) for t in store.shard(Shard(0, k)).values())
    assert plan(store, VIEWS).shards == EVERY[6:] and plan(store, VIEWS).size == 3 * values
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=700))
    with pytest.raises(UserError, match=r"^expected 0\.0 GB of free disk for the store .*--storage.views") as error:
        plan(store, VIEWS)
    assert "\n" not in str(error.value)
    assert len(plan(store, 3).shards) == 12
    build(store, VIEWS, made=lambda _: None)
    assert plan(store, VIEWS).seconds == 0 and plan(store, VIEWS).shards == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h")]
)
def test_minutes(seconds, words):
    assert minutes(seconds) == words


@pytest.mark.parametrize("storage", [Storage("fp32"), Storage("fp16"), Storage("fp32", 2), Storage("fp16", 1)], ids=str)
@pytest.mark.parametrize("mixing", MIXINGS, ids=lambda m: m.kind)
def test_what_the_teacher_says_again_is_what_is_stored(tmp_path, storage, mixing):
    store = opened(tmp_path / "s", live(probe_logits=True), family(mixing), rows=4, storage=storage)
    assert compare(store, 2) == (0.0, 0.0, 0)  # nothing is there
    build(store, 2, made=lambda _: None)
    found = compare(store, 3, seed=1)
    assert found.entries == 256 and found.logits < 1e-6 and found.distance == 0


def other(change):
    """The same names, but another teacher."""
    lessons = live()
    with torch.no_grad():
        change(lessons.teacher.models)
    return lessons


@pytest.mark.parametrize("storage", [Storage("fp32"), Storage("fp16"), Storage("fp32", 2)], ids=str)
@pytest.mark.parametrize(
    "change",
    [
        lambda models: models[0].scale.mul_(1.2),
        lambda models: models[1].scale.mul_(1.02),  # a probe alone: difficulties
        lambda models: models[0].scale[1].add_(0.1),
    ],
)
def test_a_store_of_another_teacher_under_the_same_name_is_refused(tmp_path, storage, change):
    fill(tmp_path / "s", storage=storage)
    said = "the teacher does not say what the store .* holds: of 256 entries logits differ by up to .*delete the store"
    with pytest.raises(UserError, match=said) as error:
        compare(opened(tmp_path / "s", other(change), family(MIXINGS[1]), storage=storage), VIEWS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("by", [0.02, -0.02, torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["logits", "two/l2/tau1"])
def test_wrong_numbers_under_a_right_checksum_are_found(tmp_path, name, by):
    build(opened(tmp_path / "s", views=family(MIXINGS[1]), rows=6), 1, made=lambda _: None)
    shards = Shards(tmp_path / "s", opened(tmp_path / "s", views=family(MIXINGS[1])).manifest.key)
    for file in shards.files():
        shard = file.name.split(".")[0]
        kept = {k: v.clone() for k, v in shards.read(shard).items()}
        file.unlink()
        kept[name].view(len(kept[name]), -1)[0, 0] += by
        shards.write(shard, kept)
    store = opened(tmp_path / "s", views=family(MIXINGS[1]))
    assert not damages(store.shards)
    with pytest.raises(UserError, match="does not say what the store"):
        compare(store, 1)


def test_half_precision_is_allowed_more(tmp_path):
    identity = {**IDENTITY, "precision": "bf16"}
    fill(tmp_path / "s", identity=identity)
    views = family(MIXINGS[1])

    def again(share):
        return compare(
            opened(tmp_path / "s", other(lambda models: models[0].scale.mul_(1 + share)), views, identity), VIEWS
        )

    assert again(0.02).logits > 1e-2
    with pytest.raises(UserError, match="does not say"):
        again(0.2)


def test_entries_are_chosen_by_seed_all_over_the_store(tmp_path, monkeypatch):
    fill(tmp_path / "s")
    store, seen = opened(tmp_path / "s", views=family(MIXINGS[1])), []
    kept = store.kept
    monkeypatch.setattr(store, "kept", lambda batch: seen.append(batch) or kept(batch))

    def keys(seed, entries=256):
        seen.clear()
        compare(store, VIEWS, seed, entries)
        return {(int(p), int(v)) for b in seen for p, v in zip(b.positions, b.views, strict=True)}

    # 256 draws out of 44: none is likely to be left out (44·(43/44)²⁵⁶ ≈ 0.1).
    assert len(keys(0)) >= 42 and {v for _, v in keys(0)} == set(range(VIEWS))
    assert keys(0, 8) == keys(0, 8) != keys(1, 8)
