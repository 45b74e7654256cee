"""Runs through the command: what they leave, what is equal to what, and every kind of model, data and probe."""

import csv
import getpass
import io
import json
import math
import re
import shutil
import socket

import numpy as np
import pytest
import torch
import yaml

from dlkd import DataOptions
from dlkd.data import load_data
from dlkd.models import build_model, load_model

BEFORE = {"run.json", "config.yaml", "labels.npz"}
AFTER = {"metrics.csv", "checkpoint.pt", "student.safetensors", "student.json", "predictions.npz", "results.json"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, teacher, dlkd_process):
    """A small noisy run, as a user would start it, with everything on."""
    out = tmp_path_factory.mktemp("runs") / "student"
    done = dlkd_process(
        *("distill", "--out", out, "--student.name", "resnet8x0.5", "--teacher.weights", teacher, "--epochs", 2),
        *("--data.per_class", 30, "--data.noise", 0.3, "--engine.threads", 1, "--optim.lr", 0.1, "--device", "cpu"),
    )
    assert done.status == 0, done.err
    return out, done


def numbers(value):
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    if isinstance(value, list):
        return [n for v in value for n in numbers(v)]
    return [value] if isinstance(value, float) else []


def read(run, name="results.json"):
    return json.loads((run / name).read_text())


def state_of(run):
    """What is in the newest checkpoint."""
    return torch.load(io.BytesIO((run / "checkpoint.pt").read_bytes().split(b"\n", 1)[1]), weights_only=True)


def test_files_of_a_run(finished, teacher):
    out, done = finished
    extra = {"metrics_by_level.csv", "checkpoint.previous.pt", "report.html", "tensorboard"}
    assert {p.name for p in out.iterdir()} == BEFORE | AFTER | extra
    assert {p.name for p in teacher.iterdir()} == BEFORE | AFTER | {"checkpoint.previous.pt"}
    assert [p.name for p in (out / "tensorboard").iterdir()] == ["events.out.tfevents.dlkd"]
    assert "Preflight" in done.out and "dlkd → resnet8x0.5: " in done.out.splitlines()[-1]
    assert [line.split(",")[0] for line in done.err.splitlines() if line] == ["  epoch 1/2", "  epoch 2/2"]


def test_checkpoint_holds_the_student_alone(finished):
    out, _ = finished
    state = state_of(out)
    own = build_model("resnet8x0.5", 10, channels=1).state_dict()
    assert state["student"].keys() == own.keys() and state["step"] == 8
    # Of the method there is the reference of the level, and nothing in the shape of a network.
    assert {k for k in state["method"]} == {"temperature.level.quantiles", "temperature.level.count"}
    tensors = sum(v.numel() for v in own.values())
    payload = (out / "checkpoint.pt").stat().st_size
    assert payload < 4 * (2 * tensors) + 60_000  # weights, momentum, and small things; a teacher would be as much again


def test_labels_tell_which_are_wrong(finished):
    with np.load(finished[0] / "labels.npz") as file:
        found = dict(file)
    clean = load_data(DataOptions(per_class=30))
    for part, samples in (("train", clean.train), ("held_out", clean.held_out)):
        order = {i: k for k, i in enumerate(samples.ids)}
        true = samples.labels.numpy()[[order[i] for i in found[f"{part}_ids"]]]
        assert np.array_equal(found[f"{part}_wrong"], found[f"{part}_labels"] != true)
    assert found["train_wrong"].sum() + found["held_out_wrong"].sum() == 90


def test_results_are_finite_and_agree_with_the_tables(finished, table):
    out, _ = finished
    results, rows = read(out), table(out / "metrics.csv")
    assert all(map(math.isfinite, numbers(results)))
    assert results["training"]["loss"] == rows[-1]["loss"] and [r["epoch"] for r in rows] == [1, 2]
    assert rows[-1]["held_out_accuracy"] == results["held_out"]["accuracy"]
    for row in rows:
        assert row["loss"] == pytest.approx(0.1 * row["ce"] + 0.9 * row["kd"], rel=1e-5)
        assert row["samples"] == 256 and 2 <= row["temperature"] <= 6
    tenths = [r for r in table(out / "metrics_by_level.csv") if r["epoch"] == 2]
    assert sum(r["samples"] for r in tenths) == 256
    assert sum(r["samples"] * r["gradient_weight"] for r in tenths) == pytest.approx(256)
    for name in ("ce", "kd", "temperature", "accuracy", "agreement"):
        assert sum(r["samples"] * r[name] for r in tenths) / 256 == pytest.approx(rows[-1][name])
    for r in tenths:  # T = 2 + 4·level, so the means of a tenth obey it too
        assert r["temperature"] == pytest.approx(2 + 4 * r["level"], abs=1e-5)
    assert sum(r["samples"] for r in results["by_level"]) == results_images(results) == 359
    page = (out / "report.html").read_text()
    assert f"{results['test']['accuracy']:.2f}" in page and 'src="http' not in page


