"""The preflight on real sessions: each stop is provoked, and what it says is true."""

import dataclasses
import io
import json
import sys
import weakref

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console

from dlkd import ModelOptions, TeacherOptions, run
from dlkd.errors import UserError
from dlkd.models import build_model
from dlkd.preflight import Finding, Preflight, cost, preflight
from dlkd.train.engine import EngineOptions
from dlkd.train.memory import largest_that_fits
from dlkd.train.optim import OptimOptions, make_optimizer
from dlkd.train.setup import make_session
from dlkd.train.step import train_step
from dlkd.train.teacher_options import ProbeOptions


def finding(found, what):
    chosen = [f for f in found.findings if f.what.startswith(what)]
    assert len(chosen) == 1, [f.what for f in found.findings]
    return chosen[0]


def test_a_sound_run_has_no_stops(look):
    found, session = look()
    assert found.stops == []
    sizes = [len(session.data.train), len(session.data.held_out), len(session.data.test)]
    assert finding(found, "images").value == "{} to train on, {} held out, {} to test".format(*sizes)
    assert finding(found, "classes").value.startswith("10: 0, 1, 2, 3 … 8, 9")
    assert finding(found, "one batch").value.startswith("[64, 1, 8, 8], values 0.000 to 1.000")
    assert found.figures["chance"] == 10 and found.figures["batch_shape"] == [64, 1, 8, 8]
    assert found.figures["images"] == sizes[1]
    assert found.figures["estimated_seconds"] > 0 and found.figures["estimated_memory_bytes"] > 2**20
    assert not session.folder.exists()
    json.dumps(found.to_dict())


def test_figures_are_those_of_the_held_out_images(look):
    found, session = look()
    held = session.data.held_out
    images = held.pixels.array.float() / 255
    out = session.teaching.teacher(images)
    right = 100 * (out.logits.argmax(1) == held.labels).double().mean().item()
    kept = 100 * (out.probe_logits[0].argmax(1) == held.labels).double().mean().item()
    assert found.figures["teacher_accuracy"] == pytest.approx(right)
    assert found.figures["probe_accuracy"] == {"global-0.3": pytest.approx(kept)}
    p, q = out.logits.double().softmax(1), out.probe_logits[0].double().softmax(1)
    d = (p - q).square().sum(1).sqrt().numpy()
    np.testing.assert_allclose(found.figures["distance_quantiles"], np.quantile(d, [0.1, 0.5, 0.9]), rtol=2e-3)
    assert finding(found, "teacher").value.startswith(f"{right:.1f} % right on {len(held)} held-out images")


def test_the_preflight_trains_nothing(options):
    session = make_session(options(), quiet=True)
    before = {k: v.clone() for k, v in session.module.state_dict().items()}
    session.module.train()
    preflight(session)
    assert session.module.training and all(p.grad is None for p in session.module.parameters())
    assert all(torch.equal(before[k], v) for k, v in session.module.state_dict().items())
    assert not session.level.calibrated


def test_probe_that_is_the_teacher_is_a_stop(look):
    found, _ = look(probe=ProbeOptions(sparsity=0.0))
    assert [f.what for f in found.stops] == ["distance, 10/50/90 %"]
    assert found.figures["distance_quantiles"][2] < 1e-3
    assert found.stops[0].advice == "the 90 % quantile is below 0.001: raise --probe.sparsity"


def test_the_ninety_per_cent_quantile_decides(look):
    # From a probe that hardly differs to one whose median is still below the bound, but not its hard images.
    found = [look(probe=ProbeOptions(sparsity=s))[0] for s in (0.01, 0.05, 0.1)]
    quantiles = [f.figures["distance_quantiles"] for f in found]
    stopped = [any(stop.what.startswith("distance") for stop in f.stops) for f in found]
    assert stopped == [q[2] < 1e-3 for q in quantiles]
    assert any(stopped) and any(q[2] > 1e-5 for q, stop in zip(quantiles, stopped, strict=True) if stop), quantiles
    assert any(q[1] < 1e-3 for q, stop in zip(quantiles, stopped, strict=True) if not stop), quantiles


def test_probe_under_half_of_the_teacher_is_a_stop(look):
    found, _ = look(probe=ProbeOptions(sparsity=0.99))
    assert [f.what for f in found.stops] == ["probe global-0.99"]
    assert found.figures["probe_accuracy"]["global-0.99"] < found.figures["teacher_accuracy"] / 2
    assert "lower --probe.sparsity" in found.stops[0].advice


