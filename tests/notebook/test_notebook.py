"""The jobs of the command line for objects of a Python session, and what a run shows in a notebook."""

import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import dlkd
from dlkd import DataOptions, DistillOptions, InputFormat, ModelOptions, Run, TeacherOptions, TrainOptions
from dlkd.data import ViewOptions
from dlkd.errors import UserError
from dlkd.models import build_model
from dlkd.notebook.given import given_model
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions

ENGINE = EngineOptions(tensorboard=False, threads=1)
LEAN = EngineOptions(tensorboard=False, threads=1, report=False)


class Digits(torch.utils.data.Dataset):
    """Some of the bundled digits, as anybody's own data set."""

    classes = tuple(f"digit <{k}>" for k in range(10))

    def __init__(self, start, stop):
        digits = load_digits()
        self.images = np.uint8(digits.images[start:stop] * 255 / 16)
        self.targets = digits.target[start:stop]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        return Image.fromarray(self.images[k]), int(self.targets[k])


def network(width, last=10):
    return nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(9 * width, last))


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A plain module taught by another of the very same architecture: everything that went in, and the run."""
    folder = tmp_path_factory.mktemp("notebook")
    torch.manual_seed(0)
    train, test = Digits(0, 300), Digits(300, 400)
    teacher, student = network(8), network(8)
    scale = InputFormat((0.3,) * 3, (0.35,) * 3)
    options = TrainOptions(
        device="cpu", data=DataOptions(image_size=8, workers=0), engine=LEAN, views=ViewOptions(augment="none"),
        optim=OptimOptions(optimizer="adamw", lr=0.01),
    )  # fmt: skip
    first = dlkd.train_classifier(
        teacher, train, test, epochs=12, out=folder / "teacher", model_format=scale, quiet=True, options=options
    )
    before = state(student), state(teacher)
    trained = copy.deepcopy(teacher)
    trained.load_state_dict({name.removeprefix("model."): v for name, v in first.student.state_dict().items()
                             if name.startswith("model.")})  # fmt: skip
    run = dlkd.distill(
        trained,
        student,
        train,
        test,
        method="kd",
        epochs=2,
        out=folder / "student",
        teacher_format=scale,
        student_format=scale,
        with_baseline=True,
        force=True,
        quiet=True,
        options=DistillOptions(device="cpu", data=DataOptions(image_size=8, workers=0), engine=ENGINE),
    )
    return {"first": first, "run": run, "test": test, "modules": (student, teacher), "before": before,
            "trained": trained}  # fmt: skip


def test_modules_of_the_session_stay_as_they_were(taught):
    assert all(equal(state(module), of) for module, of in zip(taught["modules"], taught["before"], strict=True))
    assert not any(module.training is False for module in taught["modules"])


def test_teacher_and_student_of_one_architecture_are_not_mixed_up(taught):
    """The teacher's figures are those of the trained module, which the student's fresh weights have not."""
    results, first = taught["run"].results, taught["first"].results
    assert results["teacher"]["test"]["accuracy"] == pytest.approx(first["test"]["accuracy"])
    assert first["test"]["accuracy"] > 60
    own = {name.removeprefix("model."): v for name, v in taught["run"].student.state_dict().items()}
    assert not torch.equal(own["0.weight"], taught["trained"].state_dict()["0.weight"])


def test_the_student_says_what_the_run_said(taught, tmp_path):
    """Asked for images in [0, 1], with its own normalisation inside; whether they are pictures or files."""
    run, test = taught["run"], taught["test"]
    student, images = run.student, torch.cat([run.image(image) for image, _ in test])
    with torch.no_grad():
        said = student(images).argmax(1).numpy()
    test[7][0].save(tmp_path / "7.png")
    assert torch.equal(run.image(tmp_path / "7.png"), images[7:8]) and images.shape == (100, 3, 8, 8)
    with np.load(run.folder / "predictions.npz") as kept:
        assert kept["test_predicted"].tolist() == said.tolist()
    assert not student.training
    assert 100 * (said == test.targets).mean() == pytest.approx(run.results["test"]["accuracy"])


def test_what_a_run_knows(taught):
    run = taught["run"]
    assert run.results == json.loads((run.folder / "results.json").read_text())
    assert run.class_names == Digits.classes
    with (run.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.history[1]["loss"] == float(rows[1]["loss"])
    assert Run(str(run.folder)).results == run.results  # type: ignore[arg-type]


def test_the_table_of_a_cell(taught):
    shown, results = taught["run"]._repr_html_(), taught["run"].results
    for of in (results["test"], results["teacher"]["test"], results["baseline"]):
        assert f"<td>{of['accuracy']:.2f}</td>" in shown
    assert "student alone" in shown
    odd = Run(taught["run"].folder.rename(taught["run"].folder.with_name("<b>student")))
    try:
        assert "<b>" not in odd._repr_html_() and "&lt;b&gt;student" in odd._repr_html_()
    finally:
        odd.folder.rename(taught["run"].folder)


def test_show_outside_a_notebook_says_where(taught, capsys):
    taught["run"].show()
    assert capsys.readouterr().out == (taught["run"].folder / "report.html").resolve().as_uri() + "\n"
    with pytest.raises(UserError, match="was told to make none"):
        taught["first"].show()


def test_the_same_modules_go_on_with_a_run(taught, tmp_path):
    """As after a restart of the kernel: other objects, made in the same way."""
    folder = tmp_path / "run"
    options = TrainOptions(device="cpu", data=DataOptions(image_size=8, workers=0), engine=LEAN, out=folder)
    data = Digits(0, 100)
    whole = dlkd.train_classifier(network(4), data, epochs=1, options=options, quiet=True)
    assert whole.folder == folder  # options.out, since nothing was given beside it
    weights = whole.student.state_dict()
    (folder / "results.json").unlink()
    again = dlkd.train_classifier(network(4), data, epochs=1, options=options, resume=True, quiet=True)
    assert equal(weights, again.student.state_dict())
    with pytest.raises(UserError, match=r"--model\.name is another now"):
        (folder / "results.json").unlink()
        dlkd.train_classifier(network(5), data, epochs=1, options=options, resume=True, quiet=True)
    with pytest.raises(UserError, match="give --resume to go on"):
        dlkd.train_classifier(network(4), data, epochs=1, options=options, quiet=True)


def test_modules_of_one_shape_and_another_function_have_other_names():
    """Their weights would load into each other without a word."""
    one, other = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Sequential(nn.Linear(2, 2), nn.GELU())
    names = {given_model(module, None, role) for module in (one, other) for role in ("teacher", "student")}
    assert len(names) == 4
    assert given_model(copy.deepcopy(one), None, "teacher") in names


def test_a_name_of_another_session_is_said(taught):
    config = yaml.safe_load((taught["run"].folder / "config.yaml").read_text())
    name = config["student"]["name"]
    assert name.startswith("dlkd.notebook.given:student_")
    with pytest.raises(ValueError, match="was an object of another Python session; give it again"):
        build_model(name[:-8] + "0" * 8, 10)


def test_names_and_folders_as_on_the_command_line(photos, teacher, tmp_path, distill, good, same):
    """The same run, bit for bit, as that of ``dlkd distill``."""
    options = DistillOptions(
        device="cpu", data=DataOptions(per_class=30), engine=LEAN, teacher=TeacherOptions(fold=False)
    )
    run = dlkd.distill(
        teacher, "resnet8x0.5", options.data, method="kd", epochs=1, seed=3, out=tmp_path / "here", options=options,
        quiet=True,
    )  # fmt: skip
    good(*distill(tmp_path / "there", "--method", "kd", "--seed", 3, "--teacher.fold", "false"))
    assert same(run.folder, tmp_path / "there")
    options = TrainOptions(device="cpu", data=DataOptions(image_size=16, workers=0), engine=LEAN)
    run = dlkd.train_classifier("resnet8x0.5", photos, epochs=1, out=tmp_path / "files", options=options, quiet=True)
    assert run.class_names == ("one", "zero")
    config = yaml.safe_load((tmp_path / "files" / "config.yaml").read_text())
    assert (config["data"]["name"], config["data"]["root"]) == ("folder", str(photos))


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        (("nothing/here.pth", "resnet8", "digits"), {}, "there is no nothing/here.pth"),
        (("timm:x", "resnet8", "fotos"), {}, "there is nothing of this name"),
        (("timm:x", "resnet8", "digits", Digits(0, 9)), {}, "expected test_data and class_names with a data set of"),
        (("timm:x", "resnet8", "digits"), {"teacher_format": InputFormat()}, "expected teacher_format with a module"),
        (("timm:x", "resnet8", iter(())), {}, "to have a length and samples by number, but got tuple_iterator"),
        ((network(2), network(2, 7), Digits(0, 300)), {"force": True}, "expected the student to return logits"),
    ],
)
def test_bad_input(arguments, more, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = DistillOptions(device="cpu", data=DataOptions(image_size=8, workers=0), engine=LEAN, method="ce")
    with pytest.raises(UserError) as raised:
        dlkd.distill(*arguments, **more, epochs=1, out="run", quiet=True, options=options)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not Path("run").exists()


def test_an_unfinished_run_is_no_run(tmp_path):
    with pytest.raises(UserError, match="expected a finished run"):
        Run(tmp_path).results  # noqa: B018


def test_given_options_stay(tmp_path):
    """What is not given beside them: the folder, the seed, flags, weights."""
    asked = DistillOptions(out=tmp_path / "x", seed=5, epochs=1, force=True, student=ModelOptions("resnet8x0.5"),
                           device="cpu", data=DataOptions(per_class=10), engine=LEAN, method="ce")  # fmt: skip
    run = dlkd.distill("timm:resnet10t", "resnet8x0.5", asked.data, options=asked, quiet=True)
    assert run.folder == tmp_path / "x" and run.results["seed"] == 5