def results_images(results):
    return sum(bin_["size"] for bin_ in results["reliability"])


def test_run_card(finished, teacher):
    out, _ = finished
    card = read(out, "run.json")
    assert card["settings"]["seed"] == 0 and card["threads"] == 1 and card["command"] == "distill"
    assert {"dlkd", "python", "torch", "torchvision", "numpy"} <= card["versions"].keys()
    digits = load_data(DataOptions(per_class=30, noise=0.3))
    assert card["data"]["images"] == digits.train.digest() and re.fullmatch("[0-9a-f]{64}", card["data"]["labels"])
    assert card["data"]["wrong_labels"] == int(digits.train.wrong.sum())
    assert card["teacher"]["teacher"] == load_model(None, teacher, 10, channels=1).weights_hash
    # The teacher has the same images and, where they are clean, other labels: it is an oracle here.
    assert card["teacher"]["seen"] == "kept" and card["teacher"]["labels"] == "clean"
    figures = card["preflight"]
    assert figures["teacher_accuracy"] > 50 and set(figures["probe_accuracy"]) == {"global-0.3"}
    for secret in (socket.gethostname(), getpass.getuser() + "@"):
        assert secret not in json.dumps({k: v for k, v in card.items() if k != "settings"})


def test_description_of_the_student_loads_it(finished, monkeypatch):
    out, _ = finished
    monkeypatch.chdir(out)
    scope = {}
    exec(read(out, "student.json")["load"], scope)
    data = load_data(DataOptions(per_class=30))
    images = data.test.pixels.array.float() / 255
    logits = scope["student"].module(scope["student"].input_format(images))
    right = 100 * (logits.argmax(1) == data.test.labels).float().mean().item()
    assert right == pytest.approx(read(out)["test"]["accuracy"], abs=1e-4)


def test_config_repeats_the_run(finished, tmp_path, good, same):
    out, _ = finished
    good("distill", "--config", out / "config.yaml", "--out", tmp_path / "again")
    assert same(out, tmp_path / "again")
    assert (out / "config.yaml").read_text() == (tmp_path / "again" / "config.yaml").read_text()
    good("distill", "--config", out / "config.yaml", "--out", tmp_path / "other", "--seed", 1)  # what follows wins
    assert not same(out, tmp_path / "other")
    assert yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())["seed"] == 1


def test_train_leaves_what_it_says(teacher, table):
    card, results = read(teacher, "run.json"), read(teacher)
    assert (
        card["command"] == "train" and "teacher" not in card and results["method"] == {"ce_weight": 1.0, "name": "ce"}
    )
    assert results["test"]["accuracy"] > 80 and "by_level" not in results
    assert all(r["loss"] == pytest.approx(r["ce"]) and "kd" not in r for r in table(teacher / "metrics.csv"))


def test_one_temperature_is_plain_kd(tmp_path, good, distill, same):
    good(*distill(tmp_path / "kd", "--method", "kd", "--loss.temperature", 3))
    good(*distill(tmp_path / "dlkd", "--loss.t_easy", 3, "--loss.t_hard", 3))
    good(*distill(tmp_path / "wide"))
    assert same(tmp_path / "kd", tmp_path / "dlkd") and not same(tmp_path / "kd", tmp_path / "wide")


def test_cross_entropy_is_training_without_a_teacher(tmp_path, good, distill, train, same):
    good(*train(tmp_path / "train"))
    good(*distill(tmp_path / "ce", "--method", "ce"))  # a teacher that nobody asks
    bare = ("--student.name" if a == "--model.name" else a for a in train(tmp_path / "bare", "--method", "ce")[1:])
    good("distill", *bare)
    assert same(tmp_path / "train", tmp_path / "ce") and same(tmp_path / "train", tmp_path / "bare")


