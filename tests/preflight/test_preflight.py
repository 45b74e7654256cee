"""The preflight on real sessions: each stop is provoked, and what it says is true."""

import dataclasses
import io
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from rich.console import Console

from dlkd import DataOptions, DistillOptions, ModelOptions, TeacherOptions, TrainOptions, run
from dlkd.errors import UserError
from dlkd.models import build_model
from dlkd.preflight import Finding, Preflight, preflight
from dlkd.train.optim import OptimOptions
from dlkd.train.options import EngineOptions, ProbeOptions
from dlkd.train.setup import make_session

DATA = DataOptions("digits", held_out=0.2)
ENGINE = EngineOptions(threads=1, tensorboard=False, report=False)
MODELS = """
import torch
from torch import nn

class Answer(nn.Module):
    def __init__(self, num_classes=10, channels=1, **kind):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(num_classes))
        self.kind = kind
    def forward(self, x):
        logits = x.mean(dim=(1, 2, 3))[:, None] + self.w
        return self.kind.get("change", lambda z: z)(logits)

def nine(num_classes):
    return Answer(num_classes, change=lambda z: z[:, :9])
def a_dict(num_classes):
    return Answer(num_classes, change=lambda z: {"logits": z})
def index_error(num_classes):
    return Answer(num_classes, change=lambda z: z.mean(dim=7))
def own_error(num_classes):
    def change(z):
        raise KeyError("pixel\\nmore")
    return Answer(num_classes, change=change)
def not_finite(num_classes):
    return Answer(num_classes, change=lambda z: z / torch.arange(len(z)).clamp(max=5).sub(5)[:, None])
def small_batches(num_classes):
    def change(z):
        assert len(z) <= 256, "a batch larger than the one in training"
        return z
    return Answer(num_classes, change=change)
def always_first(num_classes):
    return Answer(num_classes, change=lambda z: z + torch.eye(num_classes)[0])
"""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("preflight") / "teacher"
    options = TrainOptions(
        out=out,
        data=DATA,
        epochs=5,
        device="cpu",
        model=ModelOptions("resnet8"),
        optim=OptimOptions(lr=0.1, nesterov=True, schedule="one_cycle"),
        engine=ENGINE,
    )
    assert run(options, quiet=True)["held_out"]["accuracy"] > 85
    return out


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of a module with models that somebody might bring."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "preflight_models.py").write_text(MODELS)
    return folder


def options(weights, /, **given):
    base = DistillOptions(
        out=weights.parent / "never-written",
        device="cpu",
        data=DATA,
        epochs=1,
        engine=ENGINE,
        student=ModelOptions("resnet8x0.5"),
        teacher=TeacherOptions(weights=weights),
    )
    return dataclasses.replace(base, **given)


def look(given):
    session = make_session(given, quiet=True)
    return preflight(session), session


def finding(found, what):
    chosen = [f for f in found.findings if f.what.startswith(what)]
    assert len(chosen) == 1, [f.what for f in found.findings]
    return chosen[0]


def test_a_sound_run_has_no_stops(teacher):
    found, session = look(options(teacher))
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


def test_figures_are_those_of_the_held_out_images(teacher):
    found, session = look(options(teacher))
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


def test_the_preflight_trains_nothing(teacher):
    session = make_session(options(teacher), quiet=True)
    before = {k: v.clone() for k, v in session.module.state_dict().items()}
    session.module.train()
    preflight(session)
    assert session.module.training and all(p.grad is None for p in session.module.parameters())
    assert all(torch.equal(before[k], v) for k, v in session.module.state_dict().items())
    assert not session.level.calibrated


def test_probe_that_is_the_teacher_is_a_stop(teacher):
    found, _ = look(options(teacher, probe=ProbeOptions(sparsity=0.0)))
    assert [f.what for f in found.stops] == ["distance, 10/50/90 %"]
    assert found.figures["distance_quantiles"][2] < 1e-3
    assert found.stops[0].advice == "the 90 % quantile is below 0.001: raise --probe.sparsity"


