"""``dlkd store``, through the command."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml
from store_files import EXACT, files, flip, logits, names, refused, shard

from dlkd.store import Manifest, Shards


def test_build_says_what_it_does_and_leaves_these_files(made, good, build):
    store, done = made
    lines = done.out.splitlines()
    first = [k for k, line in enumerate(lines) if "shards to make" in line]
    assert len(first) == 1 and re.fullmatch(rf"{store}: 2 shards to make: 0\.00 GB, about \d+ s", lines[first[0]])
    assert [re.sub(r"\d+ s left", "N s left", line) for line in lines[first[0] + 1 :]] == [
        "  view 0, part 1: made, about N s left",
        "  view 1, part 1: made, about N s left",
        f"{store}: whole, 2 views of each image",
    ]
    (plain,) = [n for n in names(store) if n.startswith("plain-")]
    assert re.fullmatch(r"plain-[0-9a-f]{16}-\d+", plain)
    assert names(store) == ["config.yaml", "manifest.json", plain, "view-00000-0000", "view-00001-0000"]
    settings = yaml.safe_load((store / "config.yaml").read_text())
    assert settings["epochs"] == 2 and settings["storage"]["dtype"] == "fp32" and "out" not in settings
    before = files(store)
    again = good(*build(store, "--epochs", 2))
    assert f"{store}: 0 shards to make: 0.00 GB, about 0 s\n" in again.out
    assert f"{store}: 256 stored entries asked again, logits within 0.0e+00 beyond rounding" in again.out
    after = files(store)
    assert {n: v for n, v in after.items() if n != "config.yaml"} == {
        n: v for n, v in before.items() if n != "config.yaml"
    }
    # The form that the store has, not the one that this command left open.
    assert yaml.safe_load(after["config.yaml"][2]) == settings


def test_what_is_stored_is_what_the_teacher_says(made, teacher):
    store, _ = made
    shards = Shards(store, Manifest.read(store).key)
    (name,) = [n for n in shards.names() if n.startswith("plain-")]
    torch.testing.assert_close(shards.read(name)["logits"], logits(teacher), rtol=0, atol=1e-5)
    assert shards.read(name)["logits"].dtype == shards.read("view-00000-0000")["logits"].dtype == torch.float32


def test_verify_and_info(store, good, dlkd):
    done = good("store", "verify", "--store", store)
    assert done.out == f"{store}: 3 shards, 2 views of each image, every byte as it was written\n"
    text = good("store", "info", "--store", store).out
    for row, value in (
        ("samples, classes", r"\d+, 10"),
        ("views", "2 whole"),
        ("kept", "all logits in fp32"),
        ("difficulties", "distance at τ = 0.25, distance at τ = 1, js at τ = 0.25"),
        ("probes, sparsity", "0.3"),
        ("size", r"0\.000 GB in 3 shards"),
        ("view family", "[0-9a-f]{16}"),
        ("teacher", "[0-9a-f]{16}"),
        ("made by", "dlkd .*"),
    ):
        assert re.search(rf"│ {row} +│ {value}\s+│", text) or re.search(rf"│ {row} +│ {value}", text), (row, text)
    shard(store, "view-00001-0000").unlink()
    assert re.search(r"│ views +│ 1 whole ", good("store", "info", "--store", store).out)
    flip(shard(store, "view-00000-0000"))
    name = shard(store, "view-00000-0000").name
    done = dlkd("store", "verify", "--store", store)
    assert done.status == 2 and done.err == (
        f"dlkd: error: 1 of 2 shards of {store} are damaged: {name} (its bytes are not those that were written); "
        f"dlkd store repair --store {store}\n"
    )


def test_a_run_from_a_damaged_store_is_refused_and_leaves_nothing(store, tmp_path, dlkd, distill, build):
    run = distill(tmp_path / "run", "--store", store, "--epochs", 2)
    file = shard(store, "view-00001-0000")
    flip(file, 300)
    refused(dlkd(*run), file.name, "bytes are not those that were written", f"dlkd store repair --store {store}")
    refused(dlkd(*build(store, "--epochs", 2)), file.name)
    assert not (tmp_path / "run").exists()
    flip(file, 300)
    flip(shard(store, "plain"))
    refused(dlkd(*run), shard(store, "plain").name, "dlkd store repair")
    flip(store / "manifest.json", 40)
    for command in (run, build(store), ("store", "info", "--store", store), ("store", "verify", "--store", store)):
        refused(dlkd(*command), "manifest.json is damaged", "dlkd store repair")


def test_repair_makes_only_what_is_bad(store, good):
    before = files(store)
    bad, lost = shard(store, "view-00000-0000"), shard(store, "view-00001-0000")
    flip(bad)
    lost.unlink()
    (store / f".{lost.name}.abcd1234.tmp").write_bytes(b"half")
    flip(store / "manifest.json", 99)
    damaged = (store / "manifest.json").read_bytes()
    done = good("store", "repair", "--store", store)  # teacher and data stand in the store's own settings
    assert f"{bad.name}: its bytes are not those that were written; deleted" in done.out
    assert "manifest.json is damaged" in done.out and "it is written anew" in done.out
    assert "2 shards to make" in done.out
    after = files(store)
    assert after.pop("manifest.json.damaged")[2] == damaged  # nobody has understood it
    for found in (before, after):
        del found["config.yaml"]  # names the folder that the store was copied from, or to
    assert {n: v[2] for n, v in after.items()} == {n: v[2] for n, v in before.items()}
    assert after.keys() == before.keys() and not list(store.glob(".*.tmp"))
    plain = shard(store, "plain").name
    assert after[plain] == before[plain]  # the very file
    for name in ("manifest.json", bad.name, lost.name):
        assert after[name][0] != before[name][0] or after[name][1] != before[name][1]
    (store / "manifest.json").unlink()
    good("store", "repair", "--store", store)
    again = files(store)
    assert all(again[n] == after[n] for n in after if n.endswith(".safetensors"))
    assert again["manifest.json"][2] == after["manifest.json"][2]
    good("store", "verify", "--store", store)


@pytest.mark.parametrize(("views", "shards", "name"), [(3, 4, "view-00001-0000"), (None, 3, "view-00000-0000")])
def test_missing_shards_are_named(store, dlkd, good, build, views, shards, name):
    """Those that were asked for; and of what was not: a view of which parts are there, or one below the highest."""
    if views is not None:
        good(*build(store, "--storage.views", views))
    lost = shard(store, name)
    lost.unlink()
    done = dlkd("store", "verify", "--store", store)
    refused(done, f"was to hold {shards} shards, but 1 are missing: {name};", f"dlkd store repair --store {store}")
    good("store", "repair", "--store", store)
    good("store", "verify", "--store", store)
    assert lost.exists()


def test_a_view_beyond_all_bounds_does_not_fill_the_memory(store, dlkd, monkeypatch):
    monkeypatch.setattr("dlkd.jobs.store.SHARDS", 100)  # for ten million
    Shards(store, Manifest.read(store).key).write("view-999999999-0000", {"logits": torch.zeros(1)})
    refused(dlkd("store", "verify", "--store", store), "but 98 are missing: view-00002-0000, view-00003-0000")


@pytest.mark.parametrize("content", ['{"name": "a page", "icons": []}', "[1, 2]", '{"checksum": "00", "files": {}}'])
def test_repair_leaves_the_manifest_of_another_program(store, dlkd, content):
    (store / "manifest.json").write_text(content)
    before = files(store)
    refused(dlkd("store", "repair", "--store", store), "manifest.json is that of another program", "another --store")
    assert files(store) == before


def test_repair_leaves_the_manifest_of_another_version(store, dlkd):
    content = json.loads((store / "manifest.json").read_text())
    del content["checksum"]
    (store / "manifest.json").write_text(json.dumps({**content, "format": 2}))
    before = files(store)
    refused(dlkd("store", "repair", "--store", store), "a store of another version of dlkd")
    assert files(store) == before


def test_repair_leaves_a_manifest_that_cannot_be_read(store, dlkd, monkeypatch):
    def denied(path, limit):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    before = files(store)
    with monkeypatch.context() as patch:
        patch.setattr("dlkd.store.manifest.read_regular", denied)
        for what in ("repair", "verify"):
            refused(dlkd("store", what, "--store", store), "manifest.json cannot be read (Permission denied)")
    assert files(store) == before


@pytest.mark.parametrize("wrong", [("--probe.sparsity", 0.5), ("--teacher.weights", "none.pt"), ("--epochs", 0)])
def test_a_damaged_manifest_stays_where_repair_comes_to_nothing(store, dlkd, build, wrong):
    flip(store / "manifest.json", 99)
    before = files(store)
    refused(dlkd(*build(store, *wrong, what="repair")))
    assert files(store) == before


def test_a_repair_that_was_killed_is_done_again(store, good):
    flip(store / "manifest.json", 99)
    (store / "manifest.json").rename(store / "manifest.json.damaged")
    good("store", "repair", "--store", store)
    good("store", "verify", "--store", store)


def test_repair_leaves_what_another_process_is_writing(store, good):
    half = [store / f".view-0000{k}-0000.{'0' * 16}.safetensors.abcd123{k}.tmp" for k in range(2)]
    for file in half:
        file.write_bytes(b"half")
    with Shards(store, Manifest.read(store).key).lock("view-00001-0000", wait=True):
        good("store", "repair", "--store", store)
    assert [file.exists() for file in half] == [False, True]


def test_shards_of_another_teacher_outlive_the_loss_of_their_manifest(store, dlkd, good, build):
    (store / "manifest.json").unlink()
    before = files(store)
    wrong = build(store, "--probe.sparsity", 0.5, what="repair")
    refused(dlkd(*wrong), "the manifest of", "give the options that they were made with")
    assert files(store) == before
    good("store", "repair", "--store", store)
    good("store", "verify", "--store", store)


def test_what_cannot_be(tmp_path, dlkd, build, distill, monkeypatch):
    for what in ("info", "verify"):
        refused(dlkd("store", what), "expected --store, but it is missing")
        refused(dlkd("store", what, "--store", tmp_path / "none"), f"expected a store at {tmp_path / 'none'}")
    for what in ("build", "repair"):
        refused(dlkd("store", what), "expected --store FOLDER, but got none")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    refused(dlkd("store", "verify", "--store", tmp_path / "photos"), "expected a store at")
    for what in ("build", "repair"):
        refused(dlkd(*build(tmp_path / "photos", what=what)), "expected a store or an empty folder", "other files")
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    new = tmp_path / "new"
    for more, words in (
        (("--storage.top_k", 0), "expected --storage.top_k to be at least 1, but got 0"),
        (("--storage.top_k", 10), "expected top_k to be from 1 to 9 (of 10 classes), but got 10"),
        (("--storage.views", 0), "expected --storage.views to be at least 1, but got 0"),
        (("--storage.memory", 0), "expected --storage.memory to be at least 1"),
        (("--storage.dtype", "int8"), "storage.dtype"),
        (("--epochs", 0), "expected --epochs to be at least 1"),
        (("--method", "ce"), "expected a method with a teacher to fill a store, but got ce"),
        (("--probe.norm", "batch"), "expected --probe.norm eval or recalibrated with --store"),
    ):
        refused(dlkd(*build(new, *more)), words)
        assert not new.exists(), more
    refused(dlkd(*distill(tmp_path / "run", *EXACT)), "expected --store with --storage options, but got none")
    refused(dlkd("store"), "expected a command out of", "but got store")
    refused(dlkd("store", "verfy"), "did you mean store verify?")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    refused(dlkd(*build(new)), "GB of free disk for the store", "--storage.top_k")
    assert names(new) == ["config.yaml", "manifest.json"]


def test_a_full_disk(tmp_path, dlkd, good, build):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        done = dlkd(*build(tmp_path / "store"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    refused(done, "view-00000-0000", "is the disk full?")
    assert names(tmp_path / "store") == ["config.yaml", "manifest.json"]
    good(*build(tmp_path / "store"))
    assert len(names(tmp_path / "store")) == 4


def test_told_to_stop_it_ends_with_75_and_goes_on(tmp_path, good, build):
    command = [str(a) for a in build(tmp_path / "store", "--epochs", 30)]
    process = subprocess.Popen(
        [sys.executable, "-m", "dlkd", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while "made" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, out + err
    assert err == f"dlkd: stopped; the same command goes on with the store {tmp_path / 'store'}\n"
    there = files(tmp_path / "store")
    count = sum(n.startswith("view-") for n in there)
    assert 1 <= count < 30 and not list((tmp_path / "store").glob(".*.tmp"))
    done = good(*command)
    assert f"{30 - count} shards to make" in done.out and done.out.count(": made, about") == 30 - count
    now = files(tmp_path / "store")
    assert all(now[n] == v for n, v in there.items() if n.startswith("view-"))
