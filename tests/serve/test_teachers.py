"""The teacher of a run: by the run's own settings, only where it is the one that taught, and a line where it is not."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dlkd.data import load_data
from dlkd.methods import METHODS, Signals, make_method
from dlkd.methods.options import LossOptions
from dlkd.models import load_model
from dlkd.serve import teacher as teacher_module
from dlkd.serve.answer import open_answerer
from dlkd.serve.teacher import temperature_of
from dlkd.teacher import TeacherOutput

CPU = torch.device("cpu")
GONE = ("noise_file", "cleaned")


def opened(model, teacher=True):
    return open_answerer(model, name=None, teacher=teacher, top=10, max_pixels=10**6, device=CPU)


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, with the words of its options that are to be others."""

    def made(*changes):
        shutil.copytree(run, tmp_path / "copy")
        text = (run / "config.yaml").read_text()
        for before, after in changes:
            assert len(re.findall(before, text)) == 1, before
            text = re.sub(before, after, text)
        (tmp_path / "copy" / "config.yaml").write_text(text)
        return tmp_path / "copy"

    return made


def test_distance_is_that_of_the_probabilities_of_teacher_and_probe(run, digits, teacher):
    answer = opened(run)
    for path in digits[:4]:
        found = answer(path.read_bytes())
        sides = [{e["label"]: e["confidence"] for e in found[who]} for who in ("teacher", "probe")]
        difference = [sides[0][name] - sides[1][name] for name in answer.class_names]
        assert found["difficulty"]["distance"] == pytest.approx(np.linalg.norm(difference), abs=1e-6)
    assert answer.notes == ()
    # The teacher's probabilities are those of its file.
    loaded = load_model(None, teacher, 10, channels=1)
    image = answer.student.preprocessing.image(Image.open(digits[0]).convert("RGB"))
    with torch.no_grad():
        alone = torch.softmax(loaded.module(loaded.input_format(image.unsqueeze(0))).double(), dim=1)[0]
    first = {e["label"]: e["confidence"] for e in answer(digits[0].read_bytes())["teacher"]}
    assert [first[name] for name in answer.class_names] == pytest.approx(alone.tolist(), abs=1e-5)


def test_images_of_files(photo_run, photos, good, table, tmp_path):
    paths = sorted(photos.rglob("*.png"))[::9]
    data = ("--data.name", "folder", "--data.root", photos, "--data.image_size", 28, "--data.held_out", 0)
    options = ("--teacher.weights", photo_run.parent / "teacher", "--device", "cpu", "--data.workers", 0)
    parts = []
    for split in ("train", "test"):
        good("difficulty", *data, *options, "--split", split, "--out", tmp_path / f"{split}.csv")
        parts += table(tmp_path / f"{split}.csv")
    rows = {row["path"]: row for row in parts}
    good("predict", photo_run, "--images", *paths, "--out", tmp_path / "p.jsonl", "--device", "cpu")
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    answer = opened(photo_run)
    assert answer.notes == () and len(paths) > 3
    for path, line in zip(paths, lines, strict=True):
        found, row = answer(path.read_bytes()), rows[path.relative_to(photos).as_posix()]
        assert found["difficulty"]["distance"] == pytest.approx(row["distance"], abs=1e-5)
        assert found["teacher"][0] == {
            "label": row["teacher_label"],
            "confidence": pytest.approx(row["teacher_confidence"], abs=1e-5),
        }
        assert found["predictions"][0]["confidence"] == pytest.approx(line["confidence"], abs=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [
        ((r"weights: \S*/teacher\b", "weights: gone"), "no teacher: expected the teacher's weights at gone"),
        ((r"method: dlkd", "method: os:system"), "no teacher: the method of the run is os:system, which would be"),
        ((r"method: dlkd", "method: ce"), "no teacher: the run had none, by its method ce"),
        ((r"norm: eval", "norm: recalibrated"), "no teacher: the probes of its teacher would be others now"),
        ((r"per_class: 30", "per_class: thirty"), "no teacher: "),
        ((r"sparsity: 0.3", "sparsity: 3"), "no teacher: "),
        ((r"name: digits", "name: os:system"), "no teacher: the run in"),
    ],
)
def test_a_teacher_that_is_not_there_leaves_the_student_alone(copy, digits, run, change, words):
    answer = opened(copy(change))
    (note,) = answer.notes
    assert note.startswith(words) and "\n" not in note
    found = answer(digits[0].read_bytes())
    assert found["predictions"] == opened(run, teacher=False)(digits[0].read_bytes())["predictions"]
    assert found["teacher"] is found["probe"] is found["difficulty"] is found["temperature"] is None