def test_the_ninety_per_cent_quantile_decides(teacher):
    # From a probe that hardly differs to one whose median is still below the bound, but not its hard images.
    found = [look(options(teacher, probe=ProbeOptions(sparsity=s)))[0] for s in (0.01, 0.05, 0.1)]
    quantiles = [f.figures["distance_quantiles"] for f in found]
    stopped = [any(stop.what.startswith("distance") for stop in f.stops) for f in found]
    assert stopped == [q[2] < 1e-3 for q in quantiles]
    assert any(stopped) and any(q[2] > 1e-5 for q, stop in zip(quantiles, stopped, strict=True) if stop), quantiles
    assert any(q[1] < 1e-3 for q, stop in zip(quantiles, stopped, strict=True) if not stop), quantiles


def test_probe_under_half_of_the_teacher_is_a_stop(teacher):
    found, _ = look(options(teacher, probe=ProbeOptions(sparsity=0.99)))
    assert [f.what for f in found.stops] == ["probe global-0.99"]
    assert found.figures["probe_accuracy"]["global-0.99"] < found.figures["teacher_accuracy"] / 2
    assert "lower --probe.sparsity" in found.stops[0].advice


def test_each_of_several_probes_is_judged(teacher):
    found, _ = look(options(teacher, probe=ProbeOptions(sparsity=[0.3, 0.99])))
    assert [f.what for f in found.stops] == ["probe global-0.99"]
    assert list(found.figures["probe_accuracy"]) == ["global-0.3", "global-0.99"]


def test_random_weights_are_a_stop(tmp_path, teacher):
    torch.manual_seed(0)
    safetensors.torch.save_file(build_model("resnet8", 10, channels=1).state_dict(), tmp_path / "random.safetensors")
    given = options(teacher, teacher=TeacherOptions("resnet8", tmp_path / "random.safetensors"))
    found, _ = look(given)
    stop = finding(found, "teacher")
    assert stop in found.stops and found.figures["teacher_accuracy"] < 50
    assert "(chance 10.0 %)" in stop.value and "expected at least 50.0 %" in stop.advice


def test_two_classes_ask_for_half_way_between_chance_and_certainty(tmp_path, models, monkeypatch, teacher):
    monkeypatch.syspath_prepend(models)
    # In the order of the classes, as a folder is: the first thousand alone would be 75 % of class 0.
    images, labels = np.zeros((1500, 8, 8), np.uint8), np.repeat([0, 1], 750)
    np.savez(tmp_path / "sorted.npz", train_images=images, train_labels=labels)
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    found, _ = look(
        options(
            teacher,
            method="kd",
            data=DataOptions("npz", root=tmp_path / "sorted.npz", held_out=0, test_share=0.1),
            teacher=TeacherOptions("preflight_models:always_first", tmp_path / "w.pt"),
        )
    )
    assert found.figures["images"] == 1000 and found.figures["teacher_accuracy"] == 50
    assert "expected at least 75.0 %" in finding(found, "teacher").advice


def test_wrong_labels_are_not_held_against_the_teacher(teacher):
    noisy = dataclasses.replace(DATA, noise=0.6)
    found, session = look(options(teacher, data=noisy))
    # Right for 40 % at most: under five times chance, but all that the labels allow.
    assert found.figures["teacher_accuracy"] < 50 and finding(found, "teacher").verdict == ""
    oracle = finding(found, "the teacher's labels")
    assert oracle.verdict == "note" and "oracle" in oracle.value
    assert session.data.held_out.wrong.mean() == pytest.approx(0.6, abs=0.1)


def test_a_stop_ends_the_run_in_one_line_and_force_goes_on(teacher, tmp_path):
    given = options(teacher, out=tmp_path / "run", probe=ProbeOptions(sparsity=0.0))
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
def test_what_the_teacher_has_seen(teacher, seen, held_out, words):
    data = dataclasses.replace(DATA, held_out=held_out)
    found, _ = look(options(teacher, data=data, method="kd", teacher=TeacherOptions(weights=teacher, seen=seen)))
    assert found.figures["on"] == words
    assert words in finding(found, "teacher").value


@pytest.mark.parametrize(
    ("data", "seen", "words"),
    [
        (DATA, "kept", "held-out images, new to the teacher"),
        (dataclasses.replace(DATA, held_out=0.0), "unknown", "training images, perhaps seen by the teacher"),
        (dataclasses.replace(DATA, seed=1), "unknown", "held-out images, perhaps seen by the teacher"),
    ],
)
def test_what_a_teacher_of_ours_has_seen_is_read_from_its_run(teacher, data, seen, words):
    found, session = look(options(teacher, data=data, method="kd"))
    assert session.teaching.seen == seen and found.figures["on"] == words