def test_each_of_several_probes_is_judged(look):
    found, _ = look(probe=ProbeOptions(sparsity=[0.3, 0.99]))
    assert [f.what for f in found.stops] == ["probe global-0.99"]
    assert list(found.figures["probe_accuracy"]) == ["global-0.3", "global-0.99"]


def test_random_weights_are_a_stop(tmp_path, look):
    torch.manual_seed(0)
    safetensors.torch.save_file(build_model("resnet8", 10, channels=1).state_dict(), tmp_path / "random.safetensors")
    found, _ = look(teacher=TeacherOptions("resnet8", tmp_path / "random.safetensors"))
    stop = finding(found, "teacher")
    assert stop in found.stops and found.figures["teacher_accuracy"] < 50
    assert "(chance 10.0 %)" in stop.value and "expected at least 50.0 %" in stop.advice


def test_wrong_labels_are_not_held_against_the_teacher(look):
    found, session = look(data={"noise": 0.6})
    # Right for 40 % at most: under five times chance, but all that the labels allow.
    assert found.figures["teacher_accuracy"] < 50 and finding(found, "teacher").verdict == ""
    oracle = finding(found, "the teacher's labels")
    assert oracle.verdict == "note" and "oracle" in oracle.value
    assert session.data.held_out.wrong.mean() == pytest.approx(0.6, abs=0.1)


def test_a_stop_ends_the_run_in_one_line_and_force_goes_on(tmp_path, options):
    given = options(out=tmp_path / "run", probe=ProbeOptions(sparsity=0.0))
    with pytest.raises(UserError, match=r"the preflight says stop .*raise --probe.sparsity.*--force") as caught:
        run(given, quiet=True)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    results = run(dataclasses.replace(given, force=True), quiet=True)
    assert results["test"]["accuracy"] >= 0
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    verdicts = {f["what"]: f["verdict"] for f in card["preflight"]["findings"]}
    assert verdicts["distance, 10/50/90 %"] == "stop" and verdicts["teacher"] == ""


@pytest.mark.parametrize(
    ("seen", "held_out", "words"),
    [
        ("train", 0.2, "held-out images, seen by the teacher"),
        ("kept", 0.2, "held-out images, new to the teacher"),
        ("none", 0.2, "held-out images, new to the teacher"),
        ("unknown", 0.2, "held-out images, perhaps seen by the teacher"),
        ("train", 0.0, "training images, seen by the teacher"),
        ("kept", 0.0, "training images, seen by the teacher"),
        ("none", 0.0, "training images, new to the teacher"),
        ("unknown", 0.0, "training images, perhaps seen by the teacher"),
    ],
)
def test_what_the_teacher_has_seen(teacher, seen, held_out, words, look):
    given = TeacherOptions(weights=teacher, seen=seen)
    found, _ = look(data={"held_out": held_out}, method="kd", teacher=given)
    assert found.figures["on"] == words
    assert words in finding(found, "teacher").value


@pytest.mark.parametrize(
    ("data", "seen", "words"),
    [
        ({}, "kept", "held-out images, new to the teacher"),
        ({"held_out": 0.0}, "unknown", "training images, perhaps seen by the teacher"),
        ({"seed": 1}, "unknown", "held-out images, perhaps seen by the teacher"),
    ],
)
def test_what_a_teacher_of_ours_has_seen_is_read_from_its_run(data, seen, words, look):
    found, session = look(data=data, method="kd")
    assert session.teaching.seen == seen and found.figures["on"] == words


@pytest.mark.parametrize(
    ("data", "seen", "chosen", "words"),
    [
        ({}, "auto", True, "of the held-out images"),
        ({}, "none", True, "of the held-out images"),
        ({}, "train", False, "not known to be new to the teacher"),
        ({}, "unknown", False, "not known to be new to the teacher"),
        ({"held_out": 0.0}, "none", False, "no held-out part"),
    ],
)
def test_sparsity_is_chosen_on_held_out_images_that_are_new(teacher, data, seen, chosen, words, look):
    found, session = look(
        data=data,
        probe=ProbeOptions(sparsity="auto", keep=0.9),
        teacher=TeacherOptions(weights=teacher, seen=seen),
    )
    (remark,) = [r for r in session.remarks if r.startswith("sparsity auto")]
    sparsity = session.teaching.specs[0].sparsity
    assert words in remark
    if chosen:
        figures = found.figures
        assert f"sparsity auto: {sparsity:g} " in remark
        assert figures["probe_accuracy"][f"global-{sparsity:g}"] >= 0.9 * figures["teacher_accuracy"]
    else:
        assert sparsity == 0.3 and "the default 0.3 is used" in remark


def test_a_method_without_teacher(look):
    found, session = look(method="ce")
    assert session.teaching is None and found.stops == []
    assert [f.what for f in found.findings] == ["images", "classes", "one batch", "estimate"]