def test_files_that_only_a_training_needs_may_be_gone(copy, run, digits):
    changes = ((r"noise_kind: symmetric", "noise_kind: human"), *((f"{n}: null", f"{n}: gone.csv") for n in GONE))
    answer = opened(copy(*changes))
    assert answer.notes == ()
    assert answer(digits[0].read_bytes()) == opened(run)(digits[0].read_bytes())


@pytest.mark.parametrize("norm", ["eval", "recalibrated"])
def test_nothing_is_fetched_to_look_at_a_picture(copy, monkeypatch, norm):
    asked = []
    monkeypatch.setattr(teacher_module, "load_data", lambda options: asked.append(options) or load_data(options))
    opened(copy((r"norm: eval", f"norm: {norm}"), (r"noise: 0.0", "noise: 0.1")))
    (options,) = asked
    # A probe is made again of the very images.
    assert not options.download and options.noise == (0.1 if norm == "recalibrated" else 0)


def test_a_factory_is_not_imported(copy):
    answer = opened(copy((r"(teacher:\n  name:) null", r"\1 os:system")))
    assert answer.notes == ("no teacher: its teacher is made by os:system, which would be imported and run",)


def test_another_teacher_than_the_one_that_taught(copy, run):
    answer = opened(copy((r"weights: \S*/teacher\b", f"weights: {run}")))
    assert answer.notes == ("no teacher: the weights of its teacher are others now",)


def test_without_its_checkpoint_a_run_knows_no_level(copy, digits):
    folder = copy()
    for file in folder.glob("checkpoint*"):
        file.unlink()
    answer = opened(folder)
    found = answer(digits[0].read_bytes())
    assert answer.notes == ("no level: checkpoint.pt of the run is not there",)
    assert found["difficulty"]["distance"] > 0 and found["difficulty"]["level"] is None
    assert found["teacher"] and found["probe"] and found["temperature"] is None
    (folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    (note,) = opened(folder).notes
    assert "no level: expected a good checkpoint" in note


def test_a_run_whose_method_looks_at_no_difficulty(tmp_path, good, distill, digits):
    good(*distill(tmp_path / "kd", "--method", "kd", "--loss.temperature", 3, "--force"))
    answer = opened(tmp_path / "kd")
    found = answer(digits[0].read_bytes())
    assert len(answer.notes) == 1 and answer.notes[0].startswith("no level: the run kept no reference distances")
    assert found["temperature"] == {"teacher": 3.0, "student": 3.0}
    assert found["difficulty"]["distance"] > 0 and found["difficulty"]["level"] is None and found["probe"]


def test_settings_by_which_one_picture_has_no_level(tmp_path, good, distill, digits):
    out = tmp_path / "entropy"
    good(*distill(out, "--loss.score", "cross_entropy", "--probe.norm", "batch", "--force"))
    answer = opened(out)
    found = answer(digits[0].read_bytes())
    assert answer.notes == (
        "no probe: that of the run goes by the statistics of a batch",
        "no level and no temperature: difficulty by cross_entropy needs a label",
    )
    assert found["teacher"] and found["probe"] is found["difficulty"] is found["temperature"] is None


def test_a_student_alone(teacher, run, digits, tmp_path, good):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    assert opened(teacher).notes == ("no teacher: its run had no teacher",)
    assert opened(run, teacher=False).notes == ("no teacher: it was not asked for",)
    good("export", run, "--out", tmp_path / "onnx", "--threads", 1)
    exported = opened(tmp_path / "onnx")
    assert exported.notes == ("no teacher: the weights lie without their run",)
    mine, other = (each(digits[0].read_bytes())["predictions"] for each in (opened(run), exported))
    assert [e["label"] for e in mine] == [e["label"] for e in other]
    assert [e["confidence"] for e in mine] == pytest.approx([e["confidence"] for e in other], abs=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_the_temperature_is_that_of_the_loss(name):
    method, random = make_method(name, classes=7), torch.Generator().manual_seed(0)
    student, teacher, probe = (3 * torch.randn(1, 7, generator=random) for _ in range(3))
    if method.level is not None:
        method.level.calibrate(torch.rand(100, generator=random))
    level = torch.tensor([0.3]) if method.level is not None else None
    found = temperature_of(method, student, TeacherOutput(teacher, (probe,), ("p",)), level)
    if name == "ats" or method.temperature is None:  # by the label; of inner layers or labels alone
        assert found is None
        return
    target = torch.tensor([0])
    parts = method.parts(Signals(student, teacher, target, level, probe, positions=torch.tensor([0])))
    assert found["student"] == pytest.approx(float(parts.temperature.detach()), rel=1e-6)


def test_who_is_taught_at_the_temperature_of_another_has_none_of_its_own():
    method = make_method("dlkd", LossOptions(shuffled=True))
    teacher = torch.tensor([[1.0, 2.0]])
    out = TeacherOutput(teacher, (teacher,), ("p",))
    assert temperature_of(method, teacher, out, torch.tensor([0.5])) is None