@pytest.mark.parametrize(
    ("data", "seen", "chosen", "words"),
    [
        (DATA, "auto", True, "of the held-out images"),
        (DATA, "none", True, "of the held-out images"),
        (DATA, "train", False, "not known to be new to the teacher"),
        (DATA, "unknown", False, "not known to be new to the teacher"),
        (dataclasses.replace(DATA, held_out=0.0), "none", False, "no held-out part"),
    ],
)
def test_sparsity_is_chosen_on_held_out_images_that_are_new(teacher, data, seen, chosen, words):
    given = options(
        teacher,
        data=data,
        probe=ProbeOptions(sparsity="auto", keep=0.9),
        teacher=TeacherOptions(weights=teacher, seen=seen),
    )
    found, session = look(given)
    (remark,) = [r for r in session.remarks if r.startswith("sparsity auto")]
    sparsity = session.teaching.specs[0].sparsity
    assert words in remark
    if chosen:
        figures = found.figures
        assert f"sparsity auto: {sparsity:g} " in remark
        assert figures["probe_accuracy"][f"global-{sparsity:g}"] >= 0.9 * figures["teacher_accuracy"]
    else:
        assert sparsity == 0.3 and "the default 0.3 is used" in remark


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nine", "expected the student to return logits [64, 10], but got [64, 9]"),
        ("a_dict", "expected the student to return logits [64, 10], but got dict"),
        ("index_error", "the student does not take images of [1, 8, 8]: Dimension out of range"),
        ("own_error", "the student does not take images of [1, 8, 8]: 'pixel"),
    ],
)
def test_a_student_with_another_shape_is_one_line(teacher, models, monkeypatch, name, message):
    monkeypatch.syspath_prepend(models)
    session = make_session(options(teacher, student=ModelOptions(f"preflight_models:{name}")), quiet=True)
    with pytest.raises(UserError) as caught:
        preflight(session)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert session.module.training


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nine", "expected the teacher to return 10 logits, one a class, but got [9]"),
        ("a_dict", "expected the teacher to return logits [256, classes], but got dict"),
        ("index_error", "the teacher does not take images of [1, 8, 8]: Dimension out of range"),
        ("own_error", "the teacher does not take images of [1, 8, 8]: 'pixel"),
        ("not_finite", "the teacher's logits are not finite, first for sample id "),
    ],
)
def test_a_teacher_with_another_shape_is_one_line(teacher, models, monkeypatch, tmp_path, name, message):
    monkeypatch.syspath_prepend(models)
    torch.save({"w": torch.ones(10)}, tmp_path / "w.pt")
    of_theirs = TeacherOptions(f"preflight_models:{name}", tmp_path / "w.pt")
    session = make_session(options(teacher, method="kd", teacher=of_theirs), quiet=True)
    with pytest.raises(UserError) as caught:
        preflight(session)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    if name == "not_finite":
        # In a batch all from the sixth on are divided by zero.
        assert str(session.data.held_out.ids[5]) in str(caught.value)


def test_a_student_for_other_images_is_one_line(teacher):
    session = make_session(options(teacher), quiet=True)
    session.module = build_model("resnet8", 10, channels=3)
    with pytest.raises(UserError, match=r"the student does not take images of \[1, 8, 8\]: ") as caught:
        preflight(session)
    assert "\n" not in str(caught.value)


def test_accumulated_batches_are_tried_one_at_a_time(teacher, models, monkeypatch):
    monkeypatch.syspath_prepend(models)
    given = options(
        teacher,
        student=ModelOptions("preflight_models:small_batches"),
        optim=OptimOptions(batch_size=256, accumulate=2),
    )
    found, _ = look(given)
    assert found.figures["batch_shape"] == [512, 1, 8, 8]


def test_a_method_without_teacher(teacher):
    found, session = look(options(teacher, method="ce"))
    assert session.teaching is None and found.stops == []
    assert [f.what for f in found.findings] == ["images", "classes", "one batch", "estimate"]


def test_nothing_held_out_is_said(teacher):
    found, _ = look(options(teacher, method="ce", data=dataclasses.replace(DATA, held_out=0.0)))
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


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "about 0 s"), (89, "about 89 s"), (120, "about 2 min"), (7200, "about 2.0 h")]
)
def test_durations_for_people(seconds, words):
    from dlkd.preflight.checks import _duration

    assert _duration(seconds) == words