def test_store_is_the_same_lesson_and_is_shared(tmp_path, good, distill, same):
    store = ("--store", tmp_path / "store", "--epochs", 2, "--views.mixing", "mixup")
    good(*distill(tmp_path / "live", "--epochs", 2, "--views.mixing", "mixup"))
    good(*distill(tmp_path / "stored", *store, "--storage.dtype", "fp32"))
    assert same(tmp_path / "live", tmp_path / "stored")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").iterdir()}
    assert {p.name.split(".")[0] for p in kept} >= {"manifest", "view-00000-0000", "view-00001-0000"}
    good(*distill(tmp_path / "kd", *store, "--method", "kd", "--loss.temperature", 3))
    good(*distill(tmp_path / "same", *store, "--loss.t_easy", 3, "--loss.t_hard", 3))
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").iterdir()} == kept
    assert same(tmp_path / "kd", tmp_path / "same")


def test_store_of_another_family_is_refused(tmp_path, good, dlkd, distill):
    good(*distill(tmp_path / "a", "--store", tmp_path / "store"))
    done = dlkd(*distill(tmp_path / "b", "--store", tmp_path / "store", "--seed", 1))
    assert done.status == 2 and "give another --store" in done.err and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("more", "names"),
    [
        (("--probe.sparsity", "[0.2,0.4]"), ["global-0.2", "global-0.4"]),
        (
            ("--probe.sparsity", "0.05", "--probe.criterion", "random", "--probe.masks", "2", "--force"),
            ["global-0.05-random0", "global-0.05-random1"],
        ),
        (("--probe.norm", "batch", "--probe.scope", "layer", "--force"), ["layer-0.3-bn.batch"]),
        (("--probe.norm", "recalibrated"), ["global-0.3-bn.recalibrated"]),
        (("--probe.level_views", "2"), ["global-0.3"]),
        (("--loss.level", "batch", "--loss.scale", "mean"), ["global-0.3"]),
        (("--loss.level", "absolute", "--loss.scale", "none", "--loss.gamma", "0.5"), ["global-0.3"]),
    ],
)
def test_probes_and_levels(tmp_path, good, distill, same, more, names):
    good(*distill(tmp_path / "a", *more))
    good(*distill(tmp_path / "b", *more))
    card = read(tmp_path / "a", "run.json")
    assert card["teacher"]["probe_names"] == names and list(card["preflight"]["probe_accuracy"]) == sorted(names)
    results = read(tmp_path / "a")
    assert same(tmp_path / "a", tmp_path / "b") and all(map(math.isfinite, numbers(results)))
    assert results["teacher"]["probes"] == names


def test_automatic_sparsity(tmp_path, good, distill):
    done = good(*distill(tmp_path / "known", "--probe.sparsity", "auto"))
    assert re.search(r"note: sparsity auto: 0\.\d+ \(probe", done.out)
    done = good(*distill(tmp_path / "none", "--probe.sparsity", "auto", "--data.held_out", 0))
    assert "nothing to choose it on (there is no held-out part)" in done.out
    assert read(tmp_path / "none", "run.json")["teacher"]["probe_names"] == ["global-0.3"]


@pytest.mark.parametrize("more", [(), ("--probe.norm", "recalibrated")])
def test_folding(tmp_path, good, distill, weights, more):
    good(*distill(tmp_path / "plain", *more))
    good(*distill(tmp_path / "folded", "--teacher.fold", "true", *more))
    remarks = read(tmp_path / "folded")["remarks"]
    for who in ("teacher", "global-0.3"):
        note = next(r for r in remarks if r.startswith(f"{who}"))
        folded, total = re.search(r"folded (\d+) of (\d+)", note).groups()
        assert folded == total != "0"
    for name, value in weights(tmp_path / "plain").items():
        torch.testing.assert_close(weights(tmp_path / "folded")[name], value, rtol=1e-3, atol=1e-4)


def test_timm_student(tmp_path, good, distill, weights, shown):
    pytest.importorskip("timm")
    good(*distill(tmp_path / "run", "--student.name", "timm:test_resnet", "--student.resolution", 32))
    assert read(tmp_path / "run", "student.json")["model"] == "timm:test_resnet"
    assert read(tmp_path / "run", "student.json")["input"]["resolution"] == 32
    done = good("evaluate", "--weights", tmp_path / "run")
    assert shown(done, "accuracy, %") == f"{read(tmp_path / 'run')['test']['accuracy']:.4g}"


def test_factory_student(tmp_path, good, dlkd, distill, monkeypatch, shown):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\ndef make(num_classes, channels):\n"
        "    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(144, num_classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    good(*distill(tmp_path / "run", "--student.name", "my_models:make", "--optim.ema", 0.9))
    assert "load_model('my_models:make'" in read(tmp_path / "run", "student.json")["load"]
    # A weights file must not decide which code is run.
    refused = dlkd("evaluate", "--weights", tmp_path / "run")
    assert refused.status == 2 and "--name my_models:make" in refused.err and "--teacher" not in refused.err
    done = good("evaluate", "--weights", tmp_path / "run", "--name", "my_models:make")
    assert shown(done, "accuracy, %") == f"{read(tmp_path / 'run')['test']['accuracy']:.4g}"


