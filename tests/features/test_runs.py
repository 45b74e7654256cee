"""Inner layers through the command line: every kind of model, exact resume, and one line for every mistake."""

import json
import os
import signal
import textwrap

import pytest
import torch

from dlkd import replay
from dlkd.methods import LossOptions
from dlkd.models import build_model, load_model
from dlkd.train import fit
from dlkd.train.checkpoint import load_checkpoint
from dlkd.train.options import DataOptions, DistillOptions, EngineOptions, ModelOptions, OptimOptions
from dlkd.train.replay import keep_batch
from dlkd.train.setup import make_session
from dlkd.train.teacher_options import FeatureOptions, TeacherOptions

MODELS = """
    import timm
    from torch import nn

    def vit(num_classes, in_chans):
        sizes = {"img_size": 8, "patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}
        return timm.models.VisionTransformer(**sizes, in_chans=in_chans, num_classes=num_classes)

    def sequential(num_classes, channels):
        convolutions = nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
"""
STUDENTS = ("resnet20", "layer_models:vit", "layer_models:sequential")


@pytest.fixture(autouse=True)
def _models(tmp_path, monkeypatch):
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "layer_models.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("method", ["fitnet", "at", "rkd"])
def test_every_kind_of_student(tmp_path, good, distill, table, weights, method, student):
    out = tmp_path / "run"
    gentle = ("--epochs", 2, "--optim.lr", 0.01, "--optim.batch_size", 16)
    weight = ("--loss.feature_weight", {"fitnet": 100, "at": 60, "rkd": 1}[method])  # 8×8 images have few positions
    good(*distill(out, "--method", method, "--student.name", student, *gentle, *weight))
    assert weights(out).keys() == build_model(student, 10, channels=1).state_dict().keys()
    module = load_model(student, out, 10, channels=1).module
    assert module(torch.rand(2, 1, 8, 8)).shape == (2, 10) and not any(m._forward_hooks for m in module.modules())
    first, last = table(out / "metrics.csv")
    assert last["feature"] < first["feature"] and "kd" not in last and "temperature" not in last
    learnt = load_checkpoint(out).state["method"]
    assert bool(learnt) == (method == "fitnet") and all(name.startswith("features.adapters.0.") for name in learnt)
    chosen = json.loads((out / "run.json").read_text())["features"]
    by_student = {"resnet20": ["layer1", "layer2", "layer3"], "layer_models:vit": ["blocks.0", "blocks.1"]}
    stages = by_student.get(student, ["3"])
    middle, whole = [stages[(len(stages) - 1) // 2]], stages if student == "resnet20" else stages[-1:]
    assert chosen["student_layers"] == {"fitnet": middle, "at": whole, "rkd": stages[-1:]}[method]


@pytest.mark.parametrize("teacher_name", STUDENTS[1:])
def test_every_kind_of_teacher(tmp_path, good, train, distill, teacher_name):
    teacher = tmp_path / "teacher"
    good(*train(teacher, "--model.name", teacher_name))
    more = ("--teacher.weights", teacher, "--teacher.name", teacher_name, "--force")
    for method in ("fitnet", "at", "rkd"):
        good(*distill(tmp_path / method, "--method", method, *more))


def test_beside_a_term_of_the_logits(tmp_path, good, distill, table):
    out = tmp_path / "run"
    layers = ("--feature.student_layers", "[layer1, layer2]", "--feature.teacher_layers", "[layer2, layer3]")
    more = ("--teacher.fold", "true", "--optim.ema", 0.9, "--engine.channels_last", "true", "--optim.accumulate", 2)
    good(*distill(out, "--method", "dlkd+fitnet", *layers, *more, "--engine.precision", "bf16"))
    (row,) = table(out / "metrics.csv")
    assert row["kd"] > 0 and row["feature"] > 0 and row["loss"] > 50 * row["feature"]
    card = json.loads((out / "run.json").read_text())
    assert card["features"] == {"student_layers": ["layer1", "layer2"], "teacher_layers": ["layer2", "layer3"]}
    assert card["method"]["ce_weight"] == 0.1 and card["method"]["feature_weight"] == 100
    assert set(table(out / "metrics_by_level.csv")[0]) > {"feature", "kd", "gradient_weight"}


@pytest.mark.parametrize("layer", ["conv1", "layer1.0.conv2", "bn1", "layer2"])
def test_folding_changes_no_feature_of_the_teacher(tmp_path, teacher, layer):
    """A folded convolution returns what its batch norm did, so one that is compared stays unfolded."""
    found = {}
    for fold in (True, False):
        options = DistillOptions(
            out=tmp_path / "run",
            data=DataOptions(per_class=30),
            method="kd+fitnet",
            student=ModelOptions("resnet8x0.5"),
            teacher=TeacherOptions(weights=teacher, fold=fold),
            feature=FeatureOptions("layer1", layer),
            engine=EngineOptions(threads=1),
        )
        session = make_session(options, quiet=True)
        found[fold] = session.lessons(session.steps[0])
        notes = [remark for remark in session.remarks if remark.startswith("teacher: folded")]
        of = {"conv1": 8, "layer1.0.conv2": 8}.get(layer, 9)
        assert notes == ([f"teacher: folded {of} of 9 batch norms"] if fold else [])
    torch.testing.assert_close(found[True].features, found[False].features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[True].logits, found[False].logits, rtol=1e-4, atol=1e-4)


def test_one_layer_by_its_number(tmp_path, good, distill, same):
    more = ("--student.name", "layer_models:sequential", "--feature.student_layers", 1)
    good(*distill(tmp_path / "run", "--method", "rkd", *more))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["features"]["student_layers"] == ["1"]
    # What the run has written down gives the same run.
    good("distill", "--config", tmp_path / "run" / "config.yaml", "--out", tmp_path / "again", *more[:2])
    assert same(tmp_path / "run", tmp_path / "again")


def test_resumed_to_the_last_bit(tmp_path, dlkd, good, distill, same, monkeypatch):
    arguments = ("--method", "kd+fitnet", "--epochs", 2, "--optim.batch_size", 32)
    good(*distill(tmp_path / "whole", *arguments))
    train_step = fit.train_step

    def stopped(session, batch, number):
        train_step(session, batch, number)
        if number == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(fit, "train_step", stopped)
    assert dlkd(*distill(tmp_path / "run", *arguments)).status == 75
    monkeypatch.setattr(fit, "train_step", train_step)
    good("distill", "--out", tmp_path / "run", "--resume")
    assert same(tmp_path / "run", tmp_path / "whole")
    one, other = (load_checkpoint(tmp_path / name).state for name in ("run", "whole"))
    assert len(one["method"]) == 6 and all(torch.equal(one["method"][k], other["method"][k]) for k in other["method"])
    # The adapters are in the optimizer, with a momentum of their own.
    assert len(one["optimizer"]["state"]) == len(list(build_model("resnet8x0.5", 10, channels=1).parameters())) + 3


def test_a_kept_batch_gives_the_same_loss(tmp_path, teacher):
    options = DistillOptions(
        out=tmp_path / "run",
        data=DataOptions(per_class=30),
        method="kd+fitnet",
        student=ModelOptions("resnet8x0.5"),
        teacher=TeacherOptions(weights=teacher),
        feature=FeatureOptions(["layer1", "layer2"], ["layer2", "layer3"]),
        loss=LossOptions(feature_weight=3.0),
        optim=OptimOptions(batch_size=16),
        engine=EngineOptions(threads=1),
    )
    session = make_session(options, quiet=True)
    seen = []
    parts = session.method.parts
    session.method.parts = lambda signals: seen.append((signals, parts(signals))) or seen[-1][1]
    fit.train_step(session, session.steps[0], 0)
    session.module.load_state_dict(make_session(options, quiet=True).module.state_dict())
    session.method.load_state_dict(make_session(options, quiet=True).method.state_dict())
    keep_batch(session, session.steps[0], 0, seen[0][0])
    kept = replay(tmp_path / "run")
    torch.testing.assert_close(kept.parts.total, seen[0][1].total, rtol=1e-6, atol=0)
    torch.testing.assert_close(kept.parts.feature, seen[0][1].feature, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ("--method", "fitnet", "--feature.student_layers", "layr2"),
            "--feature.student_layers: expected a layer of Cif",
        ),
        (("--method", "fitnet", "--feature.teacher_layers", "[layer1, fc9]"), "but got 'fc9'; did you mean 'fc'"),
        (
            ("--method", "at", "--feature.student_layers", "[layer1, layer2]"),
            "but got 2 and 1; name layers by --feature",
        ),
        (
            ("--method", "at", "--feature.student_layers", "fc", "--feature.teacher_layers", "layer1"),
            "before the pooling",
        ),
        (("--method", "kd", "--feature.teacher_layers", "layer1"), "method kd compares no layers"),
        (("--method", "kd+rkd", "--store", "STORE"), "expected no --store with method kd+rkd"),
        (("--method", "kd+rkd", "--optim.batch_size", 2), "batch_size to be at least 3 with rkd"),
        (("--method", "at", "--teacher.weights", "TWO"), "expected one teacher with method at, but got 2"),
        (
            (
                "--method",
                "fitnet+rkd",
            ),
            "fitnet and rkd do not go together: each has a feature of its own",
        ),
        (("--method", "at", "--loss.feature_weight", -1), "expected feature_weight to be finite"),
        (("--method", "at", "--loss.kd_weight", 1), "has no --loss.kd_weight"),
        (("--method", "at", "--student.name", "timm:vit_tiny_patch16_224"), "look into the layers of the student: "),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, dlkd, distill, teacher, more, words):
    given = {"STORE": tmp_path / "store", "TWO": f"[{teacher}, {teacher}]"}
    done = dlkd(*distill(tmp_path / "run", *(given.get(word, word) for word in more)))
    assert done.status == 2 and done.err.count("\n") == 1 and words in done.err, done.err
    assert not (tmp_path / "run").exists()