def test_nothing_held_out_is_said(look):
    found, _ = look(method="ce", data={"held_out": 0.0})
    assert "none held out" in finding(found, "images").value


def test_what_is_shown_is_never_markup():
    found = Preflight(
        (
            Finding("classes", "2: [red]cat[/nope], :smile:"),
            Finding("teacher", "9.0 % right", "stop", "expected more"),
            Finding("labels", "clean", "note", "an oracle"),
        ),
        {"chance": 50.0},
    )
    file = io.StringIO()
    found.show(Console(file=file, width=200))
    shown = file.getvalue()
    assert "[red]cat[/nope], :smile:" in shown
    assert "9.0 % right  STOP: expected more" in shown and "clean  (!) an oracle" in shown
    assert [f.what for f in found.stops] == ["teacher"]
    assert found.to_dict() == {
        "chance": 50.0,
        "findings": [
            {"what": "classes", "value": "2: [red]cat[/nope], :smile:", "verdict": "", "advice": ""},
            {"what": "teacher", "value": "9.0 % right", "verdict": "stop", "advice": "expected more"},
            {"what": "labels", "value": "clean", "verdict": "note", "advice": "an oracle"},
        ],
    }


WATCHED = """
import torch
from torch import nn

SEEN = []

class Watched(nn.Module):
    def __init__(self, num_classes=10, channels=3):
        super().__init__()
        self.last = nn.Linear(8 * 8 * channels, num_classes)
    def forward(self, x):
        last = x.is_contiguous(memory_format=torch.channels_last)
        SEEN.append((self.training, x.dtype, torch.is_autocast_enabled("cpu"), last))
        return self.last(x.flatten(1))
"""


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_step_is_that_of_the_run(tmp_path, options, own_module, precision, channels_last):
    """In its precision and memory format: the student is looked at as the loop then calls it."""
    own_module("preflight_watched", WATCHED)
    images = np.random.default_rng(0).integers(0, 255, (200, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "colours.npz", train_images=images, train_labels=np.arange(200) % 10)
    given = options(
        method="ce",
        data={"name": "npz", "root": tmp_path / "colours.npz", "test_share": 0.2},
        teacher=TeacherOptions(),
        student=ModelOptions("preflight_watched:Watched"),
        engine=EngineOptions(precision, channels_last, threads=1, tensorboard=False, report=False),
    )
    session = make_session(given, quiet=True)
    seen = sys.modules["preflight_watched"].SEEN
    preflight(session)
    looked = set(seen)
    seen.clear()
    session.student.train()
    train_step(session, session.steps[0], 0)
    (of_the_run,) = set(seen)
    assert looked == {of_the_run, (False, *of_the_run[1:])}
    half = precision == "bf16"
    assert of_the_run == (True, torch.bfloat16 if half else torch.float32, half, channels_last)


@pytest.mark.parametrize(("optimizer", "moments"), [("sgd", 1), ("adamw", 2)])
def test_the_state_of_the_optimizer_is_counted(options, monkeypatch, optimizer, moments):
    made = []

    def kept(*arguments):
        made.append(make_optimizer(*arguments))
        return made[-1]

    session = make_session(options(optim=OptimOptions(optimizer, ema=0.9)), quiet=True)
    monkeypatch.setattr(cost, "make_optimizer", kept)
    preflight(session)
    (of_the_copy,) = made
    state = sum(x.nbytes for of in of_the_copy.state.values() for x in of.values() if torch.is_tensor(x) and x.ndim)
    own = list(session.module.parameters())
    assert state == moments * sum(p.nbytes for p in own) and not session.optimizer.state
    assert not {id(p) for p in own} & {id(p) for group in of_the_copy.param_groups for p in group["params"]}


def test_a_smaller_step_is_tried_when_the_large_one_is_forgotten():
    """What it had allocated is held by its error, and would be in the way."""
    left = []

    class Held:
        pass

    def step(size):
        assert not [x for x in left if x() is not None]
        held = Held()
        left.append(weakref.ref(held))
        if size > 10:
            raise RuntimeError("CUDA out of memory")

    assert not cost._fits(step, 64) and largest_that_fits(step, 64) == 8 and len(left) == 4
    with pytest.raises(RuntimeError, match="another"):
        cost._fits(lambda size: (_ for _ in ()).throw(RuntimeError("another")), 2)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "about 0 s"), (89, "about 89 s"), (120, "about 2 min"), (7200, "about 2.0 h")]
)
def test_durations_for_people(seconds, words):
    assert cost._duration(seconds) == words