def folder_options(photos, *more):
    return (
        *("--data.name", "folder", "--data.root", photos, "--optim.batch_size", 8, "--optim.lr", 0.02),
        *("--engine.threads", 1, "--engine.tensorboard", "false", "--device", "cpu", *more),
    )


def test_image_folder(tmp_path, good, photos, same, table, shown):
    own = ("--model.name", "resnet8x0.5", "--epochs", 8, "--data.image_size", 24)
    good("train", "--out", tmp_path / "teacher", *own, *folder_options(photos, "--data.workers", 2))
    assert read(tmp_path / "teacher", "student.json")["card"]["image_size"] == 24
    students = ("--teacher.weights", tmp_path / "teacher", "--student.name", "resnet8x0.5", "--epochs", 2)
    for name, workers in (("two", 2), ("none", 0)):
        done = good(
            *("distill", "--out", tmp_path / name, *students),
            *folder_options(photos, "--data.workers", workers, "--views.mixing", "mixup", "--force"),
        )
        assert "[8, 3, 24, 24]" in done.out  # the size that the teacher was trained with
    assert same(tmp_path / "two", tmp_path / "none")
    rows = table(tmp_path / "two" / "metrics.csv")
    assert all(row["samples"] == 24 and 0 <= row["data_wait"] <= 1 for row in rows)
    done = good("evaluate", "--weights", tmp_path / "two")
    assert shown(done, "accuracy, %") == f"{read(tmp_path / 'two')['test']['accuracy']:.4g}"
    assert shown(done, "images") == "8"
    classes = read(tmp_path / "two", "student.json")["class_names"]
    assert classes == ["one", "zero"] and "top5_accuracy" not in read(tmp_path / "two")["test"]


def test_arrays_in_a_file(tmp_path, good, train, weights):
    draw = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (draw.integers(0, 60, (90, 12, 12, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(
        tmp_path / "data.npz", train_images=images[:60], train_labels=labels[:60, None],
        test_images=images[60:], test_labels=labels[60:, None],
    )  # fmt: skip
    data = ("--data.name", "npz", "--data.root", tmp_path / "data.npz", "--data.workers", 1)
    good(*train(tmp_path / "run", *data, "--epochs", 10, "--optim.batch_size", 16))
    assert weights(tmp_path / "run")["conv1.weight"].shape[1] == 3
    results = read(tmp_path / "run")
    assert results["test"]["accuracy"] > 60 and results_images(results) == 30


def test_overwrite_replaces_a_run_and_nothing_else(tmp_path, good, dlkd, train):
    out = tmp_path / "run"
    good(*train(out))
    first = (out / "student.safetensors").read_bytes()
    (out / "notes.txt").write_text("mine")
    refused = dlkd(*train(out, "--seed", 1))
    assert refused.status == 2 and "--overwrite" in refused.err and (out / "student.safetensors").read_bytes() == first
    good(*train(out, "--seed", 1, "--overwrite"))
    assert (out / "student.safetensors").read_bytes() != first and not (out / "notes.txt").exists()
    shutil.rmtree(out)
    out.mkdir()
    good(*train(out))  # an empty folder is as good as none
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    refused = dlkd(*train(tmp_path / "mine", "--overwrite"))
    assert refused.status == 2 and (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_failed_run_can_be_repeated_once_the_cause_is_mended(tmp_path, dlkd, good, train):
    assert dlkd(*train(tmp_path / "run", "--optim.lr", "1e30")).status == 2
    good(*train(tmp_path / "run", "--optim.lr", 0.1))


def test_failure_after_a_checkpoint_keeps_it(tmp_path, dlkd, train):
    out = tmp_path / "run"
    growing = ("--optim.lr", "1e30", "--optim.warmup_epochs", 1, "--optim.batch_size", 128, "--epochs", 9)
    done = dlkd(*train(out, *growing, "--optim.lr", "1e4", "--engine.checkpoint_every", 1))
    assert done.status == 2 and "lower --optim.lr" in done.err
    assert state_of(out)["step"] >= 1 and not list(out.glob(".*")) and not (out / "results.json").exists()
    with (out / "metrics.csv").open() if (out / "metrics.csv").exists() else io.StringIO() as file:
        assert all(row["loss"] for row in csv.DictReader(file))
